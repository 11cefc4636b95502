"""VGG-16 NetVLAD from prepared photos to descriptors: bfloat16 against float32 as PyTorch runs it.

Prints how many times faster bfloat16 is and how near its descriptors are. The network has random weights (the
published ones need a download), and clusters learnt from the same made photos, at two sharpnesses of the
assignment: a trained network's, and the one that random weights lead to, which is the hardest case: their
features are all alike, so that alpha comes out several times larger. ``--quick``: small photos, to see that
it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from _timing import paired, processor
from dejavlad.model import PlaceModel
from dejavlad.numerics import kmeans
from dejavlad.zoo import load_model

TRAINED_ALPHA = 64.0
"""Of an ImageNet SqueezeNet on real streets."""
PHOTOS, BATCH, HEIGHT, WIDTH, ROUNDS = (2, 1, 96, 128, 1) if "--quick" in sys.argv else (4, 2, 480, 640, 5)


def has_bf16() -> bool:
    """Whether the processor computes in bfloat16 itself."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags or " bf16" in flags


def streets(n: int) -> torch.Tensor:
    """Made photos [n, 3, H, W] with edges and surfaces at every scale, prepared as for torchvision."""
    rng = np.random.default_rng(0)
    photos = torch.zeros(n, 3, HEIGHT, WIDTH)
    for side in (4, 8, 16, 32, 64, 128):
        cells = torch.from_numpy(rng.normal(size=(n, 3, HEIGHT // side + 1, WIDTH // side + 1)))
        grown = cells.repeat_interleave(side, 2).repeat_interleave(side, 3)
        photos += grown[:, :, :HEIGHT, :WIDTH].float()
    return photos / photos.std()


def similarity(first: PlaceModel, second: PlaceModel, batches: list[torch.Tensor]) -> torch.Tensor:
    """Cosines [n] of what two models say of the same photos."""
    said = [torch.cat([model(batch) for batch in batches]) for model in (first, second)]
    return torch.nn.functional.cosine_similarity(*said)


def main() -> None:
    print(f"VGG-16 NetVLAD {HEIGHT}x{WIDTH} batch {BATCH}; {processor()}, {torch.get_num_threads()} threads")
    if not has_bf16():
        print("  SKIPPED: this processor has no bfloat16 arithmetic")
        return
    base = load_model("vgg16-netvlad", weights="random:0", device="cpu")
    with torch.inference_mode():
        batches = list(streets(PHOTOS).split(BATCH))
        local_MD = torch.cat([base.local_features(batch).flatten(0, 1) for batch in batches]).numpy()
        centres_KD = kmeans(local_MD, 64, iterations=20)
        exact = base.with_clusters(centres_KD, local_MD)
        fitted = float(exact.aggregation.conv.weight.norm(dim=1).mean())
        for alpha in (TRAINED_ALPHA, fitted):
            exact.aggregation.set_clusters(centres_KD, alpha)
            near = exact.with_dims(None)
            near.precision = "bf16"
            cosines = similarity(exact, near, batches)
            print(
                f"  alpha {alpha:.0f}: cosine {cosines.mean():.6f} on average, {cosines.min():.6f} at worst"
            )
        print(f"  {paired(lambda: exact(batches[0]), lambda: near(batches[0]), rounds=ROUNDS)}")


if __name__ == "__main__":
    main()
