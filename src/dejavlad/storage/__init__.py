"""What lies on disk and must stay whole: one writer, a state in SQLite, rows in raw files, photos in blocks.

A folder of rows is three things. The state (`State`) is one SQLite file: every change of it is one
transaction, which is the commit of whatever the change was about. Rows (`RowFile`) are raw numbers in a file
that is mapped into memory; they reach the disk before the state tells of them, so bytes that it does not tell
of do not count. And the lock of the one writer (`one_writer`); readers need none. Rows and the numbers of the
state carry checksums by chunk, which are compared when they are read for the first time.
"""

from dejavlad.storage.folder import discard, disk_errors, one_writer, sync_folder, write_npy
from dejavlad.storage.folder_writer import FolderWriter, refuse_others
from dejavlad.storage.photo_blocks import PhotoRecord
from dejavlad.storage.rows import MappedRows, RowFile
from dejavlad.storage.state import State

__all__ = [
    "FolderWriter",
    "MappedRows",
    "PhotoRecord",
    "RowFile",
    "State",
    "discard",
    "disk_errors",
    "one_writer",
    "refuse_others",
    "sync_folder",
    "write_npy",
]
