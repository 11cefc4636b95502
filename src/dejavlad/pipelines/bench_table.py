"""The table that compares several models: its rows, the best first, and its cells as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dejavlad.evaluation import Result, compare
from dejavlad.evaluation.statistics import Paired

FIGURES = ("ms", "cpu_ms", "dims", "weights_mb", "map_mb")


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the table."""

    name: str
    """As it was given, or the folder of an earlier result."""
    result: Result | None = None
    """Its recalls; None where it could not be run."""
    error: str = ""
    """Why it could not be run."""
    ms: float | None = None
    """Milliseconds a photo by the clock: read, prepared, described and written."""
    cpu_ms: float | None = None
    """Milliseconds of processor time a photo, of all threads together."""
    dims: int | None = None
    """Numbers of a descriptor."""
    weights_mb: float | None = None
    """Megabytes (1e6 bytes) of its weights as they lie in memory."""
    map_mb: float | None = None
    """Megabytes of the database's descriptors."""
    code_licence: str = ""
    """Of the original code; empty where that is not known."""
    licence: str = ""
    """Of the weights; empty where that is not known."""
    taken: bool = False
    """Whether its result is of an earlier run."""

    def to_dict(self) -> dict[str, Any]:
        """As ``bench.json`` has it; the ranks of each query stay in the model's own folder."""
        row = {what: value for what, value in asdict(self).items() if what != "result"}
        if self.result is None:
            return row
        described = self.result.to_dict()
        wanted = ("recall", "intervals", "n_queries", "n_database", "n_counted", "model", "rerank")
        return row | {what: described.get(what) for what in wanted}


@dataclass(frozen=True, slots=True)
class Bench:
    """The table of several models under one protocol."""

    dataset: str
    """What it was measured on."""
    rows: tuple[Row, ...]
    """The models that ran, the best first (by the first N, then the next), then those that did not."""
    recall_at: tuple[int, ...]
    """N of recall@N."""
    against_best: dict[str, list[Paired]] = field(default_factory=dict)
    """Each other model, by name, against the best: the paired tests of `compare`."""

    @property
    def ran(self) -> list[Row]:
        """The rows with a result, the best first."""
        return [row for row in self.rows if row.result is not None]

    @property
    def header(self) -> list[str]:
        """Titles of the columns of `cells`."""
        recalls = [f"recall@{n}" for n in self.recall_at]
        figures = ["ms a photo", "CPU ms", "dims", "weights MB", "map MB"]
        return ["model", *recalls, "p to best", *figures, "code", "weights"]

    @property
    def cells(self) -> list[list[str]]:
        """One row a model that ran, as text; ``-`` where nothing is known."""
        return [
            [
                row.name,
                *(_interval(row, n) for n in self.recall_at),
                _p(self.against_best.get(row.name)) if i else "best",
                *(_figure(getattr(row, name)) for name in FIGURES),
                row.code_licence or "-",
                row.licence or "-",
            ]
            for i, row in enumerate(self.ran)
        ]

    def to_dict(self) -> dict[str, Any]:
        """As ``bench.json`` has it."""
        ran = self.ran
        assert all(row.result is not None for row in ran)
        return {
            "dataset": self.dataset,
            "protocol": dict(ran[0].result.protocol) if ran and ran[0].result else None,
            "best": ran[0].name if ran else None,
            "rows": [row.to_dict() for row in self.rows],
            "against_best": {
                name: [asdict(test) for test in tests] for name, tests in self.against_best.items()
            },
        }


def check_one_protocol(rows: Sequence[Row]) -> None:
    """Refuse results that may not stand in one table: `InputError` names what they differ in."""
    if results := [(row.name, row.result) for row in rows if row.result is not None]:
        compare([result for _, result in results], names=[name for name, _ in results])


def table_of(dataset: str, rows: Sequence[Row], recall_at: tuple[int, ...]) -> Bench:
    """The table of rows that were measured by one protocol."""
    ran = [row for row in rows if row.result is not None]
    ns = tuple(n for n in recall_at if all(row.result is not None and n in row.result.recall for row in ran))

    def recalls(row: Row) -> list[float]:
        assert row.result is not None
        return [-row.result.recall[n] for n in ns]

    ran.sort(key=recalls)
    results = [row.result for row in ran if row.result is not None]
    tests = compare(results, names=[row.name for row in ran]).paired if len(results) > 1 else {}
    return Bench(dataset, (*ran, *(row for row in rows if row.result is None)), ns, tests)


def _interval(row: Row, n: int) -> str:
    assert row.result is not None
    text = f"{row.result.recall[n]:.3f}"
    ends = row.result.intervals.get(n)
    return text if ends is None else f"{text} ({ends[0]:.2f}-{ends[1]:.2f})"


def _p(tests: list[Paired] | None) -> str:
    """Of the first N; ``-`` where no test is possible."""
    return f"{tests[0].p:.2g}" if tests else "-"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
