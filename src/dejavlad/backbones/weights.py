"""Weights of backbones: read from files without executing anything, drawn from a seed, fetched on first use.

Keys are torchvision's. What a backbone does not have because it is cut, and the classifier, is left aside;
anything else that is left over or missing is an error.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dejavlad.backbones.pickles import check_pickles
from dejavlad.errors import CheckpointError, InputError
from dejavlad.guarded.zip_archive import read_npz

CLASSIFIER = ("classifier.", "fc.", "_fc.")
SOME = 6
"""So many keys are named in an error."""

Tensors = Mapping[str, Tensor]

log = logging.getLogger("dejavlad")


def read_weights(path: Path, entry: str = "state_dict") -> dict[str, Tensor]:
    """Named tensors of a .npz, .safetensors, .pth or .pt file; no pickle is executed.

    Args:
        path: the file.
        entry: the key under which the file holds the tensors, where they are not all that it holds.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"there are no weights at {str(path)!r}")
    found: Any
    try:
        ending = path.suffix.lower()
        if ending == ".npz":
            found = {key: torch.from_numpy(array) for key, array in read_npz(path).items()}
        elif ending == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            check_pickles(path)
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read as weights: {_line(error)}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{str(path)!r} holds more than weights, and is not executed: {_line(error)}"
        ) from error
    except Exception as error:  # readers raise anything on hostile files
        raise CheckpointError(f"{str(path)!r} cannot be read as weights: {_line(error)}") from error
    if isinstance(found, Mapping) and isinstance(found.get(entry), Mapping):
        found = found[entry]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()) or not found:
        raise CheckpointError(f"{str(path)!r} holds no named tensors")
    return {str(key).removeprefix("module."): value for key, value in found.items()}


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
    missing = [k for k in wanted if k not in tensors and not k.endswith("num_batches_tracked")]
    leftover = [k for k in tensors if k not in known and not k.startswith(CLASSIFIER)]
    aside = [k for k in tensors if k not in wanted and k not in leftover]
    if aside:
        log.debug("%s: left aside %s", source, ", ".join(aside))
    if missing or leftover:
        raise CheckpointError(
            f"{source} does not fit this network: missing {_some(missing)}; left over {_some(leftover)}"
        )
    wrong = [k for k in wanted if k in tensors and tensors[k].shape != wanted[k].shape]
    if wrong:
        key = wrong[0]
        raise CheckpointError(
            f"{source} does not fit this network: {key} is {list(tensors[key].shape)}, "
            f"not {list(wanted[key].shape)}"
        )
    for key in wanted:
        if key in tensors and not bool(torch.isfinite(tensors[key]).all()):
            raise CheckpointError(f"{source}: {key} holds NaN or infinity; the file is damaged")
    backbone.load_state_dict({**wanted, **{k: tensors[k] for k in wanted if k in tensors}})


def draw_weights(backbone: nn.Module, seed: int) -> None:
    """Random weights after He et al. (2015), a function of the seed and of each layer's name alone."""
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


def _some(keys: list[str]) -> str:
    if not keys:
        return "nothing"
    more = f" and {len(keys) - SOME} more" if len(keys) > SOME else ""
    return ", ".join(keys[:SOME]) + more


def _line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
