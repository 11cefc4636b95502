"""Patches of photos on disk: how they are written small, the store, and where re-ranking takes them from.

Names are loaded when first used: descriptors alone need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dejavlad.lazy import lazy_names

if TYPE_CHECKING:
    from dejavlad.extraction.patches.codec import CODECS as CODECS
    from dejavlad.extraction.patches.codec import Codec as Codec
    from dejavlad.extraction.patches.codec import learn_codec as learn_codec
    from dejavlad.extraction.patches.interchange import PatchFeats as PatchFeats
    from dejavlad.extraction.patches.interchange import read_patchfeats as read_patchfeats
    from dejavlad.extraction.patches.interchange import write_patchfeats as write_patchfeats
    from dejavlad.extraction.patches.source import Cached as Cached
    from dejavlad.extraction.patches.source import FreshPatches as FreshPatches
    from dejavlad.extraction.patches.store import PatchManifest as PatchManifest
    from dejavlad.extraction.patches.store import PatchStore as PatchStore
    from dejavlad.extraction.patches.store import StoredPatches as StoredPatches
    from dejavlad.extraction.patches.writer import PatchWriter as PatchWriter

__all__, __getattr__ = lazy_names(
    __name__,
    {
        "codec": ("CODECS", "Codec", "learn_codec"),
        "interchange": ("PatchFeats", "read_patchfeats", "write_patchfeats"),
        "source": ("Cached", "FreshPatches"),
        "store": ("PatchManifest", "PatchStore", "StoredPatches"),
        "writer": ("PatchWriter",),
    },
)
