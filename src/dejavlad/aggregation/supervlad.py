"""SuperVLAD (Lu et al., NeurIPS 2024): NetVLAD of few clusters, without centres, with clusters to ignore.

Shapes: N photos, D channels, L locations, K clusters.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.aggregation import functional
from dejavlad.aggregation.cross_image import CrossImageEncoder
from dejavlad.aggregation.head import Head


class SuperVLAD(Head):
    """SuperVLAD: sums of local features, softly assigned to K clusters and to ghosts that are dropped.

    Args:
        dim: D.
        clusters: K.
        ghosts: clusters that take what is to be ignored.
        cross_image: let the photos of a batch look at each other (see `cross_image`).

    Raises:
        InputError: a size below 1.
    """

    name = "supervlad"
    grid = False

    def __init__(self, dim: int, clusters: int = 4, *, ghosts: int = 1, cross_image: bool = False) -> None:
        options = {"clusters": clusters, "ghosts": ghosts, "cross_image": bool(cross_image)}
        super().__init__(dim, "SuperVLAD", numbers=clusters * dim, **options)
        self.clusters = clusters
        self.conv = nn.Conv2d(dim, clusters + ghosts, 1, bias=False)
        self.encoder = CrossImageEncoder(dim) if cross_image else None

    @property
    def alone(self) -> bool:
        """Whether a descriptor depends on its own photo only: true without `cross_image`."""
        return self.encoder is None

    def head(self, feat_NDL: Tensor) -> Tensor:
        """Descriptors [N, K * D], cluster by cluster; not yet of unit length."""
        feat_NDL = F.normalize(feat_NDL, dim=1)
        weights_NKL = functional.soft_assignment(feat_NDL, self.conv.weight[:, :, 0, 0])[:, : self.clusters]
        sums_NKD = F.normalize(weights_NKL @ feat_NDL.transpose(1, 2), dim=2)
        if self.encoder is not None:
            sums_NKD = self.encoder(F.normalize(sums_NKD.flatten(1), dim=1).view_as(sums_NKD))
        return sums_NKD.flatten(1)
