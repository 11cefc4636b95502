"""Patches of photos on disk: how they are written small, the store, and where re-ranking takes them from."""

from dejavlad.extraction.patches.codec import CODECS, Codec, learn_codec
from dejavlad.extraction.patches.interchange import PatchFeats, read_patchfeats, write_patchfeats
from dejavlad.extraction.patches.source import Cached, FreshPatches
from dejavlad.extraction.patches.store import PatchManifest, PatchStore, StoredPatches
from dejavlad.extraction.patches.writer import PatchWriter

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
