"""NumPy's ``.npy`` files: the header is checked against the bytes that are there before any memory is taken.

Format: NumPy Enhancement Proposal 1. Arrays of Python objects are refused, as reading them means executing.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import MalformedFileError
from dejavlad.guarded.plain_file import open_regular

NUMBERS = "biufc"
"""Kinds of values, as NumPy calls them: truth values, whole numbers, numbers with a point, complex ones."""
LONGEST_EMPTY = 1 << 24
"""Of an array without values, each side at most."""
CHUNK = 1 << 24
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What stands before the values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]

    @property
    def nbytes(self) -> int:
        """Bytes that the values take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check_size(self, n_bytes: int) -> None:
        """Raise MalformedFileError where not as many bytes follow as the values take."""
        if self.nbytes != n_bytes:
            raise MalformedFileError(
                f"its header says {self.dtype} {list(self.shape)}, which is {self.nbytes} bytes; "
                f"{n_bytes} are there"
            )


def read_npy(path: str | Path) -> NDArray[Any]:
    """The array of numbers in a ``.npy`` file, in memory.

    Raises:
        MalformedFileError: it is no such file, damaged, cut short, or longer than its header says.
    """
    with open_regular(path) as file:
        header = read_array_header(file)
        header.check_size(os.fstat(file.fileno()).st_size - file.tell())
        return read_values(file, header)


def map_npy(path: str | Path, mode: Literal["r", "r+"] = "r") -> NDArray[Any]:
    """As `read_npy`, memory-mapped; an array without values lies in memory.

    Args:
        mode: ``"r+"`` writes changes to the file.
    """
    with open_regular(path) as file:
        header, start = read_array_header(file), file.tell()
        header.check_size(os.fstat(file.fileno()).st_size - start)
    if not header.nbytes:
        return np.empty(header.shape, header.dtype, header.order)
    return np.memmap(path, header.dtype, mode, start, header.shape, header.order)


def read_array_header(stream: IO[bytes], *, objects: bool = False) -> ArrayHeader:
    """The header of a stream in ``.npy`` format, which then stands at the first value.

    Args:
        stream: at the beginning.
        objects: take arrays of Python objects too (whose values are not read here).

    Raises:
        MalformedFileError: it is damaged, or of other values than numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's parser warns of odd texts
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read:
                raise ValueError(f"its format is {version[0]}.{version[1]}; 1.0 and 2.0 are read")
            shape, fortran, dtype = read[version](stream)
    except OSError:
        raise
    except Exception as error:  # the tokeniser, the parser and NumPy raise anything on damaged headers
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MalformedFileError(f"it is no .npy array, or its header is damaged: {reason}") from None
    if dtype.kind not in NUMBERS and not (objects and dtype == np.dtype(object)):
        raise MalformedFileError(f"it holds values of {str(dtype)[:60]}, not numbers")
    if any(type(side) is not int or side < 0 for side in shape) or len(shape) > 32:
        raise MalformedFileError(f"its header says the shape {str(shape)[:100]}")
    if not math.prod(shape) and max(shape) > LONGEST_EMPTY:
        raise MalformedFileError(f"its header says an empty array of the shape {list(shape)}")
    return ArrayHeader(shape, dtype, "F" if fortran else "C")


def read_values(stream: IO[bytes], header: ArrayHeader) -> NDArray[Any]:
    """The values after a header, whose size was found to be there.

    Raises:
        MalformedFileError: they end early, or do not fit into memory.
    """
    try:
        flat = np.empty(header.nbytes, np.uint8)
    except (MemoryError, ValueError):
        raise MalformedFileError(f"its {header.nbytes} bytes do not fit into memory") from None
    view, at = flat.data, 0
    while at < header.nbytes:
        part = stream.read(min(CHUNK, header.nbytes - at))
        if not part:
            raise MalformedFileError(f"it ends after {at} of {header.nbytes} bytes of values")
        view[at : at + len(part)] = part
        at += len(part)
    return flat.view(header.dtype).reshape(header.shape, order=header.order)
