"""`dejavlad map`: make a map of places, change it, look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from dejavlad.cli.options import ModelOptions, Panorama, Positions, Root, cut
from dejavlad.cli.terminal import Output

app = App(name="map", help="A map to locate photos in: build it, add and remove photos, look at it.")


@app.command
def build(
    model: str,
    photos: str,
    /,
    *,
    out: Path,
    positions: Positions = None,
    root: Root = None,
    panorama: Panorama = None,
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Make a map of photos; run it again after an interruption and it goes on.

    Example: `dejavlad map build rootsift-vlad photos/ --out town.map`

    Parameters
    ----------
    model
        A model's name (`dejavlad models`) or folder; `rootsift-vlad` needs no download.
    photos
        A folder, a text file with one path a line, a video, or a dataset part (`NAME:database`).
    out
        The map, a folder.
    positions
        Where the photos were taken: `exif`, `utm-names`, `none`, a CSV file with the columns `name,lat,lon`
        or `name,east,north[,zone]`, a track (`.gpx`, `.kml`), or poses (KITTI, TUM, COLMAP). Default: a
        `positions.csv` among the photos, else what their names or their EXIF tell.
    root
        The folder that paths in a list are relative to.
    panorama
        Cut panoramas of 360 degrees (equirectangular, twice as wide as high) into so many views at even
        headings: `12`, or `12:75` for views of 75 degrees (default: 60 to 90, by their number).
    """
    from dejavlad.datasets import photos as open_photos
    from dejavlad.retrieval import PlaceMap

    with output.progress() as on_progress:
        base = options.load(model, on_progress)
        listed = cut(open_photos(photos, root=root, positions=positions or "auto"), panorama, output)
        town = PlaceMap.build(
            base,
            listed,
            out,
            batch_size=options.batch_size,
            workers=options.workers,
            seed=options.seed,
            on_progress=on_progress,
        )
    told = town.info().to_dict()
    output.answer(told, f"{town.info()}\n\ndejavlad locate {out} PHOTO")
    output.failures(town.failed)


@app.command
def add(
    place_map: Annotated[Path, Parameter(name="MAP")],
    photos: str,
    /,
    *,
    positions: Positions = None,
    root: Root = None,
    panorama: Panorama = None,
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Add photos to a map; those that are in it already are skipped.

    Example: `dejavlad map add town.map more_photos/`

    Parameters
    ----------
    place_map
        The map.
    photos
        As in `map build`.
    positions
        As in `map build`.
    root
        The folder that paths in a list are relative to.
    panorama
        As in `map build` (default: as the map's own panoramas were cut).
    """
    from dejavlad.datasets import photos as open_photos
    from dejavlad.datasets.panorama import Views
    from dejavlad.retrieval import PlaceMap

    listed = open_photos(photos, root=root, positions=positions or "auto")
    town = PlaceMap.open(place_map, device=options.device, precision=options.precision)
    there = Views.used_in(town.photos)
    if panorama is None and there is not None:
        panorama = f"{there.count}:{there.degrees:g}"
    listed = cut(listed, panorama, output, must=there is None)
    with output.progress() as on_progress:
        added = town.add(
            listed, batch_size=options.batch_size, workers=options.workers, on_progress=on_progress
        )
    output.answer({"added": added, **town.info().to_dict()}, f"{added} photos added, {len(town)} in the map")
    output.failures(town.failed)


@app.command
def remove(
    place_map: Annotated[Path, Parameter(name="MAP")],
    names: Annotated[list[str], Parameter(name="NAME", negative=())],
    /,
    *,
    output: Output = Output(),
) -> None:
    """Take photos out of a map by their names in it; the photos' files stay where they are.

    Example: `dejavlad map remove town.map street/0001.jpg`

    Parameters
    ----------
    place_map
        The map.
    names
        Names as `dejavlad map info MAP --json` lists them.
    """
    from dejavlad.retrieval import PlaceMap

    town = PlaceMap.open(place_map, device="cpu")
    removed = town.remove(names)
    output.answer(
        {"removed": removed, **town.info().to_dict()}, f"{removed} photos removed, {len(town)} in the map"
    )


@app.command
def info(place_map: Annotated[Path, Parameter(name="MAP")], /, *, output: Output = Output()) -> None:
    """What is in a map.

    Example: `dejavlad map info town.map`

    Parameters
    ----------
    place_map
        The map.
    """
    from dejavlad.retrieval import PlaceMap

    town = PlaceMap.open(place_map, device="cpu")
    output.answer(town.info().to_dict(names=True), str(town.info()))
