"""How a ranking is re-ranked, as data: shipped presets, a user's own, and Patch-NetVLAD's ``.ini`` files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.extraction.patches import CODECS
from dejavlad.guarded.fields import settle_options
from dejavlad.guarded.toml_file import parse_toml, read_toml
from dejavlad.images import parse_resize
from dejavlad.model import PatchSetting, PlaceModel
from dejavlad.places.patch_ini import read_ini
from dejavlad.rerank import FUSIONS, MATCHERS, Reranker

PRESETS = ("performance", "speed", "storage")
"""The shipped ones, with the values of the original's configurations of these names."""
FRESH = "none"
"""Patches are not stored, but made when they are compared."""


@dataclass(frozen=True, slots=True)
class Preset:
    """How a ranking is re-ranked.

    Raises:
        InputError: a value that cannot be, or values that do not fit each other.
    """

    matcher: str = "rapid"
    """A name in `dejavlad.rerank.MATCHERS`."""
    sizes: tuple[int, ...] = (5,)
    """Sides of the patches, in cells of the feature map."""
    strides: tuple[int, ...] = ()
    """For each size, cells from one patch to the next; none given is 1 for all."""
    weights: tuple[float, ...] = ()
    """For each size, what its scores count; none given is alike for all."""
    fusion: str = "zscore"
    """A name in `dejavlad.rerank.FUSIONS`."""
    dims: int | None = None
    """Dimensions of photos' and patches' descriptors, at most; None keeps all."""
    depth: int = 100
    """Candidates of each query that are compared."""
    shortlist: int | Literal["auto", "none"] = "none"
    """How many candidates are compared exactly, after an approximate comparison of all; ``"none"``: all."""
    patch_dtype: str = "float16"
    """How patches are stored, or ``"none"``: they are made when they are compared."""
    resize: str | None = None
    """What photos are brought to; None leaves that to the model."""
    name: str = "custom"
    """What it is called."""

    def __post_init__(self) -> None:
        settle_options(self)
        if self.resize is not None:
            parse_resize(self.resize)
        for what, given, valid in (("matcher", self.matcher, MATCHERS), ("fusion", self.fusion, FUSIONS)):
            if given not in valid:
                raise UnknownNameError(what, given, valid)
        if self.patch_dtype not in (*CODECS, FRESH):
            raise InputError(
                f"patches cannot be stored as {self.patch_dtype!r}; valid: {', '.join(CODECS)}, {FRESH}"
            )
        object.__setattr__(self, "strides", self.patches.strides)
        if self.weights and len(self.weights) != len(self.sizes):
            raise InputError(
                f"{len(self.sizes)} patch sizes need {len(self.sizes)} weights; given {list(self.weights)}"
            )
        self.reranker()  # refuses a shortlist that cannot be
        if self.depth < 1:
            raise InputError(f"at least 1 candidate must be re-ranked; given depth {self.depth}")

    @property
    def patches(self) -> PatchSetting:
        """Which patches it needs."""
        return PatchSetting(self.sizes, self.strides, self.dims)

    def patches_of(self, model: PlaceModel) -> PatchSetting:
        """Which patches a model is to make: no more dimensions than its whitening has."""
        whitening = model.patch_whitening or model.whitening
        dims = None if whitening is None or self.dims is None else min(self.dims, whitening.dims)
        return replace(self.patches, dims=dims)

    def fitted_to(self, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Preset:
        """The preset for patches that are there already: a matcher alone takes those that there are.

        Raises:
            InputError: they are others than the preset needs.
        """
        if (self.sizes, self.strides) == (sizes, strides):
            return self
        if self.name == self.matcher:
            return replace(self, sizes=sizes, strides=strides, weights=())
        raise InputError(
            f"preset {self.name!r} needs patches of sizes {list(self.sizes)} and strides "
            f"{list(self.strides)}; those that are there have {list(sizes)} and {list(strides)}: extract "
            f"with --preset {self.name}, or give --rerank alone"
        )

    def reranker(self, **options: Any) -> Reranker:
        """What re-ranks so."""
        weights = self.weights or None
        shortlist = None if self.shortlist == "none" else self.shortlist
        return Reranker(
            self.matcher, weights=weights, fusion=self.fusion, k=self.depth, shortlist=shortlist, **options
        )

    def with_options(self, **options: Any) -> Preset:
        """The preset with those of the options that are not None."""
        return replace(self, **{key: value for key, value in options.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Its values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.sizes))
        return f"{self.matcher} ({self.name}: patches {sizes}, first {self.depth})"


def load_preset(name: str | Path) -> Preset:
    """A preset by name, or of a file: ``.toml`` with the fields of `Preset`, or the original's ``.ini``.

    Raises:
        InputError: there is no such preset or file, or it holds something else.
    """
    path = Path(name)
    if str(name) in PRESETS:
        text = resources.files("dejavlad.recipes").joinpath("rerank", f"{name}.toml").read_text("utf-8")
        return _preset_from(parse_toml(text), str(name))
    if path.suffix.lower() == ".ini":
        values = read_ini(path)
        if values["matcher"] is None:
            raise InputError(f"{str(path)!r} is of photos without patches; there is nothing to re-rank with")
        kept = ("matcher", "sizes", "strides", "weights", "dims", "depth", "resize")
        return Preset(**{key: values[key] for key in kept}, name=path.stem)
    if path.suffix.lower() != ".toml" or not path.is_file():
        raise UnknownNameError("preset", str(name), PRESETS, note="or a .toml or .ini file")
    try:
        return _preset_from(read_toml(path), path.stem)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot use the preset {str(path)!r}: {error}") from error


def chosen_preset(
    matcher: str | None,
    preset: str | Path | None,
    *,
    depth: int | None = None,
    shortlist: int | Literal["auto", "none"] | None = None,
    patch_dtype: str | None = None,
) -> Preset | None:
    """What a user's options ask for; None for no re-ranking.

    A matcher alone takes its patches from the preset that uses it, and all dimensions that the model has.

    Args:
        matcher: a matcher, or ``"none"``; takes the place of the preset's.
        preset: see `load_preset`.
        depth: takes the place of the preset's.
        shortlist: likewise.
        patch_dtype: likewise.

    Raises:
        InputError: options that are for re-ranking, but none is asked for; or as `load_preset`.
    """
    if matcher in (None, "none") and preset is None:
        if any(option is not None for option in (depth, shortlist, patch_dtype)):
            raise InputError(
                "--depth, --shortlist and --patch-dtype are for re-ranking; give --rerank or --preset too"
            )
        return None
    if matcher == "none":
        raise InputError("--rerank none and --preset contradict each other; leave one out")
    if preset is None:
        like = "performance" if matcher == "ransac" else "speed"
        chosen = replace(load_preset(like), matcher=str(matcher), dims=None, name=str(matcher))
    else:
        chosen = load_preset(preset).with_options(matcher=matcher)
    return chosen.with_options(depth=depth, shortlist=shortlist, patch_dtype=patch_dtype)


def _preset_from(values: dict[str, Any], name: str) -> Preset:
    known = {field.name: field for field in fields(Preset)}
    for key in values:
        if key not in known:
            raise UnknownNameError("key of a preset", key, known)
    return Preset(**{"name": name, **values})
