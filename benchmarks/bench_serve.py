"""The service against `PlaceMap.locate`: photos a second, waiting times, and every answer compared.

1, 8 and 64 clients on the loopback ask for one photo at a time, by turns with the same photos through
`PlaceMap.locate` in one process. `--mixed N` then sends N requests, good and bad ones, and tells the memory
of the service's processes as it goes on.

    python benchmarks/bench_serve.py --database DIR --queries DIR --local
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from _timing import processor
from dejavlad.client import Answer, Client, ServiceError
from dejavlad.datasets import photos as open_photos
from dejavlad.places import PlaceMap
from dejavlad.zoo import load_model

CLIENTS = (1, 8, 64)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--database", type=Path, help="photos of the map (default: made ones)")
    arguments.add_argument("--queries", type=Path, help="photos to ask about")
    arguments.add_argument("--local", action="store_true", help="the map keeps local features")
    arguments.add_argument("--verify", default="auto")
    arguments.add_argument("--longest", type=int, help="pixels that the model looks at (default: its own)")
    arguments.add_argument("--most", type=int, default=40, help="photos of each, at most")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--requests", type=int, default=64, help="of a round")
    arguments.add_argument("--mixed", type=int, default=0, help="then so many good and bad requests")
    given = arguments.parse_args()
    print(
        f"serve: {processor()}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}"
    )
    with tempfile.TemporaryDirectory() as folder:
        database, queries = photos(given, Path(folder))
        town = Path(folder) / "town.map"
        model = load_model("rootsift-vlad")
        if given.longest:  # cheap answers, so that what is measured is the service
            model = model.with_preprocess(replace(model.preprocess, resize=f"longest:{given.longest}"))
        PlaceMap.build(model, database, town, local=given.verify if given.local else None)
        with service(town) as (address, process):
            if given.rounds:
                compare(given, address, process, town, queries)
            if given.mixed:
                mixed(given.mixed, address, process, town, queries)
    return 0


def photos(given: argparse.Namespace, folder: Path) -> tuple[list[Path], list[Path]]:
    """The map's photos and those to ask about."""
    if given.database is not None:
        database, queries = (
            [photo.path for photo in open_photos(str(each))][: given.most]
            for each in (given.database, given.queries)
        )
        return database, queries
    for name, aside in (("database", 0), ("queries", 3)):
        (folder / name).mkdir()
        for place in range(12):
            blocks = np.random.default_rng(place).integers(0, 256, (9, 14, 3), dtype=np.uint8)
            wall = np.kron(blocks, np.ones((6, 6, 1), np.uint8))[:48, aside : aside + 64]
            Image.fromarray(wall).save(folder / name / f"{place:02d}.jpg", quality=92)
    return sorted((folder / "database").iterdir()), sorted((folder / "queries").iterdir())


@contextlib.contextmanager
def service(town: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A service in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "dejavlad", "serve", str(town), "--port", str(port), "--quiet"]
    process = subprocess.Popen(words)
    try:
        client = Client(f"http://127.0.0.1:{port}")
        for _ in range(300):
            try:
                client.maps()
                break
            except ServiceError:
                time.sleep(0.2)
        client.close()
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        started = time.monotonic()
        process.wait(120)
        print(f"  SIGTERM: status {process.returncode} after {time.monotonic() - started:.1f} s")


def compare(
    given: argparse.Namespace,
    address: str,
    process: subprocess.Popen[bytes],
    town: Path,
    queries: list[Path],
) -> None:
    """Both by turns, so that a busy machine slows both alike."""
    direct = PlaceMap.open(town)
    wanted = [answer.to_dict() for answer in direct.locate(queries, verify=given.verify)]
    ask(address, queries, wanted, 4, len(queries), given.verify)  # warm
    print(f"  {len(direct)} photos in the map, {len(queries)} queries, verify={given.verify}")
    order = [queries[i % len(queries)] for i in range(given.requests)]
    rates: dict[int, list[float]] = {clients: [] for clients in (0, *CLIENTS)}
    spent: dict[int, list[float]] = {clients: [] for clients in (0, *CLIENTS)}
    waits: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    wrong = 0
    for _ in range(given.rounds):
        started, cpu = time.perf_counter(), time.process_time()
        for at in range(0, len(order), 8):
            direct.locate([str(p) for p in dict.fromkeys(order[at : at + 8])], verify=given.verify)
        rates[0].append(len(order) / (time.perf_counter() - started))
        spent[0].append((time.process_time() - cpu) / len(order))
        for clients in CLIENTS:
            cpu, started = seconds_of(process.pid), time.perf_counter()
            times, faults = ask(address, queries, wanted, clients, len(order), given.verify)
            rates[clients].append(len(order) / (time.perf_counter() - started))
            spent[clients].append((seconds_of(process.pid) - cpu) / len(order))
            waits[clients] += times
            wrong += faults
    base = statistics.median(rates[0])
    print(f"    PlaceMap.locate: {base:.1f} photos/s, {1000 * statistics.median(spent[0]):.0f} ms CPU each")
    for clients in CLIENTS:
        ratio = statistics.median(s / d for s, d in zip(rates[clients], rates[0], strict=True))
        times = sorted(waits[clients])
        print(
            f"    {clients:2d} clients: {statistics.median(rates[clients]):.1f} photos/s, ratio {ratio:.2f}, "
            f"median {1000 * statistics.median(times):.0f} ms, "
            f"99% {1000 * times[min(len(times) - 1, int(0.99 * len(times)))]:.0f} ms, "
            f"{1000 * statistics.median(spent[clients]):.0f} ms CPU each"
        )
    print(f"    {sum(map(len, waits.values()))} answers compared with the direct ones: {wrong} differ")


def ask(
    address: str, queries: list[Path], wanted: list[dict], clients: int, count: int, verify: str
) -> tuple[list[float], int]:
    """Seconds of each request, and how many answers are not the direct ones."""
    contents = [path.read_bytes() for path in queries]
    times: list[float] = []
    wrong: list[int] = []

    def ask(client: Client, number: int) -> None:
        which = number % len(queries)
        started = time.perf_counter()
        (answer,) = client.locate([contents[which]], verify=verify)
        times.append(time.perf_counter() - started)
        if not same(answer, wanted[which]):
            wrong.append(number)

    by_clients(address, clients, count, ask)
    return times, len(wrong) + count - len(times)


def by_clients(address: str, clients: int, count: int, ask: Callable[[Client, int], None]) -> None:
    """Call `ask` with each of `count` numbers, shared out among clients that ask at once."""
    numbers, lock = iter(range(count)), threading.Lock()

    def run() -> None:
        with Client(address) as client:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                ask(client, number)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def same(answer: Answer, direct: dict) -> bool:
    """Whether two answers are one, but for the rounding of descriptors within batches."""
    pairs = list(zip(answer["matches"], direct["matches"], strict=False))
    return (
        len(answer["matches"]) == len(direct["matches"])
        and all(a["name"] == d["name"] and a["inliers"] == d["inliers"] for a, d in pairs)
        and all(abs(a["score"] - d["score"]) < 1e-4 for a, d in pairs)
        and all(answer[key] == direct[key] for key in ("known", "failed", "position", "reason"))
        and abs(answer["confidence"] - direct["confidence"]) < 1e-3
    )


def mixed(
    count: int, address: str, process: subprocess.Popen[bytes], town: Path, queries: list[Path]
) -> None:
    """Good and bad requests by eight clients, and the memory of the service's processes meanwhile."""
    wanted = [answer.to_dict() for answer in PlaceMap.open(town).locate(queries, verify="none")]
    contents = [path.read_bytes() for path in queries]
    lock = threading.Lock()
    statuses: dict[int, int] = {}
    wrong: list[str] = []

    def ask(client: Client, number: int) -> None:
        status, complaint = one(client, contents, wanted, number)
        with lock:
            statuses[status] = statuses.get(status, 0) + 1
            if complaint:
                wrong.append(complaint)
            if sum(statuses.values()) % max(1, count // 10) == 0:
                done = sum(statuses.values())
                print(f"    {done:6d} requests: {memory_text(process.pid)}", flush=True)

    print(f"  {count} requests of good and bad: before {memory_text(process.pid)}")
    started = time.perf_counter()
    by_clients(address, 8, count, ask)
    by_status = ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items()))
    print(f"    {by_status}; {len(wrong)} not as expected {wrong[:3]}; {time.perf_counter() - started:.0f} s")


def one(client: Client, contents: list[bytes], wanted: list[dict], number: int) -> tuple[int, str]:
    """A request of a kind that follows from its number: its status, and what is wrong with it if anything."""
    chance = random.Random(number)
    content = contents[number % len(contents)]
    kind = number % 8
    expected = (200, 200, 200, (200, 413, 415, 422), 415, 400, 404, 200)[kind]
    try:
        if kind <= 2:
            (answer,) = client.locate([content], verify="none")
            right = same(answer, wanted[number % len(contents)])
            return 200, "" if right else f"{number}: another answer"
        if kind == 3:
            damaged = bytearray(content)
            for _ in range(8):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            client.locate([bytes(damaged)[: chance.randrange(20, len(damaged))]], verify="none")
        elif kind == 4:
            client.locate([b"no photo " + chance.randbytes(2000)])
        elif kind == 5:
            client.locate([content], verify="nothing of the kind")
        elif kind == 6:
            client.image("town", f"Li4v{number}", size=96)
        else:
            photo = next(client.photos(client.maps()[0]["name"], at_once=1))
            client.image("town", photo["id"], size=96)
        status = 200
    except ServiceError as error:
        status = error.status
    good = status in expected if isinstance(expected, tuple) else status == expected
    return status, "" if good else f"{number}: status {status}"


def processes(pid: int) -> list[int]:
    """A process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def seconds_of(pid: int) -> float:
    """Processor time of a process and those that it started."""
    ticks = 0
    for each in processes(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_text(pid: int) -> str:
    """Resident memory of the service, of its processes that decode, and its open files."""
    resident = []
    for each in processes(pid):
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{each}/statm").read_text().split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return f"{resident[0]:.0f} MiB, decoding {'+'.join(f'{r:.0f}' for r in resident[1:])}, {files} files"


if __name__ == "__main__":
    sys.exit(main())
