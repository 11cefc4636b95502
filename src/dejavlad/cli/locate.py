"""`dejavlad locate`: where was this photo taken?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dejavlad.cli.options import FilterOptions, ModelOptions, RerankOptions, Verify, point_setting
from dejavlad.cli.sources import AllFolders, Panorama, cut
from dejavlad.cli.terminal import Output, command_line
from dejavlad.errors import InputError

DEPTH = 20
"""Photos of the map that are compared patch by patch unless told: their patches are made anew."""


def locate(
    place_map: Annotated[str, Parameter(name="MAP")],
    photos: Annotated[list[str], Parameter(name="PHOTO", negative=())],
    /,
    *,
    k: Annotated[int, Parameter(name=["-k"])] = 5,
    verify: Verify = "auto",
    out: Path | None = None,
    all_folders: AllFolders = False,
    panorama: Panorama = None,
    filters: FilterOptions = FilterOptions(),
    reranking: RerankOptions = RerankOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Where was it taken? The most similar places of the map, and whether the place is known at all.

    Examples:

        dejavlad locate town.map where_was_this.jpg
        dejavlad locate town.map where_was_this.jpg --rerank ransac --out answer
        dejavlad locate town.map where_was_this.jpg --near 48.137,11.575,500 --after 2023-01-01

    Parameters
    ----------
    place_map
        A map, from `dejavlad map build`: its folder or address.
    photos
        Photos, or folders, lists or videos of them. Where two folders hold photos of one name, answers go by
        folder and name.
    k
        How many places to tell, at most.
    verify
        Check the nearest photos by local features that agree in space: `auto` takes those that the map keeps
        (`map build --local`), else the best that is installed; `none` leaves it at how far the best place
        stands out, by which a map of fewer than ten places is never sure.
    out
        A folder to write a page to.
    panorama
        Cut panoramas of 360 degrees among the photos into so many views, as `map build` does; the answer is
        that of the view which is surest of its place, and names its direction.
    """
    from dejavlad.datasets import joined
    from dejavlad.datasets import photos as open_photos
    from dejavlad.photo import Photo, PhotoList
    from dejavlad.photo.video import ENDINGS as VIDEOS
    from dejavlad.places.answer import surest_views

    def opened(given: str) -> PhotoList:
        path = Path(given)
        if path.is_dir() or path.suffix.lower() in (".txt", ".csv", *VIDEOS):
            return open_photos(given, all_folders=all_folders)
        return PhotoList([Photo(path.as_posix(), path)])

    listed = joined([(given, opened(given)) for given in photos])
    if not listed:
        raise InputError("give at least one photo to locate")
    listed = cut(listed, panorama, output)
    preset = reranking.chosen(depth=DEPTH)
    points = point_setting(verify, output)
    town = options.open_map(place_map)
    with output.progress() as on_progress:
        answers = town.locate(
            listed,
            k=k,
            batch_size=options.batch_size,
            workers=options.workers,
            rerank=preset,
            verify=points,
            **filters.given(),
            on_progress=on_progress,
        )
    if panorama is not None:
        chosen = surest_views(answers, listed)
        answers, listed = [answers[i] for i in chosen], listed.take(chosen)
    text = "\n\n".join(str(answer) for answer in answers)
    if out is not None:
        from dejavlad.report import located_pairs, located_points, write_locate_page

        shown = [] if preset is None else located_pairs(answers, listed, town, preset)
        if preset is None and points is not None:
            shown = located_points(answers, listed, town, points)
        page = write_locate_page(
            answers,
            town,
            out / "index.html",
            photos=listed,
            command=command_line(),
            matches=shown,
        )
        text += f"\n\nopen {page}"
    output.answer([answer.to_dict() for answer in answers], text)
