"""Every family is exported with a certificate, and answers as its model at every batch and size it takes."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from dejavlad.aggregation import AGGREGATIONS
from dejavlad.export import ExportSetting, export_model, open_export
from dejavlad.export.network import takes_any_size
from export.members import MEMBERS

pytest.importorskip("onnx", reason="pip install 'dejavlad[onnx]'")
pytest.importorskip("onnxruntime", reason="pip install 'dejavlad[onnx]'")

ONE = (("onnxruntime", "fp32"),)
BOTH = (*ONE, ("mnn", "fp32")) if find_spec("MNN") else ONE


def photos(n, height, width, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8))


@pytest.mark.slow
def test_every_head_has_a_member():
    members = [make() for make in MEMBERS.values()]
    assert {model.aggregation.name for model in members} == AGGREGATIONS.keys()
    assert {getattr(model.aggregation, "version", None) for model in members} >= {1, 2}


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_an_export_answers_as_its_model(name, tmp_path, cache):
    model = MEMBERS[name]()
    size = model.preprocess.output_size(60, 80)
    path = tmp_path / "model.onnx"
    certificate = export_model(model, path, ExportSetting(size, runtimes=BOTH))
    assert all(answers.ok for answers in certificate.answers)
    assert (certificate.opset, certificate.ir_version) == (17, 8)  # onnxruntime 1.12 and later read it
    assert certificate.fingerprint == model.fingerprint
    assert certificate.size == (None if takes_any_size(model) and name != "convap" else size)
    exported = open_export(path, runtime="onnxruntime")
    for batch, images in ((1, photos(1, 50, 70)), (4, photos(5, 60, 80, 1))):
        expected = model.encode(images, batch_size=batch if model.alone else 1)
        np.testing.assert_allclose(exported.encode(images, batch_size=batch), expected, atol=2e-5)
    assert exported.fingerprint == model.fingerprint and exported.descriptor_size == model.descriptor_size


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "squeezenet1_0"])
def test_sides_that_layers_round_are_answered_as_by_the_model(name, tmp_path, cache):
    """SAME padding follows the photo's sides, at each stride."""
    model, path = MEMBERS[name](), tmp_path / "model.onnx"
    export_model(model, path, ExportSetting((64, 96), runtimes=ONE))
    exported = open_export(path)
    for height, width in ((64, 97), (66, 98), (68, 100), (51, 75)):
        images = torch.rand(1, 3, height, width)
        np.testing.assert_allclose(exported.describe(images), model.describe(images).detach(), atol=2e-5)
