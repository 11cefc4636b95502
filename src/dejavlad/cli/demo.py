"""`dejavlad demo`: the whole story on a made town."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dejavlad.cli.options import ModelOptions
from dejavlad.cli.terminal import Output, command_line
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from dejavlad.ground_truth import PlaceDataset
    from dejavlad.photo import Photo, PhotoList
    from dejavlad.progress import OnProgress
    from dejavlad.report import Learnt

RECIPE = "town-rootsift"
SMALL = "longest:160"
"""Size of the photos that are learnt from: half of what they are, which takes a fifth of the time."""
LEARNS = "A NetVLAD layer over dense RootSIFT"
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
    """Make a town, map it, locate photos, evaluate, re-rank, train a network, and write a page about it.

    Example: `dejavlad demo --out demo`

    Parameters
    ----------
    out
        The folder for all of it; run again, it goes on where it stopped.
    photos
        How many photos the town has.
    """
    from dejavlad.datasets import open_dataset
    from dejavlad.photo import PhotoList
    from dejavlad.pipelines.evaluate import (
        Scoring,
        describe_dataset,
        patch_sources,
        rank,
        rerank,
        score,
    )
    from dejavlad.places import PlaceMap
    from dejavlad.places.preset import Preset
    from dejavlad.report import matched_pairs, write_demo_page
    from dejavlad.town import make_town

    preset = Preset(**PATCHES)
    model_name = options.chosen(None, output)
    with output.progress() as on_progress:
        town = make_town(
            out / "town", photos=photos, seed=options.seed, workers=options.workers, on_progress=on_progress
        )
        streets, elsewhere = open_dataset(town / "test"), open_dataset(town / "train")
        place_map = PlaceMap.build(
            options.load(model_name, on_progress),
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
            preset=preset,
            on_progress=on_progress,
        )
        description = {"name": model.name, "fingerprint": model.fingerprint, "dims": model.descriptor_size}
        preset, of_queries, of_database = patch_sources(preset, database, queries, model)
        first = rank(database, queries)
        reranked = rerank(
            first,
            of_queries,
            of_database,
            preset,
            out / "results",
            setting=description,
            on_progress=on_progress,
        )
        try:
            learnt = _learn(town, streets, out, options, output, on_progress)
        except InputError as error:
            learnt = None
            output.note(f"this town is too small to learn from: {error}")
    ranking = reranked.ranking
    result = score(
        ranking, streets, out / "results", Scoring(), model=description, reranked=reranked, preset=preset
    )
    assert result is not None  # a town knows where its photos were taken
    page = write_demo_page(
        out / "index.html",
        places=streets,
        answers=answers,
        town=place_map,
        result=result,
        ranking=ranking,
        learnt=learnt,
        matches=matched_pairs(
            ranking, streets, result, preset, of_queries, of_database, database.manifest.setting.preprocess
        ),
        command=command_line(),
    )
    trained, gain = None, []
    if learnt is not None:
        before, after = learnt.before, learnt.after
        trained = {"before": before.to_dict(), "after": after.to_dict(), "run": str(learnt.run)}
        gain = [f"{LEARNS}, trained: recall@1 {before.recall[1]:.3f} to {after.recall[1]:.3f}"]
    output.answer(
        {
            "page": str(page),
            "result": result.to_dict(),
            "answers": [answer.to_dict() for answer in answers],
            "training": trained,
        },
        "\n\n".join(
            [*(str(answer) for answer in (answers[0], answers[-1])), str(result), *gain, f"open {page}"]
        ),
    )


def _learn(
    town: Path,
    streets: PlaceDataset,
    out: Path,
    options: ModelOptions,
    output: Output,
    on_progress: OnProgress,
) -> Learnt:
    """Train a small network on two districts, and evaluate it on the third, as it began and at its best."""
    from dejavlad.datasets import open_dataset
    from dejavlad.pipelines.evaluate import (
        Scoring,
        describe_dataset,
        rank,
        score,
    )
    from dejavlad.report import Learnt, write_training_page
    from dejavlad.training import initial_model, load_recipe, train
    from dejavlad.zoo import load_model

    config = load_recipe(RECIPE).changed({"seed": options.seed, "workers": options.workers})
    run = train(
        config,
        initial_model(config, device=options.device, resize=SMALL),
        open_dataset(town / "train"),
        open_dataset(town / "val"),
        out / "training",
        on_progress=on_progress,
        on_record=lambda record: output.note(str(record["seen"])) if record["kind"] == "warning" else None,
    )
    write_training_page(run.path, command=command_line())
    results = []
    for name, which in (("before", "epoch:0"), ("after", "best")):
        model, database, queries = describe_dataset(
            load_model(run.model(which), device=options.device),
            streets,
            out / f"results-{name}",
            batch_size=options.batch_size,
            workers=options.workers,
            on_progress=on_progress,
        )
        description = {"name": model.name, "fingerprint": model.fingerprint, "dims": model.descriptor_size}
        result = score(
            rank(database, queries), streets, out / f"results-{name}", Scoring(), model=description
        )
        assert result is not None
        results.append(result)
    return Learnt(run.path, LEARNS, *results)


def _spread(photos: PhotoList, count: int) -> list[Photo]:
    """So many of the photos, evenly spread."""
    step = max(1, len(photos) // count)
    return [photos[i] for i in range(step // 2, len(photos), step)][:count]
