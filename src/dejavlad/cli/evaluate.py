"""`dejavlad evaluate`: how often does a model, or a ranking, recognise the place?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from dejavlad.cli.machines import answer_shard
from dejavlad.cli.options import FilterOptions, MachineOptions, ModelOptions, RerankOptions, numbers
from dejavlad.cli.sources import Panorama, PlaceOptions
from dejavlad.cli.terminal import Output, command_line
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from dejavlad.evaluation.protocols import Protocol
    from dejavlad.extraction import DescriptorStore
    from dejavlad.ground_truth import PlaceDataset
    from dejavlad.places.preset import Preset

NOUNS = {"database": ("database photo", "database photos"), "queries": ("query", "queries")}


def evaluate(
    model: str | None = None,
    /,
    *,
    out: Path,
    ranking: Path | None = None,
    panorama: Panorama = None,
    recall_at: str = "1,5,10",
    protocol: str | None = None,
    misses: Literal["count", "drop"] | None = None,
    k: Annotated[int, Parameter(name=["-k"])] = 100,
    index: str = "flat",
    sources: PlaceOptions = PlaceOptions(),
    filters: FilterOptions = FilterOptions(),
    reranking: RerankOptions = RerankOptions(),
    budget: float | None = None,
    machines: MachineOptions = MachineOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Evaluate a model on photos with known answers, or score a ranking made elsewhere.

    Examples:

        dejavlad evaluate rootsift-vlad --database left/ --queries right/ --truth frames:2 --out results
        dejavlad evaluate --ranking mine.npz --dataset town/test --out results
        dejavlad evaluate --database db.desc --queries q.desc --truth positions:25 --out results
        dejavlad evaluate MODEL --dataset town/test --preset speed --patch-dtype int8 --out results
        dejavlad evaluate MODEL --protocol tokyo247@relja --root /data/tokyo247 --out results

    Parameters
    ----------
    model
        A model's name or folder. Left out, the best that works here without a download, unless --ranking or
        stores of descriptors are given.
    out
        The folder of the results; run again, it goes on where it stopped.
    ranking
        Score this ranking instead of making one: `.npz`, `.npy` of rows, or predictions by name (`.txt` in
        kapture's form).
    panorama
        Cut panoramas of --database and --queries into so many views, as `map build` does.
    recall_at
        N of recall@N, with commas between.
    protocol
        Measure as a published protocol does, e.g. `nordland@10f-27592`: what is right, what is left out of
        rankings, which queries count (`dejavlad dataset protocols` lists them). Opens its dataset, unless
        others are given.
    misses
        Whether queries without a right answer `count` as misses or are dropped (`drop`). Default: as the
        protocol says, else they count.
    k
        Depth of the ranking.
    index
        The kind of index: `exact` (`flat`), `float16`, `int8`, `1bit`, `ivf`, `hnsw`, or faiss's own.
    budget
        Milliseconds a query, as a mean: re-rank the least sure queries first, and stop when it is spent.
    """
    from dejavlad.datasets.audit.near_duplicates import twins_text
    from dejavlad.evaluation.predictions import open_ranking
    from dejavlad.ground_truth import (
        WithinFrames,
        truth_text,
    )
    from dejavlad.model.device import resolve_device
    from dejavlad.pipelines import Scoring, evaluate_ranking
    from dejavlad.pipelines import evaluate as evaluate_model
    from dejavlad.places.filters import Filter

    named = _protocol(protocol, misses)
    scoring = Scoring(
        recall_at=numbers("--recall-at", recall_at),
        k=k,
        misses=misses or (named.misses if named is not None else "count"),
        index=index,
        protocol=protocol,
    )
    points = reranking.points()
    preset = reranking.chosen() if points is None else None
    if named is not None and (sources.dataset, sources.database, sources.queries) == (None, None, None):
        sources = replace(sources, dataset=named.dataset)
    places, stores = sources.open(panorama, output)
    output.notes(places.database, places.queries)
    if named is not None:
        places = named.under(places, given=sources.truth is not None)
        if unlike := named.unlike_published(len(places.database), len(places.queries)):
            output.note(f"{named.name}: {unlike}: figures are not those of the published lists")
    rule = None if places.truth is None else places.truth.rule
    if places.truth is not None and isinstance(rule, WithinFrames) and rule.by_names:
        output.note(f"right is {truth_text(places.truth.description)}")
    if ranking is not None:
        if model is not None or stores is not None:
            raise InputError("--ranking is scored as it is: give photo lists, but no model and no stores")
        if preset is not None or points is not None or budget is not None:
            raise InputError("--ranking is scored as it is: re-rank it with `dejavlad rerank` first")
        if Filter.of(**filters.given()) is not None or machines.shard is not None or machines.ray is not None:
            raise InputError("--ranking is scored as it is: leave filters, --shard and --ray out")
        scored = open_ranking(ranking, places.database, places.queries)
        made = evaluate_ranking(scored, places, out, scoring, command=command_line())
    else:
        if points is not None and (why := points.chosen().second_best):
            output.note(why)
        if budget is not None and preset is None and points is None:
            raise InputError("--budget limits re-ranking; give --rerank or --preset too")
        only = Filter.of(**filters.given())
        if stores is not None:
            _refuse_with_stores(model, machines)
        else:
            model = options.chosen(model, output)
        if shard := machines.share():
            answer_shard(
                output, shard, _share(model or "", places, out, machines, options, preset, output), "evaluate"
            )
            return
        with output.progress() as on_progress:
            made = evaluate_model(
                stores or options.load(model or "", on_progress, preset=preset),
                places,
                out,
                scoring,
                reranking=preset or points,
                budget_ms=budget,
                only=only,
                dims=options.dims_list if len(options.dims_list) > 1 else (),
                ray=machines.ray,
                device=resolve_device(options.device),
                offline=options.offline or None,
                command=command_line(),
                **options.describing(on_progress),
            )
    if made.stores is not None:
        output.scaled(*made.stores)
    for what, failed in (made.unread or {}).items():
        output.failures(failed, *NOUNS[what])
    result = made.result
    if result is not None and (twins := twins_text(result.twins)):
        output.note(twins)
    if result is None:
        output.answer(
            {"ranking": str(out / "ranking.npz"), "page": str(made.page), "unread": made.unread},
            f"{len(places.queries)} queries ranked; without truth there is no recall (--truth)\n"
            f"open {made.page}",
        )
    else:
        output.answer(result.to_dict(), f"{result}\nopen {made.page}")


def _refuse_with_stores(model: str | None, machines: MachineOptions) -> None:
    """What describes photos has no use where descriptors are given."""
    if machines.shard is not None or machines.ray is not None:
        raise InputError("stores are described already: leave --shard and --ray out")
    if model is not None:
        raise InputError(f"--database and --queries are stores already; leave the model {model!r} out")


def _share(
    model: str,
    places: PlaceDataset,
    out: Path,
    machines: MachineOptions,
    options: ModelOptions,
    preset: Preset | None,
    output: Output,
) -> list[DescriptorStore]:
    """Describe one share of the photos alone."""
    from dejavlad.pipelines.evaluation import describe_dataset

    with output.progress() as on_progress:
        _, database, queries = describe_dataset(
            options.load(model, on_progress, preset=preset),
            places,
            out,
            preset=preset,
            shard=machines.share(),
            ray=machines.ray,
            **options.describing(on_progress),
        )
    return [database, queries]


def _protocol(name: str | None, misses: str | None) -> Protocol | None:
    """The protocol of that name, if any; it tells which queries count."""
    from dejavlad.evaluation.protocols import protocol

    chosen = protocol(name) if name is not None else None
    if chosen is not None and misses not in (None, chosen.misses):
        raise InputError(f"{chosen.name} has --misses {chosen.misses}: leave out --misses or --protocol")
    return chosen
