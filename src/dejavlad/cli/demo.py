"""`dejavlad demo`: the whole story on a made town."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dejavlad.cli.options import ModelOptions
from dejavlad.cli.terminal import Output, command_line

if TYPE_CHECKING:
    from dejavlad.photo import Photo, PhotoList

MODEL = "rootsift-vlad"
PHOTOS = 600
ASKED = 4
"""Photos of known streets, and as many of unknown ones, that the demo locates."""


def demo(
    *,
    out: Path = Path("dejavlad-demo"),
    photos: int = PHOTOS,
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Make a town, map its streets, locate photos, evaluate, and write a page about it.

    Example: `dejavlad demo --out demo`

    Parameters
    ----------
    out
        The folder for all of it; run again, it goes on where it stopped.
    photos
        How many photos the town has.
    """
    from dejavlad.datasets import open_dataset
    from dejavlad.datasets.town import make_town
    from dejavlad.photo import PhotoList
    from dejavlad.report import write_demo_page
    from dejavlad.retrieval import PlaceMap
    from dejavlad.retrieval.benchmark import Scoring, describe_dataset, rank, score

    with output.progress() as on_progress:
        town = make_town(
            out / "town", photos=photos, seed=options.seed, workers=options.workers, on_progress=on_progress
        )
        streets, elsewhere = open_dataset(town / "test"), open_dataset(town / "train")
        place_map = PlaceMap.build(
            options.load(MODEL, on_progress),
            streets.database,
            out / "town.map",
            batch_size=options.batch_size,
            workers=options.workers,
            seed=options.seed,
            on_progress=on_progress,
        )
        known, unknown = (_spread(part.queries, ASKED) for part in (streets, elsewhere))
        answers = [
            *place_map.locate(PhotoList(known, name="known"), workers=options.workers),
            *place_map.locate(PhotoList(unknown, name="unknown"), workers=options.workers),
        ]
        model, database, queries = describe_dataset(
            place_map.model,
            streets,
            out / "results",
            batch_size=options.batch_size,
            workers=options.workers,
            on_progress=on_progress,
        )
    scoring = Scoring()
    ranking = rank(database, queries, scoring)
    told = {"name": model.name, "fingerprint": model.fingerprint, "dims": model.descriptor_size}
    result = score(ranking, streets, out / "results", scoring, model=told)
    assert result is not None  # a town knows where its photos were taken
    page = write_demo_page(
        out / "index.html",
        places=streets,
        answers=answers,
        town=place_map,
        result=result,
        ranking=ranking,
        command=command_line(),
    )
    output.answer(
        {"page": str(page), "result": result.to_dict(), "answers": [answer.to_dict() for answer in answers]},
        "\n\n".join([*(str(answer) for answer in (answers[0], answers[-1])), str(result), f"open {page}"]),
    )


def _spread(photos: PhotoList, count: int) -> list[Photo]:
    """So many of the photos, evenly spread."""
    step = max(1, len(photos) // count)
    return [photos[i] for i in range(step // 2, len(photos), step)][:count]
