"""A Ray cluster of two machines on this one: the same bytes, also where one of them dies."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dejavlad import load_model
from dejavlad.aggregation import NetVLAD
from dejavlad.cli import main
from dejavlad.errors import InputError, MissingExtraError, StoreError
from dejavlad.extraction import extract, ray_actors, ray_worker
from dejavlad.extraction.extract import DESCRIBING
from dejavlad.model import PatchSetting, PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.places import PlaceMap
from dejavlad.progress import Progress
from extraction.test_extraction_resume import contents, listed, write

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
PATCHES = PatchSetting(sizes=(2,))


@pytest.fixture(scope="module")
def model() -> PlaceModel:
    torch.manual_seed(0)
    base = load_model("rootsift-vlad", device="cpu")
    return PlaceModel(base.backbone, NetVLAD(128, 4), base.preprocess, fitted=True, source=base.source)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(30):
        write(tmp_path / "photos" / f"{i:02}.png", i, 64 + 16 * (i % 3 == 0), 80)
    (tmp_path / "photos" / "07.png").write_bytes(b"no photo")
    whole = (tmp_path / "photos" / "11.png").read_bytes()
    (tmp_path / "photos" / "11.png").write_bytes(whole[:90])
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    threads = torch.get_num_threads()
    node = {"num_cpus": threads, "object_store_memory": 100 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        yield made
    finally:
        made.shutdown()


def add_machine(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=torch.get_num_threads(), object_store_memory=100 << 20)


@pytest.mark.slow
def test_a_machine_that_dies_costs_its_batches_alone(
    cluster: Any,
    model: PlaceModel,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    photos = listed(folder)
    extract(model, photos, tmp_path / "whole", batch_size=2, patches=PATCHES)
    node = add_machine(cluster)
    sizes: list[int] = []
    start = ray_actors.Actors._started

    def started(self: Any, reference: Any) -> None:
        start(self, reference)
        sizes.append(len(self._ready))

    monkeypatch.setattr(ray_actors.Actors, "_started", started)
    lost: list[int] = []
    answer = ray_actors.Actors._answer

    def answered(self: Any, reference: Any, actor: Any) -> Any:
        result = answer(self, reference, actor)
        lost.append(result is None)
        return result

    monkeypatch.setattr(ray_actors.Actors, "_answer", answered)
    reports: list[Progress] = []

    def on_progress(report: Progress) -> None:
        reports.append(report)
        if report.done >= 6 and max(sizes, default=0) == 2 and node in cluster.list_all_nodes():
            cluster.remove_node(node, allow_graceful=False)

    # The first answers wait for both machines, so that the second has batches when it dies.
    describe = ray_actors.Actors.answers

    def answers(self: Any, tasks: Any) -> Any:
        deadline = time.monotonic() + 30
        while len(self._ready) < 2 and time.monotonic() < deadline:
            self._start(len(tasks))
            done, _ = self._ray.wait(list(self._starting), num_returns=1, timeout=1)
            for reference in done:
                self._started(reference)
        return describe(self, tasks)

    monkeypatch.setattr(ray_actors.Actors, "answers", answers)
    extract(
        model,
        photos,
        tmp_path / "ray",
        batch_size=2,
        patches=PATCHES,
        ray=cluster.address,
        on_progress=on_progress,
    )
    assert contents(tmp_path / "ray") == contents(tmp_path / "whole")
    assert max(sizes) == 2 and any(lost), (sizes, lost)
    assert not capfd.readouterr().out  # answers alone are for standard output
    done = [report.done for report in reports if report.what == DESCRIBING]
    assert done == sorted(done)
    assert reports[-1].done == reports[-1].total == 30


@pytest.mark.slow
def test_shards_resumed_runs_and_arrays_by_ray(
    cluster: Any, model: PlaceModel, folder: Path, tmp_path: Path
) -> None:
    photos = listed(folder)
    extract(model, photos, tmp_path / "1", batch_size=2, shard=(1, 2))

    class Cut(Exception):
        pass

    def cut(report: Progress) -> None:
        if report.what == DESCRIBING and report.done > 4:
            raise Cut

    with pytest.raises(Cut):
        extract(
            model, photos, tmp_path / "ray", batch_size=2, shard=(1, 2), ray=cluster.address, on_progress=cut
        )
    reports: list[Progress] = []
    extract(
        model,
        photos,
        tmp_path / "ray",
        batch_size=2,
        shard=(1, 2),
        ray=cluster.address,
        on_progress=reports.append,
    )
    assert reports[-1].resumed > 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "1")
    arrays = PhotoList.of(
        [np.random.default_rng(i).integers(0, 256, (64, 80, 3), np.uint8) for i in range(5)]
    )
    for name, ray in (("a", None), ("b", cluster.address)):
        extract(model, arrays, tmp_path / name, batch_size=2, ray=ray)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.slow
def test_an_interrupt_ends_it_and_what_is_finished_stays(
    cluster: Any, model: PlaceModel, folder: Path, tmp_path: Path
) -> None:
    import ray

    photos = listed(folder)

    def interrupt(report: Progress) -> None:
        if report.what == DESCRIBING and report.done > 4 and not thread.is_alive():
            thread.start()

    thread = threading.Timer(0, _thread.interrupt_main)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
    try:
        with pytest.raises(KeyboardInterrupt):
            extract(model, photos, tmp_path / "s", batch_size=1, ray=cluster.address, on_progress=interrupt)
            time.sleep(5)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not ray.is_initialized()
    extract(model, photos, tmp_path / "s", batch_size=1)
    extract(model, photos, tmp_path / "whole", batch_size=1)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_faults_are_told_in_a_line(cluster: Any, model: PlaceModel, folder: Path, tmp_path: Path) -> None:
    photos = listed(folder)
    broken = load_model("rootsift-vlad", device="cpu")
    broken = PlaceModel(
        broken.backbone, NetVLAD(128, 4), broken.preprocess, fitted=True, source=broken.source
    )
    with torch.no_grad():
        for parameter in broken.aggregation.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(InputError, match="by NaN or infinity"):
        extract(broken, photos, tmp_path / "nan", ray=cluster.address)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 3)
        with pytest.raises(StoreError, match=f"no machine .* has {threads + 3} CPU.*OMP_NUM_THREADS"):
            extract(model, photos, tmp_path / "threads", ray=cluster.address)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_command_describes_for_a_map_in_a_database(
    cluster: Any, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lancedb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    for place in range(8, 12):
        (street / "database" / f"{place:02d}.png").unlink()
    build = ["map", "build", "rootsift-vlad", "street/database", "--batch-size", "4"]
    build += ["--device", "cpu", "--resize", "none", "--out"]
    assert main([*build, "lance:db", "--ray", cluster.address]) == 0
    assert main([*build, "folder.map"]) == 0
    by_ray, alone = (PlaceMap.open(each, device="cpu") for each in ("lance:db", "folder.map"))
    assert by_ray.photos.keys == alone.photos.keys and len(alone) == 8
    np.testing.assert_array_equal(by_ray.descriptors, alone.descriptors)


@pytest.mark.slow
def test_a_cluster_that_is_none(folder: Path, tmp_path: Path, model: PlaceModel) -> None:
    pytest.importorskip("ray")
    with pytest.raises(StoreError, match="no Ray cluster answers at --ray nonsense"):
        extract(model, listed(folder), tmp_path / "s", ray="nonsense")


def test_a_machine_that_sees_other_photos_is_named(folder: Path, model: PlaceModel) -> None:
    from dejavlad.extraction.photo_table import PhotoTable

    table = PhotoTable.look(listed(folder), lambda photo: (64, 80))
    answer = ray_worker.Answer(np.arange(2), np.zeros((2, 1), np.float32), {}, [], ("node-7", [1]))
    with pytest.raises(StoreError, match=r"node-7 sees another file .*06\.png"):
        ray_worker.refuse_other_photos(answer, np.array([3, 6]), table)
    (folder / "06.png").unlink()  # gone for all machines, so it is none's fault
    ray_worker.refuse_other_photos(answer, np.array([3, 6]), table)


@pytest.mark.slow
def test_without_ray_one_line_says_what_to_type(
    folder: Path, tmp_path: Path, model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"--ray needs .* pip install 'dejavlad\[ray\]'"):
        extract(model, listed(folder), tmp_path / "s", ray="auto")
    assert not (tmp_path / "s").exists()
