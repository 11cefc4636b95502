"""The doctor on positions: degrees or kilometres taken for metres, east and north swapped, lists apart.

What unit a number is in cannot be seen from it. But radii are in metres: in another unit nearly all photos
lie within them, or none do, and another reading of the same numbers sets that right.

Legend: N database photos, Q queries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Position, Positions, latlon
from dejavlad.ground_truth import PlaceDataset
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.diagnostics.finding import Finding
from dejavlad.training.diagnostics.monitor import evenly_spread

Floats = NDArray[np.float64]

WRONG_UNITS = "wrong units of position"
SAMPLE_SIZE = 2000
"""Photos of each list that are examined, at most."""
CROWDED = 0.5
"""Of the map's photos, the share within the radius of negatives from which on something is wrong."""
FEW_NEAR, MANY_NEAR = 0.1, 0.5
"""Shares of queries with a photo of the map nearby: below the first, something is wrong; another reading by
which it is above the second is the right one."""
DEGREES, KILOMETRES = 0.001, 0.5
"""Where all photos lie close together: medians of the distance to the next photo below which numbers look
like degrees (if they are within their range), or like kilometres."""
FAR_NORTH = 75.0
"""Degrees of latitude beyond which there are hardly any streets."""

Hypothesis = Callable[[Floats, Floats], tuple[Floats, Floats]]
HYPOTHESES: dict[str, tuple[str, Hypothesis]] = {
    "east and north of the queries are swapped": (
        "give the columns of both lists in one order",
        lambda n, q: (n, q[:, ::-1]),
    ),
    "the queries' positions are in kilometres, the map's in metres": (
        "give both in metres",
        lambda n, q: (n, 1000 * q),
    ),
    "the map's positions are in kilometres, the queries' in metres": (
        "give both in metres",
        lambda n, q: (1000 * n, q),
    ),
    "the positions are in centimetres": ("give metres", lambda n, q: (n / 100, q / 100)),
    "the positions are in millimetres": ("give metres", lambda n, q: (n / 1000, q / 1000)),
}
"""What may be wrong where few queries have photos nearby -> (what to do, (map, queries) read so)."""


def check_positions(dataset: PlaceDataset, config: TrainConfig) -> list[Finding]:
    """Whether positions look like metres, and those of both lists like one place."""
    database, queries = (
        Positions.from_list([photo.position for photo in photos])
        for photos in (dataset.database, dataset.queries)
    )
    database, queries = _known_sample(database), _known_sample(queries)
    if not len(database) or not len(queries):
        return []
    findings = _zones(database, "map") or _zones(queries, "queries")
    try:
        near = np.array([len(rows) for rows in database.within(queries, config.negative_radius)])
    except InputError:
        return findings  # zones here, none there; training says so
    share = float(np.median(near)) / len(database)
    if len(database) > 1 and share > CROWDED:
        findings.append(_crowded(database, share, config.negative_radius))
    elif (near > 0).mean() < FEW_NEAR:
        findings += _apart(database, queries, float((near > 0).mean()), config.negative_radius)
    return findings


def _known_sample(positions: Positions) -> Positions:
    """At most so many of those that are known, evenly spread."""
    return positions.take(evenly_spread(np.flatnonzero(positions.known), SAMPLE_SIZE))


def _zones(positions: Positions, what: str) -> list[Finding]:
    findings = []
    zoned = np.array([zone is not None for zone in positions.zones])
    east, north = positions.east_north.T
    wrong = zoned & ((east < 1e5) | (east > 9e5) | (north < 0) | (north > 1e7))
    if wrong.mean() > CROWDED:
        i = int(np.flatnonzero(wrong)[0])
        findings.append(
            Finding(
                WRONG_UNITS,
                f"{wrong.sum()} of {len(wrong)} positions of the {what} are no UTM coordinates, as "
                f"{east[i]:.0f} east, {north[i]:.0f} north",
                "UTM has 100,000 to 900,000 metres east and 0 to 10,000,000 north, and distances of others "
                "mean nothing",
                "Are east and north swapped? Leave the zone out, if they are metres on a plane of your own",
            )
        )
    elif zoned.all():
        middle = Position(float(np.median(east)), float(np.median(north)), positions.zones[0])
        if abs(latlon(middle)[0]) > FAR_NORTH:
            findings.append(
                Finding(
                    "latitude and longitude swapped",
                    f"the {what} lies at latitude {latlon(middle)[0]:.1f}, longitude {latlon(middle)[1]:.1f}",
                    "there are hardly any streets there, and swapped positions have wrong distances",
                    "Give latitude first, then longitude",
                )
            )
    return findings


def _crowded(database: Positions, share: float, radius: float) -> Finding:
    spacing = _spacing(database.east_north)
    x, y = (float(abs(database.east_north[:, i]).max()) for i in range(2))
    unit = f"half of the photos are less than {spacing:.2g} from the next one"
    if not any(database.zones) and max(x, y) <= 180 and min(x, y) <= 90 and spacing < DEGREES:
        fault, do = (
            WRONG_UNITS,
            "They look like degrees: name the columns lat and lon, and they are taken as such",
        )
    elif spacing < KILOMETRES:
        fault, do = WRONG_UNITS, "They look like kilometres: give metres"
    else:
        fault = "too small an area"
        do = f"Learn from a larger one, or set a smaller negative_radius than {radius:g}"
    return Finding(
        fault,
        f"{share:.0%} of the map lies within {radius:g} m of a query, by its position, and {unit}",
        "photos so near are no negatives, so there is next to nothing to tell places apart by",
        do,
    )


def _apart(database: Positions, queries: Positions, share: float, radius: float) -> list[Finding]:
    if len({*database.zones, *queries.zones}) == 1:
        for fault, (do, read) in HYPOTHESES.items():
            database_N2, queries_Q2 = read(database.east_north, queries.east_north)
            near = _near(database_N2, queries_Q2, radius)
            if (near > 0).mean() > MANY_NEAR and np.median(near) < CROWDED * len(database_N2):
                seen = (
                    f"{share:.0%} of the queries have a photo of the map within {radius:g} m; if {fault}, "
                    f"{(near > 0).mean():.0%} have"
                )
                why = "what is not near cannot be a positive, so there is next to nothing to learn from"
                return [Finding(WRONG_UNITS, seen, why, do.capitalize())]
    return []


def _spacing(points_N2: Floats) -> float:
    """Median distance to the next photo at another position."""
    from scipy.spatial import cKDTree

    points_N2 = np.unique(points_N2, axis=0)
    if len(points_N2) < 2:
        return 0.0
    return float(np.median(cKDTree(points_N2).query(points_N2, k=2)[0][:, 1]))


def _near(points_N2: Floats, queries_Q2: Floats, radius: float) -> NDArray[np.int64]:
    """[Q] how many points lie within a radius."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(points_N2).query_ball_point(queries_Q2, radius, return_length=True), np.int64)
