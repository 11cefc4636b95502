"""A network of your own under NetVLAD: any module that says its channels and stride is a backbone.

python examples/own_backbone.py photos/ model/
"""

import sys

import torch
from torch import Tensor, nn

import dejavlad as dv
from dejavlad.aggregation import NetVLAD
from dejavlad.images import Preprocess


class Edges(nn.Module):
    """Eight fixed edge filters at a quarter of the size."""

    channels, stride = 8, 4

    def __init__(self) -> None:
        super().__init__()
        angles = torch.arange(8) * torch.pi / 8
        y, x = torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 7), indexing="ij")
        waves = torch.stack([torch.sin(4 * (x * a.cos() + y * a.sin())) for a in angles])
        self.register_buffer("filters", waves[:, None] - waves.mean((1, 2), keepdim=True)[:, None])

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 8, H / 4, W / 4]."""
        grey = images_NCHW.mean(1, keepdim=True)
        return nn.functional.conv2d(grey, self.get_buffer("filters"), stride=self.stride).abs()


def main(folder: str, out: str) -> None:
    photos = dv.photos(folder)
    model = dv.PlaceModel(
        Edges(), NetVLAD(8, clusters=16), Preprocess(resize="longest:320"), name="edges-netvlad"
    )
    model = dv.fit(model, photos, whiten=False)
    dv.save_model(model, out)
    print(f"{model.name}: {model.descriptor_size} dims, fingerprint {model.fingerprint[:12]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
