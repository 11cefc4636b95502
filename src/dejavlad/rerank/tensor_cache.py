"""What was made of a tensor, kept as long as it: patches of a map are compared again and again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

Made = TypeVar("Made")
_made: WeakIdKeyDictionary = WeakIdKeyDictionary()


def tensor_cache(tensor: Tensor, use: Hashable, make: Callable[[Tensor], Made]) -> Made:
    """What `make` makes of a tensor: for one use made once, and anew where the tensor was written to since.

    Of inference tensors, whose changes are not counted, it is made anew each time.
    """
    if tensor.is_inference():
        return make(tensor)
    uses: dict[Hashable, tuple[int, Any]] = _made.setdefault(tensor, {})  # type: ignore[no-untyped-call]
    version, made = uses.get(use, (-1, None))
    if version != tensor._version:
        made = make(tensor)
        uses[use] = tensor._version, made
    return made  # type: ignore[no-any-return]
