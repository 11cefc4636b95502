"""What an engine is: another program that computes a model's network in PyTorch's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from dejavlad.model.patching import PatchSetting
from dejavlad.patches import PatchSet

if TYPE_CHECKING:
    from dejavlad.model.place_model import PlaceModel


class Engine(Protocol):
    """Computes descriptors and patches of prepared photos; `dejavlad.export` has those of ONNX files."""

    @property
    def runtime(self) -> str:
        """The name of the program."""

    def describe(self, model: PlaceModel, images_NCHW: Tensor) -> Tensor:
        """Descriptors float32 [N, D] of prepared photos of one size.

        Raises:
            InputError: photos of a size that it cannot take.
        """

    def patches(
        self, model: PlaceModel, images_NCHW: Tensor, setting: PatchSetting
    ) -> tuple[Tensor, list[list[PatchSet]]]:
        """Descriptors [N, D], and of each photo its patches of each size.

        Raises:
            InputError: photos of a size that it cannot take, or patches that it cannot make.
        """
