"""Where a run stands, as one file that is replaced whole: what it needs to go on as if never cut off.

It holds what learns (weights and buffers, in the precision of training), the optimiser's state, mining's
memory, the place in the run, the photos that failed, and which file of descriptors mining goes by. Nothing
random is kept: what is drawn depends on seed and place alone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dejavlad.errors import CheckpointError
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.json_file import parse_json_object, with_checksum, without_checksum
from dejavlad.guarded.plain_file import plain_name
from dejavlad.model.tensors import write_tensors
from dejavlad.storage import disk_errors
from dejavlad.training.sampling.tuples import Rows

STATE, FORMAT = "state.safetensors", 1
MODEL, MEMORY = "model", "memory"
CANNOT_WRITE = (
    "a checkpoint cannot be written to {path}: {error}. The one before it is whole: make room, and run the "
    "same again"
)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where a run stands, with all that it needs to go on."""

    epoch: int
    """The epoch that goes on, from 1."""
    batch: int
    """How many batches of that epoch are done, from 0."""
    tensors: Mapping[str, Tensor]
    """Weights and buffers as ``model/NAME``, the optimiser's state as ``optimizer/NAME/KEY``."""
    memory: list[Rows]
    """Of each query, the rows of the database (int64) that mining remembers, nearest first."""
    descriptors: str
    """Name of the file in the cache that mining goes by; empty: none."""
    failed: Mapping[int, str] = field(default_factory=dict)
    """Number of a photo -> why it could not be read."""

    def save(self, folder: Path) -> None:
        """Write it, atomically.

        Raises:
            StoreError: it cannot be written; the state before is still there.
        """
        width = max([1, *map(len, self.memory)])
        memory_QW = np.full((len(self.memory), width), -1, np.int64)
        for query, rows in enumerate(self.memory):
            memory_QW[query, : len(rows)] = rows
        fields = {
            "format": FORMAT,
            "epoch": self.epoch,
            "batch": self.batch,
            "descriptors": self.descriptors,
            "failed": {str(number): why for number, why in self.failed.items()},
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        tensors[MEMORY] = torch.from_numpy(memory_QW)
        fields["crc32"] = _crc32(tensors)
        with disk_errors(folder, CANNOT_WRITE):
            write_tensors(folder / STATE, tensors, metadata={"told": json.dumps(with_checksum(fields))})

    @classmethod
    def load(cls, folder: Path) -> State | None:
        """What `save` wrote; None where there is nothing yet.

        Raises:
            CheckpointError: it is damaged, or of another format.
        """
        path = folder / STATE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                fields = parse_json_object((file.metadata() or {})["told"])
                if fields["format"] != FORMAT:
                    raise CheckpointError(
                        f"{str(path)!r} is of format {fields['format']!r}; this dejavlad goes on from "
                        f"{FORMAT}"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            fields = without_checksum(fields)
            if fields.get("crc32", (crc32 := _crc32(tensors))) != crc32:
                raise ValueError("its tensors were changed since they were written")
            memory_QW = tensors.pop(MEMORY).numpy()
            descriptors = str(fields["descriptors"])
            return cls(
                int(fields["epoch"]),
                int(fields["batch"]),
                tensors,
                [row[row >= 0] for row in memory_QW],
                plain_name(descriptors) if descriptors else "",
                {int(number): str(why) for number, why in fields["failed"].items()},
            )
        except (*DAMAGED, SafetensorError) as error:
            raise CheckpointError(f"{str(path)!r} cannot be read: {error}") from None


def _crc32(tensors: Mapping[str, Tensor]) -> int:
    """Of all tensors by name, with their shapes."""
    crc32 = 0
    for name in sorted(tensors):
        crc32 = zlib.crc32(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode(), crc32)
        crc32 = zlib.crc32(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data, crc32)
    return crc32


def model_tensors(model: nn.Module, learnt: Sequence[str]) -> dict[str, Tensor]:
    """What changes in training, copied: the named parameters, and all buffers."""
    tensors = model.state_dict()
    names = [*learnt, *(name for name, _ in model.named_buffers() if name in tensors)]
    return {f"{MODEL}/{name}": tensors[name].detach().clone() for name in names}


def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor], learnt: Sequence[str]) -> None:
    """Bring back the weights and buffers that `model_tensors` copied.

    Raises:
        CheckpointError: it is of another network.
    """
    own = model.state_dict()
    stored = {name.removeprefix(f"{MODEL}/") for name in tensors if name.startswith(f"{MODEL}/")}
    wanted = set(learnt) | {name for name, _ in model.named_buffers() if name in own}
    if stored != wanted:
        raise CheckpointError(f"the checkpoint is of another network: it differs in {min(stored ^ wanted)!r}")
    with torch.no_grad():
        for name in stored:
            value = tensors[f"{MODEL}/{name}"]
            if value.shape != own[name].shape:
                raise CheckpointError(
                    f"the checkpoint is of another network: {name!r} is {list(value.shape)} there, "
                    f"{list(own[name].shape)} here"
                )
            own[name].copy_(value)
