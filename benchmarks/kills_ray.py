"""Kills workers of a Ray cluster in the middle of their batches: the store is byte-equal to one process's.

    python benchmarks/kills_ray.py --kills 10 --folder FOLDER

A cluster of this machine describes made photos, two a batch. Whenever some more are finished, the process of
a worker ends by SIGKILL, so that what it had in hand is described by the next. Needs Linux (``/proc``).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
from pathlib import Path

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}

import cv2
import numpy as np
import torch
from ray.cluster_utils import Cluster

import dejavlad as dv
from dejavlad.aggregation import NetVLAD
from dejavlad.extraction import extract
from dejavlad.extraction.extract import DESCRIBING
from dejavlad.model import PatchSetting, PlaceModel
from dejavlad.progress import Progress

EVERY = 6
"""Photos described between two kills, at least."""


def main() -> None:
    """Describe photos while workers are killed, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    shutil.rmtree(given.folder, ignore_errors=True)
    rng, chance = np.random.default_rng(0), random.Random(0)
    (given.folder / "photos").mkdir(parents=True)
    for i in range(2 * EVERY * given.kills):
        photo = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(given.folder / f"photos/{i:04}.png"), photo)
    base = dv.load_model("rootsift-vlad", device="cpu")
    torch.manual_seed(0)
    model = PlaceModel(base.backbone, NetVLAD(128, 4), base.preprocess, fitted=True, source=base.source)
    photos, setting = dv.photos(given.folder / "photos"), PatchSetting(sizes=(2,))
    extract(model, photos, given.folder / "whole", batch_size=2, patches=setting)
    node = {"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    killed: list[int] = []
    due = EVERY

    def on_progress(report: Progress) -> None:
        nonlocal due
        workers = descendants("ray::Worker") if report.what == DESCRIBING and report.done >= due else []
        if workers and len(killed) < given.kills:
            os.kill(worker := chance.choice(workers), signal.SIGKILL)
            killed.append(worker)
            due = report.done + chance.randint(EVERY, 2 * EVERY - 4)
            print(f"{len(killed)} killed at {report.done} of {report.total}", flush=True)

    try:
        extract(
            model,
            photos,
            given.folder / "ray",
            batch_size=2,
            patches=setting,
            ray=cluster.address,
            on_progress=on_progress,
        )
    finally:
        cluster.shutdown()
    assert len(set(killed)) == given.kills, killed
    assert contents(given.folder / "ray") == contents(given.folder / "whole")
    print(f"{given.kills} workers killed over {len(photos)} photos: the same bytes as one process")
    shutil.rmtree(given.folder)


def contents(store: Path) -> dict[str, bytes]:
    """File -> bytes."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def descendants(title: str) -> list[int]:
    """Processes below this one whose title begins so."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            titles[int(folder.name)] = (folder / "cmdline").read_text("utf-8", "replace")
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended meanwhile

    def ours(process: int) -> bool:
        while process > 1:
            if process == os.getpid():
                return True
            process = parents.get(process, 0)
        return False

    return [number for number, text in titles.items() if text.startswith(title) and ours(number)]


if __name__ == "__main__":
    main()
