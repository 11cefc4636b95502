"""Loops of a long sequence: what the last frames of 100,000 cost, by three ways in one run; memory.

    python benchmarks/bench_loops.py --frames 100000

Rows are those of ``bench_scale.py``, in a file. *One by one* is `LoopDetector.add` (all rows in memory),
*blocks* what ``dejavlad loops`` does with a store, *codes* the nearest 256 by one bit a number, as an index
would propose them. Milliseconds a frame are of processor time; codes leave out the confidence.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from bench_scale import blocks, resident
from dejavlad.extraction import DescriptorStore
from dejavlad.index.signs import SignCoder, proposed
from dejavlad.places.loops import SPEEDS, LoopDetector, _StoredFrames


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--last", type=int, default=256, help="frames measured, at the end of the sequence")
    given = parser.parse_args()
    count, dims, first = given.frames, given.dims, given.frames - given.last
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (count, dims))
        for start, part in blocks(count, dims):
            rows[start : start + len(part)] = part
        store = DescriptorStore.from_arrays(np.load(path, mmap_mode="r"))
        print(f"{count} frames of {dims} numbers: {resident():.0f} MB before", flush=True)

        stored = _StoredFrames(store, 30, 1, SPEEDS)
        stored._described[:first], stored._factors[:first] = True, 1
        stored._count, stored._numbers = first, list(range(first))
        started, loops = time.process_time(), []
        for last in range(first + 64, count + 1, 64):
            loops += [stored._take(row, similar, None) for row, similar in stored.block(last)]
        took = 1e3 * (time.process_time() - started) / len(loops)
        print(f"in blocks of 64: {took:.2f} ms of processor time a frame, {resident():.0f} MB")

        coder = SignCoder.learn(store.rows)
        codes = coder.encode(store.rows[:first])
        started = time.process_time()
        for query in np.asarray(store.rows[first : first + 64], np.float32):
            proposed(coder, codes, query[None], 256, None)
        took = 1e3 * (time.process_time() - started) / 64
        print(f"256 frames proposed by codes of 1 bit: {took:.2f} ms a frame", flush=True)

        detector = LoopDetector(threshold=-np.inf)
        detector._rows, detector._described = np.zeros((count, dims), np.float32), np.ones(count, np.bool_)
        detector._rows[:first] = store.rows[:first]
        detector._count, detector._numbers = first, list(range(first))
        started = time.process_time()
        alone = [detector.add(row) for row in store.rows[first : first + len(loops)]]
        took = 1e3 * (time.process_time() - started) / len(loops)
        print(f"one by one: {took:.2f} ms a frame, {resident():.0f} MB")
        pairs = [(a, b) for a, b in zip(loops, alone, strict=True) if a is not None and b is not None]
        same = sum(a.closes == b.closes for a, b in pairs)
        off = max(abs(a.confidence - b.confidence) for a, b in pairs)
        print(f"the same frame: {same} of {len(loops)}; confidence differs by {off:.1e} at most")


if __name__ == "__main__":
    main()
