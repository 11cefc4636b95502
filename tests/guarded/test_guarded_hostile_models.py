"""Model folders and indexes of someone who means ill: no file elsewhere, little memory, one error."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import make_index, make_model, model

import dejavlad as dv
from dejavlad.errors import CheckpointError, StoreError
from dejavlad.model import load_folder


def changed(path: Path, *where: str, to: Any) -> None:
    """Another value, and no checksum."""
    spec = json.loads(path.read_text())
    spec.pop("checksum")
    inner = spec
    for key in where[:-1]:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    inner[int(where[-1]) if isinstance(inner, list) else where[-1]] = to
    path.write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("where", "to"),
    [
        (("aggregation", "options", "clusters"), 10**12),
        (("aggregation", "options", "clusters"), 2**62),
        (("aggregation", "options", "clusters"), -1),
        (("aggregation", "options", "clusters"), "many"),
        (("aggregation", "options", "clusters"), None),
        (("aggregation", "options"), [1]),
        (("backbone", "options", "layers", "0", "outputs"), 10**9),
        (("backbone", "options", "layers", "0", "outputs"), 1 << 20),
        (("backbone", "options", "layers", "0", "kernel"), [10**9, 10**9]),
        (("backbone", "options", "layers", "0"), None),
        (("backbone", "options", "weights"), "/etc/passwd"),
        (("backbone", "name"), "../../x"),
        (("backbone", "name"), ["vgg16"]),
        (("whitening",), {"dims": 10**12}),
        (("whitening",), {"dims": "a"}),
        (("whitening",), 5),
        (("dims",), 10**30),
        (("dims",), "8"),
        (("dims",), -3),
        (("fitted",), "yes"),
        (("preprocess", "mean"), [1e400, 0, 0]),
        (("preprocess", "resize"), "999999999x999999999"),
        (("preprocess",), None),
        (("format",), None),
    ],
)
def test_hostile_specs(where: tuple[str, ...], to: object, tmp_path: Path) -> None:
    make_model(tmp_path)
    changed(tmp_path / "model" / "spec.json", *where, to=to)
    with pytest.raises(CheckpointError) as raised:
        load_folder(tmp_path / "model")
    assert "\n" not in str(raised.value) and "model" in str(raised.value)


def test_a_spec_that_was_changed_is_told(tmp_path: Path) -> None:
    make_model(tmp_path)
    spec = tmp_path / "model" / "spec.json"
    spec.write_text(spec.read_text().replace('"std": [\n      1.0', '"std": [\n      2.0'))
    with pytest.raises(CheckpointError, match="was changed since it was written"):
        load_folder(tmp_path / "model")
    content = json.loads(spec.read_text())
    del content["checksum"]  # as it was before there were checksums
    spec.write_text(json.dumps(content))
    assert load_folder(tmp_path / "model").spec.preprocess.std == (2.0, 1.0, 1.0)
    assert model().spec.preprocess.std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["../outside.npy", "/etc/passwd", "..", "", None, 3])
def test_indexes_name_files_beside_them(name: object, tmp_path: Path) -> None:
    make_index(tmp_path, "flat")
    np.save(tmp_path / "outside.npy", np.zeros((9, 6), np.float32))
    changed(tmp_path / "index" / "index.json", "files", "rows.npy", to=name)
    with pytest.raises(StoreError, match="does not lie beside it"):
        dv.open_index(tmp_path / "index")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["store", "map"])
def test_a_table_of_failures_that_is_none(name: str, tmp_path: Path) -> None:
    from kinds import KINDS

    KINDS[name].make(tmp_path / "made")
    if name == "store":
        (tmp_path / "made" / "store" / "failed.json").write_text("null")
    else:
        state = tmp_path / "made" / "map" / "map.sqlite"
        with contextlib.closing(sqlite3.connect(state)) as connection, connection:
            connection.execute("DROP TABLE failed")
            connection.execute("CREATE TABLE failed(key BLOB PRIMARY KEY)")
    with pytest.raises(StoreError):
        KINDS[name].answer(tmp_path / "made")
