"""`dejavlad dataset`: look at datasets, check them, list photos, make a truth file, make a town."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from dejavlad.cli.protocols import protocols
from dejavlad.cli.sources import AllFolders, PhotoOptions
from dejavlad.cli.terminal import Output
from dejavlad.errors import DejavladError, InputError

if TYPE_CHECKING:
    from dejavlad.ground_truth import PlaceDataset, TruthPositions
    from dejavlad.photo import PhotoList

app = App(name="dataset", help="Look at a dataset, check it, list photos, make a truth file, make a town.")

app.command(protocols)


@app.command
def info(
    name: str,
    /,
    *,
    truth: str | None = None,
    sources: PhotoOptions = PhotoOptions(),
    output: Output = Output(),
) -> None:
    """What a dataset, or a folder or list of photos, holds: counts, positions, sizes, right answers.

    Example: `dejavlad dataset info town/test`

    Parameters
    ----------
    name
        A dataset's name or folder, or photos: a folder, a list, a video.
    truth
        What is right: `frames:2`, `same-name`, `positions:25` (metres), or a truth file (`.npz`, `.mat`).
    """
    from dataclasses import asdict, replace

    from dejavlad.datasets import dataset_info, photos_info
    from dejavlad.datasets.info import str_photos
    from dejavlad.ground_truth import parse_truth
    from dejavlad.images import read_size
    from dejavlad.photo import PhotoList

    places = _opened(name, sources)
    if isinstance(places, PhotoList):
        if truth is not None:
            raise InputError(
                f"--truth is for a dataset, and {name!r} holds photos only: give a folder with database and "
                "queries in it"
            )
        info = photos_info(places, read_size=read_size)
        output.answer(asdict(info), str_photos(info))
        return
    if truth is not None:
        places = replace(places, truth=parse_truth(truth, places.database, places.queries))
    summary = dataset_info(places, read_size=read_size)
    output.answer(summary.to_dict(), str(summary))


@app.command
def check(
    name: str,
    /,
    *,
    sample: int | None = None,
    workers: int = 2,
    sources: PhotoOptions = PhotoOptions(),
    output: Output = Output(),
) -> None:
    """Are a dataset's files whole: counts as published, photos missing, misplaced, unreadable or there twice.

    Exit status 1 where something is wrong; each finding says what to do. Nothing is changed.

    Examples:

        dejavlad dataset check pitts30k-test --root /data/pittsburgh
        dejavlad dataset check photos/ --sample 100
        dejavlad dataset check photos/ --positions track.gpx --time-offset=-7200

    Parameters
    ----------
    name
        A dataset's name, folder or file, or photos: a folder, a list, a video.
    sample
        Decode so many photos of each list, evenly spread (default: all of them).
    workers
        Threads that decode.
    """
    from dejavlad.datasets.audit.report import Decoding, check_dataset, check_photos
    from dejavlad.datasets.cards import PUBLISHED
    from dejavlad.images import read_content, read_stretch
    from dejavlad.photo import PhotoList
    from dejavlad.settings import Settings

    if workers < 1:
        raise InputError(f"--workers {workers}: give 1 or more")
    places = _opened(name, sources)
    with output.progress() as on_progress:
        decoding = Decoding(read_content, read_stretch, sample, workers, on_progress)
        if isinstance(places, PhotoList):
            report = check_photos(places, decoding)
        else:
            root = sources.root or Settings.load().root(name)
            report = check_dataset(places, decoding, published=PUBLISHED.get(name), root=root)
    output.answer(report.to_dict(), str(report))
    wrong = [finding for finding in report.findings if finding.wrong]
    if wrong:
        raise DejavladError(
            f"{report.name} is not whole: {'; '.join(f'{of.what}: {of.text}' for of in wrong)}"
        )


@app.command(name="list")
def list_(
    photos: str,
    /,
    *,
    out: Path,
    part: Literal["database", "queries"] | None = None,
    prefix: str | None = None,
    root: Path | None = None,
    all_folders: AllFolders = False,
    output: Output = Output(),
) -> None:
    """Write a list of photos, one path a line: of a folder in natural order, of a dataset's part in its
    order.

    Examples:

        dejavlad dataset list photos/ --out photos.txt
        dejavlad dataset list tokyo247:queries --root /data/tokyo247 --out queries.txt
        dejavlad dataset list pitts30k_test.mat --part queries --prefix queries_real --out queries.txt

    Parameters
    ----------
    photos
        A folder (searched recursively), another list, a dataset's part (NAME:database), or the `.mat` spec of
        a dataset of NetVLAD.
    out
        The text file to write.
    part
        Of a spec: list its `database` or its `queries`.
    prefix
        Of a spec: the folder, below the root, that holds the photos of this part.
    root
        The folder that the paths shall be relative to (default: that of the list). Of a spec: where the
        photos are looked for; left out, they are listed unseen.
    """
    from dejavlad.datasets import photos as open_photos
    from dejavlad.ground_truth import read_netvlad_spec
    from dejavlad.ground_truth.netvlad_spec import is_spec
    from dejavlad.photo import paths_below, write_list, write_names

    if is_spec(photos):
        if part is None:
            raise InputError(f"{photos!r} is a spec of two lists: give --part database or --part queries")
        spec = read_netvlad_spec(photos)
        names, turned = paths_below(
            spec.database if part == "database" else spec.queries, root, prefix=prefix or ""
        )
        path = write_names(names, out)
        if turned:
            output.note(f"{turned} photos lie there as .png and are listed so")
        count = len(names)
    else:
        if part is not None or prefix is not None:
            raise InputError(f"--part and --prefix are for the .mat spec of a dataset; given {photos!r}")
        of_dataset = not Path(photos).exists()
        listed = open_photos(photos, root=None if Path(photos).is_dir() else root, all_folders=all_folders)
        path, count = write_list(listed, out, root=root, as_given=of_dataset), len(listed)
    output.answer({"list": str(path), "photos": count}, f"{count} photos: {path}")


@app.command
def truth(
    database: str,
    queries: str | None = None,
    /,
    *,
    out: Path,
    radius: float | None = None,
    frames: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    sources: PhotoOptions = PhotoOptions(),
    output: Output = Output(),
) -> None:
    """Make a truth file of Patch-NetVLAD's form (`utmDb`, `utmQ`, `posDistThr`), for `--truth FILE.npz`.

    Its rows go in the order of the lists. Where frames are counted, frame i lies at (i, 0), so that N is
    exactly N frames before and after; the original's nordland file has (i, i) and 10, which is 7.

    Examples:

        dejavlad dataset truth photos/map photos/new --positions exif --radius 25 --out truth.npz
        dejavlad dataset truth summer.txt winter.txt --frames 2 --out truth.npz
        dejavlad dataset truth pitts30k_test.mat --out pitts30k_test.npz

    Parameters
    ----------
    database
        Photos of the map: a folder, a list, a video, a dataset part; or a dataset's `.mat` spec of NetVLAD.
    queries
        Photos to recognise; a spec has them already.
    out
        The `.npz` file to write.
    radius
        Metres within which a photo is right (default: 25; of a spec, its own).
    frames
        Right is the photo of the same number within so many, instead of a radius: the number in the names of
        both lists, else the row. `2@rows` counts rows in any case, `2+105` where the queries' numbers are 105
        more.
    """
    from dataclasses import asdict

    from dejavlad.datasets.info import truth_info
    from dejavlad.ground_truth import Truth, write_truth_npz

    made, why = _truth_positions(database, queries, radius, frames, sources, output)
    info = truth_info(Truth(made.right(), len(made.database), {}))
    path = write_truth_npz(out, made)
    within = {"radius_m": made.radius} if frames is None else {"frames": int(made.radius)}
    within_text = f"{made.radius:g} m" if frames is None else f"{made.radius:g} frames"
    if frames is not None and made.tolerance is None:
        within_text += ", frames by the numbers in names"
    counts = asdict(info)
    counts.pop("description")
    if info.without_truth == info.queries:
        output.note(f"no query has a right answer: {why or 'are the two lists of the same places?'}")
    output.answer(
        {"truth": str(path), **within, "database": len(made.database), **counts},
        f"{len(made.database)} database photos and {info.queries} queries, right within {within_text}: "
        f"{info.fewest} to {info.most} each (median {info.median:g}), "
        f"{info.without_truth} queries without any\n{path}",
    )


def _truth_positions(
    database: str,
    queries: str | None,
    radius: float | None,
    frames: str | None,
    sources: PhotoOptions,
    output: Output,
) -> tuple[TruthPositions, str | None]:
    """Positions and radius of a truth file; and why nothing is right there, where a known mistake says it."""
    from dataclasses import replace

    from dejavlad.ground_truth import TruthPositions, read_netvlad_spec
    from dejavlad.ground_truth.frames import FrameRule
    from dejavlad.ground_truth.netvlad_spec import is_spec
    from dejavlad.positions.diagnosis import what_is_wrong

    if frames is not None and (radius is not None or sources.positions is not None):
        raise InputError("--frames counts photos: leave --radius and --positions out")
    if is_spec(database):
        if queries is not None or frames is not None or sources.positions is not None:
            raise InputError(
                "a spec holds both lists and their positions: give --out, and --radius if you wish"
            )
        made = read_netvlad_spec(database).truth
        return made if radius is None else replace(made, radius=radius), None
    if queries is None:
        raise InputError("give the photos of the database and those of the queries (or one .mat spec)")
    if frames is not None:
        rule = FrameRule.parse(frames)
        return TruthPositions.of_frames(sources.listed(database), sources.listed(queries), rule), None
    database_photos, query_photos = map(sources.photos, (database, queries))
    output.notes(database_photos, query_photos)
    made = TruthPositions.of_photos(database_photos, query_photos, 25.0 if radius is None else radius)
    return made, what_is_wrong(database_photos.positions, query_photos.positions, made.radius)


@app.command
def town(
    *,
    out: Path,
    photos: int = 1000,
    size: str = "240x320",
    seed: int = 0,
    workers: int = 2,
    output: Output = Output(),
) -> None:
    """Make a town: photos of streets that never were, with positions, to try things on.

    Example: `dejavlad dataset town --out town`

    Parameters
    ----------
    out
        The folder to make; run again, it goes on where it stopped.
    photos
        How many, in all parts together.
    size
        Height and width of a photo in pixels, as 240x320.
    seed
        Another seed, another town.
    workers
        Processes that draw.
    """
    from dejavlad.images import parse_resize
    from dejavlad.town import make_town

    sides = parse_resize(size)
    if not isinstance(sides, tuple):
        raise InputError(f"--size {size!r}: give height and width, as 240x320")
    with output.progress() as on_progress:
        made = make_town(out, photos=photos, size=sides, seed=seed, workers=workers, on_progress=on_progress)
    output.answer(
        {"town": str(made)}, f"{made}: train, val and test\n\ndejavlad dataset info {made / 'test'}"
    )


def _opened(name: str, sources: PhotoOptions) -> PlaceDataset | PhotoList:
    """The dataset of that name, folder or file; its photos where it is photos only.

    Raises:
        InputError: neither, or a dataset that cannot be opened.
    """
    from dejavlad.datasets import is_dataset, open_dataset, placed_again
    from dejavlad.positions import with_positions

    if not is_dataset(name, root=sources.root):
        try:
            listed = sources.listed(name)
        except InputError:
            if Path(name).exists():
                raise
        else:
            placed = with_positions(listed, sources.positions or "auto", time_offset=sources.time_offset)
            placed.passed_over = listed.passed_over
            return placed
    return placed_again(open_dataset(name, root=sources.root), sources.positions, sources.time_offset)
