"""The recipes that come with the package, by name: options of a training, as TOML."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from dejavlad.errors import InputError, MalformedFileError, UnknownNameError
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.guarded.toml_file import parse_toml
from dejavlad.training.config.options import TrainConfig


def _folder() -> Traversable:
    return resources.files("dejavlad.recipes").joinpath("train")


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    files = [file.name for file in _folder().iterdir()]
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def load_recipe(name: str | Path) -> TrainConfig:
    """A recipe by its name, or from a file of the same form.

    A recipe may begin with another: ``extends = "netvlad"``.

    Raises:
        UnknownNameError: no such recipe or option.
        InputError: a file that cannot be read, a value that cannot be, or an option of the recipe's own that
            has no effect beside the others.
    """
    base, own = _options(name, ())
    return TrainConfig().changed({**base, **own}, deliberate=own)


def _options(name: str | Path, extended: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that a recipe takes over from others, and its own."""
    try:
        own = parse_toml(_text(name))
    except MalformedFileError as error:
        raise InputError(f"recipe {str(name)!r} cannot be used: {error}") from None
    base = own.pop("extends", None)
    if base is None:
        return {}, own
    if not isinstance(base, str) or base in extended:
        raise InputError(f"recipe {str(name)!r} cannot extend {base!r}")
    older, newer = _options(base, (*extended, base))
    return {**older, **newer}, own


def _text(name: str | Path) -> str:
    if str(name) in list_recipes():
        return _folder().joinpath(f"{name}.toml").read_text(encoding="utf-8")
    if Path(name).suffix != ".toml":
        raise UnknownNameError("recipe", str(name), list_recipes(), "or the path of a .toml file")
    try:
        return read_utf8(name)
    except (OSError, MalformedFileError) as error:
        raise InputError(f"recipe {str(name)!r} cannot be read: {error}") from None
