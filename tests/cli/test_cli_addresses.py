"""Maps in databases as a user types them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
FAST = ("--device", "cpu", "--resize", "none")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def photos(street: Path, tmp_path: Path) -> Path:
    """Eight photos with positions, 100 m apart."""
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = ["name,lat,lon"]
    for place in range(8):
        shutil.copy(street / "database" / f"{place:02d}.png", folder)
        lines.append(f"{place:02d}.png,{48.1 + 0.0009 * place:.6f},11.5")
    (folder / "positions.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("address", ["lance:db/town", "qdrant:db/town"])
def test_a_map_from_first_to_last(run: Run, photos: Path, street: Path, tmp_path: Path, address: str) -> None:
    lance = address.startswith("lance")
    pytest.importorskip("lancedb" if lance else "qdrant_client")
    if not lance:
        from dejavlad.places.databases import qdrant_points

        qdrant_points.close_local()
    later = tmp_path / "later"
    later.mkdir()
    (photos / "07.png").rename(later / "07.png")
    for out in ("folder.map", address):
        status, text, err = run("map", "build", "rootsift-vlad", "photos", "--out", out, *FAST, "--local")
        assert status == 0, err
        assert f"dejavlad locate {out} PHOTO" in text
        (later / "07.png").replace(photos / "07.png")
        status, text, err = run("map", "add", out, "photos")
        assert (status, text.splitlines()[0]) == (0, "1 photos added, 8 in the map"), err
        (photos / "07.png").replace(later / "07.png")
        assert run("map", "remove", out, "03.png")[1] == "1 photos removed, 7 in the map\n"
    (later / "07.png").replace(photos / "07.png")
    about = [json.loads(run("map", "info", out, "--json")[1]) for out in ("folder.map", address)]
    assert all(about[0][k] == about[1][k] for k in ("photos", "with_position", "names", "dims", "local"))
    query = street / "queries" / "05.png"
    for options in ((), ("--near", "48.1045,11.5,150"), ("--near", "48.1,11.5,50"), ("--verify", "none")):
        of_folder, of_address = (
            run("locate", out, query, *options, "--json")[1] for out in ("folder.map", address)
        )
        assert of_folder == of_address and json.loads(of_folder)[0]["matches"]
    status, text, err = run("locate", address, query, "--near", "10,10,50")
    assert status == 0 and "no photo of this map lies within 50 m" in text
    status, _, err = run("locate", address, query, "--out", "page")
    assert status == 0 and (tmp_path / "page" / "index.html").is_file(), err
    assert run("map", "check", address)[1] == f"{address}: 7 photos, all as they were written\n"
    assert run("store", "check", address)[1] == f"{address}: a map of 7 photos, all as they were written\n"
    photos.rename(tmp_path / "moved")
    assert run("map", "move", address, "photos", "moved")[1].startswith("7 photos lie in moved now")
    status, _, err = run("map", "compact", address)
    assert status == 1 and "keeps its own disk in order" in err
    status, _, err = run("map", "build", "rootsift-vlad", "moved", "--out", address, "--index", "1bit", *FAST)
    assert status == 1 and "compared exactly" in err
    if not lance:
        status, _, err = run("map", "info", address, "--versions")
        assert status == 1 and "has no versions" in err
        qdrant_points.close_local()
        return
    listed = json.loads(run("map", "info", address, "--versions", "--json")[1])
    sizes = [json.loads(run("map", "info", f"{address}@{each['version']}", "--json")[1]) for each in listed]
    assert [each["photos"] for each in sizes][-3:] == [8, 7, 7] and sizes[-1]["names"] == about[1]["names"]
    for words in (("add", "moved"), ("remove", "01.png"), ("move", "moved", "photos")):
        status, _, err = run("map", words[0], f"{address}@{listed[-2]['version']}", *words[1:])
        assert status == 1 and "stays so; write to lance:db/town" in err.splitlines()[-1]


def test_where_a_map_is_not_what_is_wanted(run: Run, street: Path) -> None:
    for words in (
        ("evaluate", "--database", "lance:town", "--queries", "street/queries", "--out", "r"),
        ("explain", "r.npz", "--database", "s3://bucket/town", "--queries", "street/queries"),
        ("loops", "qdrant://host/town", "--out", "r"),
        ("pairs", "s3://bucket/town", "--format", "hloc", "--out", "p.txt"),
        ("pairs", "lance:town", "--format", "hloc", "--out", "p.txt"),
    ):
        status, _, err = run(*words)
        assert (status, len(err.strip().splitlines())) == (1, 1) and "is a map in a database" in err
    words = ("map", "build", "rootsift-vlad", "street/database", "--out", "lance:town", "--shard", "1/2")
    status, _, err = run(*words, *FAST)
    assert status == 1 and "`dejavlad extract --shard I/N --out STORE`" in err
    assert not list(Path().glob("*town*"))


@pytest.mark.slow
def test_a_store_becomes_a_map_in_a_database(run: Run, photos: Path) -> None:
    pytest.importorskip("lancedb")
    for part in ("1/2", "2/2"):
        out = f"part.{part[0]}"
        assert run("extract", "rootsift-vlad", "photos", "--out", out, "--shard", part, *FAST)[0] == 0
    assert run("store", "merge", "part.1", "part.2", "--out", "town.desc", "--quiet")[0] == 0
    for out in ("folder.map", "lance:db"):
        status, _, err = run("map", "build", "town.desc", "--out", out, "--quiet")
        assert status == 0, err
    about = [json.loads(run("map", "info", out, "--json")[1]) for out in ("folder.map", "lance:db")]
    assert about[0]["names"] == about[1]["names"] and about[1]["photos"] == 8
