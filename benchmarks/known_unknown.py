"""Does a map know what it knows? Every set asked of every other set's map, and of its own.

    python benchmarks/known_unknown.py SHARED_DATA CACHE TOWN FITTED_TOWN [MODEL [VERIFY [ASKED]]]

SHARED_DATA holds gardens_point, corridor, loop_rtabmap, photos_lund, photos_arezzo and toy; the towns are
made by `dejavlad dataset town` with two seeds. Half of the sets had a part in fitting the curve of
confidence (`FITTED`), the other half had none. (Not blind: the constants of `rivals` and `MOST_CHANCE` were
chosen with corridor and robot in view, and the strength of the fit among a few with all figures in view.)
What is slow (local features, pairs of photos, maps,
descriptors) is kept in CACHE: delete it after a change of the network, of matching or of verification.
Answers are always made anew.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import dejavlad as dv
from dejavlad import local
from dejavlad.evaluation.reliability import reliability, roc_area
from dejavlad.geo import distance
from dejavlad.local.codec import decode, encode
from dejavlad.photo import PhotoList
from dejavlad.places.confidence import confidence
from dejavlad.places.verification.confidence import (
    Evidence,
    curve_terms,
    search_confidence,
    verified_confidence,
)
from dejavlad.places.verification.points import PointSetting
from dejavlad.rerank import PointMatches, PointReranker, Verified
from dejavlad.zoo import BEST_MODEL

FITTED = ("gardens", "lund", "toy", "town A")
"""Sets whose maps and photos the curve was fitted on; maps and photos of all others are held back."""
MAPS = {
    "gardens": (5, 29, 100, 200),
    "corridor": (5, 29, 100),
    "robot": (29,),
    "lund": (15, 29),
    "arezzo": (9,),
    "toy": (5, 17),
    "town A": (29, 72),
    "town B": (29, 72),
}
"""Set -> sizes of its maps."""
NEAR = 25.0
"""Metres within which an answer is right; beyond `FAR` it is wrong."""
FAR = 100.0
KNOWN = 0.5
EARLIER = 0.65, 3.35, 6.0, 8.9, -6.8
OWN = 18
"""Photos of its own set that each map is asked for, at least."""


@dataclass
class Set:
    """Photos of one place."""

    database: PhotoList
    queries: PhotoList
    own: bool
    """Whether the queries have right answers in the map."""
    closes: np.ndarray | None = None
    """bool [queries, database], where a picture tells what is right."""

    def right(self, query: int, row: int) -> bool | None:
        """Whether a photo of the map is right; None where it may be either."""
        if self.closes is not None:
            return True if self.closes[query, row] else None
        places = self.queries[query].position, self.database[row].position
        if places[0] is not None and places[1] is not None:
            apart = distance(*places)
            return True if apart <= NEAR else False if apart > FAR else None
        apart = abs(query - row)
        return True if apart <= 2 else False if apart > 20 else None


@dataclass
class Row:
    """One answer."""

    database: str
    size: int
    queries: str
    kind: str
    """``right``, ``unrelated``, or ``district``: of another district of a made town, built alike."""
    evidence: Evidence
    position_error: float | None
    uncertainty: float | None

    @property
    def fitted(self) -> bool:
        """Whether the curve was fitted on it."""
        return self.database in FITTED and self.queries.split("/")[0] in FITTED

    @property
    def judged(self) -> bool:
        """Whether neither its map nor its photo had a part in that."""
        return self.database not in FITTED and self.queries.split("/")[0] not in FITTED


def spread(photos: Sequence, count: int) -> list[int]:
    """Rows of so many photos, evenly spread."""
    return sorted({int(i) for i in np.linspace(0, len(photos) - 1, min(count, len(photos))).round()})


def sets(data: Path, towns: dict[str, Path]) -> dict[str, Set]:
    """All sets by name; other districts of a town as ``town A/train``, to ask only."""

    def photos(folder: str) -> PhotoList:
        return dv.photos(str(data / folder))

    made = {
        "gardens": Set(photos("gardens_point/day_left"), photos("gardens_point/day_right"), True),
        "corridor": Set(photos("corridor/ref"), photos("corridor/query"), True),
    }
    robot = photos("loop_rtabmap")
    numbered = sorted((int(Path(p.key).stem), i) for i, p in enumerate(robot) if p.key.endswith(".jpg"))
    frames = [i for _, i in numbered]
    closes = np.array(Image.open(data / "loop_rtabmap" / "samples_GT.bmp").convert("L")) > 128
    made["robot"] = Set(robot.take(frames[:42]), robot.take(frames[42:]), True, closes[42:84, :42])
    lund = photos("photos_lund")
    made["lund"] = Set(lund, lund, False)
    made["arezzo"] = Set(photos("photos_arezzo"), photos("photos_arezzo"), False)
    made["toy"] = Set(photos("toy/database"), photos("toy/queries"), False)
    for name, folder in towns.items():
        for part in ("test", "train", "val"):
            places = dv.open_dataset(folder / part)
            key = name if part == "test" else f"{name}/{part}"
            made[key] = Set(places.database, places.queries, part == "test")
    return made


def collect(
    every: dict[str, Set], cache: Path, model: str, kind: str, count: int, maps: Sequence[str]
) -> Iterator[Row]:
    """Each map asked for `count` photos of each other set, and for `OWN` of its own."""
    keep_features(cache / "local")
    setting, dense = PointSetting(kind), {}
    for name in maps:
        for size in MAPS[name]:
            this = every[name]
            kept = spread(this.database, size)
            folder = cache / f"{model}-{name}-{size}"
            if name == "lund" and size == 15:  # every other photo, to be asked for those between
                kept = list(range(0, len(this.database), 2))
                others = this.database.take(list(range(1, len(this.database), 2)))
                this = Set(this.database, others, True)
            made = dv.PlaceMap.build(model, this.database.take(kept), folder / "map")
            with kept_pairs(cache / f"pairs-{kind}.pickle"):
                for other, asked_of in every.items():
                    own = other == name
                    if own:
                        asked_of = this
                    if (own and not this.own) or (other == "lund" and not own and name == "lund"):
                        continue
                    rows = spread(asked_of.queries, max(OWN, 3 * count) if own else count)
                    photos = asked_of.queries.take(rows)
                    described = describe(made.model, photos, dense, folder / f"{other.replace('/', '-')}.npz")
                    answers = made.locate_descriptors(described, photos, k=1, verify=setting)
                    wrong = "district" if name[:4] == other[:4] == "town" else "unrelated"
                    for row, answer in zip(rows, answers, strict=True):
                        if (made_of := judge(answer, asked_of, row, this if own else None)) is not None:
                            kind_of = "right" if own else wrong
                            yield Row(name, size, other, kind_of, answer.evidence, *made_of)
            print(f"# {name} {size}", file=sys.stderr, flush=True)


def judge(answer, asked_of: Set, row: int, own: Set | None) -> tuple[float | None, float | None] | None:
    """Position error and uncertainty of an answer that is surely right, or of elsewhere; None of others."""
    if answer.evidence is None:
        return None
    if own is None:
        return None, None
    if not own.right(row, own.database.keys.index(answer.matches[0].name)):
        return None
    stated, true = answer.agreed, asked_of.queries[row].position
    if stated is None or true is None:
        return None, None
    return distance(stated, true), answer.uncertainty_m


def describe(model, photos: PhotoList, dense: dict, path: Path) -> np.ndarray:
    """Descriptors, kept in a file; what does not depend on the map's vocabulary is made once a run."""
    known = dict(np.load(path)) if path.exists() else {}
    light = model.name.startswith("efficientnet")  # the others' feature maps are too large to keep
    with model.describing():
        for photo in photos:
            key = str(photo.path).replace("/", "|")
            if key in known:
                continue
            if not light:
                known[key] = model.encode([photo])[0]
                continue
            if key not in dense:
                ((_, images),) = model._prepared([photo], 1, 0, keep_blank=True)
                dense[key] = model.features(images)
            known[key] = model.pooled(dense[key]).numpy()[0]
    np.savez(path, **known)
    return np.stack([known[str(photo.path).replace("/", "|")] for photo in photos])


def keep_features(folder: Path) -> None:
    """Keep the local features of photos by where they lie."""
    folder.mkdir(parents=True, exist_ok=True)
    make = local.local_features

    def kept(extractor, photos, **options):
        made = []
        for photo in photos:
            name = hashlib.sha256(f"{extractor.kind} {photo.path}".encode()).hexdigest()[:24]
            path = folder / name
            if not path.exists():
                path.write_bytes(encode(make(extractor, [photo], **options)[0]))
            made.append(decode(path.read_bytes()))
        return made

    local.local_features = kept


@contextmanager
def kept_pairs(path: Path) -> Iterator[None]:
    """Keep what two photos have in common, by their points."""
    known = pickle.loads(path.read_bytes()) if path.exists() else {}
    verified, before = PointReranker.verified, len(known)

    def kept(reranker, query, candidate):
        points = query.keypoints.tobytes(), candidate.keypoints.tobytes()
        key = hashlib.sha256(b"".join(points)).digest()[:12], len(points[0])
        if key not in known:
            pair = verified(reranker, query, candidate)
            known[key] = pair.inliers, pair.tried, pair.nearness
        inliers, tried, near = known[key]
        rows = np.zeros(inliers, np.int64)
        return Verified(PointMatches(rows, rows, rows), tried, "fundamental", None, near, query.kind)

    PointReranker.verified = kept
    try:
        yield
    finally:
        PointReranker.verified = verified
        if len(known) > before:
            path.write_bytes(pickle.dumps(known))


def earlier_confidence(evidence: Evidence) -> float:
    """By the curve as it was before, for all kinds of local features: wrong answers counted four times."""
    logit = np.dot(EARLIER[:-1], curve_terms(evidence)) + EARLIER[-1]
    return float(1 / (1 + np.exp(-logit)))


def known(rows: list[Row]) -> tuple[str, str]:
    sure = np.array([verified_confidence(row.evidence) >= KNOWN for row in rows])
    return str(len(rows)), f"{sure.mean():.3f}" if len(rows) else ""


def report(rows: list[Row]) -> None:
    """All tables, as Markdown."""
    print("| map | photos | right answers | known | unrelated | known | other districts | known |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")

    def line(name: str, size: object, sample: list[Row]) -> None:
        cells = [c for kind in ("right", "unrelated", "district") for c in known(of(sample, kind))]
        print(f"| {name} | {size} | {' | '.join(cells)} |")

    for name, sizes in MAPS.items():
        for size in sizes:
            sample = [row for row in rows if (row.database, row.size) == (name, size)]
            line(name + (" (fitted)" if name in FITTED else ""), size, sample)
    parts = {
        "fitted on": [row for row in rows if row.fitted],
        "held back (map and photos)": [row for row in rows if row.judged],
        "held back (map or photos)": [row for row in rows if not row.fitted],
    }
    for name, sample in parts.items():
        line(f"**{name}**", "", sample)
    columns = "verified | earlier curve | search alone | before (`confidence`) |\n|---|--:|--:|--:|--:|"
    print(f"\n| area under the ROC | {columns}")
    scores = (
        verified_confidence,
        earlier_confidence,
        search_confidence,
        lambda evidence: confidence(evidence.standing),
    )
    for name, sample in parts.items():
        areas = [
            roc_area(*([score(row.evidence) for row in of(sample, kind)] for kind in ("right", "unrelated")))
            for score in scores
        ]
        print(f"| {name} | " + " | ".join("" if a is None else f"{a:.4f}" for a in areas) + " |")
    print(f"\n| held back (map or photos): known | {columns}")
    for kind in ("right", "unrelated", "district"):
        sample = of(parts["held back (map or photos)"], kind)
        shares = [
            np.mean([score(row.evidence) >= KNOWN for row in sample]) if sample else 0 for score in scores
        ]
        print(
            f"| {kind}, held back (map or photos): {len(sample)} | "
            + " | ".join(f"{s:.3f}" for s in shares)
            + " |"
        )
    for name, sample in parts.items():
        sample = of(sample, "right") + of(sample, "unrelated")
        if sample:
            print(f"\nreliability, {name}:\n")
            print(
                reliability(
                    [verified_confidence(row.evidence) for row in sample],
                    [row.kind == "right" for row in sample],
                    [np.nan if row.position_error is None else row.position_error for row in sample],
                    [np.nan if row.uncertainty is None else row.uncertainty for row in sample],
                )
            )


def of(rows: list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row.kind == kind]


def answers(
    data: str, cache: str, town: str, fitted_town: str, *rest: str, maps: Sequence[str] = tuple(MAPS)
) -> list[Row]:
    """All answers of some maps to photos of their sets, by the arguments of the command."""
    model, kind, count = (*rest, *(BEST_MODEL, "xfeat", "6")[len(rest) :])
    every = sets(Path(data), {"town A": Path(fitted_town), "town B": Path(town)})
    every = {name: photos for name, photos in every.items() if name.split("/")[0] in maps}
    return list(collect(every, Path(cache), model, kind, int(count), maps))


if __name__ == "__main__":
    report(answers(*sys.argv[1:]))
