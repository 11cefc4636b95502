from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.images import PREPROCESSING, Preprocess, parse_resize

Pixels = NDArray[np.uint8]


@pytest.fixture
def rgb() -> Pixels:
    return np.random.default_rng(2).integers(0, 256, (31, 47, 3), dtype=np.uint8)


def resized_slowly(rgb: Pixels, height: int, width: int) -> NDArray[np.float64]:
    """Bilinear with antialiasing by its definition: a triangle as wide as two output pixels, side by side."""

    def weights(old: int, new: int) -> NDArray[np.float64]:
        step = old / new
        reach = max(1.0, step)
        centres = (np.arange(new) + 0.5) * step
        table = np.clip(1 - np.abs((np.arange(old) + 0.5)[None] - centres[:, None]) / reach, 0, None)
        return np.asarray(table / table.sum(axis=1, keepdims=True))

    across = np.einsum("hwc,vw->hvc", rgb.astype(np.float64), weights(rgb.shape[1], width))
    return np.asarray(np.einsum("hvc,uh->uvc", across, weights(rgb.shape[0], height)))


@pytest.mark.parametrize("size", [(31, 20), (10, 12), (7, 47), (60, 100), (1, 1), (16, 90)])
def test_resize_is_bilinear_with_antialiasing(rgb: Pixels, size: tuple[int, int]) -> None:
    prepared = Preprocess(resize=f"{size[0]}x{size[1]}", scale="0-255")(rgb)
    assert prepared.shape == (3, *size)
    assert np.abs(prepared.transpose(1, 2, 0) - resized_slowly(rgb, *size)).max() <= 1.1


@pytest.mark.parametrize(
    ("policy", "size", "expected"),
    [
        ("none", (480, 640), (480, 640)),
        ("20x30", (480, 640), (20, 30)),
        ("longest:320", (480, 640), (240, 320)),
        ("longest:320", (640, 480), (320, 240)),
        ("longest:1280", (480, 640), (960, 1280)),
        ("longest:10", (1, 10000), (1, 10)),
        ("longest:100", (333, 1000), (33, 100)),
    ],
)
def test_sizes(policy: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Preprocess(resize=policy).output_size(*size) == expected


@given(st.sampled_from(["none", "5x9", "longest:17", "longest:64"]), st.integers(1, 80), st.integers(1, 80))
def test_the_size_is_as_told(policy: str, height: int, width: int) -> None:
    preprocess = Preprocess(resize=policy)
    prepared = preprocess(np.zeros((height, width, 3), np.uint8))
    assert prepared.shape == (3, *preprocess.output_size(height, width))
    assert prepared.dtype == np.float32
    assert prepared.flags.c_contiguous
    if policy.startswith("longest"):
        assert max(prepared.shape[1:]) == parse_resize(policy).side


def test_plain(rgb: Pixels) -> None:
    prepared = PREPROCESSING["plain"](rgb)
    assert np.allclose(prepared, rgb.transpose(2, 0, 1) / 255, atol=1e-7)
    assert prepared.min() >= 0
    assert prepared.max() <= 1


def test_torchvision(rgb: Pixels) -> None:
    prepared = PREPROCESSING["torchvision"](rgb)
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        assert np.allclose(prepared[channel], (rgb[:, :, channel] / 255 - mean) / std, atol=1e-5)


def test_caffe(rgb: Pixels) -> None:
    prepared = PREPROCESSING["caffe"](rgb)
    for channel, (colour, mean) in enumerate([(2, 104), (1, 117), (0, 123)]):
        assert np.array_equal(prepared[channel], rgb[:, :, colour].astype(np.float32) - mean)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_grey(rgb: Pixels, channels: Any) -> None:
    prepared = Preprocess(grey=True, channels=channels, scale="0-255")(rgb)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.allclose(prepared, np.broadcast_to(luma, (3, *luma.shape)), atol=1e-3)
    assert (prepared == prepared[:1]).all()


def test_the_photo_is_left_as_it_is(rgb: Pixels) -> None:
    before = rgb.copy()
    rgb.setflags(write=False)
    for preprocess in PREPROCESSING.values():
        preprocess(rgb)
    assert np.array_equal(rgb, before)


@pytest.mark.parametrize(
    "preprocess",
    [*PREPROCESSING.values(), Preprocess("longest:320", (1, 2, 3), (4, 5, 6), "0-255", "bgr", False, True)],
)
def test_to_json_and_back(preprocess: Preprocess) -> None:
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


def test_lists_serve_as_means() -> None:
    assert Preprocess(mean=[1, 2, 3]) == Preprocess(mean=(1.0, 2.0, 3.0))  # type: ignore[arg-type]
    assert hash(Preprocess(mean=[1, 2, 3])) == hash(Preprocess(mean=(1.0, 2.0, 3.0)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"resize": "480"},
        {"resize": "0x5"},
        {"resize": "5x100000"},
        {"resize": "longest:0"},
        {"resize": "longest:-5"},
        {"resize": "least:5"},
        {"resize": "most:0"},
        {"interpolation": "cubic"},
        {"resize_on": "tensor"},
        {"multiple": 0},
        {"multiple": 1.5},
        {"multiple_by": "pad"},
        {"resize": "5x5x5"},
        {"resize": "9" * 5000 + "x1"},
        {"resize": 5},
        {"mean": (1, 2)},
        {"mean": 3},
        {"mean": ("a", "b", "c")},
        {"mean": (float("nan"), 0, 0)},
        {"std": (0, 1, 1)},
        {"std": (-1, 1, 1)},
        {"scale": "0-2"},
        {"channels": "gbr"},
    ],
)
def test_what_is_no_preprocessing(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Preprocess(**settings)
    with pytest.raises(InputError):
        Preprocess.from_dict(Preprocess().to_dict() | settings)


@pytest.mark.parametrize("data", [{}, {"mean": [1, 2, 3]}, Preprocess().to_dict() | {"blur": 3}])
def test_from_another_dict(data: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no preprocessing"):
        Preprocess.from_dict(data)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4), np.uint8), np.zeros((3, 4, 3), np.float32), np.zeros((3, 0, 3), np.uint8)]
)
def test_what_is_no_photo(array: Any) -> None:
    with pytest.raises(InputError, match="uint8 RGB"):
        Preprocess()(array)


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(64, 90), (20, 30)])
def test_values_are_resized_as_tensors_are(rgb: Pixels, how: Any, size: tuple[int, int]) -> None:
    import torch

    resized = Preprocess(f"{size[0]}x{size[1]}", interpolation=how, resize_on="values")(rgb)
    given = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255
    expected = torch.nn.functional.interpolate(given, size, mode=how, antialias=True)[0].numpy()
    np.testing.assert_allclose(resized, expected, atol=2e-5)
    rounded = Preprocess(f"{size[0]}x{size[1]}", interpolation=how)(rgb)
    assert 1e-4 < np.abs(rounded - resized).max() < 0.3


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"multiple": 14}, (28, 42)),
        ({"multiple": 14, "multiple_by": "crop"}, (28, 42)),
        ({"resize": "35x35", "multiple": 14}, (28, 28)),
        ({"resize": "longest:94", "multiple": 14}, (56, 98)),
        ({"resize": "longest:94", "multiple": 14, "multiple_by": "crop"}, (56, 84)),
        ({"resize": "shortest:62"}, (62, 94)),
        ({"resize": "most:94"}, (31, 47)),
        ({"resize": "most:40"}, (26, 40)),
        ({"resize": "5x5", "multiple": 14}, (14, 14)),
        ({"resize": "5x5", "multiple": 14, "multiple_by": "crop"}, (14, 14)),
    ],
)
def test_multiples_and_one_side(rgb: Pixels, settings: dict[str, Any], size: tuple[int, int]) -> None:
    how = Preprocess(**settings)
    assert how.output_size(*rgb.shape[:2]) == size
    assert how(rgb).shape == (3, *size)
    assert Preprocess.from_dict(json.loads(json.dumps(how.to_dict()))) == how


def test_a_crop_is_of_the_centre(rgb: Pixels) -> None:
    whole = Preprocess()(rgb)
    np.testing.assert_array_equal(Preprocess(multiple=14, multiple_by="crop")(rgb), whole[:, 2:30, 2:44])


def test_older_models_tell_the_same_as_ever() -> None:
    """The settings are hashed into a model's fingerprint, so later ones are told only where they are used."""
    assert set(Preprocess("480x640").to_dict()) == {
        *("resize", "mean", "std", "scale", "channels", "rotate", "grey"),
    }
    assert Preprocess(interpolation="bicubic").to_dict()["interpolation"] == "bicubic"
    assert "multiples of 14" in str(Preprocess(multiple=14)) and "their own size" in str(Preprocess())
