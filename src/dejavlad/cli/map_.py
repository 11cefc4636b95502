"""`dejavlad map`: make a map of places, change it, look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from dejavlad.cli.machines import answer_shard, stored_photos
from dejavlad.cli.options import LocalKind, MachineOptions, ModelOptions, point_setting
from dejavlad.cli.sources import PhotoOptions, cut
from dejavlad.cli.terminal import Flag, Output
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from dejavlad.extraction import DescriptorStore
    from dejavlad.model import PlaceModel
    from dejavlad.photo import PhotoList
    from dejavlad.pipelines.evaluation import Describing
    from dejavlad.places import PlaceMap
    from dejavlad.places.stored_map import StoredMap
    from dejavlad.progress import OnProgress

Map = Annotated[str, Parameter(name="MAP", help="The map: its folder or address.")]

app = App(name="map", help="A map to locate photos in: build it, add, remove and move photos, look at it.")


@Parameter(name="*")
@dataclass(frozen=True)
class BuildOptions:
    """What a map keeps of its photos, and how it is searched."""

    local: Flag = False
    """Also keep local features of each photo (at most 150 kB): `locate` then needs no photos of the map, and
    checks its answers faster."""
    local_kind: LocalKind | None = None
    "Which local features are kept (default: `auto`, the best that is installed); implies --local."
    index: Literal["auto", "exact", "float16", "int8", "1bit", "ivf", "hnsw"] | None = None
    """How the map is searched: `exact`; `float16` and `int8`, which lose nothing and read less; `1bit`, by
    photos whose signs are most alike; `ivf` and `hnsw` by faiss; `auto` (default) by the number of photos.
    Kept with the map; its recall is measured and told."""
    min_recall: float | None = None
    "Refuse an index that finds a smaller share of the nearest photos (0 to 1); the map is kept whole."
    panorama: str | None = None
    """Cut panoramas of 360 degrees (equirectangular, twice as wide as high) into so many views at even
    headings: `12`, or `12:75` for views of 75 degrees (default: 60 to 90, by their number)."""


@app.command(usage="dejavlad map build [MODEL] PHOTOS --out MAP [OPTIONS]")
def build(
    model: str,
    photos: str | None = None,
    /,
    *,
    out: str,
    made: BuildOptions = BuildOptions(),
    sources: PhotoOptions = PhotoOptions(),
    machines: MachineOptions = MachineOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Make a map of photos; run it again after an interruption and it goes on.

    Run again over a finished map, corrected positions take the place of those that it holds.

    Examples:

        dejavlad map build photos/ --out town.map
        dejavlad map build rootsift-vlad photos/ --out town.map --local
        dejavlad map build town.desc --out town.map

    Parameters
    ----------
    model
        A model's name (`dejavlad models`) or folder. Left out, the best that works here without a download,
        or that of the store.
    photos
        A folder, a text file with one path a line, a video, a dataset part (`NAME:database`), or a store of
        descriptors that `dejavlad extract` or `store merge` made: its rows become the map's.
    out
        The map: a folder, or a database by its address: `lance:FOLDER`, `s3://bucket/path` (also `gs://`,
        `az://`), `qdrant://host/collection`.
    """
    name, given = _model_and_photos(model, photos)
    stored = stored_photos(given, machines, sources, made.panorama)
    listed, descriptors = stored or (_listed(sources.photos(given), made.panorama, output), None)
    from dejavlad.places import PlaceMap
    from dejavlad.places.map_folder.rows import build_share

    local = point_setting(made.local_kind or ("auto" if made.local else None), output)
    with output.progress() as on_progress:
        describing: Describing = {"ray": machines.ray, **options.describing(on_progress)}
        base = _base_model(options, name, stored, output, on_progress)
        if shard := machines.share():
            rows = build_share(base, listed, out, shard, **describing)
            return answer_shard(output, shard, [rows], "map build")
        town = PlaceMap.build(
            base,
            listed,
            out,
            local=local,
            descriptors=descriptors,
            index=made.index,
            min_recall=made.min_recall,
            **describing,
        )
    lines = [str(town.info()), *_corrected(town), "", f"dejavlad locate {out} PHOTO"]
    _answer(town, {}, lines, output)


@app.command
def add(
    place_map: Map,
    photos: Annotated[list[str], Parameter(name="PHOTOS", negative=())],
    /,
    *,
    panorama: str | None = None,
    sources: PhotoOptions = PhotoOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Add photos to a map; those that are in it already are not described again.

    Positions that are given take the place of those that the map holds.

    Examples:

        dejavlad map add town.map more_photos/
        dejavlad map add town.map IMG_2001.jpg IMG_2002.jpg
        dejavlad map add town.map photos/ --positions corrected.csv

    Parameters
    ----------
    photos
        Photos, and folders, text files with one path a line, videos or dataset parts (`NAME:database`) of
        them.
    panorama
        Cut panoramas into so many views, as `map build` does (default: as the map's own were cut).
    """
    from dejavlad.datasets import joined
    from dejavlad.positions.panorama import Views

    town = options.open_map(place_map, output)
    views = Views.used_in(town.photos)
    if panorama is None and views is not None:
        panorama = f"{views.count}:{views.degrees:g}"
    lists = [
        (given, _listed(listed, panorama, output, must=views is None))
        for given, listed in sources.photo_lists(photos)
    ]
    listed = joined(lists) if len(lists) > 1 else lists[0][1]
    with output.progress() as on_progress:
        added = town.add(
            listed, batch_size=options.batch_size, workers=options.workers, on_progress=on_progress
        )
    lines = [f"{added} photos added, {len(town)} in the map", *_corrected(town)]
    _answer(town, {"added": added}, lines, output)


@app.command
def remove(
    place_map: Map,
    names: Annotated[list[str], Parameter(name="NAME", negative=())],
    /,
    *,
    output: Output = Output(),
) -> None:
    """Take photos out of a map by their names in it; the photos' files stay where they are.

    Example: `dejavlad map remove town.map street/0001.jpg`

    Parameters
    ----------
    names
        Names as `dejavlad map info MAP --json` lists them; another Unicode form or letter case will do.
    """
    town = _opened(place_map)
    removed = town.remove(names)
    output.answer(
        {"removed": removed, **town.info().to_dict()}, f"{removed} photos removed, {len(town)} in the map"
    )


@app.command
def info(
    place_map: Map,
    /,
    *,
    versions: Flag = False,
    output: Output = Output(),
) -> None:
    """What is in a map.

    Example: `dejavlad map info town.map`, `dejavlad map info lance:town --versions`

    Parameters
    ----------
    versions
        Of a map in LanceDB: list its versions; `MAP@VERSION` and `MAP@2026-11-29` open the map as it was.
    """
    if versions:
        from dejavlad.places.databases.database_map import list_versions

        listed = list_versions(place_map)
        output.answer([version.to_dict() for version in listed], "\n".join(map(str, listed)))
        return
    town = _opened(place_map).info()
    output.answer(town.to_dict(names=True), str(town))


@app.command
def move(
    place_map: Map,
    old: Path,
    new: Path,
    /,
    *,
    output: Output = Output(),
) -> None:
    """Tell a map that its photos lie elsewhere now; nothing is described anew.

    Example: `dejavlad map move town.map /home/me/photos /mnt/archive/photos`

    Parameters
    ----------
    old
        Where they lay: a folder with all below it, or a photo.
    new
        Where they lie now.
    """
    moved = _opened(place_map).move(old, new)
    lines = [f"{moved.photos} photos lie in {new} now"]
    for keys, what in (
        (moved.missing, "of them are not there"),
        (moved.changed, "of them have another size there: `dejavlad map add` describes them anew"),
    ):
        if keys:
            lines.append(f"{len(keys)} {what}, e.g. {keys[0]}")
    output.answer(
        {"moved": moved.photos, "missing": list(moved.missing), "changed": list(moved.changed)},
        "\n".join(lines),
    )


@app.command
def compact(place_map: Map, /, *, output: Output = Output()) -> None:
    """Free the disk of photos that were removed or described anew.

    `map remove` and `map add` do it by themselves once more than half of the rows are of no photo.

    Example: `dejavlad map compact town.map`
    """
    town = _opened(place_map)
    freed = town.compact()
    output.answer(
        {"photos": len(town), "freed_bytes": freed},
        f"{place_map}: {len(town)} photos, {freed / 1e6:.1f} MB freed",
    )


@app.command
def check(place_map: Map, /, *, output: Output = Output()) -> None:
    """Compare all numbers of a map with their checksums: is it as it was written?

    Example: `dejavlad map check town.map`
    """
    town = _opened(place_map)
    with output.progress() as on_progress:
        checked = town.check(on_progress)
    text = f"{place_map}: {len(town)} photos, all as they were written"
    if not checked:
        text = (
            f"{place_map}: {len(town)} photos; a map of an earlier version has no checksums to compare with"
        )
    output.answer({"photos": len(town), "checksums": checked}, text)


def _opened(place_map: str) -> StoredMap:
    """A map that describes nothing."""
    from dejavlad.places.stored_map import open_stored

    return open_stored(place_map)


def _base_model(
    options: ModelOptions,
    name: str | None,
    stored: tuple[PhotoList, DescriptorStore] | None,
    output: Output,
    on_progress: OnProgress,
) -> PlaceModel:
    """The model that is named, that of a store, or the best that works here."""
    if stored is None or name is not None:
        return options.load(options.chosen(name, output), on_progress)
    return options.of_store(stored[1])


def _model_and_photos(first: str, second: str | None) -> tuple[str | None, str]:
    """The model, if one is given, and the photos.

    Raises:
        InputError: a model alone is given, or photos twice.
    """
    from dejavlad.decoders import ENDINGS
    from dejavlad.zoo.listing import model_names

    if second is not None:
        path = Path(first)
        photo = path.is_file() and first.lower().endswith(ENDINGS)
        if photo or (path.is_dir() and not any((path / name).exists() for name in ("spec.json", "run.json"))):
            raise InputError(
                f"{first!r} is {'a photo' if photo else 'a folder without a model'}, and a model comes "
                "first: dejavlad map build [MODEL] PHOTOS --out MAP (photos are given as one folder, or as a "
                "text file with one path a line)"
            )
        return first, second
    if first in model_names() and not Path(first).exists():
        raise InputError(
            f"{first!r} is a model; give the photos too: dejavlad map build {first} PHOTOS --out MAP"
        )
    return None, first


def _listed(listed: PhotoList, panorama: str | None, output: Output, *, must: bool = True) -> PhotoList:
    """The photos, with what is to be said of them; their panoramas cut into views."""
    output.notes(listed)
    return cut(listed, panorama, output, must=must)


def _answer(town: PlaceMap, facts: dict[str, Any], lines: list[str], output: Output) -> None:
    """What a map has become, and the photos that were given and could not be used."""
    output.answer({**facts, "updated": town.updated, **town.info().to_dict()}, "\n".join(lines))
    output.failures(town.left_out)


def _corrected(town: PlaceMap) -> list[str]:
    """A line of photos whose positions or other facts were corrected, if any were."""
    if not town.updated:
        return []
    return [
        f"{town.updated} photos that were there have other positions, headings, times, groups or tags now"
    ]
