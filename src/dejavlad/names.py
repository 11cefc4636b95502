"""Names of photos compared: one place that says when two of them, written differently, mean the same photo.

A list, a table or a prediction is often written on another computer than the one that holds the photos. The
same name then comes in another Unicode form (macOS writes e and an accent as two characters), with a
Windows list's backslashes, as ``./a.jpg``, percent-encoded as in a URL, or in other letter case. Photos keep
their names as they are on disk; only the comparison looks through these differences.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

log = logging.getLogger("dejavlad")

_UNTIDY = re.compile(r"\\|//|\A[\s.]|\s\Z|/\.|/\Z")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")


def same_form(name: str) -> str:
    """The form in which names are compared; equal for two names that mean one photo.

    Composed Unicode (NFC), forward slashes, no outer spaces, no ``./``, ``//`` or inner ``..``.
    """
    if name.isascii() and not _UNTIDY.search(name):
        return name
    tidy = _tidied(unicodedata.normalize("NFC", name).replace("\\", "/"))
    while tidy != (again := _tidied(tidy)):  # a space behind a last slash
        tidy = again
    return tidy


def _tidied(name: str) -> str:
    return posixpath.normpath(bare) if (bare := name.strip()) else ""


def unicode_variants(name: str) -> tuple[str, ...]:
    """The composed and decomposed forms of a name, where they differ from it."""
    if name.isascii():
        return ()
    forms = (unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return tuple(form for form in dict.fromkeys(forms) if form != name)


def plain_form(name: str) -> str:
    """As `same_form`, of a name that may be percent-encoded (``a%20b.jpg``)."""
    return same_form(unquote(name, errors="strict") if _encoded(name) else name)


def caseless_form(name: str) -> str:
    """As `plain_form`, whatever the letter case."""
    return unicodedata.normalize("NFC", plain_form(name).casefold())


FORMS: Final[tuple[Callable[[str], str], ...]] = (same_form, plain_form, caseless_form)
"""From the strictest comparison to the loosest; each is tried where those before it found nothing."""


class Names:
    """Names to look others up in, however those are written.

    A name is found as it stands, else by its form, else percent-decoded, else in other letter case; and only
    where exactly one is meant.

    Args:
        names: what to look in; of equal ones the first counts.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._rows: dict[str, int] = {}
        for row, name in enumerate(names):
            self._rows.setdefault(name, row)
        self._forms: dict[int, dict[str, list[str]]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, name: str, *, loosely: bool = True) -> int | None:
        """The row of the one name that is meant; None where there is none, or more than one.

        Args:
            name: what is sought.
            loosely: also percent-decoded, and in other letter case.
        """
        if name in self._rows:
            return self._rows[name]
        for level in range(len(FORMS) if loosely else 1):
            if candidates := self._by_form(level).get(FORMS[level](name)):
                return self._rows[candidates[0]] if len(candidates) == 1 else None
        return None

    def match(self, sought: Sequence[str], *, loosely: bool = True, what: str = "names") -> list[int | None]:
        """The row of each of several names: none is given to two different names that are sought.

        Exact names go first, so that photos that differ in the form of their names alone stay apart. What is
        found only by decoding it, or by other letter case, is told in a warning.

        Args:
            sought: what is sought, in any order; a name may be there twice.
            loosely: also percent-decoded, and in other letter case.
            what: what is sought, for the warning.
        """
        matches = {name: name for name in sought if name in self._rows}
        left = [name for name in dict.fromkeys(sought) if name not in matches]
        for level in range(len(FORMS) if loosely else 1):
            if not left:
                break
            form, taken = FORMS[level], set(matches.values())
            forms = {name: form(name) for name in left}
            counts = Counter(forms.values())
            new = {}
            for name, key in forms.items():
                candidates = [
                    candidate for candidate in self._by_form(level).get(key, ()) if candidate not in taken
                ]
                if len(candidates) == 1 and counts[key] == 1:
                    new[name] = candidates[0]
            if new and level:
                name, match = next(iter(new.items()))
                log.warning(
                    "%d %s were found %s, e.g. %r is %r",
                    len(new),
                    what,
                    "by decoding their %-signs" if form is plain_form else "in other letter case",
                    name,
                    match,
                )
            matches |= new
            left = [name for name in left if name not in new]
        return [self._rows[matches[name]] if name in matches else None for name in sought]

    def _by_form(self, level: int) -> dict[str, list[str]]:
        """Form -> the names that have it."""
        if level not in self._forms:
            forms: dict[str, list[str]] = {}
            for name in self._rows:
                forms.setdefault(FORMS[level](name), []).append(name)
            self._forms[level] = forms
        return self._forms[level]


def names_below(names: Iterable[str], root: str | Path) -> Names:
    """Names to look in, of which some may be whole paths; those below the root are taken relative to it."""
    above = same_form(Path(os.path.abspath(root)).as_posix()).rstrip("/") + "/"
    return Names(name if not name.startswith("/") else same_form(name).removeprefix(above) for name in names)


def _encoded(name: str) -> bool:
    """Whether a name is percent-encoded UTF-8."""
    if not _ENCODED.search(name):
        return False
    try:
        unquote(name, errors="strict")
    except UnicodeDecodeError:
        return False
    return True
