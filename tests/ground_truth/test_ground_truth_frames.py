"""``frames:N`` compares frames, not rows: a list that lost a photo, begins later, or tells no numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dejavlad.datasets import open_dataset
from dejavlad.errors import InputError
from dejavlad.evaluation import evaluate
from dejavlad.evaluation.protocols import protocol
from dejavlad.ground_truth import (
    PlaceDataset,
    Truth,
    TruthPositions,
    parse_truth,
    truth_frames,
    truth_text,
)
from dejavlad.ground_truth.frames import (
    FrameRule,
    frames_of,
    number_gaps,
    numbers_agree,
    sequence_numbers,
)
from dejavlad.ground_truth.truth import truth_frames_of
from dejavlad.photo import Photo, PhotoList
from dejavlad.ranking import Ranking


def listing(*names: str) -> PhotoList:
    return PhotoList(Photo(name, Path(name)) for name in names)


def numbered(numbers: range | list[int], form: str = "{:03d}.jpg") -> PhotoList:
    return listing(*(form.format(number) for number in numbers))


def lists(truth: Truth) -> list[list[int]]:
    return [rows.tolist() for rows in truth.positives]


def perfect(database: PhotoList, queries: PhotoList, shift: int = 0) -> Ranking:
    """The first answer is the map photo of the query's own number, else the next one."""
    database_numbers = [int(Path(photo.name).stem[-3:]) for photo in database]
    query_numbers = [int(Path(photo.name).stem[-3:]) - shift for photo in queries]
    best = [[int(np.abs(np.array(database_numbers) - number).argmin())] for number in query_numbers]
    return Ranking(np.array(best), np.zeros((len(best), 1), np.float32))


def recall(database: PhotoList, queries: PhotoList, text: str, shift: int = 0) -> float:
    truth = parse_truth(text, database, queries)
    return evaluate(perfect(database, queries, shift), truth, recall_at=[1]).recall[1]


SUMMER = numbered(range(20))


def test_a_season_that_lost_a_photo() -> None:
    winter = numbered([n for n in range(20) if n != 5])
    assert recall(SUMMER, winter, "frames:0") == 1.0
    assert recall(SUMMER, winter, "frames:0@rows") == pytest.approx(5 / 19)  # what rows alone would say
    assert recall(winter, SUMMER, "frames:1") == 1.0
    truth = parse_truth("frames:2", SUMMER, winter)
    slow = [[m for m in range(20) if abs(m - n) <= 2] for n in range(20) if n != 5]
    assert lists(truth) == slow
    assert truth.description == {"kind": "frames", "tolerance": 2, "by": "names"}
    assert truth_text(truth.description) == "same frame number within 2, frames by the numbers in names"


def test_a_season_that_begins_later() -> None:
    winter = numbered(range(105, 125))
    with pytest.raises(InputError, match=r"map 0 to 19, queries 105 to 124.*frames:2\+105; .*frames:2@rows"):
        parse_truth("frames:2", SUMMER, winter)
    with pytest.raises(InputError, match=r"frames:2-105"):
        parse_truth("frames:2", winter, SUMMER)
    assert recall(SUMMER, winter, "frames:2+105", shift=105) == 1.0
    assert recall(SUMMER, winter, "frames:2@rows", shift=105) == 1.0
    assert recall(winter, SUMMER, "frames:0-105", shift=-105) == 1.0
    later = numbered([n for n in range(105, 125) if n != 110])
    truth = parse_truth("frames:1+105", SUMMER, later)
    assert lists(truth)[5] == [5, 6, 7]
    assert truth_text(truth.description).endswith("frames by the numbers in names, queries' numbers 105 more")


def test_lists_in_step_are_as_ever() -> None:
    for form in ("{:03d}.jpg", "Image{:03d}.jpg", "{:07d}.jpg"):
        photos = numbered(range(8), form)
        truth = parse_truth("frames:2", photos, photos)
        assert truth.hash == truth_frames(8, 8, 2).hash
        assert truth.description == {"kind": "frames", "tolerance": 2}


def test_other_names_of_the_two_lists_and_another_order() -> None:
    database, queries = numbered([2, 0, 1], "summer_{:03d}.png"), numbered([1, 2], "winter-{:d}.jpg")
    assert lists(parse_truth("frames:0", database, queries)) == [[2], [0]]
    assert lists(parse_truth("frames:1", database, queries)) == [[0, 1, 2], [0, 2]]


def test_sequences_are_counted_apart() -> None:
    names = [f"{drive}/{n:02d}.jpg" for drive in "ab" for n in range(3)]
    database, queries = listing(*names), listing(*(name for name in names if name != "a/01.jpg"))
    assert lists(parse_truth("frames:1", database, queries)) == [[0, 1], [1, 2], [3, 4], [3, 4, 5], [4, 5]]


def test_without_numbers_equal_lists_go_by_rows() -> None:
    database, queries = listing("a.jpg", "b.jpg", "c.jpg"), listing("x.jpg", "y.jpg", "z.jpg")
    assert lists(parse_truth("frames:0", database, queries)) == [[0], [1], [2]]
    with pytest.raises(InputError, match=r"differ in length \(3 map photos and 2 queries\).*frames:1@rows"):
        parse_truth("frames:1", database, queries.take([0, 1]))
    assert lists(parse_truth("frames:0@rows", database, queries.take([0, 1]))) == [[0], [1]]
    assert lists(parse_truth("frames:0@rows-1", database, queries)) == [[1], [2], []]


@pytest.mark.parametrize(
    ("database", "queries", "why"),
    [
        (["a.jpg", "b.jpg"], ["0.jpg", "1.jpg"], "only one list"),
        (["a/0.jpg", "b/0.jpg"], ["c/0.jpg", "d/0.jpg", "d/1.jpg"], "different sequences"),
        (["0.jpg"], ["1305031102.1.png", "1305031103.2.png"], "different sequences"),
        (["0.jpg"], ["1403636579763555584.png"], "only one list"),  # nanoseconds
        (["0.jpg"], ["IMG_20240501_123000.jpg"], "only one list"),
        (["1.jpg", "2.jpg"], ["1.jpg", "01.jpg", "2.jpg"], "only one list"),  # two photos of one number
    ],
)
def test_other_schemes_are_refused_with_what_to_do(database: list[str], queries: list[str], why: str) -> None:
    with pytest.raises(InputError, match=f"frames:2: .*{why}.*frames:2@rows"):
        parse_truth("frames:2", listing(*database), listing(*queries))


def test_video_frames_are_numbers() -> None:
    videos = [
        PhotoList(Photo(name, Path(name), frame=n) for n in range(first, 30, 10))
        for name, first in (("summer.mp4", 0), ("winter.mp4", 10))
    ]
    assert lists(parse_truth("frames:0", *videos)) == [[1], [2]]


def test_the_rule_as_text() -> None:
    for text in ("2", "2@rows", "2+105", "0@rows-3"):
        assert str(FrameRule.parse(text)) == f"frames:{text}"
    for wrong in ("", "-1", "2@row", "x", "2+", "2.5"):
        with pytest.raises(InputError, match="frames are right within 0 or more"):
            FrameRule.parse(wrong)


def test_a_truth_file_holds_the_numbers(tmp_path: Path) -> None:
    winter = numbered([n for n in range(20) if n != 5])
    made = TruthPositions.of_frames(SUMMER, winter, FrameRule(2))
    assert [rows.tolist() for rows in made.right()] == lists(parse_truth("frames:2", SUMMER, winter))
    assert TruthPositions.of_frames(SUMMER, SUMMER, FrameRule(2)).tolerance == 2


def test_protocols_by_rows_stay_but_for_lists_out_of_step() -> None:
    way = protocol("gardens@2f")
    winter = numbered([n for n in range(20) if n != 5])
    gone = way.under(PlaceDataset("mine", SUMMER, winter)).truth
    assert gone is not None and lists(gone)[5] == [4, 5, 6, 7, 8]
    # both lists lack the frames of a tunnel: published numbers count rows there
    both = way.under(PlaceDataset("mine", winter, winter)).truth
    assert both is not None and both.hash == truth_frames(19, 19, 2).hash


def test_numbers_that_agree_and_gaps() -> None:
    winter = numbered([n for n in range(20) if n != 5])
    assert numbers_agree(winter, winter) is True and numbers_agree(SUMMER, winter) is False
    assert numbers_agree(listing("a"), listing("b")) is None
    assert number_gaps(winter) == [5] and number_gaps(SUMMER) == []
    assert number_gaps(numbered(range(0, 200, 10))) == []  # every tenth frame


def test_vpr_bench_goes_by_numbers(tmp_path: Path) -> None:
    for part, numbers in (("day_left", range(6)), ("day_right", [0, 1, 3, 4, 5])):
        (tmp_path / part).mkdir()
        for n in numbers:
            (tmp_path / part / f"Image{n:03d}.jpg").write_bytes(b"x")
    places = open_dataset("gardens-point", root=tmp_path)
    assert places.truth is not None
    assert lists(places.truth)[2] == [1, 2, 3, 4, 5]
    assert lists(places.truth)[4] == [3, 4, 5]


def test_sides_are_told_of_no_lists() -> None:
    frames = frames_of(listing(), listing(), FrameRule(1))
    assert len(frames.database) == len(frames.queries) == 0
    assert lists(truth_frames_of(SUMMER, listing(), FrameRule(1))) == []


def test_the_numbers_of_a_sequence_count_where_some_are_missing() -> None:
    kept = [*range(10), *range(14, 25)]
    numbers = sequence_numbers(numbered(kept))
    assert numbers is not None and numbers.tolist() == kept
    for same in (
        numbered(range(7, 20)),  # none is missing
        numbered(range(0, 200, 10)),  # every tenth: what they count is no frame
        numbered(kept[::-1]),  # not in order
        listing(*(f"a/{n}.jpg" for n in kept), "b/99.jpg"),  # of two sequences
        listing("first.jpg", "second.jpg"),
    ):
        assert sequence_numbers(same) is None
