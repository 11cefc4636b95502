"""The card of a dataset: how it is opened, its counts, where it comes from, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.protocol import Protocol

Opener = Callable[[Path, str], PlaceDataset]
"""(the folder where a dataset lies, its name) -> the dataset."""
Count = Literal["n_database", "n_queries"]
BOTH: tuple[Count, ...] = ("n_database", "n_queries")


@dataclass(frozen=True, slots=True)
class Published:
    """The counts of one dataset, as published.

    A count from the dataset's own files is `sure`; one that is only quoted from papers and tools is not, and
    a difference from it is a remark, not an error.
    """

    database: int | None
    """Photos of the database; None where it is not known."""
    queries: int | None
    """Queries; None where it is not known."""
    source: str
    """The file or paper that says so."""
    positives: int | None = None
    """Right answers of all queries together, as the dataset itself tells them."""
    sure: bool = True
    """Whether this was counted in published files."""


@dataclass(frozen=True, slots=True)
class Page:
    """What datasets of one publisher have in common: a section of ``docs/datasets.md``."""

    key: str
    """Marks the section's table: ``<!-- cards: KEY -->``."""
    source: str = ""
    """Where to get the photos and the truth; empty where there is nothing to get."""
    licence: str = "see the publisher"
    """Its terms, as far as they are known."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of measuring, as a card says it: the dataset's name and the counts are the card's."""

    name: str
    """``DATASET@WAY``."""
    source: str
    """The program or paper that measures so."""
    rule: Mapping[str, Any]
    """Further fields of `Protocol` by name, e.g. ``metres`` (25)."""
    counts: tuple[Count, ...]
    """Which of the card's counts are published for this protocol."""


def way(name: str, source: str, *, counts: tuple[Count, ...] = BOTH, **rule: Any) -> Way:
    """A way of measuring; `rule` are fields of `Protocol`: ``metres=25``, ``misses="drop"``."""
    return Way(name, source, rule, counts)


@dataclass(frozen=True, slots=True)
class Card:
    """All that is known of one named dataset."""

    name: str
    """Its name for `open_dataset` and ``--dataset``."""
    open: Opener
    """Opens the dataset from the folder where it lies."""
    page: Page
    """Where the photos come from, and under which terms."""
    counts: Published | None = None
    """Its counts as published, where they are known."""
    ways: tuple[Way, ...] = ()
    """The ways in which it is measured; empty where there is no named protocol."""
    note: str = ""
    """What the table of the documentation adds."""
    shown: bool = True
    """Whether it has a row in that table; the text there names the others."""

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """Its protocols, with the card's counts."""
        known = self.counts or Published(None, None, "")
        return tuple(
            Protocol(
                way.name,
                self.name,
                way.source,
                n_database=known.database if "n_database" in way.counts else None,
                n_queries=known.queries if "n_queries" in way.counts else None,
                **way.rule,
            )
            for way in self.ways
        )
