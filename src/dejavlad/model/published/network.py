"""A network that others have published: where it is, under which licence, and where its file lies here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dejavlad.model.published.parts import Parts
from dejavlad.settings import Settings

MIT, REPOSITORY = "MIT", "MIT, as its repository; not told apart"
NOT_TOLD = "not said: ask the authors before you publish or sell"
ORIGINAL = "the original code's answers, with made weights"


@dataclass(frozen=True, slots=True)
class Published:
    """A trained network that its authors have published."""

    name: str
    """As `load_model` takes it."""
    url: str
    """Where its file is."""
    what: str
    """In a few words."""
    dims: int
    """Numbers of its descriptor."""
    trained_on: str
    """The photos."""
    parameters: float | None = None
    """Millions of them, which take four bytes each."""
    parts: Callable[[], Parts] | None = None
    """What it is made of; None where its file alone tells."""
    code_licence: str = MIT
    """Of the original code."""
    licence: str = REPOSITORY
    """Of the weights."""
    checked: str = ORIGINAL
    """How we know that ours is the same network."""
    by_hand: bool = False
    """Whether a program cannot fetch it from there (a drive's page, an archive)."""
    file: str | None = None
    """What its file is called here; default: after the name."""
    alone: bool = True
    """Whether a descriptor is of its photo alone."""
    backbone: str | None = None
    """The backbone whose own published weights it needs beside its file."""
    size: int | None = None
    """About how many bytes its file has, where its parameters do not tell."""

    @property
    def bytes(self) -> int | None:
        """About how many bytes its file has."""
        if self.parameters is None or self.backbone is not None:
            return self.size
        return int(4e6 * self.parameters)

    @property
    def path(self) -> Path:
        """The file in the folder of models where it lies once downloaded."""
        return Settings.load().models_dir / (self.file or f"{self.name}{_ending(self.url)}")

    @property
    def here(self) -> bool:
        """Whether its file is already downloaded."""
        return self.path.is_file()


def _ending(url: str) -> str:
    name = PurePosixPath(url.partition("?")[0]).name
    suffix = PurePosixPath(name).suffix
    known = suffix.isascii() and suffix[1:].isalnum() and not url.startswith("https://drive.google.com/")
    return next((ending for ending in (".pth.tar",) if name.endswith(ending)), suffix if known else ".pth")
