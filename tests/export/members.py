"""Small members of all families whose models are exported: made weights, tiny sizes."""

from unittest.mock import patch

import torch
from torch import nn

from dejavlad import backbones
from dejavlad.aggregation import NetVLAD, create
from dejavlad.backbones.dinov2 import DinoV2
from dejavlad.backbones.dinov2_adapted import AggregatingDinoV2, CricaDinoV2, SideDinoV2
from dejavlad.backbones.sizes import VARIANTS, Variant
from dejavlad.images import Preprocess
from dejavlad.images.preprocess import PREPROCESSING
from dejavlad.model import BackboneSpec, PlaceModel, Whitening

SIZE = "56x84"


class Small(nn.Module):
    """Three convolutions, cells of 4 pixels."""

    channels, stride, offset = 16, 4, 1.5

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()
        )

    def forward(self, images):
        return self.net(images)


def model(pooling=None, *, preprocess=None, dims=None, whitened=None, seed=0, **options):
    """A small convolutional model."""
    torch.manual_seed(seed)
    layer = pooling if pooling is not None else NetVLAD(16, 6)
    whitening = None
    if whitened:
        whitening = Whitening(layer.descriptor_size, whitened)
        nn.init.normal_(whitening.weight, std=layer.descriptor_size**-0.5)
        nn.init.normal_(whitening.bias, std=0.1)
    prepare = preprocess or Preprocess(
        SIZE, PREPROCESSING["torchvision"].mean, PREPROCESSING["torchvision"].std
    )
    return PlaceModel(
        Small(), layer, prepare, whitening=whitening, dims=dims, fitted=True, name="small", **options
    ).eval()


def convolutional(name, cut=None, **options):
    """A backbone of the table with random weights, and a pooling."""
    torch.manual_seed(0)
    body = backbones.create(name, cut=cut, weights="random:0")
    layer = create(options.pop("pooling"), body.channels, **options)
    return PlaceModel(body, layer, Preprocess("64x96"), fitted=True, name=name).eval()


def table_model(pooling=None, *, dims=12):
    """A small model that can be saved and opened by its folder."""
    torch.manual_seed(0)
    body = backbones.create("squeezenet1_0", cut="features.4", weights="random:0")
    layer = pooling or NetVLAD(body.channels, 4, epsilon="torch")
    whitening = Whitening(layer.descriptor_size, dims)
    nn.init.normal_(whitening.weight, std=layer.descriptor_size**-0.5)
    return PlaceModel(
        body,
        layer,
        Preprocess(SIZE),
        whitening=whitening,
        fitted=True,
        name="squeeze",
        source=BackboneSpec("squeezenet1_0", "features.4"),
    ).eval()


def tokens(head, size="84x84", body=DinoV2, *, head_options=None, **options):
    """Two narrow blocks of DINOv2, and a head."""
    torch.manual_seed(0)
    with patch.dict(VARIANTS, {"t": Variant(64, 2)}):
        backbone = body("t", **options)
    backbone.draw(0)
    layer = create(head, backbone.channels, **(head_options or {}))
    return PlaceModel(
        backbone, layer, Preprocess(size), fitted=True, name=head, source=BackboneSpec("dinov2_vits14")
    ).eval()


SALAD = {"clusters": 6, "cluster_dim": 8, "token_dim": 8}
MEMBERS = {
    "netvlad": lambda: model(),
    "netvlad-v2-whitened": lambda: model(NetVLAD(16, 6, version=2), whitened=20),
    "netvlad-torch-dims": lambda: model(NetVLAD(16, 6, epsilon="torch"), dims=32),
    "vlad": lambda: model(create("vlad", 16, clusters=5)),
    "vlad-soft": lambda: model(create("vlad", 16, clusters=5, sharpness=3.0, power=0.5)),
    "max": lambda: model(create("max", 16)),
    "avg": lambda: model(create("avg", 16)),
    "gem": lambda: model(create("gem", 16)),
    "convap": lambda: model(create("convap", 16, channels=8)),
    "mixvpr": lambda: model(
        create("mixvpr", 16, channels=8, rows=2, cells=14 * 14), preprocess=Preprocess("56x56")
    ),
    "gem_linear": lambda: model(create("gem_linear", 16, dims=12)),
    "netvlad_tied": lambda: model(create("netvlad_tied", 16, clusters=4)),
    "supervlad": lambda: model(create("supervlad", 16)),
    "boq": lambda: tokens("boq", head_options={"channels": 64, "queries": 4, "rows": 4}),
    "salad": lambda: tokens("salad", leading=1, head_options=SALAD),
    "megaloc": lambda: tokens(
        "megaloc", "90x120", leading=1, fit="round", head_options={**SALAD, "dims": 32}
    ),
    "registers": lambda: tokens("gem", registers=4),
    "dinov2-vlad": lambda: tokens(
        "vlad", cut="blocks.1.value", head_options={"clusters": 4, "cosine": True, "epsilon": "torch"}
    ),
    "qaa": lambda: tokens("qaa", head_options={"clusters": 4, "cluster_dim": 16, "queries": 8}),
    "edtformer": lambda: tokens(
        "edtformer",
        body=SideDinoV2,
        adapters="linear",
        leading=1,
        head_options={"queries": 4, "channels": 32, "rows": 2},
    ),
    "selavprpp": lambda: tokens(
        "selavprpp", body=SideDinoV2, adapters="multiconv", head_options={"dims": 16}
    ),
    "cricavpr": lambda: tokens("cricavpr", "224x224", CricaDinoV2, leading=1),
    "image_tokens": lambda: tokens(
        "image_tokens", body=AggregatingDinoV2, tokens=3, at=1, head_options={"tokens": 3}
    ),
    "efficientnet_lite0": lambda: convolutional("efficientnet_lite0", pooling="gem"),
    "squeezenet1_0": lambda: convolutional("squeezenet1_0", pooling="max"),
    "resnet18": lambda: convolutional("resnet18", "layer1", pooling="netvlad", clusters=4),
    "vgg16": lambda: convolutional("vgg16", "conv2_1", pooling="netvlad", clusters=4, version=2),
    "alexnet": lambda: convolutional("alexnet", "conv2", pooling="avg"),
    "mobilenet_v2": lambda: convolutional("mobilenet_v2", "block_2", pooling="gem"),
}
