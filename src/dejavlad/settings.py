"""Folders and switches that hold for every run, and where each comes from.

Later sources win: the built-in defaults, then ``config.toml``, then the environment::

    cache_dir = "/data/dejavlad"         # DEJAVLAD_CACHE_DIR
    models_dir = "/data/models"          # DEJAVLAD_MODELS_DIR
    offline = true                       # DEJAVLAD_OFFLINE
    max_pixels = 500_000_000             # DEJAVLAD_MAX_PIXELS
    [roots]
    pitts30k = "/data/pittsburgh"        # DEJAVLAD_ROOT_PITTS30K

``config.toml`` lies in the user's configuration folder, or where DEJAVLAD_CONFIG says. Relative folders in it
are relative to where it lies. A variable that is set but empty counts as not set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.guarded.toml_file import read_toml

PREFIX = "DEJAVLAD_"
ROOT_PREFIX = PREFIX + "ROOT_"
KEYS = ("cache_dir", "models_dir", "offline", "max_pixels")
FOLDERS = ("cache_dir", "models_dir")
MAX_PIXELS = 178_956_970
"""The most pixels that a photo may have unless the user says otherwise: Pillow's own limit."""
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of this run; `load` finds them."""

    cache_dir: Path
    """What can be made or fetched again lies here."""
    models_dir: Path
    """Downloaded weights and models lie here."""
    offline: bool = False
    """Whether downloads are forbidden: what is not on disk is then refused, with the way to get it."""
    roots: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    """Where datasets lie, by the dataset's name in small letters and with dashes: ``tokyo-247``."""
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    """Setting -> where it comes from."""
    config_file: Path | None = field(default=None, compare=False)
    """The settings file that was looked for; it need not be there."""
    max_pixels: int = MAX_PIXELS
    """Photos that claim more pixels are taken for decompression bombs and refused."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """What holds now.

        Args:
            environ: the environment; the process's own unless given.

        Raises:
            InputError: ``config.toml`` cannot be read, or a value is of the wrong kind.
            UnknownNameError: a setting that does not exist.
        """
        environ = {k: v for k, v in (os.environ if environ is None else environ).items() if v.strip()}
        path = config_path(environ)
        options = _read(path)
        sources: dict[str, str] = {}

        def find(key: str, default: Any, default_source: str = "default") -> Any:
            variable = PREFIX + key.upper()
            if variable in environ:
                sources[key] = f"environment {variable}"
                return environ[variable]
            if key in options:
                sources[key] = str(path)
                return _beside(path, options[key]) if key in FOLDERS else options[key]
            sources[key] = default_source
            return default

        cache_dir = _folder(find("cache_dir", _default_cache()), "cache_dir")
        models_dir = _folder(find("models_dir", cache_dir / "models", "in cache_dir"), "models_dir")
        offline = _switch(find("offline", False), "offline")
        max_pixels = _count(find("max_pixels", MAX_PIXELS), "max_pixels")
        roots: dict[str, Path] = {}
        for name, root in options.get("roots", {}).items():
            roots[_called(name)] = _folder(_beside(path, root), f"roots.{name}")
            sources[f"roots.{_called(name)}"] = str(path)
        for variable, root in environ.items():
            if variable.startswith(ROOT_PREFIX):
                name = _called(variable.removeprefix(ROOT_PREFIX))
                roots[name] = _folder(root, variable)
                sources[f"roots.{name}"] = f"environment {variable}"
        return cls(
            cache_dir,
            models_dir,
            offline,
            MappingProxyType(roots),
            MappingProxyType(sources),
            path.absolute(),
            max_pixels,
        )

    def root(self, dataset: str) -> Path | None:
        """Where a dataset lies: set for its name, or for the part of it before a dash."""
        names = {_called(name): path for name, path in self.roots.items()}
        called = _called(dataset)
        while called:
            if called in names:
                return names[called]
            called = called.rpartition("-")[0]
        return None

    def explain(self) -> list[tuple[str, str, str]]:
        """(setting, value, where it comes from) of every setting, and which settings file was looked for."""
        rows = []
        if self.config_file is not None:
            state = "read" if self.config_file.is_file() else "not there"
            rows.append(("config.toml", str(self.config_file), state))
        rows += [(key, str(getattr(self, key)), self.sources.get(key, "default")) for key in KEYS]
        rows += [
            (f"roots.{name}", str(path), self.sources.get(f"roots.{name}", "default"))
            for name, path in sorted(self.roots.items())
        ]
        return rows


def config_path(environ: Mapping[str, str]) -> Path:
    """Where ``config.toml`` is looked for."""
    if given := environ.get(PREFIX + "CONFIG"):
        return _folder(given, PREFIX + "CONFIG")
    from platformdirs import user_config_path

    return user_config_path("dejavlad", appauthor=False) / "config.toml"


def _default_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("dejavlad", appauthor=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        options = read_toml(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read as settings: {error}") from None
    for key in options:
        if key not in (*KEYS, "roots"):
            raise UnknownNameError(f"setting in {path}", key, (*KEYS, "roots"))
    if not isinstance(options.get("roots", {}), dict):
        raise InputError(f'{str(path)!r}: roots is a table of folders, [roots] with pitts30k = "/data/pitts"')
    return options


def _folder(value: Any, key: str) -> Path:
    """An absolute path: messages that say where a file belongs hold it."""
    try:
        if isinstance(value, str | Path) and str(value).strip():
            return Path(value).expanduser().absolute()
    except RuntimeError:  # ~somebody who is not here
        pass
    raise InputError(f"{key} must be a folder; given {value!r}")


def _beside(config: Path, value: Any) -> Any:
    """A relative folder of ``config.toml`` is relative to where that lies."""
    is_relative = isinstance(value, str) and value.strip() and not value.startswith("~")
    return config.absolute().parent / value if is_relative else value


def _called(name: str) -> str:
    return name.replace("_", "-").lower()


def _switch(value: Any, key: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in TRUE + FALSE:
        return value.strip().lower() in TRUE
    raise InputError(f"{key} must be true or false; given {value!r}")


def _count(value: Any, key: str) -> int:
    if isinstance(value, str) and value.strip().replace("_", "").isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise InputError(f"{key} must be a whole number of 1 or more; given {value!r}")
