"""Damaged files of every kind that dejavlad writes or reads as text: each must give the same answer, or
one of our errors; never a traceback of another kind, a hang, or memory without bound.

``python tests/guarded/mutations.py 300`` mutates each kind 300 times; ``... 300 ranking map`` those kinds
alone. Each batch runs in a process of its own with limits on memory and time (Linux and macOS). Files without
a checksum may give another answer; these are counted. `outcome` alone runs anywhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dejavlad.errors import DejavladError

MEMORY, GROWTH, SECONDS, WAITING = 8 << 30, 512 << 20, 10, 300
"""Address space of a batch; resident memory that a small file may cost; seconds of the processor that a
reader may take, and of the clock, which also count what a busy machine does for others."""
EDGES = (0, 1, 7, 127, 128, 255, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
WORDS = (
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "NaN",
    "-Infinity",
    "9" * 30,
    "9" * 5000,
    '""',
    '"x"',
    "[]",
    "{}",
    "[[]]",
    "[" * 100 + "]" * 100,
    "[" * 100_000,
    '{"a":' * 100_000,
    '"../../../etc/passwd"',
    '"/dev/zero"',
    '"\\u0000"',
    "a." * 60_000 + "a = 1\n",
    "2.5",
    "18446744073709551616",
)
VALUE = re.compile(r'-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|"[^"\n]*"|true|false|null')
TEXTS = (".json", ".jsonl", ".toml", ".txt", ".csv", ".gpx", ".ini")


@dataclass(frozen=True)
class Kind:
    """A kind of file or folder.

    Args:
        make: writes a small one into a folder.
        answer: all that is read of it, as text or bytes.
        files: patterns of the files that are mutated.
        unchecked: patterns of those that have no checksum, of which another answer cannot be known.
    """

    make: Callable[[Path], None]
    answer: Callable[[Path], Any]
    files: tuple[str, ...]
    unchecked: tuple[str, ...] = ()


def mutated_bytes(content: bytes, random: np.random.Generator) -> bytes:
    """With some bytes flipped, set to edges of number ranges, cut, moved or repeated."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 5))):
        at, size = int(random.integers(max(1, len(data)))), int(random.integers(1, 65))
        match int(random.integers(7)):
            case 0:
                data[at : at + 1] = random.bytes(1)
            case 1 | 2:
                width = int(random.choice((4, 8)))
                edge = int(EDGES[int(random.integers(len(EDGES)))]) % (1 << 8 * width)
                data[at // width * width : (at // width + 1) * width] = edge.to_bytes(width, "little")
            case 3:
                data[at : at + size] = random.bytes(size)
            case 4 if random.integers(3) == 0:
                del data[at:]
            case 5:
                other = int(random.integers(max(1, len(data))))
                data[at : at + size] = data[other : other + size]
            case _ if data:
                at = min(at, len(data) - 1)
                data[at] ^= 1 << int(random.integers(8))
    return bytes(data)


def mutated_text(content: bytes, random: np.random.Generator) -> bytes:
    """With a value in the place of another, a line repeated or lost, or damaged as bytes are."""
    text = content.decode("utf-8")
    values = list(VALUE.finditer(text))
    lines = text.splitlines(keepends=True)
    match int(random.integers(6)):
        case 0 | 1 | 2 if values:
            span = values[int(random.integers(len(values)))]
            word = WORDS[int(random.integers(len(WORDS)))]
            text = text[: span.start()] + word + text[span.end() :]
        case 3 if lines:
            at = int(random.integers(len(lines)))
            lines[at : at + 1] = [lines[at]] * int(random.choice((0, 2, 3)))
            text = "".join(lines)
        case 4 if values:
            first, second = (values[int(random.integers(len(values)))][0] for _ in range(2))
            text = text.replace(first, second, 1)
        case _:
            return mutated_bytes(content, random)
    return text.encode("utf-8")


def mutate(path: Path, case: int) -> None:
    """Damage a file, as the number of the case says."""
    random = np.random.default_rng(case)
    content = path.read_bytes()
    text = path.suffix in TEXTS
    path.write_bytes((mutated_text if text else mutated_bytes)(content, random))


def outcome(kind: Kind, folder: Path, right: Any) -> str:
    """What comes of reading: ``same``, ``refused``, ``other``, or the unwanted error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            given = kind.answer(folder)
    except DejavladError as error:
        return "refused" if str(error) and "\n" not in str(error) else f"a bad message: {str(error)[:500]!r}"
    except Exception as error:
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        at = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else ""
        return f"{type(error).__name__}: {str(error)[:200]} ({at})"
    return "same" if given == right else "other"


def targets(kind: Kind, folder: Path) -> list[Path]:
    """The files to mutate, in a fixed order."""
    return sorted({path for pattern in kind.files for path in folder.glob(pattern) if path.is_file()})


def unchecked(kind: Kind, folder: Path, path: Path) -> bool:
    """Whether another answer is to be expected of a file."""
    return any(path.relative_to(folder).match(pattern) for pattern in kind.unchecked)


def fresh(whole: Path, scratch: Path) -> Path:
    """An undamaged copy."""
    shutil.rmtree(scratch, ignore_errors=True)
    return Path(shutil.copytree(whole, scratch))


def try_case(kind: Kind, whole: Path, scratch: Path, case: int, right: Any) -> tuple[str, str]:
    """(the file that was damaged, what came of it)."""
    fresh(whole, scratch)
    files = targets(kind, scratch)
    path = files[case % len(files)]
    mutate(path, case)
    result = outcome(kind, scratch, right)
    if result == "other" and unchecked(kind, scratch, path):
        result = "other, unchecked"
    return path.relative_to(scratch).as_posix(), result


def batch(name: str, whole: Path, first: int, count: int) -> None:
    """Cases in this process, told line by line."""
    import resource
    import signal

    import torch
    from kinds_of_maps import KINDS

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kind = KINDS[name]
    scratch = whole.with_name("case")  # where it was made: photos are known by their paths
    right = kind.answer(fresh(whole, scratch))
    for case in range(first, first + count):
        print(case, end=" ", flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITING)
        path, result = try_case(kind, whole, scratch, case, right)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if grown > GROWTH:
            result = f"{result}, with {grown >> 20} MiB of memory"
        print(f"{path}\t{result}".replace("\n", " "), flush=True)


def main(count: int, names: list[str]) -> int:
    """Mutate; the number of unwanted outcomes."""
    from kinds_of_maps import KINDS

    bad = 0
    for name in names or list(KINDS):
        with tempfile.TemporaryDirectory() as folder:
            KINDS[name].make(Path(folder) / "case")
            shutil.copytree(Path(folder) / "case", Path(folder) / "whole")
            counts: Counter[str] = Counter()
            others: Counter[str] = Counter()
            first = 0
            while first < count:
                words = ["--batch", name, str(Path(folder) / "whole"), str(first), str(count - first)]
                done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
                lines = done.stdout.splitlines()
                if not lines:
                    raise SystemExit(f"{name}: {done.stderr[-2000:]}")
                for line in lines:
                    case, _, rest = line.partition(" ")
                    path, _, result = rest.partition("\t")
                    result = result or f"the process died ({done.returncode}) {done.stderr[-300:]}"
                    first = int(case) + 1
                    good = result in ("same", "refused", "other, unchecked")
                    counts[result if good else "other" if result == "other" else "bad"] += 1
                    others[path] += result == "other, unchecked"
                    if not good:
                        bad += 1
                        print(f"  {name} case {case} {path}: {result[:400]}", flush=True)
            unknown = {path: number for path, number in others.items() if number}
            print(f"{name}: {count} files, {dict(counts)}, unchecked {unknown}", flush=True)
    return bad


if __name__ == "__main__":
    if sys.argv[1:2] == ["--batch"]:
        batch(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        sys.exit(bool(main(int(sys.argv[1]), sys.argv[2:])))
