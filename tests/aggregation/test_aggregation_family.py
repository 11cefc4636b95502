"""What every aggregation keeps, whichever it is."""

import pytest
import torch

from dejavlad.aggregation import AGGREGATIONS, create
from dejavlad.errors import InputError, UnknownNameError

DIM = 6
FAMILY = {
    "netvlad": {"clusters": 4},
    "netvlad v2": {"clusters": 4, "version": 2},
    "netvlad torch": {"clusters": 4, "epsilon": "torch", "intra_norm": False},
    "netvlad bare": {"clusters": 3, "normalize_input": False, "intra_norm": False},
    "netvlad_tied": {"clusters": 4},
    "vlad": {"clusters": 4},
    "vlad cosine": {"clusters": 4, "cosine": True},
    "vlad soft": {"clusters": 4, "sharpness": 5.0, "power": 0.5, "residual_norm": True, "skip_empty": False},
    "max": {},
    "avg": {},
    "gem": {"p": 2.5},
}


@pytest.fixture(params=FAMILY)
def layer(request):
    torch.manual_seed(3)
    return create(request.param.split()[0], DIM, **FAMILY[request.param])


def feature_maps(n=3, height=5, width=4, dtype=torch.float32):
    return torch.randn(n, DIM, height, width, dtype=dtype, generator=torch.Generator().manual_seed(1))


def test_family_is_whole():
    poolings = {name for name, layer in AGGREGATIONS.items() if not layer.needs_training}
    assert {name.split()[0] for name in FAMILY} == poolings  # heads: test_aggregation_heads.py


def test_table_and_layer_agree_on_name_and_options(layer):
    again = create(layer.name, DIM, **layer.options)
    assert type(again) is AGGREGATIONS[layer.name] is type(layer)
    assert again.options == layer.options
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(feature_maps()), layer(feature_maps()))


@pytest.mark.slow
def test_unit_length_float32_and_size(layer):
    rows_ND = layer(feature_maps())
    assert rows_ND.dtype == torch.float32
    assert rows_ND.shape == (3, layer.descriptor_size)
    torch.testing.assert_close(rows_ND.norm(dim=1), torch.ones(3))


def test_order_of_locations_does_not_matter(layer):
    feat = feature_maps()
    shuffled = feat.flatten(2)[:, :, torch.randperm(20, generator=torch.Generator().manual_seed(5))]
    torch.testing.assert_close(layer(shuffled.view(3, DIM, 2, 10)), layer(feat), atol=1e-6, rtol=1e-5)


def test_photos_of_a_batch_do_not_touch_each_other(layer):
    feat = feature_maps()
    alone = torch.cat([layer(feat[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(layer(feat), alone, atol=1e-6, rtol=1e-5)


def test_memory_format_does_not_matter(layer):
    feat = feature_maps()
    torch.testing.assert_close(
        layer(feat.contiguous(memory_format=torch.channels_last)), layer(feat), atol=1e-6, rtol=1e-5
    )


def test_gradients_by_finite_differences(layer):
    layer = layer.double()
    feat = feature_maps(2, 2, 3, torch.float64).requires_grad_()
    parameters = [p.requires_grad_() for p in layer.parameters()]

    def run(x, *given):
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, given, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (feat, *parameters), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e4])
def test_flat_feature_maps_stay_finite_and_so_do_gradients(layer, value):
    feat = torch.full((2, DIM, 3, 3), value).requires_grad_()
    rows_ND = layer(feat)
    rows_ND.square().sum().backward()
    assert torch.isfinite(rows_ND).all()
    assert (rows_ND.norm(dim=1) <= 1 + 1e-5).all()
    assert torch.isfinite(feat.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)


def test_half_precision_features_are_summed_in_float32(layer):
    feat = feature_maps(2, 30, 40).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows_ND = layer(feat)
    assert rows_ND.dtype == torch.float32
    torch.testing.assert_close(rows_ND, layer(feat.float()), atol=1e-6, rtol=1e-5)


def test_one_location_is_enough_and_none_is_refused(layer):
    assert torch.isfinite(layer(feature_maps(1, 1, 1))).all()
    with pytest.raises(InputError, match=r"\[N, 6, H, W\]"):
        layer(feature_maps(1, 0, 4))
    with pytest.raises(InputError, match=r"given \[3, 5, 5, 4\]"):
        layer(feature_maps()[:, :5])
    with pytest.raises(InputError, match="H, W"):
        layer(feature_maps().flatten(2))


def test_bad_names_and_options():
    with pytest.raises(UnknownNameError, match="did you mean netvlad"):
        create("netvald", 8)
    with pytest.raises(InputError, match="clutsers"):
        create("netvlad", 8, clutsers=3)
    for bad in ({"clusters": 0}, {"version": 3}, {"epsilon": "none"}):
        with pytest.raises(InputError):
            create("netvlad", 8, **bad)
    for name, bad in (("gem", {"p": 0.0}), ("vlad", {"power": 0.0}), ("vlad", {"sharpness": -1.0})):
        with pytest.raises(InputError, match="positive"):
            create(name, 8, **bad)
    with pytest.raises(InputError, match="at least 1 channel"):
        create("max", 0)


def test_pooling_learns_no_clusters():
    with pytest.raises(InputError, match="no clusters"):
        create("max", 3).initialise(torch.zeros(2, 3).numpy(), torch.zeros(2, 3).numpy())
