"""GSV-Cities (Ali-bey et al., Neurocomputing 2022): places of many cities, each photographed several times.

::

    ROOT/
        Dataframes/London.csv     place_id, year, month, northdeg, city_id, lat, lon, panoid
        Images/London/London_0000130_2018_04_015_51.4861_-0.0895151_6jFjb3wGyCkcBfq4k559ag.JPG

Photos are named from the table, as in the original's ``get_img_name``; their group is the place, so that
batches of places can be drawn (``places = "groups"``). The first photo of each place is a query, the others
are the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from dejavlad.datasets.layouts.csv_table import Row, read_table
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.geo import utm_from_latlon
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.rules import Listed
from dejavlad.ground_truth.truth import Truth
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.notes import without_zeros

COLUMNS = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
ENDINGS = (".JPG", ".jpg")
FEWEST = 4
"""Photos of a place, below which it is left out (min_img_per_place)."""


def open_gsv_cities(
    root: str | Path, name: str = "gsv-cities", *, cities: Sequence[str] | None = None, fewest: int = FEWEST
) -> PlaceDataset:
    """Places of some cities.

    Args:
        root: holds ``Dataframes`` and ``Images``.
        cities: which; all that there are tables of unless given.
        fewest: places with fewer photos are left out.

    Raises:
        UnknownNameError: there is no table of a city.
        InputError: no tables, a table that cannot be used, or no place that has enough photos.
    """
    root = Path(root)
    tables = {path.stem: path for path in sorted((root / "Dataframes").glob("*.csv"))}
    if not tables:
        raise InputError(
            f"{name}: there are no tables in {str(root / 'Dataframes')!r}; give the folder that holds "
            "Dataframes and Images with --root"
        )
    for city in cities or ():
        if city not in tables:
            raise UnknownNameError("city of GSV-Cities", city, tables)
    places: dict[str, list[Photo]] = {}
    for city in cities or tables:
        for photo in _photos(root, city, tables[city]):
            places.setdefault(str(photo.group), []).append(photo)
    fewest = max(2, fewest)
    photographed = [photos for photos in places.values() if len(photos) >= fewest]
    if not photographed:
        raise InputError(f"{name}: no place has {fewest} photos in {', '.join(cities or tables)}")
    database = [photo for photos in photographed for photo in photos[1:]]
    right, start = [], 0
    for photos in photographed:
        right.append(range(start, start + len(photos) - 1))
        start += len(photos) - 1
    return PlaceDataset(
        name,
        without_zeros(PhotoList(database, root=root, name=f"{name}:database")),
        without_zeros(PhotoList((photos[0] for photos in photographed), root=root, name=f"{name}:queries")),
        Truth(right, len(database), Listed("same-place", (("fewest", fewest),))),
        "same-place",
    )


def _photos(root: Path, city: str, table: Path) -> Iterator[Photo]:
    ending: str | None = None
    folder = root / "Images" / city
    for line, row in enumerate(read_table(table, COLUMNS), 2):
        try:
            stem = _stem(row)
            if ending is None:
                ending = next(
                    (known for known in ENDINGS if (folder / f"{stem}{known}").is_file()), ENDINGS[0]
                )
            moment = datetime(int(row["year"]), int(row["month"]), 1, tzinfo=UTC)
            yield Photo(
                f"Images/{city}/{stem}{ENDINGS[0]}",
                folder / f"{stem}{ending}",
                position=utm_from_latlon(float(row["lat"]), float(row["lon"])),
                heading=float(row["northdeg"]) % 360,
                time=moment.timestamp(),
                group=f"{city}/{int(row['place_id'])}",
            )
        except ValueError as error:
            raise InputError(f"{str(table)!r} line {line}: {error}") from None


def _stem(row: Row) -> str:
    place, year, month, north = (int(row[key]) for key in ("place_id", "year", "month", "northdeg"))
    return (
        f"{row['city_id']}_{place % 10**5:07d}_{year:04d}_{month:02d}_{north:03d}_{row['lat']}_{row['lon']}_"
        f"{row['panoid']}"
    )
