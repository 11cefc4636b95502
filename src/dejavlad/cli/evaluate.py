"""`dejavlad evaluate`: how often does a model, or a ranking, recognise the place?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from dejavlad.cli.machines import answer_shard
from dejavlad.cli.options import FilterOptions, MachineOptions, ModelOptions, RerankOptions, ScoringOptions
from dejavlad.cli.sources import PlaceOptions, Stores
from dejavlad.cli.terminal import Output, command_line
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from dejavlad.evaluation.protocols import Protocol
    from dejavlad.extraction import DescriptorStore, Shard
    from dejavlad.ground_truth import PlaceDataset
    from dejavlad.model import PlaceModel
    from dejavlad.pipelines import Evaluation, Scoring
    from dejavlad.pipelines.evaluation import Describing
    from dejavlad.places.filters import Filter
    from dejavlad.places.preset import Preset
    from dejavlad.places.verification.points import PointSetting

NOUNS = {"database": ("database photo", "database photos"), "queries": ("query", "queries")}


@Parameter(name="*")
@dataclass(frozen=True)
class TaskOptions:
    """What is measured, and how."""

    ranking: Path | None = None
    """Score this ranking instead of making one: `.npz`, `.npy` of rows, or predictions by name (`.txt` in
    kapture's form)."""
    panorama: str | None = None
    "Cut panoramas of --database and --queries into so many views, as `map build` does."
    protocol: str | None = None
    """Measure as a published protocol does, e.g. `nordland@10f-27592`: what is right, what is left out of
    rankings, which queries count (`dejavlad dataset protocols` lists them). Opens its dataset, unless others
    are given."""

    budget: float | None = None
    "Milliseconds a query, as a mean: re-rank the least sure queries first, and stop when it is spent."

    @property
    def named(self) -> Protocol | None:
        """The protocol that is given by its name."""
        from dejavlad.evaluation.protocols import protocol

        return None if self.protocol is None else protocol(self.protocol)

    def method(self, reranking: RerankOptions, output: Output) -> Preset | PointSetting | None:
        """What re-ranks; a kind of local features that stands in for a better one is noted.

        Raises:
            InputError: a ranking that is there already is to be re-ranked, or a budget limits nothing.
        """
        points = reranking.points()
        method = reranking.chosen() if points is None else points
        if self.ranking is not None and (method is not None or self.budget is not None):
            raise InputError("--ranking is scored as it is: re-rank it with `dejavlad rerank` first")
        if method is None and self.budget is not None:
            raise InputError("--budget limits re-ranking; give --rerank or --preset too")
        if points is not None and (why := points.chosen().second_best):
            output.note(why)
        return method

    def open(self, sources: PlaceOptions, output: Output) -> tuple[PlaceDataset, Stores | None]:
        """The dataset, measured as the protocol says; what is to be said of it is noted."""
        from dejavlad.ground_truth import WithinFrames, truth_text

        named = self.named
        if named is not None and (sources.dataset, sources.database, sources.queries) == (None, None, None):
            sources = replace(sources, dataset=named.dataset)
        places, stores = sources.open(self.panorama, output, seen=self.ranking is None)
        output.notes(places.database, places.queries)
        if named is not None:
            places = named.under(places, given=sources.truth is not None)
            if unlike := named.unlike_published(len(places.database), len(places.queries)):
                output.note(f"{named.name}: {unlike}: figures are not those of the published lists")
        truth = places.truth
        if truth is not None and isinstance(truth.rule, WithinFrames) and truth.rule.by_names:
            output.note(f"right is {truth_text(truth.description)}")
        return places, stores


def evaluate(
    model: str | None = None,
    /,
    *,
    out: Path,
    task: TaskOptions = TaskOptions(),
    scores: ScoringOptions = ScoringOptions(),
    sources: PlaceOptions = PlaceOptions(),
    filters: FilterOptions = FilterOptions(),
    reranking: RerankOptions = RerankOptions(),
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
    """
    only = filters.filter()
    places, stores = task.open(sources, output)
    scoring = scores.scoring(task.named)
    method = task.method(reranking, output)
    preset = _preset(method)
    if task.ranking is not None:
        _refuse_with_ranking(model or stores, only, machines)
        return _answer(_scored(task.ranking, places, out, scoring), places, out, output)
    if stores is not None:
        _refuse_with_stores(model, machines, options)
    name = options.chosen(model, output) if stores is None else ""
    with output.progress() as on_progress:
        describing: Describing = {"ray": machines.ray, **options.describing(on_progress)}
        base = stores or options.load(name, on_progress, preset=preset, several_dims=True)
        if (shard := machines.share()) is not None:
            shares = _described(base, places, out, shard, preset, describing)
            return answer_shard(output, shard, shares, "evaluate")
        made = _evaluated(base, places, out, scoring, task, method, only, options, describing)
    _answer(made, places, out, output)


def _evaluated(
    base: PlaceModel | Stores,
    places: PlaceDataset,
    out: Path,
    scoring: Scoring,
    task: TaskOptions,
    reranking: Preset | PointSetting | None,
    only: Filter | None,
    options: ModelOptions,
    describing: Describing,
) -> Evaluation:
    """Measured by a model, or by descriptors."""
    from dejavlad.pipelines import evaluate as evaluate_dataset

    return evaluate_dataset(
        base,
        places,
        out,
        scoring,
        reranking=reranking,
        budget_ms=task.budget,
        only=only,
        dims=options.dims_list if len(options.dims_list) > 1 or isinstance(base, tuple) else (),
        device=options.resolved_device,
        offline=options.offline or None,
        command=command_line(),
        **describing,
    )


def _scored(ranking: Path, places: PlaceDataset, out: Path, scoring: Scoring) -> Evaluation:
    """A ranking that was made elsewhere, scored."""
    from dejavlad.evaluation.predictions import open_ranking
    from dejavlad.pipelines import evaluate_ranking

    opened = open_ranking(ranking, places.database, places.queries)
    return evaluate_ranking(opened, places, out, scoring, command=command_line())


def _described(
    model: PlaceModel | Stores,
    places: PlaceDataset,
    out: Path,
    shard: Shard,
    preset: Preset | None,
    describing: Describing,
) -> list[DescriptorStore]:
    """One share of the photos, described alone."""
    from dejavlad.pipelines.evaluation import describe_dataset

    assert not isinstance(model, tuple)
    _, *shares = describe_dataset(model, places, out, preset=preset, shard=shard, **describing)
    return shares


def _preset(method: Preset | PointSetting | None) -> Preset | None:
    """What re-ranks, where that is by patches."""
    from dejavlad.places.preset import Preset

    return method if isinstance(method, Preset) else None


def _refuse_with_ranking(
    described: str | Stores | None, only: Filter | None, machines: MachineOptions
) -> None:
    """What makes rankings has no use where one is given."""
    if described is not None:
        raise InputError("--ranking is scored as it is: give photo lists, but no model and no stores")
    if only is not None or machines.shard is not None or machines.ray is not None:
        raise InputError("--ranking is scored as it is: leave filters, --shard and --ray out")


def _refuse_with_stores(model: str | None, machines: MachineOptions, options: ModelOptions) -> None:
    """What describes photos has no use where descriptors are given."""
    options.refuse_of_model("--database", except_for="--dims")
    if machines.shard is not None or machines.ray is not None:
        raise InputError("stores are described already: leave --shard and --ray out")
    if model is not None:
        raise InputError(f"--database and --queries are stores already; leave the model {model!r} out")


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
