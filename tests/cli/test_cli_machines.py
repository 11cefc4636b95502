"""Work over machines as a user types it: shards, their merge, stores as photos, each line of the page."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.extraction import Shard
from dejavlad.places.map_folder.rows import model_of_store

Run = Callable[..., tuple[int, str, str]]
FAST = ("--device", "cpu", "--resize", "none", "--quiet")
PAGE = Path(__file__).parents[2] / "docs" / "machines.md"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def photos(street: Path, tmp_path: Path) -> Path:
    shutil.copytree(street / "database", tmp_path / "photos")
    (tmp_path / "photos" / "bad.png").write_bytes(b"no photo")
    return tmp_path / "photos"


@pytest.mark.slow
def test_shards_merged_by_the_command(run: Run, photos: Path, tmp_path: Path) -> None:
    extract = ("extract", "rootsift-vlad", "photos", "--batch-size", "2", *FAST[:4])
    assert run(*extract, "--out", "whole")[0] == 0
    for i in (1, 2, 3):
        status, out, err = run(*extract, "--out", f"part.{i}", "--shard", f"{i}/3", "--json")
        assert status == 0, err
        assert json.loads(out)["shard"] == f"{i}/3"
    status, out, err = run("store", "merge", "part.1", "part.3", "--out", "merged")
    assert status == 1 and out == "" and len(err.strip().splitlines()) == 1
    assert "shard 2 is missing of 3: `dejavlad extract rootsift-vlad PHOTOS --shard 2/3 --out STORE`" in err
    status, out, err = run("store", "merge", "part.1", "part.2", "part.3", "--out", "merged")
    assert status == 0, err
    assert "12 of 13 photos described" in out and "from 3 shards" in out
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")
    assert contents(tmp_path / "merged.model") == contents(tmp_path / "whole.model")

    info = json.loads(run("store", "info", "part.2", "--json")[1])
    assert (info["kind"], info["left"]) == ("shard 2/3", 0)
    assert json.loads(run("store", "info", "merged", "--json")[1])["failed"] == 1
    status, out, _ = run("store", "check", "merged", "part.1")
    assert status == 0
    assert "merged: descriptors of 13 photos, all as they were written" in out
    assert "part.1: shard 1/3, descriptors, of" in out

    status, out, err = run("map", "build", "merged", "--out", "from.map", *FAST[:2], "--json")
    assert status == 0, err
    assert run("map", "build", "rootsift-vlad", "photos", "--out", "plain.map", *FAST)[0] == 0
    one, other = (dv.PlaceMap.open(tmp_path / name, device="cpu") for name in ("from.map", "plain.map"))
    assert one.photos.keys == other.photos.keys and one.failed == other.failed
    np.testing.assert_allclose(one.descriptors, other.descriptors, atol=1e-5)  # of other batches
    assert one.check()
    assert run("store", "check", "from.map")[0] == 0

    status, _, err = run("evaluate", "--database", "part.1", "--queries", "part.2", "--out", "results")
    assert status == 1 and "is shard 1/3 of a store: merge all 3 first" in err
    status, _, err = run("map", "build", "part.1", "--out", "other.map")
    assert status == 1 and "is shard 1/3 of a store" in err
    status, _, err = run("map", "build", "merged", "--out", "other.map", "--shard", "1/2")
    assert status == 1 and "described already" in err
    status, _, err = run(*extract, "--out", "x", "--shard", "5/4")
    assert status == 1 and "--shard 5/4: give I/N" in err
    status, _, err = run(*extract, "--out", "x", "--shard", "1/4", "--bin", "x.bin")
    assert status == 1 and "merge the shards first" in err


@pytest.mark.slow
def test_a_map_and_results_in_shards(run: Run, photos: Path, tmp_path: Path) -> None:
    build = ("map", "build", "rootsift-vlad", "photos", "--batch-size", "2", *FAST)
    assert run(*build, "--out", "plain.map")[0] == 0
    assert run(*build, "--out", "town.map", "--shard", "2/2")[0] == 0
    status, _, err = run(*build, "--out", "town.map")
    assert status == 1 and "shard 1 is missing of 2" in err and "delete that folder to go on without" in err
    assert run(*build, "--out", "town.map", "--shard", "1/2")[0] == 0
    status, _, err = run(*build, "--out", "town.map")
    assert status == 0, err
    assert (tmp_path / "town.map" / "rows.bin").read_bytes() == (tmp_path / "plain.map/rows.bin").read_bytes()
    assert not list((tmp_path / "town.map").glob("extracting*"))

    evaluate = ("evaluate", "rootsift-vlad", "--database", "photos", "--queries", "photos")
    evaluate += ("--truth", "frames:0", "--batch-size", "2", *FAST)
    assert run(*evaluate, "--out", "plain")[0] == 0
    for i in (1, 2):
        assert run(*evaluate, "--out", "results", "--shard", f"{i}/2")[0] == 0
    assert run(*evaluate, "--out", "results")[0] == 0
    for name in ("database", "queries"):
        assert contents(tmp_path / "results" / name) == contents(tmp_path / "plain" / name)
    assert not list((tmp_path / "results").glob("*.shards"))
    assert dv.Ranking.load(tmp_path / "results" / "ranking.npz").indices.tolist() == (
        dv.Ranking.load(tmp_path / "plain" / "ranking.npz").indices.tolist()
    )


@pytest.mark.slow
def test_photos_that_changed_since_the_store_are_described(run: Run, photos: Path, tmp_path: Path) -> None:
    model = dv.fit(dv.load_model("rootsift-vlad", device="cpu"), dv.photos(photos))
    store = dv.extract(model, dv.photos(photos), tmp_path / "store", batch_size=2)
    shutil.copyfile(photos / "03.png", photos / "05.png")
    (photos / "new.png").write_bytes((photos / "07.png").read_bytes())
    town = dv.PlaceMap.build(model, dv.photos(photos), tmp_path / "town.map", descriptors=store)
    rows = dict(zip(town.photos.keys, town.descriptors, strict=True))
    assert set(town.failed) == {"bad.png"} and len(town) == 13
    np.testing.assert_array_equal(rows["02.png"], store.rows[2])
    np.testing.assert_allclose(rows["05.png"], rows["03.png"], atol=1e-5)
    np.testing.assert_allclose(rows["new.png"], rows["07.png"], atol=1e-5)
    other = dv.fit(dv.load_model("rootsift-vlad", device="cpu"), dv.photos(photos), seed=1)
    with pytest.raises(dv.DejavladError, match="was made otherwise"):
        dv.PlaceMap.build(other, dv.photos(photos), tmp_path / "other.map", descriptors=store)


def test_the_model_of_a_store_is_the_one_that_made_it(street: Path, tmp_path: Path) -> None:
    """A folder may hold stores of several models, and be that of a model beside."""
    listed = dv.photos(street / "database")
    fitted = dv.fit(dv.load_model("rootsift-vlad", device="cpu", resize="none"), listed)
    dv.save_model(fitted, tmp_path / "model")
    average = dv.load_model("rootsift-avg", device="cpu")
    for name, model in (("frames", fitted), ("others", average)):
        store = dv.extract(model, listed, tmp_path / name)
        assert model_of_store(store, device="cpu").fingerprint == model.fingerprint


@pytest.mark.slow
def test_the_lines_of_the_page_run(run: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").unlink()
    ran = 0
    for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        if "$" in block or "ray start" in block:
            continue
        for line in block.strip().splitlines():
            words = shlex.split(line)
            assert words[0] == "dejavlad"
            resized = [] if words[1] in ("store",) or (words[2] == "build" and len(words) == 6) else FAST
            status, _, err = run(*words[1:], *resized)
            assert status == 0, (line, err)
            ran += 1
    assert ran == 11
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert code is not None
    exec(compile(code.group(1), str(PAGE), "exec"), {})
    assert dv.PlaceMap.open(tmp_path / "python.map").check()


def scripts() -> list[str]:
    """The page's Slurm scripts, and the line that the pods of a Kubernetes job run."""
    page = PAGE.read_text(encoding="utf-8")
    slurm = [block for block in re.findall(r"```sh\n(.*?)```", page, re.S) if block.startswith("#!")]
    (job,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    yaml = pytest.importorskip("yaml")
    (container,) = yaml.safe_load(job)["spec"]["template"]["spec"]["containers"]
    return [*slurm, *container["args"]]


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_the_scripts_of_the_page_give_each_task_its_shard(tmp_path: Path) -> None:
    recorded = tmp_path / "words"
    for name in ("dejavlad", "srun"):
        script = 'exec "$@"' if name == "srun" else f'printf "%s\\n" "$@" >> "{recorded}"'
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    for task in (1, 5, 16):
        (tmp_path / f"town.{task}").mkdir(exist_ok=True)
    words = []
    for script in scripts():
        recorded.write_text("", encoding="utf-8")
        values = {"MODEL": "m", "PHOTOS": "photos", "SCRATCH": str(tmp_path), "JOB_COMPLETION_INDEX": "4"}
        values |= {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_CPUS_PER_TASK": "8"}
        values["PATH"] = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(["sh", "-c", script], env={**os.environ, **values}, check=True, timeout=20)
        words.append(recorded.read_text(encoding="utf-8").split())
    array, merge, pod = words
    for line in (array, pod):
        shard = Shard.of(line[line.index("--shard") + 1])
        assert (line[0], shard) == ("extract", Shard(5, 16))
    assert array[array.index("--out") + 1] == f"{tmp_path}/town.5"
    shards = [f"{tmp_path}/town.{task}" for task in (1, 16, 5)]
    assert merge == ["store", "merge", *shards, "--out", "town.desc"]
