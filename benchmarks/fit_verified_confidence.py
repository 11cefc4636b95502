"""The curve of verified confidence: fitted on a made town and one walk, checked on other sets.

    python benchmarks/fit_verified_confidence.py SHARED_DATA TOWN

SHARED_DATA holds gardens_point, corridor, photos_lund, photos_arezzo and toy; TOWN is a made town. Maps of
5 to 200 photos are asked for photos of their own place and of every other set. Answers that may or may not
show the same place (frames of one walk some way apart) are left out, and so are districts of one town asked
of each other: their houses have the same fronts.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

import dejavlad as dv
from dejavlad.ground_truth import truth_positions
from dejavlad.photo import PhotoList
from dejavlad.places.points import PointSetting
from dejavlad.places.verified_confidence import (
    ADVANTAGE,
    CHANCE,
    COVERAGE,
    INLIERS,
    MOST_STANDING,
    OFFSET,
    STANDING,
    weighed_standing,
)
from dejavlad.zoo import BEST_MODEL

MAPS = (
    ("gardens", 5),
    ("gardens", 29),
    ("gardens", 200),
    ("town", 72),
    ("corridor", 5),
    ("corridor", 29),
    ("corridor", 100),
    ("lund", 29),
    ("arezzo", 9),
    ("toy", 17),
)
FITTED = ("gardens", "town")
"""Maps that the curve is fitted on."""
ASKED = 24
"""Photos of each other set that a map is asked for."""
WRONG = 3.0
"""How much a photo of elsewhere that counts as known is worse than a right answer that does not."""


def spread(photos: PhotoList, count: int) -> list[int]:
    return sorted({int(i) for i in np.linspace(0, len(photos) - 1, min(count, len(photos))).round()})


def features(evidence) -> list[float]:
    """What the curve adds up; see `verified_confidence`."""
    return [
        np.log1p(evidence.inliers),
        evidence.coverage,
        np.log((evidence.inliers + CHANCE) / (evidence.runner_up + CHANCE)),
        min(weighed_standing(evidence), MOST_STANDING),
    ]


def main(data: Path, town_folder: Path, out: Path) -> None:
    town = dv.open_dataset(town_folder / "test")
    truth = truth_positions(town.database, town.queries, 25)
    folders = {
        "gardens": ("gardens_point/day_left", "gardens_point/day_right"),
        "corridor": ("corridor/ref", "corridor/query"),
        "lund": ("photos_lund", None),
        "arezzo": ("photos_arezzo", None),
        "toy": ("toy/database", None),
    }
    database = {name: dv.photos(str(data / folder)) for name, (folder, _) in folders.items()}
    queries = {
        name: database[name] if own is None else dv.photos(str(data / own))
        for name, (_, own) in folders.items()
    }
    database["town"], queries["town"] = town.database, town.queries
    rows, label, group = [], [], []
    for name, size in MAPS:
        kept = spread(database[name], size)
        made = dv.PlaceMap.build(BEST_MODEL, database[name].take(kept), out / f"{name}{size}")
        keys = {photo.key: row for row, photo in enumerate(database[name])}
        for other, photos in queries.items():
            if other == name and folders.get(name, ("", ""))[1] is None:
                continue  # the map holds these very photos
            some = spread(photos, ASKED if other != name else 2 * ASKED)
            answers = made.locate(photos.take(some), k=1, verify=PointSetting("xfeat"))
            for row, answer in zip(some, answers, strict=True):
                if answer.evidence is None:
                    continue
                right = False
                if other == name:
                    best = keys[answer.matches[0].name]
                    near = max(2, len(database[name]) // size // 2 + 1)
                    right = (
                        bool(truth.positives.contains(np.full((len(town.queries), 1), best))[row, 0])
                        if name == "town"
                        else abs(best - row) <= near
                    )
                    if not right:
                        continue
                rows.append(features(answer.evidence))
                label.append(right)
                group.append(f"{name} {size}")
        print(f"# {name} {size}: {len(rows)} answers so far", flush=True)
    report(np.array(rows), np.array(label), np.array(group))


def report(x, right, group) -> None:
    fitted = np.array([name.split()[0] in FITTED for name in group])
    share = right[fitted].mean()
    weight = np.where(right[fitted], 0.5 / share, WRONG * 0.5 / (1 - share))

    def loss(curve):
        logit = x[fitted] @ curve[:-1] + curve[-1]
        return float((weight * np.logaddexp(0, np.where(right[fitted], -logit, logit))).mean())

    used = np.array([INLIERS, COVERAGE, ADVANTAGE, STANDING, OFFSET])
    weights = minimize(loss, used, bounds=[(0, None)] * 4 + [(None, None)]).x
    print(f"fitted: {np.round(weights, 1).tolist()}; in use: {used.tolist()}")
    known = x @ used[:-1] + used[-1] >= 0
    print("| map | right answers | known | photos of elsewhere | known |\n|---|---|---|---|---|")
    for name in [*dict.fromkeys(group), "held back"]:
        chosen = ~fitted if name == "held back" else group == name
        cells = []
        for which in (chosen & right, chosen & ~right):
            cells.append(f"{which.sum()} | {known[which].mean():.3f}" if which.any() else "0 | ")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made_in:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(made_in))
