"""One evaluation from photos to figures: describe, search, re-rank, score, and the page.

Its steps alone are in `dejavlad.pipelines.evaluation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dejavlad.errors import InputError
from dejavlad.evaluation import Result
from dejavlad.extraction import DescriptorStore
from dejavlad.model import PlaceModel
from dejavlad.pipelines.confidence import rerank_points
from dejavlad.pipelines.evaluation import describe_dataset, rank, sweep, unread_of
from dejavlad.pipelines.reranking import patch_sources, rerank
from dejavlad.pipelines.scoring import SCORING, Scoring, score
from dejavlad.places.filters import Filter
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import Reranked, Source
from dejavlad.places.verification.points import PointSetting
from dejavlad.progress import OnProgress, silent, timed
from dejavlad.ranking import Ranking
from dejavlad.report import matched_pairs, write_page

if TYPE_CHECKING:
    import torch

    from dejavlad.evaluation.reliability import Reliability
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
class _Described:
    """A ranking on its way, and what the page and the figures tell of it."""

    ranking: Ranking
    model: dict[str, Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    swept: dict[int, Mapping[int, float]] = field(default_factory=dict)
    reranked: Reranked | None = None
    preset: Preset | PointSetting | None = None
    patches: tuple[Source, Source] | None = None
    preprocess: dict[str, Any] = field(default_factory=dict)
    unread: dict[str, dict[str, str]] | None = None
    reliability: Reliability | None = None
    only: Filter | None = None


def evaluate(
    model: PlaceModel | tuple[DescriptorStore, DescriptorStore],
    places: PlaceDataset,
    out: Path,
    scoring: Scoring = SCORING,
    *,
    reranking: Preset | PointSetting | None = None,
    budget_ms: float | None = None,
    only: Filter | None = None,
    dims: Sequence[int] = (),
    batch_size: int = 8,
    workers: int = 0,
    seed: int = 0,
    ray: str | None = None,
    device: torch.device | str = "cpu",
    offline: bool | None = None,
    command: str = "",
    on_progress: OnProgress = silent,
) -> Evaluation:
    """Evaluate a model on a dataset; run again with the same folder, it goes on where it stopped.

    Args:
        model: what describes the photos (it learns from the database photos what it has not learnt), or
            descriptors of the database and of the queries.
        places: the dataset.
        out: the folder, see `dejavlad.pipelines.evaluation`.
        scoring: how rankings are made and scored.
        reranking: re-rank by patches, or by verified local features.
        budget_ms: milliseconds a query, as a mean, that re-ranking may take.
        only: which database photos may be answers.
        dims: also take recall with so many dimensions.
        batch_size: photos described at once.
        workers: threads that decode photos.
        seed: of what is learnt.
        ray: describe on the machines of a Ray cluster, see `dejavlad.extract`.
        device: where local features are made.
        offline: never download weights of local features; None: as the settings say.
        command: how to do it again, for the page.
        on_progress: called with each step.

    Raises:
        InputError: values that cannot be; a model or re-ranking that does not fit.
        StoreMismatchError: the folder has results of another setting, or the stores are of different models.
        StoreBusyError: another process is evaluating there.
    """
    if budget_ms is not None and reranking is None:
        raise InputError("--budget limits re-ranking; give --rerank or --preset too")
    seconds: dict[str, float] = {}
    network = None
    if isinstance(model, PlaceModel):
        how: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "seed": seed, "ray": ray}
        how |= {"preset": reranking if isinstance(reranking, Preset) else None, "on_progress": on_progress}
        with timed(seconds, "describe"):
            network, database, queries = describe_dataset(model, places, out, **how)
        model = database, queries
    made = _ranked(*model, places, scoring, seconds, only, dims)
    if reranking is not None:
        how = {"setting": made.model, "budget_ms": budget_ms, "on_progress": on_progress}
        _rerank(made, *model, places, out, reranking, network, how, device=str(device), offline=offline)
    return _written(made, places, out, scoring, command, model)


def _ranked(
    database: DescriptorStore,
    queries: DescriptorStore,
    places: PlaceDataset,
    scoring: Scoring,
    seconds: dict[str, float],
    only: Filter | None,
    dims: Sequence[int],
) -> _Described:
    """The first ranking, and recall with fewer dimensions."""
    setting = database.manifest.setting
    with timed(seconds, "search"):
        ranking = rank(database, queries, scoring, places.truth, only, places)
    return _Described(
        ranking,
        setting.made_by,
        seconds,
        sweep(database, queries, places, dims, scoring, only) if dims else {},
        preprocess=setting.preprocess,
        unread=unread_of(database, queries),
        only=only,
    )


def _rerank(
    made: _Described,
    database: DescriptorStore,
    queries: DescriptorStore,
    places: PlaceDataset,
    out: Path,
    reranking: Preset | PointSetting,
    network: PlaceModel | None,
    how: Mapping[str, Any],
    *,
    device: str,
    offline: bool | None,
) -> None:
    """Re-rank what was made; by local features also tell how far the confidence can be trusted."""
    if isinstance(reranking, PointSetting):
        points = reranking.chosen()
        made.reranked, made.reliability = rerank_points(
            made.ranking, places, database, points, out, device=device, offline=offline, **how
        )
        made.preset = points
    else:
        made.preset, *sources = patch_sources(reranking, database, queries, network)
        made.patches = sources[0], sources[1]
        made.reranked = rerank(made.ranking, *made.patches, made.preset, out, **how)
    made.ranking = made.reranked.ranking
    made.seconds["re-rank"] = made.reranked.spent


def evaluate_ranking(
    ranking: Ranking, places: PlaceDataset, out: Path, scoring: Scoring = SCORING, *, command: str = ""
) -> Evaluation:
    """Score a ranking that was made elsewhere, as it is.

    Args:
        ranking: rows of the database for each query.
        places: the dataset.
        out: the folder of the results.
        scoring: how it is scored.
        command: how to do it again, for the page.
    """
    return _written(_Described(ranking), places, out, scoring, command)


def _written(
    made: _Described,
    places: PlaceDataset,
    out: Path,
    scoring: Scoring,
    command: str,
    stores: tuple[DescriptorStore, DescriptorStore] | None = None,
) -> Evaluation:
    """Score a ranking, and write the figures and the page."""
    result = score(
        made.ranking,
        places,
        out,
        scoring,
        model=made.model,
        seconds=made.seconds,
        dims=made.swept or None,
        reranked=made.reranked,
        preset=made.preset,
        unread=made.unread,
        reliability=made.reliability,
        only=made.only,
    )
    matches = []
    if isinstance(made.preset, Preset) and made.patches is not None:
        matches = matched_pairs(made.ranking, places, result, made.preset, *made.patches, made.preprocess)
    page = write_page(
        result,
        made.ranking,
        places,
        out / "index.html",
        command=command or None,
        matches=matches,
        rotate=made.preprocess.get("rotate", True),
        unread=made.unread,
    )
    return Evaluation(made.ranking, result, page, made.unread, stores, matches)
