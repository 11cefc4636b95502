"""Damaged .mat files end in an error of ours, or in a model; `fuzz` tries many more."""

import pytest
from fuzz import mutated, outcome, seeds

CASES = 60


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    ["v5", "compressed", "v73", "class_objects_vlad_preL2_intra_v7", "class_objects_vlad_preL2_intra_v73"],
)
def test_damaged_files(tmp_path, kind):
    seed = seeds(tmp_path)[kind]
    assert outcome(seed) == "model"
    content, cases_by_outcome = seed.read_bytes(), {}
    for case in range(CASES):
        path = tmp_path / f"{case}.mat"
        path.write_bytes(mutated(content, case))
        cases_by_outcome.setdefault(outcome(path), []).append(case)
    assert cases_by_outcome.keys() <= {"model", "refused"}, cases_by_outcome
    assert cases_by_outcome["refused"]
