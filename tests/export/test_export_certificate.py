"""A certificate fits its file to the byte, tells what was compared, and nothing else is a model."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

import dejavlad as dv
from dejavlad.aggregation import create
from dejavlad.errors import CheckpointError, DejavladError, InputError, StoreBusyError, StoreMismatchError
from dejavlad.export import ExportSetting, export_model, open_export, read_certificate
from dejavlad.export.certificate import Certificate, certificate_file
from dejavlad.export.make import recertify
from dejavlad.export.onnx_file import data_file
from dejavlad.extraction import extract
from dejavlad.guarded.json_file import with_checksum, without_checksum
from dejavlad.images import Preprocess
from dejavlad.model import PatchSetting, save_model
from dejavlad.photo import PhotoList
from dejavlad.storage import one_writer
from dejavlad.zoo import load_model
from export.members import SIZE
from export.test_export_families import photos

pytest.importorskip("onnx", reason="pip install 'dejavlad[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install 'dejavlad[onnx]'")

ONE = (("onnxruntime", "fp32"),)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    from export.members import model

    made, path = model(whitened=20), tmp_path_factory.mktemp("exported") / "small.onnx"
    export_model(made, path, ExportSetting(runtimes=ONE))
    return made, path


@pytest.fixture
def copy(exported, tmp_path):
    """The file and its certificate, to be spoilt."""
    for path in (exported[1], certificate_file(exported[1])):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / exported[1].name


def test_what_it_tells(exported):
    model, path = exported
    certificate = read_certificate(path)
    (answers,) = certificate.answers
    assert answers.ok and answers.cosine_min > 0.999999 and answers.difference < 1e-5
    assert answers.same_first == 1 and answers.photos == 8 and len(answers.sizes) == 2
    assert json.loads(certificate_file(path).read_text())["fingerprint"] == model.fingerprint
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(metadata["dejavlad.certificate"])["network_sha256"] == certificate.network_sha256
    assert json.loads(metadata["dejavlad.preprocess"]) == model.preprocess.to_dict()


def test_the_certificate_within_serves_alone(copy, exported):
    certificate_file(copy).unlink()
    assert read_certificate(copy) == read_certificate(exported[1])


def test_a_file_without_certificate_is_refused(copy):
    certificate = read_certificate(copy)
    certificate_file(copy).unlink()
    copy.write_bytes(copy.read_bytes()[: certificate.network_bytes])
    with pytest.raises(CheckpointError, match=r"no certificate.*dejavlad export"):
        load_model(copy)


@pytest.mark.parametrize("at", (0.1, 0.5, 0.9))
def test_a_changed_byte_is_refused(copy, at):
    content = bytearray(copy.read_bytes())
    content[int(read_certificate(copy).network_bytes * at)] ^= 1
    copy.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"does not fit.*dejavlad export"):
        load_model(copy)


def test_further_bytes_and_changed_figures_are_refused(copy):
    whole = copy.read_bytes()
    copy.write_bytes(whole + b"\x72\x00")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_model(copy)
    copy.write_bytes(whole)
    text = certificate_file(copy).read_text()
    certificate_file(copy).write_text(text.replace('"cosine_min": 1.0', '"cosine_min": 0.5'))
    assert text != certificate_file(copy).read_text()
    with pytest.raises(CheckpointError, match="changed since it was written"):
        load_model(copy)


def test_the_certificate_of_another_file_is_refused(copy, make, tmp_path):
    other = tmp_path / "other.onnx"
    export_model(make(seed=5), other, ExportSetting(runtimes=ONE))
    shutil.copy(certificate_file(other), certificate_file(copy))
    with pytest.raises(CheckpointError, match="of another file"):
        load_model(copy)


def test_answers_that_differ_are_not_written(make, tmp_path, monkeypatch):
    model, out = make(), tmp_path / "x.onnx"
    export_model(model, out, ExportSetting(runtimes=ONE))
    before = out.read_bytes()
    monkeypatch.setattr("dejavlad.export.network.ExportedNetwork.forward", lambda self, x: x.mean((2, 3)) + 1)
    with pytest.raises(DejavladError, match="nothing was written"):
        export_model(model.with_dims(3), out, ExportSetting(runtimes=ONE))
    assert out.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == [
        "x.onnx",
        "x.onnx.json",
    ]


def test_verify_makes_it_again_and_knows_another_model(copy, exported, make):
    certificate = read_certificate(copy)
    again = recertify(exported[0], copy, certificate, ONE, photos(4, 50, 60))
    assert again.answers[0].photos == 4 and read_certificate(copy) == again
    with pytest.raises(DejavladError, match="exported from another model"):
        recertify(make(seed=9), copy, certificate, ONE)


def test_stores_of_both_accept_each_other_and_no_other(exported, tmp_path):
    model, path = exported
    listed = PhotoList.of(photos(5, 50, 60))
    ours = extract(model, listed, tmp_path / "ours")
    theirs = extract(open_export(path), listed, tmp_path / "ours")  # goes on in the same store
    np.testing.assert_array_equal(theirs.rows, ours.rows)
    fresh = extract(open_export(path), listed, tmp_path / "fresh")
    np.testing.assert_allclose(fresh.rows, ours.rows, atol=1e-5)
    other = open_export(path).with_preprocess(Preprocess("40x40"))
    assert other.fingerprint != model.fingerprint
    with pytest.raises(StoreMismatchError):
        extract(other, listed, tmp_path / "ours")
    assert open_export(path).with_dims(8).fingerprint not in (model.fingerprint, other.fingerprint)


@pytest.mark.slow
def test_a_map_keeps_the_file_and_opens_with_it(exported, tmp_path):
    model, path = exported
    town = dv.PlaceMap.build(open_export(path), photos(6, 50, 60), tmp_path / "map")
    again = dv.PlaceMap.open(tmp_path / "map")
    assert again.model.fingerprint == model.fingerprint == town.model.fingerprint
    (answer,) = again.locate(photos(6, 50, 60)[2:3], k=1)
    assert answer.matches[0].name == town.locate(photos(6, 50, 60)[2:3], k=1)[0].matches[0].name


@pytest.mark.slow
def test_patches_are_further_outputs(make, tmp_path):
    model = make(create("netvlad", 16, clusters=5, epsilon="torch"), whitened=20)
    path, setting = tmp_path / "p.onnx", PatchSetting((2, 3), (1, 2))
    certificate = export_model(model, path, ExportSetting(patches=setting, runtimes=ONE))
    assert certificate.patches == {"sizes": [2, 3], "strides": [1, 2], "dims": 20}
    assert (certificate.opset, certificate.ir_version) == (17, 8)
    images = [*photos(2, 56, 84), *photos(1, 84, 56)]
    exported = open_export(path)
    expected = model.encode_patches(images, sizes=(2, 3), strides=(1, 2))
    for ours, theirs in zip(
        expected, exported.encode_patches(images, sizes=(2, 3), strides=(1, 2)), strict=True
    ):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a.descriptors, b.descriptors, atol=2e-5, rtol=0)
            torch.testing.assert_close(a.centres, b.centres)
            assert (a.grid, a.size, a.step) == (b.grid, b.size, b.step)
    with pytest.raises(InputError, match=r"sizes \[2, 3\]"):
        exported.encode_patches(images)
    store = extract(exported, PhotoList.of(images), tmp_path / "s", patches=setting)
    np.testing.assert_allclose(store.rows, model.encode(images), atol=1e-5)


@pytest.mark.parametrize(("whitened", "dims"), [(20, 12), (20, None), (None, None)])
def test_patches_are_compared_again_with_as_many_dimensions(make, tmp_path, whitened, dims):
    model = make(create("netvlad", 16, clusters=5, epsilon="torch"), whitened=whitened)
    path, setting = tmp_path / "p.onnx", PatchSetting((2,), dims=dims)
    certificate = export_model(model, path, ExportSetting(patches=setting, runtimes=ONE))
    again = recertify(model, path, certificate, ONE, photos(3, 56, 84))
    assert again.patches == certificate.patches and again.answers[0].ok


def test_bytes_in_give_the_same_answers(make, tmp_path):
    for name, prepare in (("caffe", dv_caffe()), ("plain", Preprocess(SIZE))):
        model, path = make(preprocess=prepare), tmp_path / f"{name}.onnx"
        certificate = export_model(model, path, ExportSetting(with_preprocess=True, runtimes=ONE))
        assert certificate.with_preprocess
        images = photos(3, 50, 70)
        np.testing.assert_allclose(open_export(path).encode(images), model.encode(images), atol=1e-5)
    grey = make(preprocess=Preprocess(SIZE, grey=True))
    with pytest.raises(InputError, match="--with-preprocess: this model's photos are made grey"):
        export_model(grey, tmp_path / "grey.onnx", ExportSetting(with_preprocess=True))


def dv_caffe():
    from dataclasses import replace

    from dejavlad.images.preprocess import PREPROCESSING

    return replace(PREPROCESSING["caffe"], resize=SIZE)


def test_large_weights_lie_beside(make, tmp_path):
    model, path = make(whitened=20), tmp_path / "large.onnx"
    export_model(model, path, ExportSetting(runtimes=ONE, data_from=1000))
    assert data_file(path).stat().st_size > 5000
    np.testing.assert_allclose(
        open_export(path).encode(photos(2, 50, 60)), model.encode(photos(2, 50, 60)), atol=1e-5
    )
    content = bytearray(data_file(path).read_bytes())
    content[100] ^= 1
    data_file(path).write_bytes(content)
    with pytest.raises(CheckpointError, match="weights beside it"):
        read_certificate(path)


def test_a_map_keeps_large_weights_with_their_network(make, tmp_path):
    model, path = make(whitened=20), tmp_path / "large.onnx"
    export_model(model, path, ExportSetting(runtimes=ONE, data_from=1000))
    opened = open_export(path)
    kept = load_model(opened.save_export(tmp_path / "kept"))
    assert kept.fingerprint == opened.fingerprint
    np.testing.assert_array_equal(kept.encode(photos(2, 50, 60)), opened.encode(photos(2, 50, 60)))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "secret.bin"])
@pytest.mark.parametrize("certified", [False, True])
def test_a_network_takes_no_bytes_of_other_files(make, tmp_path, location, certified):
    """The certificate is its maker's own, so that it proves nothing of the files that a network names."""
    import onnx

    model, path = make(), tmp_path / "in" / "large.onnx"
    export_model(model, path, ExportSetting(runtimes=ONE, data_from=1000))
    for folder in (tmp_path, path.parent):
        shutil.copy(data_file(path), folder / "secret.bin")
    network = onnx.load(str(path), load_external_data=False)
    for tensor in network.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    content = network.SerializeToString()
    path.write_bytes(content)
    fields = without_checksum(json.loads(certificate_file(path).read_text()))
    fields["network_sha256"], fields["network_bytes"] = hashlib.sha256(content).hexdigest(), len(content)
    fields["data_sha256"] = fields["data_sha256"] if certified else None
    certificate_file(path).write_text(json.dumps(with_checksum(fields)))
    if certified and location == "secret.bin":  # the same bytes, under another name beside it
        open_export(path)
        return
    with pytest.raises(CheckpointError, match=r"does not lie beside it|another file"):
        open_export(path)


def test_what_a_killed_export_left_goes_with_the_next(make, tmp_path):
    path = tmp_path / "small.onnx"
    left = tmp_path / ".small.onnx.partial"
    (left / "deep").mkdir(parents=True)
    (left / "small.onnx").write_bytes(b"half")
    with one_writer(left), pytest.raises(StoreBusyError):
        export_model(make(), path, ExportSetting(runtimes=ONE))
    assert not path.exists()
    export_model(make(), path, ExportSetting(runtimes=ONE))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["small.onnx", "small.onnx.json"]


def test_the_settings_beside_a_kept_network_are_checked(make, tmp_path, exported):
    kept = open_export(exported[1]).save_export(tmp_path / "kept")
    fields = without_checksum(json.loads((kept / "spec.json").read_text()))
    fields["preprocess"]["mean"] = [0.1, 0.2, 0.3]
    (kept / "spec.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="another network"):
        load_model(kept)


def test_what_cannot_be_exported_is_refused(make, tmp_path, exported):
    with pytest.raises(InputError, match="is no network"):
        export_model(load_model("rootsift-vlad", device="cpu"), tmp_path / "x.onnx")
    with pytest.raises(InputError, match=r"ends with \.onnx"):
        export_model(make(), tmp_path / "x.pt")
    with pytest.raises(InputError, match="at least 3 photos"):
        export_model(make(), tmp_path / "x.onnx", images=photos(2, 40, 40))
    opened = open_export(exported[1])
    with pytest.raises(InputError, match="not feature maps"):
        opened.features(torch.zeros(1, 3, 56, 84))
    with pytest.raises(InputError, match="cannot learn a whitening"):
        opened.with_whitening(None)
    with pytest.raises(InputError, match="is a whole model"):
        load_model(exported[1], weights="random:0")
    save_model(opened, tmp_path / "kept")
    assert load_model(tmp_path / "kept").fingerprint == opened.fingerprint


def test_what_int8_costs_is_read_back_and_older_certificates_have_none(exported):
    fields = read_certificate(exported[1]).to_dict()
    assert fields.pop("recall") is None and Certificate.from_dict(fields).recall is None
    cost = {
        "dataset": "town/test",
        "n_queries": 200,
        "recall": {"1": [0.5, 0.49], "5": [0.75, 0.75]},
        "change": {"1": [-0.02, 0.005], "5": [0.0, 0.0]},
        "alone": {"1": [3, 1], "5": [0, 0]},
    }
    certificate = Certificate.from_dict(fields | {"recall": cost})
    assert certificate.to_dict()["recall"] == cost
    assert str(certificate.recall).split("\n") == [
        "what int8 costs on town/test, 200 queries:",
        "  recall@1 0.500 in float32, 0.490 in int8: -1.0 points, with 95 % between -2.0 and +0.5; "
        "right in float32 alone 3, in int8 alone 1",
        "  recall@5 0.750 in float32, 0.750 in int8: the same on every query",
    ]
    for damage in ({"alone": {"1": [3, 1]}}, {"change": {"1": [0.0], "5": [0, 0]}}, {"n_queries": "many"}):
        with pytest.raises(CheckpointError, match="no certificate"):
            Certificate.from_dict(fields | {"recall": cost | damage})
