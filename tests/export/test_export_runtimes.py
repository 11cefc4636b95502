"""Runtimes in PyTorch's place: the same answers, exported once, refused where they are not proven."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from dejavlad.aggregation import create
from dejavlad.errors import CheckpointError, InputError, MissingExtraError, UnknownNameError
from dejavlad.export import ExportSetting, attach, export_model, onnx_file, open_export
from dejavlad.export.certificate import read_certificate, write_certificate
from dejavlad.export.engines import CachedEngine
from dejavlad.export.quantise import SHARES, export_int8
from dejavlad.extraction import extract
from dejavlad.extraction.seconds import Seconds
from dejavlad.model import PatchSetting, save_model
from dejavlad.photo import Photo, PhotoList
from dejavlad.zoo import load_model
from export.members import MEMBERS, convolutional, table_model
from export.test_export_families import photos

pytest.importorskip("onnx", reason="pip install 'dejavlad[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install 'dejavlad[onnx]'")


def installed(name):
    return pytest.param(name, marks=pytest.mark.skipif(not importable(name), reason=f"no {name}"))


def importable(name):
    from dejavlad.export.runtimes import installed

    return installed(name)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [installed("onnxruntime"), installed("openvino"), installed("mnn")])
def test_the_same_encode(runtime, make, cache, tmp_path):
    folder = save_model(table_model(), tmp_path / "model")
    plain = load_model(folder, device="cpu", resize="longest:64")
    fast = load_model(folder, resize="longest:64", runtime=runtime)
    images = [*photos(3, 50, 64), *photos(2, 64, 40)]
    np.testing.assert_allclose(fast.encode(images, batch_size=2), plain.encode(images), atol=1e-5)
    assert fast.fingerprint == plain.fingerprint
    (path,) = cache.glob("*.onnx")
    before = path.stat().st_mtime_ns
    load_model(folder, resize="40x40", runtime=runtime).encode(images)  # another size, the same network
    assert path.stat().st_mtime_ns == before and len(list(cache.glob("*.onnx"))) == 1
    path.write_bytes(path.read_bytes()[:-1])  # damaged: made again
    again = load_model(folder, resize="longest:64", runtime=runtime)
    np.testing.assert_allclose(again.encode(images), plain.encode(images), atol=1e-5)
    assert read_certificate(path).of(runtime, "fp32").ok


def test_a_changed_weight_is_another_network(make, cache):
    import torch

    model = attach(make(), "onnxruntime")
    images = photos(2, 56, 84)
    before = model.encode(images)
    with torch.no_grad():
        model.backbone.net[0].weight.mul_(-1)
    assert np.abs(model.encode(images) - before).max() > 1e-3
    model.engine = None
    assert np.abs(model.encode(images) - before).max() > 1e-3


@pytest.mark.slow
def test_stores_and_patches_are_the_same(make, cache, tmp_path):
    listed, setting = PhotoList.of(photos(4, 56, 84)), PatchSetting((2, 3))
    pooling = create("netvlad", 16, clusters=4, epsilon="torch")
    ours = extract(make(pooling, whitened=12), listed, tmp_path / "a", patches=setting)
    theirs = extract(
        attach(make(pooling, whitened=12), "onnxruntime"), listed, tmp_path / "b", patches=setting
    )
    np.testing.assert_allclose(theirs.rows, ours.rows, atol=1e-5)
    from dejavlad.extraction.patches import PatchStore

    def of(name, key):
        return PatchStore.open(tmp_path / name).patches(key)

    for key in ours.keys:
        for a, b in zip(of("a", key), of("b", key), strict=True):
            np.testing.assert_allclose(a.descriptors.float(), b.descriptors.float(), atol=2e-3)


def test_photos_of_one_channel_are_refused_and_others_described(make, cache, tmp_path):
    sized = load_model(save_model(table_model(), tmp_path / "m"), runtime="onnxruntime", resize="none")
    with pytest.raises(InputError, match="prepared photos must be"):
        import torch

        with torch.no_grad():
            sized.describe(torch.zeros(1, 1, 8, 8))
    assert sized.encode(photos(1, 40, 60)).shape == (1, 12)


def test_names_and_extras(make, monkeypatch, tmp_path):
    folder = save_model(table_model(), tmp_path / "m")
    with pytest.raises(UnknownNameError, match="runtime"):
        load_model(folder, runtime="tensorrt")
    with pytest.raises(InputError, match="no network"):
        load_model("rootsift-vlad", runtime="onnxruntime")
    assert load_model("rootsift-vlad", runtime="auto").engine is None
    with pytest.raises(InputError, match="in fp32 and int8 on a processor"):
        load_model(folder, runtime="onnxruntime", precision="bf16")
    with pytest.raises(InputError, match="--device"):
        load_model(folder, runtime="onnxruntime", device="cuda")
    with pytest.raises(InputError, match="--int8 --calibrate"):
        load_model(folder, precision="int8")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dejavlad\[onnx\]'"):
        load_model(folder, runtime="onnxruntime")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "mnn"])
def test_a_missing_runtime_is_told(name, make, monkeypatch, tmp_path):
    path = tmp_path / "x.onnx"
    export_model(make(), path, ExportSetting(runtimes=(("onnxruntime", "fp32"),)))
    monkeypatch.setattr("dejavlad.export.runtimes.importlib.util.find_spec", lambda _: None)
    folder = save_model(table_model(), tmp_path / "m")
    with pytest.raises(MissingExtraError, match=r"pip install 'dejavlad\[(onnx|openvino|mnn)\]'"):
        attach(load_model(folder, device="cpu"), name)


@pytest.mark.parametrize("trouble", [CheckpointError, InputError])
def test_auto_computes_in_torch_where_a_further_runtime_cannot_open_the_file(
    trouble, make, cache, monkeypatch
):
    pytest.importorskip("onnxruntime", reason="pip install 'dejavlad[onnx]'")
    images, expected = photos(2, 56, 84), make().encode(photos(2, 56, 84))
    attach(make(), "onnxruntime").encode(images)

    def refuse(*_):
        raise trouble("not this file")

    monkeypatch.setattr("dejavlad.export.make.open_session", refuse)
    model = make()
    model.engine = CachedEngine("openvino", strict=False)
    np.testing.assert_array_equal(model.encode(images), expected)
    model.engine = CachedEngine("openvino", strict=True)
    with pytest.raises(InputError):
        model.encode(images)


def test_files_of_the_cache_that_were_compared_at_even_sides_alone_are_made_again(make, cache):
    pytest.importorskip("onnxruntime", reason="pip install 'dejavlad[onnx]'")
    images = photos(1, 56, 84)
    attach(make(), "onnxruntime").encode(images)
    (path,) = cache.glob("*.onnx")
    certificate = read_certificate(path)
    (answers,) = certificate.answers
    assert any(side % 2 for size in answers.sizes for side in size)
    older = replace(answers, sizes=((56, 84), (88, 64)))
    write_certificate(path, replace(certificate, answers=(older,)))
    attach(make(), "onnxruntime").encode(images)
    assert read_certificate(path).answers[0].sizes == answers.sizes


def test_a_file_runs_only_in_what_computes_its_precision(make, monkeypatch, tmp_path):
    path = tmp_path / "x.onnx"
    certificate = export_model(make(), path, ExportSetting(runtimes=(("onnxruntime", "fp32"),)))
    write_certificate(path, replace(certificate, precision="int8"))
    monkeypatch.setattr("dejavlad.export.exported_model.installed", lambda name: name != "onnxruntime")
    with pytest.raises(InputError, match="says nothing of openvino in int8"):
        open_export(path)
    with pytest.raises(InputError, match="mnn computes in fp32 on a processor; for int8"):
        open_export(path, runtime="mnn")


def test_what_is_not_certified_is_refused(make, tmp_path):
    path = tmp_path / "x.onnx"
    export_model(make(), path, ExportSetting(runtimes=(("onnxruntime", "fp32"),)))
    with pytest.raises(InputError, match=r"says nothing of openvino.*dejavlad verify MODEL x.onnx --runtime"):
        open_export(path, runtime="openvino")
    with pytest.raises(InputError, match="--int8 --calibrate"):
        open_export(path, precision="int8")


def weight_makers(path):
    """The operation that makes each convolution's weight; none where it lies in the file as it is."""
    nodes = onnx_file.read(path).graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    return [makers.get(node.input[1], "") for node in nodes if node.op_type == "Conv"]


def test_the_first_convolutions_are_those_of_few_multiplications(tmp_path):
    model, path = MEMBERS["squeezenet1_0"](), tmp_path / "x.onnx"
    export_model(model, path, ExportSetting((64, 96), runtimes=(("onnxruntime", "fp32"),)))
    work = []

    def note(layer, given, made):
        work.append(made[0, 0].numel() * layer.weight.numel())

    for layer in model.backbone.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(note)
    model.backbone(torch.zeros(1, 3, 64, 96))
    count = 1
    while sum(work[1 : count + 1]) <= 0.05 * sum(work):
        count += 1
    first = onnx_file.first_convolutions(onnx_file.read(path), (1, 3, 64, 96), 0.05)
    assert len(first) == count > 1 and "features.0" in first[0] and "features.3" in first[-1]
    assert onnx_file.first_convolutions(onnx_file.read(path), (1, 3, 64, 96), 0.0) == first[:1]


@pytest.mark.slow
@pytest.mark.parametrize("quantiser", ["nncf", "onnxruntime"])
def test_int8_is_another_model(quantiser, make, tmp_path, monkeypatch):
    pytest.importorskip(quantiser)
    model, path = make(create("gem", 16)), tmp_path / "i.onnx"
    if quantiser == "onnxruntime":
        monkeypatch.setattr("dejavlad.export.quantise.installed", lambda name: name != "nncf")
    with pytest.raises(InputError, match="at least 8 photos"):
        export_int8(model, path, calibrate=photos(2, 50, 60))
    certificate = export_int8(model, path, calibrate=photos(12, 50, 60), images=photos(4, 50, 60, 3))
    assert certificate.precision == "int8" and certificate.calibrated["by"].startswith(quantiser)
    assert (certificate.opset, certificate.ir_version) == (17, 8)  # onnxruntime 1.12 and later read it
    assert weight_makers(path) == ["", "DequantizeLinear"]  # the first convolution stays as it is
    small = load_model(path)
    assert small.precision == "int8" and small.fingerprint != model.fingerprint
    assert load_model(path, precision="int8").fingerprint == small.fingerprint
    images = photos(4, 50, 60, 3)
    cosines = (small.encode(images) * model.encode(images)).sum(axis=1)
    assert 0.9 < cosines.min() < 0.9999999
    assert certificate.answers[0].cosine_min == pytest.approx(float(cosines.min()), abs=0.02)


@pytest.mark.parametrize(
    ("near", "worse", "tried", "kept"),
    [(0.5, 0.0, [0.0], 1), (2.0, 0.0, list(SHARES), 2), (2.0, 0.05, list(SHARES), 1)],
)
def test_more_layers_stay_exact_only_where_descriptors_are_nearer(
    near, worse, tried, kept, make, tmp_path, monkeypatch
):
    shares = []

    class Copies:
        name = "copies 1"

        def __call__(self, source, made, prepared, share):
            shares.append(share)
            network = onnx_file.read(source)
            if share == worse:
                weights = next(part for part in network.graph.initializer if len(part.dims) == 4)
                changed = np.frombuffer(weights.raw_data, np.float32).copy()
                changed[::2] *= 1.1
                weights.raw_data = changed.tobytes()
            onnx_file.rewrite(network, made)

    monkeypatch.setattr("dejavlad.export.quantise.quantiser", Copies)
    monkeypatch.setattr("dejavlad.export.quantise.NEAR", near)
    setting = ExportSetting(runtimes=(("onnxruntime", "int8"),))
    monkeypatch.setattr(
        onnx_file, "first_convolutions", lambda _, shape, share: ["a", "b"][: 1 + (share > 0)]
    )
    certificate = export_int8(make(), tmp_path / "i.onnx", setting, calibrate=photos(9, 50, 60))
    assert shares == tried and certificate.calibrated["first"] == kept
    assert read_certificate(tmp_path / "i.onnx") == certificate  # of the file that it lies beside
    assert certificate.answers[0].cosine_mean > 0.99999 or near == 0.5
    monkeypatch.setattr(onnx_file, "first_convolutions", lambda *_: ["a"])  # no others to leave
    export_int8(make(), tmp_path / "j.onnx", setting, calibrate=photos(9, 50, 60))
    assert shares == [*tried, 0.0]
    assert certificate.answers[0].photos == 8  # some of those that it was calibrated on


@pytest.mark.slow
def test_decoding_overlaps_and_steps_are_measured(make, tmp_path):
    import time

    import cv2

    class Slow(type(make())):
        def describe(self, images):
            time.sleep(0.05)
            return super().describe(images)

    model = make()
    model.__class__ = Slow
    listed = []
    for row, photo in enumerate(photos(12, 600, 800)):
        cv2.imwrite(str(tmp_path / f"{row}.png"), photo)
        listed.append(Photo(f"{row}.png", tmp_path / f"{row}.png"))
    seconds = Seconds()
    start = time.perf_counter()
    store = extract(model, PhotoList(listed), tmp_path / "s", batch_size=1, workers=2, seconds=seconds)
    whole = time.perf_counter() - start
    assert seconds.network >= 0.6 and seconds.decode > 0 and seconds.write > 0
    assert seconds.network + seconds.wait + seconds.write <= whole
    assert seconds.wait < seconds.decode  # most of it happened while the network computed
    again = extract(model, PhotoList(listed), tmp_path / "t", batch_size=1)
    np.testing.assert_array_equal(again.rows, store.rows)
    assert (tmp_path / "s" / "manifest.json").read_text() == (tmp_path / "t" / "manifest.json").read_text()


@pytest.mark.parametrize("runtime", [installed("onnxruntime"), installed("openvino"), installed("mnn")])
def test_photos_too_small_for_a_layer_are_refused(runtime, cache, tmp_path):
    """onnxruntime and MNN would divide by zero, which ends the process."""
    path = tmp_path / "x.onnx"
    export_model(MEMBERS["squeezenet1_0"](), path, ExportSetting((64, 96), runtimes=((runtime, "fp32"),)))
    exported = open_export(path, runtime=runtime)
    for side in (1, 8, 9):
        with pytest.raises(InputError, match=rf"{side}x{side} pixels are too small for "):
            exported.describe(torch.zeros(2, 3, side, side))
    assert exported.describe(torch.zeros(2, 3, 20, 20)).shape == (2, 512)


@pytest.mark.parametrize("runtime", [installed("onnxruntime"), installed("openvino"), installed("mnn")])
def test_photos_too_small_for_a_patch_are_refused(runtime, make, cache, tmp_path):
    """Of cells of 4 pixels; more than 128 pixels may be too few too."""
    path, setting = tmp_path / "x.onnx", PatchSetting((2, 40))
    wide = ExportSetting((180, 200), patches=setting, runtimes=((runtime, "fp32"),))
    export_model(make(), path, wide, images=photos(3, 180, 200))
    exported = open_export(path, runtime=runtime)
    for side in (6, 100, 156):
        with pytest.raises(InputError, match=rf"{side}x{side} pixels are too small for "):
            exported.describe_with_patches(torch.zeros(1, 3, side, side), setting)
    assert len(exported.describe_with_patches(torch.zeros(1, 3, 160, 160), setting)[1][0]) == 2


@pytest.mark.slow
def test_layers_whose_padding_follows_the_photo(cache, tmp_path):
    path, setting = tmp_path / "x.onnx", PatchSetting((3,))
    model = convolutional("efficientnet_lite0", pooling="netvlad", clusters=4)
    export_model(model, path, ExportSetting((64, 96), patches=setting, runtimes=(("onnxruntime", "fp32"),)))
    exported, outline = open_export(path), onnx_file.read_outline(path)
    last = [node for node in outline.graph.node if node.op_type == "Conv" and "backbone" in node.name][-1]
    for height, width in ((64, 96), (131, 97)):
        cells = model.backbone(torch.zeros(1, 3, height, width)).shape
        assert onnx_file.inferred_sides(outline, (1, 3, height, width))[last.output[0]] == tuple(cells)
    assert len(onnx_file.first_convolutions(onnx_file.read(path), (1, 3, 64, 96), 0.05)) > 1
    with pytest.raises(InputError, match="32x40 pixels are too small for patches of 3x3 cells"):
        exported.describe_with_patches(torch.zeros(1, 3, 32, 40), setting)
    images = torch.rand(1, 3, 33, 40)
    (made,), (expected,) = (each.describe_with_patches(images, setting)[1][0] for each in (exported, model))
    np.testing.assert_allclose(made.descriptors, expected.descriptors.detach(), atol=2e-5)
