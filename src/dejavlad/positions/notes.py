"""A list of photos with their new positions, and what is to be said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from dejavlad.errors import InputError
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.diagnosis import at_zero


def placed_photos(
    photos: PhotoList,
    new: Sequence[Photo | None],
    sources: Sequence[str],
    *,
    zeros: Sequence[int] = (),
    notes: Sequence[str] = (),
    what: str = "",
    strict: bool = True,
) -> PhotoList:
    """The list with its new photos, and notes of what they know.

    Args:
        photos: the list as it was.
        new: the photos with what is told of them; None where nothing is.
        sources: what tells each photo's position.
        zeros: rows whose position is 0,0, and was left out already.
        notes: what else is to be said.
        what: what none of the photos has, where all lack it.
        strict: whether it is an error that no photo is told of.

    Raises:
        InputError: no photo is told of.
    """
    if strict and photos and not any(new):
        raise InputError(
            f"none of the {len(photos)} photos of {photos.name} (e.g. {photos[0].name!r}) {what}"
        )
    both = [photo_new or old for photo_new, old in zip(new, photos, strict=True)]
    at_origin = at_zero([photo.position for photo in both])
    both = [replace(photo, position=None) if i in at_origin else photo for i, photo in enumerate(both)]
    both, unlike = _one_plane(both)
    extra = list(notes)
    if unlike:
        extra.insert(
            0,
            f"{len(unlike)} positions are on another kind of plane (with a UTM zone, or without) than the "
            f"others, and are left out, e.g. that of {unlike[0]!r}",
        )
    if all_zeros := {*zeros, *at_origin}:
        extra.insert(0, _zeros_text(photos, all_zeros))
    counts = Counter(
        source if photo_new is not None and source else ""
        for photo, photo_new, source in zip(both, new, sources, strict=True)
        if photo.position is not None
    )
    text = _positions_text(photos.name, both, counts)
    extra = [note if note.startswith(photos.name) else f"{photos.name}: {note}" for note in extra]
    return photos.like(both, notes=(*photos.notes, text, *extra))


def _positions_text(name: str, photos: Sequence[Photo], counts: Counter[str]) -> str:
    """How many photos of a list have a position: `counts` by source, empty for those that had one before."""
    lacking = [photo.name for photo in photos if photo.position is None]
    origin = " and ".join(
        f"{count} from {source}" if source else f"{count} had one" for source, count in counts.most_common()
    )
    if len(counts) == 1 and "" not in counts:
        origin = f"from {next(iter(counts))}"
    text = f"{name}: {len(photos) - len(lacking)} of {len(photos)} photos have a position"
    text += f" ({origin})" if origin else ""
    if 0 < len(lacking) < len(photos):
        text += f"; {len(lacking)} {'has' if len(lacking) == 1 else 'have'} none, e.g. {lacking[0]!r}"
    return text


def without_zeros(photos: PhotoList) -> PhotoList:
    """The list without positions that are 0,0 (`diagnosis.at_zero`), and a note of how many these were."""
    at_origin = at_zero(photos.positions)
    if not at_origin:
        return photos
    rest = [replace(photo, position=None) if i in at_origin else photo for i, photo in enumerate(photos)]
    note = f"{photos.name}: {_zeros_text(photos, at_origin)}"
    return photos.like(rest, notes=(*photos.notes, note))


def _zeros_text(photos: PhotoList, rows: Collection[int]) -> str:
    return (
        f"{len(rows)} positions are 0,0, which means none, and are left out, e.g. that of "
        f"{photos[min(rows)].name!r}"
    )


def _one_plane(photos: list[Photo]) -> tuple[list[Photo], list[str]]:
    """The photos without positions that cannot be compared with those of most, and the names of these."""
    zoned = Counter(photo.position.zone is not None for photo in photos if photo.position is not None)
    if len(zoned) < 2:
        return photos, []
    zoned_most = zoned.most_common(1)[0][0]
    unlike = [p.position is not None and (p.position.zone is not None) != zoned_most for p in photos]
    rest = [
        replace(photo, position=None) if apart else photo for photo, apart in zip(photos, unlike, strict=True)
    ]
    return rest, [photo.name for photo, apart in zip(photos, unlike, strict=True) if apart]
