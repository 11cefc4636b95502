"""The NetVLAD layer against its definition written out, residual by residual; K=64, D=512, 30x40, batch 8.

Prints how many times faster it is, and what part of the peak memory it needs.
"""

from __future__ import annotations

import torch

from _timing import paired, peak_bytes, processor
from dejavlad.aggregation import NetVLAD

N, D, H, W, K = 8, 512, 30, 40, 64


def residual_form(layer: NetVLAD, feat_NDHW: torch.Tensor) -> torch.Tensor:
    """What the paper's equation says, word by word: [N, K, D, L] residuals, weighted and summed."""
    feat_NDL = layer.prepare(feat_NDHW.flatten(2))
    assignment_NKL = layer.assign(feat_NDL)
    residual_NKDL = feat_NDL[:, None] - layer.centroids[None, :, :, None]
    vlad_NKD = (assignment_NKL[:, :, None] * residual_NKDL).sum(dim=3)
    vlad_NKD = torch.nn.functional.normalize(vlad_NKD, dim=2)
    return torch.nn.functional.normalize(vlad_NKD.flatten(1), dim=1)


def main() -> None:
    torch.manual_seed(0)
    layer, feat = NetVLAD(D, K), torch.randn(N, D, H, W)
    print(f"NetVLAD K={K} D={D} {H}x{W} batch {N}; {processor()}, {torch.get_num_threads()} threads")
    with torch.inference_mode():
        apart = (residual_form(layer, feat) - layer(feat)).abs().max().item()
        print(f"  largest difference of an entry: {apart:.1e}")
        print(f"  forward: {paired(lambda: residual_form(layer, feat), lambda: layer(feat), rounds=5)}")
        plain, ours = (
            peak_bytes(lambda f=form: f(feat)) for form in (lambda x: residual_form(layer, x), layer)
        )
    print(f"  peak memory: {plain / 2**20:.0f} MiB and {ours / 2**20:.0f} MiB: {ours / plain:.4f} of it")


if __name__ == "__main__":
    main()
