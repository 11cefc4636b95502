"""MNN in PyTorch's place: its files in the cache, nothing on standard output, nothing sent."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from dejavlad.errors import CheckpointError, InputError
from dejavlad.export import ExportSetting, export_model, mnn_session, open_export
from dejavlad.export.mnn_session import CONVERT, MnnSession, _quiet
from dejavlad.export.runtimes import chosen_runtime
from dejavlad.model import PatchSetting
from export.members import model
from export.test_export_families import photos

pytest.importorskip("onnx", reason="pip install 'dejavlad[mnn]'")
pytest.importorskip("MNN", reason="pip install 'dejavlad[mnn]'")

MNN = ExportSetting(runtimes=(("mnn", "fp32"),))


@pytest.fixture
def exported(cache, tmp_path):
    path = tmp_path / "x.onnx"
    export_model(model(), path, MNN)
    return path


def test_a_converted_file_is_kept_and_made_again_where_it_is_damaged(exported, cache):
    images = photos(2, 56, 84)
    expected = model().encode(images)
    (made,) = cache.glob("*.mnn")
    before = made.stat().st_mtime_ns
    np.testing.assert_allclose(open_export(exported, runtime="mnn").encode(images), expected, atol=1e-5)
    assert made.stat().st_mtime_ns == before
    whole = made.read_bytes()
    for damaged in (whole[:-1], whole[:100] + bytes(100) + whole[200:], b""):
        made.write_bytes(damaged)
        np.testing.assert_allclose(open_export(exported, runtime="mnn").encode(images), expected, atol=1e-5)
        assert made.read_bytes() != damaged
    made.with_suffix(".json").write_text("{}")
    np.testing.assert_allclose(open_export(exported, runtime="mnn").encode(images), expected, atol=1e-5)


def test_patches_bytes_and_weights_in_their_own_file(cache, tmp_path):
    setting = ExportSetting(
        patches=PatchSetting((2, 3)), with_preprocess=True, runtimes=MNN.runtimes, data_from=100
    )
    path = tmp_path / "x.onnx"
    certificate = export_model(model(whitened=12), path, setting)
    assert certificate.of("mnn", "fp32").ok and certificate.data_sha256
    expected = model(whitened=12).encode(images := photos(3, 56, 84))
    np.testing.assert_allclose(open_export(path, runtime="mnn").encode(images), expected, atol=1e-5)


def test_what_is_no_network_is_refused(exported, cache, tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(exported.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="no network"):
        MnnSession(bad, "fp32")
    with pytest.raises(InputError, match="openvino"):
        MnnSession(exported, "bf16")
    with pytest.raises(InputError, match="1x1x9x9"):
        MnnSession(exported, "fp32").run(np.zeros((1, 1, 9, 9), np.float32))


@pytest.mark.parametrize("trouble", ["cut short", "weights apart", "large", "no Python"])
def test_what_is_not_whole_is_never_kept(trouble, exported, cache, monkeypatch):
    (made,) = cache.glob("*.mnn")
    made.unlink()
    run = subprocess.run

    def converts(command, **options):
        done = run(command, **options)
        fresh = Path(command[command.index("--MNNModel") + 1])
        if trouble == "cut short":  # as by a full disk, which the converter does not see
            os.truncate(fresh, fresh.stat().st_size - 1000)
        else:  # without this file, MNN would compute zeros
            fresh.with_name(fresh.name + ".weight").touch()
        return done

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", converts)
        patch.setattr("dejavlad.export.mnn_session.LARGEST", 10 if trouble == "large" else 1 << 30)
        if trouble == "no Python":
            patch.setattr(sys, "executable", "")
        with pytest.raises(CheckpointError, match=r"whole|one file|2 GB|Python"):
            MnnSession(exported, "fp32")
    assert not [left for left in cache.iterdir() if left.suffix == ".mnn" or left.is_dir()]
    MnnSession(exported, "fp32")
    assert made.is_file()


def test_standard_output_is_restored_by_threads_and_may_be_missing(monkeypatch):
    before = os.fstat(1)
    inside, leave = threading.Event(), threading.Event()

    def redirects():
        with _quiet():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=redirects)
    with _quiet():
        thread.start()
        inside.wait(0.2)
    leave.set()
    thread.join()
    closed = io.StringIO()
    closed.close()
    for stdout in (None, closed):
        monkeypatch.setattr(sys, "stdout", stdout)
        with _quiet():
            pass
    assert os.path.samestat(os.fstat(1), before)


@pytest.mark.slow
def test_standard_output_is_the_programs_own_and_nothing_is_installed(exported, tmp_path):
    program = (
        "import sys; from pathlib import Path; import numpy as np; print('first')\n"
        "from dejavlad.export.mnn_session import MnnSession\n"
        f"made = MnnSession(Path({str(exported)!r}), 'fp32').run(np.zeros((1, 3, 56, 84), np.float32))\n"
        f"try: MnnSession(Path({str(exported)!r}), 'fp32').run(np.zeros((1, 1, 9, 9), np.float32))\n"
        "except ValueError: print('refused')\n"
        "print(made[0].shape, any(name.startswith(('MNN.tools', 'aliyun')) for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "first\nrefused\n(1, 96) False\n"
    assert "MNN.tools" not in CONVERT


def test_the_fastest_is_chosen_by_what_it_computes(monkeypatch):
    monkeypatch.setattr("dejavlad.export.runtimes.installed", lambda _: True)
    assert chosen_runtime("auto") == "mnn"
    assert chosen_runtime("auto", "bf16") == chosen_runtime("auto", convolutions=False) == "openvino"
    monkeypatch.setattr("dejavlad.export.runtimes.installed", lambda name: name != "openvino")
    assert chosen_runtime("auto", "bf16") == "torch"
    assert chosen_runtime("auto", convolutions=False) == "onnxruntime"


def test_a_conversion_that_answers_otherwise_is_made_again_or_refused(make, cache, tmp_path, monkeypatch):
    path = tmp_path / "x.onnx"
    export_model(make(), path, ExportSetting(runtimes=(("onnxruntime", "fp32"),)))
    computed = mnn_session._computed
    wrong = iter([True, False])
    monkeypatch.setattr(
        mnn_session,
        "_computed",
        lambda *given: [np.roll(rows, 1) for rows in computed(*given)] if next(wrong) else computed(*given),
    )
    MnnSession(path, "fp32")
    assert next(wrong, None) is None and len(list(cache.glob("*.mnn"))) == 1
    for file in cache.glob("*mnn*"):
        file.unlink()
    monkeypatch.setattr(mnn_session, "_same", lambda *_: False)
    monkeypatch.setattr(mnn_session, "_computed", computed)
    with pytest.raises(CheckpointError, match="to another network"):
        MnnSession(path, "fp32")
    assert not list(cache.glob("*.mnn"))
