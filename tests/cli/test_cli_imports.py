"""What verbs load: those that look at results, lists and settings start without PyTorch and OpenCV."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.datasets import photos
from dejavlad.extraction import DescriptorStore, save_store
from dejavlad.ground_truth import PlaceDataset, parse_truth
from dejavlad.places.stored_map import open_stored

HEAVY = ("torch", "cv2", "scipy", "rich.progress", "jinja2")
RUN = """
import contextlib, io, json, sys
from dejavlad.cli import main
loaded = {}
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()):
        status = main(words)
    loaded[" ".join(words[:2])] = [status, [name for name in json.loads(sys.argv[2]) if name in sys.modules]]
print(json.dumps(loaded))
"""


def loaded_by(verbs: list[list[str]], folder: Path) -> dict[str, list[object]]:
    """Verb -> exit status and the heavy modules loaded by then, the verbs run in one fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(verbs), json.dumps(HEAVY)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_verbs_that_need_no_network_load_none(street: Path) -> None:
    database, queries = photos(street / "database"), photos(street / "queries")
    places = PlaceDataset("street", database, queries, parse_truth("same-name", database, queries))
    indices = (np.arange(len(queries))[:, None] + np.arange(10)) % len(database)
    ranking = dv.Ranking(indices, np.tile(np.arange(10, dtype=np.float32), (len(queries), 1)))
    ranking.save(street / "ranking.npz")
    dv.evaluate(ranking, places.truth).save(street / "result.json")
    rows = np.eye(len(database), 256, dtype=np.float32)
    save_store(DescriptorStore.from_arrays(rows, database, model="made"), street / "town.desc")
    encoded = dv.load_model("squeezenet1_0-gem", weights="random:0", device="cpu", resize="64x64")
    town = dv.PlaceMap.build(encoded, database, street / "town.map")
    for i in (1, 2):
        dv.extract(encoded, database, street / f"part.{i}", shard=(i, 2), batch_size=1)
    lists = ["--database", "database", "--queries", "queries"]
    verbs = [
        ["--help"],
        ["config"],
        ["compare", "result.json"],
        ["dataset", "info", "."],
        ["store", "info", "town.desc"],
        ["store", "merge", "part.1", "part.2", "--out", "whole.desc"],
        ["pairs", "ranking.npz", *lists, "--format", "hloc", "--out", "pairs.txt"],
        ["explain", "ranking.npz", *lists, "--truth", "same-name"],
        ["models"],
        ["models", "megaloc"],
        ["map", "info", "town.map"],
        ["map", "check", "town.map"],
        ["map", "compact", "town.map"],
        ["map", "move", "town.map", "database", "moved"],
        ["map", "remove", "town.map", "00.png"],
        ["store", "check", "town.desc", "town.map"],
    ]
    info = town.info()
    shutil.copytree(street / "database", street / "moved")
    assert open_stored(street / "town.map").info().to_dict(names=True) == info.to_dict(names=True)
    assert loaded_by(verbs, street) == {" ".join(words[:2]): [0, []] for words in verbs}
    town.refresh()
    assert len(town) == info.photos - 1 and "00.png" not in town.photos.keys
    assert town.photos[0].path.parent == (street / "moved").resolve()


@pytest.mark.parametrize(
    "words",
    [
        "locate nosuch.map a.jpg",
        "map add nosuch.map photos",
        "map check nosuch.map",
        "map build nosuch --out x.map",
        "evaluate --dataset nosuch --out x",
        "extract rootsift-vlad nosuch --out x",
        "loops nosuch --out x",
        "bench rootsift-vlad --dataset nosuch --out x",
        "rerank nosuch.npz --database a --queries b --out x.npz",
        "whiten rootsift-vlad nosuch --out x",
        "match nosuch.jpg nosuch.jpg",
        "verify nosuch x.npz",
        "import nosuch --out x",
        "export nosuch --out x.onnx",
        "serve nosuch",
        "models nosuch",
        "models download nosuch",
        "store check nosuch",
        "store merge nosuch --out x",
    ],
)
def test_mistyped_paths_and_names_are_told_before_torch_is_loaded(words: str, tmp_path: Path) -> None:
    (verb,) = loaded_by([words.split()], tmp_path).values()
    assert verb == [1, []]


def test_help_loads_not_even_the_command_library(tmp_path: Path) -> None:
    code = "import sys; from dejavlad.cli import main; main(['--help']); print('cyclopts' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False"
