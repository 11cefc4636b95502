"""Does a map know what it knows? Every set asked of every other set's map, and of its own.

    python benchmarks/known_unknown.py SHARED_DATA CACHE TOWN FITTED_TOWN [MODEL [ASKED]]

SHARED_DATA holds gardens_point, corridor, loop_rtabmap, photos_lund, photos_arezzo and toy; the towns are
made by `dejavlad dataset town` with two seeds. Half of the sets had a part in fitting the curve of
confidence (`FITTED`), the other half had none. (Not blind: the constants of `rivals` and `MOST_CHANCE` were
chosen with corridor and robot in view, and the strength of the fit among a few with all figures in view.)
What is slow (local features, maps, evidence) is kept in
CACHE: delete it after a change of the network, of matching or of verification.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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
from dejavlad.places.verification.confidence import Evidence, search_confidence, verified_confidence
from dejavlad.places.verification.points import PointSetting
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


def collect(every: dict[str, Set], cache: Path, model: str, count: int) -> Iterator[Row]:
    """Each map asked for `count` photos of each other set, and for three times as many of its own."""
    keep_features(cache / "local")
    dense: dict[str, object] = {}
    for name, sizes in MAPS.items():
        for size in sizes:
            this = every[name]
            kept = spread(this.database, size)
            folder = cache / f"{model}-{name}-{size}"
            if name == "lund" and size == 15:  # every other photo, to be asked for those between
                kept = list(range(0, len(this.database), 2))
                others = this.database.take(list(range(1, len(this.database), 2)))
                this = Set(this.database, others, True)
            made = None
            for other, asked_of in every.items():
                own = other == name
                if own:
                    asked_of = this
                if (own and not this.own) or (other == "lund" and not own and name == "lund"):
                    continue
                path = folder / f"{other.replace('/', '-')}.json"
                if not path.exists():
                    if made is None:
                        made = dv.PlaceMap.build(model, this.database.take(kept), folder / "map")
                    rows = spread(asked_of.queries, 3 * count if own else count)
                    records = ask(made, asked_of, rows, this if own else None, dense)
                    path.write_text(json.dumps(records))
                for record in json.loads(path.read_text()):
                    kind = record["kind"]
                    if kind == "unrelated" and name[:4] == other[:4] == "town":
                        kind = "district"
                    yield Row(
                        name, size, other, kind, Evidence(**record["evidence"]),
                        record["position_error"], record["uncertainty"],
                    )  # fmt: skip
            print(f"# {name} {size}", file=sys.stderr, flush=True)


def ask(made, asked_of: Set, rows: list[int], own: Set | None, dense: dict) -> list[dict]:
    """What a map answers, as JSON; answers that may be right or wrong are left out."""
    photos = asked_of.queries.take(rows)
    answers = made.locate_descriptors(describe(made.model, photos, dense), photos, k=1, verify=SETTING)
    keys = {} if own is None else {photo.key: row for row, photo in enumerate(own.database)}
    records = []
    for row, answer in zip(rows, answers, strict=True):
        if answer.evidence is None:
            continue
        right = False if own is None else own.right(row, keys[answer.matches[0].name])
        if right is None or (own is not None and not right):
            continue
        stated, true = answer.agreed, asked_of.queries[row].position
        known_error = right and stated is not None and true is not None
        records.append(
            {
                "kind": "right" if right else "unrelated",
                "evidence": asdict(answer.evidence),
                "position_error": distance(stated, true) if known_error else None,
                "uncertainty": answer.uncertainty_m if known_error else None,
            }
        )
    return records


SETTING = PointSetting("xfeat")


def describe(model, photos: PhotoList, dense: dict) -> np.ndarray:
    """Descriptors; what does not depend on the map's vocabulary is made once."""
    light = model.name.startswith("efficientnet")  # the others' feature maps are too large to keep
    if not light:
        return model.encode(list(photos))
    made = []
    with model.describing():
        for photo in photos:
            key = str(photo.path)
            if key not in dense:
                ((_, images),) = model._prepared([photo], 1, 0, keep_blank=True)
                dense[key] = model.features(images)
            made.append(model.pooled(dense[key]).numpy()[0])
    return np.stack(made)


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


def known(rows: list[Row]) -> tuple[str, str]:
    sure = np.array([verified_confidence(row.evidence) >= KNOWN for row in rows])
    return str(len(rows)), f"{sure.mean():.3f}" if len(rows) else ""


def report(rows: list[Row]) -> None:
    """All tables, as Markdown."""
    print("| map | photos | right answers | known | unrelated | known | other districts | known |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")

    def line(name: str, size: object, some: list[Row]) -> None:
        cells = [c for kind in ("right", "unrelated", "district") for c in known(of(some, kind))]
        print(f"| {name} | {size} | {' | '.join(cells)} |")

    for name, sizes in MAPS.items():
        for size in sizes:
            some = [row for row in rows if (row.database, row.size) == (name, size)]
            line(name + (" (fitted)" if name in FITTED else ""), size, some)
    parts = {
        "fitted on": [row for row in rows if row.fitted],
        "held back (map and photos)": [row for row in rows if row.judged],
        "held back (map or photos)": [row for row in rows if not row.fitted],
    }
    for name, some in parts.items():
        line(f"**{name}**", "", some)
    print("\n| area under the ROC | verified | search alone | before (`confidence`) |\n|---|--:|--:|--:|")
    scores = (verified_confidence, search_confidence, lambda evidence: confidence(evidence.standing))
    for name, some in parts.items():
        areas = [
            roc_area(*([score(row.evidence) for row in of(some, kind)] for kind in ("right", "unrelated")))
            for score in scores
        ]
        print(f"| {name} | " + " | ".join("" if a is None else f"{a:.4f}" for a in areas) + " |")
    print("\n| held back (map or photos): known | verified | search alone | before |\n|---|--:|--:|--:|")
    for kind in ("right", "unrelated", "district"):
        some = of(parts["held back (map or photos)"], kind)
        shares = [np.mean([score(row.evidence) >= KNOWN for row in some]) if some else 0 for score in scores]
        print(
            f"| {kind}, held back (map or photos): {len(some)} | "
            + " | ".join(f"{s:.3f}" for s in shares)
            + " |"
        )
    for name, some in parts.items():
        some = of(some, "right") + of(some, "unrelated")
        if some:
            print(f"\nreliability, {name}:\n")
            print(
                reliability(
                    [verified_confidence(row.evidence) for row in some],
                    [row.kind == "right" for row in some],
                    [np.nan if row.position_error is None else row.position_error for row in some],
                    [np.nan if row.uncertainty is None else row.uncertainty for row in some],
                )
            )


def of(rows: list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row.kind == kind]


def answers(data: str, cache: str, town: str, fitted_town: str, *rest: str) -> list[Row]:
    """All answers, by the arguments of the command."""
    model, count = (*rest, *(BEST_MODEL, "6")[len(rest) :])
    every = sets(Path(data), {"town A": Path(fitted_town), "town B": Path(town)})
    return list(collect(every, Path(cache), model, int(count)))


if __name__ == "__main__":
    report(answers(*sys.argv[1:]))
