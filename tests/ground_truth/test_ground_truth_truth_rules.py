"""Typed rules of truth: the same plain data as ever, there and back, in the same order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dejavlad.ground_truth import (
    Listed,
    SameName,
    Truth,
    TruthRule,
    WithinFrames,
    WithinMetres,
    truth_text,
)
from dejavlad.ground_truth.rules import (
    Refinement,
    described,
    parsed,
)

METRES = {
    "kind": "positions",
    "radius_m": 25.0,
    "database_without_position": 0,
    "queries_without_position": 2,
}
DESCRIPTIONS: list[tuple[dict[str, Any], TruthRule, str]] = [
    (METRES, WithinMetres(25.0, 0, 2), "taken within 25 m (without a position: 2 queries)"),
    (
        {**METRES, "frames": [5, 3], "measure": "msls"},
        WithinMetres(25.0, 0, 2, (5, 3)),
        "taken within 25 m (without a position: 2 queries), any of 3 frames of a query to any of 5",
    ),
    (
        {**METRES, "degrees": 40.0, "leave_one_out": True, "groups": 7},
        WithinMetres(25.0, 0, 2),
        "taken within 25 m (without a position: 2 queries), looking at most 40 degrees aside, "
        "one answer of each of 7 groups, a query's own photo left out",
    ),
    ({"kind": "frames", "tolerance": 2}, WithinFrames(2), "same frame number within 2"),
    (
        {"kind": "frames", "tolerance": 1, "every": 10, "window": 250, "turned": True},
        WithinFrames(1, every=10),
        "same frame number within 1, queries being every 10th frame, "
        "250 photos before and after the query's own left out",
    ),
    (
        {"kind": "frames", "tolerance": 2, "by": "names", "shift": -105},
        WithinFrames(2, by_names=True, shift=-105),
        "same frame number within 2, frames by the numbers in names, queries' numbers 105 less",
    ),
    (
        {"kind": "same-name", "same_time_left_out": True},
        SameName(),
        "same name, photos of the query's own time left out",
    ),
    ({"kind": "same-place", "fewest": 4}, Listed("same-place", (("fewest", 4),)), "same place"),
    (
        {"kind": "oxford", "measure": "oxford", "crop": True, "margin": 0.5},
        Listed("oxford", (("measure", "oxford"), ("crop", True), ("margin", 0.5))),
        "what the good and ok lists name, junk left out, queries being regions of photos",
    ),
    (
        {"kind": "revisited", "measure": "revisited", "difficulty": "hard"},
        Listed("revisited", (("measure", "revisited"), ("difficulty", "hard"))),
        "what is hard, the rest left out",
    ),
    ({"kind": "listed", "file": "gt.npy"}, Listed("listed", (("file", "gt.npy"),)), "what gt.npy lists"),
    ({}, Listed(), "as given"),
    ({"kind": "frames"}, Listed("frames"), "kind frames"),
    ({"kind": "drawn", "seed": 3}, Listed("drawn", (("seed", 3),)), "kind drawn, seed 3"),
    ({**METRES, "later": 1}, Listed("positions", tuple({**METRES, "later": 1}.items())[1:]), ""),
]


@pytest.mark.parametrize(("description", "rule", "text"), DESCRIPTIONS)
def test_rules_are_the_plain_data_of_results(description: dict[str, Any], rule: TruthRule, text: str) -> None:
    own, refinements = parsed(description)
    assert own == rule
    assert json.dumps(described(own, refinements)) == json.dumps(description)  # the same order too
    assert truth_text(description) == text or not text
    truth = Truth([], 0, description)
    assert truth.rule == rule and json.dumps(truth.description) == json.dumps(description)
    assert truth.measure == description.get("measure")


def test_refinements_are_of_one_name_once() -> None:
    truth = Truth([[0], [1]], 3, WithinMetres(5.0), groups=[0, 0, -1]).refined("leave_one_out", True)
    assert list(truth.description)[-2:] == ["groups", "leave_one_out"] and truth.description["groups"] == 1
    again = truth.refined("measure", "msls").refined("leave_one_out", True)
    assert [refinement.name for refinement in again.refinements] == ["groups", "leave_one_out", "measure"]
    assert again.hash == truth.hash and again.measure == "msls" and truth.measure is None
    plain = again.grouped(None)
    assert plain.groups is None and "groups" not in plain.description and plain.measure == "msls"


def test_a_refinement_that_does_not_hold_is_not_said() -> None:
    assert str(Refinement("leave_one_out", False)) == ""
    assert truth_text({"kind": "same-name", "leave_one_out": False}) == "same name"
    assert truth_text({"kind": "revisited"}) == "what is , the rest left out"
