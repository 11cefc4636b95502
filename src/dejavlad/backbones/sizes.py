"""Sizes of the networks that come in several: data alone, so that what only lists them needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PATCH = 14
"""Pixels of a side of DINOv2's patches."""
REGISTERS = 4
"""Register tokens of the networks that have them."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One published size of DINOv2: channels, depth and kind of feed-forward layer."""

    channels: int
    """C, numbers of a token."""
    depth: int
    """Blocks."""
    swiglu: bool = False
    """Gated feed-forward layers."""

    @property
    def hidden(self) -> int:
        """Channels inside the feed-forward layers; of gated ones a multiple of 8."""
        return (int(4 * self.channels * 2 / 3) + 7) // 8 * 8 if self.swiglu else 4 * self.channels


VARIANTS: Mapping[str, Variant] = {
    "s": Variant(384, 12),
    "b": Variant(768, 12),
    "l": Variant(1024, 24),
    "g": Variant(1536, 40, swiglu=True),
}
"""The published sizes of DINOv2."""
DEPTHS: Mapping[int, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Depth of a ResNet -> blocks of each of its four stages."""
