"""What `PlaceMap.locate` answers for one photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from dejavlad.errors import SHOWS_NOTHING
from dejavlad.geo import Position, latlon
from dejavlad.photo import Photo
from dejavlad.places.filters import position_text
from dejavlad.places.verification.confidence import Evidence


@dataclass(frozen=True, slots=True)
class Match:
    """One photo of the map that looks like the query."""

    name: str
    """Its key in the map."""
    path: Path
    """Where its pixels lay when the map was built."""
    distance: float
    """Euclidean distance of the descriptors, 0 (identical) to 2."""
    score: float
    """Cosine similarity of the descriptors, 1 (identical) to -1."""
    position: Position | None
    """Where it was taken."""
    inliers: int | None = None
    """Points that agree with the query's; None where they were not compared."""

    @property
    def similarity_text(self) -> str:
        """How much it is like the query, in words: the points that agree, where they were compared, first."""
        if self.inliers is None:
            return f"score {self.score:.3f}"
        return f"{self.inliers} {'point' if self.inliers == 1 else 'points'}, score {self.score:.3f}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the position also as latitude and longitude where its zone is known."""
        return {
            "name": self.name,
            "path": str(self.path),
            "distance": self.distance,
            "score": self.score,
            "position": position_to_dict(self.position),
            "inliers": self.inliers,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """Where one photo was taken, as far as the map knows."""

    name: str
    """The photo asked about."""
    path: Path
    """Where its pixels lie."""
    matches: tuple[Match, ...]
    """The most similar photos of the map, best first; none where the photo could not be read."""
    confidence: float
    """Estimated probability that the best match shows the same place, 0 to 1 (see `confidence`)."""
    known: bool
    """Whether the place is taken to be in the map at all."""
    standing: float = 0.0
    """How far the best place stands out from the others; what the confidence is computed from."""
    failed: str | None = None
    """Why there is no answer: the photo could not be read, or it shows nothing (`blank`)."""
    evidence: Evidence | None = None
    """What the confidence is computed from, where the geometry was looked at."""
    reason: str = ""
    """Why it is as sure as it is: how many points agree and how many elsewhere, or why none were compared."""
    agreed: Position | None = None
    """Where the verified photos together say that it was taken, where they do."""
    uncertainty_m: float | None = None
    """How far off `position` may be, in metres (one standard deviation); None where nothing was verified."""

    searched: dict[str, Any] | None = None
    """Where a filter was given: how many photos passed (``photos``), and how many were left out as their
    position, time or heading is not known (``without``)."""

    @classmethod
    def empty(cls, photo: Photo, *, failed: str | None = None, reason: str = "") -> Self:
        """Of a photo that nothing was compared with, for a reason."""
        return cls(photo.key, photo.path, (), 0.0, False, failed=failed, reason=reason)

    @property
    def blank(self) -> bool:
        """Whether the photo can be read, but shows nothing."""
        return self.failed is not None and self.failed.startswith(SHOWS_NOTHING)

    @property
    def position(self) -> Position | None:
        """Where it was taken, if the place is known: as the verified photos agree, else the best match's."""
        if not self.known:
            return None
        return self.agreed or (self.matches[0].position if self.matches else None)

    @property
    def where(self) -> str:
        """`position` in words, and within how many metres; empty where none is known."""
        if self.position is None:
            return ""
        within = "" if self.uncertainty_m is None else f" within about {self.uncertainty_m:.0f} m"
        return f"{position_text(self.position)}{within}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "path": str(self.path),
            "known": self.known,
            "confidence": self.confidence,
            "position": position_to_dict(self.position),
            "uncertainty_m": None if self.position is None else self.uncertainty_m,
            "matches": [match.to_dict() for match in self.matches],
            "failed": self.failed,
            "blank": self.blank,
            "reason": self.reason,
        } | ({} if self.searched is None else {"searched": self.searched})

    def __str__(self) -> str:
        if self.blank:
            return f"{self.name}: {self.failed}"
        if self.failed is not None:
            return f"{self.name}: cannot be read: {self.failed}"
        if not self.known and not self.matches:
            return f"{self.name}: unknown: {self.reason}"
        if not self.known:
            head = f"{self.name}: not a place of this map (confidence {self.confidence:.2f}); most alike:"
        elif self.position is None:
            head = f"{self.name}: known (confidence {self.confidence:.2f})"
        else:
            head = f"{self.name}: at {self.where} (confidence {self.confidence:.2f})"
        width = max((len(match.name) for match in self.matches), default=0)
        wide = max((len(match.similarity_text) for match in self.matches), default=0)
        lines = [
            f"  {rank}  {match.name:<{width}}  {match.similarity_text:>{wide}}"
            + (f"  {position_text(match.position)}" if match.position else "")
            for rank, match in enumerate(self.matches, 1)
        ]
        reason = [f"  {self.reason}"] if self.reason else []
        if self.searched is not None:
            without = "".join(
                f", {n} without {what} left out" for what, n in self.searched["without"].items()
            )
            reason.append(f"  among {self.searched['photos']} photos that pass the filter{without}")
        return "\n".join([head, *reason, *lines])


def position_to_dict(position: Position | None) -> dict[str, Any] | None:
    """East, north and zone, with latitude and longitude where the zone is known."""
    if position is None:
        return None
    coordinates = asdict(position)
    if position.zone is not None:
        coordinates["lat"], coordinates["lon"] = latlon(position)
    return coordinates


def surest_views(answers: Sequence[Answer], photos: Sequence[Photo]) -> list[int]:
    """Of the views that one panorama was cut into, the one that is surest of its place; other photos as are.

    Returns:
        Which of them, ascending by each panorama's first view.
    """
    best: dict[tuple[str, int | None], int] = {}
    for i, photo in enumerate(photos):
        key = (photo.name, photo.frame)
        if key not in best or _certainty(answers[i]) > _certainty(answers[best[key]]):
            best[key] = i
    return list(best.values())


def _certainty(answer: Answer) -> tuple[bool, float, float]:
    distance = answer.matches[0].distance if answer.matches else 2.0
    return answer.known, answer.confidence, -distance
