"""The shape of the source that `tools/shape.py` tells."""

import ast
from pathlib import Path

import dejavlad

LONGEST = 60


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{path.name}:{node.lineno} {node.name}"
        for path in Path(dejavlad.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (node.end_lineno or node.lineno) - node.lineno >= LONGEST
    ]
    assert not long, f"longer than {LONGEST} lines with their docstrings: {long}"
