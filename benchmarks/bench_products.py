"""Products of square matrices in float32, bfloat16 and int8: what bounds networks and re-ranking here.

One thread, the best of some rounds, processor time. No network of large products can be faster than another
precision by more than these ratios, where the slower one runs at its own rate.

Run: ``OMP_NUM_THREADS=1 python benchmarks/bench_products.py [--side 2048] [--rounds 6]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from _timing import processor


def rate(product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, rounds: int) -> float:
    """Billions of multiplications and additions a second, at best."""
    product(a, b)
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        product(a, b)
        best = min(best, time.process_time() - started)
    return 2e-9 * len(a) ** 3 / best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor()}, 1 thread; {args.side} x {args.side}")
    a, b = torch.randn(2, args.side, args.side)
    whole = torch.randint(-127, 128, (2, args.side, args.side), dtype=torch.int8)
    rates = {
        "float32": rate(torch.mm, a, b, args.rounds),
        "bfloat16": rate(torch.mm, a.bfloat16(), b.bfloat16(), args.rounds),
        "int8": rate(torch._int_mm, whole[0], whole[1].t(), args.rounds),
    }
    for name, value in rates.items():
        print(
            f"{name}: {value:.0f} billion operations a second, {value / rates['float32']:.1f} times float32"
        )


if __name__ == "__main__":
    main()
