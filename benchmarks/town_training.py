"""What training on a made town adds on streets that it never saw, for several poolings and seeds.

For each pooling and seed: the network as it is (its clusters learnt from the town's `train` part), trained on
`train` (the epoch that is best on `val`), and each of both whitened (learnt from the photos of `train`).
Recall is that of `test`, other streets of the same town, or of another one (`--test`). Run again, it goes on
where it stopped; of two running at once on one folder, each does what the other has not begun.

    python benchmarks/town_training.py --out results        # the first stage of ResNet-18, random weights
    python benchmarks/town_training.py --out results --network squeezenet1_0 --weights FILE.npz --input caffe
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _timing import processor
from dejavlad.datasets import open_dataset
from dejavlad.errors import StoreBusyError
from dejavlad.evaluation import evaluate
from dejavlad.extraction.extract import describe
from dejavlad.ground_truth import PlaceDataset
from dejavlad.index import build_index
from dejavlad.model import PlaceModel
from dejavlad.numerics import Pca, fit_pca
from dejavlad.photo import PhotoList
from dejavlad.town import make_town
from dejavlad.training import Run, TrainConfig, load_recipe, train
from dejavlad.training.run.runs import is_run
from dejavlad.zoo import load_model

RECIPES = {"resnet18": "town-resnet18", "squeezenet1_0": "town-squeezenet"}
METHODS = {"netvlad": "vlad_preL2_intra", "max": "max", "avg": "avg", "gem": "gem"}
STATES = ("as it is", "whitened", "trained", "trained, whitened")
ADDED = ("training adds", "whitened")
RECALL_AT = (1, 5, 10)
WHITENED_BY = 4000
"""Photos of `train` at most, evenly spread."""


def rows_of(model: PlaceModel, photos: Iterable[Any], workers: int) -> NDArray[np.float32]:
    """Descriptors of photos, float32 [N, D]."""
    return describe(model, PhotoList(photos), batch_size=32, workers=workers)[0]


def whitened(rows_ND: NDArray[np.float32], pca: Pca) -> NDArray[np.float32]:
    """Principal components of descriptors, whitened, of length 1."""
    made = rows_ND @ pca.weight.T.astype(np.float32) + pca.bias.astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def recall(rows_ND: NDArray[np.float32], test: PlaceDataset) -> dict[int, float]:
    """Recall@N on a dataset, whose database comes first in the rows."""
    n = len(test.database)
    ranking = build_index("flat", rows_ND[:n]).search(rows_ND[n:], max(RECALL_AT))
    return dict(evaluate(ranking, test.truth, recall_at=RECALL_AT).recall)


def both(
    model: PlaceModel, learnt: PlaceDataset, test: PlaceDataset, dims: int, workers: int
) -> tuple[dict[int, float], dict[int, float]]:
    """Recalls of a model as it is, and whitened."""
    photos = [*learnt.database, *learnt.queries]
    pca = fit_pca(rows_of(model, photos[:: -(-len(photos) // WHITENED_BY)], workers), dims)
    rows_ND = rows_of(model, [*test.database, *test.queries], workers)
    return recall(rows_ND, test), recall(whitened(rows_ND, pca), test)


def train_and_measure(
    given: argparse.Namespace, town: Path, config: TrainConfig, model: PlaceModel, out: Path
) -> None:
    """A training, and recalls before and after it, into ``recall.json``."""
    if not (is_run(out / "run") and Run(out / "run").finished):
        train(config, model, open_dataset(town / "train"), open_dataset(town / "val"), out / "run")
    learnt, test = open_dataset(town / "train"), open_dataset((given.test or town) / "test")
    recalls_of: dict[str, Any] = {}
    for which, names in (("epoch:0", STATES[:2]), (f"best:{given.best}", STATES[2:])):
        model_of_run = load_model(f"{out / 'run'}@{which}", device="cpu")
        recalls_of.update(
            zip(names, both(model_of_run, learnt, test, given.dims, given.workers), strict=True)
        )
    recalls_of["dims"] = [model_of_run.descriptor_size, given.dims]
    partial = out / "recall.json.partial"
    partial.write_text(json.dumps(recalls_of, indent=1) + "\n", encoding="utf-8")
    partial.replace(out / "recall.json")


def spread(values: Sequence[float]) -> str:
    """Mean of the values as text, with their range where there are several."""
    sample = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{sample}"


def table(runs_of: dict[str, list[dict[str, Any]]]) -> str:
    """Recall@1 of each pooling, means over the seeds, and what training adds seed by seed."""
    lines = [f"| pooling | seeds | {' | '.join((*STATES, *ADDED))} |", "|---|" + "--:|" * 7]
    for pooling, runs in runs_of.items():
        at_1 = {state: [float(run[state]["1"]) for run in runs] for state in STATES}
        gains = [
            [after - before for before, after in zip(at_1[before_state], at_1[after_state], strict=True)]
            for before_state, after_state in (STATES[::2], STATES[1::2])
        ]
        cells = [*(spread(at_1[state]) for state in STATES), *(spread(gain) for gain in gains)]
        lines.append(f"| {pooling} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--town", type=Path, help="a made town; default: one is made in --out")
    parser.add_argument("--test", type=Path, help="another made town, whose `test` is asked")
    parser.add_argument("--photos", type=int, default=3000, help="of the town that is made, 120x160")
    parser.add_argument("--network", choices=RECIPES, default="resnet18")
    parser.add_argument("--weights", help="a file; default: random, of the same seed as the training")
    parser.add_argument("--input", choices=("torchvision", "caffe"), default=None)
    parser.add_argument("--poolings", default="netvlad", help="with commas: netvlad,max,avg")
    parser.add_argument("--seeds", default="0", help="with commas between")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--best", type=int, default=1, help="N of the recall on val that picks the epoch")
    parser.add_argument("--dims", type=int, default=256, help="of the whitened descriptors")
    parser.add_argument("--workers", type=int, default=1, help="threads that decode")
    given = parser.parse_args()
    town = given.town or make_town(given.out / "town", photos=given.photos, size=(120, 160), workers=2)
    recipe = load_recipe(RECIPES[given.network])
    runs_of: dict[str, list[dict[str, Any]]] = {}
    for pooling in given.poolings.split(","):
        for seed in given.seeds.split(","):
            out = given.out / f"{given.network}-{pooling}-{seed}"
            config = recipe.changed({"method": METHODS[pooling], "seed": int(seed)}).with_settings(given.set)
            if not (out / "recall.json").is_file():
                model = load_model(
                    f"{config.network}-{pooling}",
                    weights=given.weights or f"random:{seed}",
                    input=given.input,
                    device="cpu",
                    resize="none",
                )
                try:
                    train_and_measure(given, town, config, model, out)
                except StoreBusyError:
                    continue
            recalls_of = json.loads((out / "recall.json").read_text(encoding="utf-8"))
            runs_of.setdefault(pooling, []).append(recalls_of)
            recalls = "; ".join(f"{state} {recalls_of[state]['1']:.3f}" for state in STATES)
            print(f"{out.name}: {recalls}", flush=True)
    print(f"\nRecall@1 on {(given.test or town) / 'test'}; {processor()}\n\n{table(runs_of)}")


if __name__ == "__main__":
    main()
