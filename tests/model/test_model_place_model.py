"""PlaceModel on a tiny network."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dejavlad.aggregation import AvgPool, MaxPool, NetVLAD
from dejavlad.errors import InputError, PhotoError, UnknownNameError
from dejavlad.images import PREPROCESSING, Preprocess
from dejavlad.model import PlaceModel, Whitening
from dejavlad.numerics.pca import fit_pca
from dejavlad.photo import Photo

PLAIN = Preprocess()


class Tiny(nn.Module):
    """Two convolutions; says what a backbone says."""

    channels, stride, scales = 8, 4, 1

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, 2, padding=1)
        )

    def forward(self, images):
        return self.layers(images)


def tiny(aggregation=None, seed=0, **options):
    torch.manual_seed(seed)
    return PlaceModel(Tiny(), aggregation or AvgPool(8), PLAIN, **options).eval()


def images(n=5, height=24, width=32, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8))


def whitened(seed=0, dims=None):
    torch.manual_seed(seed)
    model = tiny(NetVLAD(8, 4), seed=seed, fitted=True)
    pca = fit_pca(model.encode(images(40, seed=7)), 12)
    return model.with_whitening(Whitening.from_pca(pca)).with_dims(dims)


@pytest.mark.slow
def test_encode_is_the_parts_in_order():
    model = whitened()
    (photo,) = images(1)
    x = torch.from_numpy(PLAIN(photo))[None]
    with torch.no_grad():
        rows = model.whitening(model.aggregation(model.backbone(x)))
    np.testing.assert_array_equal(model.encode(photo), rows.numpy())
    torch.testing.assert_close(model(x), rows)
    assert model.encode(photo).dtype == np.float32
    assert model.descriptor_size == 12


def test_whitening_is_the_pca():
    model = tiny(NetVLAD(8, 4), fitted=True)
    rows = model.encode(images(40, seed=7))
    pca = fit_pca(rows, 12)
    expected = (rows - pca.mean) @ pca.weight.T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    ours = model.with_whitening(Whitening.from_pca(pca), learnt_from="noise")
    np.testing.assert_allclose(ours.encode(images(40, seed=7)), expected, atol=1e-5)
    assert ours.spec.provenance == {"learnt_from": "noise"}
    assert model.whitening is None


def test_encode_keeps_the_order_of_mixed_sizes_paths_and_arrays(tmp_path):
    model = tiny()
    arrays = [images(1, 16 + 8 * (i % 3), 32, seed=i)[0] for i in range(7)]
    mixed = list(arrays)
    for i in (1, 4):
        Image.fromarray(arrays[i]).save(tmp_path / f"{i}.png")
        mixed[i] = tmp_path / f"{i}.png"
    mixed[4] = str(mixed[4])
    mixed[5] = Photo("five", tmp_path / "none", pixels=arrays[5])
    alone = np.concatenate([model.encode(array) for array in arrays])
    for batch_size, workers in ((1, 0), (3, 2)):
        np.testing.assert_allclose(
            model.encode(mixed, batch_size=batch_size, workers=workers), alone, atol=1e-6
        )
    np.testing.assert_allclose(
        model.encode(np.stack(images(4)), batch_size=2), model.encode(images(4)), atol=1e-6
    )
    assert model.encode([]).shape == (0, 8)


def test_encode_refuses_what_is_no_photo(tmp_path):
    model = tiny()
    for bad in ([np.zeros((4, 4, 3), np.float32)], [np.zeros((4, 4), np.uint8)], [None], [7]):
        with pytest.raises(InputError, match="uint8 RGB array"):
            model.encode(bad)
    with pytest.raises(PhotoError, match=r"gone\.jpg"):
        model.encode([*images(1), tmp_path / "gone.jpg"])
    (tmp_path / "fake.jpg").write_bytes(b"not a photo")
    with pytest.raises(PhotoError, match=r"fake\.jpg"):
        model.encode(tmp_path / "fake.jpg")
    with pytest.raises(InputError, match=r"\[N, 3, H, W\]"):
        model.describe(torch.zeros(3, 8, 8))


def test_encode_neither_trains_nor_changes_the_mode():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    backbone.channels = 8
    model = PlaceModel(backbone, AvgPool(8), PLAIN).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    first = model.encode(images())
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    np.testing.assert_array_equal(model.encode(images()), first)


def test_gradients_reach_the_backbone():
    model = whitened()
    model.describe(torch.rand(2, 3, 16, 16))[0, 0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())


def test_unfitted_says_what_to_do():
    model = tiny(NetVLAD(8, 4), name="tiny-netvlad")
    assert not model.fitted
    for call in (lambda: model.encode(images()), lambda: model(torch.zeros(1, 3, 8, 8))):
        with pytest.raises(InputError, match="dejavlad map build tiny-netvlad"):
            call()
    local_NLC = model.local_features(torch.rand(2, 3, 16, 16))
    assert local_NLC.shape == (2, 16, 8)


def test_with_clusters_is_fitted_and_leaves_the_first_as_it_was():
    model = tiny(NetVLAD(8, 4))
    samples = torch.nn.functional.normalize(torch.randn(50, 8), dim=1).numpy()
    before = model.aggregation.centroids.clone()
    fitted = model.with_clusters(samples[:4], samples, photos=50)
    assert fitted.fitted and not model.fitted
    assert torch.equal(model.aggregation.centroids, before)
    np.testing.assert_array_equal(fitted.aggregation.centroids.detach().numpy(), samples[:4])
    assert fitted.spec.provenance == {"photos": 50}
    assert np.isfinite(fitted.encode(images())).all()
    with pytest.raises(InputError, match="no clusters"):
        tiny().with_clusters(samples[:4], samples)


@pytest.mark.parametrize("kind", ["whitened", "plain"])
def test_with_dims_is_the_first_dims_at_unit_length(kind):
    model = whitened() if kind == "whitened" else tiny(NetVLAD(8, 4), fitted=True)
    full = model.encode(images())
    cut = model.with_dims(5)
    expected = full[:, :5] / np.linalg.norm(full[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(cut.encode(images()), expected, atol=1e-6)
    assert cut.descriptor_size == 5
    assert cut.fingerprint != model.fingerprint
    np.testing.assert_array_equal(model.encode(images()), full)
    for dims in (0, model.descriptor_size + 1):
        with pytest.raises(InputError, match=f"by {model.descriptor_size} numbers"):
            model.with_dims(dims)


def test_dims_asked_of_an_unfitted_model_cut_the_whitening_to_come():
    torch.manual_seed(0)
    model = tiny(NetVLAD(8, 4), fitted=True).with_dims(6)
    pca = fit_pca(model.with_dims(None).encode(images(40, seed=7)), 12)
    cut = model.with_whitening(Whitening.from_pca(pca))
    assert cut.descriptor_size == cut.whitening.dims == 6
    np.testing.assert_allclose(cut.encode(images()), whitened(dims=6).encode(images()), atol=1e-6)
    with pytest.raises(InputError, match="only 12 could be learnt"):
        model.with_dims(20).with_whitening(Whitening.from_pca(pca))


def test_another_head_goes_without_the_whitening_of_the_old_one():
    model = whitened()
    model.engine = object()  # it computes the old head
    other = model.with_aggregation(MaxPool(8))
    assert (other.whitening, other.engine, other.fitted, other.descriptor_size) == (None, None, True, 8)
    assert other.backbone is model.backbone and model.whitening is not None
    assert not model.with_aggregation(NetVLAD(8, 4)).fitted
    with pytest.raises(InputError, match="aggregation takes 9"):
        model.with_aggregation(MaxPool(9))


def test_fingerprint_is_of_what_decides_the_answer():
    model = whitened()
    same = [
        whitened(),
        whitened(dims=12),
        PlaceModel(
            model.backbone,
            model.aggregation,
            PLAIN,
            whitening=model.whitening,
            fitted=True,
            precision="bf16",
            name="other",
            provenance={"from": "elsewhere"},
        ),
    ]
    assert {m.fingerprint for m in same} == {model.fingerprint}
    assert len(model.fingerprint) == 64
    other = [
        whitened(seed=1),
        whitened(dims=5),
        model.with_whitening(None),
        model.with_preprocess(Preprocess(resize="longest:64")),
        model.with_preprocess(PREPROCESSING["caffe"]),
        tiny(),
        tiny(MaxPool(8)),
    ]
    assert len({m.fingerprint for m in (model, *other)}) == len(other) + 1


def test_fingerprint_follows_the_weights():
    model = tiny()
    before = model.fingerprint
    with torch.no_grad():
        model.backbone.layers[0].weight[0, 0, 0, 0] += 1e-6
    assert model.fingerprint != before


def test_clusters_of_an_unfitted_model_do_not_count():
    assert tiny(NetVLAD(8, 4)).fingerprint == tiny(NetVLAD(8, 4)).fingerprint
    torch.manual_seed(5)
    changed = NetVLAD(8, 4)
    torch.manual_seed(0)
    backbone = Tiny()
    prints = {PlaceModel(backbone, layer, PLAIN).fingerprint for layer in (changed, NetVLAD(8, 4))}
    assert len(prints) == 1


def test_bf16_is_near_float32_and_leaves_the_weights_alone():
    model = whitened()
    exact, before = model.encode(images()), model.fingerprint
    model.precision = "bf16"
    near = model.encode(images())
    assert model.features(torch.rand(1, 3, 16, 16)).dtype == torch.bfloat16
    assert near.dtype == np.float32
    assert not np.array_equal(near, exact)
    assert (near * exact).sum(axis=1).min() > 0.99
    np.testing.assert_allclose(np.linalg.norm(near, axis=1), 1, atol=1e-6)
    assert model.fingerprint == before
    with pytest.raises(UnknownNameError, match="bf16"):
        model.precision = "fp16"


def test_bf16_layers_above_the_backbone_add_no_error():
    """Given the same bfloat16 features, aggregation and whitening answer as in float64."""
    model = whitened()
    model.precision = "bf16"
    with torch.inference_mode():
        x = torch.rand(4, 3, 64, 64)
        ours = model(x).double()
        feat = model.features(x).double()
        exact = model.whitening.double()(model.aggregation.double()(feat))
    assert torch.nn.functional.cosine_similarity(ours, exact).min() > 1 - 1e-6


def test_a_backbone_without_weights_stays_in_float32():
    class Still(nn.Module):
        channels = 3

        def forward(self, x):
            return x @ x.transpose(2, 3)

    model = PlaceModel(Still(), AvgPool(3), PLAIN, precision="bf16")
    assert model.features(torch.rand(1, 3, 8, 8)).dtype == torch.float32


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="takes 7"):
        tiny(AvgPool(7))
    with pytest.raises(InputError, match="channels=None"):
        PlaceModel(nn.Conv2d(3, 4, 1), AvgPool(4), PLAIN)
    with pytest.raises(InputError, match="makes 8"):
        tiny(whitening=Whitening(9, 3))
    with pytest.raises(InputError, match="keeps 1 to 4"):
        Whitening(4, 5)
