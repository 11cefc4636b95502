"""Patch-NetVLAD's ``.ini`` files (performance, speed, storage, netvlad_extract and users' own) as values.

Keys that the original has but that change no answer (batch sizes, threads, ngpu) are not looked at.
"""

from __future__ import annotations

import configparser
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from dejavlad.errors import InputError
from dejavlad.photo.listing import read_text

MATCHERS: Final = {"ransac": "ransac", "spatialapproximator": "rapid"}
"""The original's names in small letters -> ours."""

POOLINGS: Final = ("patchnetvlad", "netvlad", "max", "avg")

RECALL_AT: Final = (1, 5, 10, 20, 50, 100)
SIZE: Final = (480, 640)
"""Height and width where a file does not say; all shipped files have it."""

GLOBAL, EXTRACT, MATCH = "global_params", "feature_extract", "feature_match"

T = TypeVar("T")


def read_ini(path: str | Path) -> dict[str, Any]:
    """Read a configuration of Patch-NetVLAD.

    Keys are found in any case. Where left out, as in the shipped files: pooling patchnetvlad, imageresize
    480x640, n_values_all 1,5,10,20,50,100, strides of 1, vladv2 False, no pred_input_path.

    Returns:
        ``matcher`` (``"ransac"``, ``"rapid"``; None without patches), ``sizes`` and ``strides`` (whole
        numbers, in cells of the feature map) and ``weights``, one a patch size (empty without patches),
        ``dims`` (num_pcs; None: not whitened), ``resize`` (``"480x640"`` or ``"none"``), ``depth``
        (candidates a query that are re-ranked) and ``recall_at`` (ascending), ``pred_input_path`` and
        ``resumepath`` (as they stand; None where there is none), ``pooling`` and ``vladv2``.

    Raises:
        InputError: there is no such file, it is no .ini file, it lacks a section or key, a value is of
            another form, or values contradict each other.
    """
    path = Path(path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path), source=path.name)
    except configparser.Error as error:
        raise InputError(f"{str(path)!r} is no .ini file: {' '.join(str(error).split())}") from error
    ini = _Ini(path, parser)
    pooling = ini.get(GLOBAL, "pooling", _one_of(POOLINGS), "patchnetvlad")
    patches = pooling == "patchnetvlad"
    ini.need(EXTRACT)
    if patches:
        ini.need(MATCH)
    resize = _resize(ini)
    sizes = ini.get(GLOBAL, "patch_sizes", _many(_whole(1))) if patches else ()
    strides = ini.get(GLOBAL, "strides", _many(_whole(1)), (1,) * len(sizes)) if patches else ()
    weights = ini.get(MATCH, "patchweights2use", _many(_number)) if patches else ()
    for key, given in (("strides", strides), ("patchweights2use", weights)):
        if len(given) != len(sizes):
            raise InputError(
                f"{str(path)!r}: {len(sizes)} patch_sizes ({_join(sizes)}) but {len(given)} {key} "
                f"({_join(given)}); give one a size"
            )
    recall_at = ini.get(MATCH, "n_values_all", _many(_whole(1)), RECALL_AT) if MATCH in ini else RECALL_AT
    return {
        "matcher": MATCHERS[ini.get(MATCH, "matcher", _one_of(MATCHERS, "RANSAC, spatialApproximator"))]
        if patches
        else None,
        "sizes": sizes,
        "strides": strides,
        "weights": weights,
        "dims": ini.get(GLOBAL, "num_pcs", _whole(0)) or None,
        "resize": resize,
        "depth": max(recall_at),
        "recall_at": tuple(sorted(set(recall_at))),
        "pred_input_path": ini.get(MATCH, "pred_input_path", _path, None) if MATCH in ini else None,
        "resumepath": ini.get(GLOBAL, "resumepath", _path, None),
        "pooling": pooling,
        "vladv2": ini.get(GLOBAL, "vladv2", _flag, False),
    }


_REQUIRED: Any = object()


class _Ini:
    def __init__(self, path: Path, parser: configparser.ConfigParser) -> None:
        self.path, self.parser = path, parser
        self.sections = {name.lower(): parser[name] for name in parser.sections()}

    def __contains__(self, section: str) -> bool:
        return section in self.sections

    def need(self, section: str) -> configparser.SectionProxy:
        if section not in self.sections:
            listed = ", ".join(f"[{name}]" for name in self.parser.sections()) or "none"
            training = "; it is a configuration of training" if "train" in self.sections else ""
            raise InputError(
                f"{str(self.path)!r} has no section [{section}] (it has {listed}){training}; valid: "
                f"[{GLOBAL}] and [{EXTRACT}], with patches [{MATCH}] too"
            )
        return self.sections[section]

    def get(self, section: str, key: str, parse: Callable[[str], T], default: Any = _REQUIRED) -> T:
        values = self.need(section)
        if key not in values:
            if default is _REQUIRED:
                raise InputError(f"{str(self.path)!r}: section [{section}] has no {key}")
            return default  # type: ignore[no-any-return]
        try:
            return parse(values[key].strip())
        except ValueError as error:
            raise InputError(
                f"{str(self.path)!r}: [{section}] {key} = {values[key]!r}: valid are {error}"
            ) from None


def _resize(ini: _Ini) -> str:
    """The one size of both sections; a photo's keypoints follow from it."""
    sizes: dict[str, str] = {}
    for section in (EXTRACT, MATCH):
        if section not in ini:
            continue
        values = ini.need(section)
        if ("imageresizew" in values) != ("imageresizeh" in values):
            raise InputError(
                f"{str(ini.path)!r}: [{section}] has one of imageresizew and imageresizeh; give both "
                f"or neither"
            )
        height = ini.get(section, "imageresizeh", _integer, SIZE[0])
        width = ini.get(section, "imageresizew", _integer, SIZE[1])
        sizes[section] = "none" if height <= 0 or width <= 0 else f"{height}x{width}"
    if len(set(sizes.values())) > 1:
        raise InputError(
            f"{str(ini.path)!r}: [{EXTRACT}] resizes photos to {sizes[EXTRACT]} (height x width) but "
            f"[{MATCH}] to {sizes[MATCH]}; keypoints would be elsewhere than the patches: make "
            f"imageresizew and imageresizeh the same in both"
        )
    return sizes[EXTRACT]


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("whole numbers") from None


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ValueError(f"whole numbers of {least} or more")
        return int(text)

    return parse


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("finite numbers")
    return value


def _many(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    def parse_all(text: str) -> tuple[T, ...]:
        try:
            return tuple(parse(part.strip()) for part in text.split(","))
        except ValueError as error:
            raise ValueError(f"{error}, with commas between") from None

    return parse_all


def _one_of(valid: Any, wanted: str = "") -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in valid:
            raise ValueError(wanted or ", ".join(valid))
        return text.lower()

    return parse


def _flag(text: str) -> bool:
    if (state := configparser.ConfigParser.BOOLEAN_STATES.get(text.lower())) is None:
        raise ValueError("True and False")
    return state


def _path(text: str) -> str | None:
    return None if text.lower() in ("", "none") else text


def _join(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
