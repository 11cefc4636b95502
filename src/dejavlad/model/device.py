"""The devices and precisions that a user can name, checked against this machine."""

from __future__ import annotations

import torch

from dejavlad.errors import InputError, UnknownNameError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("fp32", "bf16")
INT8 = "int8"
"""The precision of exports that were quantised; no model has it by itself."""


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes cuda or mps where there is one, else the processor.

    Raises:
        UnknownNameError: no such name (also valid: one of several, ``cuda:1``).
        InputError: this machine has no such device.
    """
    kind, colon, number = name.partition(":")
    numbered = kind == "cuda" and number.isascii() and number.isdecimal()
    if kind not in DEVICES or (colon and not numbered):
        raise UnknownNameError("device", name, DEVICES)
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(kind)
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: PyTorch finds no CUDA GPU here; use --device cpu or auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device {name!r}: PyTorch finds no Apple GPU here; use --device cpu or auto")
    if number and int(number) >= torch.cuda.device_count():
        raise InputError(f"device {name!r}: there are {torch.cuda.device_count()} GPUs, counted from 0")
    return torch.device(name)


def check_precision(name: str) -> str:
    """Return `name` where it is one of `PRECISIONS`.

    Raises:
        UnknownNameError: it is none.
        InputError: it is that of quantised files alone.
    """
    if name == INT8:
        raise InputError(
            "--precision int8 needs a network that was calibrated on photos: dejavlad export MODEL --int8 "
            "--calibrate PHOTOS --out FILE.onnx, and then give FILE.onnx as MODEL"
        )
    if name not in PRECISIONS:
        raise UnknownNameError("precision", name, PRECISIONS)
    return name
