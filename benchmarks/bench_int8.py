"""What int8 costs in recall: SqueezeNet with NetVLAD, whose clusters and ranges are learnt from the map.

Each dataset's database is the map: NetVLAD is fitted on it, int8 is calibrated on 32 of its photos, and the
queries are searched in it with both networks, by exact search. Flips of near ties are chance, so each is
fitted with several seeds; a query's seeds are one block of the intervals.

Run: ``OMP_NUM_THREADS=1 python benchmarks/bench_int8.py [DATASET[@RESIZE] ...] [--root DATA] [--weights FILE]
[--pooling netvlad] [--seeds 0,1,2]``, as in ``gardens-point@longest:480 corridor@longest:160
town/test``. Datasets of the same first folder (parts of a town) are also counted together.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dejavlad.datasets import open_dataset
from dejavlad.evaluation.statistics import paired
from dejavlad.export import ExportSetting, open_export
from dejavlad.export.compare import sample
from dejavlad.export.quantise import export_int8
from dejavlad.fitting import fit
from dejavlad.ground_truth import PlaceDataset
from dejavlad.model import PlaceModel
from dejavlad.pipelines.recall_cost import result_of
from dejavlad.town import make_town
from dejavlad.zoo import load_model

RECALLS = (1, 5)
Hits = NDArray[np.int64]
"""[seeds, queries], the rank of the first right answer; 0 for none."""


def costs(
    model: PlaceModel, places: PlaceDataset, seeds: list[int], folder: Path
) -> tuple[Hits, Hits, float]:
    """Hits in float32 and in int8, and the mean cosine of their descriptors."""
    photos = sample(places.database, model.preprocess.rotate)
    exact, quantised, cosines = [], [], []
    for seed in seeds:
        fitted = fit(model, places.database, seed=seed, whiten=False)
        path = folder / "int8.onnx"
        setting = ExportSetting(runtimes=(("openvino", "int8"),))
        certificate = export_int8(fitted, path, setting, calibrate=photos, images=photos[:8])
        cosines.append(certificate.answers[0].cosine_mean)
        for hits, describer in ((exact, fitted), (quantised, open_export(path, runtime="openvino"))):
            result = result_of(describer, places)
            assert result.hits_at is not None
            hits.append(result.hits_at)
    return np.stack(exact), np.stack(quantised), float(np.mean(cosines))


def show(name: str, exact: Hits, quantised: Hits, cosine: float) -> None:
    """Print a row of the table for each N."""
    seeds, queries = exact.shape
    blocks = np.tile(np.arange(queries), seeds)
    for pair in paired(exact.ravel(), quantised.ravel(), RECALLS, blocks):
        before = float(((exact > 0) & (exact <= pair.n)).mean())
        points, low, high = (100 * value for value in (pair.difference, pair.low, pair.high))
        print(
            f"| {name} | {queries} x {seeds} | recall@{pair.n} | {before:.4f} | "
            f"{before + pair.difference:.4f} | {points:+.2f} ({low:+.2f} to {high:+.2f}) | "
            f"{pair.first_only}, {pair.second_only} | {cosine:.4f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*", metavar="DATASET[@RESIZE]", help="default: a small town")
    parser.add_argument("--root", type=Path, help="where datasets that have names lie")
    parser.add_argument("--weights", default="random:0", help="SqueezeNet's of ImageNet, in Caffe's form")
    parser.add_argument("--pooling", default="netvlad")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--photos", type=int, default=200, help="of that town")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    together: dict[str, list[tuple[Hits, Hits, float]]] = {}
    print("| dataset | queries x seeds | | float32 | int8 | points (95 %) | right alone | mean cosine |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        town = Path(folder) / "town"
        if not given.datasets:
            make_town(town, photos=given.photos, size=(120, 160))
        for entry in given.datasets or [f"{town / 'test'}@120x160"]:
            name, _, resize = entry.partition("@")
            places = open_dataset(name, root=given.root)
            model = load_model(
                f"squeezenet1_0-{given.pooling}",
                weights=given.weights,
                device="cpu",
                resize=resize or None,
                **({} if given.weights.startswith("random") else {"input": "caffe"}),
            )
            measured = costs(model, places, seeds, Path(folder))
            show(entry, *measured)
            together.setdefault(str(Path(name).parent.name), []).append(measured)
    for name, rows in together.items():
        if len(rows) > 1:
            exact, quantised = (np.concatenate([row[at] for row in rows], axis=1) for at in (0, 1))
            show(f"{name}, together", exact, quantised, float(np.mean([row[2] for row in rows])))


if __name__ == "__main__":
    main()
