"""Which backbone a file's tensors are of: one of DINOv2's sizes, or a ResNet cut after a stage."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dejavlad.backbones.sizes import DEPTHS, VARIANTS
from dejavlad.errors import CheckpointError, first_names
from dejavlad.model.published.parts import CHILDREN, Shapes
from dejavlad.model.spec import BackboneSpec


@dataclass(frozen=True, slots=True)
class Dino:
    """The size of a DINOv2 backbone within a file, and whether it has register tokens."""

    variant: str
    """``s``, ``b``, ``l`` or ``g``."""
    registers: int
    """Number of register tokens, 0 or 4."""

    @property
    def name(self) -> str:
        """Its name in the table of backbones."""
        return f"dinov2_vit{self.variant}14{'_reg' if self.registers else ''}"

    @property
    def last(self) -> str:
        """The cut after its last block, without the norm."""
        return f"blocks.{VARIANTS[self.variant].depth - 1}"


def dino_of(shapes: Shapes, body: str) -> Dino:
    """Recognise the DINOv2 whose tensors' names begin with `body`, by their shapes.

    Raises:
        CheckpointError: there is none of a known size.
    """
    table = shapes.get(f"{body}pos_embed", ())
    sizes = {variant.channels: letter for letter, variant in VARIANTS.items()}
    if len(table) != 3 or table[2] not in sizes:
        raise CheckpointError(
            f"{body}pos_embed is {list(table)}; of DINOv2 it would be [1, 1370, C], C one of "
            f"{', '.join(map(str, sizes))}"
        )
    registers = shapes.get(f"{body}register_tokens")
    return Dino(sizes[table[2]], 0 if registers is None else int(registers[1]))


def resnet_of(shapes: Shapes, body: str, *, in_a_row: bool) -> BackboneSpec:
    """The ResNet whose names begin so, cut after the last of its stages.

    Raises:
        CheckpointError: there is none of a known depth.
    """
    counts: list[int] = []
    for stage in range(1, 5):
        child = CHILDREN[f"layer{stage}"] if in_a_row else f"layer{stage}"
        pattern = re.compile(re.escape(f"{body}{child}.") + r"(\d+)\.")
        numbers = [int(match[1]) for key in shapes if (match := pattern.match(key))]
        if not numbers:
            break
        counts.append(1 + max(numbers))
    first = CHILDREN["layer1"] if in_a_row else "layer1"
    deep = f"{body}{first}.0.conv3.weight" in shapes
    for depth, blocks in DEPTHS.items():
        if counts and list(blocks[: len(counts)]) == counts and (depth >= 50) == deep:
            return BackboneSpec(f"resnet{depth}", f"layer{len(counts)}")
    raise CheckpointError(
        f"its backbone, {first_names(key for key in shapes if key.startswith(body))}, is no known ResNet"
    )
