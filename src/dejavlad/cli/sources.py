"""Which photos, or stores of their descriptors, a verb works on: the options, and what opens them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dejavlad.cli.terminal import Output
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from dejavlad.extraction import DescriptorStore
    from dejavlad.ground_truth import PlaceDataset
    from dejavlad.photo import PhotoList

Stores = tuple["DescriptorStore", "DescriptorStore"]
"""Descriptors of the database and of the queries."""

AllFolders = Annotated[
    bool,
    Parameter(
        name="--all-folders",
        negative=(),
        help="Of a folder, also take hidden folders, bins, thumbnails and previews of photo libraries.",
    ),
]


@Parameter(name="*", group="Photos")
@dataclass(frozen=True)
class ListOptions:
    """How folders and lists of photos are read."""

    root: Path | None = None
    "The folder that paths in lists are relative to, or where a named dataset lies."
    all_folders: AllFolders = False

    def listed(self, given: str) -> PhotoList:
        """The photos that a path or name stands for, with such positions as `given` itself tells."""
        from dejavlad.datasets import photos

        return photos(given, root=self.root, all_folders=self.all_folders)


@Parameter(name="*", group="Photos")
@dataclass(frozen=True)
class PhotoOptions(ListOptions):
    """How photos are read, and where and when they were taken."""

    positions: str | None = None
    """Where photos were taken: `exif` (also XMP and Google Takeout's files beside them), `utm-names`, `auto`,
    `none`, a CSV file with the columns `name,lat,lon` or `name,east,north[,zone]` (or those of `exiftool
    -csv`), a track (`.gpx`, `.kml`, `.kmz`), or poses (KITTI, TUM, EuRoC, COLMAP). Default: a `positions.csv`
    among the photos, else what their names or their EXIF tell."""
    time_offset: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    """Added to the photos' times: seconds (`-7200`) or `-2:00`; or the zone of clocks that tell none, as
    `UTC+2`."""

    def photos(self, given: str, *, seen: bool = True) -> PhotoList:
        """The photos that a path or name stands for, with their positions; of a list they need not be there,
        unless `seen`."""
        from dejavlad.datasets import photos

        return photos(
            given,
            root=self.root,
            positions=self.positions or "auto",
            time_offset=self.time_offset,
            all_folders=self.all_folders,
            seen=seen,
        )

    def photo_lists(self, given: Sequence[str]) -> list[tuple[str, PhotoList]]:
        """The photos of several paths, as `dejavlad.datasets.photo_lists` opens them."""
        from dejavlad.datasets import photo_lists

        return photo_lists(
            given,
            root=self.root,
            positions=self.positions or "auto",
            time_offset=self.time_offset,
            all_folders=self.all_folders,
        )

    def of_store(self, store: DescriptorStore) -> PhotoList:
        """The photos of a store, with the positions that are given here, else its own."""
        from dejavlad.positions import with_positions

        return with_positions(store.photos, self.positions, time_offset=self.time_offset)

    def photos_or_store(
        self, given: str, what: str, *, seen: bool = True
    ) -> tuple[PhotoList, DescriptorStore | None]:
        """The photos, and their descriptors where a store was given; `what` says what is valid, for a map."""
        from dejavlad.places.address import refuse_map

        refuse_map(given, what)
        path = Path(given)
        if (path / "manifest.json").is_file() or path.suffix == ".npy" or ".bin" in path.suffix:
            store = open_store(given)
            return self.of_store(store), store
        return self.photos(given, seen=seen), None


@Parameter(name="*", group="Photos")
@dataclass(frozen=True)
class PlaceOptions(PhotoOptions):
    """A database, queries, and what is right."""

    dataset: str | None = None
    "A dataset's name or folder (with `database` and `queries` in it), instead of --database and --queries."
    database: str | None = None
    "Photos of the map: a folder, a list, a video, a dataset part, or a store of descriptors."
    queries: str | None = None
    "Photos to recognise, likewise."
    truth: str | None = None
    """What is right: `frames:2`, `same-name`, `positions:25` (metres), or a truth file: `FILE.npz` of
    Patch-NetVLAD, `FILE.mat` of NetVLAD, `FILE.npz:10` within 10 m instead of its own radius. Default: the
    dataset's own."""

    def open(
        self, panorama: str | None, output: Output, *, seen: bool = True
    ) -> tuple[PlaceDataset, Stores | None]:
        """The dataset, and the stores where descriptors rather than photos were given.

        Args:
            panorama: how panoramas are cut, as the command writes it.
            output: is told what was cut.
            seen: whether photos of lists must be there.
        """
        from dejavlad.datasets import open_dataset, placed_again
        from dejavlad.ground_truth import PlaceDataset, parse_truth

        stores = None
        if panorama is not None and self.database is None:
            raise InputError(
                "--panorama cuts photos of --database and --queries; give these, or leave it out"
            )
        if self.dataset is not None:
            if self.database is not None or self.queries is not None:
                raise InputError("give --dataset, or --database and --queries, but not both")
            opened = open_dataset(self.dataset, root=self.root)
            places = placed_again(opened, self.positions, self.time_offset)
        elif self.database is None or self.queries is None:
            raise InputError("give --dataset, or both --database and --queries")
        else:
            what = "photos or a store of descriptors (`dejavlad extract`)"
            (database, db), (queries, q) = (
                self.photos_or_store(given, what, seen=seen) for given in (self.database, self.queries)
            )
            if (db is None) != (q is None):
                raise InputError(
                    "--database and --queries must both be photos, or both stores of descriptors"
                )
            stores = (db, q) if db is not None and q is not None else None
            if panorama is not None:
                self._refuse_panoramas(stores is not None)
                whole = database
                database = cut(whole, panorama, output, must=False)
                queries = cut(queries, panorama, output, must=len(database) == len(whole))
            places = PlaceDataset(f"{database.name} / {queries.name}", database, queries)
        if self.truth is not None:
            parsed = parse_truth(self.truth, places.database, places.queries)
            places = replace(places, truth=parsed, protocol=self.truth)
        return places, stores

    def _refuse_panoramas(self, stored: bool) -> None:
        if stored:
            raise InputError(
                "--panorama cuts photos, and stores hold descriptors: give it to `dejavlad extract`"
            )
        if self.truth is not None and self.truth.startswith("frames:"):
            raise InputError(
                f"--truth {self.truth} compares rows, and --panorama makes several of one photo; give "
                f"same-name or positions:METRES"
            )


def open_store(given: str | Path) -> DescriptorStore:
    """A store of descriptors, or another program's file of them."""
    from dejavlad.extraction import DescriptorStore, is_bin, read_bin

    return read_bin(str(given)) if is_bin(str(given)) else DescriptorStore.open(Path(given))


def cut(photos: PhotoList, panorama: str | None, output: Output, *, must: bool = True) -> PhotoList:
    """The photos, their panoramas cut into views where that is asked for, and hinted at where it is not.

    Args:
        photos: the list.
        panorama: how, as the command writes it; None for not at all.
        output: is told how many were cut.
        must: whether there must be one.

    Raises:
        InputError: another text, or there is no panorama.
    """
    from dejavlad.positions.panorama import Views, cut_panoramas, tagged_panoramas

    if panorama is None:
        if panoramas := tagged_panoramas(photos):
            output.note(
                f"{panoramas[0]!r} and perhaps more of {photos.name} are panoramas of 360 degrees: "
                f"--panorama 12 cuts each into 12 views, which photos match better"
            )
        return photos
    views = Views.parse(panorama)
    cut_up, count = cut_panoramas(photos, views)
    if count == 0 and must:
        raise InputError(
            f"--panorama {panorama}: no photo of {photos.name} is an equirectangular panorama (twice as wide "
            f"as high); leave it out"
        )
    if count:
        whole = len(photos) - count
        output.note(
            f"{photos.name}: {count:,} panoramas cut into {views.count} views of {views.degrees:g} degrees"
            + (f"; {whole:,} photos are none and stay whole" if whole else "")
        )
    return cut_up
