"""The rule by which photos are right, as a typed value: within metres, within frames, by name, or listed.

A rule says what a dataset's right answers are; a `Refinement` says what was done to them afterwards (which
way photos look, what is left out of rankings, which figure is published). Together they are the description
that results hold as plain data, which `described` writes and `parsed` reads, also of earlier versions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class WithinMetres:
    """Right are photos taken near the query."""

    radius_m: float
    """Metres, 0 or more; a photo just that far away is right."""
    database_without_position: int = 0
    """Database photos (or sequences) whose position is not known: right for no query."""
    queries_without_position: int = 0
    """Queries whose position is not known: these have no right answer."""
    frames: tuple[int, int] | None = None
    """Of sequences: frames in one of the database, and in a query, any of which may be near."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ``kind`` first."""
        return {
            "kind": "positions",
            "radius_m": self.radius_m,
            "database_without_position": self.database_without_position,
            "queries_without_position": self.queries_without_position,
            **({} if self.frames is None else {"frames": list(self.frames)}),
        }

    def __str__(self) -> str:
        lacking = [
            f"{count} {what}"
            for what, count in (
                ("database", self.database_without_position),
                ("queries", self.queries_without_position),
            )
            if count
        ]
        text = f"taken within {self.radius_m:g} m"
        text += f" (without a position: {', '.join(lacking)})" if lacking else ""
        if self.frames is not None:
            text += f", any of {self.frames[1]} frames of a query to any of {self.frames[0]}"
        return text


@dataclass(frozen=True, slots=True)
class WithinFrames:
    """Right are photos whose frame number is near the query's."""

    tolerance: int
    """By how much numbers may differ, 0 or more."""
    every: int = 1
    """Query i is frame i times this, 1 or more."""
    by_names: bool = False
    """Whether frames are numbered by the photos' names; by their rows otherwise."""
    shift: int = 0
    """By how much the queries' numbers are higher than those of the same places in the database."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ``kind`` first; only what differs from the defaults after the tolerance."""
        return {
            "kind": "frames",
            "tolerance": self.tolerance,
            **({"every": self.every} if self.every != 1 else {}),
            **({"by": "names"} if self.by_names else {}),
            **({"shift": self.shift} if self.shift else {}),
        }

    def __str__(self) -> str:
        text = f"same frame number within {self.tolerance}"
        text += ", frames by the numbers in names" if self.by_names else ""
        if self.shift:
            text += f", queries' numbers {abs(self.shift)} {'more' if self.shift > 0 else 'less'}"
        return text + (f", queries being every {self.every}th frame" if self.every != 1 else "")


@dataclass(frozen=True, slots=True)
class SameName:
    """Right are photos of the query's own name, whatever their ending."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data: the ``kind`` alone."""
        return {"kind": "same-name"}

    def __str__(self) -> str:
        return "same name"


@dataclass(frozen=True, slots=True)
class Listed:
    """Right is what a file of the dataset, its folders or the user list, query by query."""

    kind: str | None = None
    """Who lists it: a key of `LISTS`, or any other word; None where the user did so without a word."""
    details: tuple[tuple[str, Any], ...] = ()
    """What else results tell of it, by name and in order."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ``kind`` first where there is one."""
        return {**({} if self.kind is None else {"kind": self.kind}), **dict(self.details)}

    def __str__(self) -> str:
        details = dict(self.details)
        if self.kind in LISTS:
            text = LISTS[self.kind].format_map(defaultdict(str, details))
            return text + (CROPPED if details.get("crop") else "")
        return ", ".join(f"{key} {value}" for key, value in self.to_dict().items()) or "as given"


LISTS = {
    "same-place": "same place",
    "oxford": "what the good and ok lists name, junk left out",
    "revisited": "what is {difficulty}, the rest left out",
    "holidays": "same group, a query's own photo left out",
    "listed": "what {file} lists",
}
"""Kind of list, as results hold it -> in words."""
CROPPED = ", queries being regions of photos"

TruthRule = WithinMetres | WithinFrames | SameName | Listed
"""Any of the rules."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """What was done to the right answers of a rule."""

    name: str
    """What was done: a key of `REFINEMENTS`."""
    value: float | int | bool | str
    """How: degrees, photos, groups, the measure's name, or True."""

    def __str__(self) -> str:
        text = REFINEMENTS[self.name]
        if isinstance(self.value, bool):
            return text if self.value else ""
        number = f"{self.value:g}" if isinstance(self.value, float) else str(self.value)
        return text.format(number)


REFINEMENTS = {
    "degrees": ", looking at most {} degrees aside",
    "window": ", {} photos before and after the query's own left out",
    "same_time_left_out": ", photos of the query's own time left out",
    "groups": ", one answer of each of {} groups",
    "leave_one_out": ", a query's own photo left out",
    "measure": "",
    "turned": "",
}
"""Name of a refinement, as results hold it -> in words, in the order in which they are said. ``measure``
names the figure that is published (`evaluation.average_precision`); ``turned`` says that the lists are
swapped."""


def described(rule: TruthRule, refinements: Sequence[Refinement] = ()) -> dict[str, Any]:
    """A rule and its refinements as plain data, in the order in which they were made."""
    return {**rule.to_dict(), **{refinement.name: refinement.value for refinement in refinements}}


def parsed(description: Mapping[str, Any]) -> tuple[TruthRule, tuple[Refinement, ...]]:
    """The rule and the refinements of a description: the inverse of `described`.

    A description of which a kind's own entries are lacking, or that holds others, is a `Listed` one of that
    kind, so that nothing is lost of what another version wrote.
    """
    entries = dict(description)
    names = REFINEMENTS.keys() & entries.keys()
    own = {name: value for name, value in entries.items() if name not in names}
    rule = _rule(own)
    if rule is None:  # its measure belongs to it: the list's publisher names both
        names -= {"measure"}
        own = {name: value for name, value in entries.items() if name not in names}
        kind = own.pop("kind", None)
        rule = Listed(kind if kind is None else str(kind), tuple(own.items()))
    return rule, tuple(Refinement(name, value) for name, value in entries.items() if name in names)


def truth_text(description: Mapping[str, Any]) -> str:
    """A truth's description in words, for a terminal or a page."""
    rule, refinements = parsed(description)
    by_name = {refinement.name: refinement for refinement in refinements}
    return f"{rule}" + "".join(str(by_name[name]) for name in REFINEMENTS if name in by_name)


def _rule(own: Mapping[str, Any]) -> TruthRule | None:
    """The typed rule of these entries; None where they are those of a list."""
    names = set(own)
    match own.get("kind"):
        case "positions" if {"kind", "radius_m"} <= names <= _POSITIONS:
            frames = own.get("frames")
            return WithinMetres(
                own["radius_m"],
                own.get("database_without_position", 0),
                own.get("queries_without_position", 0),
                None if frames is None else (frames[0], frames[1]),
            )
        case "frames" if {"kind", "tolerance"} <= names <= _FRAMES and own.get("by", "names") == "names":
            return WithinFrames(own["tolerance"], own.get("every", 1), "by" in own, own.get("shift", 0))
        case "same-name" if names == {"kind"}:
            return SameName()
    return None


_POSITIONS = {"kind", "radius_m", "database_without_position", "queries_without_position", "frames"}
_FRAMES = {"kind", "tolerance", "every", "by", "shift"}
