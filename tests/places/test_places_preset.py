"""Presets of re-ranking from a user's file: a value of another type is refused in words."""

import pytest

from dejavlad.errors import InputError
from dejavlad.places.preset import Preset, load_preset


def test_a_file_sets_what_it_names(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('sizes = [2, 5]\nweights = [1, 0.5]\nshortlist = "auto"\nresize = "480x640"\n')
    preset = load_preset(path)
    assert preset == Preset(sizes=(2, 5), weights=(1.0, 0.5), shortlist="auto", resize="480x640", name="own")
    assert preset.strides == (1, 1) and type(preset.weights[0]) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('depth = "many"', "depth must be a whole number; given 'many'"),
        ("depth = true", "depth must be a whole number; given True"),
        ("depth = 1.5", "depth must be a whole number; given 1.5"),
        ("sizes = 5", "sizes must be a list, each item a whole number; given 5"),
        ("sizes = [2.5]", r"sizes must be a list, each item a whole number; given \[2.5\]"),
        ("weights = [nan]", r"weights must be a list, each item a finite number; given \[nan\]"),
        ("dims = 2.5", "dims must be a whole number; given 2.5"),
        ("shortlist = true", "shortlist must be a whole number or one of auto, none; given True"),
        ("fusion = [1]", r"fusion must be text; given \[1\]"),
        ('resize = "big"', "resize 'big' is unknown"),
        ("size = [5]", "key of a preset 'size' is unknown|unknown key of a preset 'size'"),
    ],
)
def test_values_of_another_type_are_refused(tmp_path, text, message):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_preset(path)
