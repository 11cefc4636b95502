"""PyTorch checkpoints and safetensors files: their named tensors, read by `backbones.tensor_files`.

Which network the tensors are is told by `torch_layouts`, and by `published` for those of later papers.
"""

from __future__ import annotations

from pathlib import Path

from dejavlad.backbones.tensor_files import read_tensors
from dejavlad.convert.torch_layouts import build
from dejavlad.errors import CheckpointError, InputError
from dejavlad.model.place_model import PlaceModel


def read(path: Path) -> PlaceModel:
    """The model that a checkpoint holds, of those that `published` and `torch_layouts` know.

    Raises:
        CheckpointError: the file is damaged, holds more than weights, or holds no such network.
    """
    try:
        file = read_tensors(path)
        return build(file.tensors, file.extras, path)
    except (CheckpointError, InputError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be imported: {error}") from None
