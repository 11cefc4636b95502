"""`make bench`: every benchmark in turn, each printing ratios against a plain reference of the same run.

    python -m benchmarks                     all of them; one that fails leaves the others
    python -m benchmarks rerank runtimes     these alone
    python -m benchmarks --quick             with small numbers: only to see that they run
    python -m benchmarks --list              their names

The table has, of each, the processor time and the lines that tell ratios. Status 1 where one has failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
RATIO = re.compile(r"\d(\.\d+)? times|\bratio\b|photos/s|photos a second|ms/query", re.IGNORECASE)
LINES = 4
"""Of each benchmark, in the table."""


class Outcome(NamedTuple):
    """What became of one benchmark."""

    name: str
    status: int
    seconds: float
    """Of processors, its own processes' together; of the clock where the system does not tell them."""
    lines: list[str]


def scripts() -> dict[str, Path]:
    """Name -> file, in order; the GPU's last."""
    named = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    return named | {"gpu": HERE / "gpu.py"}


QUICK = {
    "beside": "--rows 1000 --rounds 1 --engines exact 1bit int8",
    "bf16": "--quick",
    "decode": "--repeats 1",
    "extract_memory": "--quick",
    "filters": "--rows 1000",
    "gpu": "--device cpu --small",
    "index": "--codes 20000",
    "int8": "--seeds 0 --photos 60",
    "lance": "--sizes 1000",
    "loops": "--frames 1000",
    "memory": "--built 500 --located 600",
    "mining": "--photos 5000",
    "models": "mixvpr-4096",
    "pairs": "--photos 2000",
    "patches": "--quick",
    "products": "--side 256 --rounds 1",
    "rerank": "--preset speed --timed 1 --candidates 4",
    "runtimes": "--photos 1 --batch 1 --rounds 1 --models resnet50 --ways torch-bf16,onnxruntime-fp32",
    "scale": "--sizes 2000",
    "serve": "--most 4 --rounds 1 --requests 4",
    "town": "--quick",
    "training": "--quick",
}
"""Benchmark -> what makes it short; its figures then mean little."""
USUAL = {"beside": "--rows 20000 --rounds 1", "scale": "--sizes 20000"}
"""Likewise, in a run of all."""
FOLDERS = ("beside", "filters", "lance", "memory", "pairs", "scale")
"""Benchmarks that must be told where to write."""


def options(name: str, folder: Path, *, quick: bool = False) -> list[str]:
    """What a benchmark must be given, or is kept short by, in a run of all."""
    where = ["--folder", str(folder / name)] if name in FOLDERS else []
    return where + (QUICK if quick else USUAL).get(name, "").split()


def run(name: str, path: Path, folder: Path, *, quick: bool = False) -> Outcome:
    """Run one, showing what it prints as it comes."""
    print(f"\n== {name} ==", flush=True)
    start, before = time.perf_counter(), _children()
    printed = []
    with subprocess.Popen(
        [sys.executable, str(path), *options(name, folder, quick=quick)],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            printed.append(line.rstrip())
    status = process.returncode
    spent = _children() - before
    ratios = [line.strip() for line in printed if RATIO.search(line)] or [line for line in printed if line][
        -1:
    ]
    return Outcome(name, status, spent or time.perf_counter() - start, ratios[-LINES:])


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="of those that --list tells; all unless given"
    )
    parser.add_argument("--list", action="store_true", help="their names")
    parser.add_argument("--quick", action="store_true", help="small numbers: only to see that they run")
    given, known = parser.parse_args(words), scripts()
    if given.list:
        print(*known, sep="\n")
        return 0
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no benchmark {unknown[0]!r}: {', '.join(known)}")
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [run(name, known[name], Path(folder), quick=given.quick) for name in given.names or known]
    print("\n== all ==")
    for outcome in outcomes:
        state = "done" if outcome.status == 0 else f"FAILED ({outcome.status})"
        print(f"{outcome.name:16} {outcome.seconds:8.1f} s  {state}")
        for line in outcome.lines:
            print(f"    {line[:140]}")
    return int(any(outcome.status for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
