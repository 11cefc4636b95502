"""One card for each named dataset: a new dataset is an opener in a file of its own, and a card here.

The tables in ``docs/datasets.md`` and ``docs/protocols.md`` are made of these cards
(``python tools/dataset_tables.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from dejavlad.datasets.card import Card, Opener, Page, Published, Way, way
from dejavlad.datasets.layouts.gsv_cities import open_gsv_cities
from dejavlad.datasets.layouts.holidays import open_holidays
from dejavlad.datasets.layouts.kitti import FRAMES, SEQUENCES, open_kitti
from dejavlad.datasets.layouts.msls import CITIES, EVERY, SUBTASKS, TASKS, open_msls
from dejavlad.datasets.layouts.netvlad_places import (
    LIGHTS,
    PITTSBURGH,
    TOKYO_247,
    TOKYO_TIME_MACHINE,
    open_named_spec,
    open_tiny,
)
from dejavlad.datasets.layouts.nordland import open_nordland
from dejavlad.datasets.layouts.oxford import open_oxford
from dejavlad.datasets.layouts.revisited import open_revisited
from dejavlad.datasets.layouts.two_folders import open_folders
from dejavlad.datasets.layouts.vg_benchmark import PARTS, open_vg_benchmark
from dejavlad.datasets.layouts.vpr_bench import Walk, open_numbered, open_vpr_bench
from dejavlad.ground_truth.place import PlaceDataset

# Who counted.
SPEC = "NetVLAD's dataset spec"
LISTS = "Patch-NetVLAD's lists"
BENCH = "VPR-Bench"
QUOTED = "quoted in papers"
WALKING = "Gardens Point Walking"

# Who measures so.
RELJA = "NetVLAD's recallAtN.m and dataset specs"
PATCH = "Patch-NetVLAD's feature_match.py and truth files"
VG = "deep-visual-geo-localization-benchmark and VPR-methods-evaluation"
SLS = "mapillary_sls's evaluate.py; VPR-datasets-downloader#18"
NUMBERED = "VPR-Bench, GSV-Cities"

PITTSBURGH_PAGE = Page(
    "pittsburgh",
    'the photos from the authors of "Visual Place Recognition with Repetitive Structures" (Torii et al.), on '
    "request; the specs from NetVLAD's project page",
)
TOKYO_PAGE = Page(
    "tokyo247",
    'from the authors of "24/7 Place Recognition by View Synthesis" (Torii et al.), on request; the spec '
    "from NetVLAD's project page",
)
TIME_MACHINE_PAGE = Page("tokyotm", "from the authors of NetVLAD, on request; the spec from the project page")
MSLS_PAGE = Page("msls", "Mapillary's dataset page, after logging in")
NORDLAND_PAGE = Page(
    "nordland",
    "the frames and `cleanImageNames.txt` by the links in Patch-NetVLAD's README; the third, the partitioned "
    "one, from the University of Zaragoza",
)
BENCH_PAGE = Page(
    "vpr-bench",
    "by the links in VPR-Bench's README; Gardens Point also from Zenodo, 10.5281/zenodo.4590133",
    "the code is MIT; of the datasets each asks to be cited, otherwise see the publisher",
)
VG_PAGE = Page(
    "vg-benchmark",
    "the VPR datasets downloader formats most of them, and it moves the files it is given: keep a copy. "
    "SF-XL: the form on CosPlace's page",
    "see each publisher; street view photos are under Google's terms",
)
GSV_PAGE = Page(
    "gsv-cities",
    "by the links in the README of amaralibey/gsv-cities",
    "see the publisher; the photos are street views under Google's terms",
)
OXFORD_PAGE = Page(
    "oxford",
    "Visual Geometry Group, Oxford: the archives of photos, and of ground truth",
    "see the publisher; the photos are Flickr's",
)
REVISITED_PAGE = Page(
    "revisited", "the photos as above, the truth from filipradenovic/revisitop", "see the publishers"
)
HOLIDAYS_PAGE = Page(
    "holidays",
    "INRIA's page (`jpg1.tar.gz`, `jpg2.tar.gz`); the rotated form from the authors of "
    '"Neural Codes for Image Retrieval"',
    "see the publishers",
)
KITTI_PAGE = Page("kitti", "the KITTI page, after logging in", "CC BY-NC-SA 3.0")
OWN_PAGE = Page("own")
PITTSBURGH_COUNTS = (
    ("pitts30k-train", 10_000, 7_416, 1_017_792),
    ("pitts30k-val", 10_000, 7_608, 1_065_600),
    ("pitts30k-test", 10_000, 6_816, 968_448),
    ("pitts250k-train", 91_464, 7_824, 1_093_824),
    ("pitts250k-val", 78_648, 7_608, 1_065_600),
    ("pitts250k-test", 83_952, 8_280, 1_271_808),
)
"""Of each part its photos, its queries and their right answers."""
GSV_COUNTS = Published(None, None, "GSV-Cities: about 530,000 photos of 62,000 places", sure=False)


def _by(opener: Callable[..., PlaceDataset], *given: Any, **options: Any) -> Opener:
    """An opener of one of several datasets: what it takes beside the folder and the name."""
    return lambda path, name: opener(path, *given, name=name, **options)


def _pittsburgh() -> Iterator[Card]:
    for part, database, queries, positives in PITTSBURGH_COUNTS:
        counts = Published(database, queries, SPEC, positives)
        opener = _by(open_named_spec, part.replace("-", "_"), PITTSBURGH)
        yield Card(part, opener, PITTSBURGH_PAGE, counts, (way(f"{part}@25m", RELJA, metres=25),))


def _tokyo() -> Iterator[Card]:
    for part, database, queries, positives in (
        ("train", 49_104, 7_277, 1_580_184),
        ("val", 49_056, 7_186, 1_239_660),
    ):
        yield Card(
            f"tokyotm-{part}",
            _by(open_named_spec, f"tokyoTM_{part}", TOKYO_TIME_MACHINE),
            TIME_MACHINE_PAGE,
            Published(database, queries, SPEC, positives),
            (
                way(
                    f"tokyotm-{part}@25m",
                    "NetVLAD's dbTokyoTimeMachine.m",
                    metres=25,
                    leave_out="same time",
                    note="every query is in the database too; photos of its own month are no answers",
                ),
            ),
        )
    for part in ("train", "val"):
        opener = _by(open_tiny, f"tokyoTM_{part}")
        yield Card(f"tokyotm-tiny-{part}", opener, TIME_MACHINE_PAGE, Published(120, 60, SPEC))
    yield Card(
        "tokyo247",
        _by(open_named_spec, "tokyo247", TOKYO_247),
        TOKYO_PAGE,
        Published(75_984, 315, SPEC, 37_260),
        (
            way(
                "tokyo247@relja",
                "NetVLAD's dbTokyo247.m; netvlad#37",
                metres=25,
                one_per=12,
                resize="480x640",
                note="the queries are scaled to 640x480 for the paper's figures, the database is that size",
            ),
            way(
                "tokyo247@patch-netvlad",
                PATCH,
                metres=25,
                one_per=12,
                resize="480x640",
                note="also keeps one cut-out a panorama, before re-ranking; every photo is squeezed to "
                "640x480",
            ),
            way(
                "tokyo247@vgbench",
                VG,
                metres=25,
                resize="none",
                note="all twelve cut-outs of a panorama stay in the ranking; queries at their own size",
            ),
        ),
    )
    for light in LIGHTS:
        counts = Published(75_984, 105, SPEC, 12_420)
        yield Card(
            f"tokyo247-{light}", _by(open_named_spec, "tokyo247", TOKYO_247, light), TOKYO_PAGE, counts
        )


def _msls() -> Iterator[Card]:
    official = (
        way(
            "msls-val@official-740",
            SLS,
            metres=25,
            misses="drop",
            note="panoramas, and queries without a match, do not count (747 queries are loaded)",
        ),
        way(
            "msls-val@official-40deg",
            "peers that also ask for the direction of view",
            metres=25,
            degrees=40,
            misses="drop",
            counts=("n_database",),
            note="also asks for the same direction of view",
        ),
    )
    every = (
        way(
            "msls-val@vgbench-11k",
            "VPR-datasets-downloader#18, #20; MixVPR#5",
            metres=25,
            counts=("n_database",),
            note="all queries of the two cities (about 11 thousand: 6,595 + 4,525 before panoramas are "
            "dropped), those without a match as misses; same weights lose 2 to 5 points",
        ),
    )
    yield Card("msls-val", _of_msls("val"), MSLS_PAGE, Published(18_871, 740, LISTS), official)
    yield Card("msls-cph", _of_msls("cph"), MSLS_PAGE, Published(12_556, 498, LISTS))
    yield Card("msls-sf", _of_msls("sf"), MSLS_PAGE, Published(6_315, 242, LISTS))
    counts = Published(18_871, 11_084, QUOTED, sure=False)
    yield Card(f"msls-val-{EVERY}", _of_msls("val", EVERY), MSLS_PAGE, counts, every)
    yield Card("msls-train", _of_msls("train"), MSLS_PAGE)
    yield Card("msls-test", _of_msls("test"), MSLS_PAGE)
    yield Card(f"msls-test-{EVERY}", _of_msls("test", EVERY), MSLS_PAGE, shown=False)
    for city in (*CITIES["train"], *CITIES["test"]):
        yield Card(f"msls-{city}", _of_msls(city), MSLS_PAGE, shown=False)
    for part in ("val", "test"):
        for subtask in SUBTASKS[1:-1]:
            yield Card(f"msls-{part}-{subtask}", _of_msls(part, subtask), MSLS_PAGE, shown=False)
        for task in TASKS[1:]:
            yield Card(f"msls-{part}-{task}", _of_msls(part, task=task), MSLS_PAGE, shown=False)


def _of_msls(cities: str, subtask: str = "all", task: str = "im2im") -> Opener:
    every = subtask == EVERY
    return lambda path, name: open_msls(path, cities, subtask=subtask, task=task, unmatched=every, name=name)


def _nordland() -> Iterator[Card]:
    yield Card(
        "nordland",
        open_nordland,
        NORDLAND_PAGE,
        Published(27_592, 27_592, LISTS, 27_592 * 21 - 110),
        (
            way("nordland@10f-27592", "VPR-datasets-downloader; BoQ's Nordland**", frames=10),
            way(
                "nordland@7f-27592",
                PATCH,
                frames=7,
                resize="480x640",
                note="its file has row i at (i, i) and 10, which is 7 frames",
            ),
            way("nordland@2f-27592", "peers", frames=2),
            way("nordland@1f-27592", "peers", frames=1),
        ),
        "winter is sought among summer, within 10 frames",
    )
    yield Card(
        "nordland-2760",
        _nordland_2760,
        NORDLAND_PAGE,
        Published(27_592, 2_760, LISTS, 2_760 * 3 - 1),
        tuple(
            way(
                f"nordland@{frames}f-2760",
                NUMBERED + "; VPR-datasets-downloader#16; BoQ#4 (Nordland*)",
                frames=frames,
                every=10,
                note="every tenth summer photo is sought among all of winter",
            )
            for frames in (1, 2)
        ),
        "every tenth photo of summer is sought among winter, within 1 frame",
    )
    yield Card(
        "nordland-3450",
        partial(open_nordland, frames=2, part="test"),
        NORDLAND_PAGE,
        Published(3_450, 3_450, QUOTED, sure=False),
        (way("nordland@2f-3450", "SelaVPR#6 (the test part of unizar)", frames=2),),
        "winter is sought among summer, within 2 frames",
    )


def _nordland_2760(path: Path, name: str) -> PlaceDataset:
    if (path / "ref").is_dir() and (path / "query").is_dir():  # as VPR-Bench lays it out
        return open_numbered(path, "ref", "query", name=name)
    return open_nordland(path, name, database="winter", queries="summer", every=10, frames=1)


def _vpr_bench() -> Iterator[Card]:
    quoted, numbered = f"{BENCH}, {QUOTED}", NUMBERED + " (m)"
    by_day, by_night = ("day_left", "day_right"), ("day_right", "night_right")
    sets: dict[str, tuple[Walk, Published | None, tuple[Way, ...]]] = {
        "gardens-point": (
            Walk("GardensPointWalking", 2, by_day),
            Published(200, 200, WALKING),
            (way("gardens@2f", NUMBERED, frames=2),),
        ),
        "gardens-point-night": (Walk("GardensPoint_TN", 2, by_night), Published(200, 200, WALKING), ()),
        "sped": (
            Walk("SPEDTEST", 0),
            Published(607, 607, quoted, sure=False),
            (way("sped@0f", numbered, frames=0),),
        ),
        "essex3in1": (
            Walk("ESSEX3IN1_dataset", 0),
            Published(210, 210, quoted, sure=False),
            (way("essex@0f", numbered, frames=0),),
        ),
        "corridor": (
            Walk("corridor", 2),
            Published(111, 111, BENCH, 111 * 5 - 6),
            (way("corridor@2f", BENCH, frames=2),),
        ),
        "living-room": (Walk("Living"), None, ()),
        "17places": (Walk("17places"), None, ()),
        "cross-seasons": (Walk("CrossSeason_CoHOG_Dataset"), None, ()),
        "synthia": (Walk("Synthia-NightToFall"), None, ()),
    }
    for name, (walk, counts, ways) in sets.items():
        near = {None: "", 0: ", else the same number"}.get(walk.frames, f", else within {walk.frames} frames")
        note = f"folder `{walk.folder}`; right is what its file lists{near}"
        yield Card(name, _by(open_vpr_bench, walk), BENCH_PAGE, counts, ways, note)


def _vg_benchmark() -> Iterator[Card]:
    panoramas = "VPR datasets downloader: 4,787 panoramas of 5; " + QUOTED
    test = ("test", "queries")
    skies = {"night": 823, "overcast": 872, "rain": 937, "snow": 870, "sun": 854}
    sets: dict[str, tuple[tuple[str, str], Published | None]] = {
        "st-lucia": (test, Published(1_549, 1_464, QUOTED, sure=False)),
        "eynsham": (test, Published(23_935, 23_935, panoramas, sure=False)),
        "amstertime": (test, Published(1_231, 1_231, QUOTED, sure=False)),
        "san-francisco": (test, Published(1_046_587, 598, QUOTED, sure=False)),
        **{f"svox-{part}": ((part, "queries"), None) for part in PARTS},
        **{
            f"svox-{sky}": (("test", f"queries_{sky}"), Published(17_166, queries, QUOTED, sure=False))
            for sky, queries in skies.items()
        },
        "sf-xl-val": (("val", "queries"), Published(8_015, 7_993, QUOTED, sure=False)),
        "sf-xs-val": (("small/val", "queries"), None),
        "sf-xs-test": (("small/test", "queries_v1"), None),
        "tokyo-xs": (test, None),
    }
    for name, (folders, counts) in sets.items():
        own = way(f"{name}@25m", VG, metres=25, counts=())
        yield Card(name, _by(open_vg_benchmark, *folders), VG_PAGE, counts, (own,))
    for which, queries in (("v1", 1_000), ("v2", 598), ("night", 466), ("occlusion", 76)):
        own = way(
            f"sf-xl-{which}@25m",
            "CosPlace; " + VG + " (counts m)",
            metres=25,
            counts=("n_queries",),
            note="2.8 million database photos",
        )
        counts = Published(2_805_840, queries, QUOTED, sure=False)
        opener = _by(open_vg_benchmark, "test", f"queries_{which}")
        yield Card(f"sf-xl-{which}", opener, VG_PAGE, counts, (own,))
    for name, database, queries, _ in PITTSBURGH_COUNTS:
        opener = _by(open_vg_benchmark, name.rpartition("-")[2], "queries")
        yield Card(f"vg-{name}", opener, VG_PAGE, Published(database, queries, SPEC))
    for name, part, counts in (
        ("tokyo247", "test", Published(75_984, 315, SPEC)),
        ("nordland", "test", Published(27_592, 27_592, LISTS)),
        ("nordland-2760", "test", Published(27_592, 2_760, LISTS)),
        ("msls-train", "train", None),
        ("msls-val", "val", Published(18_871, 11_084, QUOTED, sure=False)),
        ("sped", "test", Published(607, 607, QUOTED, sure=False)),
    ):
        yield Card(f"vg-{name}", _by(open_vg_benchmark, part, "queries"), VG_PAGE, counts)


def _retrieval() -> Iterator[Card]:
    for name, n in (("oxford5k", 5_063), ("paris6k", 6_392)):
        counts = Published(n, 55, "NetVLAD's dbVGG.m")
        yield Card(name, partial(open_oxford, crop=True), OXFORD_PAGE, counts)
        yield Card(f"{name}-whole", partial(open_oxford, crop=False), OXFORD_PAGE, counts)
    for which, n, right in (
        ("roxford5k", 4_993, {"easy": 3_029, "medium": 5_526, "hard": 2_497}),
        ("rparis6k", 6_322, {"easy": 6_874, "medium": 17_224, "hard": 10_350}),
    ):
        for difficulty, positives in right.items():
            counts = Published(n, 70, f"gnd_{which}.pkl", positives)
            yield Card(
                f"{which}-{difficulty}", _by(open_revisited, which, difficulty), REVISITED_PAGE, counts
            )
    counts = Published(1_491, 500, "NetVLAD's dbHolidays.m", 991)
    yield Card("holidays", open_holidays, HOLIDAYS_PAGE, counts)
    yield Card("holidays-rotated", partial(open_holidays, rotated=True), HOLIDAYS_PAGE, counts)


def _kitti() -> Iterator[Card]:
    loops = way(
        "kitti-00@250-5m",
        "netvlad_tf_open's test_kitti.py",
        metres=5,
        leave_out="window",
        window=250,
        note="the original measures precision and recall of loop closures: dejavlad loops",
    )
    for sequence in SEQUENCES:
        n = FRAMES.get(sequence)
        counts = None if n is None else Published(n, n, "KITTI's poses", sure=sequence == "00")
        yield Card(
            f"kitti-{sequence}",
            _by(open_kitti, sequence),
            KITTI_PAGE,
            counts,
            (loops,) if sequence == "00" else (),
        )


def _own() -> Iterator[Card]:
    for part in PARTS:
        ways = (way("town@25m", "dejavlad dataset town", metres=25),) if part == "test" else ()
        yield Card(f"town-{part}", _town(part), OWN_PAGE, None, ways)
    yield Card("folders", open_folders, OWN_PAGE)


def _town(part: str) -> Opener:
    return lambda path, name: open_folders(path / part, name)


CARDS: dict[str, Card] = {
    card.name: card
    for cards in (
        _pittsburgh(),
        _tokyo(),
        _msls(),
        _nordland(),
        _vpr_bench(),
        _vg_benchmark(),
        [Card("gsv-cities", open_gsv_cities, GSV_PAGE, GSV_COUNTS)],
        _retrieval(),
        _kitti(),
        _own(),
    )
    for card in cards
}
"""Name -> card, in the order in which they are listed."""
PUBLISHED = {card.name: card.counts for card in CARDS.values() if card.counts is not None}
"""Name -> how many photos the dataset holds, for those of which it is known."""
