"""Whether what a file says can be what a dataclass says it is."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dejavlad.errors import InputError, MalformedFileError

DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, IndexError)
"""What comes of a value of another kind than the one that was written; `MalformedFileError` is among them."""

LARGEST = 1 << 63
"""Whole numbers that are read are smaller than this: they fit int64."""

WORDS: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
}
"""What a message calls a type."""

Made = TypeVar("Made")


def checked_fields(made: Made) -> Made:
    """A dataclass whose values, read from a file, are of the types that it declares.

    Numbers are finite and whole ones below 2^63; a whole number serves where any number does. Types that no
    file holds are compared by ``isinstance``.

    Raises:
        MalformedFileError: a value is of another type.
    """
    kind: Any = type(made)
    hints = _hints(kind)
    for field in fields(made):  # type: ignore[arg-type]
        value = getattr(made, field.name)
        if not fits(value, hints[field.name]):
            raise MalformedFileError(f"{field.name} cannot be {repr(value)[:60]}")
    return made


def settle_options(made: object) -> None:
    """Bring the values of a frozen dataclass of options to the types that it declares, for `__post_init__`.

    Lists and arrays become tuples, and whole numbers floats where a float is declared.

    Raises:
        InputError: a value is of another type; the message names the option, its type and what was given.
    """
    kind_of_options: Any = type(made)
    hints = _hints(kind_of_options)
    for field in fields(kind_of_options):
        value, kind = _plain(getattr(made, field.name)), hints[field.name]
        if not fits(value, kind):
            raise InputError(f"{field.name} must be {_words(kind)}; given {value!r}")
        object.__setattr__(made, field.name, _converted(value, kind))


def _plain(value: Any) -> Any:
    """Numbers and arrays of NumPy as Python's own."""
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value.tolist() if hasattr(value, "tolist") else value


def _converted(value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        return tuple(_converted(item, get_args(kind)[0]) for item in value)
    return float(value) if kind is float else value


def _words(kind: Any) -> str:
    """A type as a message calls it."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is tuple:
        return f"a list, each item {_words(parts[0])}"
    if origin is Literal:
        return f"one of {', '.join(parts)}" if len(parts) > 1 else repr(parts[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in parts if part is not type(None))
    return WORDS[kind]


def check_column(name: str, column: object, kinds: Any) -> None:
    """Refuse a list in which a value is of another type.

    Args:
        kinds: the type of its values, as an annotation.

    Raises:
        MalformedFileError: it is no list, or holds something else.
    """
    if not isinstance(column, list):
        raise MalformedFileError(f"{name} is no list")
    for value in column:
        if not fits(value, kinds):
            raise MalformedFileError(f"{name} cannot be {repr(value)[:60]}")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, given as an annotation."""
    if kind is Any:
        return True
    if kind is None or kind is type(None):
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        wanted = (parts[0],) * len(value) if parts[1:] == (...,) else parts
        return len(wanted) == len(value) and all(map(fits, value, wanted))
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(key, parts[0]) and fits(inner, parts[1]) for key, inner in value.items()
        )
    if origin is not None and issubclass(origin, Collection):
        return isinstance(value, origin) and all(fits(inner, parts[0]) for inner in value)
    return isinstance(value, origin or kind)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # whole numbers beyond the largest one with a point
        return False


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)
