"""What verbs load: those that look at results, lists and settings start without PyTorch and OpenCV."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.datasets import photos
from dejavlad.extraction import DescriptorStore, save_store
from dejavlad.ground_truth import PlaceDataset, parse_truth
from dejavlad.places.info import read_info

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
        ["verify", "--help"],
    ]
    assert loaded_by(verbs, street) == {" ".join(words[:2]): [0, []] for words in verbs}
    assert read_info(str(street / "town.map")).to_dict(names=True) == town.info().to_dict(names=True)


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
