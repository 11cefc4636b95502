"""Models of the transformers library, small and random; nothing is downloaded."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from dejavlad.backbones import create, train_from
from dejavlad.backbones.hub import HubBackbone
from dejavlad.errors import CheckpointError, DownloadError, InputError, MissingExtraError
from dejavlad.zoo import load_model

transformers = pytest.importorskip("transformers")

TOKENS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 56,
}
STAGES = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}
CONFIGS = {
    "dinov2": (transformers.Dinov2Config(patch_size=14, mlp_ratio=2, **TOKENS), 32, 14),
    "registers": (
        transformers.Dinov2WithRegistersConfig(patch_size=14, mlp_ratio=2, num_register_tokens=4, **TOKENS),
        32,
        14,
    ),
    "vit": (transformers.ViTConfig(patch_size=8, **TOKENS), 32, 8),
    "convnext": (transformers.ConvNextConfig(**STAGES), 24, 32),
    "resnet": (transformers.ResNetConfig(embedding_size=8, **STAGES), 24, 32),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with config.json and model.safetensors of each small model."""
    made = {}
    transformers.utils.logging.disable_progress_bar()
    for name, (config, *_) in CONFIGS.items():
        made[name] = tmp_path_factory.mktemp(name)
        torch.manual_seed(4)
        transformers.AutoModel.from_config(config).save_pretrained(made[name])
    transformers.utils.logging.enable_progress_bar()
    return made


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_of_every_kind(folders, name):
    _, channels, stride = CONFIGS[name]
    backbone = create(f"hub:{folders[name]}", offline=True)
    assert (backbone.channels, backbone.stride, backbone.scales) == (channels, stride, 1)
    assert (backbone.receptive_field, backbone.offset) == (stride, (stride - 1) / 2)
    assert not backbone.training and not any(module.training for module in backbone.modules())
    with torch.inference_mode():
        output = backbone(noise(2, 3, 75, 100))
    rows, columns = output.shape[2:]
    assert output.shape[:2] == (2, channels)
    assert rows in (75 // stride, -(-75 // stride)) and columns in (100 // stride, -(-100 // stride))
    assert torch.isfinite(output).all() and output.std() > 0


@pytest.mark.parametrize("name", ["dinov2", "registers", "vit"])
def test_patch_tokens_lie_on_their_grid(folders, name):
    backbone = create(f"hub:{folders[name]}", offline=True)
    photo, patch = noise(1, 3, 60, 90), backbone.patch
    rows, columns = 60 // patch, 90 // patch
    whole = photo[:, :, : rows * patch, : columns * patch]
    extra = {"interpolate_pos_encoding": True} if name == "vit" else {}
    with torch.inference_mode():
        output = backbone(photo)
        tokens = backbone.network(pixel_values=whole, **extra).last_hidden_state[0]
    before = {"dinov2": 1, "registers": 5, "vit": 1}[name]
    assert len(tokens) == before + rows * columns
    for row in range(rows):
        for column in range(columns):
            assert torch.equal(output[0, :, row, column], tokens[before + row * columns + column])


@pytest.mark.parametrize("name", ["dinov2", "registers"])
def test_heads_may_ask_for_the_class_token(folders, name):
    backbone = create(f"hub:{folders[name]}", offline=True, leading=1)
    photo = noise(2, 3, 60, 90)
    with torch.inference_mode():
        tokens = backbone.network(pixel_values=photo[:, :, :56, :84]).last_hidden_state
        output = backbone(photo)
    assert output.shape == (2, 32, 1 + 4 * 6, 1)
    assert torch.equal(output[:, :, 0, 0], tokens[:, 0])
    assert torch.equal(output[:, :, 1:, 0].mT, tokens[:, -24:])
    with pytest.raises(InputError, match="has no class token"):
        create(f"hub:{folders['resnet']}", offline=True, leading=1)


@pytest.mark.slow
def test_every_aggregation_goes_behind_it(folders):
    for pooling in ("netvlad", "vlad", "max", "gem", "salad", "boq", "supervlad", "gem_linear", "edtformer"):
        model = load_model(f"hub:{folders['dinov2']}-{pooling}", offline=True, device="cpu")
        assert model.aggregation.name == pooling and model.fitted == (pooling in ("max", "gem"))
        with torch.inference_mode():
            assert model.pooled(model.features(noise(1, 3, 140, 140))).shape == (1, model.descriptor_size)


def test_a_change_in_one_patch_shows_most_in_its_cell(folders):
    backbone = create(f"hub:{folders['dinov2']}", offline=True)
    photo = noise(1, 3, 56, 84)
    other = photo.clone()
    other[:, :, 14:28, 42:56] += 3
    with torch.inference_mode():
        change = (backbone(photo) - backbone(other)).norm(dim=1)[0]
    assert divmod(int(change.argmax()), change.shape[1]) == (1, 3)


def test_weights_are_the_folders(folders):
    expected = load_file(folders["vit"] / "model.safetensors")
    loaded = create(f"hub:{folders['vit']}", offline=True).network.state_dict()
    assert torch.equal(loaded["embeddings.cls_token"], expected["embeddings.cls_token"])


def test_random_weights_are_a_function_of_the_seed(folders, tmp_path):
    (tmp_path / "config.json").write_bytes((folders["dinov2"] / "config.json").read_bytes())
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one, two, other = (create(f"hub:{tmp_path}", weights=f"random:{s}").state_dict() for s in (5, 5, 6))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        create(f"hub:{tmp_path}")


def test_half_precision_weights_are_read_as_float32(folders, tmp_path):
    model = transformers.AutoModel.from_pretrained(folders["vit"]).half()
    model.save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in create(f"hub:{tmp_path}").parameters()} == {torch.float32}


def test_nothing_is_printed(folders, capfd):
    create(f"hub:{folders['vit']}")
    assert capfd.readouterr() == ("", "")


def test_small_photos(folders):
    for name in ("dinov2", "convnext"):
        backbone = create(f"hub:{folders[name]}")
        side = backbone.stride
        with pytest.raises(InputError, match=f"at least {side}x{side}"):
            backbone(torch.zeros(1, 3, side - 1, 100))
        assert backbone(torch.zeros(1, 3, side, side)).shape[2:] == (1, 1)
        with pytest.raises(InputError, match="must be"):
            backbone(torch.zeros(3, 64, 64))


def test_which_layers_train(folders):
    backbone = create(f"hub:{folders['vit']}")
    last = next(name for name, _ in backbone.named_modules() if name.endswith(".1"))
    train_from(backbone, last)
    learning = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert any(name.startswith(last) for name in learning)
    assert not any(name.startswith("network.embeddings") for name in learning)


def test_models_that_see_no_photos_or_keep_no_patches(tmp_path):
    text = {key: value for key, value in TOKENS.items() if key != "image_size"}
    for config in (
        transformers.BertConfig(vocab_size=20, **text),
        transformers.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=2),
    ):
        with pytest.raises(InputError, match=r"^\w+Model (is no vision model|does not keep one token)"):
            HubBackbone(transformers.AutoModel.from_config(config))


def test_damaged_folders(folders, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be opened"):
        create(f"hub:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="no such"):
        create(f"hub:{tmp_path}")
    (tmp_path / "config.json").write_bytes((folders["vit"] / "config.json").read_bytes())
    tensors = load_file(folders["vit"] / "model.safetensors")
    lost = next(key for key in tensors if "layer" in key)
    rest = {key: value for key, value in tensors.items() if key != lost}
    save_file(rest, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights: \S+$"):
        create(f"hub:{tmp_path}")
    damaged = {**tensors, lost: tensors[lost] * float("nan")}
    save_file(damaged, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="NaN"):
        create(f"hub:{tmp_path}")


def test_offline_an_id_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(DownloadError, match="give its folder") as caught:
        create("hub:nobody/no-such-model", offline=True)
    assert "\n" not in str(caught.value)


def test_options_that_do_not_go_with_it(folders):
    place = f"hub:{folders['vit']}"
    for options in ({"cut": "layer3"}, {"weights": "file.npz"}):
        with pytest.raises(InputError, match="brings its own weights and layers"):
            create(place, **options)
    with pytest.raises(InputError, match="takes no options; given depth"):
        create(place, depth=3)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"dejavlad\[hub\]"):
        create("hub:anything")
