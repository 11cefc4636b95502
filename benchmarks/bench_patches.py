"""Patch descriptors against a plain restatement of the original: K=64, D=512, 30x40, WPCA 4096, three sizes.

From one feature map to whitened patches, the backbone apart. Prints how many times faster the exact and the
bfloat16 form are (wanted: 1.5 times, aim 2; and 4 times at a cosine of 0.9999), what part of the peak memory
they need (wanted: a fifth), and how near their descriptors are; then what a photo of a batch of four costs
against a photo alone. Weights are float32 throughout: each call of the bfloat16 form converts them anew.
With ``--quick`` all is small: only to see that it runs.
"""

from __future__ import annotations

import sys

import torch
from torch.nn import functional as F

from _timing import paired, peak_bytes, processor
from dejavlad.aggregation import NetVLAD, patch_vlad
from dejavlad.model import Whitening

D, H, W, K, DIMS = (64, 12, 16, 8, 128) if "--quick" in sys.argv else (512, 30, 40, 64, 4096)
SIZES = (2, 5, 8)
BATCH = 4


def plain(layer: NetVLAD, whitening: Whitening, feat_1DHW: torch.Tensor) -> list[torch.Tensor]:
    """The original's way: all residuals, their integral image, all patches [P, K*D], then the whitening."""
    x_1DHW = F.normalize(feat_1DHW, dim=1)
    shares_1KHW = torch.softmax(F.conv2d(x_1DHW, layer.conv.weight, layer.conv.bias), dim=1)
    residuals_KDHW = torch.cat(
        [shares_1KHW[:, k, None] * (x_1DHW - layer.centroids[k, :, None, None]) for k in range(K)]
    )
    integral_KDHW = F.pad(residuals_KDHW.cumsum(dim=3).cumsum(dim=2), (1, 0, 1, 0))
    descriptors = []
    for p in SIZES:
        boxes_KDHW = (
            integral_KDHW[:, :, p:, p:]
            - integral_KDHW[:, :, :-p, p:]
            - integral_KDHW[:, :, p:, :-p]
            + integral_KDHW[:, :, :-p, :-p]
        ) / p**2
        patches_PE = F.normalize(boxes_KDHW, dim=1).flatten(2).permute(2, 0, 1).flatten(1)
        descriptors.append(
            F.normalize(F.linear(F.normalize(patches_PE, dim=1), whitening.weight, whitening.bias))
        )
    return descriptors


def main() -> None:
    torch.manual_seed(0)
    layer, whitening = NetVLAD(D, K, epsilon="torch"), Whitening(K * D, DIMS)
    feat = torch.randn(1, D, H, W)
    torch.nn.init.normal_(whitening.weight)
    torch.nn.init.normal_(whitening.bias, std=0.1)
    feats = torch.randn(BATCH, D, H, W)
    print(f"patches {SIZES} K={K} D={D} {H}x{W} to {DIMS}; {processor()}, {torch.get_num_threads()} threads")
    with torch.inference_mode():
        exact = plain(layer, whitening, feat)
        most = peak_bytes(lambda: plain(layer, whitening, feat))
        for dtype in (torch.float32, torch.bfloat16):

            def ours(dtype: torch.dtype = dtype) -> list[torch.Tensor]:
                return patch_vlad(feat, layer, whitening, SIZES, dtype=dtype)

            def batch(dtype: torch.dtype = dtype) -> list[torch.Tensor]:
                return patch_vlad(feats, layer, whitening, SIZES, dtype=dtype)

            def singly(dtype: torch.dtype = dtype) -> list[list[torch.Tensor]]:
                return [patch_vlad(feat, layer, whitening, SIZES, dtype=dtype) for _ in range(BATCH)]

            pairs = list(zip(exact, ours(), strict=True))
            cosine = min((a * b[0]).sum(dim=1).min().item() for a, b in pairs)
            apart = max((a - b[0]).abs().max().item() for a, b in pairs)
            times = paired(lambda: plain(layer, whitening, feat), ours, rounds=3)
            print(f"  {str(dtype).removeprefix('torch.')}: {times}")
            print(f"    least cosine {cosine:.6f}, largest difference of an entry {apart:.1e}")
            needs = peak_bytes(ours)
            print(f"    peak memory {most / 2**20:.0f} and {needs / 2**20:.0f} MiB: {needs / most:.3f} of it")
            times = paired(singly, batch, rounds=1, warm=0)
            print(f"    {BATCH} photos alone and together: {times}")


if __name__ == "__main__":
    main()
