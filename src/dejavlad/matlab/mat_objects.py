"""MATLAB class objects (``classdef``), as .mat files keep them: apart from the variables, in a list of cells.

A variable holds a reference only: ``[0xDD000000, ndims, dims..., object numbers..., class number]``. Of the
cells

- the first holds bytes with tables of 4-byte words: version, number of names, eight offsets, the names; then
  by offset: 0 classes (package, name, 0, 0), 1 properties of objects with ``saveobj``, 2 objects (class, 0,
  0, record in 1, record in 3, record in 4), 3 properties of other objects, 4 properties added at run time;
- the second is empty, then come the properties' values; the last holds each class's default values.

A record of properties is ``n, n x (name, kind, value)`` on an even number of words; kind 0 is a name, 1 a
cell, 2 a number. The format is not published; this is what files hold.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from dejavlad.errors import CheckpointError

MARK = 0xDD000000
TAIL = {2: 1, 3: 2, 4: 3}
"""Version -> cells after the properties' values."""
DEEPEST = 32
CONVERT = (
    "in MATLAB, with NetVLAD's classes on the path: for i=1:numel(net.layers), "
    "net.layers{i}=struct(net.layers{i}); end; save(file,'-struct','net','-v7')"
)
"""How to do without class objects."""


class Objects:
    """The class objects of a file; each becomes a dict of its properties, with ``__class__``.

    Args:
        cells: the list of cells.
        order: ``<`` or ``>``.

    Raises:
        CheckpointError: they are stored in another way.
    """

    def __init__(self, cells: Any, order: str = "<") -> None:
        if not isinstance(cells, list) or len(cells) < 3 or not isinstance(cells[0], np.ndarray):
            raise CheckpointError(f"its class objects cannot be found; {CONVERT}")
        table = np.ascontiguousarray(cells[0]).reshape(-1).view(np.uint8)
        words = np.frombuffer(table.tobytes()[: len(table) // 4 * 4], order + "u4").tolist()
        if len(words) < 10 or words[0] not in TAIL or len(cells) < 2 + TAIL[words[0]]:
            raise CheckpointError(f"class objects of version {words[:1]} are not known; {CONVERT}")
        offsets = [min(offset, 4 * len(words)) for offset in words[2:10]]
        regions = [words[a // 4 : b // 4] for a, b in itertools.pairwise(offsets)]
        self.names = [name.decode("latin-1") for name in table[40 : offsets[0]].tobytes().split(b"\0")]
        self.classes, self.objects = (_rows(regions[0], 4), _rows(regions[2], 6))
        self.saved, self.plain = _records(regions[1]), _records(regions[3])
        self.values = cells[2 : len(cells) - TAIL[words[0]]]
        self.defaults = cells[-1] if isinstance(cells[-1], list) else []
        self.made: dict[int, dict[str, Any]] = {}

    def resolve(self, reference: Any, depth: int = 0) -> Any:
        """The objects that a reference names: a dict, or a list of them.

        Raises:
            CheckpointError: there are no such objects.
        """
        try:
            words = [int(word) for word in np.asarray(reference).reshape(-1)]
            mark, ndims = words[:2]
            numbers = words[2 + ndims : -1]
            if mark != MARK or not numbers:
                raise IndexError
            objects = [self._object(number, depth) for number in numbers]
        except (IndexError, ValueError, TypeError, OverflowError):
            raise CheckpointError(f"a class object cannot be decoded; {CONVERT}") from None
        return objects[0] if len(objects) == 1 else objects

    def _object(self, number: int, depth: int) -> dict[str, Any]:
        if number in self.made:
            return self.made[number]
        if depth > DEEPEST:
            raise CheckpointError(f"its class objects are nested more than {DEEPEST} deep")
        class_number, _, _, saved, plain, _ = self.objects[number]
        made = self.made[number] = {"__class__": self._name(self.classes[class_number][1])}
        if class_number < len(self.defaults) and isinstance(self.defaults[class_number], dict):
            made |= {key: self._deep(value, depth) for key, value in self.defaults[class_number].items()}
        for name, kind, value in self.saved[saved] if saved else self.plain[plain]:
            if kind == 0:
                made[self._name(name)] = self._name(value)
            else:
                made[self._name(name)] = self._deep(self.values[value], depth) if kind == 1 else float(value)
        return made

    def _deep(self, value: Any, depth: int) -> Any:
        """A property's value, with the objects that it refers to."""
        if isinstance(value, list):
            return [self._deep(item, depth) for item in value]
        if isinstance(value, dict):
            return {key: self._deep(item, depth) for key, item in value.items()}
        return self.resolve(value, depth + 1) if _is_reference(value) else value

    def _name(self, number: int) -> str:
        if number < 1:
            raise IndexError
        return self.names[number - 1]


def _is_reference(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype == np.uint32
        and value.size >= 4
        and value.shape[1:] == (1,)
        and int(value[0, 0]) == MARK
    )


def _rows(words: list[int], width: int) -> list[tuple[int, ...]]:
    return [tuple(words[i : i + width]) for i in range(0, len(words) - width + 1, width)]


def _records(words: list[int]) -> list[list[tuple[int, ...]]]:
    records, at = [], 0
    while at < len(words):
        size = 3 * words[at]
        records.append(_rows(words[at + 1 : at + 1 + size], 3))
        at += 1 + size + (1 + size) % 2
    return records
