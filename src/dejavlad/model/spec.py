"""What a model is made of, as data: all of ``spec.json`` but the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dejavlad.errors import CheckpointError, InputError
from dejavlad.files import sha256_of
from dejavlad.guarded.fields import DAMAGED, checked_fields
from dejavlad.guarded.json_file import read_json_object, without_checksum
from dejavlad.guarded.plain_file import check_regular
from dejavlad.images import Preprocess

SPEC, WEIGHTS = "spec.json", "weights.safetensors"
"""The files of a model folder."""
FORMAT_VERSION = 1
"""Version of the model folder; a folder of another version is refused."""

CUSTOM = "custom"
"""Name of a backbone that is no entry of the table: any module, given anew when its model is loaded."""


LARGEST_SIZE = 1 << 20
"""Of channels, clusters and dimensions; what is larger would only take memory."""


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """Which network makes feature maps of photos, and where it is cut."""

    name: str
    """Its name in the table of backbones, or `CUSTOM`."""
    cut: str | None = None
    """The layer that the network ends with; None where the backbone has no layers to choose from."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its other settings."""


@dataclass(frozen=True, slots=True)
class AggregationSpec:
    """Which layer makes descriptors of feature maps, and its settings."""

    name: str
    """Its name in the table of aggregations."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its settings, as its constructor takes them."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model is made of: all that ``spec.json`` keeps besides the checksums."""

    name: str
    """What it is called."""
    backbone: BackboneSpec
    """Photo to feature map."""
    aggregation: AggregationSpec
    """Feature map to descriptor."""
    preprocess: Preprocess
    """File to photo."""
    whitening: int | None = None
    """Dimensions that the whitening layer keeps; None without one."""
    patch_whitening: int | None = None
    """Dimensions that the whitening of patches keeps, where they have one of their own."""
    dims: int | None = None
    """Dimensions kept of what comes out, then of unit length again; None keeps all."""
    fitted: bool = True
    """Whether all that is learnt from photos is learnt; if not, the model cannot describe yet."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where weights, clusters and whitening come from; for people, it changes no answer."""

    def answer(self) -> dict[str, Any]:
        """The fields that change descriptors of photos, as JSON values: neither name nor provenance."""
        whole = self.to_dict()
        return {key: whole[key] for key in whole if key not in ("name", "provenance", "patch_whitening")}

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        fields = {
            "name": self.name,
            "backbone": asdict(self.backbone),
            "aggregation": asdict(self.aggregation),
            "preprocess": self.preprocess.to_dict(),
            "whitening": None if self.whitening is None else {"dims": self.whitening},
            "dims": self.dims,
            "fitted": self.fitted,
            "provenance": dict(self.provenance),
        }
        if self.patch_whitening is not None:
            fields["patch_whitening"] = {"dims": self.patch_whitening}
        plain: dict[str, Any] = json.loads(json.dumps(fields, allow_nan=False))
        return plain

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ModelSpec:
        """Make a spec of the fields that `to_dict` returned.

        Raises:
            CheckpointError: a field is missing, unknown, or cannot be that.
        """
        try:
            given = dict(fields)
            backbone, aggregation = given.pop("backbone"), given.pop("aggregation")
            whitening, of_patches = given.pop("whitening"), given.pop("patch_whitening", None)
            made = cls(
                backbone=checked_fields(BackboneSpec(**backbone)),
                aggregation=checked_fields(AggregationSpec(**aggregation)),
                preprocess=Preprocess.from_dict(given.pop("preprocess")),
                whitening=None if whitening is None else int(whitening["dims"]),
                patch_whitening=None if of_patches is None else int(of_patches["dims"]),
                **given,
            )
            _check_sizes([backbone, aggregation, made.whitening, made.patch_whitening, made.dims])
            return checked_fields(made)
        except KeyError as error:
            raise CheckpointError(f"spec.json: {error} is missing") from None
        except DAMAGED as error:
            raise CheckpointError(f"spec.json: {error}") from None


def read_spec(folder: Path) -> dict[str, Any]:
    """What a model folder's ``spec.json`` says: `ModelSpec`'s fields, ``fingerprint`` and ``weights_sha256``.

    Raises:
        CheckpointError: it is no model folder, is damaged, or of another format.
    """
    try:
        fields = without_checksum(read_json_object(folder / SPEC))
        version = fields.pop("format")
    except FileNotFoundError:
        what = "it has no spec.json" if folder.exists() else "there is nothing there"
        raise CheckpointError(f"{str(folder)!r} is no model folder: {what}") from None
    except NotADirectoryError:
        raise CheckpointError(
            f"{str(folder)!r} is a file; a model is a folder with {SPEC} and {WEIGHTS}, or a name"
        ) from None
    except DAMAGED as error:
        raise CheckpointError(f"{str(folder / SPEC)!r} cannot be read: {error}") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{str(folder)!r} is of model format {version!r}; this dejavlad reads format {FORMAT_VERSION}"
        )
    return dict(fields)


def check_weights(folder: Path) -> None:
    """Compare the file of weights with its checksum.

    Raises:
        CheckpointError: it is not the file that was saved, is missing, or cannot be read.
    """
    sha256 = read_spec(folder).get("weights_sha256")
    try:
        check_regular(folder / WEIGHTS)
        if sha256 != sha256_of(folder / WEIGHTS):
            raise ValueError("it is not the file that was saved (its SHA-256 differs from spec.json's)")
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r} has no {WEIGHTS}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(folder / WEIGHTS)!r} cannot be read: {error}") from None


def _check_sizes(options: Any) -> None:
    if isinstance(options, Mapping):
        options = list(options.values())
    if isinstance(options, list):
        for inner in options:
            _check_sizes(inner)
    elif isinstance(options, int) and abs(options) > LARGEST_SIZE:
        raise InputError(f"a size of {options} cannot be; at most {LARGEST_SIZE}")
