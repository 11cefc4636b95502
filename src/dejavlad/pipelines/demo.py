"""The whole story on a made town: what the command `dejavlad demo` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dejavlad.datasets import open_dataset
from dejavlad.errors import InputError
from dejavlad.evaluation import Result
from dejavlad.ground_truth import PlaceDataset
from dejavlad.model import PlaceModel
from dejavlad.photo import Photo, PhotoList
from dejavlad.pipelines.evaluate_dataset import Evaluation, evaluate
from dejavlad.places import Answer, PlaceMap
from dejavlad.places.preset import Preset
from dejavlad.progress import OnProgress, silent
from dejavlad.report import Learnt, write_demo_page, write_training_page
from dejavlad.town import make_town
from dejavlad.training import initial_model, load_recipe, train
from dejavlad.zoo import load_model

PHOTOS: Final = 300
"""Photos of the town: a district of 72 map photos and 48 queries is enough to show what a map does."""
FULL_PHOTOS: Final = 600
"""Photos of a town that a network can learn from."""
LOCATED: Final = 4
"""Photos of known streets, and as many of unknown ones, that the demo locates."""
RECIPE: Final = "town-rootsift"
SMALL: Final = "longest:160"
"""Size of the photos that are learnt from: half of what they are, which takes a fifth of the time."""
LEARNS: Final = "A NetVLAD layer over dense RootSIFT"
PATCHES: Final[dict[str, Any]] = {
    "matcher": "rapid",
    "sizes": (8,),
    "strides": (2,),
    "dims": 128,
    "depth": 10,
    "patch_dtype": "int8",
    "name": "demo",
}
"""How the demo re-ranks: coarse patches, few dimensions, few candidates."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo made."""

    page: Path
    answers: Sequence[Answer]
    """Of photos of the map's streets, then of photos of streets that it does not hold."""
    result: Result
    learnt: Learnt | None = None
    warnings: Sequence[str] = ()
    """What did not go as hoped, for the user to read."""


@dataclass(frozen=True, slots=True)
class Running:
    """How everything of the demo is run."""

    device: str = "auto"
    batch_size: int = 8
    workers: int = 2
    seed: int = 0
    on_progress: OnProgress = silent


def demo(
    model: PlaceModel,
    out: Path,
    *,
    photos: int | None = None,
    full: bool = False,
    running: Running = Running(),
    command: str | None = None,
) -> Demo:
    """Make a town, map it, locate photos, evaluate, and write a page about it; run again, it goes on.

    Args:
        model: what describes photos.
        out: the folder for all of it.
        photos: how many the town has (default: 300, or 600 for all of it).
        full: also re-rank by patches and train a network.
        running: threads, batches and progress.
        command: how it was called, for the page.

    Raises:
        InputError: the town would be too small.
    """
    town = make_town(
        out / "town",
        photos=photos or (FULL_PHOTOS if full else PHOTOS),
        seed=running.seed,
        workers=running.workers,
        on_progress=running.on_progress,
    )
    streets, elsewhere = open_dataset(town / "test"), open_dataset(town / "train")
    place_map = PlaceMap.build(
        model,
        streets.database,
        out / "town.map",
        batch_size=running.batch_size,
        seed=running.seed,
        workers=running.workers,
        on_progress=running.on_progress,
    )
    answers = _located(place_map, streets, elsewhere, running)
    made, result = _evaluated(place_map.model, streets, out / "results", running, command, rerank=full)
    learnt: Learnt | None = None
    warnings: list[str] = []
    if full:
        try:
            learnt = _learn(town, streets, out, running, warnings, command)
        except InputError as error:
            warnings.append(f"this town is too small to learn from: {error}")
    page = write_demo_page(
        out / "index.html",
        places=streets,
        answers=answers,
        town=place_map,
        result=result,
        ranking=made.ranking,
        learnt=learnt,
        matches=made.matches,
        command=command,
    )
    return Demo(page, answers, result, learnt, warnings)


def _located(
    place_map: PlaceMap, streets: PlaceDataset, elsewhere: PlaceDataset, running: Running
) -> list[Answer]:
    """Where some photos of the map's streets were taken, and some of other streets."""
    return [
        answer
        for name, part in (("known", streets), ("unknown", elsewhere))
        for answer in place_map.locate(
            PhotoList(_spread(part.queries, LOCATED), name=name), workers=running.workers
        )
    ]


def _evaluated(
    model: PlaceModel,
    streets: PlaceDataset,
    out: Path,
    running: Running,
    command: str | None,
    *,
    rerank: bool = False,
) -> tuple[Evaluation, Result]:
    """How often a model is right about photos of the streets, also after re-ranking by patches."""
    made = evaluate(
        model,
        streets,
        out,
        reranking=Preset(**PATCHES) if rerank else None,
        batch_size=running.batch_size,
        workers=running.workers,
        command=command or "",
        on_progress=running.on_progress,
    )
    assert made.result is not None  # a town knows where its photos were taken
    return made, made.result


def _learn(
    town: Path,
    streets: PlaceDataset,
    out: Path,
    running: Running,
    warnings: list[str],
    command: str | None,
) -> Learnt:
    """Train a small network on two districts, and evaluate it on the third, as it began and at its best."""
    config = load_recipe(RECIPE).changed({"seed": running.seed, "workers": running.workers})
    run = train(
        config,
        initial_model(config, device=running.device, resize=SMALL),
        open_dataset(town / "train"),
        open_dataset(town / "val"),
        out / "training",
        on_progress=running.on_progress,
        on_record=lambda record: (
            warnings.append(str(record["seen"])) if record["kind"] == "warning" else None
        ),
    )
    write_training_page(run.path, command=command)
    before, after = (
        _evaluated(
            load_model(run.model(which), device=running.device),
            streets,
            out / f"results-{name}",
            running,
            command,
        )[1]
        for name, which in (("before", "epoch:0"), ("after", "best"))
    )
    return Learnt(run.path, LEARNS, before, after)


def _spread(photos: PhotoList, count: int) -> list[Photo]:
    """So many of the photos, evenly spread."""
    step = max(1, len(photos) // count)
    return [photos[i] for i in range(step // 2, len(photos), step)][:count]
