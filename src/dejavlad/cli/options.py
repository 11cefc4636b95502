"""Options that verbs share, each default written once."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from dejavlad.cli.terminal import Flag, Output
from dejavlad.errors import InputError
from dejavlad.progress import OnProgress, silent
from dejavlad.settings import PREFIX

if TYPE_CHECKING:
    import torch

    from dejavlad.evaluation.protocols import Protocol
    from dejavlad.extraction import DescriptorStore, Shard
    from dejavlad.model.place_model import PlaceModel
    from dejavlad.photo import PhotoList
    from dejavlad.pipelines import Scoring
    from dejavlad.pipelines.evaluation import DescribingHere
    from dejavlad.places import PlaceMap
    from dejavlad.places.filters import Filter
    from dejavlad.places.preset import Preset
    from dejavlad.places.verification.points import PointSetting

MAX_PIXELS = f"{PREFIX}MAX_PIXELS"


@Parameter(name="*", group="Model")
@dataclass(frozen=True)
class WeightOptions:
    """What a model is made of, and where it is computed."""

    weights: str | None = None
    "Weights of the backbone, or of a published network: a file (.pth, .safetensors, .npz), or random:SEED."
    input: Literal["torchvision", "caffe"] | None = None
    "Preprocessing of the weights (default: the backbone's own)."
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    "Where to compute."
    offline: Flag = False
    "Never download."


@Parameter(name="*", group="Model")
@dataclass(frozen=True)
class ModelOptions(WeightOptions):
    """How a model is opened and run."""

    resize: str | None = None
    "HxW, longest:N, shortest:N, most:N or none (default: the model's own)."
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    "bf16 is faster where the processor has it; int8 is that of exports made with --int8."
    runtime: Literal["auto", "torch", "mnn", "openvino", "onnxruntime"] = "torch"
    "What computes the network; auto: the fastest that is installed and answers the same."
    batch_size: int = 8
    "Photos described at once."
    workers: int = 2
    "Threads that decode photos (the answer does not depend on it)."
    dims: str | None = None
    "Keep the first D dimensions of the descriptors (`evaluate` takes several, with commas between)."
    seed: int = 0
    "Seed of all that is drawn at random."
    levels: str | None = None
    "How photos of more than 8 bits become 8: photo (each stretched as it needs), upper, or LOW,HIGH."
    reduce: Annotated[bool | None, Parameter(negative="--no-reduce")] = None
    "Decode large JPEG files smaller where the network needs no more: quicker, other in the last digits."
    max_pixels: int | None = None
    "Refuse photos that claim more pixels (default: as configured, 178956970)."
    batch_dependent: Flag = False
    "Let photos of a batch change each other's descriptors, in models that do that; allow maps of them."

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("workers", 0), ("max_pixels", 1)):
            given = getattr(self, name)
            if given is not None and given < least:
                raise InputError(f"--{name.replace('_', '-')} {given}: give {least} or more")
        if self.max_pixels is not None:  # for all that this process, and those it starts, will read
            os.environ[MAX_PIXELS] = str(self.max_pixels)

    @property
    def resolved_device(self) -> torch.device:
        """Where to compute, `auto` resolved."""
        from dejavlad.model.device import resolve_device

        return resolve_device(self.device)

    def describing(self, on_progress: OnProgress) -> DescribingHere:
        """What functions that describe photos take of these options, by its name."""
        return {
            "batch_size": self.batch_size,
            "workers": self.workers,
            "seed": self.seed,
            "on_progress": on_progress,
        }

    def chosen(self, model: str | None, output: Output) -> str:
        """The model that is named, else the best that works here without a download, which is then told."""
        from dejavlad.zoo import default_model

        if model is not None:
            return model
        name, why = default_model()
        output.note(f"model: {name}" + (f" ({why})" if why else ""))
        return name

    @property
    def dims_list(self) -> tuple[int, ...]:
        """The dimensions asked for, ascending; none for all."""
        return tuple(sorted(set(numbers("--dims", self.dims)))) if self.dims is not None else ()

    @property
    def one_dims(self) -> int | None:
        """The number of dimensions; None for all.

        Raises:
            InputError: several are given, which `evaluate` alone takes.
        """
        if len(self.dims_list) > 1:
            raise InputError(
                f"--dims {self.dims}: give one number of dimensions; only `evaluate` takes several"
            )
        return max(self.dims_list, default=None)

    def load(
        self,
        model: str,
        on_progress: OnProgress = silent,
        *,
        preset: Preset | None = None,
        several_dims: bool = False,
    ) -> PlaceModel:
        """The model by name, folder or file, with these options; `on_progress` is told of downloads.

        What the options leave open, a preset of re-ranking decides: the photos' size, and how many whitened
        dimensions are kept at most. Of several numbers of dimensions, where these are taken, the largest.
        """
        from dejavlad.zoo.listing import refuse_unknown

        refuse_unknown(model)  # before torch is imported
        from dejavlad.zoo.resolve import load_model

        loaded = load_model(
            model,
            device=self.device,
            precision=self.precision,
            weights=self.weights,
            input=self.input,
            resize=self.resize or (preset.resize if preset is not None else None),
            dims=max(self.dims_list, default=None) if several_dims else self.one_dims,
            levels=self.levels,
            reduce=self.reduce,
            seed=self.seed,
            offline=self.offline or None,
            runtime=self.runtime,
            on_progress=on_progress,
        )
        if (
            preset is not None
            and preset.dims is not None
            and not self.dims_list
            and loaded.whitening is not None
        ):
            loaded = loaded.with_dims(min(preset.dims, loaded.whitening.dims))
        loaded.together = self.batch_dependent
        return loaded

    @property
    def of_model(self) -> list[str]:
        """The options that are given of what a model makes of a photo; of no use without a model."""
        names = ("weights", "input", "resize", "dims", "levels", "reduce")
        given = [name for name in names if getattr(self, name) is not None]
        return [f"--no-{name}" if getattr(self, name) is False else f"--{name}" for name in given]

    def refuse_of_model(self, what: str, model: str | None = None, *, except_for: str = "") -> None:
        """Raises InputError if a model is given, or an option of one other than `except_for`."""
        given = [*(["--model"] if model is not None else []), *self.of_model]
        if given := [option for option in given if option != except_for]:
            raise InputError(f"{what} is described already: leave {' and '.join(given)} out")

    def open_map(self, place_map: str, output: Output) -> PlaceMap:
        """A map, its model run with these options; those that it does not take are noted."""
        from dejavlad.places.stored_map import refuse_no_map

        refuse_no_map(place_map)  # before torch is imported
        from dejavlad.places import PlaceMap

        if given := self.of_model:
            output.note(
                f"photos are described by the map's own model, as it is: no effect of {' and '.join(given)}"
            )
        return PlaceMap.open(place_map, device=self.device, precision=self.precision, runtime=self.runtime)

    def of_store(self, store: DescriptorStore) -> PlaceModel:
        """The model that made a store, with the precision of its rows.

        Raises:
            InputError: options of what a model makes of photos are given.
        """
        from dejavlad.places.map_folder.rows import model_of_store

        self.refuse_of_model(str(store.path or store.photos.name))
        precision = store.manifest.setting.precision
        return model_of_store(store, device=self.device, precision=precision, offline=self.offline or None)

    def fitted(
        self, model: PlaceModel, photos: PhotoList, folder: Path, on_progress: OnProgress
    ) -> PlaceModel:
        """The model; one that learns from photos learns from these, and is kept in `folder`."""
        from dejavlad.places.fitted_model import fit_cached

        if model.fitted:
            return model
        return fit_cached(
            model, photos, folder, seed=self.seed, workers=self.workers, on_progress=on_progress
        )


@Parameter(name="*", group="Machines")
@dataclass(frozen=True)
class MachineOptions:
    """How the work is shared between machines."""

    shard: str | None = None
    "I/N: describe share I of N alone (I from 1 to N); once all N are done, they make one store."

    ray: str | None = None
    "Describe on a Ray cluster: auto (this machine's), HOST:PORT, or ray://HOST:PORT."

    def share(self) -> Shard | None:
        """The shard that is asked for; None for all."""
        if self.shard is None:
            return None
        from dejavlad.extraction import Shard

        return Shard.of(self.shard)


@Parameter(name="*", group="Filters before ranking")
@dataclass(frozen=True)
class FilterOptions:
    """Which photos of the map may be answers; what passes is searched exactly."""

    near: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    "LAT,LON,METRES, or exif:METRES from the query's own position."
    after: str | None = None
    "Taken then or later: ISO 8601, as 2024-05-31 or 2024-05-31T14:30+02:00."
    before: str | None = None
    "Taken then or earlier."
    heading: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    "DEGREES+-TOLERANCE, clockwise from north: 90+-30."

    def filter(self) -> Filter | None:
        """The filter that is asked for, if any."""
        from dejavlad.places.filters import Filter

        return Filter.of(self.near, self.after, self.before, self.heading)


@Parameter(name="*", group="Scoring")
@dataclass(frozen=True)
class ScoringOptions:
    """How rankings are made and scored."""

    recall_at: str = "1,5,10"
    "N of recall@N, with commas between."
    misses: Literal["count", "drop"] | None = None
    """Whether queries without a right answer `count` as misses or are dropped (`drop`). Default: as the
    protocol says, else they count."""
    k: Annotated[int, Parameter(name="-k")] = 100
    "Depth of the ranking."
    index: str = "flat"
    "The kind of index: `exact` (`flat`), `float16`, `int8`, `1bit`, `ivf`, `hnsw`, or faiss's own."

    def scoring(self, named: Protocol | None = None) -> Scoring:
        """As pipelines take it, under a protocol, which says which queries count.

        Raises:
            InputError: the protocol says otherwise.
        """
        from dejavlad.pipelines.scoring import Scoring

        if named is not None and self.misses not in (None, named.misses):
            raise InputError(f"{named.name} has --misses {named.misses}: leave out --misses or --protocol")
        return Scoring(
            recall_at=numbers("--recall-at", self.recall_at),
            k=self.k,
            misses=self.misses or (named.misses if named is not None else "count"),
            index=self.index,
            protocol=None if named is None else named.name,
        )


@Parameter(name="*", group="Re-ranking")
@dataclass(frozen=True)
class RerankOptions:
    """How the first answers are compared patch by patch."""

    rerank: Literal["none", "rapid", "ransac", "auto", "sift", "xfeat", "aliked", "disk"] | None = None
    "Compare the first answers by patches (rapid, ransac) or local features (auto: the best installed)."
    preset: str | None = None
    "performance, speed, storage (the original's), a .toml of your own, or an .ini of the original."
    depth: int | None = None
    "Answers of each query that are compared (default: the preset's, 100)."
    shortlist: int | Literal["auto", "none"] | None = None
    "Compare all of them roughly first, and only so many exactly; auto: as many as it takes (default: none)."
    patch_dtype: Literal["float32", "float16", "int8", "pq", "none"] | None = None
    "How patches are stored (default: the preset's); none makes them when they are compared."

    def chosen(self, *, depth: int | None = None) -> Preset | None:
        """What that asks for, with another depth where none is told; None for no re-ranking.

        Raises:
            InputError: local features are asked for, where only patches can be compared.
        """
        from dejavlad.places.preset import chosen_preset

        if self.points() is not None:
            raise InputError(
                f"--rerank {self.rerank} is for `evaluate` and `rerank`; give rapid or ransac, or --verify"
            )
        preset = chosen_preset(
            self.rerank,
            self.preset,
            depth=self.depth,
            shortlist=self.shortlist,
            patch_dtype=self.patch_dtype,
        )
        return preset if preset is None or self.depth is not None else preset.with_options(depth=depth)

    def points(self) -> PointSetting | None:
        """The local features that are asked for; None where none are."""
        from dejavlad.local import AUTO, EXTRACTORS
        from dejavlad.places.verification.points import PointSetting

        if self.rerank not in (AUTO, *EXTRACTORS):
            return None
        if any(given is not None for given in (self.preset, self.shortlist, self.patch_dtype)):
            raise InputError(
                f"--preset, --shortlist and --patch-dtype are for patches; --rerank {self.rerank} has none"
            )
        setting = PointSetting(self.rerank)
        return setting if self.depth is None else replace(setting, depth=self.depth)


def numbers(option: str, text: str) -> tuple[int, ...]:
    """``"1,5,10"`` to (1, 5, 10).

    Raises:
        InputError: it holds something other than whole numbers of 1 or more.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(f"{option} {text!r}: give whole numbers of 1 or more with commas between")
    return tuple(int(part) for part in parts)


LocalKind = Literal["auto", "sift", "xfeat", "aliked", "disk"]
"""Kinds of local features; auto is the best that is installed."""
Verify = Literal["auto", "none", "sift", "xfeat", "aliked", "disk"]
"""By which local features answers are verified."""


def point_setting(kind: str | None, output: Output) -> PointSetting | None:
    """How photos are compared by local features, a kind that had to do being told; None for not at all."""
    if kind in (None, "none"):
        return None
    from dejavlad.places.verification.points import PointSetting

    setting = PointSetting.parse(kind)
    if setting is None:
        return None
    if why := setting.chosen().second_best:
        output.note(why)
    return setting
