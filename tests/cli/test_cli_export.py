"""`dejavlad export`, `verify MODEL FILE.onnx`, and an exported file where MODEL stands."""

import json

import numpy as np
import pytest
from PIL import Image

from dejavlad.aggregation import create
from dejavlad.model import save_model
from export.members import table_model

pytest.importorskip("onnx", reason="pip install 'dejavlad[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install 'dejavlad[onnx]'")


@pytest.fixture
def folder(tmp_path):
    for place in range(10):
        blocks = np.random.default_rng(place).integers(0, 256, (8, 10, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(blocks.repeat(12, 0).repeat(12, 1)).save(tmp_path / "photos" / f"{place:02}.png")
    return save_model(table_model(create("netvlad", 128, clusters=4)), tmp_path / "model")


@pytest.mark.slow
def test_export_verify_and_use(run, folder):
    status, out, err = run("export", folder, "--out", "m.onnx", "--photos", "photos", "--json")
    assert status == 0, err
    summary = json.loads(out)
    assert summary["onnx"] == "m.onnx" and summary["size"] is None
    assert {one["runtime"] for one in summary["answers"]} >= {"onnxruntime"}
    status, out, _ = run("verify", folder, "m.onnx", "--runtime", "onnxruntime")
    assert status == 0 and "onnxruntime" in out and "ok" in out
    status, _, err = run("verify", folder, "m.onnx", "--resize", "48x48")
    assert status == 1 and "exported from another model" in err
    assert run("extract", folder, "photos", "--out", "a", "--quiet")[0] == 0
    status, out, err = run("extract", "m.onnx", "photos", "--out", "b", "--json")
    assert status == 0, err
    assert set(json.loads(out)["seconds"]) >= {"decode", "network", "write"}
    status, _, err = run("extract", "m.onnx", "photos", "--out", "a")
    assert status == 0, err  # the same model, by its certificate
    assert run("extract", folder, "photos", "--out", "c", "--runtime", "onnxruntime")[0] == 0
    status, _, err = run("extract", "m.onnx", "photos", "--out", "d", "--precision", "int8")
    assert status == 1 and "--calibrate" in err


def test_wrong_usage_is_one_line(run, folder):
    for words, message in (
        (("rootsift-vlad", "--out", "x.onnx"), "is no network"),
        ((folder, "--out", "x.onnx", "--int8"), "go together"),
        ((folder, "--out", "x.onnx", "--precision", "bf16"), "leave --precision"),
        ((folder, "--out", "x.onnx", "--dataset", "town/test"), "give --int8"),
        ((folder, "--out", "x.txt"), "ends with .onnx"),
    ):
        status, _, err = run("export", *words)
        assert status == 1 and message in err and err.strip().count("\n") == 0, err


@pytest.mark.slow
def test_int8_says_what_it_costs(run, folder, street, tmp_path):
    lines = [f'{part} = "{(street / part).as_posix()}"' for part in ("database", "queries")]
    (tmp_path / "mine.toml").write_text("\n".join([*lines, 'truth = "same-name"']), encoding="utf-8")
    words = ("export", folder, "--out", "i.onnx", "--int8", "--calibrate", "photos", "--json", "--quiet")
    status, out, err = run(*words)
    assert status == 0, err
    assert json.loads(out)["precision"] == "int8" and json.loads(out)["calibrated"]["photos"] == 10
    (tmp_path / "i.onnx").unlink()
    (tmp_path / "bare.toml").write_text("\n".join(lines), encoding="utf-8")
    for dataset, message in (("nosuch", "unknown dataset"), ("bare.toml", "has no ground truth")):
        status, _, err = run(*words, "--dataset", dataset)
        assert (status, (tmp_path / "i.onnx").exists()) == (1, False) and message in err  # told at once
    status, out, err = run(*words, "--dataset", "mine.toml")
    assert status == 0, err
    cost = json.loads(out)["recall"]
    assert set(cost["recall"]) == {"1", "5", "10"}
    before, after = cost["recall"]["1"]
    exact, quantised = cost["alone"]["1"]
    assert after - before == pytest.approx((quantised - exact) / cost["n_queries"])
    assert cost["change"]["1"][0] <= after - before <= cost["change"]["1"][1]
    assert json.loads((tmp_path / "i.onnx.json").read_text("utf-8"))["recall"] == cost
    status, out, err = run("verify", folder, "i.onnx", "--runtime", "onnxruntime", "--photos", "photos")
    assert f"what int8 costs on mine, {cost['n_queries']} queries:" in out, err
