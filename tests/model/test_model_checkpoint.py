"""Model folders: round trip, replacement, and every way in which they can be broken."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_model_place_model import Tiny, images, tiny, whitened

from dejavlad.aggregation import GeM, NetVLAD
from dejavlad.errors import CheckpointError, InputError
from dejavlad.images import Preprocess
from dejavlad.model import checkpoint, load_folder, save_model, tensors
from dejavlad.model.spec import ModelSpec


def reload(folder):
    return load_folder(folder, backbone=Tiny())


@pytest.mark.parametrize(
    "make",
    [
        whitened,
        lambda: whitened(dims=5),
        lambda: tiny(GeM(8, p=4.0)),
        lambda: tiny(NetVLAD(8, 3, version=2, intra_norm=False), fitted=True).with_dims(7),
        lambda: whitened().with_preprocess(Preprocess(resize="20x30", mean=(0.1, 0.2, 0.3))),
    ],
)
def test_round_trip_to_the_bit(make, tmp_path):
    model = make()
    model.provenance["told"] = {"by": "a test", "of": [1, 2]}
    save_model(model, tmp_path / "m")
    again = reload(tmp_path / "m")
    assert again.spec.to_dict() == model.spec.to_dict()
    assert again.fingerprint == model.fingerprint
    assert not again.training
    np.testing.assert_array_equal(again.encode(images()), model.encode(images()))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["m", "spec.json", "weights.safetensors"]


def test_others_may_read_the_weights_as_they_may_read_the_rest(tmp_path):
    save_model(whitened(), tmp_path / "m")
    modes = {path.stat().st_mode for path in (tmp_path / "m").iterdir()}
    assert len(modes) == 1


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_model(whitened(), tmp_path / name)
    for file in ("spec.json", "weights.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_spec_is_for_people_and_carries_the_fingerprint(tmp_path):
    model = tiny(GeM(8))
    fields = json.loads((save_model(model, tmp_path / "m") / "spec.json").read_text(encoding="utf-8"))
    assert fields["format"] == 1
    assert fields["fingerprint"] == model.fingerprint
    assert fields["aggregation"] == {"name": "gem", "options": {"epsilon": "matconvnet"}}
    del fields["format"], fields["fingerprint"], fields["weights_sha256"], fields["checksum"]
    assert ModelSpec.from_dict(fields) == model.spec


def test_an_unfitted_model_comes_back_unfitted(tmp_path):
    again = reload(save_model(tiny(NetVLAD(8, 4)), tmp_path / "m"))
    assert not again.fitted


def test_bf16_and_channels_last_are_not_saved(tmp_path):
    model = whitened()
    before = save_model(model, tmp_path / "a") / "weights.safetensors"
    model.precision = "bf16"
    after = save_model(model, tmp_path / "b") / "weights.safetensors"
    assert before.read_bytes() == after.read_bytes()


def test_replacing_a_model(tmp_path):
    save_model(tiny(seed=0), tmp_path / "m")
    save_model(tiny(seed=1), tmp_path / "m")
    assert reload(tmp_path / "m").fingerprint == tiny(seed=1).fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_nothing_but_a_model_is_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dear.jpg").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("photos", "file"):
        with pytest.raises(InputError, match="no model"):
            save_model(tiny(), tmp_path / name)
    assert (tmp_path / "photos" / "dear.jpg").exists()
    (tmp_path / "empty").mkdir()
    save_model(tiny(), tmp_path / "empty")


@pytest.mark.parametrize("dies_at", range(11))
def test_dying_anywhere_leaves_the_old_model_or_the_new_one(dies_at, tmp_path, monkeypatch):
    """Each file-system step of saving is, in turn, the last one that happens."""
    old, new = tiny(seed=0), tiny(seed=1)
    save_model(old, tmp_path / "m")
    steps = 0

    class Dead(BaseException):
        pass

    def dying(function):
        def step(*arguments, **named):
            nonlocal steps
            steps += 1
            if steps > dies_at:
                raise Dead
            return function(*arguments, **named)

        return step

    with monkeypatch.context() as patch:
        for place, name in (
            (tensors, "save_file"),
            (os, "replace"),
            (os, "fsync"),
            (checkpoint.shutil, "rmtree"),
        ):
            patch.setattr(place, name, dying(getattr(place, name)))
        with pytest.raises(Dead):
            save_model(new, tmp_path / "m")
    assert reload(tmp_path / "m").fingerprint in (old.fingerprint, new.fingerprint)
    save_model(new, tmp_path / "m")
    assert reload(tmp_path / "m").fingerprint == new.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def rewrite_spec(folder, change):
    fields = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    change(fields)
    fields.pop("checksum")  # as whoever changes it by hand must
    (folder / "spec.json").write_text(json.dumps(fields), encoding="utf-8")


def rewrite_weights(folder, change):
    tensors = load_file(folder / "weights.safetensors")
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, folder / "weights.safetensors")
    digest = checkpoint.sha256_of(folder / "weights.safetensors")
    rewrite_spec(folder, lambda fields: fields.update(weights_sha256=digest))


FIRST = "backbone.layers.0.bias"
BROKEN = {
    "no folder": (lambda f: [p.unlink() for p in f.iterdir()] and f.rmdir(), "no model folder"),
    "no spec": (lambda f: (f / "spec.json").unlink(), "no model folder"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "has no weights"),
    "spec is no JSON": (lambda f: (f / "spec.json").write_text("{", encoding="utf-8"), "cannot be read"),
    "spec is a list": (lambda f: (f / "spec.json").write_text("[1]", encoding="utf-8"), "cannot be read"),
    "another format": (lambda f: rewrite_spec(f, lambda t: t.update(format=2)), "format 2"),
    "no format": (lambda f: rewrite_spec(f, lambda t: t.pop("format")), "format"),
    "field missing": (lambda f: rewrite_spec(f, lambda t: t.pop("preprocess")), "'preprocess' is missing"),
    "field unknown": (lambda f: rewrite_spec(f, lambda t: t.update(extra=1)), "extra"),
    "unknown pooling": (
        lambda f: rewrite_spec(f, lambda t: t["aggregation"].update(name="netvald")),
        "did you mean netvlad",
    ),
    "unknown option": (
        lambda f: rewrite_spec(f, lambda t: t["aggregation"]["options"].update(clutsers=1)),
        "clutsers",
    ),
    "bad resize": (lambda f: rewrite_spec(f, lambda t: t["preprocess"].update(resize="big")), "big"),
    "weights cut off": (
        lambda f: (f / "weights.safetensors").write_bytes((f / "weights.safetensors").read_bytes()[:-9]),
        "cannot be read",
    ),
    "weights empty": (lambda f: (f / "weights.safetensors").write_bytes(b""), "cannot be read"),
    "tensor missing": (lambda f: rewrite_weights(f, lambda t: t.pop(FIRST)), f"lacks {FIRST}"),
    "tensor left over": (
        lambda f: rewrite_weights(f, lambda t: t.update(extra=torch.ones(1))),
        "holds unknown extra",
    ),
    "tensor of another shape": (
        lambda f: rewrite_weights(f, lambda t: t.update({FIRST: torch.ones(5)})),
        r"is \[5\], but the network needs \[16\]",
    ),
    "NaN": (
        lambda f: rewrite_weights(f, lambda t: t[FIRST].fill_(float("nan"))),
        f"NaN or infinity.*{FIRST}",
    ),
    "infinity": (lambda f: rewrite_weights(f, lambda t: t[FIRST].fill_(float("inf"))), "NaN or infinity"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_folders_say_what_is_wrong_in_one_line(how, tmp_path):
    folder = save_model(whitened(), tmp_path / "m")
    spoil, reason = BROKEN[how]
    spoil(folder)
    with pytest.raises(CheckpointError, match=reason) as caught:
        reload(folder)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_flipped_bit_is_noticed(tmp_path):
    file = save_model(tiny(), tmp_path / "m") / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        reload(tmp_path / "m")


def test_a_network_of_ones_own_must_be_given(tmp_path):
    save_model(tiny(), tmp_path / "m")
    with pytest.raises(CheckpointError, match="backbone=module"):
        load_folder(tmp_path / "m")


def test_nan_is_not_saved(tmp_path):
    model = tiny()
    with torch.no_grad():
        model.backbone.layers[0].bias[0] = float("nan")
    with pytest.raises(CheckpointError, match=FIRST):
        save_model(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
