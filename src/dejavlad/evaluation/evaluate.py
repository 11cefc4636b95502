"""From a ranking and the truth to a result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.evaluation import breakdown, recall
from dejavlad.evaluation.result import Result
from dejavlad.ground_truth.truth import Truth, groups_of
from dejavlad.names import same_form
from dejavlad.photo import PhotoList
from dejavlad.photo.search import remarks
from dejavlad.ranking import Ranking

Misses = Literal["count", "drop"]

NEAR = 10
"""Answers looked at, at most, for how near they are."""


def evaluate(
    ranking: Ranking,
    truth: Truth,
    *,
    recall_at: Sequence[int] = (1, 5, 10),
    misses: Misses = "count",
    database: PhotoList | None = None,
    queries: PhotoList | None = None,
    model: Mapping[str, Any] | None = None,
    rerank: str | None = None,
    seconds: Mapping[str, float] | None = None,
    metrics: Mapping[str, float] | None = None,
    protocol: str | None = None,
    unread: Mapping[str, Mapping[str, str]] | None = None,
) -> Result:
    """recall@N of a ranking, with all that it depends on.

    Args:
        ranking: the database's rows for each query, best first; deep enough for the largest N (besides
            ignored rows, and all but the best of each group), or as deep as the database.
        truth: the right answers.
        recall_at: the Ns.
        misses: ``count``: a query without any right answer is a miss; ``drop``: it is left out.
        database: the list that rows are of; its hash becomes part of the protocol.
        queries: the list of the queries; its hash too. Their tags divide the recall into parts, and their
            groups (places, panoramas, drives) are the blocks of its intervals.
        model: name and fingerprint of what made the ranking.
        rerank: how it was re-ranked.
        seconds: what took how long.
        metrics: further figures by name.
        protocol: the name of the protocol that the truth and `misses` are of.
        unread: the photos that could not be described, of ``database`` and ``queries`` (see `Result.unread`).

    Raises:
        InputError: the ranking does not fit the truth or the lists, is less deep than the largest N needs, or
            no query counts.
    """
    _refuse_unfit(truth, misses, database, queries)
    ns = sorted({int(n) for n in recall_at})
    valid, hits, counts = _hits(ranking, truth, ns, misses)
    return Result(
        recall=recall.recall_at(hits[counts], ns),
        n_database=truth.n_database,
        n_queries=truth.n_queries,
        n_without_truth=truth.n_without_truth,
        protocol={"name": protocol, **_protocol(truth, misses, ns, database, queries)},
        model=dict(model) if model is not None else None,
        rerank=rerank,
        seconds=dict(seconds or {}),
        hits_at=hits,
        metrics=dict(metrics or {}),
        unread=unread,
        **_photo_figures(ranking, valid, hits, counts, ns, database, queries),
    )


def _refuse_unfit(
    truth: Truth, misses: Misses, database: PhotoList | None, queries: PhotoList | None
) -> None:
    if misses not in get_args(Misses):
        raise InputError(f"misses {misses!r}: valid are count and drop")
    for what, photos, count in (
        ("database photos", database, truth.n_database),
        ("queries", queries, truth.n_queries),
    ):
        if photos is not None and len(photos) != count:
            raise InputError(f"the truth is of {count} {what}, the list holds {len(photos)}")


def _hits(
    ranking: Ranking, truth: Truth, ns: Sequence[int], misses: Misses
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
    """[Q, K] answers that count; [Q] ranks of the first right one, 0 for none; [Q] queries that count."""
    valid = recall.valid_mask(ranking, truth)
    hits = recall.first_hit_ranks(truth.positives.contains(ranking.indices), valid)
    if ns:
        _check_depth(ranking, truth, valid, hits, ns[-1])
    counts = np.ones(len(hits), np.bool_) if misses == "count" else truth.answerable
    if len(hits) and not counts.any():
        raise InputError("no query has a right answer, and misses=drop leaves those out: nothing to count")
    return valid, hits, counts


def _protocol(
    truth: Truth,
    misses: Misses,
    ns: Sequence[int],
    database: PhotoList | None,
    queries: PhotoList | None,
) -> dict[str, Any]:
    """All that recalls depend on beside the ranking."""
    return {
        "truth": truth.description,
        "misses": misses,
        "recall_at": ns,
        "ignored": int(truth.ignored.counts.sum()) if truth.ignored is not None else 0,
        "truth_hash": truth.hash,
        "database_hash": list_hash(database) if database is not None else None,
        "queries_hash": list_hash(queries) if queries is not None else None,
    }


def _photo_figures(
    ranking: Ranking,
    valid: NDArray[np.bool_],
    hits: NDArray[np.int64],
    counts: NDArray[np.bool_],
    ns: Sequence[int],
    database: PhotoList | None,
    queries: PhotoList | None,
) -> dict[str, Any]:
    """What the lists tell beyond recalls: notes, blocks, parts and distances, as `Result` has them."""
    lists = {"database": database, "queries": queries}
    figures: dict[str, Any] = {
        "notes": {
            what: lines for what, photos in lists.items() if photos is not None and (lines := remarks(photos))
        },
        "blocks": _blocks(queries, counts),
    }
    if queries is not None:
        figures["parts"] = breakdown.parts(hits, counts, queries, ns)
    if database is not None and queries is not None:
        near = [n for n in ns if n <= NEAR] or ns[:1]
        figures["by_distance"] = breakdown.by_distance(ranking, valid, database, queries, near)
    return figures


def _blocks(queries: PhotoList | None, counts: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """int64 [Q], the number of each query's group, -1 where it does not count; None where all stand alone."""
    groups = np.full(len(counts), -1, np.int64) if queries is None else groups_of(queries)
    if counts.all() and len(np.unique(groups[groups >= 0])) == int((groups >= 0).sum()):
        return None
    alone = groups < 0
    groups[alone] = groups.max(initial=-1) + 1 + np.arange(int(alone.sum()))
    return np.where(counts, groups, -1)


def _check_depth(
    ranking: Ranking, truth: Truth, kept: NDArray[np.bool_], hits: NDArray[np.int64], n: int
) -> None:
    """Refuse a ranking that does not hold the first n answers of a query whose right one it has not shown."""
    depth = min(n, truth.n_database)
    if ranking.depth < depth:
        raise InputError(
            f"recall@{n} needs a ranking {depth} deep; this one is {ranking.depth} deep: "
            f"ask for N up to {ranking.depth}, or rank deeper"
        )
    if ranking.depth >= truth.n_database:
        return
    answers = kept.sum(axis=1)
    short = (hits == 0) & (answers < n)
    if short.any():
        left = (
            "cut-outs of one group count once" if truth.groups is not None else "ignored photos do not count"
        )
        needed = recall.depth_needed(truth, n)
        raise InputError(
            f"recall@{n} needs {n} answers a query, and {left}: of {int(short.sum())} queries the first "
            f"{ranking.depth} hold only {int(answers[short].min())} or more: ask for N up to "
            f"{int(answers[short].min())} (--recall-at), or rank {needed} deep (-k {needed})"
        )


def list_hash(photos: PhotoList) -> str:
    """Of the keys in their order, one for both Unicode forms, wherever the files lie; 64 hex digits."""
    digest = hashlib.sha256()
    for key in photos.keys:
        key_bytes = same_form(key).encode("utf-8", "surrogatepass")
        digest.update(f"{len(key_bytes)}:".encode() + key_bytes)
    return digest.hexdigest()
