"""Patches of photos on disk: how they are written small, the store, and where re-ranking takes them from.

Names are loaded when first used: descriptors alone need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.extraction.patches.codec import CODECS, Codec, learn_codec
    from dejavlad.extraction.patches.interchange import PatchFeats, read_patchfeats, write_patchfeats
    from dejavlad.extraction.patches.source import Cached, FreshPatches
    from dejavlad.extraction.patches.store import PatchManifest, PatchStore, StoredPatches
    from dejavlad.extraction.patches.writer import PatchWriter

_HOME: Final = {
    name: f"dejavlad.extraction.patches.{module}"
    for module, names in {
        "codec": ("CODECS", "Codec", "learn_codec"),
        "interchange": ("PatchFeats", "read_patchfeats", "write_patchfeats"),
        "source": ("Cached", "FreshPatches"),
        "store": ("PatchManifest", "PatchStore", "StoredPatches"),
        "writer": ("PatchWriter",),
    }.items()
    for name in names
}

__all__ = [
    "CODECS",
    "Cached",
    "Codec",
    "FreshPatches",
    "PatchFeats",
    "PatchManifest",
    "PatchStore",
    "PatchWriter",
    "StoredPatches",
    "learn_codec",
    "read_patchfeats",
    "write_patchfeats",
]


__getattr__ = lazy_names(__name__, _HOME)
