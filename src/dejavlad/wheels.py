"""Weights that pip has brought: files of installed packages, found without importing these packages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WheelFile:
    """A file of a package on PyPI."""

    package: str
    """As ``pip install`` takes it."""
    file: str
    """Its path in the installed package, with slashes."""

    @property
    def path(self) -> Path | None:
        """Where it lies; None where the package is not installed, or came without it.

        The package's record of files is read, never its code.
        """
        try:
            path = Path(str(metadata.distribution(self.package).locate_file(self.file)))
        except (metadata.PackageNotFoundError, NotImplementedError):
            return None
        return path if path.is_file() else None
