"""What a published network is made of, as data, and how its file names the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dejavlad.images import Preprocess
from dejavlad.model.spec import AggregationSpec, BackboneSpec

Shapes = Mapping[str, tuple[int, ...]]
"""A tensor's name -> its shape."""

CHILDREN = {"conv1": "0", "bn1": "1", **{f"layer{i}": str(i + 3) for i in range(1, 5)}}
"""torchvision's parts of a ResNet, and their numbers once they are put in a row."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a published network is made of, and how its file names the tensors."""

    what: str
    """The program that publishes it."""
    backbone: BackboneSpec
    """How the backbone is made."""
    aggregation: AggregationSpec
    """How the head is made."""
    preprocess: Preprocess
    """As published."""
    body: str = "backbone."
    """What the backbone's names begin with in the file."""
    numbered: bool = False
    """Whether the backbone's layers are numbered in a row there."""
    head: Mapping[str, str] = field(default_factory=dict)
    """What our names of the head's tensors begin with -> what the file's do."""
    whitening: int | None = None
    """Dimensions that its whitening keeps."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Our whole names -> the file's, before all other rules."""
    unused: tuple[str, ...] = ()
    """Regular expressions of names that the file holds and the network never uses."""

    def same_network(self, other: Parts) -> bool:
        """Whether both are the same but for preprocessing and names."""
        return all(
            getattr(self, part) == getattr(other, part) for part in ("backbone", "aggregation", "whitening")
        )

    def theirs(self, ours: str) -> str:
        """The file's name of one of our tensors."""
        if ours in self.renamed:
            return self.renamed[ours]
        part, _, rest = ours.partition(".")
        if part == "backbone":
            return self.body + (numbered(rest) if self.numbered else rest)
        if part == "aggregation":
            return next(
                prefix + rest.removeprefix(our_prefix)
                for our_prefix, prefix in self.head.items()
                if rest.startswith(our_prefix)
            )
        return ours

    def __str__(self) -> str:
        """The program, backbone, head and all their options, on one line for messages."""
        settings = {**self.backbone.options, **self.aggregation.options}
        cut = f"@{self.backbone.cut}" if self.backbone.cut else ""
        options = ", ".join(f"{key}={value}" for key, value in settings.items())
        return f"{self.what}: {self.backbone.name}{cut} + {self.aggregation.name} ({options})"


def numbered(key: str) -> str:
    """torchvision's name -> that within a row of layers: ``layer3.0.bn1.bias`` -> ``6.0.bn1.bias``."""
    first, _, rest = key.partition(".")
    return rest if first == "features" else f"{CHILDREN.get(first, first)}.{rest}"
