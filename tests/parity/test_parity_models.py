"""Published networks of others: with made weights, the answers of the original code.

A case is a file ``models/NAME.npz`` of `DEJAVLAD_GOLDEN` (see the README there); those found are run,
whatever their seed and sizes. Weights are made by a formula from names and shapes.
"""

import gc
import importlib.util
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from dejavlad.backbones import create
from dejavlad.backbones.dinov2 import FACETS
from dejavlad.convert.torch_layouts import build
from dejavlad.model.published import dino_of, filled
from dejavlad.model.published.families import anyloc

HERE = Path(__file__).parents[1] / "golden" / "models"
SHARED = Path(os.environ.get("DEJAVLAD_GOLDEN", Path(__file__).parents[3] / "shared" / "golden")) / "models"
FOLDER = SHARED if SHARED.is_dir() else HERE
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))
TOLERANCE = {
    "apgem_resnet101_2048": 7e-5,
    "mixvpr_resnet50_128": 5e-5,
    "mixvpr_resnet50_4096": 6e-5,
    "mixvpr_resnet50_512": 6e-5,
    **dict.fromkeys(("cosplace_vgg16_512", "qaa_vitb14_8192", "sfrs_vgg16_netvlad_4096"), 2e-5),
    **{f"convap_resnet50_{dims}": 2e-5 for dims in (512, 2048, 4096, 8192)},
}
"""Of the largest number, from the README's table; 1e-5 for all others. Held-out cases: as their program's."""
FAMILIES = {"apgem": 7e-5, "mixvpr": 6e-5, "convap": 2e-5, "qaa": 2e-5, "sfrs": 2e-5, "cosplace_vgg16": 2e-5}
WORK = 4e12
"""Parameters times pixels from which a case is marked large."""


def tolerance(name):
    family = next((limit for start, limit in FAMILIES.items() if name.startswith(start)), 1e-5)
    return TOLERANCE.get(name, family)


def made_weights():
    """The module that makes weights, of the golden folder or ours."""
    path = FOLDER / "made_weights.py"
    spec = importlib.util.spec_from_file_location("made_weights", path if path.exists() else HERE / path.name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def marked():
    for name in CASES:
        with np.load(FOLDER / f"{name}.npz") as arrays:
            size = sum(np.prod(shape, dtype=float) for shape in json.loads(str(arrays["shapes"])).values())
            pixels = sum(np.prod(arrays[key]) / 3.0 for key in arrays.files if key.endswith("input_shape"))
        yield pytest.param(name, marks=[pytest.mark.large] if size * pixels > WORK else [])


class Case:
    """A golden file, with its weights."""

    def __init__(self, name):
        mw = made_weights()
        self.name = name
        with np.load(FOLDER / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)
        shapes = json.loads(str(self.arrays["shapes"]))
        dtypes = json.loads(str(self.arrays["dtypes"]))
        seed, keys = int(self.arrays["seed"]), self.arrays["keys"].tolist()
        check = mw.weights_check(keys, [shapes[key] for key in keys], seed)
        np.testing.assert_allclose(check, self.arrays["weights_check"])
        self.tensors = {
            key: torch.from_numpy(mw.made(key, shapes[key], seed).astype(dtypes.get(key, "float32")))
            for key in keys
        }
        self.norm = json.loads(str(self.arrays["input_norm"]))
        self._made_input = mw.made_input

    def inputs(self):
        """(prefix of the arrays, input): one or two."""
        for prefix in ("", "alt_"):
            if f"{prefix}input_seed" in self.arrays:
                seed, shape = int(self.arrays[f"{prefix}input_seed"]), self.arrays[f"{prefix}input_shape"]
                yield prefix, torch.from_numpy(self._made_input(seed, shape, **self.norm))

    def check(self, array, output, limit):
        """Within `limit` of the largest number; the golden one may be the first numbers only."""
        wanted = self.arrays[array]
        output = np.asarray(output)[:, : wanted.shape[1]]
        assert output.shape == wanted.shape
        away = np.abs(output - wanted).max() / np.abs(wanted).max()
        assert away <= limit, f"{self.name}: {array} differs by {away:.1e}, more than {limit:.0e}"


def opened(case):
    """The model of a case, by the importer; of AnyLoc, whose block and facet no file tells, by its name."""
    if case.name.startswith("anyloc"):
        description = case.name + json.loads(str(case.arrays["facts"])).get("configuration_here", "")
        match = re.search(rf"_l(\d+)_({'|'.join(FACETS)})|layer (\d+) .*facet (\w+)", description)
        block, facet = filter(None, match.groups())
        shapes = {key: tensor.shape for key, tensor in case.tensors.items()}
        parts = anyloc(shapes, block=int(block), facet=facet)
        return filled(parts, case.tensors, name=case.name)
    return build(case.tensors, {}, Path(f"{case.name}.pth"))


@pytest.mark.slow
@pytest.mark.skipif(not CASES, reason=f"there are no goldens in {FOLDER} (DEJAVLAD_GOLDEN)")
@pytest.mark.parametrize("name", [*marked()])
def test_answers_of_the_original_code(name):
    case = Case(name)
    if name.startswith("dinov2"):
        check_dinov2(case)
        return
    model = opened(case)
    case.tensors.clear()
    gc.collect()
    with torch.inference_mode():
        for prefix, images in case.inputs():
            rows = model.describe(images)
            case.check(f"{prefix}output", rows, tolerance(name))
            if f"{prefix}extra_labels" in case.arrays:
                features = model.local_features(images).transpose(1, 2)
                assignment = model.aggregation.assignment_weights(features)
                assert np.array_equal(assignment.argmax(1).numpy(), case.arrays[f"{prefix}extra_labels"])
            if model.alone and not prefix:
                apart = torch.cat([model.describe(one[None]) for one in images])
                torch.testing.assert_close(apart, rows, atol=1e-5, rtol=0)
    del model
    gc.collect()


def check_dinov2(case):
    """The backbone's tokens, class token, registers and table of positions."""
    name = dino_of({key: tensor.shape for key, tensor in case.tensors.items()}, "").name
    limit = tolerance(name)
    depth = 1 + max(int(f[1]) for key in case.tensors if (f := re.match(r"blocks\.(\d+)\.", key)))
    whole = create(name, weights=case.tensors, leading=1)
    assert set(whole.state_dict()) == set(case.tensors)
    before = create(name, cut=f"blocks.{depth - 1}", weights=case.tensors, leading=1)
    third = create(name, cut=f"blocks.{depth - 3}.norm", weights=case.tensors)
    with torch.inference_mode():
        for prefix, images in case.inputs():
            tokens = whole(images)[..., 0].transpose(1, 2)
            case.check(f"{prefix}output", tokens[:, 0], limit)
            patches = tokens[:, 1:]
            case.check(f"{prefix}extra_patch_every64", patches[:, ::64], limit)
            case.check(f"{prefix}extra_patch_mean", patches.mean(1), limit)
            rows, columns = (side // 14 for side in images.shape[2:])
            table = whole.table(rows, columns)[0, :, :8]
            case.check(f"{prefix}extra_pos_first8", table, limit)
            if f"{prefix}extra_prenorm_first3" in case.arrays and not whole.registers:
                raw = before(images)[..., 0].transpose(1, 2)
                case.check(f"{prefix}extra_prenorm_first3", raw[:, :3], limit)
            grid = third(images)
            assert grid.shape[2:] == (rows, columns)
            case.check(
                f"{prefix}extra_layer_minus3_norm_every64", grid.flatten(2).transpose(1, 2)[:, ::64], limit
            )
            if whole.registers:
                everything = whole.run(whole.embed(images))
                case.check(f"{prefix}extra_reg", everything[:, 1 : 1 + whole.registers], limit)
