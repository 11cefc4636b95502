"""Networks that others have trained and published: where they are, and under which licence.

Their publishers give no checksums, so the first download's is recorded and later ones must match it (see
`dejavlad.download`). What is published stays with its publisher: nothing here is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dejavlad.download import fetch
from dejavlad.errors import DownloadError
from dejavlad.model.published.names import MIT, ORIGINAL, PUBLISHED, Published
from dejavlad.progress import OnProgress, silent
from dejavlad.settings import Settings

RELJA = "https://www.di.ens.fr/willow/research/netvlad/data/models/"
"""NetVLAD's project page (MatConvNet, class objects)."""
HLOC = "https://cvg-data.inf.ethz.ch/hloc/netvlad/"
"""hloc's copies of the two that most people use, as plain structures."""
PATCH_NETVLAD = "https://huggingface.co/TobiasRobotics/Patch-NetVLAD/resolve/main/"
CEREBRO = "https://raw.githubusercontent.com/mpkuse/cerebro/master/scripts/keras.models/"
"""The small networks of Kuse & Shen (2019)."""

UNCLEAR = "not said: ask the authors before you publish or sell"


@dataclass(frozen=True, slots=True)
class Released:
    """A trained network that its authors have published, and where to download it."""

    name: str
    """As `load_model` takes it."""
    url: str
    """Where it is published."""
    what: str
    """In a few words."""
    dims: int
    """Numbers of its descriptor."""
    trained_on: str
    """The dataset."""
    licence: str
    """Of the weights."""
    size: int | None = None
    """About how many bytes it has."""
    code_licence: str = MIT
    """Of the code that it was trained with."""
    checked: str = ORIGINAL
    """How we know that ours is the same network."""
    published: Published | None = None
    """What it is made of, where that is known before its file is opened."""

    @property
    def path(self) -> Path:
        """The file in the folder of models where it lies once downloaded."""
        name = self.published.file if self.published else None
        return Settings.load().models_dir / (name or f"{self.name}{_ending(self.url)}")

    @property
    def by_hand(self) -> bool:
        """Whether it must be downloaded by hand, as no address lets a program fetch it."""
        return self.published is not None and self.published.by_hand

    @property
    def alone(self) -> bool:
        """Whether a descriptor depends on its photo alone, not on the others of a batch."""
        return self.published is None or self.published.alone

    @property
    def here(self) -> bool:
        """Whether its file is already downloaded."""
        return self.path.is_file()


def fetch_released(
    released: Released, *, offline: bool | None = None, on_progress: OnProgress = silent
) -> Path:
    """The network's file, downloaded on first use: resumed where it broke off, verified, whole or not there.

    Raises:
        DownloadError: it cannot be fetched, or is another file than before; says which file to put where.
    """
    offline = Settings.load().offline if offline is None else offline
    if released.by_hand and not released.here:
        raise DownloadError(
            f"{released.name} has no address that a program can fetch from: get it by hand from "
            f"{released.url}, and give it as --weights FILE, or put it at {released.path}"
        )
    return fetch(released.url, released.path, size=released.size, offline=offline, on_progress=on_progress)


def _ending(url: str) -> str:
    name = PurePosixPath(url.partition("?")[0]).name
    suffix = PurePosixPath(name).suffix
    known = suffix.isascii() and suffix[1:].isalnum() and not url.startswith("https://drive.google.com/")
    return next((ending for ending in (".pth.tar",) if name.endswith(ending)), suffix if known else ".pth")


def _netvlad() -> Iterator[Released]:
    trained = {"pitts30k": ("pitts30k", "Pitts30K"), "tokyotm": ("tokyoTM", "TokyoTM")}
    backbones = {
        "vgg16": ("vd16", "conv5_3", "VGG-16", 512),
        "alexnet": ("caffe", "conv5", "CaffeNet (AlexNet)", 256),
    }
    for backbone, (short, layer, called, channels) in backbones.items():
        for dataset, (set_name, set_title) in trained.items():
            stem = f"{RELJA}{short}_{set_name}_{layer}"
            name, on = f"{backbone}-netvlad-{dataset}", set_title
            best = f"{stem}_vlad_preL2_intra_white.mat"
            size = 529_000_000 if backbone == "vgg16" else None
            if backbone == "vgg16":
                best = f"{HLOC}{set_title}_struct.mat"
            yield Released(name, best, f"{called}, NetVLAD, whitened", 4096, on, MIT, size)
            plain = f"{called}, NetVLAD, not whitened"
            url = f"{stem}_vlad_preL2_intra.mat"
            yield Released(f"{name}-nowhite", url, plain, 64 * channels, on, MIT)
            for pooling in ("max", "avg"):
                url, what = f"{stem}_{pooling}.mat", f"{called}, {pooling} pooling"
                yield Released(f"{backbone}-{pooling}-{dataset}", url, what, channels, on, MIT)


def _patch_netvlad() -> Iterator[Released]:
    for dataset, file, on in (("mapillary", "mapillary", "Mapillary SLS"), ("pitts", "pitts", "Pitts30K")):
        for dims in (4096, 512, 128):
            url = f"{PATCH_NETVLAD}{file}_WPCA{dims}.pth.tar"
            what = "VGG-16, NetVLAD of Patch-NetVLAD, whitened"
            yield Released(f"patchnetvlad-{dataset}-{dims}", url, what, dims, on, MIT)
    url = f"{PATCH_NETVLAD}landmarks_WPCA4096.pth.tar"
    what = "VGG-16, NetVLAD of Patch-NetVLAD, whitened"
    yield Released("patchnetvlad-landmarks-4096", url, what, 4096, "Google Landmarks", MIT)


def _small() -> Iterator[Released]:
    june = "June2019/centeredinput-m1to1-240x320x"
    for name, folder, epoch, what, dims in (
        ("mobilenetv2-netvlad-rgb", "3__mobilenetv2-block_9_add", 800, "MobileNet v2, NetVLAD K=16", 1024),
        ("mobilenetv2-netvlad-grey", "1__mobilenetv2-block_9_add", 2000, "the same for grey photos", 1024),
        ("mobilenet-netvlad-rgb", "3__mobilenet-conv_pw_6_relu", 700, "MobileNet v1, NetVLAD K=16", 8192),
    ):
        url = f"{CEREBRO}{june}{folder}__K16__allpairloss/modelarch_and_weights.{epoch}.h5"
        yield Released(name, url, what, dims, "Kuse & Shen's street views", UNCLEAR, 1_290_000)


def _later() -> Iterator[Released]:
    for network in PUBLISHED.values():
        yield Released(
            network.name,
            network.url,
            network.what,
            network.dims,
            network.trained_on,
            network.licence,
            int(4e6 * network.parameters) if network.backbone is None else None,
            network.code_licence,
            network.checked,
            network,
        )
    url = "https://github.com/yxgeee/OpenIBL/releases/download/v0.1.0-beta/vgg16_netvlad.pth"
    what = "SFRS of OpenIBL: VGG-16, NetVLAD, whitened"
    yield Released("sfrs", url, what, 4096, "Pitts30K", MIT, 596_000_000)


RELEASED: dict[str, Released] = {
    network.name: network for network in (*_netvlad(), *_patch_netvlad(), *_small(), *_later())
}
"""Name -> network."""
