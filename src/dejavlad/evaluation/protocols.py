"""Protocols by name: what counts as right, what is left out, and of what a recall is the share.

Two papers' "MSLS-val" or "Nordland" need not be the same: each way of measuring has a name of its own here,
``DATASET@WAY``, and results of different ones are not compared. Sources are named with each; (m) marks what
is told from memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dejavlad.datasets import (
    PlaceDataset,
    Truth,
    groups_of,
    leave_one_out,
    truth_frames,
    truth_positions,
    truth_text,
)
from dejavlad.datasets.frames import FrameRule, numbers_agree
from dejavlad.datasets.refine import facing, without_same_time, without_window
from dejavlad.datasets.relevance import truth_frames_of
from dejavlad.errors import InputError, UnknownNameError


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way of measuring on one dataset."""

    name: str
    """``DATASET@WAY``: the dataset, and what counts as right."""
    dataset: str
    """The name of the dataset that it is for."""
    source: str
    """Where it is told, or done so."""
    metres: float | None = None
    """Right is what was taken this near, or nearer."""
    frames: int | None = None
    """Right is a photo whose number differs by so many, or fewer (where distances do not say it)."""
    every: int = 1
    """Query i is photo i times this of the sequence."""
    degrees: float | None = None
    """Right looks at most so many degrees aside."""
    misses: Literal["count", "drop"] = "count"
    """Queries without a right answer are misses, or do not count."""
    one_per: int | None = None
    """Photos of one panorama are one answer; where they do not tell it, so many in a row are one."""
    leave_out: Literal["own photo", "same time", "window"] | None = None
    """What is taken out of a query's ranking."""
    window: int = 0
    """Photos before and after the query's own that are taken out."""
    resize: str | None = None
    """The photos' size as published (``--resize``); told, not enforced."""
    n_database: int | None = None
    """Photos in the database as published, where a source tells it."""
    n_queries: int | None = None
    """Queries as published, where a source tells it."""
    note: str = ""
    """What else to know."""

    @property
    def right(self) -> str:
        """What counts as right, in words."""
        if self.metres is not None:
            near = f"within {self.metres:g} m"
        else:
            few = {0: "the same number", 1: "within 1 frame"}
            near = few.get(self.frames or 0, f"within {self.frames} frames")
        aside = f" and {self.degrees:g}°" if self.degrees is not None else ""
        return near + aside

    @property
    def suppressed(self) -> str:
        """What is taken out of rankings, in words; empty where nothing is."""
        parts = [f"all but one a panorama ({self.one_per})"] if self.one_per is not None else []
        if self.leave_out is not None:
            parts.append(f"{self.window} around" if self.leave_out == "window" else self.leave_out)
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """All fields by their names, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def under(self, places: PlaceDataset, *, given: bool = False) -> PlaceDataset:
        """The dataset with the truth that this protocol tells.

        Distances come from the photos' positions; where these are not known, or `given`, the right answers
        are the dataset's own, which must have been found in the same way.

        Args:
            places: the photos.
            given: the dataset's truth was given by the user and is not to be replaced.

        Raises:
            InputError: positions, headings or times are lacking, or the truth was found in another way.
        """
        truth = self._right(places, given)
        if self.degrees is not None:
            truth = facing(truth, places.database, places.queries, self.degrees)
        if self.leave_out == "own photo":
            truth = leave_one_out(truth, places.database, places.queries)
        elif self.leave_out == "same time":
            truth = without_same_time(truth, places.database, places.queries)
        elif self.leave_out == "window":
            truth = without_window(truth, self.window)
        if self.one_per is not None:
            groups = groups_of(places.database)
            if (groups < 0).any():
                groups = np.arange(truth.n_database) // self.one_per
            truth = truth.grouped(groups)
        if places.truth is not None and (measure := places.truth.description.get("measure")) is not None:
            truth.description["measure"] = measure
        return PlaceDataset(places.name, places.database, places.queries, truth, self.name)

    def unlike_published(self, n_database: int, n_queries: int) -> str:
        """Which counts are not those published, in words; empty where they agree or none are known."""
        differences = [
            f"{count:,} {what}, published {published:,}"
            for what, count, published in (
                ("database photos", n_database, self.n_database),
                ("queries", n_queries, self.n_queries),
            )
            if published is not None and count != published
        ]
        return "; ".join(differences)

    def _right(self, places: PlaceDataset, given: bool) -> Truth:
        database, queries = places.database, places.queries
        located = any(database.positions) and any(queries.positions)
        if self.frames is not None and not given:
            if self.every == 1 and (
                len(database) != len(queries) or numbers_agree(database, queries) is False
            ):
                return truth_frames_of(database, queries, FrameRule(self.frames))
            return truth_frames(len(database), len(queries), self.frames, every=self.every)
        if self.metres is not None and not given and located:
            return truth_positions(database, queries, self.metres)
        truth = places.truth
        if truth is None:
            raise InputError(
                f"{self.name} counts what lies {self.right}, but the photos' positions are not known: "
                "give them with --positions, or a truth file with --truth"
            )
        description = truth.description
        same = (
            description.get("kind") == "frames"
            and (description["tolerance"], description.get("every", 1)) == (self.frames, self.every)
            if self.frames is not None
            else description.get("kind") == "positions" and description["radius_m"] == self.metres
        )
        if not same or truth.ignored is not None or "degrees" in description:
            raise InputError(
                f"{self.name} counts what lies {self.right}; the truth given was found otherwise "
                f"({truth_text(description)}): leave --truth or --protocol out"
            )
        return truth.grouped(None)


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownNameError: there is none; near ones are listed.
    """
    if name not in PROTOCOLS:
        dataset = name.partition("@")[0]
        own = [known for known, entry in PROTOCOLS.items() if entry.dataset == dataset]
        raise UnknownNameError(
            "protocol", name, own or PROTOCOLS, note="all of them: dejavlad dataset protocols"
        )
    return PROTOCOLS[name]


_RELJA = "NetVLAD's recallAtN.m and dataset specs"
_PATCH = "Patch-NetVLAD's feature_match.py and truth files"
_VG = "deep-visual-geo-localization-benchmark and VPR-methods-evaluation"
_MSLS = "mapillary_sls's evaluate.py; VPR-datasets-downloader#18"
_NORDLAND = "VPR-datasets-downloader"
_BENCH = "VPR-Bench, GSV-Cities"


def _pitts(part: str, n_database: int, n_queries: int) -> Protocol:
    return Protocol(f"{part}@25m", part, _RELJA, metres=25, n_database=n_database, n_queries=n_queries)


def _at_names(name: str, n_database: int | None = None, n_queries: int | None = None) -> Protocol:
    return Protocol(f"{name}@25m", name, _VG, metres=25, n_database=n_database, n_queries=n_queries)


_TABLE = (
    _pitts("pitts30k-train", 10_000, 7_416),
    _pitts("pitts30k-val", 10_000, 7_608),
    _pitts("pitts30k-test", 10_000, 6_816),
    _pitts("pitts250k-train", 91_464, 7_824),
    _pitts("pitts250k-val", 78_648, 7_608),
    _pitts("pitts250k-test", 83_952, 8_280),
    *(
        Protocol(
            f"tokyotm-{part}@25m",
            f"tokyotm-{part}",
            "NetVLAD's dbTokyoTimeMachine.m",
            metres=25,
            leave_out="same time",
            n_database=n_database,
            n_queries=n_queries,
            note="every query is in the database too; photos of its own month are no answers",
        )
        for part, n_database, n_queries in (("train", 49_104, 7_277), ("val", 49_056, 7_186))
    ),
    Protocol(
        "tokyo247@relja",
        "tokyo247",
        "NetVLAD's dbTokyo247.m; netvlad#37",
        metres=25,
        one_per=12,
        resize="480x640",
        n_database=75_984,
        n_queries=315,
        note="the queries are scaled to 640x480 for the paper's figures, the database is that size",
    ),
    Protocol(
        "tokyo247@patch-netvlad",
        "tokyo247",
        _PATCH,
        metres=25,
        one_per=12,
        resize="480x640",
        n_database=75_984,
        n_queries=315,
        note="also keeps one cut-out a panorama, before re-ranking; every photo is squeezed to 640x480",
    ),
    Protocol(
        "tokyo247@vgbench",
        "tokyo247",
        _VG,
        metres=25,
        resize="none",
        n_database=75_984,
        n_queries=315,
        note="all twelve cut-outs of a panorama stay in the ranking; queries at their own size",
    ),
    Protocol(
        "msls-val@official-740",
        "msls-val",
        _MSLS,
        metres=25,
        misses="drop",
        n_database=18_871,
        n_queries=740,
        note="panoramas, and queries without a match, do not count (747 queries are loaded)",
    ),
    Protocol(
        "msls-val@official-40deg",
        "msls-val",
        "peers that also ask for the direction of view",
        metres=25,
        degrees=40,
        misses="drop",
        n_database=18_871,
        note="also asks for the same direction of view",
    ),
    Protocol(
        "msls-val@vgbench-11k",
        "msls-val-every",
        "VPR-datasets-downloader#18, #20; MixVPR#5",
        metres=25,
        n_database=18_871,
        note="all queries of the two cities (about 11 thousand: 6,595 + 4,525 before panoramas are dropped), "
        "those without a match as misses; same weights lose 2 to 5 points",
    ),
    Protocol(
        "nordland@10f-27592",
        "nordland",
        _NORDLAND + "; BoQ's Nordland**",
        frames=10,
        n_database=27_592,
        n_queries=27_592,
    ),
    Protocol(
        "nordland@7f-27592",
        "nordland",
        _PATCH,
        frames=7,
        resize="480x640",
        n_database=27_592,
        n_queries=27_592,
        note="its file has row i at (i, i) and 10, which is 7 frames",
    ),
    Protocol("nordland@2f-27592", "nordland", "peers", frames=2, n_database=27_592, n_queries=27_592),
    Protocol("nordland@1f-27592", "nordland", "peers", frames=1, n_database=27_592, n_queries=27_592),
    *(
        Protocol(
            f"nordland@{frames}f-2760",
            "nordland-2760",
            _BENCH + "; VPR-datasets-downloader#16; BoQ#4 (Nordland*)",
            frames=frames,
            every=10,
            n_database=27_592,
            n_queries=2_760,
            note="every tenth summer photo is sought among all of winter",
        )
        for frames in (1, 2)
    ),
    Protocol(
        "nordland@2f-3450",
        "nordland-3450",
        "SelaVPR#6 (the test part of unizar)",
        frames=2,
        n_database=3_450,
        n_queries=3_450,
    ),
    Protocol("gardens@2f", "gardens-point", _BENCH, frames=2, n_database=200, n_queries=200),
    Protocol("sped@0f", "sped", _BENCH + " (m)", frames=0, n_database=607, n_queries=607),
    Protocol("essex@0f", "essex3in1", _BENCH + " (m)", frames=0, n_database=210, n_queries=210),
    Protocol("corridor@2f", "corridor", "VPR-Bench", frames=2, n_database=111, n_queries=111),
    _at_names("st-lucia"),
    _at_names("eynsham"),
    _at_names("amstertime"),
    _at_names("san-francisco"),
    *(
        _at_names(f"svox-{part}")
        for part in ("train", "val", "test", "night", "overcast", "rain", "snow", "sun")
    ),
    *(_at_names(name) for name in ("sf-xl-val", "sf-xs-val", "sf-xs-test", "tokyo-xs")),
    *(
        Protocol(
            f"sf-xl-{part}@25m",
            f"sf-xl-{part}",
            "CosPlace; " + _VG + " (counts m)",
            metres=25,
            n_queries=queries,
            note="2.8 million database photos",
        )
        for part, queries in (("v1", 1_000), ("v2", 598), ("night", 466), ("occlusion", 76))
    ),
    Protocol(
        "kitti-00@250-5m",
        "kitti-00",
        "netvlad_tf_open's test_kitti.py",
        metres=5,
        leave_out="window",
        window=250,
        n_database=4_541,
        n_queries=4_541,
        note="the original measures precision and recall of loop closures: dejavlad loops",
    ),
    Protocol("town@25m", "town-test", "dejavlad dataset town", metres=25),
)

PROTOCOLS: dict[str, Protocol] = {entry.name: entry for entry in _TABLE}
"""Name of each known protocol -> the protocol."""
