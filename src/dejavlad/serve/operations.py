"""What each address takes and answers: one table, by which requests are read and described (`openapi`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from dejavlad.errors import UnknownNameError
from dejavlad.local import AUTO, EXTRACTORS
from dejavlad.places.verification.points import NO_CHECK
from dejavlad.serve.catalogue import MOST, MOST_POINTS
from dejavlad.serve.limits import MATCHES
from dejavlad.serve.refusal import Refusal
from dejavlad.serve.thumbnails import SIZES

JSON, JPEG, NPY, PLAIN = "application/json", "image/jpeg", "application/octet-stream", "text/plain"


@dataclass(frozen=True, slots=True)
class Option:
    """A value in an address, or in a text field of a form."""

    name: str
    """What it is called."""
    words: str
    """What it means."""
    kind: Literal["string", "integer", "number", "box"] = "string"
    """What it is; a box is west, south, east, north."""
    least: float = -math.inf
    """Of a number."""
    most: float = math.inf
    """Likewise."""
    default: Any = None
    """The value where it is not given."""
    choices: tuple[str, ...] = ()
    """The only texts that are taken; empty for any."""
    required: bool = False
    """Whether it must be given."""

    def read(self, text: str) -> Any:
        """The value.

        Raises:
            Refusal: it is none (400).
        """
        if self.choices and text not in self.choices:
            raise Refusal(400, f"{self.name}: {UnknownNameError(self.words, text[:40], self.choices)}")
        if self.kind == "string":
            return text
        if self.kind == "box":
            return self._box(text)
        number = math.nan if len(text) > 40 else _number(text)
        whole = self.kind == "integer"
        if not self.least <= number <= self.most or (whole and not (text.isascii() and text.isdigit())):
            kind = "a whole number" if whole else "a number"
            raise Refusal(400, f"{self.name}={text[:40]!r}: give {kind} of {self.least:g} to {self.most:g}")
        return int(number) if whole else number

    def _box(self, text: str) -> tuple[float, ...]:
        numbers = tuple(map(_number, text[:200].split(",")))
        if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or numbers[1] > numbers[3]:
            raise Refusal(400, f"{self.name}={text[:40]!r}: give WEST,SOUTH,EAST,NORTH")
        return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of an address."""

    method: str
    """In capitals."""
    path: str
    """As routes are written."""
    handler: str
    """The method of `dejavlad.serve.app.Handlers` that answers."""
    summary: str
    """What it does."""
    answer: str
    """A schema of `dejavlad.serve.openapi`, or a media type."""
    options: tuple[Option, ...] = ()
    """What it takes besides what stands in the path."""
    photos: bool = False
    """Whether photos come with it."""
    writes: bool = False
    """Whether it changes a map, which only a service with `--writable` does."""
    lenient: bool = False
    """Whether options that it does not know are passed over: probes of other programs add their own."""
    status: int = 200
    """Of its answer."""
    refusals: tuple[int, ...] = ()
    """Statuses of refusals that are its own (see `COMMON`)."""

    def read(self, given: Iterable[tuple[str, str]], *, whole: bool = True) -> dict[str, Any]:
        """The values of all options.

        Args:
            given: names and texts.
            whole: whether no more of them are to come.

        Raises:
            Refusal: one is not known, given twice, missing or wrong (400).
        """
        texts: dict[str, str] = {}
        known = [option.name for option in self.options]
        for name, text in given:
            if name not in known and self.lenient:
                continue
            if name not in known:
                raise Refusal(400, f"unknown option {name[:40]!r}; valid: {', '.join(known) or 'none'}")
            if name in texts:
                raise Refusal(400, f"option {name!r} is given twice")
            texts[name] = text
        missing = [option.name for option in self.options if option.required and option.name not in texts]
        if whole and missing:
            raise Refusal(400, f"give {' and '.join(missing)}")
        return {o.name: o.read(texts[o.name]) if o.name in texts else o.default for o in self.options}


COMMON: Final[Mapping[int, str]] = {
    400: "an option, a header or a body that is not understood",
    401: "no token, or a wrong one",
    403: "a page of another origin asks, or the service is not --writable",
    409: "the map is being changed; see Retry-After",
    414: "the address is too long",
    421: "the service does not go by that name",
    429: "too many wrong tokens, or too many changes wait",
    500: "the service failed; its log says how",
    503: "the service is busy or stopping, or the map cannot be read now; see Retry-After",
}
"""Refusals of every operation."""
OTHERS: Final[Mapping[int, str]] = {
    404: "no such map, photo or job",
    408: "the body came too slowly",
    413: "too many bytes, pixels, parts or photos",
    415: "the body is no photo and no form",
    422: "a photo is damaged",
    501: "something that it needs is not installed",
    507: "the photos cannot be stored",
}
"""Refusals of some."""
UPLOAD: Final = (408, 413, 415, 422)

KINDS: Final = (AUTO, *EXTRACTORS)
VERIFY: Final = Option(
    "verify", "kind of local features", default=AUTO, choices=(*KINDS[:1], NO_CHECK, *KINDS[1:])
)
COMPARE: Final = Option("verify", "kind of local features", default=AUTO, choices=KINDS)
MAP: Final = Option("map", "the map; may be left out where there is one")
BOX: Final = Option("bbox", "WEST,SOUTH,EAST,NORTH in degrees, or metres", "box")
NAME: Final = Option("name", "what the photo is called, where the body or its part does not say")
FILTERS: Final = (
    Option("near", "LAT,LON,METRES, or exif:METRES: only photos of the map from there"),
    Option("after", "only photos of the map from then on"),
    Option("before", "only photos of the map until then"),
    Option("heading", "DEG+-TOL: only photos of the map that look so"),
)
LON: Final = Option("lon", "degrees east", "number", -180, 180)

# fmt: off
OPERATIONS: Final = (
    Operation("GET", "/v1/health", "health", "Whether it answers", "Health", lenient=True),
    Operation("GET", "/v1/service", "about", "What the page needs to know", "Service"),
    Operation("GET", "/v1/openapi.json", "openapi", "This document", JSON),
    Operation("POST", "/v1/session", "begin_session", "A cookie that stands for the token", "Session"),
    Operation("POST", "/v1/locate", "locate", "Where were photos taken?", "Answers",
              (MAP, Option("k", "places that are told", "integer", 1, MATCHES, 5), VERIFY, *FILTERS, NAME),
              photos=True, refusals=(404, *UPLOAD, 501)),
    Operation("POST", "/v1/describe", "describe", "Descriptors of photos", "Descriptors", (MAP, NAME),
              photos=True, refusals=(404, *UPLOAD)),
    Operation("POST", "/v1/match", "match", "Do two photos show one place?", "Pair",
              (COMPARE, MAP, Option("photo", "the id of a photo of the map, for a second photo"), NAME),
              photos=True, refusals=(404, *UPLOAD, 501)),
    Operation("POST", "/v1/exif", "exif", "A copy of a JPEG with a position in its EXIF", JPEG,
              (Option("lat", "degrees north", "number", -90, 90, required=True), replace(LON, required=True),
               Option("uncertainty_m", "how far off that may be", "number", 0, 1e7), NAME),
              photos=True, refusals=UPLOAD),
    Operation("GET", "/v1/maps", "maps", "All maps", "Maps"),
    Operation("GET", "/v1/maps/{map}", "map", "One map", "Map", refusals=(404,)),
    Operation("GET", "/v1/maps/{map}/photos", "photos", "A map's photos, page by page", "Photos",
              (Option("limit", "photos of a page", "integer", 1, MOST, 100),
               Option("cursor", "of the page before"), BOX), refusals=(404,)),
    Operation("POST", "/v1/maps/{map}/photos", "add", "Add photos to a map (--writable)", "Job",
              (Option("lat", "degrees north", "number", -80, 84), LON, NAME),
              photos=True, writes=True, status=202, refusals=(404, *UPLOAD, 507)),
    Operation("GET", "/v1/maps/{map}/points", "points", "Where a map's photos were taken, in brief", "Points",
              (Option("limit", "photos", "integer", 1, MOST_POINTS, 5000), BOX), refusals=(404,)),
    Operation("GET", "/v1/maps/{map}/photos/{id}", "photo", "One photo of a map", "Photo", refusals=(404,)),
    Operation("DELETE", "/v1/maps/{map}/photos/{id}", "remove", "Take a photo out of a map (--writable)",
              "Removed", writes=True, refusals=(404,)),
    Operation("GET", "/v1/maps/{map}/photos/{id}/image", "image", "A small picture of a photo of a map", JPEG,
              (Option("size", f"longer side, one of {', '.join(map(str, SIZES))}", "integer", 1, 8192, 640),),
              refusals=(404,)),
    Operation("GET", "/v1/jobs/{id}", "job", "How a change of a map goes", "Job", refusals=(404,)),
    Operation("GET", "/metrics", "metrics", "Counts and times for Prometheus", PLAIN, lenient=True),
)
# fmt: on
