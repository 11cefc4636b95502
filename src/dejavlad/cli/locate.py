"""`dejavlad locate`: where was this photo taken?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dejavlad.cli.options import FilterOptions, ModelOptions, RerankOptions, Verify, point_setting
from dejavlad.cli.sources import AllFolders, cut
from dejavlad.cli.terminal import Output, command_line
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from dejavlad.photo import PhotoList
    from dejavlad.places import Answer, PlaceMap
    from dejavlad.places.preset import Preset
    from dejavlad.places.verification.points import PointSetting

DEPTH = 20
"""Photos of the map that are compared patch by patch unless told: their patches are made anew."""


@Parameter(name="*")
@dataclass(frozen=True)
class AnswerOptions:
    """How photos are read, and how they are answered."""

    k: Annotated[int, Parameter(name="-k")] = 5
    "How many places to tell, at most."
    verify: Verify = "auto"
    """Check the nearest photos by local features that agree in space: `auto` takes those that the map keeps
    (`map build --local`), else the best that is installed; `none` leaves it at how far the best place stands
    out, by which a map of fewer than ten places is never sure."""
    out: Path | None = None
    "A folder to write a page to."
    all_folders: AllFolders = False
    panorama: str | None = None
    """Cut panoramas of 360 degrees among the photos into so many views, as `map build` does; the answer is
    that of the view which is surest of its place, and names its direction."""

    def listed(self, photos: list[str], output: Output) -> PhotoList:
        """The photos, those of folders, lists and videos among them.

        Raises:
            InputError: there are none.
        """
        from dejavlad.datasets import joined
        from dejavlad.datasets import photos as open_photos
        from dejavlad.photo import Photo, PhotoList
        from dejavlad.photo.video import ENDINGS as VIDEOS

        lists = []
        for given in photos:
            path = Path(given)
            if path.is_dir() or path.suffix.lower() in (".txt", ".csv", *VIDEOS):
                lists.append((given, open_photos(given, all_folders=self.all_folders)))
            else:
                lists.append((given, PhotoList([Photo(path.as_posix(), path)])))
        listed = joined(lists)
        if not listed:
            raise InputError("give at least one photo to locate")
        return cut(listed, self.panorama, output)


def locate(
    place_map: Annotated[str, Parameter(name="MAP")],
    photos: Annotated[list[str], Parameter(name="PHOTO", negative=())],
    /,
    *,
    answer: AnswerOptions = AnswerOptions(),
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
    """
    from dejavlad.places.stored_map import refuse_no_map

    refuse_no_map(place_map)
    listed = answer.listed(photos, output)
    preset = reranking.chosen(depth=DEPTH)
    points = point_setting(answer.verify, output)
    town = options.open_map(place_map, output)
    with output.progress() as on_progress:
        answers = town.locate(
            listed,
            k=answer.k,
            batch_size=options.batch_size,
            workers=options.workers,
            rerank=preset,
            verify=points,
            near=filters.near,
            after=filters.after,
            before=filters.before,
            heading=filters.heading,
            on_progress=on_progress,
        )
    if answer.panorama is not None:
        from dejavlad.places.answer import surest_views

        chosen = surest_views(answers, listed)
        answers, listed = [answers[i] for i in chosen], listed.take(chosen)
    text = "\n\n".join(map(str, answers))
    if answer.out is not None:
        text += f"\n\nopen {_page(answer.out, answers, listed, town, preset, points)}"
    output.answer([each.to_dict() for each in answers], text)


def _page(
    out: Path,
    answers: list[Answer],
    listed: PhotoList,
    town: PlaceMap,
    preset: Preset | None,
    points: PointSetting | None,
) -> Path:
    """Write the page, with what agrees in the photos and the places: patches, else points."""
    from dejavlad.report import located_pairs, located_points, write_locate_page

    shown = [] if preset is None else located_pairs(answers, listed, town, preset)
    if preset is None and points is not None:
        shown = located_points(answers, listed, town, points)
    page = out / "index.html"
    write_locate_page(answers, town, page, photos=listed, command=command_line(), matches=shown)
    return page
