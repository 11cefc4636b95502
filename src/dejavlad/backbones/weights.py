"""Weights of backbones: read from files without executing anything, drawn from a seed, fetched on first use.

Keys are torchvision's. What a backbone does not have because it is cut, and the classifier, is left aside;
anything else that is left over or missing is an error.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dejavlad.backbones.dinov2 import DinoV2
from dejavlad.backbones.tensor_files import read_tensors
from dejavlad.errors import CheckpointError, InputError, first_names

CLASSIFIER = ("classifier.", "fc.", "_fc.")
DISPENSABLE = ("num_batches_tracked", "mask_token")
"""Parts that play no role when photos are described, and may be missing."""

Tensors = Mapping[str, Tensor]

log = logging.getLogger("dejavlad")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Named tensors of a file, whatever wraps them (see `tensor_files`); no pickle is executed.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"there are no weights at {str(path)!r}")
    try:
        return read_tensors(path).tensors
    except CheckpointError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read as weights: {error}") from None


def load_weights(backbone: nn.Module, whole: nn.Module, tensors: Tensors, source: str) -> None:
    """Set a backbone's weights.

    Args:
        backbone: what is set, cut as it may be.
        whole: the same network uncut (on any device), to tell which keys may be left aside.
        tensors: the weights by torchvision's keys.
        source: where they come from, for errors.

    Raises:
        CheckpointError: tensors are missing, left over, of another shape, or not finite.
    """
    wanted = backbone.state_dict()
    known = whole.state_dict().keys() | wanted.keys()
    tensors = _below_a_name(tensors, known)
    missing = [k for k in wanted if k not in tensors and not k.endswith(DISPENSABLE)]
    leftover = [k for k in tensors if k not in known and not k.startswith(CLASSIFIER)]
    aside = [k for k in tensors if k not in wanted and k not in leftover]
    if aside:
        log.debug("%s: left aside %s", source, ", ".join(aside))
    if missing or leftover:
        raise CheckpointError(
            f"{source} does not fit this network: missing {first_names(missing)}; "
            f"left over {first_names(leftover)}"
        )
    wrong = [k for k in wanted if k in tensors and tensors[k].shape != wanted[k].shape]
    if wrong:
        key = wrong[0]
        raise CheckpointError(
            f"{source} does not fit this network: {key} is {list(tensors[key].shape)}, "
            f"not {list(wanted[key].shape)}"
        )
    for key in wanted:
        if key in tensors and wanted[key].is_floating_point() and not tensors[key].is_floating_point():
            raise CheckpointError(
                f"{source}: {key} holds {str(tensors[key].dtype).removeprefix('torch.')}, no real numbers"
            )
        if key in tensors and not bool(torch.isfinite(tensors[key]).all()):
            raise CheckpointError(f"{source}: {key} holds NaN or infinity; the file is damaged")
    backbone.load_state_dict({k: tensors.get(k, torch.zeros_like(wanted[k])) for k in wanted})


def _below_a_name(tensors: Tensors, known: Collection[str]) -> Tensors:
    """Without a name that stands above all of them, as ``backbone.``."""
    first = next(iter(tensors), "")
    for end in (i + 1 for i, letter in enumerate(first) if letter == "."):
        prefix = first[:end]
        if first[end:] in known and all(key.startswith(prefix) for key in tensors):
            return {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def draw_weights(backbone: nn.Module, seed: int) -> None:
    """Random weights after He et al. (2015), a function of the seed and of each layer's name alone."""
    if isinstance(backbone, DinoV2):
        backbone.draw(seed)
        return
    for name, layer in backbone.named_modules():
        if isinstance(layer, nn.Conv2d):
            # Of a generator's seed only 32 bits count.
            drawn = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4], "big")
            generator = torch.Generator().manual_seed(drawn)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def parse_random(weights: str) -> int | None:
    """``"random:7"`` to 7; None where it is something else.

    Raises:
        InputError: ``random:`` without a whole number of 0 or more.
    """
    kind, _, seed = weights.partition(":")
    if kind != "random":
        return None
    if not seed.isdecimal() or int(seed) >= 1 << 31:
        raise InputError(f"weights {weights!r}: give random:SEED with a whole number, e.g. random:0")
    return int(seed)
