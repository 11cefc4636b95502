"""Identifiers that say nothing about what they hold: `make lint` keeps them out.

A name is the field's standard term for a concept (`database`, `queries`, `ranking`, `matches`, `descriptor`),
never a grammatical form; a private one (`_found`) and one with a shape (`found_QK`) no less. Strings and
comments are not looked at.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from pathlib import Path

BANNED = {
    "told": "what was said: description, options, notes",
    "held": "what it is: tensor, rows, archive, photos",
    "found": "what was looked for: matches, paths, names",
    "there": "the database, the existing files, the known names",
    "asked": "the queries, the request, the given names",
    "some": "which: sample, batch, first names",
    "begun": "open_run, started",
    "likeness": "similarity",
}
SHAPE = re.compile(r"_[A-Z]\w*$")
"""The dimensions of an array at the end of its name: `rows_ND`."""
ROOTS = ("src", "tests", "benchmarks", "examples", "tools")


def stem(name: str) -> str:
    """A name without leading underscores and shape."""
    return SHAPE.sub("", name.strip("_"))


def identifiers(path: Path) -> list[tuple[int, str]]:
    """(line, name) of each banned identifier in one Python file; attributes of others' objects included."""
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [(t.start[0], t.string) for t in tokens if t.type == tokenize.NAME and stem(t.string) in BANNED]


def main() -> int:
    """Exit status 1 and a line for each banned name, 0 where there is none."""
    root = Path(__file__).parents[1]
    complaints = [
        f"{path.relative_to(root)}:{line}: the name {name!r} says nothing; say {BANNED[stem(name)]}"
        for folder in ROOTS
        for path in sorted((root / folder).rglob("*.py"))
        for line, name in identifiers(path)
    ]
    print("\n".join(complaints), end="\n" if complaints else "")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
