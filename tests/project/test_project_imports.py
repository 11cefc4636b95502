"""What importing the package and asking for help may load, and how fast."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dejavlad

HEAVY = ("torch", "faiss", "matplotlib", "cv2", "scipy", "lightning", "transformers", "numpy.testing")


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys, json; print('\\n' + json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import dejavlad",
        "import dejavlad.cli\nassert dejavlad.cli.main(['--help']) == 0",
        "from dejavlad.cli import build_app\nfor verb in build_app().resolved_commands().values(): verb.help",
        "import dejavlad.cli\ndejavlad.cli.main(['compare', 'none-here', 'nor-here'])",
        "import dejavlad.cli\ndejavlad.cli.main(['config'])",
    ],
    ids=["import", "help", "all verbs", "compare", "config"],
)
def test_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell what processes that ended have used")
@pytest.mark.parametrize(
    ("words", "most"), [(["-c", "import dejavlad"], 0.3), (["-m", "dejavlad", "--help"], 0.15)]
)
def test_is_quick(words: list[str], most: float) -> None:
    def seconds(command: list[str]) -> float:
        """Of the processor, not of the clock: other tests run beside this one."""
        before = os.times()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        after = os.times()
        used = after.children_user - before.children_user, after.children_system - before.children_system
        return sum(used)

    assert 0 < min(seconds(words) for _ in range(7)) < most


def test_public_names_resolve() -> None:
    assert list(dejavlad.__all__) == sorted(dejavlad.__all__)
    for name in dejavlad.__all__:
        assert getattr(dejavlad, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dejavlad.nothing  # noqa: B018


LAZY = [
    path
    for path in sorted(Path(dejavlad.__file__).parent.rglob("__init__.py"))
    if "lazy_names(" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", LAZY, ids=lambda path: path.parent.name)
def test_type_checkers_see_the_names_that_are_loaded_when_used(path: Path) -> None:
    parts = path.parent.relative_to(Path(dejavlad.__file__).parent).parts
    package = importlib.import_module(".".join(["dejavlad", *parts]))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names:
            assert alias.asname == alias.name, "written twice, it is public"
            module = importlib.import_module(node.module)
            seen[alias.name] = getattr(module, alias.name)
    assert package.__all__ == sorted(seen)
    for name, value in seen.items():
        assert getattr(package, name) is value


def test_all_lazy_packages_are_looked_at() -> None:
    assert len(LAZY) >= 8
