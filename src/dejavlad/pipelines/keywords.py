"""Keywords that several functions share, as a `TypedDict`: what Python itself would not check."""

from __future__ import annotations

from collections.abc import Mapping


def check_keywords(given: Mapping[str, object], known: type) -> None:
    """Refuse a keyword that a `TypedDict` does not have, as Python does where keywords are named.

    Raises:
        TypeError: there is one.
    """
    if unknown := sorted(given.keys() - known.__annotations__.keys()):
        valid = ", ".join(known.__annotations__)
        raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}; valid are {valid}")
