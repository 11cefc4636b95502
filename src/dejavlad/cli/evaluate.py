"""`dejavlad evaluate`: how often does a model, or a ranking, recognise the place?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dejavlad.cli.machines import answer_shard
from dejavlad.cli.options import FilterOptions, MachineOptions, ModelOptions, RerankOptions, ScoringOptions
from dejavlad.cli.sources import Panorama, PlaceOptions, Stores
from dejavlad.cli.terminal import Output, command_line
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from dejavlad.evaluation.protocols import Protocol
    from dejavlad.extraction import DescriptorStore
    from dejavlad.ground_truth import PlaceDataset
    from dejavlad.pipelines import Evaluation, Scoring
    from dejavlad.places.preset import Preset

NOUNS = {"database": ("database photo", "database photos"), "queries": ("query", "queries")}


def evaluate(
    model: str | None = None,
    /,
    *,
    out: Path,
    ranking: Path | None = None,
    panorama: Panorama = None,
    protocol: str | None = None,
    scores: ScoringOptions = ScoringOptions(),
    sources: PlaceOptions = PlaceOptions(),
    filters: FilterOptions = FilterOptions(),
    reranking: RerankOptions = RerankOptions(),
    budget: float | None = None,
    machines: MachineOptions = MachineOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Evaluate a model on photos with known answers, or score a ranking made elsewhere.

    Without a truth there are rankings, predictions and the page only.

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
    protocol
        Measure as a published protocol does, e.g. `nordland@10f-27592`: what is right, what is left out of
        rankings, which queries count (`dejavlad dataset protocols` lists them). Opens its dataset, unless
        others are given.
    budget
        Milliseconds a query, as a mean: re-rank the least sure queries first, and stop when it is spent.
    """
    from dejavlad.evaluation.protocols import protocol as protocol_of
    from dejavlad.pipelines import evaluate as evaluate_model

    named = protocol_of(protocol) if protocol is not None else None
    scoring = scores.scoring(named)
    points = reranking.points()
    preset = reranking.chosen() if points is None else None
    places, stores = _open(sources, named, panorama, output)
    if ranking is not None:
        if preset is not None or points is not None or budget is not None:
            raise InputError("--ranking is scored as it is: re-rank it with `dejavlad rerank` first")
        _score(ranking, model or stores, places, out, scoring, filters, machines, output)
        return
    if points is not None and (why := points.chosen().second_best):
        output.note(why)
    if budget is not None and preset is None and points is None:
        raise InputError("--budget limits re-ranking; give --rerank or --preset too")
    only = filters.filter()
    if stores is not None:
        _refuse_with_stores(model, machines)
    else:
        model = options.chosen(model, output)
    if shard := machines.share():
        described = _share(model or "", places, out, machines, options, preset, output)
        return answer_shard(output, shard, described, "evaluate")
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
            device=options.resolved_device,
            offline=options.offline or None,
            command=command_line(),
            **options.describing(on_progress),
        )
    _answer(made, places, out, output)


def _open(
    sources: PlaceOptions, named: Protocol | None, panorama: str | None, output: Output
) -> tuple[PlaceDataset, Stores | None]:
    """The dataset, measured as the protocol says, and what is to be said of it."""
    from dejavlad.ground_truth import WithinFrames, truth_text

    if named is not None and (sources.dataset, sources.database, sources.queries) == (None, None, None):
        sources = replace(sources, dataset=named.dataset)
    places, stores = sources.open(panorama, output)
    output.notes(places.database, places.queries)
    if named is not None:
        places = named.under(places, given=sources.truth is not None)
        if unlike := named.unlike_published(len(places.database), len(places.queries)):
            output.note(f"{named.name}: {unlike}: figures are not those of the published lists")
    truth = places.truth
    if truth is not None and isinstance(truth.rule, WithinFrames) and truth.rule.by_names:
        output.note(f"right is {truth_text(truth.description)}")
    return places, stores


def _score(
    ranking: Path,
    described: str | Stores | None,
    places: PlaceDataset,
    out: Path,
    scoring: Scoring,
    filters: FilterOptions,
    machines: MachineOptions,
    output: Output,
) -> None:
    """Score a ranking that was made elsewhere."""
    from dejavlad.evaluation.predictions import open_ranking
    from dejavlad.pipelines import evaluate_ranking

    if described is not None:
        raise InputError("--ranking is scored as it is: give photo lists, but no model and no stores")
    if filters.filter() is not None or machines.shard is not None or machines.ray is not None:
        raise InputError("--ranking is scored as it is: leave filters, --shard and --ray out")
    scored = open_ranking(ranking, places.database, places.queries)
    made = evaluate_ranking(scored, places, out, scoring, command=command_line())
    _answer(made, places, out, output)


def _answer(made: Evaluation, places: PlaceDataset, out: Path, output: Output) -> None:
    from dejavlad.datasets.audit.near_duplicates import near_duplicates_text

    if made.stores is not None:
        output.scaled(*made.stores)
    for what, failed in (made.unread or {}).items():
        output.failures(failed, *NOUNS[what])
    result = made.result
    if result is None:
        output.answer(
            {"ranking": str(out / "ranking.npz"), "page": str(made.page), "unread": made.unread},
            f"{len(places.queries)} queries ranked; without truth there is no recall (--truth)\n"
            f"open {made.page}",
        )
        return
    if twins := near_duplicates_text(result.twins):
        output.note(twins)
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
