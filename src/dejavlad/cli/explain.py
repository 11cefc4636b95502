"""`dejavlad explain`: why is my number another?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from dejavlad.cli.options import numbers
from dejavlad.cli.sources import PlaceOptions, Stores, open_store
from dejavlad.cli.terminal import Output, table
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dejavlad.evaluation.explain import Explanation, ScoredHypothesis
    from dejavlad.evaluation.hypotheses import Hypothesis
    from dejavlad.ground_truth import PlaceDataset


@Parameter(name="*")
@dataclass(frozen=True)
class ScoredOptions:
    """What is scored."""

    at: int = 1
    "The N of the recall that was expected."
    recall_at: str = "1,5,10"
    "N of recall@N that are told, with commas between."
    database_store: Path | None = None
    """Descriptors of the database, to try them with and without unit length; also read where --database is a
    store."""
    queries_store: Path | None = None
    "Descriptors of the queries, likewise."

    def stores(self, places: PlaceDataset) -> Stores | None:
        """The descriptors of both lists, if they are given.

        Raises:
            InputError: one alone is given, or they are of other lists.
        """
        if self.database_store is None and self.queries_store is None:
            return None
        if self.database_store is None or self.queries_store is None:
            raise InputError("give both --database-store and --queries-store, or neither")
        stores = open_store(self.database_store), open_store(self.queries_store)
        lists = places.database, places.queries
        for what, store, photos in zip(("database", "queries"), stores, lists, strict=True):
            if len(store) != len(photos):
                raise InputError(
                    f"--{what}-store holds {len(store)} descriptors, the list {len(photos)} photos"
                )
        return stores


def explain(
    ranking: Path,
    /,
    *,
    expect: str | None = None,
    scored: ScoredOptions = ScoredOptions(),
    sources: PlaceOptions = PlaceOptions(),
    output: Output = Output(),
) -> None:
    """Why is my number another? Score a ranking under every known protocol, and with common mistakes undone.

    Examples:

        dejavlad explain mine.npz --dataset pitts30k-test --expect 0.85
        dejavlad explain results/ranking.npz --database left/ --queries right/ --truth frames:2
        dejavlad explain mine.npy --database db.desc --queries q.desc --truth positions:25 --expect 85.0%

    Parameters
    ----------
    ranking
        What is to be explained: `.npz`, or `.npy` of rows.
    expect
        The recall that was expected, as exact as it is known: `0.85`, `85.0%`.
    """
    from dejavlad.evaluation.explain import explain as explained
    from dejavlad.evaluation.predictions import open_ranking

    places, stores = sources.open(None, output, seen=False)
    output.notes(places.database, places.queries)
    stores = scored.stores(places) or stores
    given = open_ranking(ranking, places.database, places.queries)
    recall_at = numbers("--recall-at", scored.recall_at)
    others: Iterable[Hypothesis] = ()
    shortfall = "descriptors with and without unit length: give --database-store and --queries-store"
    if stores is not None:  # without them nothing is searched, and PyTorch is not loaded
        from dejavlad.pipelines.explain import of_descriptors

        others, shortfall = of_descriptors(given, *stores, k=max(given.depth, 1)), ""
    explanation = explained(
        given,
        places,
        recall_at=recall_at,
        at=scored.at,
        expect=expect,
        others=others,
        shortfall=shortfall,
    )
    output.answer(explanation.to_dict(), _text(explanation))


def _text(explanation: Explanation) -> str:
    parts = []
    if explanation.unfit:
        parts.append(f"As it is, it does not fit: {explanation.unfit}.")
    if explanation.expected is not None:
        expected = f"recall@{explanation.n} of {explanation.expected.value:.4g}"
        if explanation.met:
            parts.append("\n".join([f"{expected} would come of:", *map(_line, explanation.met[:5])]))
        else:
            lines = [f"{expected} comes of none of these, nor of a known mistake and one of them together."]
            if (near := explanation.nearest) is not None:
                lines.append(f"Nearest to it is {near.recall[explanation.n]:.4f}: {near.text}.")
            parts.append("\n".join(lines))
    likely = [hypothesis for hypothesis in explanation.likely if hypothesis not in explanation.met]
    if likely:
        parts.append("\n".join(["Far more is right with one mistake undone:", *map(_line, likely[:3])]))
    ns = list(explanation.findings[0].recall)
    rows = [
        ("*" if hypothesis in explanation.met else "", *_row(hypothesis, ns))
        for hypothesis in explanation.findings
        if hypothesis.kind != "both"
    ]
    header = ("", "recall", *(f"@{n}" for n in ns), "how")
    parts.append(table(header, rows, right=range(2, 2 + len(ns))))
    if any(not hypothesis.whole for hypothesis in explanation.findings):
        parts.append("+: at least so much; the ranking is not deep enough to say.")
    if explanation.shortfall:
        parts.append(f"Not tried: {explanation.shortfall}.")
    return "\n\n".join(parts)


def _line(hypothesis: ScoredHypothesis) -> str:
    return f"  {hypothesis.text}" + (f"\n      {hypothesis.advice}" if hypothesis.advice else "")


def _row(hypothesis: ScoredHypothesis, ns: list[int]) -> tuple[str, ...]:
    more = "" if hypothesis.whole else "+"
    kind = {"as given": "", "mistake": "mistake undone"}.get(hypothesis.kind, hypothesis.kind)
    return (kind, *(f"{hypothesis.recall[n]:.4f}{more}" for n in ns), hypothesis.text)
