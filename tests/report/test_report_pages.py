"""Pages: complete in one file, harmless whatever photos are called, small however many there are."""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.evaluation import Result, evaluate
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.ground_truth import PlaceDataset
from dejavlad.ground_truth.truth import Truth
from dejavlad.photo import Photo, PhotoList
from dejavlad.places import (
    Answer,
    Match,
    PlaceMap,
)
from dejavlad.ranking import Ranking
from dejavlad.report import write_demo_page, write_locate_page, write_page

View = Callable[..., NDArray[np.uint8]]

HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "\"><img src=http://example.com/x onerror='alert(2)'>.jpg",
    "two\nlines' onmouseover=alert(3) x='.jpg",
    "</style><style>*{background:url(http://example.com)}.jpg",
    "right‮to‬left\x00\x1b[31m.jpg",
    "not utf-8 \udcff.jpg",
    "&lt;b&gt; 東京/Straße.jpg",
]
VOID = {"meta", "link", "input", "br", "img"}


@dataclass
class Read(HTMLParser):
    """A page taken apart; a tag that is not closed where it should be fails at once."""

    text: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    inside: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "path", "circle", "polyline", "polygon") or self.open[-1] == tag:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        self.inside.setdefault(where, []).append(data)
        if where not in ("style", "script"):
            self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def classes(self, name: str) -> int:
        return sum(name in attributes.get("class", "").split() for _, attributes in self.tags)

    @property
    def prose(self) -> str:
        return " ".join(" ".join(self.words).replace("\xa0", " ").split())

    @property
    def states(self) -> list[str]:
        return [attributes["data-state"] for _, attributes in self.tags if "data-state" in attributes]


def read(path: Path) -> Read:
    """The page, found to be complete, closed to the outside, and well-formed."""
    page = Read(path.read_text(encoding="utf-8"))
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", "the policy forbids style attributes"
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert value.startswith(("#", "data:")), (tag, name, value)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in page.of("a"):
        assert attributes["href"].removeprefix("#") in ids
    for style in page.inside["style"]:
        assert "@import" not in style
        assert all(
            url.startswith("data:image/jpeg;base64,") for url in re.findall(r"url\(([^)]{0,40})", style)
        )
    check_policy(page)
    return page


def check_policy(page: Read) -> None:
    metas = [m for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert len(metas) == 1
    policy = dict(part.strip().split(" ", 1) for part in metas[0]["content"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert "unsafe" not in metas[0]["content"] and "http" not in metas[0]["content"]
    for tag in ("style", "script"):
        assert len(page.inside[tag]) == len(page.of(tag))
        allowed = policy[f"{tag}-src"].split()
        for text in page.inside[tag]:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in allowed


def dataset(
    n: int = 6,
    *,
    view: View,
    names: list[str] | None = None,
    positions: bool = True,
    without: int = 0,
) -> PlaceDataset:
    """n places along a street; query i shows place i, and the last `without` have no right answer."""
    names = names or [f"{i:02d}.jpg" for i in range(n)]
    street = np.stack([np.arange(n) * 30.0, np.zeros(n)], 1) + np.array([500_000, 6_000_000])
    return PlaceDataset.from_arrays(
        names,
        street if positions else None,
        names,
        street + np.array([3, 4]) if positions else None,
        zone="33N" if positions else None,
        images=[view(i, height=24, width=32) for i in range(n)],
        query_images=[view(i, 3, height=24, width=32) for i in range(n)],
        truth=Truth([[i] if i < n - without else [] for i in range(n)], n, {"kind": "made"}),
        name="a <b>street</b>",
    )


def ranking(places: PlaceDataset, *, wrong: tuple[int, ...] = (), depth: int | None = None) -> Ranking:
    """Query i finds place i first; the `wrong` ones find it last."""
    n = len(places.database)
    rows = [np.roll(np.arange(n), -i - (1 if i in wrong else 0)) for i in range(len(places.queries))]
    indices = np.stack(rows)[:, :depth]
    distances = np.broadcast_to(np.linspace(0.2, 1.2, indices.shape[1], dtype=np.float32), indices.shape)
    return Ranking(indices, distances)


def scored(places: PlaceDataset, ranked: Ranking, **options: Any) -> Result:
    assert places.truth is not None
    ns = [n for n in (1, 5, 10) if n <= ranked.depth]
    return evaluate(ranked, places.truth, recall_at=ns, model={"name": "rootsift-vlad", "dims": 8}, **options)


def test_tells_failures_first_with_distance_and_error(tmp_path: Path, make_view: View) -> None:
    places = dataset(8, view=make_view, without=1)
    ranked = ranking(places, wrong=(2, 5), depth=7)
    result = scored(places, ranked, seconds={"describe": 75.2})
    page = read(write_page(result, ranked, places, tmp_path, command="dejavlad evaluate <x> && rm -rf 'y'"))
    assert (tmp_path / "index.html").exists()
    assert page.states == ["wrong"] * 2 + ["right"] * 5 + ["none"]
    assert page.classes("good") > 5
    assert page.classes("missed") == 2  # the right answer of a query that never found it
    for words in (
        "recall@1 62.5 %",
        "No right answer among the first 7",
        "distance 0.200",
        "5.0 m away",
        "dejavlad evaluate <x> && rm -rf 'y'",
        "1 min 15 s",
        "a <b>street</b>",
        "1 query (counted as misses)",
    ):
        assert words in page.prose.replace("62.5 % recall@1", "recall@1 62.5 %"), words
    assert len(page.of("circle")) > 8  # each query on the map, and the knots of the curve
    assert "all 8" in page.prose.lower()


@pytest.mark.parametrize("truth", [True, False])
def test_hostile_names_are_harmless(tmp_path: Path, make_view: View, truth: bool) -> None:
    places = dataset(len(HOSTILE), view=make_view, names=HOSTILE)
    ranked = ranking(places, wrong=(0, 1))
    result = scored(places, ranked) if truth else None
    path = write_page(result, ranked, places, tmp_path / "p.html", command=HOSTILE[0], title=HOSTILE[1])
    page = read(path)
    assert len(page.of("script")) == 1
    assert not page.of("img") and len(page.of("style")) == 2
    assert "<script>alert(1)</script>.jpg" in page.prose
    assert "東京/Straße.jpg" in page.prose
    text = path.read_text(encoding="utf-8")
    assert "\x00" not in text and "‮" not in text and "\x1b" not in text


def test_same_input_gives_the_same_bytes(tmp_path: Path, make_view: View) -> None:
    def once(name: str) -> bytes:
        places = dataset(6, view=make_view)
        ranked = ranking(places, wrong=(1,))
        return write_page(scored(places, ranked), ranked, places, tmp_path / name).read_bytes()

    assert once("a.html") == once("b.html")


def test_without_truth_there_is_the_gallery_alone(tmp_path: Path, make_view: View) -> None:
    places = dataset(5, view=make_view, positions=False)
    places = PlaceDataset("open", places.database, places.queries)
    page = read(write_page(None, ranking(places), places, tmp_path / "p.html"))
    assert page.states == ["open"] * 5
    assert not page.classes("curve") and not page.classes("m-db")
    assert "Without truth there is no recall" in page.prose
    assert page.classes("good") == 0


def test_no_queries_and_one_query(tmp_path: Path, make_view: View) -> None:
    places = dataset(4, view=make_view)
    none = PlaceDataset("none", places.database, places.queries[:0])
    empty = Ranking(np.empty((0, 3), np.int64), np.empty((0, 3), np.float32))
    assert "no queries" in read(write_page(None, empty, none, tmp_path / "0.html")).prose
    single = PlaceDataset("one", places.database, places.queries[:1], Truth([[0]], 4, {}))
    ranked = Ranking(np.array([[0, -1]]), np.array([[0.1, np.inf]], np.float32))
    page = read(write_page(scored(single, ranked.top(1)), ranked, single, tmp_path / "1.html"))
    assert page.states == ["right"]


def test_a_ranking_that_holds_nothing(tmp_path: Path, make_view: View) -> None:
    places = dataset(3, view=make_view)
    ranked = Ranking(np.full((3, 2), -1), np.full((3, 2), np.inf, np.float32))
    page = read(write_page(scored(places, ranked), ranked, places, tmp_path / "p.html"))
    assert page.states == ["wrong"] * 3
    deep_zero = Ranking(np.empty((3, 0), np.int64), np.empty((3, 0), np.float32))
    read(write_page(None, deep_zero, places, tmp_path / "q.html"))


def test_some_positions_missing_and_other_zones(tmp_path: Path, make_view: View) -> None:
    view = make_view(0, height=8, width=8)
    where = [
        utm_from_latlon(55.7, 11.9999),
        utm_from_latlon(55.7, 12.0001),
        None,
        Position(float("nan"), 0.0, "32N"),
        utm_from_latlon(-33.9, 151.2),
    ]
    photos = PhotoList([Photo(f"{i}", Path(f"{i}"), position=at, pixels=view) for i, at in enumerate(where)])
    places = PlaceDataset("zones", photos[:2], photos, Truth([[0]] * 5, 2, {}))
    ranked = Ranking(np.ones((5, 1), np.int64), np.zeros((5, 1), np.float32))
    page = read(write_page(scored(places, ranked), ranked, places, tmp_path / "p.html"))
    assert page.classes("m-db") == 1
    assert "without a position" in page.prose
    for attributes in page.of("circle") + page.of("path"):
        assert "nan" not in " ".join(attributes.values())


def test_photos_that_cannot_be_read_leave_a_placeholder(tmp_path: Path, make_view: View) -> None:
    (tmp_path / "fake.jpg").write_bytes(b"no picture")
    good = Photo("good", Path("good"), pixels=make_view(1, height=9, width=200))
    photos = PhotoList(
        [Photo("gone.jpg", tmp_path / "gone.jpg"), Photo("fake.jpg", tmp_path / "fake.jpg"), good]
    )
    places = PlaceDataset("broken", photos, photos)
    page = read(write_page(None, ranking(places), places, tmp_path / "p.html"))
    assert page.classes("none") >= 6
    assert len(page.states) == 3


def test_each_photo_lies_in_the_page_once(tmp_path: Path, make_view: View) -> None:
    places = dataset(6, view=make_view)
    text = write_page(None, ranking(places), places, tmp_path / "p.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 12  # 6 of the database and 6 queries, shown 36 times
    assert text.count('class="shot') == 6 + 6 * 5


@pytest.mark.slow
def test_stays_small_with_many_queries(tmp_path: Path) -> None:
    n = 5000
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (n + 240, 320, 3), dtype=np.uint8)
    names = [f"{'long name ' * 20}{i}.jpg" for i in range(n)]
    where = rng.uniform(0, 3000, (n, 2))
    photos = PhotoList.from_arrays([noise[i : i + 240] for i in range(n)], names)
    database = PhotoList(
        Photo(p.name, p.path, position=Position(*at), pixels=p.pixels)
        for p, at in zip(photos, where.tolist(), strict=True)
    )
    places = PlaceDataset("many", database, database, Truth([[i] for i in range(n)], n, {}))
    indices = rng.integers(0, n, (n, 10))
    indices[::3, 0] = np.arange(n)[::3]
    distances = np.broadcast_to(np.linspace(0, 1, 10, dtype=np.float32), (n, 10))
    ranked = Ranking(indices, distances)
    command = "dejavlad evaluate " + "x" * 10_000_000
    path = write_page(scored(places, ranked), ranked, places, tmp_path / "p.html", command=command)
    page = read(path)
    assert 8_000_000 < path.stat().st_size < 20_000_000
    assert 20 < len(page.states) < 200
    assert {"wrong", "right"} == set(page.states)
    assert "of 5,000 queries" in page.prose


def test_the_budget_ends_the_gallery(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = list(rng.integers(0, 256, (40, 120, 160, 3), dtype=np.uint8))
    photos = PhotoList.from_arrays(noise)
    places = PlaceDataset("noise", photos, photos)
    path = write_page(None, ranking(places), places, tmp_path / "p.html", budget=200_000)
    page = read(path)
    assert 0 < len(page.states) < 40
    assert path.stat().st_size < 400_000
    assert f"it shows {len(page.states)} of 40 queries" in page.prose


def test_refuses_a_ranking_of_other_photos(tmp_path: Path, make_view: View) -> None:
    places = dataset(4, view=make_view)
    with pytest.raises(InputError, match="ranking is of 3 queries"):
        write_page(None, Ranking(np.zeros((3, 1)), np.zeros((3, 1))), places, tmp_path / "p.html")
    with pytest.raises(InputError, match="rows up to 4"):
        write_page(None, Ranking(np.full((4, 1), 4), np.zeros((4, 1))), places, tmp_path / "p.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left_out", ["ignored", "groups"])
def test_ranks_are_those_of_the_result_where_answers_do_not_count(
    tmp_path: Path, make_view: View, left_out: str
) -> None:
    """Of one query: rows 1 and 2 are of one group, or row 2 is ignored; row 3 is right, at rank 3, not 4."""
    places = dataset(6, view=make_view)
    ignored, groups = ([[2]], None) if left_out == "ignored" else (None, [0, 1, 1, 3, 4, 5])
    truth = Truth([[3]], 6, {"kind": "made"}, ignored, None if groups is None else np.array(groups))
    places = replace(places, queries=places.queries.take([3]), truth=truth)
    ranked = Ranking([[0, 1, 2, 3, 4, 5]], np.linspace(0.1, 0.6, 6, dtype=np.float32)[None])
    result = evaluate(ranked, truth, recall_at=[1, 3])
    assert result.hits_at is not None and result.hits_at.tolist() == [3]
    text = write_page(result, ranked, places, tmp_path / "p.html").read_text(encoding="utf-8")
    assert "3 ✓" in text and "4 ✓" not in text and "02.jpg" not in text.split('id="queries"')[1]


def test_dimensions_and_dropped_misses_are_told(tmp_path: Path, make_view: View) -> None:
    places = dataset(8, view=make_view, without=2)
    ranked = ranking(places)
    plain = scored(places, ranked, misses="drop")
    result = Result.load(plain.save(tmp_path / "r.json"))
    object.__setattr__(result, "dims", {4: {1: 0.5}, 8: {1: 1.0}})
    page = read(write_page(result, ranked, places, tmp_path / "p.html"))
    assert "(left out)" in page.prose and "4 dims 50.0 %" in page.prose
    knots = [t for t in page.inside["title"] if t.startswith("recall@")]
    assert knots[0].replace("\xa0", " ") == "recall@1: 100.0 %"


def town_of(places: PlaceDataset) -> PlaceMap:
    """What pages ask of a map, without the making of one."""
    preprocess = SimpleNamespace(rotate=True)
    model = SimpleNamespace(name="rootsift-vlad <i>", descriptor_size=8, preprocess=preprocess)
    town = SimpleNamespace(photos=places.database, model=model, failed={}, folder=Path("town <map>"))
    return cast(PlaceMap, town)


def answers_of(places: PlaceDataset, folder: Path, make_photo: Callable[..., Path]) -> list[Answer]:
    """One known, one unknown and one that failed."""
    matches = tuple(
        Match(p.key, p.path, 0.5 + i / 10, 0.8 - i / 10, p.position)
        for i, p in enumerate(places.database[:3])
    )
    pixels = places.queries[0].pixels
    path = make_photo(folder / "located.png", pixels)
    return [
        Answer(HOSTILE[0], path, matches, 0.93, True),
        Answer("elsewhere.png", path, matches, 0.04, False),
        Answer(HOSTILE[1], folder / "gone", (), 0.0, False, failed="it is <damaged>"),
    ]


@pytest.mark.parametrize("positions", [True, False])
def test_located_photos(
    tmp_path: Path, make_view: View, make_photo: Callable[..., Path], positions: bool
) -> None:
    places = dataset(5, view=make_view, positions=positions)
    answers = answers_of(places, tmp_path, make_photo)
    path = write_locate_page(
        answers, town_of(places), tmp_path / "out" / "index.html", command="dejavlad locate x"
    )
    page = read(path)
    assert page.states == ["known", "unknown"]
    for words in ("Known place", "Not a place of this map", "93 %", "it is <damaged>", "dejavlad locate x"):
        assert words in page.prose
    assert page.classes("m-ask") == (1 if positions else 0)
    assert ("54.14" in page.prose) == positions
    assert "rootsift-vlad <i>" in page.prose and "town <map>" in page.prose


def test_located_arrays_are_shown(tmp_path: Path, make_view: View) -> None:
    places = dataset(3, view=make_view)
    answers = [Answer(photo.key, photo.path, (), 0.2, False) for photo in places.queries]
    blind = read(write_locate_page(answers, town_of(places), tmp_path / "p.html"))
    seeing = read(write_locate_page(answers, town_of(places), tmp_path / "q.html", photos=places.queries))
    assert blind.prose.count("no picture") == 3 and "no picture" not in seeing.prose
    with pytest.raises(InputError, match="other photos"):
        write_locate_page(answers, town_of(places), tmp_path / "r.html", photos=places.queries[:2])


def test_a_located_photo_says_why_and_how_exactly(tmp_path: Path, make_view: View) -> None:
    places = dataset(3, view=make_view)
    photo = places.database[1]
    match = Match(photo.key, Path("x"), 0.1, 0.995, photo.position, 31)
    answer = Answer("q.jpg", tmp_path / "q.jpg", (match,), 0.9, True, reason="31 points agree with 1.jpg")
    answer = replace(answer, uncertainty_m=8.0)
    page = read(write_locate_page([answer], town_of(places), tmp_path / "p.html"))
    for words in ("within about 8 m", "31 points agree with 1.jpg.", "31 points", "score 0.995"):
        assert words in page.prose
    assert f"{photo.key}  31 points, score 0.995  54." in str(answer) and "within about 8 m" in str(answer)


def test_nothing_located(tmp_path: Path, make_view: View) -> None:
    places = dataset(3, view=make_view)
    assert "0 photos looked up" in read(write_locate_page([], town_of(places), tmp_path / "p.html")).prose


def test_many_located_photos_stay_within_the_budget(tmp_path: Path, make_view: View) -> None:
    places = dataset(4, view=make_view)
    match = Match(places.database[0].key, Path("x"), 0.1, 0.9, places.database[0].position)
    answers = [Answer(f"{i}.jpg", tmp_path / f"{i}.jpg", (match,), 0.9, True) for i in range(3000)]
    path = write_locate_page(answers, town_of(places), tmp_path / "p.html", most_photos=50)
    assert len(read(path).states) == 50
    assert "it shows 50 of 3,000 photos" in read(path).prose
    assert path.stat().st_size < 2_000_000


def test_the_demo_tells_the_whole_story(
    tmp_path: Path, make_view: View, make_photo: Callable[..., Path]
) -> None:
    places = dataset(6, view=make_view)
    ranked = ranking(places, wrong=(1,))
    path = write_demo_page(
        tmp_path / "demo.html",
        places=places,
        answers=answers_of(places, tmp_path, make_photo),
        town=town_of(places),
        result=scored(places, ranked),
        ranking=ranked,
        command="dejavlad demo",
    )
    page = read(path)
    headings = [" ".join(words.split()) for words in page.inside["h2"]]
    assert headings[:2] == ["A town", "Its map"]
    assert headings.index("Photos and their places") < headings.index("Recall") < headings.index("Numbers")
    assert page.states.count("wrong") == 1 and page.states.count("known") == 1
    assert page.prose.count("streets that this map does not hold") == 2


def test_the_demo_tells_where_a_photo_was_taken(tmp_path: Path, make_view: View) -> None:
    places = dataset(4, view=make_view)
    ranked = ranking(places)
    photo, best = places.queries[2], places.database[1]
    match = Match(best.key, best.path, 0.5, 0.8, best.position)
    path = write_demo_page(
        tmp_path / "demo.html",
        places=places,
        answers=[Answer(photo.key, photo.path, (match,), 0.9, True)],
        town=town_of(places),
        result=scored(places, ranked),
        ranking=ranked,
    )
    assert "streets of this map, 33 m from its best match" in read(path).prose
