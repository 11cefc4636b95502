"""One batch of photos to rows, wherever it is done: in this process, or by a worker on another machine.

Legend: N photos, D the descriptor's size, n photos of one batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.extraction.manifest import Setting
from dejavlad.extraction.photo_table import PhotoTable, Rows
from dejavlad.extraction.seconds import Seconds
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.images import Batch, Preprocess, load_batches
from dejavlad.photo import Photo

if TYPE_CHECKING:
    import torch

    from dejavlad.extraction.patches.making import PatchExtractor

Described = tuple[Rows, NDArray[np.float32], dict[int, str]]
"""The rows that are described, their descriptors [n, D], and row -> reason of the others."""


class Describer(Protocol):
    """What extraction asks of a model; `dejavlad.model.PlaceModel` is one."""

    preprocess: Preprocess
    precision: str

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def fingerprint(self) -> str:
        """What it is: its spec and weights, hashed."""

    @property
    def descriptor_size(self) -> int:
        """D, numbers in a descriptor."""

    def require_fitted(self) -> None:
        """Raises InputError unless all that it learns from photos is learnt."""

    def describe(self, images: torch.Tensor) -> torch.Tensor:
        """[n, 3, H, W] prepared photos -> [n, D]."""


Stream = Callable[
    [Describer, PhotoTable, list[Rows], int, "PatchExtractor | None", Seconds | None], Iterator[Described]
]
"""What describes planned batches, in their order; arguments and answers as of `described`."""


def described(
    model: Describer,
    table: PhotoTable,
    batches: list[Rows],
    workers: int,
    patching: PatchExtractor | None = None,
    seconds: Seconds | None = None,
    /,
) -> Iterator[Described]:
    """Describe planned batches in this process.

    Args:
        batches: rows of each batch.
        workers: threads that decode ahead.
        patching: makes and writes the photos' patches in the same pass.
        seconds: is added to: what the steps took.

    Raises:
        InputError: the model gave rows that are not finite.
    """
    seconds = Seconds() if seconds is None else seconds
    photos, sizes = table.photos, prepared_sizes(model.preprocess, table)
    loaded = load_batches(photos, batches, model.preprocess, workers=workers, sizes=sizes)
    with contextlib.closing(loaded) as stream, evaluating(model):
        for batch in seconds.waited(stream):
            seconds.decode += batch.seconds

            def describe(
                images: torch.Tensor, good: NDArray[np.bool_], rows: Rows = batch.rows
            ) -> torch.Tensor:
                if patching is None:
                    return model.describe(images)
                return patching.describe(images, rows, good, table)

            with seconds.of("network"):
                answer = describe_batch(model, batch, photos, describe)
            yield answer


def describe_batch(
    model: Describer,
    batch: Batch,
    photos: Sequence[Photo],
    describe: Callable[[torch.Tensor, NDArray[np.bool_]], torch.Tensor],
) -> Described:
    """Describe the photos of a loaded batch.

    Args:
        photos: the list that its rows are of.
        describe: photos [n, 3, h, w], and which of them [n] are good, to [n, D].

    Raises:
        InputError: the rows are not finite.
    """
    import torch

    failed = {int(row): error.reason for row, error in batch.failed.items()}
    good = np.array([int(row) not in failed for row in batch.rows], dtype=bool)
    values = np.empty((0, model.descriptor_size), np.float32)
    if good.any():
        try:
            with torch.inference_mode():
                rows_nD = describe(torch.as_tensor(batch.images), good)
            values = rows_nD.float().cpu().numpy()[good]
        except InputError as error:  # e.g. photos too small for the network
            failed = {int(row): failed.get(int(row), str(error)) for row in batch.rows}
            good[:] = False
    rows = batch.rows[good]
    for row, value in zip(rows, values, strict=True):
        if not np.isfinite(value).all():
            raise InputError(
                f"{model.name} describes {photos[int(row)].key!r} by NaN or infinity; its weights may be "
                "damaged"
            )
    seen = values.any(axis=1)
    failed |= dict.fromkeys(rows[~seen].tolist(), NO_DESCRIPTOR)
    return rows[seen], values[seen], failed


def setting_of(model: Describer, dtype: str = "float32") -> Setting:
    """What makes the rows of a store, of a model and how rows are stored."""
    return Setting(
        getattr(model, "title", model.name),
        model.fingerprint,
        model.preprocess.to_dict(),
        model.precision,
        model.descriptor_size,
        dtype,
    )


def prepared_sizes(preprocess: Preprocess, table: PhotoTable) -> list[tuple[int, int] | None]:
    """The prepared (height, width) of each photo; None where its size is not known."""
    return [preprocess.output_size(int(h), int(w)) if h and w else None for h, w in table.sizes]


@contextlib.contextmanager
def evaluating(model: Describer) -> Iterator[None]:
    """A network in training mode (dropout ...) describes as it does when it is not, and goes back to it."""
    import torch

    if not isinstance(model, torch.nn.Module):
        yield
        return
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
