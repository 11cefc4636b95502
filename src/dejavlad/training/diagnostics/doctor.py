"""The doctor: names the known ways in which training goes wrong, before hours are lost.

`check` looks at a sample of the photos, before training; `check_start` at what a run begins with. What shows
only while it runs is for `monitor`, and what positions alone tell is in `position_checks`.

Legend: Q queries, N database photos, D numbers of a descriptor, M local features, K clusters.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch

from dejavlad.aggregation import NetVLAD
from dejavlad.errors import InputError
from dejavlad.failures import failures_text
from dejavlad.fitting.initialise import sample_features
from dejavlad.ground_truth import PlaceDataset
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.progress import OnProgress, silent
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.context import RunContext
from dejavlad.training.data.descriptors import describe_pool
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.diagnostics.class_checks import check_classes, look_at_classes
from dejavlad.training.diagnostics.finding import Finding
from dejavlad.training.diagnostics.monitor import COLLAPSED, collapsed, evenly_spread, never_violated, spread
from dejavlad.training.diagnostics.position_checks import check_positions
from dejavlad.training.losses.ranking_loss import make_loss
from dejavlad.training.run.initial_model import prepare
from dejavlad.training.sampling.classes import Grouping, with_focal_views
from dejavlad.training.sampling.mining import Descriptors, Floats, nearest
from dejavlad.training.sampling.places import PlaceSampler
from dejavlad.training.sampling.tuples import Candidates, Rows
from dejavlad.training.steps.network import Network

QUERIES, POSITIVES, OTHERS = 64, 5, 256
"""A sample for `check`: queries, potential positives of each, and other photos of the database."""
ENOUGH = 20
"""Queries from which on a share of them says something."""
FEATURES, FEATURE_PHOTOS = 2000, 8
"""Local features that clusters are looked at with, and the photos that they come from."""
BULK, EASY, AWAY = 0.5, 0.05, 0.5
"""Shares of queries: without a positive; with anything that violates; whose positives look away."""
LOOKS_AWAY = 90.0
"""Degrees between the headings of two photos, above which they show different things."""
FEW = 5
"""Times the negatives that a tuple uses; with fewer, mining has no choice."""
USED, EVEN = 0.2, 0.95
"""Clusters in use, as a share of all of them, below which they do not fit the features; evenness of one
feature's assignment above which it says nothing."""


def check(
    config: TrainConfig, model: PlaceModel, train: PlaceDataset, *, on_progress: OnProgress = silent
) -> list[Finding]:
    """Examine a training that has not begun, with a sample of its photos: seconds to a minute.

    Args:
        config: the options.
        model: what it would begin with.
        train: what it would learn from.
        on_progress: called with each step of what takes long.

    Raises:
        InputError: training cannot begin like this; the message says what was found.
    """
    train = with_focal_views(train, config)
    findings = check_positions(train, config)
    candidates = candidates_of(train, config, findings)
    if config.mining == "places":
        PlaceSampler(train, config)  # says whether there are enough
    findings += check_classes(train, config)
    findings += check_candidates(candidates, train, config)
    sample = _sample(train, candidates, config)
    prepared = prepare(model, config, sample, on_progress=on_progress)
    findings += check_clusters(prepared, sample.database, config)
    network = Network(prepared, config)
    pool = PhotoPool(
        sample,
        prepared.preprocess,
        workers=config.workers,
        on_progress=on_progress,
        queries=config.mining != "classes",
    )
    rows_MD = np.zeros((len(pool), prepared.descriptor_size), np.float32)
    for numbers, rows_nD in describe_pool(network, pool, None, RunContext(config, on_progress=on_progress)):
        rows_MD[numbers] = rows_nD
    descriptors = Descriptors(rows_MD[: pool.n_queries], rows_MD[pool.n_queries :])
    sample_candidates = Candidates.of(sample, config, required=False)
    failed_rows = [number - pool.n_queries for number in pool.failed if number >= pool.n_queries]
    sample_candidates.leave_out(failed_rows)
    return findings + check_photos(pool) + check_descriptors(descriptors, sample_candidates, config)


def check_start(
    model: PlaceModel,
    dataset: PlaceDataset,
    candidates: Candidates,
    descriptors: Descriptors | None,
    config: TrainConfig,
    grouping: Grouping | None,
) -> list[Finding]:
    """What a run begins with, and, where all photos are described already, what they tell.

    `grouping`: where classes are learnt, these, as they were made of all photos.
    """
    return [
        *check_positions(dataset, config),
        *check_candidates(candidates, dataset, config),
        *look_at_classes([*dataset.queries, *dataset.database], grouping, config),
        *check_clusters(model, dataset.database, config),
        *([] if descriptors is None else check_descriptors(descriptors, candidates, config)),
    ]


def candidates_of(
    dataset: PlaceDataset, config: TrainConfig, findings: list[Finding] | None = None
) -> Candidates:
    """`Candidates.of`; where there are none, the error tells also what is wrong with the positions.

    Raises:
        InputError: see `Candidates.of`; batches of places and classes need no positives, nor negatives.
    """
    try:
        return Candidates.of(dataset, config, required=config.mines)
    except InputError as error:
        causes = check_positions(dataset, config) if findings is None else findings
        raise InputError(" ".join([f"{error}.", *map(str, causes)]) if causes else str(error)) from None


def check_candidates(candidates: Candidates, dataset: PlaceDataset, config: TrainConfig) -> list[Finding]:
    """Whether queries have positives that look their way, and negatives enough, where tuples need them."""
    if not config.mines:
        return []
    findings = []
    n, with_positive = len(dataset.queries), np.flatnonzero(candidates.answerable)
    without = 1 - len(with_positive) / max(n, 1)
    if without > BULK:
        findings.append(
            Finding(
                "queries without positives",
                f"{n - len(with_positive)} of {n} queries have no photo of the map more than "
                f"{config.trivial_radius:g} m and at most {config.positive_radius:g} m away",
                "they teach nothing, and an epoch passes over them",
                "Are positions in metres, and of the same streets? Else set a larger positive_radius, or "
                "trivial_radius=-1 where photos of one place share a position",
            )
        )
    sampled = evenly_spread(with_positive, 200)
    negatives = np.array([candidates.n_negatives(int(query)) for query in sampled])
    if len(sampled) and np.median(negatives) < FEW * config.negatives_used:
        findings.append(
            Finding(
                "too few negatives",
                f"a query has {np.median(negatives):.0f} photos farther away than "
                f"{config.negative_radius:g} m, and {config.negatives_used} of them go into a tuple",
                "mining has hardly a choice, and the network learns those few photos by heart",
                "Learn from a larger area, or set a smaller negatives_used or negative_radius",
            )
        )
    return [*findings, *_headings(candidates, dataset, sampled)]


def _headings(candidates: Candidates, dataset: PlaceDataset, queries: Rows) -> list[Finding]:
    away = []
    for query in queries.tolist():
        heading = dataset.queries[query].heading
        others = [dataset.database[row].heading for row in candidates.positives(query).tolist()]
        known = [other for other in others if other is not None]
        if heading is not None and known and len(known) == len(others):
            away.append(min(abs((other - heading + 180) % 360 - 180) for other in known) > LOOKS_AWAY)
    if len(away) < ENOUGH or np.mean(away) <= AWAY:
        return []
    return [
        Finding(
            "positives that cannot be seen",
            f"of {len(away)} queries, {np.mean(away):.0%} look more than {LOOKS_AWAY:.0f} degrees away from "
            "every photo near them",
            "a positive that shows something else teaches the network that anything may be alike",
            "Are headings in degrees, clockwise from north, in both lists? Else leave such queries out",
        )
    ]


def check_photos(pool: PhotoPool) -> list[Finding]:
    """Photos of the sample that cannot be read, or show nothing."""
    if not pool.failed:
        return []
    failed = {pool.photos[number].key: why for number, why in sorted(pool.failed.items())}
    key, reason = next(iter(failed.items()))
    return [
        Finding(
            "photos left out",
            f"{failures_text(failed)}, of {len(pool)} that were looked at (e.g. {key!r}: {reason})",
            "they are neither query nor positive nor negative",
            "Fetch those that are damaged again; those that show nothing do no harm",
        )
    ]


def check_clusters(model: PlaceModel, photos: PhotoList, config: TrainConfig) -> list[Finding]:
    """Whether NetVLAD's clusters fit the local features that they are to sort."""
    if not isinstance(model.aggregation, NetVLAD):
        return []
    if next(model.parameters()).dtype != torch.float32:
        model = copy.deepcopy(model).float()
    layer = model.aggregation
    assert isinstance(layer, NetVLAD)
    drawn = photos.take(evenly_spread(np.arange(len(photos)), 4 * FEATURE_PHOTOS).tolist())
    try:
        samples = sample_features(
            model, drawn, features=FEATURES, per_photo=FEATURES // FEATURE_PHOTOS, seed=config.seed
        )
    except InputError:
        return []  # blank or unreadable, which training says
    with torch.inference_mode():
        local_1DM = torch.as_tensor(samples.features).T[None].to(model.device)
        weights_KM = layer.assign(local_1DM)[0].double().cpu().numpy()
    return _cluster_findings(weights_KM)


def _cluster_findings(weights_KM: np.ndarray) -> list[Finding]:
    k = len(weights_KM)
    even = float(np.mean([_entropy(weights_K) for weights_K in weights_KM.T])) / math.log(k) if k > 1 else 0.0
    sizes_K = np.bincount(weights_KM.argmax(axis=0), minlength=k) / weights_KM.shape[1]
    used = math.exp(_entropy(sizes_K))
    if even <= EVEN and used >= USED * k:
        return []
    seen = (
        f"each local feature belongs to all {k} clusters about alike ({even:.0%} of an even assignment)"
        if even > EVEN
        else f"local features fall into {used:.1f} of {k} clusters, {sizes_K.max():.0%} of them into one"
    )
    return [
        Finding(
            "clusters not initialised",
            seen,
            "NetVLAD then is little more than an average, and training does not get away from there",
            "Learn them from photos (dejavlad.fitting.initialise; a model by its name does so by itself), "
            "and do not change the backbone's weights afterwards",
        )
    ]


def check_descriptors(descriptors: Descriptors, candidates: Candidates, config: TrainConfig) -> list[Finding]:
    """Whether photos differ at all, positives are nearer than others, and anything violates the margin."""
    database_ND = descriptors.database_ND
    apart = spread(evenly_spread(database_ND, 200))
    if apart < COLLAPSED:
        return [collapsed(apart)]
    if not config.mines:
        return []
    loss, random = make_loss(config), np.random.default_rng([config.seed, 3])
    nearer, violated = [], []
    for query in evenly_spread(np.flatnonzero(candidates.answerable), QUERIES).tolist():
        query_D: Floats = descriptors.queries_QD[query]
        positives = candidates.positives(query)
        if not query_D.any() or not len(positives):
            continue
        negatives = np.sort(candidates.draw_negatives(query, 1000, random))
        if not len(negatives):
            continue
        best = nearest(query_D, database_ND, positives, 1)[1]
        drawn = np.sort(random.permutation(negatives)[: len(positives)])
        others = nearest(query_D, database_ND, drawn, 1)[1]
        if not len(best) or not len(others):  # blank or unreadable
            continue
        nearer.append(bool(best[0] < others[0]))
        violated.append(
            bool(loss.violates(float(best[0]), nearest(query_D, database_ND, negatives, 1)[1]).any())
        )
    n = len(nearer)
    if n < ENOUGH:
        return []
    findings = []
    if sum(nearer) < n / 2 + math.sqrt(n) / 2:
        findings.append(
            Finding(
                "positives that cannot be seen",
                f"the best photo nearby is more like the query than the best of as many far away for only "
                f"{sum(nearer)} of {n} queries; chance is one half",
                "what the network is to bring together then shows nothing in common, by what it sees now",
                "Do positions belong to these photos (order of lists, units, clocks)? A network with random "
                "weights sees nothing yet: it can learn to, but --init one that sees spares that",
            )
        )
    if np.mean(violated) < EASY:
        seen = f"{sum(violated)} of {n} queries have a negative that violates it"
        findings.append(never_violated(seen, config.margin))
    return findings


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _sample(dataset: PlaceDataset, candidates: Candidates, config: TrainConfig) -> PlaceDataset:
    """Some queries, with photos near them where they must have some, and others."""
    eligible = candidates.answerable.nonzero()[0] if config.mines else np.arange(len(dataset.queries))
    queries = evenly_spread(eligible, QUERIES)
    wanted = [candidates.positives(int(query))[:POSITIVES] for query in queries]
    random = np.random.default_rng([config.seed, 4])
    n = len(dataset.database)
    rows = np.unique(np.concatenate([*wanted, random.choice(n, min(n, OTHERS), replace=False)]))
    return PlaceDataset(
        dataset.name, dataset.database.take(rows.tolist()), dataset.queries.take(queries.tolist())
    )
