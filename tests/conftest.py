"""Photos made for tests: places of random blocks, each seen twice, a little aside."""

import functools
import gc
import hashlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test processes share the cores; said before torch is loaded

import filelock
import numpy as np
import pytest
from numpy.typing import NDArray

import warm_processes

gc.disable()  # until all tests are collected: what is imported stays


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Adds the processor time of each test, and of the processes it started, to the file ``CPU_TIMES``."""
    start = sum(os.times()[:4]) + warm_processes.seconds()
    result = yield
    if path := os.environ.get("CPU_TIMES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{sum(os.times()[:4]) + warm_processes.seconds() - start:.2f} {item.nodeid}\n")
    return result


def pytest_collection_finish() -> None:
    """What was imported is not searched for garbage again and again, nor what tests make at every turn."""
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def collect_the_garbage_of_a_file() -> Iterator[None]:
    """What its tests left in circles is not held until there are 50,000 objects: some hold arrays."""
    yield
    gc.collect(0)


def pytest_sessionfinish() -> None:
    warm_processes.close()


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run, the same for all processes of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def learn_the_same_clusters_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """k-means of the same points is run once for all tests: most of what fitting the same few photos costs.

    The answer follows from the arguments alone (`tests/numerics` checks that, without this). Processes of
    pytest-xdist share the folder.
    """
    initialise = importlib.import_module("dejavlad.fitting.initialise")
    run, folder = initialise.kmeans, shared_folder(tmp_path_factory) / "clusters"
    folder.mkdir(exist_ok=True)

    def remembering(points: NDArray[np.float32], k: int, **options: int) -> NDArray[np.float32]:
        digest = hashlib.sha256(np.ascontiguousarray(points))
        digest.update(repr((points.shape, points.dtype.str, k, sorted(options.items()))).encode())
        path = folder / f"{digest.hexdigest()}.npy"
        if not path.exists():
            mine = path.with_suffix(f".{os.getpid()}.npy")
            np.save(mine, run(points, k, **options))
            os.replace(mine, path)
        return np.load(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initialise, "kmeans", remembering)
        yield


@pytest.fixture(scope="session", autouse=True)
def do_not_wait_for_the_disk() -> Iterator[None]:
    """Files are not forced onto the disk: a killed process loses nothing by that, only a power cut would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def look_at_small_photos() -> Iterator[dict[str, str]]:
    """Where a test says no size, photos are described at 160 pixels and their points are of 256.

    Users get 320 or 480, and 640; made photos have 128. Gives the policies that users have, which `tests/zoo`
    checks.
    """
    policies = importlib.import_module("dejavlad.zoo.off_the_shelf").RESIZE
    points = importlib.import_module("dejavlad.places.verification.points")
    make, real = points.PointSetting.__init__, dict(policies)
    with pytest.MonkeyPatch.context() as patch:
        for backbone in real:
            patch.setitem(policies, backbone, "longest:160")
        smaller = tuple(256 if value == points.LONGEST else value for value in make.__defaults__)
        patch.setattr(make, "__defaults__", smaller)
        yield real


@pytest.fixture(scope="session", autouse=True)
def learn_clusters_from_fewer_features() -> Iterator[None]:
    """`initialise` draws 5,000 local features in place of 50,000: k-means of a few made photos needs no more.

    Calls of `sample_features` with the tests' own numbers, and those of `dejavlad.fitting`, are as they are.
    """
    initialise = importlib.import_module("dejavlad.fitting.initialise")
    draw = initialise.sample_features
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initialise, "sample_features", functools.partial(draw, features=5_000))
        yield


@pytest.fixture(scope="session", autouse=True)
def describe_the_same_pixels_once() -> Iterator[None]:
    """RootSIFT of the same pixels is computed once a process: nearly all tests look at the same few photos.

    The answer follows from the pixels and the settings alone (`tests/backbones` checks it against the slow
    obvious version).
    """
    network = importlib.import_module("dejavlad.backbones.rootsift").RootSift
    run, known, most = network._one_photo, {}, 128 << 20

    def remembering(self: Any, image_1CHW: Any) -> Any:
        if image_1CHW.device.type != "cpu" or image_1CHW.requires_grad:
            return run(self, image_1CHW)
        pixels = hashlib.sha256(image_1CHW.contiguous().numpy()).digest()
        setting = (self.bin_sizes, self.stride, self.smoothing, self.contrast)
        key = (pixels, image_1CHW.shape, image_1CHW.dtype, setting)
        if key not in known:
            if sum(features.nbytes for features in known.values()) > most:
                known.clear()
            known[key] = run(self, image_1CHW)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "_one_photo", remembering)
        yield


@pytest.fixture(scope="session", autouse=True)
def detect_the_same_points_once() -> Iterator[None]:
    """Local features of one batch by one set of weights are computed once, but for `tests/local`."""
    extractor = importlib.import_module("dejavlad.local.kornia_networks").KorniaExtractor
    run, known = extractor.__call__, {}

    def remembering(self: Any, images_NCHW: NDArray[np.float32]) -> Any:
        if self.device.type != "cpu" or os.environ["PYTEST_CURRENT_TEST"].startswith("tests/local/"):
            return run(self, images_NCHW)
        digest = hashlib.sha256(np.ascontiguousarray(images_NCHW))
        for name, tensor in self.network.state_dict().items():
            digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(tensor.float().contiguous().numpy())
        key = (type(self), self.points, images_NCHW.shape, digest.digest())
        if key not in known:
            known[key] = run(self, images_NCHW)
        return list(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "__call__", remembering)
        yield


@pytest.fixture(scope="session")
def demo_town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The town of 60 photos, to be copied: verbs and examples that make one go on with the copy."""
    from dejavlad.town import make_town

    folder = shared_folder(tmp_path_factory) / "town"
    with filelock.FileLock(folder.with_suffix(".lock")):
        return make_town(folder, photos=60)


@pytest.fixture(scope="session")
def make_view() -> Callable[..., NDArray[np.uint8]]:
    from made_photos import view

    return view


@pytest.fixture(scope="session")
def make_photo() -> Callable[..., Path]:
    from made_photos import write

    return write


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A folder with `database` (places 0 to 11) and `queries` (the same, seen 5 pixels aside)."""
    from made_photos import write_street

    return write_street(tmp_path / "street")


if importlib.util.find_spec("torch") is None:  # `make other-python`: the rooms that need none
    del learn_the_same_clusters_once, learn_clusters_from_fewer_features, look_at_small_photos
    del describe_the_same_pixels_once, detect_the_same_points_once
