"""What was made of a tensor, kept as long as it: patches of a map are compared again and again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

Made = TypeVar("Made")
_made: WeakIdKeyDictionary = WeakIdKeyDictionary()


def tensor_cache(
    tensor: Tensor,
    use: Hashable,
    make: Callable[[Tensor], Made],
    passing: Callable[[Tensor], Made] | None = None,
) -> Made:
    """What `make` makes of a tensor: for one use made once, and anew where the tensor was written to since.

    Where a quicker way is given whose outcome cannot be kept (`passing`), it is taken the first time. Of
    inference tensors, whose changes are not counted, all is made anew each time.
    """
    if tensor.is_inference():
        return (passing or make)(tensor)
    uses: dict[Hashable, tuple[int, Any]] = _made.setdefault(tensor, {})  # type: ignore[no-untyped-call]
    version, made = uses.get(use, (-1, None))
    if version == tensor._version and made is not None:
        return made  # type: ignore[no-any-return]
    if passing is not None and version != tensor._version:
        uses[use] = tensor._version, None
        return passing(tensor)
    made = make(tensor)
    uses[use] = tensor._version, made
    return made
