"""`dejavlad dataset`: look at datasets, list photos, make a town."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from dejavlad.cli.options import Positions, Root
from dejavlad.cli.terminal import Output
from dejavlad.errors import InputError

app = App(name="dataset", help="Look at a dataset, list photos, make a town.")


@app.command
def info(
    name: str,
    /,
    *,
    root: Root = None,
    positions: Positions = None,
    truth: str | None = None,
    output: Output = Output(),
) -> None:
    """What a dataset, or a folder or list of photos, holds: counts, positions, sizes, right answers.

    Example: `dejavlad dataset info town/test`

    Parameters
    ----------
    name
        A dataset's name or folder, or photos: a folder, a list, a video.
    root
        The folder that paths in a list are relative to, or where a named dataset lies.
    positions
        Where photos were taken: `exif`, `utm-names`, `auto`, `none` or a CSV file.
    truth
        What is right: `frames:2`, `same-name` or `positions:25` (metres).
    """
    from dataclasses import asdict, replace

    from dejavlad.datasets import dataset_info, open_dataset, parse_truth, photos, photos_info
    from dejavlad.datasets.info import str_photos
    from dejavlad.images import read_size

    try:
        places = open_dataset(name, root=root)
    except InputError as no_dataset:
        try:
            found = photos_info(photos(name, root=root, positions=positions or "auto"), read_size=read_size)
        except InputError:
            raise no_dataset from None
        output.answer(asdict(found), str_photos(found))
        return
    if truth is not None:
        places = replace(places, truth=parse_truth(truth, places.database, places.queries))
    told = dataset_info(places, read_size=read_size)
    output.answer(told.to_dict(), str(told))


@app.command(name="list")
def list_(photos: str, /, *, out: Path, root: Root = None, output: Output = Output()) -> None:
    """Write a list of photos, one path a line, in natural order.

    Example: `dejavlad dataset list photos/ --out photos.txt`

    Parameters
    ----------
    photos
        A folder (searched recursively), or another list.
    out
        The text file to write.
    root
        The folder that the paths shall be relative to (default: that of the photos).
    """
    from dejavlad.datasets import photos as open_photos
    from dejavlad.datasets import write_list

    listed = open_photos(photos, root=root if Path(photos).is_file() else None)
    path = write_list(listed, out, root=root)
    output.answer({"list": str(path), "photos": len(listed)}, f"{len(listed)} photos: {path}")


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
    from dejavlad.datasets.town import make_town
    from dejavlad.images import parse_resize

    sides = parse_resize(size)
    if not isinstance(sides, tuple):
        raise InputError(f"--size {size!r}: give height and width, as 240x320")
    with output.progress() as on_progress:
        made = make_town(out, photos=photos, size=sides, seed=seed, workers=workers, on_progress=on_progress)
    output.answer(
        {"town": str(made)}, f"{made}: train, val and test\n\ndejavlad dataset info {made / 'test'}"
    )
