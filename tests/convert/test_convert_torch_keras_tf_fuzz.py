"""Damaged PyTorch, Keras and TensorFlow files end in an error of ours, or in a model; `fuzz_torch_keras_tf`
tries many more."""

import pytest
from fuzz import mutated, outcome
from fuzz_torch_keras_tf import seeds

CASES = 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pth", "old-pth", "safetensors", "h5", "json", "index"])
def test_damaged_files(tmp_path, kind):
    seed = seeds(tmp_path)[kind]
    assert outcome(seed) == "model"
    content, cases_by_outcome = seed.read_bytes(), {}
    for case in range(CASES):
        seed.unlink()  # what was mapped stays as it was
        seed.write_bytes(mutated(content, case))
        cases_by_outcome.setdefault(outcome(seed), []).append(case)
    assert cases_by_outcome.keys() <= {"model", "refused"}, cases_by_outcome
    assert cases_by_outcome["refused"]
