"""Pooling by its definition."""

import pytest
import torch

from dejavlad.aggregation import AvgPool, GeM, MaxPool, create


def feature_maps():
    return torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0))


def test_gem_by_definition():
    feat = feature_maps()
    expected = feat.double().clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)
    torch.testing.assert_close(GeM(6).aggregate(feat.flatten(2)), expected.float())


def test_gem_lies_between_average_and_maximum():
    feat = feature_maps().abs()
    torch.testing.assert_close(GeM(6, p=1.0)(feat), AvgPool(6)(feat))
    torch.testing.assert_close(GeM(6, p=1000.0)(feat), MaxPool(6)(feat), atol=2e-3, rtol=0)


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e3])
def test_gem_neither_overflows_nor_underflows(scale):
    layer, feat = GeM(6, p=20.0), (feature_maps() * scale).requires_grad_()
    layer(feat).sum().backward()
    assert torch.isfinite(feat.grad).all()
    assert torch.isfinite(layer.p.grad).all()


def test_max_and_average_see_negative_features():
    feat = -1 - feature_maps().abs()
    torch.testing.assert_close(MaxPool(6).aggregate(feat.flatten(2)), feat.amax(dim=(2, 3)))
    assert (AvgPool(6)(feat) < 0).all()


@pytest.mark.parametrize("name", ["max", "avg", "gem"])
def test_pooling_of_local_features_at_unit_length(name):
    feat = feature_maps()
    unit = feat / feat.norm(dim=1, keepdim=True)
    layer = create(f"{name}_preL2", 6)
    torch.testing.assert_close(layer(feat), create(name, 6)(unit), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(layer(feat), create(name, 6)(feat), atol=1e-3)
    again = create(layer.name, 6, **layer.options)
    torch.testing.assert_close(again(feat), layer(feat))
    assert "normalize_input" not in create(name, 6).options
