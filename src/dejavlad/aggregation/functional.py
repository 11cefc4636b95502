"""What a feature map is made into, as pure functions; the modules beside this file are thin layers over them.

Sums of residuals are never taken residual by residual: ``sum_l a_kl (x_l - c_k)`` is
``(A X^T)_k - (sum_l a_kl) c_k``, one matrix product a photo: nothing of size [N, K, D, L] ever exists.

Shapes: N photos, D channels, L = H*W locations, K clusters. Descriptors are cluster-major: entry k*D + d.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-12

EpsilonRule = Literal["matconvnet", "torch"]
"""How zero vectors are kept from dividing by zero: as MatConvNet, or as ``torch.nn.functional.normalize``."""

EPSILON_RULES: tuple[str, ...] = get_args(EpsilonRule)


def l2_normalize(x: Tensor, dim: int, *, rule: EpsilonRule = "matconvnet") -> Tensor:
    """Vectors along `dim` at unit length, as before and within NetVLAD (``preL2``, ``intranorm``).

    Equivalent to MatConvNet's ``vl_nnnormalize(x, [2*D 1e-12 1 0.5])``: ``x / sqrt(1e-12 + |x|^2)``;
    with rule ``"torch"``: ``x / max(|x|, 1e-12)``. They differ for vectors shorter than about 1e-5.
    """
    if rule == "torch":
        return F.normalize(x, dim=dim, eps=EPSILON)
    return x * torch.rsqrt(x.square().sum(dim=dim, keepdim=True) + EPSILON)


def l2_normalize_whole(x_ND: Tensor, *, rule: EpsilonRule = "matconvnet") -> Tensor:
    """Whole descriptors [N, D] at unit length.

    Equivalent to ``layerWholeL2Normalize.m``: ``x / (|x| + 1e-12)``;
    with rule ``"torch"``: ``x / max(|x|, 1e-12)``.
    """
    if rule == "torch":
        return F.normalize(x_ND, dim=1, eps=EPSILON)
    length_N1: Tensor = torch.linalg.vector_norm(x_ND, dim=1, keepdim=True)
    return x_ND / (length_N1 + EPSILON)


def soft_assignment(feat_NDL: Tensor, weight_KD: Tensor, bias_K: Tensor | None = None) -> Tensor:
    """How much each location belongs to each cluster: a softmax over clusters of ``w_k . x + b_k``.

    Returns:
        [N, K, L], summing to 1 over K. Equations 3 and 4 of the NetVLAD paper (CVPR 2016).
    """
    scores_NKL = _products(weight_KD, feat_NDL)
    if bias_K is not None:
        scores_NKL = scores_NKL + bias_K[:, None]
    return torch.softmax(scores_NKL, dim=1)


def squared_distances(feat_NDL: Tensor, centres_KD: Tensor) -> Tensor:
    """Squared Euclidean distances [N, K, L] from locations to centres, at least 0."""
    products_NKL = _products(centres_KD, feat_NDL)
    lengths_KD = centres_KD.square().sum(dim=1)[:, None] + feat_NDL.square().sum(dim=1, keepdim=True)
    return (lengths_KD - 2 * products_NKL).clamp(min=0)


def hard_assignment(feat_NDL: Tensor, centres_KD: Tensor) -> Tensor:
    """Each location to its nearest centre: [N, K, L] of zeros and ones; no gradient flows through it."""
    with torch.no_grad():
        offset_K1 = centres_KD.square().sum(dim=1)[:, None] / 2
        scores_NKL = _products(centres_KD, feat_NDL) - offset_K1
        return torch.zeros_like(scores_NKL).scatter_(1, scores_NKL.argmax(dim=1, keepdim=True), 1)


def vlad(feat_NDL: Tensor, assignment_NKL: Tensor, centres_KD: Tensor) -> Tensor:
    """Residuals of locations to centres, summed with the assignment as weight.

    Equivalent to the sum in ``layerVLAD.m``.

    Args:
        feat_NDL: local features.
        assignment_NKL: weight of each location for each cluster (any numbers; NetVLAD's sum to 1 over K).
        centres_KD: the cluster centres.

    Returns:
        [N, K, D]: ``V_k = sum_l a_kl (x_l - c_k)``.
    """
    sums_NKD = torch.bmm(assignment_NKL, feat_NDL.transpose(1, 2))
    return sums_NKD - assignment_NKL.sum(dim=2)[:, :, None] * centres_KD


def signed_power(x: Tensor, power: float) -> Tensor:
    """``sign(x) |x|^power``: evens out bursts; 0.5 is the signed square root."""
    return x if power == 1 else x.sign() * x.abs().clamp(min=EPSILON).pow(power)


def generalized_mean(feat_NDL: Tensor, p: Tensor) -> Tensor:
    """``(mean_l x^p)^(1/p)`` of each channel [N, D], features below 1e-6, so also negative ones, as 1e-6.

    GeM of Radenović et al. (TPAMI 2019); in logarithms, or relative to the greatest: no `p` overflows.
    """
    if _tracing():  # runtimes compute powers faster than logarithms, and nearer in bfloat16
        positive_NDL = feat_NDL.clamp(min=1e-6)
        most_ND1 = positive_NDL.amax(dim=2, keepdim=True)
        mean_ND = (positive_NDL / most_ND1).pow(p).mean(dim=2)
        return mean_ND.pow(1 / p) * most_ND1[:, :, 0]
    logs_NDL = feat_NDL.clamp(min=1e-6).log()
    return ((torch.logsumexp(p * logs_NDL, dim=2) - math.log(feat_NDL.shape[2])) / p).exp()


def mean_of_boxes(feat_NDHW: Tensor, side: int) -> Tensor:
    """Means [N, D, side, side] over as many boxes, which cover the map and may overlap by a cell."""
    if not _tracing():
        return F.adaptive_avg_pool2d(feat_NDHW, side)
    rows_sH, columns_sW = (_boxes(int(cells), side) for cells in feat_NDHW.shape[2:])
    return rows_sH @ feat_NDHW @ columns_sW.T


def _tracing() -> bool:
    """Whether a network is being exported."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _boxes(cells: int, side: int) -> Tensor:
    """[side, cells] that averages along an axis; exported networks have no such pooling but this product."""
    boxes = [(box * cells // side, -(-(box + 1) * cells // side)) for box in range(side)]
    return torch.tensor(
        [[float(start <= cell < end) / (end - start) for cell in range(cells)] for start, end in boxes]
    )


def _products(rows_KD: Tensor, feat_NDL: Tensor) -> Tensor:
    """[N, K, L]; ``matmul`` would copy the features to fold the batch away."""
    return torch.bmm(rows_KD.expand(feat_NDL.shape[0], *rows_KD.shape), feat_NDL)
