"""Photos to descriptors on disk: the store, and the one loop that fills it."""

from dejavlad.extraction.bin_file import is_bin, read_bin, write_bin
from dejavlad.extraction.extract import describe, extract
from dejavlad.extraction.manifest import Manifest, Setting
from dejavlad.extraction.merge import merge_stores
from dejavlad.extraction.photo_table import PhotoTable
from dejavlad.extraction.shard import Shard
from dejavlad.extraction.store import DescriptorStore
from dejavlad.extraction.unit_rows import at_unit_length
from dejavlad.extraction.writer import save_store

__all__ = [
    "DescriptorStore",
    "Manifest",
    "PhotoTable",
    "Setting",
    "Shard",
    "at_unit_length",
    "describe",
    "extract",
    "is_bin",
    "merge_stores",
    "read_bin",
    "save_store",
    "write_bin",
]
