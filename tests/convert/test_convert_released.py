"""Released networks: the table, and one that is downloaded on first use, from a local server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from matlab import conv, head, layer, network, write_v5

from dejavlad.cli import main
from dejavlad.errors import CheckpointError, DownloadError, InputError
from dejavlad.model.published.network import Published
from dejavlad.zoo import (
    list_models,
    load_model,
    released,
)
from dejavlad.zoo.released import (
    RELEASED,
)

NAME = "vgg16-netvlad-pitts30k"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """A small network at the address of a local server, by the name of a released one."""
    rng = np.random.default_rng(0)
    filters = rng.normal(size=(3, 3, 3, 8)).astype(np.float32)
    layers = [conv("conv1", filters, np.zeros((1, 8), np.float32), pad=1), layer("relu", "relu1")]
    variables = {"net": network([*layers, *head(rng, 8, "vlad_preL2_intra", 4)])}
    folder = tmp_path / "published"
    folder.mkdir()
    write_v5(folder / "net.mat", variables)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one = replace(RELEASED[NAME], url=f"http://127.0.0.1:{server.server_address[1]}/net.mat", size=None)
    monkeypatch.setitem(released.RELEASED, NAME, one)
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path / "models"))
    yield one
    server.shutdown()
    server.server_close()


def test_the_table_says_all_that_is_to_be_known() -> None:
    assert {"vgg16-netvlad-pitts30k", "vgg16-netvlad-tokyotm-nowhite", "alexnet-max-pitts30k"} <= set(
        RELEASED
    )
    assert sum(name.startswith("patchnetvlad-") for name in RELEASED) == 7
    for name, one in RELEASED.items():
        assert one.name == name and one.url.startswith("https://")
        assert one.what and one.trained_on and one.licence and one.dims > 0
    shared = {"selavprpp-base-bits", "selavprpp-large-bits"}  # of the same files as -rerank
    assert len({one.path for one in RELEASED.values()}) == len(RELEASED) - len(shared)
    listed = {entry.name: entry for entry in list_models()}
    assert listed[NAME].source == RELEASED[NAME].url and listed[NAME].trained_on == "Pitts30K"


@pytest.mark.slow
def test_a_released_name_downloads_on_first_use_only(published: Published) -> None:
    assert not published.here
    model = load_model(NAME, device="cpu")
    assert model.name == NAME and published.here
    assert next(entry for entry in list_models() if entry.name == NAME).here
    again = load_model(NAME, device="cpu", offline=True)
    assert again.fingerprint == model.fingerprint
    photo = np.random.default_rng(1).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(model.encode([photo]), again.encode([photo]))


def test_offline_never_downloads(published: Published) -> None:
    with pytest.raises(DownloadError, match=r"offline.*put it at"):
        load_model(NAME, device="cpu", offline=True)
    assert not published.path.parent.exists() or not list(published.path.parent.iterdir())


def test_a_download_that_changed_is_refused(published: Published) -> None:
    load_model(NAME, device="cpu")
    published.path.unlink()
    record = published.path.with_name(published.path.name + ".sha256")
    record.write_text("0" * 64 + f"  {published.path.name}\n", encoding="utf-8")
    with pytest.raises(DownloadError, match="sha256"):
        load_model(NAME, device="cpu")


def test_released_models_bring_their_own_weights(published: Published) -> None:
    with pytest.raises(InputError, match="brings its own weights"):
        load_model(NAME, device="cpu", weights="random:0")


def test_models_download(published: Published, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "download", NAME]) == 0
    assert str(published.path) in capfd.readouterr().out and published.here
    assert main(["models", "download", "rootsift-vlad"]) == 0
    assert "needs no weights" in capfd.readouterr().out
    assert main(["models", "download", "resnet50", "--offline"]) == 1
    assert "resnet50-0676ba61.pth" in capfd.readouterr().err
    assert main(["models", "download", "vgg16-netvald"]) == 1
    assert "did you mean" in capfd.readouterr().err


def test_import_and_verify(published: Published, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "published" / "net.mat"
    assert main(["import", str(source), "--out", str(tmp_path / "model")]) == 0
    assert "32 dims" in capfd.readouterr().out
    opened = load_model(tmp_path / "model", device="cpu")
    assert opened.fingerprint == load_model(source, device="cpu").fingerprint
    photo = np.random.default_rng(1).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    right = opened.encode([photo])
    np.savez(tmp_path / "right.npz", input=photo, postL2=right)
    np.savez(tmp_path / "wrong.npz", input=photo, postL2=right + 0.01)
    assert main(["verify", str(tmp_path / "model"), str(tmp_path / "right.npz")]) == 0
    assert "ok" in capfd.readouterr().out
    assert main(["verify", str(tmp_path / "model"), str(tmp_path / "wrong.npz")]) == 1
    printed = capfd.readouterr()
    assert "DIFFERS" in printed.out and "1 of 1 layers differ, postL2 first" in printed.err


def test_what_cannot_be_imported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 no network")
    assert main(["import", str(tmp_path / "photo.jpg"), "--out", str(tmp_path / "model")]) == 1
    printed = capfd.readouterr().err
    assert "is of no kind that can be imported" in printed and printed.count("\n") == 1
    assert not (tmp_path / "model").exists()
    with pytest.raises(CheckpointError, match="no kind"):
        load_model(tmp_path / "photo.jpg")
