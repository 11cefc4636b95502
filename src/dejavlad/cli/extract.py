"""`dejavlad extract`: photos to descriptors on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from dejavlad.cli.options import MachineOptions, ModelOptions, RerankOptions
from dejavlad.cli.sources import ListOptions, cut
from dejavlad.cli.terminal import Flag, Output
from dejavlad.errors import InputError
from dejavlad.failures import failures_dict
from dejavlad.progress import OnProgress

if TYPE_CHECKING:
    from dejavlad.extraction import DescriptorStore, Shard
    from dejavlad.extraction.seconds import Seconds
    from dejavlad.model.place_model import PlaceModel
    from dejavlad.places.preset import Preset


@Parameter(name="*", group="Files for other programs")
@dataclass(frozen=True)
class FileOptions:
    """Files that other programs read, beside the store."""

    patchfeats: Path | None = None
    "Also write descriptors and patches as Patch-NetVLAD does, into this folder."
    bin: Path | None = None
    "Also write descriptors as one raw file, as NetVLAD's `serialAllFeats` does."
    order: Literal["dejavlad", "matlab"] = "dejavlad"
    "In that file: `matlab` has the cluster of un-whitened VLAD run fastest."

    def check(self, shard: Shard | None) -> None:
        """Refuse what cannot be written.

        Raises:
            InputError: an order without a file, or files of one shard alone.
        """
        if self.order == "matlab" and self.bin is None:
            raise InputError("--order matlab is the order of numbers in a raw file; give --bin FILE too")
        if shard is not None and (self.bin is not None or self.patchfeats is not None):
            raise InputError(
                "--bin and --patchfeats are of all photos: merge the shards first, then extract into the "
                "merged store, which describes nothing anew"
            )

    def write(self, store: DescriptorStore, model: PlaceModel, out: Path, on_progress: OnProgress) -> None:
        """Write them, of a store and of the patches in it."""
        from dejavlad.extraction import write_bin
        from dejavlad.extraction.patches import PatchStore, write_patchfeats

        if self.patchfeats is not None:
            write_patchfeats(store, PatchStore.open(out), self.patchfeats, on_progress=on_progress)
        if self.bin is not None:
            write_bin(store, self.bin, clusters=_clusters(model) if self.order == "matlab" else None)


@Parameter(name="*")
@dataclass(frozen=True)
class StoreOptions:
    """What is stored of each photo."""

    panorama: str | None = None
    "Cut panoramas into so many views, as `map build` does."
    dtype: Literal["float32", "float16"] = "float32"
    "How descriptors are stored."
    patches: Flag = False
    """Also make the patches that re-ranking compares, into the same store (`--preset` says which; default:
    speed's)."""

    def preset(self, reranking: RerankOptions, files: FileOptions) -> Preset | None:
        """The patches that are made; None for none.

        Raises:
            InputError: options of patches, and none are wanted, or none are stored.
        """
        from dejavlad.places.preset import FRESH, load_preset

        given = reranking.chosen()
        if not self.patches and files.patchfeats is None:
            if given is not None:
                raise InputError("--preset says which patches are made; give --patches too")
            return None
        preset = given or load_preset("speed")
        if preset.patch_dtype == FRESH:
            raise InputError("--patch-dtype none stores no patches; leave --patches out")
        return preset

    def form(self, preset: Preset | None, model: PlaceModel) -> dict[str, Any]:
        """In which form descriptors and patches are stored, as `dejavlad.extract` takes it."""
        if preset is None:
            return {"dtype": self.dtype}
        patches = preset.patches_of(model)
        return {"dtype": self.dtype, "patches": patches, "patch_dtype": preset.patch_dtype}


def extract(
    model: str,
    photos: str,
    /,
    *,
    out: Path,
    stored: StoreOptions = StoreOptions(),
    reranking: RerankOptions = RerankOptions(),
    files: FileOptions = FileOptions(),
    sources: ListOptions = ListOptions(),
    machines: MachineOptions = MachineOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Describe photos into a resumable store; run it again and it goes on where it stopped.

    Examples:

        dejavlad extract rootsift-vlad photos/ --out photos.desc
        dejavlad extract MODEL photos/ --out photos.desc --patches --preset storage
        dejavlad extract MODEL photos/ --shard 2/4 --out photos.2

    Parameters
    ----------
    model
        A model's name (`dejavlad models`) or folder. One that learns its vocabulary from photos learns it
        from these, and is kept beside the store as `OUT.model`.
    photos
        A folder, a text file with one path a line, a video, or a dataset part (`NAME:database`).
    out
        The store, a folder.
    """
    from dejavlad.extraction import extract as fill
    from dejavlad.extraction.seconds import Seconds

    shard, seconds = machines.share(), Seconds()
    files.check(shard)
    listed = cut(sources.listed(photos), stored.panorama, output)
    preset = stored.preset(reranking, files)
    with output.progress() as on_progress:
        beside = out.with_name(out.name + ".model")
        opened = options.fitted(options.load(model, on_progress, preset=preset), listed, beside, on_progress)
        if preset is not None:
            from dejavlad.places.fitted_model import for_patches

            opened = for_patches(opened, listed, beside, preset.patches, on_progress=on_progress)
        store = fill(
            opened,
            listed,
            out,
            batch_size=options.batch_size,
            workers=options.workers,
            **stored.form(preset, opened),
            shard=shard,
            ray=machines.ray,
            seconds=seconds,
            on_progress=on_progress,
        )
        files.write(store, opened, out, on_progress)
    _answer(store, out, opened, seconds, output)


def _answer(store: DescriptorStore, out: Path, model: PlaceModel, seconds: Seconds, output: Output) -> None:
    described, share = int(store.done.sum()), store.shard
    summary = {
        "store": str(out),
        "photos": len(store),
        "described": described,
        **failures_dict(store.failed),
        "dims": store.dims,
        "model": {"name": model.title, "fingerprint": model.fingerprint},
        **({} if share is None else {"shard": str(share)}),
        "seconds": seconds.to_dict(),
    }
    of_shard = "" if share is None else f" of shard {share}"
    text = f"{described} of {len(store)} photos{of_shard} described, {store.dims} dims: {out}\n{seconds}"
    output.answer(summary, text)
    output.failures(store.failed)


def _clusters(model: PlaceModel) -> int | None:
    """K, where descriptors are un-whitened VLAD; None where their order has no clusters."""
    whitened = model.whitening is not None or model.dims is not None
    return None if whitened else getattr(model.aggregation, "clusters", None)
