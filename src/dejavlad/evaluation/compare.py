"""Results side by side, of one protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dejavlad.errors import InputError
from dejavlad.evaluation import statistics
from dejavlad.evaluation.result import Result
from dejavlad.evaluation.statistics import Paired
from dejavlad.ground_truth.rules import truth_text


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table of results."""

    names: tuple[str, ...]
    """What each result is called."""
    results: tuple[Result, ...]
    """The results, in the order given."""
    differences: dict[str, tuple[Any, ...]]
    """What their protocols differ in -> its value in each; empty where they may be compared."""

    @property
    def ns(self) -> list[int]:
        """Every N that some result has a recall at."""
        return sorted({n for result in self.results for n in result.recall})

    @property
    def header(self) -> list[str]:
        """The names of the columns of `rows`, in their order."""
        return ["result", "model", *(f"recall@{n}" for n in self.ns), "queries", "without truth", "database"]

    @property
    def rows(self) -> list[list[str]]:
        """One row a result, as text; ``-`` where a result does not say."""
        return [
            [
                name,
                _model(result),
                *(f"{result.recall[n]:.4f}" if n in result.recall else "-" for n in self.ns),
                str(result.n_queries),
                str(result.n_without_truth),
                str(result.n_database),
            ]
            for name, result in zip(self.names, self.results, strict=True)
        ]

    @property
    def unread(self) -> str:
        """What is to be known of photos that could not be described, where the results differ in them; empty
        where they do not: a part of the difference between two such results is not the models'."""
        unread = [result.unread for result in self.results]
        if all(failures == unread[0] for failures in unread) or not any(
            any(failures.values()) for failures in unread if failures
        ):
            return ""
        counts = (
            f"{name}: {result.unread_text or ('none' if result.unread is not None else 'not known')}"
            for name, result in zip(self.names, self.results, strict=True)
        )
        return f"the results differ in the photos that could not be used: {'; '.join(counts)}"

    @property
    def paired(self) -> dict[str, list[Paired]]:
        """Each result but the first against the first, where they are of the same queries and truth."""
        first = self.results[0]
        tests = {}
        for name, other in zip(self.names[1:], self.results[1:], strict=True):
            if first.hits_at is None or other.hits_at is None or self.differences:
                continue
            if not (ns := [n for n in first.recall if n in other.recall]):
                continue
            blocks = first.blocks if first.blocks is not None else other.blocks
            tests[name] = statistics.paired(first.hits_at, other.hits_at, ns, blocks)
        return tests

    def to_dict(self) -> dict[str, Any]:
        """The results, where their protocols differ, and the tests against the first, for JSON."""
        results = []
        for name, result in zip(self.names, self.results, strict=True):
            description = result.to_dict()
            for long in ("hits_at", "blocks"):
                description.pop(long, None)
            results.append({"name": name, **description})
        return {
            "results": results,
            "differences": {what: list(v) for what, v in self.differences.items()},
            "unread": self.unread,
            "against_first": {name: [asdict(test) for test in tests] for name, tests in self.paired.items()},
        }


def compare(
    results: Sequence[Result], *, names: Sequence[str] | None = None, mix: bool = False
) -> Comparison:
    """Put results side by side.

    Which Ns were asked for makes no difference, nor does a list's hash or a protocol's name that one of them
    does not tell.

    Args:
        results: one or more.
        names: what they are called; 1, 2, 3 ... unless given.
        mix: put them side by side whatever their protocols.

    Raises:
        InputError: nothing to compare, another number of names, or the protocols differ (in what, is named).
    """
    called = [str(i) for i in range(1, len(results) + 1)] if names is None else list(names)
    if not results or len(called) != len(results):
        raise InputError(f"give one result or more, each with a name; given {len(results)} and {len(called)}")
    differences = _differences(results)
    if differences and not mix:
        what, values = next(iter(differences.items()))
        known = [i for i, value in enumerate(values) if not _unstated(what, value)]
        first, other = known[0], next(i for i in known if _plain(values[i]) != _plain(values[known[0]]))
        also = (
            f" (also different: {', '.join(map(_called, [*differences][1:]))})"
            if len(differences) > 1
            else ""
        )
        raise InputError(
            f"the results were measured under different protocols: {_called(what)} is "
            f"{_short(what, values[first])} in {called[first]} but {_short(what, values[other])} in "
            f"{called[other]}{also}; to put them side by side all the same: --mix"
        )
    return Comparison(tuple(called), tuple(results), differences)


def _differences(results: Sequence[Result]) -> dict[str, tuple[Any, ...]]:
    protocols = [
        {what: value for what, value in result.protocol.items() if what != "recall_at"}
        | {"n_queries": result.n_queries, "n_database": result.n_database}
        for result in results
    ]
    differences = {}
    for what in dict.fromkeys(what for protocol in protocols for what in protocol):
        values = tuple(protocol.get(what) for protocol in protocols)
        if len({_plain(v) for v in values if not _unstated(what, v)}) > 1:
            differences[what] = values
    return differences


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _unstated(what: str, value: Any) -> bool:
    return value is None and (what == "name" or what.endswith("_hash"))


def _called(what: str) -> str:
    return "the protocol" if what == "name" else what


def _short(what: str, value: Any) -> str:
    """A value in few words; of a hash its first digits."""
    if what == "name":
        return str(value)
    if what == "truth" and isinstance(value, Mapping):
        return repr(truth_text(value))
    if what.endswith("_hash"):
        return f"{str(value)[:12]} (other photos, another order or other right answers)"
    text = _plain(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _model(result: Result) -> str:
    name = str((result.model or {}).get("name", "-"))
    return f"{name} + {result.rerank}" if result.rerank else name
