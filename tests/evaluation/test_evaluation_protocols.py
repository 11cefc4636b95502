"""Protocols by name: what each takes for right and leaves out, and results that tell theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dejavlad.cli import main
from dejavlad.datasets import DATASETS
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.evaluation.protocols import PROTOCOLS, protocol
from dejavlad.geo import Position
from dejavlad.ground_truth import (
    PlaceDataset,
    parse_truth,
    truth_frames,
)
from dejavlad.ground_truth.refine import (
    facing,
    without_same_time,
    without_window,
)
from dejavlad.photo import Photo, PhotoList
from dejavlad.ranking import Ranking


def street(n: int, step: float, **columns: list[object]) -> PhotoList:
    """Photos every `step` metres eastwards."""
    return PhotoList(
        Photo(
            f"{i}.jpg",
            Path(f"{i}.jpg"),
            position=Position(i * step, 0.0),
            **{what: values[i] for what, values in columns.items()},  # type: ignore[arg-type]
        )
        for i in range(n)
    )


def bare(n: int) -> PhotoList:
    return PhotoList(Photo(f"{i}.jpg", Path(f"{i}.jpg")) for i in range(n))


def test_every_protocol_is_whole() -> None:
    for name, entry in PROTOCOLS.items():
        assert name == entry.name and name.count("@") == 1 and entry.source
        assert entry.dataset in DATASETS, name
        assert (entry.metres is None) != (entry.frames is None), name
        assert (entry.leave_out == "window") == (entry.window > 0)
        assert json.loads(json.dumps(entry.to_dict()))["name"] == name
    for name in (
        "tokyo247@relja",
        "msls-val@official-740",
        "msls-val@vgbench-11k",
        "nordland@10f-27592",
        "nordland@1f-2760",
        "nordland@2f-27592",
        "pitts30k-test@25m",
        "pitts250k-test@25m",
        "tokyotm-val@25m",
        "gardens@2f",
    ):
        assert protocol(name).name == name


def test_unknown_protocols_list_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean tokyo247@relja"):
        protocol("tokyo247@relia")
    with pytest.raises(UnknownNameError, match=r"nordland@.*dejavlad dataset protocols"):
        protocol("nordland@x")


def test_metres_and_panoramas() -> None:
    places = PlaceDataset("t", street(36, 2.0), street(3, 30.0))
    relja = protocol("tokyo247@relja").under(places)
    assert relja.truth is not None and relja.protocol == "tokyo247@relja"
    assert relja.truth.groups is not None
    assert relja.truth.groups.tolist() == [i // 12 for i in range(36)]
    assert relja.truth.positives[0].tolist() == list(range(13))  # 25 m: up to 24 m
    plain = protocol("tokyo247@vgbench").under(places)
    assert plain.truth is not None and plain.truth.groups is None
    named = replace(places, database=street(36, 2.0, group=[str(i % 4) for i in range(36)]))
    truth = protocol("tokyo247@relja").under(named).truth
    assert truth is not None and truth.groups is not None
    assert truth.groups.tolist() == [i % 4 for i in range(36)]


def test_frames_and_every_tenth_query() -> None:
    tenth = truth_frames(21, 3, 1, every=10)
    assert [rows.tolist() for rows in tenth.positives] == [[0, 1], [9, 10, 11], [19, 20]]
    places = protocol("nordland@1f-2760").under(PlaceDataset("n", bare(30), bare(3)))
    assert places.truth is not None and places.truth.positives[2].tolist() == [19, 20, 21]
    seven = protocol("nordland@7f-27592").under(PlaceDataset("n", bare(30), bare(30)))
    assert seven.truth is not None and seven.truth.positives.counts.max() == 15


def test_directions_times_and_windows() -> None:
    ask = street(2, 1.0, heading=[350.0, None])
    database = street(4, 1.0, heading=[5.0, 30.0, 170.0, None])
    truth = parse_truth("positions:25", database, ask)
    assert [rows.tolist() for rows in facing(truth, database, ask, 40).positives] == [[0, 1], []]
    with pytest.raises(InputError, match="none of the 4 photos"):
        facing(truth, street(4, 1.0), ask, 40)
    with pytest.raises(InputError, match="0 to 180"):
        facing(truth, database, ask, 181)
    database, ask = street(4, 1.0, time=[1.0, 2.0, 2.0, None]), street(2, 1.0, time=[2.0, 9.0])
    same = without_same_time(parse_truth("positions:25", database, ask), database, ask)
    assert same.ignored is not None
    assert [rows.tolist() for rows in same.ignored] == [[1, 2], []]
    assert same.positives[0].tolist() == [0, 3]
    with pytest.raises(InputError, match="have no known time"):
        without_same_time(truth, street(4, 1.0), ask)
    loop = street(5, 1.0)
    window = without_window(parse_truth("positions:3", loop, loop), 1)
    assert [rows.tolist() for rows in window.positives] == [[2, 3], [3, 4], [0, 4], [0, 1], [1, 2]]
    with pytest.raises(InputError, match="compared with itself"):
        without_window(truth, 1)


def test_a_truth_given_must_be_of_the_protocol() -> None:
    pitts = protocol("pitts30k-test@25m")
    unplaced = PlaceDataset("x", bare(3), bare(3))
    with pytest.raises(InputError, match=r"positions are not known.*--positions"):
        pitts.under(unplaced)
    known = parse_truth("positions:25", street(3, 20.0), street(3, 20.0))
    assert pitts.under(replace(unplaced, truth=known), given=True).truth is not None
    for wrong in ("positions:10", "positions:25,leave-one-out", "frames:25"):
        other = parse_truth(wrong, street(3, 20.0), street(3, 20.0))
        with pytest.raises(InputError, match=r"found otherwise .*leave --truth or --protocol out"):
            pitts.under(replace(unplaced, truth=other), given=True)
    frames = truth_frames(3, 3, 2)
    assert protocol("gardens@2f").under(replace(unplaced, truth=frames), given=True).truth is not None
    with pytest.raises(InputError, match="found otherwise"):
        protocol("gardens@2f").under(replace(unplaced, truth=truth_frames(3, 3, 3)), given=True)


def test_counts_unlike_those_published() -> None:
    pitts = protocol("pitts30k-test@25m")
    assert pitts.unlike_published(10_000, 6_816) == ""
    assert pitts.unlike_published(10_000, 6_815) == "6,815 queries, published 6,816"
    assert protocol("town@25m").unlike_published(1, 2) == ""


def test_the_command_measures_by_name(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranking = Ranking(np.array([[(i + 3) % 12, *range(9)] for i in range(12)]), np.zeros((12, 10)))
    ranking.save(tmp_path / "r.npz")
    lists = ["--database", str(street / "database"), "--queries", str(street / "queries")]
    words = ["evaluate", "--ranking", str(tmp_path / "r.npz"), *lists, "--recall-at", "1"]
    assert main([*words, "--protocol", "gardens@2f", "--out", str(tmp_path / "two"), "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["protocol"]["name"] == "gardens@2f" and answer["protocol"]["truth"]["tolerance"] == 2
    assert "12 database photos, published 200" in captured.err
    assert main([*words, "--truth", "frames:2", "--out", str(tmp_path / "free")]) == 0
    capsys.readouterr()
    assert main([*words, "--protocol", "gardens@2f", "--misses", "drop", "--out", str(tmp_path / "x")]) == 1
    assert "gardens@2f has --misses count" in capsys.readouterr().err
    assert main([*words, "--protocol", "gardens@3f", "--out", str(tmp_path / "x")]) == 1
    assert "did you mean gardens@2f" in capsys.readouterr().err
    assert main(["evaluate", "--protocol", "tokyo247@relja", "--out", str(tmp_path / "x")]) == 1
    assert "where does the dataset" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "two"), str(tmp_path / "free")]) == 0  # the same in all but name


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "protocols", "--json"]) == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} == set(PROTOCOLS)
    assert main(["dataset", "protocols", "nordland"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + sum(name.startswith("nordland@") for name in PROTOCOLS)
    assert main(["dataset", "protocols", "tokyo247@relja"]) == 0
    assert "netvlad#37" in capsys.readouterr().out
    assert main(["dataset", "protocols", "nowhere"]) == 1


def test_twins_are_told(street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = (street / "database" / "03.png").read_bytes()
    (street / "queries" / "05.png").write_bytes(copied)
    pixels = cv2.imread(str(street / "database" / "07.png"))
    cv2.imwrite(str(street / "queries" / "07.jpg"), pixels, [1, 95])
    (street / "queries" / "07.png").unlink()
    Ranking(np.arange(12)[:, None], np.zeros((12, 1))).save(tmp_path / "r.npz")
    lists = ["--database", str(street / "database"), "--queries", str(street / "queries")]
    words = ["evaluate", "--ranking", str(tmp_path / "r.npz"), *lists, "--recall-at", "1"]
    assert main([*words, "--truth", "frames:0", "--out", str(tmp_path / "out"), "--json"]) == 0
    out, err = capsys.readouterr()
    near_duplicates = json.loads(out)["twins"]
    assert (near_duplicates["queries"], near_duplicates["bytes"], near_duplicates["pictures"]) == (2, 1, 1)
    assert near_duplicates["first"][0] == {"query": "05.png", "database": "03.png", "same": "bytes"}
    assert "2 queries are in the database too" in err
    assert "2 queries are in the database too" in (tmp_path / "out" / "index.html").read_text("utf-8")
    own = [*lists[:3], lists[1], "--truth", "frames:0,leave-one-out"]
    deep = Ranking(np.tile(np.arange(12), (12, 1)), np.zeros((12, 12)))
    deep.save(tmp_path / "r.npz")
    assert main([*words[:3], *own, "--recall-at", "1", "--out", str(tmp_path / "own"), "--json"]) == 0
    assert "twins" not in json.loads(capsys.readouterr().out)  # a query is no twin of itself


def test_the_page_lists_every_protocol() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
    for entry in PROTOCOLS.values():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{entry.name}` |"))
        assert (
            entry.right in line
            and entry.source in line
            and entry.note in line
            and (entry.suppressed or "–") in line
        )


def test_a_protocol_keeps_what_a_dataset_is_measured_by() -> None:
    places = PlaceDataset("msls-val", street(4, 20.0), street(2, 20.0), truth_frames(4, 2, 0))
    assert places.truth is not None
    assert (
        "measure" not in (protocol("msls-val@official-740").under(places).truth or places.truth).description
    )
    measured = PlaceDataset(
        "msls-val", places.database, places.queries, places.truth.refined("measure", "msls")
    )
    truth = protocol("msls-val@official-740").under(measured).truth
    assert truth is not None and truth.description["measure"] == "msls"
