"""The shape of the source in one table: files, longest file, long functions, banned names, lines by kind.

    python tools/shape.py [ROOT...]

ROOT is a checkout (this one by default); with several, one column each: `git worktree add ../before COMMIT`
gives an earlier one to set beside.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from vocabulary import identifiers

LONG = 60  # lines of a function, its docstring among them


def _docstring_lines(tree: ast.Module) -> set[int]:
    """Numbers of the lines of strings that are statements: docstrings, and texts below an attribute."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _kind(line: str, number: int, documented: set[int]) -> str:
    """What one line is: docstring, blank, comment or code."""
    if number in documented:
        return "docstring"
    if not line.strip():
        return "blank"
    return "comment" if line.lstrip().startswith("#") else "code"


def shape(root: Path) -> dict[str, str]:
    """The figures of one checkout by their names, in the table's order."""
    source = root / "src" / "dejavlad"
    files = sorted(source.rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    kinds = dict.fromkeys(("code", "docstring", "comment", "blank"), 0)
    for path, text in texts.items():
        documented = _docstring_lines(trees[path])
        for number, line in enumerate(text.splitlines(), 1):
            kinds[_kind(line, number, documented)] += 1
    folders: dict[Path, int] = {}
    for path in files:
        folders[path.parent] = folders.get(path.parent, 0) + 1
    crowded = max(folders, key=lambda folder: folders[folder])
    longest = max(files, key=lambda path: texts[path].count("\n"))
    long = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {
        "files": f"{len(files):,}",
        "folders": f"{len(folders):,}",
        "files of the fullest folder": f"{folders[crowded]} ({crowded.relative_to(source.parent)})",
        "lines of the longest file": f"{texts[longest].count(chr(10)):,} ({longest.relative_to(source)})",
        f"functions over {LONG} lines": f"{sum(length > LONG for length in long):,}",
        "lines of the longest function": f"{max(long):,}",
        "banned names": f"{sum(len(identifiers(path)) for path in files):,}",
        **{f"lines of {kind}": f"{count:,}" for kind, count in kinds.items()},
        "lines, all": f"{sum(kinds.values()):,}",
    }


def main() -> int:
    """Print the table in Markdown, one column a checkout."""
    roots = [Path(text).resolve() for text in sys.argv[1:]] or [Path(__file__).parents[1]]
    columns = [shape(root) for root in roots]
    print("| |", " | ".join(root.name for root in roots), "|")
    print("|---|" + "--:|" * len(roots))
    for name in columns[0]:
        print(f"| {name} |", " | ".join(column[name] for column in columns), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
