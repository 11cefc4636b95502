"""Chains as data: as torch has it where torch has it, else as a loop has it; what cannot be is told."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dejavlad.backbones import CHAIN, create, train_from
from dejavlad.backbones.chain import Chain, ChannelNorm, Pool
from dejavlad.errors import CheckpointError, InputError
from dejavlad.model import (
    load_folder,
    save_model,
)
from dejavlad.zoo import load_model

CONV = {"kind": "conv", "name": "a", "inputs": 3, "outputs": 4, "kernel": [3, 3]}
LAYERS = [
    {**CONV, "stride": [2, 2], "pad": [0, 1, 2, 3]},
    {"kind": "relu", "name": "b", "leak": 0.2},
    {"kind": "max", "name": "c", "kernel": [3, 3], "stride": [2, 2], "pad": [0, 1, 0, 1]},
    {"kind": "norm", "name": "d", "size": 3, "kappa": 1.0, "alpha": 0.5, "beta": 0.75},
    {"kind": "dropout", "name": "e"},
    {"kind": "conv", "name": "f", "inputs": 4, "outputs": 6, "kernel": [3, 1], "groups": 2, "bias": False},
]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16])
def test_norm_is_the_sum_over_its_window(size):
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    output = ChannelNorm(size, 2.0, 0.3, 0.6)(x)
    for k in range(8):
        low, high = max(0, k - (size - 1) // 2), k + size // 2
        sums = x[:, low : high + 1].square().sum(dim=1)
        torch.testing.assert_close(output[:, k], x[:, k] * (2 + 0.3 * sums) ** -0.6)
    if size % 2:
        theirs = F.local_response_norm(x, size, alpha=0.3 * size, beta=0.6, k=2.0)
        torch.testing.assert_close(output, theirs)


@pytest.mark.parametrize("side", range(5, 12))
def test_rounding_up_is_a_pad_at_the_end(side):
    """Kernel 3, stride 2 with pads [0 1 0 1] is Caffe's pooling."""
    x = torch.randn(1, 2, side, side + 1)
    output = Pool("max", (3, 3), (2, 2), (0, 1, 0, 1))(x)
    assert torch.equal(
        output, F.max_pool2d(x, 3, 2, ceil_mode=True)[:, :, : output.shape[2], : output.shape[3]]
    )
    assert output.shape[2] == (side + 1 - 3) // 2 + 1


def test_average_leaves_out_what_is_padded():
    x = torch.rand(1, 2, 7, 9)
    theirs = F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False)
    torch.testing.assert_close(Pool("avg", (3, 3), (2, 2), (1, 1, 1, 1))(x), theirs)
    torch.testing.assert_close(Pool("avg", (3, 3), (2, 2), (0,) * 4)(x), F.avg_pool2d(x, 3, 2))


def test_a_chain_tells_its_grid_and_geometry():
    chain = create(CHAIN, weights="random:0", layers=LAYERS)
    assert (chain.channels, chain.stride, chain.receptive_field) == (6, 4, 3 + 4 + 8)
    assert chain.offset == 1 + 2 + 4
    assert chain.names == tuple("abcdef")
    for size in ((40, 41), (41, 53), (15, 9)):
        with torch.inference_mode():
            assert chain(torch.randn(2, 3, *size)).shape == (2, 6, *chain.grid(*size))
    with pytest.raises(InputError, match="at least 12x12"):
        chain(torch.randn(1, 3, 6, 6))
    train_from(chain, "f")
    assert [p.requires_grad for p in chain.parameters()] == [False, False, True]


def test_a_chain_of_wide_windows_tells_the_least_photo():
    chain = Chain([{**CONV, "kernel": [1, 15]}])
    assert chain.receptive_field == 15
    with pytest.raises(InputError, match="at least 15x15"):
        chain(torch.zeros(1, 3, 14, 14))


def test_a_chain_pads_as_told():
    chain = Chain(LAYERS[:1])
    x = torch.randn(1, 3, 9, 10)
    conv = chain.features[0][1]
    theirs = F.conv2d(F.pad(x, (2, 3, 0, 1)), conv.weight, conv.bias, stride=2)
    torch.testing.assert_close(chain(x), theirs)


def test_a_chain_describes_in_bfloat16_too():
    chain = create(CHAIN, layers=LAYERS)
    from dejavlad.aggregation import MaxPool
    from dejavlad.images import Preprocess
    from dejavlad.model import BackboneSpec, PlaceModel

    model = PlaceModel(
        chain, MaxPool(6), Preprocess(), source=BackboneSpec(CHAIN, options={"layers": LAYERS})
    ).eval()
    rgb = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    exact = model.encode(rgb)
    model.precision = "bf16"
    assert float((exact * model.encode(rgb)).sum()) > 0.999


def test_a_folder_whose_chain_was_damaged(tmp_path):
    from dejavlad.aggregation import MaxPool
    from dejavlad.images import Preprocess
    from dejavlad.model import BackboneSpec, PlaceModel

    source = BackboneSpec(CHAIN, options={"layers": LAYERS})
    folder = save_model(PlaceModel(Chain(LAYERS), MaxPool(6), Preprocess(), source=source), tmp_path / "m")
    model = load_model(folder)
    assert model.spec.to_dict()["backbone"]["options"] == {"layers": LAYERS}
    fields = json.loads((folder / "spec.json").read_text())
    fields["backbone"]["options"]["layers"][0]["kind"] = "nonsense"
    del fields["checksum"]
    (folder / "spec.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="'nonsense'; valid: avg, conv"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "list of layers"),
        ("conv", "list of layers"),
        (["conv"], "layer 0 must be a mapping"),
        ([{**CONV, "kind": ["conv"]}], "is of kind"),
        ([{**CONV, "inputs": 4}], "takes 4 channels, but gets 3"),
        ([CONV, CONV], "takes 3 channels, but gets 4"),
        ([{**CONV, "kernel": [0, 3]}], "whole numbers of at least 1"),
        ([{**CONV, "kernel": [3, 1.5]}], "whole numbers"),
        ([{**CONV, "kernel": 3}], "layer 0 \\(a\\), conv"),
        ([{**CONV, "outputs": 1 << 40}], "whole numbers"),
        ([{**CONV, "groups": 2}], "divisible by groups"),
        ([{**CONV, "pad": [1, 1]}], "must be 4 whole numbers"),
        ([{**CONV, "speed": 1}], "speed"),
        ([{"kind": "max", "kernel": [2, 2], "pad": [0, 2, 0, 0]}], "below its kernel"),
    ],
)
def test_chains_that_cannot_be(layers, message):
    with pytest.raises(InputError, match=message):
        create(CHAIN, layers=layers)


def test_a_chain_takes_its_layers_alone():
    for options in (
        {},
        {"layers": LAYERS, "more": 1},
        {"layers": LAYERS, "cut": "a"},
        {"layers": LAYERS, "weights": "f"},
    ):
        with pytest.raises(InputError, match="a chain takes its layers"):
            create(CHAIN, **options)
