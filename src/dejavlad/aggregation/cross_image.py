"""The encoder with which CricaVPR and SuperVLAD let the photos of a batch look at each other.

What it makes of a photo depends on the photos beside it: their number, their order, what they show. So it
does not suit a map, whose rows would depend on what happened to be described together.

Shapes: N photos, R vectors of each, D channels.
"""

from __future__ import annotations

from torch import Tensor, nn

HEADS, HIDDEN, LAYERS = 16, 2048, 2


class CrossImageEncoder(nn.Module):
    """Two layers of attention between the photos of a batch, for each of their R vectors by itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, HEADS, HIDDEN, activation="gelu", batch_first=False)
            for _ in range(LAYERS)
        )

    def forward(self, x_NRD: Tensor) -> Tensor:
        """[N, R, D] -> [N, R, D]: N is the axis of the sequence."""
        for layer in self.layers:
            x_NRD = layer(x_NRD)
        return x_NRD
