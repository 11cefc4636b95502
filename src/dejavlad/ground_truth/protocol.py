"""A protocol: what counts as right on one dataset, what is left out, and of what a recall is the share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dejavlad.errors import InputError
from dejavlad.ground_truth.frames import FrameRule, numbers_agree
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.refine import facing, without_same_time, without_window
from dejavlad.ground_truth.rules import WithinFrames, WithinMetres, truth_text
from dejavlad.ground_truth.truth import (
    Truth,
    groups_of,
    leave_one_out,
    truth_frames,
    truth_frames_of,
    truth_positions,
)


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way of measuring on one dataset."""

    name: str
    """``DATASET@WAY``, e.g. ``tokyo247@relja``."""
    dataset: str
    """The name of the dataset that it is a way of measuring."""
    source: str
    """Where it is described, or done so."""
    metres: float | None = None
    """Right is what was taken this near, or nearer."""
    frames: int | None = None
    """Right is a photo whose number differs by so many, or fewer (where distances do not say it)."""
    every: int = 1
    """Query i is photo i times this of the sequence."""
    degrees: float | None = None
    """Right looks at most so many degrees aside."""
    misses: Literal["count", "drop"] = "count"
    """Queries without a right answer are misses, or do not count."""
    one_per: int | None = None
    """Photos of one panorama are one answer; where they do not tell it, so many in a row are one."""
    leave_out: Literal["own photo", "same time", "window"] | None = None
    """What is taken out of a query's ranking."""
    window: int = 0
    """Photos before and after the query's own that are taken out."""
    resize: str | None = None
    """The photos' size as published (``--resize``); for information, not enforced."""
    n_database: int | None = None
    """Photos in the database as published, where a source tells it."""
    n_queries: int | None = None
    """Queries as published, where a source tells it."""
    note: str = ""
    """What else one should know of it; empty where there is nothing."""

    @property
    def right(self) -> str:
        """What counts as right, in words."""
        if self.metres is not None:
            near = f"within {self.metres:g} m"
        else:
            few = {0: "the same number", 1: "within 1 frame"}
            near = few.get(self.frames or 0, f"within {self.frames} frames")
        aside = f" and {self.degrees:g}°" if self.degrees is not None else ""
        return near + aside

    @property
    def suppressed(self) -> str:
        """What is taken out of rankings, in words; empty where nothing is."""
        parts = [f"all but one a panorama ({self.one_per})"] if self.one_per is not None else []
        if self.leave_out is not None:
            parts.append(f"{self.window} around" if self.leave_out == "window" else self.leave_out)
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Its fields by name, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def under(self, places: PlaceDataset, *, given: bool = False) -> PlaceDataset:
        """The dataset with the truth that this protocol tells.

        Distances come from the photos' positions; where these are not known, or `given`, the right answers
        are the dataset's own, which must have been found in the same way.

        Args:
            given: the dataset's truth was given by the user and is not to be replaced.

        Raises:
            InputError: positions, headings or times are lacking, or the truth was found in another way.
        """
        truth = self._right(places, given)
        if self.degrees is not None:
            truth = facing(truth, places.database, places.queries, self.degrees)
        if self.leave_out == "own photo":
            truth = leave_one_out(truth, places.database, places.queries)
        elif self.leave_out == "same time":
            truth = without_same_time(truth, places.database, places.queries)
        elif self.leave_out == "window":
            truth = without_window(truth, self.window)
        if self.one_per is not None:
            groups = groups_of(places.database)
            if (groups < 0).any():
                groups = np.arange(truth.n_database) // self.one_per
            truth = truth.grouped(groups)
        if places.truth is not None and (measure := places.truth.measure) not in (None, truth.measure):
            truth = truth.refined("measure", measure)
        return PlaceDataset(places.name, places.database, places.queries, truth, self.name)

    def unlike_published(self, n_database: int, n_queries: int) -> str:
        """Which counts are not those published, in words; empty where they agree or none are known."""
        differences = [
            f"{count:,} {what}, published {published:,}"
            for what, count, published in (
                ("database photos", n_database, self.n_database),
                ("queries", n_queries, self.n_queries),
            )
            if published is not None and count != published
        ]
        return "; ".join(differences)

    def _right(self, places: PlaceDataset, given: bool) -> Truth:
        database, queries = places.database, places.queries
        located = any(database.positions) and any(queries.positions)
        if self.frames is not None and not given:
            if self.every == 1 and (
                len(database) != len(queries) or numbers_agree(database, queries) is False
            ):
                return truth_frames_of(database, queries, FrameRule(self.frames))
            return truth_frames(len(database), len(queries), self.frames, every=self.every)
        if self.metres is not None and not given and located:
            return truth_positions(database, queries, self.metres)
        truth = places.truth
        if truth is None:
            raise InputError(
                f"{self.name} counts what lies {self.right}, but the photos' positions are not known: "
                "give them with --positions, or a truth file with --truth"
            )
        match truth.rule:
            case WithinFrames(tolerance=tolerance, every=every) if self.frames is not None:
                same = (tolerance, every) == (self.frames, self.every)
            case WithinMetres(radius_m=radius) if self.frames is None:
                same = radius == self.metres
            case _:
                same = False
        faces = any(refinement.name == "degrees" for refinement in truth.refinements)
        if not same or truth.ignored is not None or faces:
            raise InputError(
                f"{self.name} counts what lies {self.right}; the truth given was found otherwise "
                f"({truth_text(truth.description)}): leave --truth or --protocol out"
            )
        return truth.grouped(None)
