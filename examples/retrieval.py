"""Image retrieval as NetVLAD's demo: descriptors, whole rankings, mean average precision by dimensions.

python examples/retrieval.py holidays/ out/

The first folder is INRIA Holidays; where there is none, a little one of made scenes is drawn first.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import dejavlad as dv
from dejavlad.evaluation.average_precision import map_metrics

DIMS = 16


def draw(folder: Path, groups: int = 10) -> None:
    """Scenes of random boxes, each seen from three places, named as those of Holidays."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for group in range(groups):
        scene = Image.new("RGB", (256, 192))
        for x, y, wide, high, *colour in random.integers(0, 256, (80, 7)).tolist():
            box = (x, y, x + 5 + wide // 5, y + 5 + high // 5)
            ImageDraw.Draw(scene).rectangle(box, fill=tuple(colour))
        for view in range(3):
            scene.crop((8 * view, 5 * view, 200 + 8 * view, 150 + 5 * view)).save(
                folder / f"{1000 + group}{view:02d}.jpg"
            )


def first(rows: np.ndarray, d: int) -> np.ndarray:
    """The first d dimensions alone, again at unit length."""
    return rows[:, :d] / np.linalg.norm(rows[:, :d], axis=1, keepdims=True)


def main(root: str, out: str) -> None:
    if not Path(root).is_dir():
        draw(Path(root) / "jpg")
    places = dv.open_dataset("holidays", root=root)
    model = dv.fit(dv.load_model("rootsift-vlad", dims=DIMS), places.database)  # words and whitening
    database = dv.extract(model, places.database, Path(out) / "database").float32()
    queries = dv.extract(model, places.queries, Path(out) / "queries").float32()
    assert places.truth is not None
    d = DIMS
    while d >= 2:
        shorter_db, shorter_q = (first(rows, d) for rows in (database, queries))
        ranking = dv.build_index("flat", shorter_db).search(shorter_q, k=len(database))
        print(f"{d:6} dims  mAP {100 * map_metrics(ranking, places.truth, 'oxford')['mAP']:.2f}")
        d //= 2


if __name__ == "__main__":
    main(*sys.argv[1:])
