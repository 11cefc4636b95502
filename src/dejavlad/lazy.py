"""Public names of a package that are loaded when first used (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, names: Mapping[str, tuple[str, ...]]) -> tuple[list[str], Callable[[str], Any]]:
    """What a package has as ``__all__`` and as ``__getattr__``.

    Type checkers read the same names from imports below ``if TYPE_CHECKING``.

    Args:
        package: its full name.
        names: module of the package -> names that it defines; ``""`` -> modules of the package.
    """
    homes = {name: module for module, group in names.items() for name in group}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{homes[name] or name}")
        return getattr(module, name) if homes[name] else module

    return sorted(homes), load
