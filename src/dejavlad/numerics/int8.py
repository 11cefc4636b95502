"""Whether the processor multiplies 8-bit numbers itself."""

from __future__ import annotations

from functools import cache


@cache
def has_int8_matmul() -> bool:
    """Whether this processor multiplies 8-bit numbers itself, rather than imitating it slowly."""
    import torch

    ask = getattr(torch.cpu, "_is_vnni_supported", None)
    return hasattr(torch, "_int_mm") and ask is not None and bool(ask())
