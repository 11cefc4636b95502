"""A result: the figures and everything that they depend on, as ``result.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError
from dejavlad.evaluation import statistics
from dejavlad.evaluation.breakdown import TagRecall
from dejavlad.evaluation.reliability import Reliability
from dejavlad.failures import blank, failures_text, unread
from dejavlad.files import write_whole
from dejavlad.guarded.fields import DAMAGED, check_column
from dejavlad.guarded.json_file import CHECKSUM, LARGE, read_json_object, with_checksum, without_checksum

FILE = "result.json"
OPTIONAL = (
    *("made_with", "notes", "dims", "metrics", "intervals", "parts", "by_distance", "twins", "reliability"),
    *("blocks", "hits_at"),
)
"""Fields that the file has only where they tell something, in its order."""


@dataclass(frozen=True, slots=True)
class Result:
    """How well a ranking answers the queries of a dataset."""

    recall: Mapping[int, float]
    """N -> recall@N, a fraction of the queries that count."""
    n_database: int
    """Photos in the database."""
    n_queries: int
    """Queries, those without a right answer included."""
    n_without_truth: int
    """Queries that have no right answer; whether they count says ``protocol["misses"]``."""
    protocol: Mapping[str, Any]
    """What the figures depend on besides the model: results of different protocols are not compared."""
    model: Mapping[str, Any] | None = None
    """Name and fingerprint of the model."""
    rerank: str | None = None
    """How the ranking was re-ranked."""
    reranking: Mapping[str, Any] | None = None
    """What it was re-ranked with, the recall before, and recall against time."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What took how long."""
    made_with: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What it takes to do it again: the command, the setting of photos and search, the seed, and the
    versions of the programs; empty where it is not known."""
    dims: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    """D -> N -> recall@N with only the first D dimensions of the descriptors."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further figures by name, as ``mAP`` or ``recall@1/night``."""
    parts: Mapping[str, TagRecall] = field(default_factory=dict)
    """Recall of the queries that share a tag, as ``night``."""
    by_distance: Mapping[int, Mapping[float, float]] = field(default_factory=dict)
    """N -> metres -> share of the queries with one of their first N answers so near."""
    unread: Mapping[str, Mapping[str, str]] | None = None
    """``database`` and ``queries`` -> key -> why that photo could not be described: it cannot be read, or
    shows nothing. Such a query is a miss, such a database photo is nobody's answer. None where that is not
    known."""
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """``database`` and ``queries`` -> what their lists left out, passed over or assumed, a line each; empty
    where there is nothing to tell, or it is not known."""
    twins: Mapping[str, Any] = field(default_factory=dict)
    """Queries that the database holds too (`summarize_near_duplicates`); empty where none were found."""
    reliability: Reliability | None = None
    """Confidence of the first answers against what is right, where they were verified."""
    blocks: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)
    """int64 [Q], queries of one number (a place, panorama or drive) are drawn together for intervals; -1 does
    not count; None where each stands for itself and all count."""
    hits_at: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)
    """int64 [Q], the rank of each query's first right answer from 1; 0 where the ranking holds none."""

    @property
    def n_counted(self) -> int:
        """Queries that the recalls are fractions of."""
        return self.n_queries - (self.n_without_truth if self.protocol.get("misses") == "drop" else 0)

    @property
    def intervals(self) -> dict[int, tuple[float, float]]:
        """N -> the interval in which recall@N lies with 95 %; empty where the ranks are not known."""
        if self.hits_at is None or not len(self.hits_at):
            return {}
        return statistics.intervals(self.hits_at, list(self.recall), self.blocks)

    def to_dict(self) -> dict[str, Any]:
        """As ``result.json`` has it."""
        description: dict[str, Any] = {
            "recall": _plain(self.recall),
            "n_database": self.n_database,
            "n_queries": self.n_queries,
            "n_without_truth": self.n_without_truth,
            "n_counted": self.n_counted,
            "protocol": dict(self.protocol),
            "model": dict(self.model) if self.model is not None else None,
            "rerank": self.rerank,
            **({"reranking": dict(self.reranking)} if self.reranking is not None else {}),
            "seconds": dict(self.seconds),
        }
        if self.unread is not None:
            for what in ("queries", "database"):
                description[f"n_unread_{what}"] = len(unread(self.unread.get(what, {})))
                description[f"n_blank_{what}"] = len(blank(self.unread.get(what, {})))
            description["unread"] = _plain(self.unread)
        for name in OPTIONAL:
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Mapping) and not value):
                description[name] = _plain(value)
        return description

    def __str__(self) -> str:
        recalls = _line(self.recall)
        lines = [f"{recalls}  ({self.n_counted} queries, {self.n_without_truth} without a right answer)"]
        if intervals := self.intervals:
            ends = (
                f"{low:.2f} to {high:.2f}".ljust(len(f"recall@{n} 0.0000"))
                for n, (low, high) in intervals.items()
            )
            lines.append(f"{'  '.join(ends)}  (95 % intervals{self._of_blocks})")
        if left_out := self.unread_text:
            lines.append(left_out)
        width = max(map(len, self.parts), default=0)
        for name, part in self.parts.items():
            lines.append(f"  {name:<{width}}  {_line(part.recall)}  ({part.queries} queries)")
        for d, recall in self.dims.items():
            lines.append(f"{d:>6} dims  {_line(recall)}")
        lines += [f"{name} {value:.4f}" for name, value in self.metrics.items()]
        if self.reliability is not None:
            lines.append(str(self.reliability))
        return "\n".join(lines)

    @property
    def unread_text(self) -> str:
        """How many photos could not be described, and what that makes of them; empty where all could."""
        queries, database = (dict((self.unread or {}).get(what, {})) for what in ("queries", "database"))
        parts = []
        if queries:
            parts.append(f"{failures_text(queries, 'query', 'queries')} (counted as missed)")
        if database:
            parts.append(f"{failures_text(database, 'database photo', 'database photos')} (left out)")
        return "; ".join(parts)

    @property
    def _of_blocks(self) -> str:
        if self.blocks is None or self.hits_at is None:
            return ""
        numbers = np.unique(self.blocks[self.blocks >= 0])
        alone = len(numbers) == int((self.blocks >= 0).sum())
        return "" if alone else f" over {len(numbers)} places or drives"

    def to_json(self) -> str:
        """`to_dict` as text, each list of a number a query on one line."""
        description = with_checksum(self.to_dict())
        checksum = description.pop(CHECKSUM)
        long = {name: description.pop(name) for name in ("blocks", "hits_at") if name in description}
        text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)[:-2]
        return (
            text
            + "".join(
                f',\n  "{name}": {json.dumps(value)}' for name, value in (*long.items(), (CHECKSUM, checksum))
            )
            + "\n}"
        )

    def save(self, path: str | Path) -> Path:
        """Write ``result.json`` whole or not at all.

        Args:
            path: the file, or an existing folder to write it in.

        Returns:
            The file.
        """
        return write_whole(_file(path), self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Args:
            path: the file, or the folder in which it lies.

        Raises:
            StoreError: there is none, or it is not a result.
        """
        path = _file(path)
        try:
            description = without_checksum(read_json_object(path, LARGE))
            optional = {name: description.get(name) or {} for name in (*OPTIONAL, "seconds")}
            return cls(
                recall=_recalls(description["recall"]),
                n_database=int(description["n_database"]),
                n_queries=int(description["n_queries"]),
                n_without_truth=int(description["n_without_truth"]),
                protocol=dict(description["protocol"]),
                model=description.get("model"),
                rerank=description.get("rerank"),
                reranking=description.get("reranking"),
                seconds=dict(optional["seconds"]),
                made_with=dict(optional["made_with"]),
                dims={int(d): _recalls(recall) for d, recall in optional["dims"].items()},
                metrics={name: float(value) for name, value in optional["metrics"].items()},
                parts={
                    name: TagRecall(int(part["queries"]), _recalls(part["recall"]))
                    for name, part in optional["parts"].items()
                },
                by_distance={
                    int(n): {float(metres): float(share) for metres, share in curve.items()}
                    for n, curve in optional["by_distance"].items()
                },
                unread=_failed(description.get("unread")),
                notes=_notes(description.get("notes")),
                twins=dict(optional["twins"]),
                reliability=_reliability(description.get("reliability")),
                blocks=_numbers(description, "blocks"),
                hits_at=_numbers(description, "hits_at"),
            )
        except FileNotFoundError:
            raise StoreError(f"there is no result at {str(path)!r}; dejavlad evaluate writes one") from None
        except DAMAGED as error:
            reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
            raise StoreError(f"{str(path)!r} is not a result: {reason}") from error


def _plain(value: Any) -> Any:
    """A value as JSON has it: names for keys, lists for arrays and tuples."""
    match value:
        case Mapping():
            return {f"{k:g}" if isinstance(k, float) else str(k): _plain(v) for k, v in value.items()}
        case TagRecall():
            return {"queries": value.queries, "recall": _plain(value.recall)}
        case Reliability():
            return value.to_dict()
        case np.ndarray():
            return value.tolist()
        case tuple() | list():
            return [_plain(item) for item in value]
    return value


def _recalls(recalls: Mapping[str, Any]) -> dict[int, float]:
    return {int(n): float(value) for n, value in recalls.items()}


def _reliability(description: Any) -> Reliability | None:
    return None if description is None else Reliability.from_dict(description)


def _failed(failures: Any) -> dict[str, dict[str, str]] | None:
    check_column("unread", [failures], dict[str, dict[str, str]] | None)
    return None if failures is None else {what: dict(failed) for what, failed in failures.items()}


def _notes(notes: Any) -> dict[str, list[str]]:
    check_column("notes", [notes], dict[str, list[str]] | None)
    return dict(notes or {})


def _numbers(description: Mapping[str, Any], name: str) -> NDArray[np.int64] | None:
    """int64 [Q]; None where there are none."""
    if description.get(name) is None:
        return None
    numbers = np.asarray(description[name], np.int64)
    if numbers.shape != (int(description["n_queries"]),):
        raise ValueError(f"{name} holds {numbers.size} numbers for {description['n_queries']} queries")
    return numbers


def _line(recall: Mapping[int, float]) -> str:
    return "  ".join(f"recall@{n} {value:.4f}" for n, value in recall.items())


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path / FILE if path.is_dir() else path
