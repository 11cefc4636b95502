"""What a quantised network costs in recall, as its certificate says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dejavlad.guarded.fields import checked_fields


@dataclass(frozen=True, slots=True)
class RecallCost:
    """Recall of a model in float32 and in int8, on the same photos."""

    dataset: str
    """Its name."""
    n_queries: int
    """Its queries."""
    recall: dict[str, list[float]]
    """N -> recall@N of float32 and of int8."""
    change: dict[str, list[float]]
    """N -> the interval in which the change of recall@N lies with 95 %."""
    alone: dict[str, list[int]]
    """N -> queries that float32 alone, and that int8 alone, answers within the first N."""

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RecallCost:
        """Of a certificate.

        Raises:
            MalformedFileError, TypeError, ValueError: it is damaged.
        """
        made = checked_fields(cls(**fields))
        for n in made.recall:
            if not len(made.recall[n]) == len(made.change[n]) == len(made.alone[n]) == 2:
                raise ValueError(f"the cost of recall@{n} is not of pairs")
        return made

    def __str__(self) -> str:
        lines = [f"what int8 costs on {self.dataset}, {self.n_queries} queries:"]
        for n, (before, after) in self.recall.items():
            line = f"  recall@{n} {before:.3f} in float32, {after:.3f} in int8"
            exact, quantised = self.alone[n]
            if exact or quantised:
                low, high = (100 * end for end in self.change[n])
                line += (
                    f": {100 * (after - before):+.1f} points, with 95 % between {low:+.1f} and {high:+.1f}; "
                    f"right in float32 alone {exact}, in int8 alone {quantised}"
                )
            else:
                line += ": the same on every query"
            lines.append(line)
        return "\n".join(lines)
