"""The benchmarks as `make bench` runs them: one that fails leaves the others; no GPU is said."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def bench(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
    )


def test_the_names_are_those_of_the_files() -> None:
    listed = bench("-m", "benchmarks", "--list").stdout.split()
    assert set(listed) == {
        p.stem.removeprefix("bench_") for p in (REPOSITORY / "benchmarks").glob("bench_*.py")
    } | {"gpu"}


def test_an_unknown_name_is_wrong_usage() -> None:
    done = bench("-m", "benchmarks", "nonsense")
    assert done.returncode == 2 and "no benchmark 'nonsense'" in done.stderr


def test_one_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    import benchmarks.__main__ as every

    (tmp_path / "bench_a.py").write_text("import sys; print('a is 3 times faster'); sys.exit(3)")
    (tmp_path / "bench_b.py").write_text("print('whatever'); print('b is 2.5 times faster')")
    monkeypatch.setattr(every, "HERE", tmp_path)
    (tmp_path / "gpu.py").write_text("print('there is no GPU here')")
    outcomes = [every.run(name, path, tmp_path) for name, path in every.scripts().items()]
    assert [(outcome.name, outcome.status, outcome.lines) for outcome in outcomes] == [
        ("a", 3, ["a is 3 times faster"]),
        ("b", 0, ["b is 2.5 times faster"]),
        ("gpu", 0, ["there is no GPU here"]),
    ]
    assert every.main([]) == 1


@pytest.mark.parametrize("name", ["memory", "pairs"])
def test_each_is_given_a_folder_that_must_have_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    import benchmarks.__main__ as every

    assert every.options(name, tmp_path) == ["--folder", str(tmp_path / name)]
    assert every.options(name, tmp_path, quick=True)[:2] == ["--folder", str(tmp_path / name)]
    assert set(every.QUICK) | set(every.USUAL) | set(every.FOLDERS) <= set(every.scripts())


@pytest.mark.slow
def test_without_a_gpu_it_says_so() -> None:
    done = bench("benchmarks/gpu.py", CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout.strip()) == (
        0,
        "there is no GPU here that PyTorch can use: nothing was measured",
    )


@pytest.mark.slow
def test_what_they_import_exists() -> None:
    """A name that was changed in the library is seen before the benchmark is run."""
    absent = []
    for path in sorted((REPOSITORY / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dejavlad"):
                module = importlib.import_module(str(node.module))
                absent += [
                    f"{path.name}: {node.module}.{alias.name}"
                    for alias in node.names
                    if not hasattr(module, alias.name)
                    and importlib.util.find_spec(f"{node.module}.{alias.name}") is None
                ]
    assert not absent
