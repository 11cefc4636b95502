"""Training never draws a photo that shows nothing: neither as query, nor positive, nor negative."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dejavlad.ground_truth import PlaceDataset
from dejavlad.model import PlaceModel
from dejavlad.model.run_folder import is_run
from dejavlad.photo import PhotoList
from dejavlad.training import TrainConfig, check, train
from dejavlad.training.losses.ranking_loss import make_loss
from dejavlad.training.run.state import STATE
from dejavlad.training.sampling.mining import (
    Descriptors,
    Miner,
    nearest,
)
from dejavlad.training.sampling.places import PlaceSampler
from dejavlad.training.sampling.tuples import Candidates
from dejavlad.training.steps.place_step import PlaceStep
from dejavlad.training.steps.tuple_step import Step

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
    photos_of = Step._photos

    def noting(self: Step, work: object) -> object:
        seen = list(photos_of(self, work))
        drawn.update(self._pool.photos[number].key for number, _ in seen)
        return iter(seen)

    monkeypatch.setattr(Step, "_photos", noting)
    options = {"mining": mining, "epochs": 1}
    if mining == "subcache":
        options |= {"cached_queries": 4, "cached_negatives": 12}
    run = train(config.changed(options), make_model(), foggy, None, out)
    reasons = {record["key"]: record["reason"] for record in run.records if record["kind"] == "photo"}
    assert set(reasons) == BLANK and set(reasons.values()) == {
        "shows nothing: it is of one colour, or a smooth gradient"
    }
    assert drawn and drawn.isdisjoint(BLANK)


PLACES = {
    "mining": "places",
    "loss": "multi_similarity",
    "photos_per_place": 3,
    "batch_size": 4,
    "save_every": 0,
    "learning_rate": 1e-4,
}


def test_places_never_draw_a_photo_again_that_shows_nothing(
    foggy: PlaceDataset,
    config: TrainConfig,
    make_model: Callable[..., PlaceModel],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []
    counts: list[int] = []
    photos_of = PlaceStep._photos

    def noting(self: PlaceStep, work: Sequence[tuple[tuple[int, object], int]]) -> object:
        keys = [self._pool.photos[number].key for (number, _), _ in work]
        drawn.extend(keys)
        counts.extend(Counter(place for _, place in work).values())
        assert BLANK.isdisjoint(key for key in keys if keys.count(key) > 1)
        return photos_of(self, work)

    monkeypatch.setattr(PlaceStep, "_photos", noting)
    run = train(replace(config, **PLACES, epochs=6), make_model(), foggy, None, out)
    reported = [record["key"] for record in run.records if record["kind"] == "photo"]
    assert set(reported) == BLANK  # in 6 epochs each photo's turn comes
    assert all(drawn.count(key) == 1 for key in BLANK)
    assert set(counts) == {3}  # another photo of the place is drawn in its stead


def test_a_place_with_one_photo_left_is_left_out(town: PlaceDataset, config: TrainConfig) -> None:
    sampler = PlaceSampler(town, replace(config, **PLACES, negative_radius=25.0))
    numbers, labels = (sampler.draw(1, 1).numbers, sampler.draw(1, 1).labels)
    place = int(labels[0])
    failed = set(sampler.places[place].tolist()[1:])
    left = sampler.draw(1, 1, failed)
    assert place not in left.labels.tolist()
    assert left.labels.tolist() == [label for label in labels.tolist() if label != place]
    assert failed.isdisjoint(left.numbers.tolist()) and len(numbers) == len(left.numbers) + 3
    assert sampler.draw(1, 1, set(range(40))).numbers.tolist() == []


@pytest.mark.slow
def test_places_that_are_interrupted_end_alike_where_a_photo_shows_nothing(
    foggy: PlaceDataset, config: TrainConfig, make_model: Callable[..., PlaceModel], tmp_path: Path
) -> None:
    """A photo that failed in the interrupted batch is drawn again in it, as in a whole run."""
    places = replace(config, **PLACES, epochs=3)
    records: list[Mapping[str, object]] = []
    train(places, make_model(), foggy, None, tmp_path / "whole", on_record=records.append)
    whole = (tmp_path / "whole" / STATE).read_bytes()
    for at in range(1, len(records) + 1):
        calls = iter(range(1, len(records) + 9))

        def interrupt(_: object, calls: Iterator[int] = calls, at: int = at) -> None:
            if next(calls) == at:
                raise KeyboardInterrupt

        out = tmp_path / str(at)
        with pytest.raises(KeyboardInterrupt):
            train(places, make_model(), foggy, None, out, on_record=interrupt)
        train(places, None if is_run(out) else make_model(), foggy, None, out)
        assert (out / STATE).read_bytes() == whole, at


def test_the_doctor_says_so(
    foggy: PlaceDataset, config: TrainConfig, make_model: Callable[..., PlaceModel]
) -> None:
    findings = [
        finding for finding in check(config, make_model(), foggy) if finding.fault == "photos left out"
    ]
    assert len(findings) == 1 and "show nothing" in findings[0].seen


def test_zeros_are_neither_positive_nor_negative(town: PlaceDataset, config: TrainConfig) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(32, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries, database = rows[:8], rows[8:].copy()
    among = np.arange(24)
    for zeros in ([], [3, 11], list(range(20))):
        database[zeros] = 0
        nonzero = np.setdiff1d(among, zeros)
        for count in (1, 5, 30):
            rows_found, squared = nearest(queries[0], database, among, count)
            gap = ((database[nonzero].astype(np.float64) - queries[0]) ** 2).sum(axis=1)
            assert rows_found.tolist() == nonzero[np.argsort(gap, kind="stable")[:count]].tolist()
            assert len(squared) == len(rows_found)
    candidates = Candidates.of(town, config)
    miner = Miner(candidates, make_loss(config), config, 8)
    database = rows[8:].copy()
    assert miner.choose(0, Descriptors(queries, database), 1, 1) is not None
    database[candidates.positives(0)] = 0
    assert miner.choose(0, Descriptors(queries, database), 1, 1) is None
    assert miner.choose(0, Descriptors(0 * queries, rows[8:]), 1, 1) is None
