"""Training never draws a photo that shows nothing: neither as query, nor positive, nor negative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dejavlad.datasets import PlaceDataset
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.training import TrainConfig, check, train
from dejavlad.training.loss import make_loss
from dejavlad.training.mining import Descriptors, Miner, nearest
from dejavlad.training.tuples import Candidates

BLANK = {"1-0", "4-2", "6-query"}


@pytest.fixture
def foggy(town: PlaceDataset) -> PlaceDataset:
    """The town with three photos that show nothing."""

    def with_blank(photos: PhotoList) -> PhotoList:
        fog = np.full((40, 56, 3), 200, np.uint8)
        return PhotoList(
            [replace(photo, pixels=fog) if photo.key in BLANK else photo for photo in photos],
            name=photos.name,
        )

    return PlaceDataset(town.name, with_blank(town.database), with_blank(town.queries), town.truth)


@pytest.mark.parametrize("mining", ["all", "subcache"])
def test_they_are_told_once_and_never_drawn(
    mining: str,
    foggy: PlaceDataset,
    config: TrainConfig,
    make_model: Callable[..., PlaceModel],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: set[str] = set()
    from dejavlad.training.step import Step

    seen_of = Step._seen

    def noting(self: Step, work: object) -> object:
        seen = list(seen_of(self, work))
        drawn.update(self._album.photos[number].key for number, _ in seen)
        return iter(seen)

    monkeypatch.setattr(Step, "_seen", noting)
    options = {"mining": mining, "epochs": 1}
    if mining == "subcache":
        options |= {"cached_queries": 4, "cached_negatives": 12}
    run = train(config.changed(options), make_model(), foggy, None, out)
    told = {record["key"]: record["reason"] for record in run.records if record["kind"] == "photo"}
    assert set(told) == BLANK and set(told.values()) == {
        "shows nothing: it is of one colour, or a smooth gradient"
    }
    assert drawn and drawn.isdisjoint(BLANK)


def test_the_doctor_says_so(
    foggy: PlaceDataset, config: TrainConfig, make_model: Callable[..., PlaceModel]
) -> None:
    found = [one for one in check(config, make_model(), foggy) if one.fault == "photos left out"]
    assert len(found) == 1 and "show nothing" in found[0].seen


def test_zeros_are_neither_positive_nor_negative(town: PlaceDataset, config: TrainConfig) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(32, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries, database = rows[:8], rows[8:].copy()
    among = np.arange(24)
    for zeros in ([], [3, 11], list(range(20))):
        database[zeros] = 0
        there = np.setdiff1d(among, zeros)
        for count in (1, 5, 30):
            found, squared = nearest(queries[0], database, among, count)
            gap = ((database[there].astype(np.float64) - queries[0]) ** 2).sum(axis=1)
            assert found.tolist() == there[np.argsort(gap, kind="stable")[:count]].tolist()
            assert len(squared) == len(found)
    candidates = Candidates.of(town, config)
    miner = Miner(candidates, make_loss(config), config, 8)
    database = rows[8:].copy()
    assert miner.choose(0, Descriptors(queries, database), 1, 1) is not None
    database[candidates.positives(0)] = 0
    assert miner.choose(0, Descriptors(queries, database), 1, 1) is None
    assert miner.choose(0, Descriptors(0 * queries, rows[8:]), 1, 1) is None
