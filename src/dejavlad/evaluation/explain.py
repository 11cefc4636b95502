"""Why is my number another? One ranking under every known protocol, and with every known mistake undone.

Legend: Q queries, N of recall@N.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from dejavlad.errors import InputError
from dejavlad.evaluation.evaluate import Misses
from dejavlad.evaluation.hypotheses import (
    AS_GIVEN,
    AS_IT_IS,
    Hypothesis,
    Measure,
    hypotheses,
    measures,
    turned,
)
from dejavlad.evaluation.recall import first_hit_ranks, recall_at, valid_mask
from dejavlad.ground_truth import PlaceDataset
from dejavlad.ranking import Ranking

Kind = Literal["as given", "protocol", "other measure", "mistake", "both"]


@dataclass(frozen=True, slots=True)
class ScoredHypothesis:
    """A recall that the ranking gives under one measure, as it is or with one mistake undone."""

    kind: Kind
    """As given; under another protocol or measure; with a mistake undone; with both."""
    mistake: str
    """The mistake that is undone; empty for none."""
    measure: tuple[str, ...]
    """What counts as right, by all its names."""
    misses: Misses
    """Whether queries without a right answer count."""
    recall: dict[int, float]
    """N -> recall@N, 0 to 1."""
    whole: bool
    """Whether the ranking is deep enough; if not, the recalls are at least so much."""
    advice: str = ""
    """What to do about the mistake."""

    @property
    def text(self) -> str:
        """What it is, in words."""
        measure = " = ".join(self.measure)
        dropped = ", queries without a right answer dropped" if self.misses == "drop" else ""
        if self.kind == "as given":
            return AS_GIVEN + "".join(f" = {name}" for name in self.measure if name != AS_GIVEN)
        if self.kind == "mistake":
            return self.mistake
        return f"{self.mistake}; {measure}{dropped}" if self.mistake else f"{measure}{dropped}"

    def to_dict(self) -> dict[str, Any]:
        """The hypothesis with its recalls, for JSON; what is empty becomes null."""
        return {
            "kind": self.kind,
            "mistake": self.mistake or None,
            "measure": list(self.measure),
            "misses": self.misses,
            "recall": {str(n): value for n, value in self.recall.items()},
            "deep_enough": self.whole,
            "advice": self.advice or None,
        }


@dataclass(frozen=True, slots=True)
class Expected:
    """A number that was expected, as exact as it was written."""

    value: float
    """The recall, 0 to 1."""
    within: float
    """Half a unit of its last digit."""

    @classmethod
    def parse(cls, text: str) -> Expected:
        """``0.85``, ``85`` or ``85.0%``.

        Raises:
            InputError: it is no share.
        """
        digits = text.strip().removesuffix("%").strip()
        try:
            value = float(digits)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 100:
            raise InputError(f"a recall is a share as 0.85 or 85.0%; given {text!r}")
        _, _, decimals = digits.partition(".")
        half = 0.5 * 10.0 ** -len(decimals)
        if text.strip().endswith("%") or value > 1:
            value, half = value / 100, half / 100
        return cls(value, half)

    def met(self, value: float) -> bool:
        """Whether a number would be written so."""
        return abs(value - self.value) <= self.within + 1e-9


@dataclass(frozen=True, slots=True)
class Explanation:
    """All numbers that a ranking gives, and which of them were expected."""

    findings: tuple[ScoredHypothesis, ...]
    """As given first, then protocols and other measures, then mistakes."""
    n: int
    """The N of recall@N that was expected, and that findings are compared by."""
    expected: Expected | None = None
    """The recall that was expected; None where none was given."""
    unfit: str = ""
    """Why the ranking cannot be scored as it is."""
    shortfall: str = ""
    """What could not be tried."""

    @property
    def met(self) -> list[ScoredHypothesis]:
        """The findings that give the expected number, the simplest first."""
        if self.expected is None:
            return []
        simple = {"as given": 0, "protocol": 1, "other measure": 2, "mistake": 3, "both": 4}
        fits = [finding for finding in self.findings if self.expected.met(finding.recall[self.n])]
        return sorted(fits, key=lambda finding: simple[finding.kind])

    @property
    def nearest(self) -> ScoredHypothesis | None:
        """What comes nearest to the number expected, the simplest of equals; None where none is expected."""
        if self.expected is None or not self.findings:
            return None
        value = self.expected.value
        return min(self.findings, key=lambda finding: abs(finding.recall[self.n] - value))

    @property
    def likely(self) -> list[ScoredHypothesis]:
        """Mistakes that, undone, leave far more right answers than there are as given."""
        given = next((finding.recall[self.n] for finding in self.findings if finding.kind == "as given"), 0.0)
        better = [
            finding
            for finding in self.findings
            if finding.kind == "mistake" and finding.recall[self.n] > max(2 * given, given + 0.1)
        ]
        return sorted(better, key=lambda finding: -finding.recall[self.n])

    def to_dict(self) -> dict[str, Any]:
        """Everything with its findings, for JSON."""
        return {
            "expected": None if self.expected is None else self.expected.value,
            "at": self.n,
            "does_not_fit": self.unfit or None,
            "not_tried": self.shortfall or None,
            "explained_by": [finding.to_dict() for finding in self.met],
            "nearest": None if self.nearest is None else self.nearest.to_dict(),
            "likely_mistakes": [finding.to_dict() for finding in self.likely],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def explain(
    ranking: Ranking,
    places: PlaceDataset,
    *,
    recall_at: Sequence[int] = (1, 5, 10),
    at: int = 1,
    expect: str | None = None,
    others: Iterable[Hypothesis] = (),
    shortfall: str = "",
) -> Explanation:
    """Score a ranking under all known protocols that fit, other measures, and common mistakes.

    Where a number is expected and no protocol, measure or mistake alone gives it, each mistake is tried with
    each measure.

    Args:
        ranking: rows of the database for each query, or what was taken for that.
        places: the lists and the truth.
        recall_at: the Ns that are listed, each 1 or more.
        at: the N of the number expected.
        expect: the number expected, as written: ``0.85``, ``85.0%``.
        others: further hypotheses, as rankings made of the descriptors in other ways.
        shortfall: what could not be tried, in words for the user.

    Raises:
        InputError: there is nothing that counts as right, or neither way of reading the ranking fits.
    """
    expected = None if expect is None else Expected.parse(expect)
    ns = sorted({*recall_at, at})
    if ns[0] < 1:
        raise InputError(f"recall is taken at N of 1 or more; given {ns}")
    if places.truth is None:
        raise InputError("what is right is not known: give --truth, or lists with positions")
    ways = measures(places)
    meant = [*hypotheses(ranking, places), *others]
    own = next(way for way in ways if AS_GIVEN in way.ways)
    findings: list[ScoredHypothesis] = []
    for way in ways:
        findings += _score(meant[0], way, ns)
    mistakes = [finding for reading in meant[1:] for finding in _score(reading, own, ns)[:1]]
    findings += _new_mistakes(mistakes, findings)
    fits = any(finding.kind == "as given" for finding in findings)
    unfit = "" if fits else ranking.misfit(len(places.queries), len(places.database))
    if not findings:
        raise InputError(f"{unfit}; nor does it fit with any known mistake undone")
    explanation = Explanation(tuple(findings), at, expected, unfit, shortfall)
    if expected is None or explanation.met:
        return explanation
    both = (finding for reading in meant[1:] for way in ways for finding in _score(reading, way, ns))
    findings += [finding for finding in both if expected.met(finding.recall[at])]
    return replace(explanation, findings=tuple(findings))


def _score(reading: Hypothesis, way: Measure, ns: Sequence[int]) -> list[ScoredHypothesis]:
    """The recalls, with misses counted and (where there are any) dropped; nothing where it does not fit."""
    ranking, sizes = reading.ranking, (way.truth.n_queries, way.truth.n_database)
    n_queries, n_database = sizes[::-1] if reading.turned else sizes
    if not n_queries or ranking.n_queries != n_queries or ranking.indices.max(initial=-1) >= n_database:
        return []
    truth = turned(way.truth) if reading.turned else way.truth
    kept = valid_mask(ranking, truth)
    hits = first_hit_ranks(truth.positives.contains(ranking.indices), kept)
    short = (hits == 0) & (kept.sum(axis=1) < min(ns[-1], truth.n_database))
    whole = ranking.depth >= truth.n_database or not short.any()
    scored = [_scored_hypothesis(reading, way, "count", recall_at(hits, ns), whole)]
    if truth.n_without_truth and truth.answerable.any():
        scored.append(_scored_hypothesis(reading, way, "drop", recall_at(hits[truth.answerable], ns), whole))
    return scored


def _scored_hypothesis(
    reading: Hypothesis, way: Measure, misses: Misses, recall: dict[int, float], whole: bool
) -> ScoredHypothesis:
    names, published = way.named(misses)
    given = AS_GIVEN in way.ways and misses == "count"
    kind: Kind = "as given" if given else "protocol" if published else "other measure"
    if reading.name == AS_IT_IS:
        return ScoredHypothesis(kind, "", names, misses, recall, whole)
    return ScoredHypothesis(
        "mistake" if given else "both", reading.name, names, misses, recall, whole, reading.advice
    )


def _new_mistakes(
    mistakes: Sequence[ScoredHypothesis], known: Sequence[ScoredHypothesis]
) -> list[ScoredHypothesis]:
    """Those that change anything: mistakes that give the very numbers as given are none."""
    given = next((finding.recall for finding in known if finding.kind == "as given"), None)
    return [finding for finding in mistakes if finding.recall != given]
