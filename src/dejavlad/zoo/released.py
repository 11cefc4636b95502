"""Networks that others have trained and published: where they are, and under which licence.

Their publishers give no checksums, so the first download's is recorded and later ones must match it (see
`dejavlad.download`). What is published stays with its publisher: nothing here is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dejavlad.download import fetch
from dejavlad.errors import DownloadError
from dejavlad.model.published.names import PUBLISHED
from dejavlad.model.published.network import MIT, NOT_TOLD, Published
from dejavlad.progress import OnProgress, silent
from dejavlad.settings import Settings

RELJA = "https://www.di.ens.fr/willow/research/netvlad/data/models/"
"""NetVLAD's project page (MatConvNet, class objects)."""
HLOC = "https://cvg-data.inf.ethz.ch/hloc/netvlad/"
"""hloc's copies of the two that most people use, as plain structures."""
PATCH_NETVLAD = "https://huggingface.co/TobiasRobotics/Patch-NetVLAD/resolve/main/"
CEREBRO = "https://raw.githubusercontent.com/mpkuse/cerebro/master/scripts/keras.models/"
"""The small networks of Kuse & Shen (2019)."""


def fetch_released(
    released: Published, *, offline: bool | None = None, on_progress: OnProgress = silent
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
    return fetch(released.url, released.path, size=released.bytes, offline=offline, on_progress=on_progress)


def _netvlad() -> Iterator[Published]:
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
            yield Published(name, best, f"{called}, NetVLAD, whitened", 4096, on, licence=MIT, size=size)
            plain = f"{called}, NetVLAD, not whitened"
            url = f"{stem}_vlad_preL2_intra.mat"
            yield Published(f"{name}-nowhite", url, plain, 64 * channels, on, licence=MIT)
            for pooling in ("max", "avg"):
                url, what = f"{stem}_{pooling}.mat", f"{called}, {pooling} pooling"
                yield Published(f"{backbone}-{pooling}-{dataset}", url, what, channels, on, licence=MIT)


def _patch_netvlad() -> Iterator[Published]:
    what = "VGG-16, NetVLAD of Patch-NetVLAD, whitened"
    for dataset, on, sizes in (
        ("mapillary", "Mapillary SLS", (4096, 512, 128)),
        ("pitts", "Pitts30K", (4096, 512, 128)),
        ("landmarks", "Google Landmarks", (4096,)),
    ):
        for dims in sizes:
            url = f"{PATCH_NETVLAD}{dataset}_WPCA{dims}.pth.tar"
            yield Published(f"patchnetvlad-{dataset}-{dims}", url, what, dims, on, licence=MIT)


def _small() -> Iterator[Published]:
    june = "June2019/centeredinput-m1to1-240x320x"
    for name, folder, epoch, what, dims in (
        ("mobilenetv2-netvlad-rgb", "3__mobilenetv2-block_9_add", 800, "MobileNet v2, NetVLAD K=16", 1024),
        ("mobilenetv2-netvlad-grey", "1__mobilenetv2-block_9_add", 2000, "the same for grey photos", 1024),
        ("mobilenet-netvlad-rgb", "3__mobilenet-conv_pw_6_relu", 700, "MobileNet v1, NetVLAD K=16", 8192),
    ):
        url = f"{CEREBRO}{june}{folder}__K16__allpairloss/modelarch_and_weights.{epoch}.h5"
        on = "Kuse & Shen's street views"
        yield Published(name, url, what, dims, on, licence=NOT_TOLD, size=1_290_000)


def _sfrs() -> Iterator[Published]:
    url = "https://github.com/yxgeee/OpenIBL/releases/download/v0.1.0-beta/vgg16_netvlad.pth"
    what = "SFRS of OpenIBL: VGG-16, NetVLAD, whitened"
    yield Published("sfrs", url, what, 4096, "Pitts30K", licence=MIT, size=596_000_000)


RELEASED: dict[str, Published] = {
    **{network.name: network for network in (*_netvlad(), *_patch_netvlad(), *_small())},
    **PUBLISHED,
    **{network.name: network for network in _sfrs()},
}
"""Name -> network."""
