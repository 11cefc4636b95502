"""Damaged files for the importers: each must end in an error of ours, or in a model; never in a crash, a hang
or memory without bound.

``python tests/convert/fuzz.py 2000`` mutates each of the small networks made here 2000 times;
``python tests/convert/fuzz.py 2000 FILE ...`` mutates those files, of any kind that can be imported. Each
batch runs in a process of its own with limits on memory and time, so that a crash costs one case and is
reported with its number. Linux and macOS only; `outcome` alone runs anywhere.
"""

from __future__ import annotations

import glob
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from make_class_objects import GOLDEN
from matlab import conv, head, network, write_v5, write_v73

from dejavlad.convert import import_model
from dejavlad.errors import CheckpointError, InputError

MEMORY = 4 << 30
"""Address space of a batch: torch alone takes two."""
GROWTH = 512 << 20
"""Resident memory that a small file may cost at most."""
SECONDS = 10
EDGES = (0, 1, 2, 7, 8, 15, 16, 127, 128, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def seeds(folder: Path) -> dict[str, Path]:
    """A small network of each kind."""
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    layers = [
        conv("conv1", drawn(3, 3, 3, 4), drawn(1, 4), stride=2, pad=[0, 1, 0, 1]),
        {"type": "relu", "name": "relu1", "leak": 0.1},
        *head(random, 4, "vlad_preL2_intra", clusters=3, dims=2),
    ]
    net = {"net": network(layers)}
    return {
        "v5": write_v5(folder / "v5.mat", net),
        "compressed": write_v5(folder / "compressed.mat", net, compress=True),
        "v73": write_v73(folder / "v73.mat", net),
        **{path.stem: path for path in sorted(GOLDEN.glob("class_objects_vlad_*.mat"))},
    }


def mutated(content: bytes, case: int) -> bytes:
    """The file with some bytes flipped, set to edges of number ranges, cut, moved or repeated."""
    random = np.random.default_rng(case)
    data = bytearray(content)
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(len(data))) if len(data) else 0
        size = int(random.integers(1, 65))
        match int(random.integers(7)):
            case 0:
                data[at : at + 1] = bytes([int(random.integers(256))])
            case 1:
                data[at // 4 * 4 : at // 4 * 4 + 4] = int(random.choice(EDGES)).to_bytes(4, "little")
            case 2:
                data[at // 8 * 8 : at // 8 * 8 + 8] = int(random.choice(EDGES)).to_bytes(8, "little")
            case 3:
                data[at : at + size] = random.bytes(size)
            case 4 if random.integers(4) == 0:
                del data[at:]
            case 5:
                other = int(random.integers(max(1, len(data))))
                data[at : at + size] = data[other : other + size]
            case _:
                data[at : at + 1] = bytes(
                    [(data[at] if at < len(data) else 0) ^ 1 << int(random.integers(8))]
                )
    return bytes(data)


def outcome(path: Path) -> str:
    """What came of importing it: ``model``, ``refused``, or the unwanted error."""
    try:
        import_model(path).spec.to_dict()
    except (CheckpointError, InputError) as error:
        return "refused" if "\n" not in str(error) and str(error) else f"a bad message: {error!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "model"


def batch(seed: Path, first: int, count: int) -> None:
    """Cases in this process, told line by line."""
    import resource
    import signal

    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    content = seed.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / seed.name
        for beside in {seed, *seed.parent.glob(f"{glob.escape(seed.stem)}.*")}:  # weights, data
            shutil.copy(beside, folder)
        print("seed", outcome(path), flush=True)
        for case in range(first, first + count):
            path.unlink()
            path.write_bytes(mutated(content, case))
            print(case, end=" ", flush=True)
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
            signal.alarm(SECONDS)
            verdict = outcome(path)
            signal.alarm(0)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            if grown > GROWTH:
                verdict = f"{verdict}, with {grown >> 20} MiB of memory"
            if time.monotonic() - start > SECONDS / 2:
                verdict = f"{verdict}, in {time.monotonic() - start:.1f} s"
            print(verdict.replace("\n", " "), flush=True)


def main(count: int, files: list[Path]) -> int:
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, seed in ({str(path): path for path in files} or seeds(Path(folder))).items():
            counts: dict[str, int] = {}
            first = 0
            while first < count:
                command = [sys.executable, __file__, "--batch", str(seed), str(first), str(count - first)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                lines = done.stdout.splitlines()
                if lines[:1] != ["seed model"]:
                    raise SystemExit(f"{name}: {lines[:1]} {done.stderr[-2000:]}")
                for line in lines[1:]:
                    case, _, verdict = line.partition(" ")
                    first = int(case) + 1
                    verdict = verdict or f"the process died ({done.returncode})"
                    kind = verdict if verdict in ("model", "refused") else "bad"
                    counts[kind] = counts.get(kind, 0) + 1
                    if kind == "bad":
                        bad += 1
                        print(f"{name} case {case}: {verdict[:300]}", flush=True)
                if done.returncode and not lines[1:]:
                    raise SystemExit(f"{name}: {done.stderr[-2000:]}")
            print(f"{name}: {count} files, {counts}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1] == "--batch":
        batch(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        sys.exit(main(int(sys.argv[1]), [Path(one) for one in sys.argv[2:]]))
