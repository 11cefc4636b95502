"""Photos that cannot be read or show nothing, as the command tells of them; descriptors of other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def damaged(street: Path) -> Path:
    """The street with a black photo in both parts, an empty file in the map, and a query cut short."""
    for part in ("database", "queries"):
        Image.new("RGB", (128, 96)).save(street / part / "99.jpg")
    (street / "database" / "98.png").write_bytes(b"")
    cut = street / "queries" / "03.png"
    cut.write_bytes(cut.read_bytes()[:400])
    return street


@pytest.mark.slow
def test_evaluate_tells_and_counts_apart(damaged: Path, run: Run) -> None:
    lists = ["--database", damaged / "database", "--queries", damaged / "queries", "--truth", "same-name"]
    status, out, err = run("evaluate", "rootsift-vlad", *lists, "--recall-at", "1,5", "-k", 14, "--out", "r")
    assert status == 0
    for line in (
        "1 query could not be read:",
        "left out '03.png'",
        "1 query shows nothing:",
        "left out '99.jpg': shows nothing: it is black",
        "1 database photo could not be read:",
        "1 database photo shows nothing:",
    ):
        assert line in err
    assert "1 query could not be read, 1 shows nothing (counted as missed); 1 database photo" in out
    result = json.loads(Path("r/result.json").read_text(encoding="utf-8"))
    parts = ("queries", "database")
    assert [result[f"n_{kind}_{part}"] for kind in ("unread", "blank") for part in parts] == [1, 1, 1, 1]
    assert set(result["unread"]["queries"]) == {"03.png", "99.jpg"}
    assert result["recall"]["1"] == pytest.approx(11 / 13)
    page = Path("r/index.html").read_text(encoding="utf-8")
    assert "Photos that could not be read, or show nothing" in page and "query 03.png" in page
    again = run("evaluate", "rootsift-vlad", *lists, "--recall-at", "1,5", "-k", 14, "--out", "r", "--json")
    assert json.loads(again[1])["unread"] == result["unread"]
    whole = [word if word != damaged / "queries" else damaged / "database" for word in lists]
    assert run("evaluate", "rootsift-vlad", *whole, "-k", 14, "--out", "whole")[0] == 0
    status, out, err = run("compare", "r", "whole", "--mix")
    assert status == 0 and "the results differ in the photos that could not be used: r: 1 query" in err
    untold = run("evaluate", "rootsift-vlad", *lists[:4], "-k", 14, "--out", "untold", "--json")
    assert json.loads(untold[1])["unread"] == result["unread"] and "1 query shows nothing" in untold[2]


@pytest.mark.slow
def test_maps_and_what_is_located(damaged: Path, run: Run) -> None:
    status, out, err = run("map", "build", "rootsift-vlad", damaged / "database", "--out", "m")
    assert status == 0 and "2 left out (1 photo could not be read, 1 shows nothing)" in out
    assert "1 photo shows nothing:" in err and "left out '99.jpg': shows nothing: it is black" in err
    info = json.loads(run("map", "info", "m", "--json")[1])
    assert (info["n_unread"], info["n_blank"], info["photos"]) == (1, 1, 12)
    assert "could not be read, 1 shows nothing" in run("map", "info", "m")[1]
    assert run("map", "build", "rootsift-vlad", damaged / "database", "--out", "m")[0] == 0
    status, out, _ = run("locate", "m", damaged / "queries" / "99.jpg")
    assert status == 0 and out.strip().endswith("99.jpg: shows nothing: it is black")
    status, out, _ = run("locate", "m", damaged / "queries", "--out", "page", "--json")
    answers = {Path(answer["name"]).name: answer for answer in json.loads(out)}
    assert status == 0 and answers["99.jpg"]["blank"] and not answers["99.jpg"]["known"]
    assert not answers["03.png"]["blank"] and answers["03.png"]["failed"]
    page = Path("page/index.html").read_text(encoding="utf-8")
    assert ">could not be read<" in page and ">show nothing<" in page


@pytest.mark.slow
def test_extract_pairs_loops_whiten_and_check(damaged: Path, run: Run) -> None:
    folder = damaged / "database"
    summary = json.loads(run("extract", "rootsift-vlad", folder, "--out", "s", "--json")[1])
    assert (summary["described"], summary["n_unread"], summary["n_blank"]) == (12, 1, 1)
    status, out, err = run("pairs", "s", "--format", "hloc", "--top", 13, "--out", "pairs.txt")
    assert status == 0 and "1 photo shows nothing:" in err
    assert "99.jpg" not in Path("pairs.txt").read_text(encoding="utf-8")
    status, out, err = run("loops", "s", "--window", 3, "--out", "loops", "--json")
    assert status == 0 and json.loads(out)["n_blank"] == 1 and "1 frame shows nothing:" in err
    assert "close no loop" in Path("loops/index.html").read_text(encoding="utf-8")
    status, out, err = run("whiten", "rootsift-vlad", folder, "--dims", 4, "--out", "w", "--json")
    assert status == 0 and json.loads(out)["failed"]["99.jpg"] == "shows nothing: it is black"
    assert "1 photo could not be read:" in err and "1 photo shows nothing:" in err
    status, out, _ = run("dataset", "check", folder)
    assert status == 1 and "note   blank: 1 of database show nothing" in out and "unreadable: 1 of" in out


@pytest.mark.slow
def test_a_pair_with_a_black_photo(damaged: Path, run: Run) -> None:
    a, b = damaged / "database" / "00.png", damaged / "database" / "99.jpg"
    status, out, err = run("match", a, b, "--sizes", "2", "--json")
    assert status == 0 and list(json.loads(out)["blank"].values()) == ["shows nothing: it is black"]
    assert "1 photo shows nothing:" in err


def test_descriptors_of_other_programs(run: Run) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 32))
    for name, drawn in (("db", rows), ("q", rows + 0.5 * random.normal(size=rows.shape))):
        drawn = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        np.save(f"{name}.npy", (drawn * random.uniform(0.2, 5, (60, 1))).astype(np.float32))
        (drawn * 3).astype("<f4").tofile(f"{name}.bin")
    words = ["--truth", "frames:0", "--json", "--out"]
    for ending, dims in ((".npy", ""), (".bin", ":32")):
        lists = ["--database", f"db{ending}{dims}", "--queries", f"q{ending}{dims}"]
        status, out, err = run("evaluate", *lists, *words, f"r{ending}")
        assert status == 0 and json.loads(out)["recall"]["1"] == 1.0
        assert f"db{ending}: rows are of length " in err and "compared at length 1" in err
    bad = np.load("db.npy")
    bad[[5, 17]] = np.nan
    np.save("bad.npy", bad)
    status, _, err = run("evaluate", "--database", "bad.npy", "--queries", "q.npy", *words, "r2")
    assert status == 1 and "2 of 60 rows of descriptors hold NaN" in err and "rows 5, 17 (from 0)" in err
    bad[[5, 17]] = 0
    np.save("zero.npy", bad)
    status, out, err = run("evaluate", "--database", "zero.npy", "--queries", "q.npy", *words, "r3")
    result = json.loads(out)
    assert status == 0 and result["n_blank_database"] == 2 and result["recall"]["1"] == pytest.approx(58 / 60)


@pytest.mark.slow
def test_a_mismatch_tells_nobody_to_delete_their_files(street: Path, run: Run) -> None:
    run("extract", "rootsift-vlad", street / "database", "--out", "s")
    np.save("mine.npy", np.eye(12, dtype=np.float32))
    for lists in (["mine.npy", "s"], ["s", "mine.npy"]):
        words = ["--database", lists[0], "--queries", lists[1], "--out", "r"]
        status, _, err = run("evaluate", *words)
        assert status == 1 and "describe database and queries with the same one" in err
        assert "delete" not in err
    np.save("half.npy", np.eye(12, dtype=np.float16))
    words = [
        "--database",
        "mine.npy",
        "--queries",
        "half.npy",
        "--truth",
        "frames:0",
        "--out",
        "r2",
        "--json",
    ]
    assert json.loads(run("evaluate", *words)[1])["recall"]["1"] == 1.0


@pytest.mark.slow
def test_float16_store_beside_a_float32_store(street: Path, run: Run) -> None:
    run("extract", "rootsift-vlad", street / "database", "--out", "a")
    assert run("extract", "a.model", street / "queries", "--out", "b", "--dtype", "float16")[0] == 0
    words = ["--database", "a", "--queries", "b", "--truth", "same-name", "-k", 12, "--out", "r", "--json"]
    status, out, _ = run("evaluate", *words)
    assert status == 0 and json.loads(out)["recall"]["1"] == 1.0
