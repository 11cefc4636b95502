"""Patches: the fused form against the definition written out, their geometry, and bad input."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dejavlad import backbones
from dejavlad.aggregation import VLAD, NetVLAD, PatchVLAD, create, fused, patch_centres, patch_vlad
from dejavlad.errors import InputError
from dejavlad.patches import PatchSet

D, K, H, W, DIMS = 6, 3, 9, 11, 10
VGG16 = SimpleNamespace(stride=16, offset=7.5)


@pytest.fixture
def netvlad():
    torch.manual_seed(0)
    layer = NetVLAD(D, K, epsilon="torch")
    layer.set_clusters(layer.centroids.detach().double().numpy(), 3)  # no cluster is next to empty
    return layer


@pytest.fixture
def whitening():
    generator = torch.Generator().manual_seed(1)
    return SimpleNamespace(
        weight=torch.randn(DIMS, K * D, generator=generator), bias=torch.randn(DIMS, generator=generator)
    )


@pytest.fixture
def feat():
    return torch.randn(2, D, H, W, generator=torch.Generator().manual_seed(2))


def oracle(feat, netvlad, whitening, size, stride):
    """Every residual written out in float64, patch by patch."""
    x = F.normalize(feat.double(), dim=1)
    assignment = torch.softmax(F.conv2d(x, netvlad.conv.weight.double()), dim=1)
    residuals = assignment[:, :, None] * (x[:, None] - netvlad.centroids.double()[None, :, :, None, None])
    descriptors = []
    for i in range(0, H - size + 1, stride):
        for j in range(0, W - size + 1, stride):
            patch = residuals[..., i : i + size, j : j + size].mean(dim=(3, 4))
            patch = F.normalize(patch, dim=2) if netvlad.intra_norm else patch
            descriptors.append(F.normalize(patch.flatten(1), dim=1))
    patches = torch.stack(descriptors, dim=1)
    if whitening is None:
        return patches.float().detach()
    projected = F.linear(patches, whitening.weight.double(), whitening.bias.double())
    return F.normalize(projected, dim=2).float().detach()


@pytest.mark.parametrize("sums", ["direct", "integral"])
@pytest.mark.parametrize("whitened", [True, False])
@pytest.mark.parametrize(("sizes", "strides"), [((1, 2, 5, 8), (1, 1, 1, 1)), ((3, 7), (2, 3)), ((9,), (4,))])
def test_is_the_definition(feat, netvlad, whitening, sizes, strides, whitened, sums):
    given = whitening if whitened else None
    tolerance = 1e-5 if sums == "direct" else 1e-4  # an integral image loses digits
    descriptors = patch_vlad(feat, netvlad, given, sizes, strides, sums=sums)
    for size, stride, ours in zip(sizes, strides, descriptors, strict=True):
        torch.testing.assert_close(ours, oracle(feat, netvlad, given, size, stride), rtol=0, atol=tolerance)


def test_without_intra_norm_and_with_matconvnets_rule(feat, whitening):
    torch.manual_seed(0)
    layer = NetVLAD(D, K, intra_norm=False, epsilon="matconvnet")
    (ours,) = patch_vlad(feat, layer, whitening, [4], [1])
    torch.testing.assert_close(ours, oracle(feat, layer, whitening, 4, 1), rtol=0, atol=1e-5)


def test_a_patch_of_everything_is_the_global_descriptor(netvlad, feat):
    (ours,) = patch_vlad(feat[..., :H], netvlad, None, [H], [1])
    torch.testing.assert_close(ours[:, 0], netvlad(feat[..., :H]), rtol=0, atol=1e-6)


def test_bfloat16_is_close(feat, netvlad, whitening):
    for sizes in ((2, 5, 8), (8,)):  # cells whitened first, and patches
        exact = patch_vlad(feat, netvlad, whitening, sizes, [1] * len(sizes))
        half = patch_vlad(feat, netvlad, whitening, sizes, [1] * len(sizes), dtype=torch.bfloat16)
        for a, b in zip(exact, half, strict=True):
            assert b.dtype == torch.float32
            assert (a * b).sum(dim=2).min() > 0.9999


def test_blank_photos_give_finite_patches(netvlad, whitening):
    for layer_input in (torch.zeros(1, D, H, W), torch.ones(1, D, H, W)):
        for ours in patch_vlad(layer_input, netvlad, whitening):
            assert torch.isfinite(ours).all()
            torch.testing.assert_close(ours.norm(dim=2), torch.ones(1, ours.shape[1]))


def test_no_photos(netvlad, whitening):
    assert [list(of.shape) for of in patch_vlad(torch.zeros(0, D, H, W), netvlad, whitening, [2], [1])] == [
        [0, (H - 1) * (W - 1), DIMS]
    ]


LAYERS = {
    "soft": lambda: NetVLAD(D, K),
    "version 2": lambda: NetVLAD(D, K, version=2),
    "no intra-norm": lambda: NetVLAD(D, K, intra_norm=False),
    "hard": lambda: VLAD(D, K),
    "hard, as the original": lambda: VLAD(D, K, epsilon="torch"),
    "hard, residuals of unit length": lambda: VLAD(D, K, residual_norm=True),
    "hard, empty ones counted": lambda: VLAD(D, K, skip_empty=False, normalize_input=False),
    "hard, power": lambda: VLAD(D, K, power=0.5, residual_norm=True),
    "hard, power, no intra-norm": lambda: VLAD(D, K, power=0.3, intra_norm=False),
    "sharp": lambda: VLAD(D, K, sharpness=2.0),
}


def by_layer(feat, layer, whitening, size, stride, stacked):
    """All locations of a patch, from each of the stacked grids, given to the layer itself."""
    grids = feat.unflatten(2, (stacked, -1))
    descriptors = []
    for i in range(0, grids.shape[3] - size + 1, stride):
        for j in range(0, grids.shape[4] - size + 1, stride):
            descriptors.append(layer(grids[..., i : i + size, j : j + size].flatten(2)[..., None]))
    patches = torch.stack(descriptors, dim=1).detach()
    if whitening is None:
        return patches
    return F.normalize(F.linear(patches, whitening.weight, whitening.bias), dim=2)


@pytest.mark.parametrize("stacked", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_is_the_layer_applied_to_the_cells_of_a_patch(name, stacked, whitening):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    feat = torch.randn(2, D, stacked * 5, 7)
    feat.unflatten(2, (stacked, -1))[:, :, :, 1:4, 2:5] = 0  # nothing to see there, and in one patch nothing
    for given in (whitening, None):
        for sizes, strides in (((1, 2, 3), (1, 1, 2)), ((3,), (1,))):  # cells whitened first, and patches
            descriptors = patch_vlad(feat, layer, given, sizes, strides, stacked=stacked)
            for size, stride, ours in zip(sizes, strides, descriptors, strict=True):
                theirs = by_layer(feat, layer, given, size, stride, stacked)
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [(5, 7), (7, 5)])
def test_groups_and_chunks_do_not_matter(netvlad, whitening, monkeypatch, grid):
    feat = torch.randn(1, D, *grid)
    strides = (1, 1, 2)
    whole = patch_vlad(feat, netvlad, whitening, (1, 2, 3), strides)
    for name, number in (("GROUP", 2), ("CHUNK", 4), ("CHANNELS", 5)):  # none of them divides
        monkeypatch.setattr(fused, name, number)
    for a, b in zip(whole, patch_vlad(feat, netvlad, whitening, (1, 2, 3), strides), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_cells_first_and_patches_first_agree(netvlad, whitening, feat, monkeypatch):
    sizes, strides = (1, 3, 6, 7), (1, 2, 1, 1)
    descriptors = []
    for limit in (0, 1e9):
        monkeypatch.setattr(fused, "WORTH_PROJECTING", limit)
        descriptors.append(patch_vlad(feat, netvlad, whitening, sizes, strides))
    for a, b in zip(*descriptors, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("limit", [0, 1e9])
def test_bfloat16_keeps_clusters_that_hold_next_to_nothing(whitening, feat, monkeypatch, limit):
    """Sharp clusters: sums of 1e-9 become vectors of unit length as any other."""
    torch.manual_seed(0)
    layer = NetVLAD(D, K, epsilon="torch")
    layer.set_clusters(layer.centroids.detach().double().numpy(), 20)
    monkeypatch.setattr(fused, "WORTH_PROJECTING", limit)
    exact = patch_vlad(feat, layer, whitening)
    half = patch_vlad(feat, layer, whitening, dtype=torch.bfloat16)
    assignment = layer.assignment_weights(layer.local_features(feat).transpose(1, 2))
    assert assignment.min() < 1e-9
    for a, b in zip(exact, half, strict=True):
        assert (a * b).sum(dim=2).min() > 0.9999


def test_double_feature_maps(netvlad, whitening, feat):
    for a, b in zip(
        patch_vlad(feat, netvlad, whitening), patch_vlad(feat.double(), netvlad, whitening), strict=True
    ):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_stacked_patch_sets(whitening):
    """Their grid and centres are of one of the stacked maps."""
    layer, feat = VLAD(D, K), torch.randn(2, D, 4 * H, W)
    sets = PatchVLAD(layer, whitening, VGG16, (2, 4), (1, 3), stacked=4)(feat)
    assert [[of.grid for of in photo] for photo in sets] == [[(8, 10), (2, 3)]] * 2
    assert torch.equal(sets[0][1].centres, patch_centres((2, 3), 4, 3, VGG16))


def test_rootsift_has_patches():
    backbone = backbones.create("rootsift")
    layer = create("vlad", backbone.channels, clusters=4, residual_norm=True, power=0.5)
    photo = torch.rand(1, 3, 160, 200, generator=torch.Generator().manual_seed(0))
    make = PatchVLAD(
        layer, None, SimpleNamespace(stride=8, offset=30.0), (2, 5), (1, 1), stacked=backbone.scales
    )
    ((small, large),) = make(backbone(photo))
    height, width = backbone.grid(160, 200)
    assert (small.grid, large.grid) == ((height - 1, width - 1), (height - 4, width - 4))
    theirs = by_layer(backbone(photo), layer, None, 5, 1, backbone.scales)
    torch.testing.assert_close(large.descriptors, theirs[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["max", "avg", "gem"])
def test_no_patches_without_clusters(name, feat):
    layer = create(name, D)
    message = f"given '{name}': take a model such as .*vgg16-netvlad"
    with pytest.raises(InputError, match=message):
        patch_vlad(feat, layer, None)
    with pytest.raises(InputError, match=message):
        PatchVLAD(layer, None, VGG16)


@pytest.mark.parametrize("stacked", [0, -1, 2, 4])
def test_maps_that_are_not_stacked_so(netvlad, feat, stacked):
    with pytest.raises(InputError, match=f"9 rows is not {stacked} of the same size"):
        patch_vlad(feat, netvlad, None, stacked=stacked)


@pytest.mark.parametrize(
    ("size", "grid", "first", "last"),
    [(2, (29, 39), 15, (623, 463)), (5, (26, 36), 39, (599, 439)), (8, (23, 33), 63, (575, 415))],
)
def test_centres_of_the_original(size, grid, first, last):
    """The test vectors of 480x640 photos."""
    centres = patch_centres(grid, size, 1, VGG16, whole_pixels=True)
    assert len(centres) == {2: 1131, 5: 936, 8: 759}[size]
    assert centres[0].tolist() == [first, first]
    assert tuple(centres[-1].tolist()) == last
    assert (patch_centres(grid, size, 1, VGG16) - centres == 0.5).all()


def test_centres_with_a_stride():
    centres = patch_centres((2, 3), 3, 2, SimpleNamespace(stride=8, offset=-1.5))
    first = -1.5 + 8
    np.testing.assert_array_equal(centres.view(2, 3, 2)[:, :, 0], [[first, first + 16, first + 32]] * 2)
    np.testing.assert_array_equal(centres.view(2, 3, 2)[1, :, 1], [first + 16] * 3)


def test_patch_sets(netvlad, whitening, feat):
    sets = PatchVLAD(netvlad, whitening, VGG16, (2, 4), (1, 3))(feat)
    assert [[(of.size, of.grid, of.step, len(of)) for of in photo] for photo in sets] == [
        [(2, (8, 10), 16.0, 80), (4, (2, 3), 48.0, 6)]
    ] * 2
    descriptors = patch_vlad(feat, netvlad, whitening, (2, 4), (1, 3))
    assert torch.equal(sets[1][1].descriptors, descriptors[1][1])


def test_geometry_of_a_backbone():
    geometry = backbones.create("vgg16", weights="random:0").geometry
    assert patch_centres((1, 1), 2, 1, geometry).tolist() == [[15.5, 15.5]]


@pytest.mark.parametrize(
    ("sizes", "strides", "message"),
    [
        ([], [], "one stride for each size"),
        ([2, 5], [1], "one stride for each size"),
        ([0], [1], "at least 1"),
        ([2], [0], "at least 1"),
        ([10], [1], "no patch of 10x10"),
    ],
)
def test_bad_sizes(netvlad, whitening, feat, sizes, strides, message):
    with pytest.raises(InputError, match=message):
        patch_vlad(feat, netvlad, whitening, sizes, strides)


def test_bad_shapes(netvlad, whitening, feat):
    with pytest.raises(InputError, match=r"feature maps \[N, D, H, W\]"):
        patch_vlad(feat[0], netvlad, whitening)
    with pytest.raises(InputError, match="takes feature maps"):
        patch_vlad(feat[:, :4], netvlad, whitening)
    with pytest.raises(InputError, match="the whitening takes 7 dimensions"):
        patch_vlad(feat, netvlad, SimpleNamespace(weight=torch.zeros(3, 7), bias=torch.zeros(3)))


def test_patch_set_refuses_parts_that_do_not_fit():
    with pytest.raises(InputError, match=r"descriptors \[6, D\]"):
        PatchSet(torch.zeros(5, 4), torch.zeros(6, 2), (2, 3), 2)
    with pytest.raises(InputError, match=r"centres \[6, 2\]"):
        PatchSet(torch.zeros(6, 4), torch.zeros(5, 2), (2, 3), 2)
    with pytest.raises(InputError, match="above 0"):
        PatchSet(torch.zeros(6, 4), torch.zeros(6, 2), (2, 3), 2, step=0)
