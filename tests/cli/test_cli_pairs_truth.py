"""`dataset truth`, `dataset list` of a spec, and `pairs`, as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from dejavlad.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    names = [np.array([[name] for name in part], object) for part in (["b.jpg", "a.jpg"], ["q.jpg"])]
    db_struct = {"dbImageFns": names[0], "qImageFns": names[1], "posDistThr": np.uint8(25)}
    db_struct |= {"utmDb": np.array([[0.0, 30], [0, 0]]), "utmQ": np.array([[7.0], [0]])}
    scipy.io.savemat(tmp_path / "tiny.mat", {"dbStruct": db_struct})
    return tmp_path / "tiny.mat"


@pytest.mark.slow
def test_truth_of_frames_and_its_use(run: Run, street: Path) -> None:
    photos = (street / "database", street / "queries")
    status, out, err = run("dataset", "truth", *photos, "--frames", "2", "--out", "t.npz")
    assert (status, err) == (0, "")
    assert "12 database photos and 12 queries, right within 2 frames: 3 to 5 each" in out
    info = json.loads(run("dataset", "info", street, "--truth", "t.npz", "--json")[1])
    assert info["truth"]["description"] == {"kind": "frames", "tolerance": 2}
    np.save("r.npy", np.tile([1, 0], (12, 1)))
    score = ("evaluate", "--ranking", "r.npy", "--database", photos[0], "--queries", photos[1])
    score = (*score, "--recall-at", "1,2", "--out", "results", "--json", "--truth")
    recalls = [json.loads(run(*score, truth)[1])["recall"] for truth in ("t.npz", "frames:2", "t.npz:1")]
    assert recalls == [{"1": 4 / 12, "2": 4 / 12}, {"1": 4 / 12, "2": 4 / 12}, {"1": 3 / 12, "2": 3 / 12}]
    np.savez("other.npz", utmQ=np.zeros((12, 2)), utmDb=np.zeros((3, 2)), posDistThr=1)
    status, _, err = run(*score, "other.npz")
    assert status == 1 and "3 database photos and 12 queries, the lists hold 12 and 12" in err


def test_truth_of_positions(run: Run, street: Path) -> None:
    rows = "".join(f"{i:02d}.png,{10 * i},{0}\n" for i in range(12))
    Path("where.csv").write_text("name,east,north\n" + rows, encoding="utf-8")
    words = ("dataset", "truth", street / "database", street / "queries", "--positions", "where.csv")
    status, out, err = run(*words, "--radius", "10", "--out", "t.npz", "--json")
    assert status == 0, err
    output = json.loads(out)
    assert (output["radius_m"], output["fewest"], output["most"], output["without_truth"]) == (10.0, 2, 3, 0)
    with np.load("t.npz") as archive:
        assert archive["utmQ"][3].tolist() == [30.0, 0.0] and archive["posDistThr"] == 10
    Path("where.csv").write_text("name,east,north\n" + rows.replace("05.png", "55.png"), encoding="utf-8")
    status, _, err = run(*words, "--out", "u.npz")
    assert status == 1 and "1 of 12 photos of the database have no position, first '05.png'" in err
    assert not Path("u.npz").exists()


def test_spec_to_truth_and_lists(run: Run, spec: Path) -> None:
    status, out, _ = run("dataset", "truth", spec, "--out", "t.npz")
    assert status == 0 and "2 database photos and 1 queries, right within 25 m: 2 to 2 each" in out
    assert (
        json.loads(run("dataset", "truth", spec, "--radius", "7", "--out", "t.npz", "--json")[1])["most"] == 1
    )
    words = ("dataset", "list", spec, "--part", "database", "--out", "new/list.txt")
    assert run(*words, "--prefix", "images")[:2] == (0, "2 photos: " + str(Path("new/list.txt")) + "\n")
    assert Path("new/list.txt").read_bytes() == b"images/b.jpg\nimages/a.jpg\n"
    status, _, err = run(*words, "--root", ".")
    assert status == 1 and "2 of 2 photos are not in '.': 'b.jpg', 'a.jpg'; " in err
    for name in ("b.png", "a.jpg"):
        Path(name).touch()
    status, out, err = run(*words, "--root", ".")
    assert status == 0 and "1 photos lie there as .png" in err
    assert Path("new/list.txt").read_bytes() == b"b.png\na.jpg\n"


def test_a_list_of_a_datasets_part_keeps_its_order(run: Run, tmp_path: Path, spec: Path) -> None:
    status, _, err = run("dataset", "list", f"{spec}:database", "--root", tmp_path, "--out", "l.txt")
    assert (status, err) == (0, "")
    assert (tmp_path / "l.txt").read_text(encoding="utf-8").split() == ["images/b.jpg", "images/a.jpg"]


def test_pairs_of_a_ranking_and_of_predictions(run: Run, street: Path) -> None:
    np.save("r.npy", np.tile([1, 0], (12, 1)))
    lists = ("--database", street / "database", "--queries", street / "queries")
    status, out, err = run("pairs", "r.npy", *lists, "--format", "kapture", "--out", "p.txt", "--json")
    assert (status, err) == (0, "")
    summary = {"pairs": 24, "queries": 12, "format": "kapture", "file": "p.txt"}
    assert json.loads(out).items() >= summary.items()
    status, out, err = run("pairs", "p.txt", "--format", "hloc", "--top", "1", "--out", "h.txt")
    assert status == 0 and out == "12 pairs of 12 queries: h.txt\n"
    assert "names are of queries and of map photos" in err and "--database-folder" in err
    words = ("--format", "colmap", "--top", "1", "--out", "c.txt")
    folders = ("--database-folder", "database", "--queries-folder", "queries")
    assert run("pairs", "p.txt", *words, *folders, "--quiet") == (0, "", "")
    assert Path("c.txt").read_text(encoding="utf-8").splitlines()[3] == "queries/03.png database/01.png"
    assert run("pairs", "p.txt", "--format", "msls", "--out", "m.csv")[0] == 0
    assert Path("m.csv").read_text(encoding="utf-8").splitlines()[3] == "03 01 00"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dataset", "truth", "street/database", "--out", "t.npz"), "those of the queries"),
        (
            ("dataset", "truth", "a", "b", "--frames", "1", "--radius", "2", "--out", "t.npz"),
            "leave --radius",
        ),
        (("dataset", "truth", "street", "street", "--frames", "-1", "--out", "t.npz"), "0 or more; given -1"),
        (("dataset", "truth", "street", "street", "--frames", "1", "--out", "t.npy"), "ends in .npz"),
        (("dataset", "truth", "tiny.mat", "street", "--out", "t.npz"), "a spec holds both lists"),
        (("dataset", "list", "tiny.mat", "--out", "l.txt"), "--part database or --part queries"),
        (("dataset", "list", "street", "--part", "queries", "--out", "l.txt"), "are for the .mat spec"),
        (("pairs", "r.npy", "--format", "hloc", "--out", "p.txt"), "--database and --queries"),
        (("pairs", "street", "--format", "hloc", "--out", "p.txt"), "holds none of predictions.txt"),
        (
            ("pairs", "p.txt", "--database", "street", "--format", "hloc", "--out", "p.txt"),
            "hold names already",
        ),
    ],
)
def test_wrong_words_are_one_line(
    run: Run, street: Path, spec: Path, words: tuple[str, ...], message: str
) -> None:
    status, out, err = run(*words)
    assert (status, out) == (1, "")
    assert message in err and len(err.strip().splitlines()) == 1
    assert not Path("t.npz").exists() and not Path("p.txt").exists()


def test_pairs_of_stores(street: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of one store each pair once, never a photo with itself; of two the queries' with the map's."""
    model = ("squeezenet1_1-max", "--weights", "random:0", "--resize", "64x64")
    for part in ("database", "queries"):
        words = ["extract", *model, str(street / part), "--out", str(tmp_path / part), "--quiet"]
        assert main(words) == 0
    out = tmp_path / "pairs.txt"
    words = ["pairs", str(tmp_path / "database"), "--format", "colmap", "--out", str(out)]
    assert main([*words, "--top", "11", "--json"]) == 0
    pairs = [tuple(line.split()) for line in out.read_text().splitlines()]
    names = [f"{i:02d}.png" for i in range(12)]
    assert sorted(tuple(sorted(pair)) for pair in pairs) == [(a, b) for a in names for b in names if a < b]
    both = ["pairs", str(tmp_path / "database"), str(tmp_path / "queries"), "--format", "hloc"]
    assert main([*both, "--top", "1", "--out", str(out), "--quiet"]) == 0
    assert sum(a == b for a, b in (line.split() for line in out.read_text().splitlines())) >= 10
    capfd.readouterr()
    assert main([both[0], str(tmp_path / "queries"), *both[1:], "--out", str(out)]) == 1
    assert "one store, or two" in capfd.readouterr().err
    assert main([*words, "--top", "0"]) == 1
