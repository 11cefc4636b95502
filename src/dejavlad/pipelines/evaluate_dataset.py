"""One evaluation from photos to figures: describe, search, re-rank, score, and the page.

Its steps alone are in `dejavlad.pipelines.evaluation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from dejavlad.errors import InputError
from dejavlad.evaluation import Result
from dejavlad.extraction import DescriptorStore
from dejavlad.model import PlaceModel
from dejavlad.pipelines.confidence import rerank_points
from dejavlad.pipelines.evaluation import (
    Describing,
    describe_dataset,
    rank,
    ranked_with,
    sweep,
    unread_of,
)
from dejavlad.pipelines.keywords import check_keywords
from dejavlad.pipelines.reranking import RerankRun, patch_sources, rerank
from dejavlad.pipelines.scoring import SCORING, RankingFacts, Scoring, score
from dejavlad.places.filters import Filter
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import Source
from dejavlad.places.verification.points import PointSetting
from dejavlad.progress import silent, timed
from dejavlad.ranking import Ranking
from dejavlad.report import matched_pairs, write_page

if TYPE_CHECKING:
    import torch

    from dejavlad.ground_truth import PlaceDataset
    from dejavlad.report.matches import ShownMatch


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation gave; all of it is in its folder too."""

    ranking: Ranking
    """The database photos of each query, re-ranked where that was asked for."""
    result: Result | None
    """The figures; None without truth."""
    page: Path
    """The page, ``index.html``."""
    unread: Mapping[str, Mapping[str, str]] | None = None
    """Photos that could not be described, see `Result.unread`; None where no photos were described."""
    stores: tuple[DescriptorStore, DescriptorStore] | None = None
    """Descriptors of the database and of the queries."""
    matches: Sequence[ShownMatch] = ()
    """Pairs of which the page shows the matching patches."""


@dataclass(slots=True)
class _Ranked:
    """A ranking on its way to its page."""

    ranking: Ranking
    facts: RankingFacts
    """What its result tells of it."""
    preprocess: dict[str, Any] = field(default_factory=dict)
    """How photos were prepared."""
    patches: tuple[Source, Source] | None = None
    """Of queries and of database photos, where these were compared."""


def evaluate(
    model: PlaceModel | tuple[DescriptorStore, DescriptorStore],
    places: PlaceDataset,
    out: str | Path,
    scoring: Scoring = SCORING,
    *,
    reranking: Preset | PointSetting | None = None,
    budget_ms: float | None = None,
    only: Filter | None = None,
    dims: Sequence[int] = (),
    device: torch.device | str = "cpu",
    offline: bool | None = None,
    command: str = "",
    **describing: Unpack[Describing],
) -> Evaluation:
    """Evaluate a model on a dataset; run again with the same folder, it goes on where it stopped.

    Args:
        model: what describes the photos (it learns from the database's first), or descriptors of both parts.
        places: the dataset.
        out: the folder, see `dejavlad.pipelines.evaluation`.
        scoring: how rankings are made and scored.
        reranking: re-rank by patches, or by verified local features.
        budget_ms: milliseconds a query, as a mean, that re-ranking may take.
        only: which database photos may be answers.
        dims: also take recall with so many dimensions.
        device: where local features are made.
        offline: never download weights of local features; None: as the settings say.
        command: how to do it again, for the page.
        describing: how photos are described (`Describing`); ``on_progress`` is told of the other steps too.

    Raises:
        InputError: values that cannot be; a model or re-ranking that does not fit.
        StoreMismatchError: the folder has results of another setting, or the stores are of different models.
        StoreBusyError: another process is evaluating there.
    """
    check_keywords(describing, Describing)
    out = Path(out)
    if budget_ms is not None and reranking is None:
        raise InputError("--budget limits re-ranking; give --rerank or --preset too")
    seconds, network, seed = dict[str, float](), None, None
    if isinstance(model, PlaceModel):
        preset = reranking if isinstance(reranking, Preset) else None
        with timed(seconds, "describe"):
            network, database, queries = describe_dataset(model, places, out, preset=preset, **describing)
        model, seed = (database, queries), describing.get("seed", 0)
    with timed(seconds, "search"):
        ranking = rank(*model, scoring, places.truth, only, places)
    setting = model[0].manifest.setting
    made = _Ranked(ranking, {"model": setting.made_by, "only": only}, setting.preprocess)
    made.facts |= {"seconds": seconds, "unread": unread_of(*model)}
    made.facts["made_with"] = ranked_with(setting, scoring, seed)
    if dims:
        made.facts["dims"] = sweep(*model, places, dims, scoring, only)
    if reranking is not None:
        progress = describing.get("on_progress", silent)
        run: RerankRun = {"setting": setting.made_by, "budget_ms": budget_ms, "on_progress": progress}
        _rerank(made, *model, places, out, reranking, network, run, device=str(device), offline=offline)
        seconds["re-rank"] = made.facts["reranked"].spent
    return _written(made, places, out, scoring, command, model)


def _rerank(
    made: _Ranked,
    database: DescriptorStore,
    queries: DescriptorStore,
    places: PlaceDataset,
    out: Path,
    reranking: Preset | PointSetting,
    network: PlaceModel | None,
    run: RerankRun,
    *,
    device: str,
    offline: bool | None,
) -> None:
    """Re-rank what was made; by local features also tell how far the confidence can be trusted."""
    if isinstance(reranking, PointSetting):
        points = reranking.chosen()
        reranked, trust = rerank_points(
            made.ranking, places, database, points, out, device=device, offline=offline, **run
        )
        made.facts |= {"preset": points, "reliability": trust}
    else:
        preset, *sources = patch_sources(reranking, database, queries, network)
        made.patches = sources[0], sources[1]
        reranked = rerank(made.ranking, *made.patches, preset, out, **run)
        made.facts["preset"] = preset
    made.ranking, made.facts["reranked"] = reranked.ranking, reranked


def evaluate_ranking(
    ranking: Ranking,
    places: PlaceDataset,
    out: str | Path,
    scoring: Scoring = SCORING,
    *,
    command: str = "",
) -> Evaluation:
    """Score a ranking that was made elsewhere, as it is.

    Args:
        ranking: rows of the database for each query.
        places: the dataset.
        out: the folder of the results.
        scoring: how it is scored.
        command: how to do it again, for the page.
    """
    return _written(_Ranked(ranking, {}), places, Path(out), scoring, command)


def _written(
    made: _Ranked,
    places: PlaceDataset,
    out: Path,
    scoring: Scoring,
    command: str,
    stores: tuple[DescriptorStore, DescriptorStore] | None = None,
) -> Evaluation:
    """Score a ranking, and write the figures and the page."""
    if command:
        made.facts["made_with"] = {"command": command, **made.facts.get("made_with", {})}
    result = score(made.ranking, places, out, scoring, **made.facts)
    preset, unread, matches = made.facts.get("preset"), made.facts.get("unread"), []
    if isinstance(preset, Preset) and made.patches is not None:
        matches = matched_pairs(made.ranking, places, result, preset, *made.patches, made.preprocess)
    page = write_page(
        result,
        made.ranking,
        places,
        out / "index.html",
        command=command or None,
        matches=matches,
        rotate=made.preprocess.get("rotate", True),
        unread=unread,
    )
    return Evaluation(made.ranking, result, page, unread, stores, matches)
