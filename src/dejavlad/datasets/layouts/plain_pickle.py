"""Pickles of plain values, read without executing anything.

`pickle` calls whatever a file asks for. Here the file's steps are read one by one, and those that make
numbers, texts, lists, tuples, dicts and NumPy arrays are done by hand; any other is refused. Ground truths
that are published as pickles are read so: VPR-Bench's ``ground_truth_new.npy``, revisited Oxford and Paris.

`pickle.Unpickler` with a list of allowed names would not do: it takes memory for the greatest number that a
value is remembered under (16 GB for seven bytes), hashes keys that are tuples nested thousands of times (the
process dies), and hands the state of arrays and dtypes to NumPy, which trusts it. All that would have to be
looked for in the steps before, and the arrays replaced by others: that is this reader, and more.
"""

from __future__ import annotations

import contextlib
import io
import math
import pickletools
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np

from dejavlad.errors import InputError
from dejavlad.guarded.npy_file import read_array_header, read_npy
from dejavlad.guarded.plain_file import BoundedReader, open_regular

_MARK = object()

_CALLABLE = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): "array" for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): "scalar" for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): "frombuffer" for core in ("core", "_core")},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "bytes",
    ("builtins", "bytes"): "bytes",
}
"""What a pickle may name, and what is made of it here."""

_NUMBERS = re.compile(r"[biuf]\d{1,2}|O\d?|b1|\?")


class _RefusedError(ValueError):
    """A pickle asks for something else than plain values."""


@dataclass(frozen=True)
class _Named:
    """One of `_CALLABLE`, named but not called."""

    what: str


@dataclass(eq=False)
class _Unset:
    """An array or a dtype whose content follows."""

    what: str
    code: str = ""
    memo: list[int] = field(default_factory=list)
    """Where it is remembered, to be replaced there too."""


def read_pickle(path: str | Path) -> Any:
    """The value of a pickle of plain values.

    Raises:
        InputError: it cannot be read, is damaged, or asks for something else than plain values.
    """
    with _reading(path, "is no pickle of plain values") as file:
        return plain_value(file)


def read_object_npy(path: str | Path) -> np.ndarray[Any, Any]:
    """An ``.npy`` file; one of objects is read as a pickle of plain values.

    Raises:
        InputError: it cannot be read, is damaged, or asks for something else than plain values.
    """
    with _reading(path, "cannot be read as an array") as file:
        header = read_array_header(file, objects=True)
        array = plain_value(file) if header.dtype.hasobject else read_npy(path)
        if not isinstance(array, np.ndarray) or array.shape != header.shape:
            raise ValueError("it does not hold what its header says")
        return array


@contextlib.contextmanager
def _reading(path: str | Path, refusal: str) -> Iterator[BinaryIO]:
    """A file to read from; what is wrong with it is an InputError."""
    name = repr(str(path))
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{name} {refusal}: {error}") from error


def plain_value(stream: IO[bytes]) -> Any:
    """The value of the pickle that a stream goes on with.

    Texts of Python 2 are Latin-1. Lists may hold themselves, as in `pickle`.

    Raises:
        ValueError: it is no pickle, damaged, or asks for something else than plain values.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    start = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(start)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that a damaged text has
            for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", BoundedReader(stream, size))):
                if opcode.name == "STOP":
                    break
                _step(opcode.name, argument, stack, memo)
        (value,) = stack
    except _RefusedError:
        raise
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ValueError(f"it is damaged ({error})") from error
    if isinstance(value, _Unset | _Named):
        raise _RefusedError("it holds no value")
    return value


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in ("PROTO", "FRAME"):
        return
    if name == "MARK":
        stack.append(_MARK)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name]())
    elif name in _LITERALS:
        stack.append(argument)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        at = len(memo) if name == "MEMOIZE" else int(argument)
        memo[at] = stack[-1]
        if isinstance(stack[-1], _Unset):
            stack[-1].memo.append(at)
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[int(argument)])
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        last = [stack.pop() for _ in range(2)][::-1] if name == "STACK_GLOBAL" else argument.split(" ", 1)
        if tuple(last) not in _CALLABLE:
            raise _RefusedError(f"it asks for {'.'.join(map(str, last))}, which is no plain value")
        stack.append(_Named(_CALLABLE[tuple(last)]))
    elif name in _STEPS:
        _STEPS[name](stack)
    elif name == "REDUCE":
        given, named = stack.pop(), stack.pop()
        stack.append(_call(named, given))
    elif name == "BUILD":
        state, unset = stack.pop(), stack.pop()
        value = _build(unset, state)
        stack.append(value)
        for at in unset.memo:
            memo[at] = value
    else:
        raise _RefusedError(f"it asks for the step {name}, which makes no plain value")


def _since_mark(stack: list[Any]) -> list[Any]:
    taken: list[Any] = []
    while (value := stack.pop()) is not _MARK:
        taken.append(value)
    return taken[::-1]


def _tuple_of(count: int) -> Callable[[list[Any]], None]:
    def make(stack: list[Any]) -> None:
        stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]

    return make


def _append(stack: list[Any]) -> None:
    value = stack.pop()
    _container(stack, list).append(value)


def _appends(stack: list[Any]) -> None:
    values = _since_mark(stack)
    _container(stack, list).extend(values)


def _dict(stack: list[Any]) -> None:
    values = _since_mark(stack)
    made: dict[Any, Any] = {}
    stack.append(made)
    _fill(made, values)


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _fill(_container(stack, dict), [key, value])


def _set_items(stack: list[Any]) -> None:
    values = _since_mark(stack)
    _fill(_container(stack, dict), values)


def _fill(made: dict[Any, Any], values: list[Any]) -> None:
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, str | bytes | int | float | None):  # a tuple may nest, and be hashed for ever
            raise _RefusedError(f"it has a {type(key).__name__} for a key")
        made[key] = value


def _container(stack: list[Any], kind: type[Any]) -> Any:
    if not isinstance(stack[-1], kind):
        raise TypeError(f"a {kind.__name__} is missing")
    return stack[-1]


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_STEPS: dict[str, Callable[[list[Any]], None]] = {
    "LIST": lambda stack: stack.append(_since_mark(stack)),
    "TUPLE": lambda stack: stack.append(tuple(_since_mark(stack))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": _appends,
    "DICT": _dict,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
}


def _call(named: Any, given: Any) -> Any:
    what = named.what if isinstance(named, _Named) else None
    if what == "array":
        return _Unset("array")
    if what == "dtype":
        code = _text(given[0])
        if not _NUMBERS.fullmatch(code):
            raise _RefusedError(f"it holds an array of {code!r}, not of numbers or objects")
        return _Unset("dtype", code)
    if what == "scalar":
        kind = _kind(given[0])
        return kind.type(0) if len(given) < 2 else np.frombuffer(_bytes(given[1]), kind, 1)[0]
    if what == "frombuffer":
        order: Any = _text(given[3])
        return np.frombuffer(_bytes(given[0]), _kind(given[1])).reshape(given[2], order=order)
    if what == "bytes" and not given:
        return b""
    if what == "encode":
        return _text(given[0]).encode("latin-1")
    raise _RefusedError("it calls something that it made itself")


def _build(unset: Any, state: Any) -> Any:
    if not isinstance(unset, _Unset):
        raise _RefusedError("it fills something that is no array")
    if unset.what == "dtype":
        order = _text(state[1])
        return np.dtype(("" if order == "|" else order) + unset.code)
    _, shape, kind, fortran, data = state
    size = math.prod(int(side) for side in shape)
    if isinstance(data, list):
        if size != len(data):
            raise ValueError("an array is of another size")
        array = np.empty(size, object)
        for i, value in enumerate(data):
            array[i] = value
    else:
        array = np.frombuffer(_bytes(data), _kind(kind), size).copy()
    return array.reshape(shape, order="F" if fortran else "C")


def _kind(kind: Any) -> np.dtype[Any]:
    """The dtype that a pickle describes; refused unless it is one of plain numbers."""
    if isinstance(kind, _Unset) and kind.what == "dtype":
        kind = np.dtype(kind.code)
    if not isinstance(kind, np.dtype) or kind.hasobject:
        raise _RefusedError("it holds an array of neither numbers nor objects")
    return kind


def _bytes(value: Any) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else bytes(memoryview(value))


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
