"""NetVLAD (Arandjelović et al., CVPR 2016), and VLAD with hard assignment.

Parameters carry the names and shapes of Patch-NetVLAD's layer: ``centroids`` [K, D], ``conv.weight``
[K, D, 1, 1], and ``conv.bias`` [K] in version 2.

Shapes: N photos, D channels, L locations, K clusters, M sampled local features.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dejavlad.aggregation import functional
from dejavlad.aggregation.base import Aggregation, Floats
from dejavlad.aggregation.functional import EpsilonRule
from dejavlad.errors import InputError

ASSIGNMENT_RATIO = 0.01
"""After initialisation the second best cluster has on average this share of the best one's weight."""

UNFITTED_SHARPNESS = 30.0


class VLADBase(Aggregation):
    """What NetVLAD and VLAD share: centres, and residuals to them, summed with assignment weights."""

    needs_fitting = True
    centroids: nn.Parameter
    power: float = 1.0
    """Exponent of the signed power taken of each cluster's sum; 1 none."""

    def __init__(
        self, dim: int, clusters: int, *, normalize_input: bool, intra_norm: bool, epsilon: EpsilonRule
    ) -> None:
        super().__init__(dim, epsilon=epsilon)
        if clusters < 1:
            raise InputError(f"{type(self).__name__} needs at least 1 cluster; given {clusters}")
        self.clusters = int(clusters)
        self.normalize_input = bool(normalize_input)
        self.intra_norm = bool(intra_norm)
        self.centroids = nn.Parameter(functional.l2_normalize(torch.randn(self.clusters, self.dim), dim=1))

    @property
    def descriptor_size(self) -> int:
        """Length of one photo's descriptor: K clusters of D numbers."""
        return self.clusters * self.dim

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments besides `dim`, by name, as plain values."""
        return {
            "clusters": self.clusters,
            "normalize_input": self.normalize_input,
            "intra_norm": self.intra_norm,
            **super().options,
        }

    def prepare(self, feat_NDL: Tensor) -> Tensor:
        """Local features, of unit length if the layer normalises its input (``preL2``)."""
        if not self.normalize_input:
            return feat_NDL
        return functional.l2_normalize(feat_NDL, dim=1, rule=self.epsilon)

    def assignment_weights(self, feat_NDL: Tensor) -> Tensor:
        """Weight of each prepared location's residual in each cluster's sum: [N, K, L], 0 or more."""
        raise NotImplementedError

    def aggregate(self, feat_NDL: Tensor) -> Tensor:
        """Descriptors [N, K*D] of prepared local features, before the final normalisation."""
        vlad_NKD = self.power_normalize(
            functional.vlad(feat_NDL, self.assignment_weights(feat_NDL), self.centroids)
        )
        if self.intra_norm:
            vlad_NKD = functional.l2_normalize(vlad_NKD, dim=2, rule=self.epsilon)
        return vlad_NKD.flatten(1)

    def power_normalize(self, sums: Tensor) -> Tensor:
        """The signed power of clusters' sums, of any shape."""
        return functional.signed_power(sums, self.power)

    def _centres(self, centres_KD: Floats) -> NDArray[np.float64]:
        centres = np.asarray(centres_KD, dtype=np.float64)
        if centres.shape != (self.clusters, self.dim) or not np.isfinite(centres).all():
            raise InputError(
                f"{type(self).__name__} needs finite centres [{self.clusters}, {self.dim}]; "
                f"given {list(centres.shape)}{'' if np.isfinite(centres).all() else ', not finite'}"
            )
        return centres


class NetVLAD(VLADBase):
    """NetVLAD: residuals to K centres, softly assigned, summed over the photo.

    Equivalent to ``preL2``, ``layerVLAD.m`` (or ``layerVLADv2.m``), ``intranorm`` and ``postL2``, with
    cluster-major output.

    Args:
        dim: D, channels of the feature map.
        clusters: K.
        version: 1 assigns by ``softmax(w_k . x)`` (for unit features; the published networks),
            2 by ``softmax(w_k . x + b_k)``.
        normalize_input: bring local features to unit length first (``preL2``).
        intra_norm: bring each cluster's sum to unit length.
        epsilon: see `functional.EpsilonRule`.

    Raises:
        InputError: a size below 1 or another version.
    """

    name = "netvlad"

    def __init__(
        self,
        dim: int,
        clusters: int = 64,
        *,
        version: Literal[1, 2] = 1,
        normalize_input: bool = True,
        intra_norm: bool = True,
        epsilon: EpsilonRule = "matconvnet",
    ) -> None:
        super().__init__(
            dim, clusters, normalize_input=normalize_input, intra_norm=intra_norm, epsilon=epsilon
        )
        if version not in (1, 2):
            raise InputError(f"NetVLAD has versions 1 and 2; given {version!r}")
        self.version = version
        self.conv = nn.Conv2d(self.dim, self.clusters, kernel_size=1, bias=version == 2)
        self.set_clusters(self.centroids.detach().double().numpy(), UNFITTED_SHARPNESS)

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments besides `dim`, by name, as plain values."""
        return {"version": self.version, **super().options}

    def assignment_weights(self, feat_NDL: Tensor) -> Tensor:
        """The soft assignment [N, K, L]: from 0 to 1, with a sum of 1 over the clusters."""
        return self.assign(feat_NDL)

    def assign(self, feat_NDL: Tensor) -> Tensor:
        """How much each prepared location belongs to each cluster: [N, K, L]."""
        return functional.soft_assignment(feat_NDL, self.conv.weight[:, :, 0, 0], self.conv.bias)

    def initialise(self, centres_KD: Floats, samples_MD: Floats) -> float:
        """Set all parameters so that the layer starts as a softened VLAD.

        As NetVLAD's ``addLayers.m``. Version 1: ``w_k = alpha c_k / |c_k|``. Version 2:
        ``w_k = 2 alpha c_k``, ``b_k = -alpha |c_k|^2``. Alpha is the sharpness at which the best cluster
        outweighs the second best 100 to 1 at the samples' mean gap.

        Args:
            centres_KD: cluster centres, from k-means of the samples.
            samples_MD: local features as the layer itself sees them (see `local_features`), at least 1.

        Returns:
            alpha.

        Raises:
            InputError: shapes do not fit, values are not finite, samples are not of unit length though the
                layer normalises its input, or no sample is nearer to one centre than to another.
        """
        centres = self._centres(centres_KD)
        samples = np.asarray(samples_MD)
        if samples.ndim != 2 or len(samples) == 0 or samples.shape[1] != self.dim:
            raise InputError(f"NetVLAD needs samples [M, {self.dim}]; given {list(samples.shape)}")
        if self.normalize_input:
            longest = float(np.sqrt(np.einsum("md,md->m", samples, samples, dtype=np.float64).max()))
            if longest > 1.001:
                raise InputError(
                    f"NetVLAD needs samples of unit length, as local_features gives them; "
                    f"given length {longest:.3g}"
                )
        alpha = sharpness(centres, samples, version=self.version)
        self.set_clusters(centres, alpha)
        return alpha

    def set_clusters(self, centres_KD: Floats, alpha: float) -> None:
        """Set all parameters from centres and a given sharpness (`initialise` finds a good one)."""
        centres = self._centres(centres_KD)
        weight = alpha * _unit(centres) if self.version == 1 else 2 * alpha * centres
        with torch.no_grad():
            self.centroids.copy_(torch.from_numpy(centres))
            self.conv.weight.copy_(torch.from_numpy(weight)[:, :, None, None])
            if self.conv.bias is not None:
                self.conv.bias.copy_(torch.from_numpy(-alpha * np.square(centres).sum(axis=1)))


class VLAD(VLADBase):
    """VLAD (Jégou et al., CVPR 2010) with intra-normalisation (Arandjelović and Zisserman, CVPR 2013).

    Args:
        dim: D, channels of the feature map.
        clusters: K; 128 serve dense RootSIFT better than 64 (measured on real walks).
        sharpness: None assigns each location to its nearest centre; a number softly, by
            ``softmax(-sharpness |x - c_k|^2)``.
        normalize_input: bring local features to unit length first.
        intra_norm: bring each cluster's sum to unit length.
        residual_norm: bring each residual to unit length before it is summed (Delhumeau et al., 2013).
        power: exponent of the signed power taken of the sums; 1 none, 0.5 the signed square root.
        skip_empty: leave out locations whose features are all zero (no contrast there).
        cosine: assign to the centre of the greatest cosine, as AnyLoc does, and not to the nearest one;
            residuals are still to the centre as it is.
        epsilon: see `functional.EpsilonRule`.

    Raises:
        InputError: a size below 1, or a power or sharpness that is not positive.
    """

    name = "vlad"

    def __init__(
        self,
        dim: int,
        clusters: int = 128,
        *,
        sharpness: float | None = None,
        normalize_input: bool = True,
        intra_norm: bool = True,
        residual_norm: bool = False,
        power: float = 1.0,
        skip_empty: bool = True,
        cosine: bool = False,
        epsilon: EpsilonRule = "matconvnet",
    ) -> None:
        super().__init__(
            dim, clusters, normalize_input=normalize_input, intra_norm=intra_norm, epsilon=epsilon
        )
        if power <= 0 or (sharpness is not None and sharpness <= 0):
            raise InputError(f"VLAD needs positive power and sharpness; given {power} and {sharpness}")
        if cosine and sharpness is not None:
            raise InputError("VLAD assigns by cosine or softly, not both; leave sharpness out")
        self.cosine = bool(cosine)
        self.sharpness = sharpness
        self.residual_norm = bool(residual_norm)
        self.power = float(power)
        self.skip_empty = bool(skip_empty)

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments besides `dim`, by name, as plain values."""
        return {
            "sharpness": self.sharpness,
            "residual_norm": self.residual_norm,
            "power": self.power,
            "skip_empty": self.skip_empty,
            **({"cosine": True} if self.cosine else {}),  # older models are told apart by their options
            **super().options,
        }

    def assignment_weights(self, feat_NDL: Tensor) -> Tensor:
        """The assignment [N, K, L], 0 or more.

        With `residual_norm` it is divided by the residuals' lengths; with `skip_empty` it is 0 for locations
        whose local feature is zero.
        """
        weights_NKL = self.assign(feat_NDL)
        if self.residual_norm:
            squares_NKL = functional.squared_distances(feat_NDL, self.centroids)
            weights_NKL = weights_NKL * torch.rsqrt(squares_NKL + 1e-6)
        if self.skip_empty:
            weights_NKL = weights_NKL * (feat_NDL != 0).any(dim=1, keepdim=True)
        return weights_NKL

    def assign(self, feat_NDL: Tensor) -> Tensor:
        """How much each prepared location belongs to each cluster: [N, K, L]."""
        if self.cosine:
            unit_KD = functional.l2_normalize(self.centroids, dim=1, rule="torch")
            return functional.hard_assignment(feat_NDL, unit_KD)
        if self.sharpness is None:
            return functional.hard_assignment(feat_NDL, self.centroids)
        bias_K = -self.sharpness * self.centroids.square().sum(dim=1)
        return functional.soft_assignment(feat_NDL, 2 * self.sharpness * self.centroids, bias_K)

    def initialise(self, centres_KD: Floats, samples_MD: Floats | None = None) -> None:
        """Set the centres.

        Args:
            centres_KD: cluster centres, from k-means of local features (see `local_features`).
            samples_MD: not needed; taken so that all clustered layers are called alike.

        Raises:
            InputError: the shape does not fit, or values are not finite.
        """
        with torch.no_grad():
            self.centroids.copy_(torch.from_numpy(self._centres(centres_KD)))


def sharpness(centres_KD: NDArray[np.float64], samples_MD: Floats, *, version: Literal[1, 2] = 1) -> float:
    """NetVLAD's alpha: ``-ln 0.01`` over the mean gap between the best and the second best cluster.

    The gap is of dot products with unit centres (version 1), or of squared distances (version 2).

    Returns:
        alpha; 0 where there is one cluster only.

    Raises:
        InputError: the samples have no gap, or are not finite.
    """
    if len(centres_KD) < 2:
        return 0.0
    gaps = 0.0
    for first in range(0, len(samples_MD), 8192):
        block = np.asarray(samples_MD[first : first + 8192], dtype=np.float64)
        if version == 1:
            scores_MK = block @ _unit(centres_KD).T
        else:
            scores_MK = 2 * block @ centres_KD.T - np.square(centres_KD).sum(axis=1)
        best = np.partition(scores_MK, -2, axis=1)[:, -2:]  # the second best, then the best
        gaps += float((best[:, 1] - best[:, 0]).sum())
    gap = gaps / len(samples_MD)
    if not (math.isfinite(gap) and gap > 0):
        raise InputError("NetVLAD's clusters need finite samples that differ; are the photos all blank?")
    return -math.log(ASSIGNMENT_RATIO) / gap


def _unit(centres_KD: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths_K1 = np.linalg.norm(centres_KD, axis=1, keepdims=True)
    return np.asarray(centres_KD / (lengths_K1 + functional.EPSILON))
