"""The curve of confidence: fitted on made towns, checked on photos of your own.

    python benchmarks/fit_confidence.py fit
    python benchmarks/fit_confidence.py check MAP_PHOTOS QUERIES TRUTH [PHOTOS_OF_OTHER_PLACES ...]

`fit` makes two towns, maps one district of each, and asks for photos of that district (right where the best
match lies within 25 m) and of another one (never right). `check` prints how often a right answer, a wrong
answer and a photo of another place come out as known, and a table of confidence against how often it was
right.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import dejavlad as dv
import dejavlad.ground_truth
from dejavlad.ground_truth import (
    parse_truth,
    truth_positions,
)
from dejavlad.photo import PhotoList
from dejavlad.places.confidence import (
    KNOWN_FROM,
    SLOPE,
)
from dejavlad.town import make_town

SEEDS = (101, 102)
PHOTOS = 1000
MODEL = "rootsift-vlad"


def answers(
    town: dv.PlaceMap, photos: PhotoList, truth: dv.ground_truth.Truth | None
) -> tuple[NDArray, NDArray, NDArray]:
    """How far each answer stands out, its confidence, and whether it is right (never, without truth)."""
    answers = [answer for answer in town.locate(photos, k=1, workers=2) if answer.failed is None]
    best = np.array([[town.photos.keys.index(answer.matches[0].name)] for answer in answers])
    right = truth.positives.contains(best)[:, 0] if truth is not None else np.zeros(len(answers), bool)
    return np.array([a.standing for a in answers]), np.array([a.confidence for a in answers]), right


def fit(folder: Path) -> None:
    """Fit the curve and print it beside the one in use."""
    standing, label = [], []
    for seed in SEEDS:
        made = make_town(folder / f"town{seed}", photos=PHOTOS, seed=seed, workers=2)
        here, elsewhere = dv.open_dataset(made / "test"), dv.open_dataset(made / "train")
        town = dv.PlaceMap.build(MODEL, here.database, folder / f"map{seed}", workers=2)
        truth = truth_positions(here.database, here.queries, 25)
        for photos, known in ((here.queries, truth), (elsewhere.queries, None)):
            s, _, right = answers(town, photos, known)
            text = f"{len(s)} photos, {right.mean():.2f} right, standing {np.median(s):.3f}"
            print(f"town {seed}, {photos.root}: {text}")
            standing.append(s)
            label.append(right)
    s, y = np.concatenate(standing), np.concatenate(label)
    weight = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean()))

    def loss(curve: NDArray) -> float:
        logit = curve[0] * (s - curve[1])
        return float((weight * np.logaddexp(0, np.where(y, -logit, logit))).mean())

    slope, known_from = minimize(loss, [SLOPE, KNOWN_FROM], method="Nelder-Mead").x
    print(f"fitted: SLOPE = {slope:.1f}, KNOWN_FROM = {known_from:.3f} (in use: {SLOPE}, {KNOWN_FROM})")
    known = slope * (s - known_from) >= 0
    print(f"known: {known[y].mean():.2f} of right answers, {known[~y].mean():.2f} of wrong ones")


def check(folder: Path, map_photos: str, queries: str, truth: str, *others: str) -> None:
    """How honest the confidence is on photos that had no part in the fit."""
    database, query_photos = dv.photos(map_photos), dv.photos(queries)
    town = dv.PlaceMap.build(MODEL, database, folder / "map", workers=2)
    _, sure, right = answers(town, query_photos, parse_truth(truth, database, query_photos))
    rows = [("right answers", sure[right]), ("wrong answers", sure[~right])]
    rows += [(other, answers(town, dv.photos(other), None)[1]) for other in others]
    print("| photos | count | known | unknown |\n|---|---|---|---|")
    for name, values in rows:
        if len(values):
            print(f"| {name} | {len(values)} | {(values >= 0.5).mean():.3f} | {(values < 0.5).mean():.3f} |")
    print("\n| confidence | queries | mean confidence | right |\n|---|---|---|---|")
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (sure >= low) & ((sure < low + 0.2) | (low == 0.8))
        if inside.any():
            text = f"{inside.sum()} | {sure[inside].mean():.2f} | {right[inside].mean():.2f}"
            print(f"| {low:.1f} to {low + 0.2:.1f} | {text} |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made_in:
        if sys.argv[1:2] == ["check"]:
            check(Path(made_in), *sys.argv[2:])
        else:
            fit(Path(made_in))
