"""Which network named tensors of PyTorch are: a table of the programs that save them, and a bijection.

Each program has its own names for three parts: the backbone, whose layers are torchvision's, numbered or by
name; the pooling; and the whitening. The backbone and its last layer, the number of clusters, NetVLAD's
version and the whitening follow from the tensors. All these networks flatten NetVLAD cluster by cluster, as
ours does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dejavlad import aggregation
from dejavlad.aggregation import Aggregation
from dejavlad.backbones import BACKBONES
from dejavlad.backbones.base import Backbone, ChainBackbone
from dejavlad.errors import CheckpointError, first_names
from dejavlad.guarded.json_file import read_json_object
from dejavlad.images import PREPROCESSING, Preprocess
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.published import dino_of, filled, recognise
from dejavlad.model.published.filling import COUNTER, fill
from dejavlad.model.published.parts import Shapes
from dejavlad.model.published.parts import numbered as _numbered
from dejavlad.model.spec import BackboneSpec
from dejavlad.model.whitening import Whitening

TORCHVISION = PREPROCESSING["torchvision"]
SIZE = "480x640"
MATCONVNET = Preprocess(
    resize=SIZE, mean=(0.48501960784313836, 0.4579568627450961, 0.4076039215686255), std=(1 / 255,) * 3
)
"""Of OpenIBL, whose VGG-16 is MatConvNet's: on the scale of 0-255 only the mean colour is taken off."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a program names the tensors of its checkpoints, and prepares photos."""

    what: str
    """The program."""
    backbone: str
    """What the backbone's names begin with."""
    pooling: str
    """What the pooling's names begin with."""
    whitening: str | None
    """What the whitening's names begin with; None where it saves none."""
    preprocess: Preprocess
    """What it does with photos first."""


NANNE = Layout("pytorch-NetVlad", "encoder.", "pool.", None, TORCHVISION)
LAYOUTS = (
    Layout("Patch-NetVLAD", "encoder.", "pool.", "WPCA.0.", replace(TORCHVISION, resize=SIZE)),
    Layout("OpenIBL", "base_model.base.", "net_vlad.", "pca_layer.", MATCONVNET),
    Layout(
        "VG-benchmark", "backbone.", "aggregation.0.", "aggregation.1.", replace(TORCHVISION, resize=SIZE)
    ),
    Layout("VG-benchmark", "backbone.", "aggregation.", None, replace(TORCHVISION, resize=SIZE)),
    Layout("NetVLAD-pytorch", "base_model.", "net_vlad.", None, TORCHVISION),
)
"""Tried in this order."""
PATCH_NETVLADS = ("num_pcs", "not_improved")
"""What only Patch-NetVLAD notes beside its tensors; without them, and without WPCA, it is Nanne's."""


def build(tensors: Mapping[str, Tensor], notes: Mapping[str, Any], path: Path) -> PlaceModel:
    """Make the model whose tensors a checkpoint holds.

    Args:
        tensors: by the program's names, without ``module.``.
        notes: what the checkpoint holds beside them.
        path: the file, after which the model is named; Nanne's ``flags.json`` is looked for beside it.

    Raises:
        CheckpointError: they are no known network, or tensors are missing, left over, of another shape, or
            not finite.
    """
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    parts = recognise(shapes)
    if parts is not None:
        return filled(parts, tensors, name=path.name.split(".")[0], **_noted(notes))
    layout = _layout(shapes, notes, path)
    backbone, source, names = _backbone(shapes, layout)
    pool = _pooling(shapes, layout, backbone.channels, path)
    names |= {f"aggregation.{key}": f"{layout.pooling}{key}" for key in pool.state_dict()}
    whitening = _whitening(shapes, layout, pool)
    if whitening is not None and layout.whitening is not None:
        names |= {f"whitening.{key}": f"{layout.whitening}{key}" for key in whitening.state_dict()}
    model = PlaceModel(
        backbone,
        pool,
        layout.preprocess,
        whitening=whitening,
        fitted=True,
        name=path.name.split(".")[0],
        source=source,
        provenance={"format": layout.what, **_noted(notes)},
    )
    return fill(model, tensors, names, layout.what)


def _layout(shapes: Shapes, notes: Mapping[str, Any], path: Path) -> Layout:
    """Recognise the program by the names of its tensors, and by what else it notes in a checkpoint."""
    for layout in LAYOUTS:
        pools = [key for key in ("centroids", "p", "0.p", "1.p") if f"{layout.pooling}{key}" in shapes]
        if not pools or not any(key.startswith(layout.backbone) for key in shapes):
            continue
        if layout.what == "VG-benchmark" and pools == ["1.p"]:
            raise CheckpointError(
                "it is VG-benchmark's GeM of normalised features (--l2 before_pool) without a linear layer, "
                "which is unknown here; its NetVLAD, and GeM with --l2 after_pool, are, and so are "
                "CosPlace's and EigenPlaces' files"
            )
        if layout.what == "VG-benchmark" and pools == ["0.p"]:
            return replace(layout, pooling=f"{layout.pooling}0.")
        if layout.whitening == "WPCA.0." and not _has(shapes, layout.whitening):
            return layout if any(key in notes for key in PATCH_NETVLADS) else NANNE
        return layout
    if _has(shapes, NANNE.backbone) and _flags(path).get("pooling") in ("max", "avg"):
        return NANNE
    if {"centroids", "conv.weight"} <= shapes.keys():
        raise CheckpointError(
            "it holds a NetVLAD layer without its backbone; save the whole network's weights"
        )
    if alone := _alone(shapes):
        raise CheckpointError(
            f"it holds the backbone {alone} alone, which is no model; give it as one's weights: "
            f"{alone}-netvlad --weights FILE"
        )
    known = ", ".join(dict.fromkeys(layout.what for layout in (*LAYOUTS, NANNE)))
    pools = [layout.pooling for layout in LAYOUTS if _has(shapes, layout.backbone)]
    lacking = f"; {pools[-1]}centroids and {pools[-1]}conv.weight are missing" if pools else ""
    if pools == [NANNE.pooling]:
        lacking += " (or flags.json beside it, for max and avg)"
    raise CheckpointError(f"it holds no network of {known}, but {first_names(shapes)}{lacking}")


def _alone(shapes: Shapes) -> str | None:
    """The backbone whose own names most of these are, as in torchvision's files; None where there is none."""
    shared = {
        name: sum(shapes.get(key) == tensor.shape for key, tensor in whole.state_dict().items())
        for name, whole in _candidates()
    }
    name = max(shared, key=shared.__getitem__)
    if "pos_embed" in shapes and "blocks.0.attn.qkv.weight" in shapes:
        return dino_of(shapes, "").name
    return name if 2 * shared[name] > len(shapes) else None


def _has(shapes: Shapes, prefix: str) -> bool:
    return any(key.startswith(prefix) for key in shapes)


def _flags(path: Path) -> Mapping[str, Any]:
    """What Nanne's program notes in ``flags.json``, beside its checkpoints or above them."""
    for folder in (path.parent, path.parent.parent):
        try:
            return read_json_object(folder / "flags.json", 1 << 16)
        except (OSError, ValueError):
            continue
    return {}


def _noted(notes: Mapping[str, Any]) -> dict[str, int]:
    """Return the epoch for the provenance; empty where the checkpoint does not say it."""
    epochs = [notes[key] for key in ("epoch", "epoch_num") if type(notes.get(key)) is int]
    return {"epoch": epochs[0]} if epochs else {}


def _backbone(shapes: Shapes, layout: Layout) -> tuple[Backbone, BackboneSpec, dict[str, str]]:
    """The backbone that fits best: itself, how it is made, and its tensors: our name -> theirs."""
    prefix = layout.backbone
    inner = {key for key in shapes if key.startswith(prefix)}
    best: tuple[int, Backbone, BackboneSpec, dict[str, str]] | None = None
    for name, whole in _candidates():
        tensors = whole.state_dict()
        for numbered in (False, True):
            theirs = {prefix + (_numbered(key) if numbered else key): key for key in tensors}
            fits = {key for key in inner & theirs.keys() if shapes[key] == tensors[theirs[key]].shape}
            cut = _cut(whole, [theirs[key] for key in fits])
            if cut is None:
                continue
            with torch.device("meta"):
                made = BACKBONES[name].make(cut=cut)
            assert isinstance(made, Backbone)
            wanted = {prefix + (_numbered(ours) if numbered else ours): ours for ours in made.state_dict()}
            counters = {key for key in wanted if key.endswith(COUNTER)}
            # Networks share names and shapes (ResNet-50 and -101): the one with fewest tensors too many,
            # missing or of another shape is meant, and `fill` says what is still wrong with it.
            wrong = len((inner ^ wanted.keys()) - counters) + len((inner & wanted.keys()) - fits)
            if best is None or wrong < best[0]:
                names = {f"backbone.{ours}": key for key, ours in wanted.items()}
                best = wrong, made, BackboneSpec(name, cut), names
    if best is None:
        raise CheckpointError(
            f"it is a network of {layout.what}, but its backbone, {first_names(inner)}, is none of "
            f"{', '.join(name for name, _ in _candidates())}"
        )
    return best[1], best[2], best[3]


@functools.cache
def _candidates() -> tuple[tuple[str, Backbone], ...]:
    """The known backbones by name, uncut, on the meta device (without memory for weights)."""
    candidates = []
    for name, entry in BACKBONES.items():
        if entry.end is not None and entry.multiple == 1:
            with torch.device("meta"):
                whole = entry.make(cut=entry.end)
            assert isinstance(whole, Backbone)
            candidates.append((name, whole))
    return tuple(candidates)


def _cut(whole: Backbone, keys: list[str]) -> str | None:
    """The last layer that has one of these tensors; None where there are none."""
    if isinstance(whole, ChainBackbone):
        numbers = [int(key.split(".")[1]) for key in keys]
        return (whole.names[max(numbers)] or f"features.{max(numbers)}") if numbers else None
    stages = [key.split(".")[0] for key in keys if key.startswith("layer")]
    return max(stages, default=None)


def _pooling(shapes: Shapes, layout: Layout, channels: int, path: Path) -> Aggregation:
    prefix = layout.pooling
    centroids = shapes.get(f"{prefix}centroids")
    if centroids is None:
        kind = "gem" if f"{prefix}p" in shapes else str(_flags(path)["pooling"])
        return aggregation.create(kind, channels, epsilon="torch")
    if len(centroids) != 2 or 0 in centroids or centroids[1] != channels:
        raise CheckpointError(
            f"{prefix}centroids is {list(centroids)}, but the backbone makes {channels} channels"
        )
    version = 2 if f"{prefix}conv.bias" in shapes else 1
    with torch.random.fork_rng(devices=[]):
        return aggregation.create(
            "netvlad", channels, clusters=centroids[0], version=version, epsilon="torch"
        )


def _whitening(shapes: Shapes, layout: Layout, pool: Aggregation) -> Whitening | None:
    if layout.whitening is None or not _has(shapes, layout.whitening):
        return None
    key = f"{layout.whitening}weight"
    shape = shapes.get(key, ())
    size = pool.descriptor_size
    if len(shape) < 2 or not 1 <= shape[0] <= size or math.prod(shape[1:]) != size:
        raise CheckpointError(f"{key} is {list(shape)}, but the descriptors have {size} numbers")
    with torch.device("meta"):  # large, and filled by what the file has
        return Whitening(size, shape[0])
