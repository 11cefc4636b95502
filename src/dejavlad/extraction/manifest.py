"""What a descriptor store says of itself: the setting that made its rows, the photos, the plan of batches.

Legend: N photos, D the descriptor's size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from dejavlad.errors import InputError, StoreError, StoreMismatchError
from dejavlad.extraction.photo_table import PhotoTable, Rows
from dejavlad.guarded.fields import DAMAGED, check_column, checked_fields
from dejavlad.guarded.json_file import CHECKSUM, parse_json_object, with_checksum, without_checksum
from dejavlad.storage.identity import check_format

FORMAT = "dejavlad-descriptors"
VERSION = 1
DTYPES = ("float32", "float16")

INCOMPARABLE = (
    "Only descriptors of one model can be compared: describe database and queries with the same one, or give "
    "both as files of another program"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """All that decides a row besides its photo; rows of two settings never share a store."""

    model: str
    """The name of the model that made the rows; two names may stand for one model."""
    fingerprint: str
    """The model's fingerprint: its spec and weights."""
    preprocess: dict[str, Any]
    """How photos are prepared, as `Preprocess.to_dict` tells it."""
    precision: str
    """What the model computed in: ``"fp32"`` or ``"bf16"``."""
    dims: int
    """D, numbers in a row."""
    dtype: str = "float32"
    """What a row is stored as: ``"float32"`` or ``"float16"``."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"a store cannot hold {self.dtype!r}; valid: {', '.join(DTYPES)}")
        if self.dims < 1:
            raise InputError(f"a descriptor needs at least one dimension; given {self.dims}")
        object.__setattr__(self, "preprocess", as_read_again(self.preprocess))

    @property
    def made_by(self) -> dict[str, Any]:
        """The model and D, as results tell what made a ranking."""
        return {"name": self.model, "fingerprint": self.fingerprint, "dims": self.dims}

    def check(self, wanted: Setting, path: Path) -> None:
        """Refuse to go on where the store at `path` was made otherwise; the model's name alone may differ.

        Raises:
            StoreMismatchError: names every setting that differs.
        """
        check_same(asdict(self), asdict(wanted), path)

    def check_comparable(self, other: Setting, path: Path | None) -> None:
        """Refuse to compare rows of the store at `path` with those of another, unless one model made both.

        How rows are stored (float16, float32) may differ.

        Raises:
            StoreMismatchError: names every setting that differs.
        """
        own, others = ({**asdict(setting), "dtype": ""} for setting in (self, other))
        check_same(own, others, path or Path("these descriptors"), hint=INCOMPARABLE, other="queries")


def as_read_again(value: Any) -> Any:
    """What a value is once it was written as JSON and read: tuples become lists."""
    return json.loads(json.dumps(value))


def check_same(
    here: Mapping[str, Any], now: Mapping[str, Any], path: Path, *, hint: str = "", other: str = "now"
) -> None:
    """Refuse to go on where what made a store is not what is there now; the model's name alone may differ.

    Args:
        here: the store's setting, with ``model``, ``fingerprint`` and ``preprocess``.
        now: that of this run.
        hint: what to do; unless given, to write to another folder.
        other: what `now` is called: of this run, or of the queries.

    Raises:
        StoreMismatchError: names every setting that differs.
    """
    differences = {key: (here[key], now[key]) for key in here if here[key] != now[key] and key != "model"}
    if "fingerprint" in differences:
        del differences["fingerprint"]
        old, new = (f"{setting['model']} ({setting['fingerprint'][:12]})" for setting in (here, now))
        differences = {"model": (old, new), **differences}
    if "preprocess" in differences:
        old_steps, new_steps = differences.pop("preprocess")
        for step in sorted({*old_steps, *new_steps}):
            if old_steps.get(step) != new_steps.get(step):
                differences[f"preprocess.{step}"] = (old_steps.get(step), new_steps.get(step))
    if differences:
        raise StoreMismatchError(path, differences, hint, other)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole of ``manifest.json``."""

    setting: Setting
    """What made the rows."""
    table: PhotoTable
    """The photos, row by row."""
    batch_size: int
    """Photos in a batch, at most."""
    batches: list[Rows]
    """The plan, made once: rows described together, the unit of commit. No batch has unreadable photos."""
    checked: bool = field(default=True, compare=False)
    """Whether the file it was read from had a checksum; stores of earlier versions have none."""

    def to_json(self) -> str:
        """The text of the file, with its checksum at the end; equal manifests give equal text."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "setting": asdict(self.setting),
            "batch_size": self.batch_size,
            **self.table.to_dict(),
            "batches": [batch.tolist() for batch in self.batches],
        }
        return json.dumps(with_checksum(content), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, path: Path) -> Self:
        """The manifest that `to_json` wrote; `path` is named in errors.

        Raises:
            StoreError: it is no such manifest, or of a later version.
        """
        try:
            data = parse_json_object(text)
            check_format(data, FORMAT, VERSION, path)
            checked, data = CHECKSUM in data, without_checksum(data)
            table, batches = PhotoTable.from_dict(data), data["batches"]
            check_column("batches", batches, list[int])
            planned = [row for batch in batches for row in batch]
            if len(set(planned)) < len(planned) or (
                planned and not 0 <= min(planned) <= max(planned) < len(table)
            ):
                raise ValueError("its batches are of other photos")
            return cls(
                checked_fields(Setting(**data["setting"])),
                table,
                int(data["batch_size"]),
                [np.asarray(batch, np.int64) for batch in batches],
                checked,
            )
        except DAMAGED as error:
            raise StoreError(f"{str(path)!r} is not a manifest of descriptors: {error}") from error


def batch_set(batches: Sequence[Rows]) -> set[bytes]:
    """The batches as a set, to ask whether one is among them."""
    return {np.ascontiguousarray(batch, np.int64).tobytes() for batch in batches}
