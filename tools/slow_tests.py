"""Mark the tests that take long, by measured processor time: `make check` leaves them out.

    CPU_TIMES=times.txt make test
    python tools/slow_tests.py times.txt --over 1.0

Each line of the file is ``SECONDS NODEID``, as ``tests/conftest.py`` writes them. A test of which the
slowest case takes longer gets ``@pytest.mark.slow``; marks that are in the files already stay.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "@pytest.mark.slow\n"


def slowest(path: Path) -> dict[tuple[str, str], float]:
    """(file, function) -> seconds of its slowest case."""
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for line in path.read_text(encoding="utf-8").splitlines():
        time, node = line.split(maxsplit=1)
        file, _, function = node.partition("::")
        key = file, function.partition("[")[0]
        seconds[key] = max(seconds[key], float(time))
    return seconds


def mark(file: Path, functions: set[str]) -> int:
    """Put the mark on functions of one file; how many were given it."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    if any(line.startswith("pytestmark") and "slow" in line for line in lines):
        return 0
    marked = 0
    for row in range(len(lines) - 1, -1, -1):
        definition = re.match(r"def (test_\w+)\(", lines[row])
        if definition is None or definition[1] not in functions:
            continue
        first = row
        while (
            first and not lines[first - 1].isspace()
        ):  # the decorators above it, however many lines they take
            first -= 1
        if MARK not in lines[first:row]:
            lines.insert(first, MARK)
            marked += 1
    if marked:
        if not any(line.strip() == "import pytest" for line in lines):  # `ruff check --fix` sorts it
            first = next(
                row for row, line in enumerate(lines) if re.match(r"(from (?!__)\S+ )?import ", line)
            )
            lines.insert(first, "import pytest\n")
        file.write_text("".join(lines), encoding="utf-8")
    return marked


def main() -> None:
    """Mark what a file of times says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("times", type=Path)
    parser.add_argument("--over", type=float, default=1.0, help="seconds of processor time (1.0)")
    given = parser.parse_args()
    slow: dict[str, set[str]] = defaultdict(set)
    for (file, function), seconds in slowest(given.times).items():
        if seconds > given.over:
            slow[file].add(function)
    for file, functions in sorted(slow.items()):
        if (ROOT / file).is_file():
            print(f"{mark(ROOT / file, functions):3} marked in {file}")


if __name__ == "__main__":
    main()
