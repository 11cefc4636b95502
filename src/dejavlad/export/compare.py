"""A runtime's answers against dejavlad's own, number by number.

Shapes: N photos, D numbers of a descriptor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.export.certificate import LEAST_COSINE, Answers
from dejavlad.export.network import as_bytes
from dejavlad.export.runtimes import Session
from dejavlad.images import read_image
from dejavlad.model import PatchSetting, PlaceModel
from dejavlad.photo import Photo

Size = tuple[int, int]
PHOTOS = 32
"""The most photos that are compared; more are drawn evenly from them."""
BATCHES = (1, 3)
"""Numbers of photos that go through the network together."""
MADE = 8


def sample(photos: Iterable[Photo], rotate: bool) -> list[NDArray[np.uint8]]:
    """At most `PHOTOS` of a list, evenly drawn and read: uint8 [H, W, 3].

    Raises:
        PhotoError: one cannot be read.
    """
    listed = list(photos)
    rows = np.unique(np.linspace(0, len(listed) - 1, min(len(listed), PHOTOS)).astype(int))
    return [read_image(listed[row], rotate=rotate) for row in rows]


def compare(
    model: PlaceModel,
    session: Session,
    images: Sequence[NDArray[np.uint8]],
    sizes: Sequence[Size],
    *,
    runtime: str,
    precision: str,
    as_precision: str | None = None,
    patches: PatchSetting | None = None,
    with_preprocess: bool = False,
) -> Answers:
    """Describe photos with both, alone and together.

    Args:
        model: in PyTorch; it computes in float32 for this.
        session: the same network, exported.
        images: photos, at least 3, of any sizes.
        sizes: (height, width) to which all of them are resized for the first, and the first 3 for the others.
        runtime: the session's name.
        precision: in which it computes.
        as_precision: whose `LEAST_COSINE` counts; default: that of `precision`.
        patches: also compare these.
        with_preprocess: the session takes bytes.

    Raises:
        InputError: either cannot describe photos of such a size.
    """
    ours, theirs = [], []
    cosines: list[NDArray[np.float64]] = []
    difference = 0.0
    for counts, expected, made in _pairs(model, session, images, sizes, patches, with_preprocess):
        for ours_ND, theirs_ND in zip(expected, made, strict=True):
            cosines.append(row_cosines(ours_ND, theirs_ND))
            difference = max(difference, float(np.abs(ours_ND - theirs_ND).max()))
        if counts:
            ours.append(expected[0])
            theirs.append(made[0])
    every = np.concatenate(cosines)
    least = float(every.min()) if np.isfinite(every).all() else -1.0
    first, order = _rankings(np.concatenate(ours), np.concatenate(theirs))
    return Answers(
        runtime=runtime,
        version=session.version,
        precision=precision,
        photos=len(images),
        sizes=tuple(sizes),
        batches=BATCHES if model.alone else BATCHES[:1],
        cosine_min=round(least, 9),
        cosine_mean=round(float(every.mean()), 9) if least > -1 else -1.0,
        difference=difference if np.isfinite(difference) else 1e9,
        same_first=first,
        same_order=order,
        ok=least >= LEAST_COSINE[as_precision or precision],
    )


def _pairs(
    model: PlaceModel,
    session: Session,
    images: Sequence[NDArray[np.uint8]],
    sizes: Sequence[Size],
    patches: PatchSetting | None,
    with_preprocess: bool,
) -> Iterator[tuple[bool, list[NDArray[np.float32]], list[NDArray[np.float32]]]]:
    """Batch by batch, whether it is one of all photos, and what the model and the session make of it."""
    plain = model.with_preprocess(model.preprocess)
    plain.engine, plain.precision = None, "fp32"
    for at, size in enumerate(sizes):
        chosen = images if at == 0 else images[:3]
        prepare = replace(model.preprocess, resize=f"{size[0]}x{size[1]}", multiple=1)
        prepared = torch.stack([torch.from_numpy(prepare(image)) for image in chosen])
        for counts, part in _batches(prepared, at == 0, BATCHES[1] if model.alone else 1):
            fed = as_bytes(part, model.preprocess) if with_preprocess else part
            made = list(session.run(np.ascontiguousarray(fed.numpy())))
            with plain.describing():
                expected = _expected(plain, part, patches)
            yield counts, expected, made if patches is None else made[:-1]


def _batches(prepared: Tensor, whole: bool, together: int) -> Iterable[tuple[bool, Tensor]]:
    """One photo alone, and (True) all of them in batches, the last of which may be smaller."""
    yield False, prepared[:1]
    if whole:
        for start in range(0, len(prepared), together):
            yield True, prepared[start : start + together]


def _expected(
    model: PlaceModel, images_NCHW: Tensor, patches: PatchSetting | None
) -> list[NDArray[np.float32]]:
    if patches is None:
        return [model.describe(images_NCHW).numpy()]
    rows_ND, sets = model.describe_with_patches(images_NCHW, patches)
    by_size = [
        torch.stack([photo[at].descriptors for photo in sets]).float().numpy()
        for at in range(len(patches.sizes))
    ]
    return [rows_ND.numpy(), *by_size]


def row_cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
    """[N...]: of descriptors, of which the last axis has the numbers; two that are zero are the same."""
    a, b = (rows.reshape(-1, rows.shape[-1]).astype(np.float64) for rows in (ours, theirs))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    return np.asarray(np.where(both_zero, 1.0, (a * b).sum(axis=1) / np.maximum(lengths, 1e-30)))


def _rankings(ours_ND: NDArray[np.float32], theirs_ND: NDArray[np.float32]) -> tuple[float, float]:
    """Shares of photos with the same most similar other photo, and of pairs of others in the same order."""
    a, b = (rows.astype(np.float64) @ rows.astype(np.float64).T for rows in (ours_ND, theirs_ND))
    n = len(a)
    if n < 3:
        return 1.0, 1.0
    firsts, orders = [], []
    for row in range(n):
        others = np.arange(n) != row
        x, y = a[row, others], b[row, others]
        firsts.append(x.argmax() == y.argmax())
        orders.append(np.sign(x[:, None] - x[None]) == np.sign(y[:, None] - y[None]))
    return float(np.mean(firsts)), float(np.mean(orders))
