"""Training: what it costs to choose the negatives of a query, beside one photo through the network.

    python benchmarks/bench_mining.py --photos 100000

Descriptors are the rows of ``bench_scale.py``. A thousand negatives are drawn and measured for each query, or
all of them; and one photo goes through VGG-16 forward and backward. Told are processor milliseconds, medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from bench_scale import views
from dejavlad.ground_truth import RowSets
from dejavlad.training import TrainConfig
from dejavlad.training.losses.ranking_loss import Squared
from dejavlad.training.sampling.mining import Descriptors, Miner
from dejavlad.training.sampling.tuples import Candidates
from dejavlad.zoo import load_model

QUERIES, DIMS, SIZE, PER_PLACE = 30, 512, (240, 320), 10


def milliseconds(action: Callable[[int], object], rounds: int) -> float:
    """The median processor time of one call, after one that is not counted."""
    spent = []
    for turn in range(-1, rounds):
        started = time.process_time()
        action(max(0, turn))
        spent.append(1e3 * (time.process_time() - started))
    return statistics.median(spent[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=100_000)
    count = parser.parse_args().photos
    places = count // PER_PLACE
    place_of_query = np.arange(QUERIES) % places
    descriptors = Descriptors(views(place_of_query, DIMS, 99), views(np.arange(count) % places, DIMS, 1000))
    positives = RowSets.of([np.arange(place, count, places) for place in place_of_query], count)
    candidates = Candidates(positives, positives, np.ones(count, np.bool_))
    costs = {}
    for negatives in (1000, "all"):
        miner = Miner(candidates, Squared(0.1), TrainConfig(negatives=negatives), QUERIES)
        costs[str(negatives)] = milliseconds(lambda q, m=miner: m.choose(q, descriptors, 0, 0), QUERIES - 1)
    network = load_model("vgg16-netvlad", weights="random:0", device="cpu", resize="none").backbone
    photo = torch.rand(1, 3, *SIZE)
    costs["photo"] = milliseconds(lambda _: network(photo).sum().backward(), 3)
    print(f"{count} descriptors of {DIMS} numbers, {torch.get_num_threads()} thread(s); processor ms:")
    print(f"  a query's negatives, 1000 drawn: {costs['1000']:.1f}; all: {costs['all']:.1f}")
    print(f"  one photo of {SIZE[1]} x {SIZE[0]} forward and backward through VGG-16: {costs['photo']:.0f}")
    print(f"  the photo is {costs['photo'] / costs['1000']:.0f} times the thousand negatives")


if __name__ == "__main__":
    main()
