"""Hostile uploads: mutated photos of each kind that is read, to a running service; statuses, memory, answers.

python benchmarks/serve_hostile.py --count 2000
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from bench_serve import by_clients, memory_text, photos, service
from dejavlad.client import Client, ServiceError
from dejavlad.places import PlaceMap
from dejavlad.zoo import load_model

KINDS = {
    "JPEG": {"quality": 90},
    "PNG": {},
    "WEBP": {"quality": 80},
    "TIFF": {"compression": "tiff_lzw"},
    "GIF": {},
    "BMP": {},
    "PPM": {},
    "JPEG2000": {},
    "AVIF": {},
    "HEIF": {},
}
"""Format -> options, of those that are written here; what this Pillow cannot write is left out."""
EXPECTED = {200, 413, 415, 422}


def seeds() -> dict[str, bytes]:
    """A small photo in each format."""
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    blocks = np.random.default_rng(3).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    image = Image.fromarray(np.kron(blocks, np.ones((6, 6, 1), np.uint8))[:48, :64])
    made = {}
    for kind, options in KINDS.items():
        file = io.BytesIO()
        try:
            image.save(file, kind, **options)
        except (KeyError, OSError, ValueError):
            continue
        made[kind] = file.getvalue()
    return made


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A photo with bytes changed, cut, doubled, or with numbers that are hard to bear."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(min(len(data), chance.choice((64, 512, 1 << 30))))
        way = chance.randrange(7)
        if way == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            data[at] = chance.choice((0, 1, 127, 128, 255))
        elif way == 2:
            number = chance.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
            data[at : at + 4] = number.to_bytes(4, chance.choice(("big", "little")))
        elif way == 3:
            del data[at : at + chance.randrange(1, 64)]
        elif way == 4:
            piece = data[at : at + chance.randrange(1, 256)]
            data[at:at] = piece * chance.choice((1, 2, 50))
        elif way == 5:
            data = data[: max(1, at)]
        else:
            data[at:at] = chance.randbytes(chance.randrange(1, 64))
        if not data:
            return b"x"
    return bytes(data)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=2000, help="mutations of each kind")
    arguments.add_argument("--clients", type=int, default=4)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty = argparse.Namespace(database=None, queries=None, most=12)
        database, queries = photos(empty, Path(folder))
        town = Path(folder) / "town.map"
        model = load_model("rootsift-vlad")  # of small photos, so that what is tried is decoding
        small = replace(model.preprocess, resize="longest:96")
        PlaceMap.build(model.with_preprocess(small), database, town)
        with service(town) as (address, process):
            print(f"hostile uploads: before {memory_text(process.pid)}")
            faults = 0
            with Client(address) as client:
                wanted = client.locate([queries[1]], verify="none")
            for kind, seed in seeds().items():
                started = time.perf_counter()
                statuses, slowest = attack(address, kind, seed, given)
                faults += sum(count for status, count in statuses.items() if status not in EXPECTED)
                text = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
                print(
                    f"  {kind:9s} {text}; slowest {slowest:.1f} s, {time.perf_counter() - started:.0f} s; "
                    f"{memory_text(process.pid)}",
                    flush=True,
                )
                with Client(address) as client:
                    faults += client.locate([queries[1]], verify="none") != wanted
            print(f"  {faults} answers of another status than {sorted(EXPECTED)}, or wrong")
    return 1 if faults else 0


def attack(address: str, kind: str, seed: bytes, given: argparse.Namespace) -> tuple[Counter[int], float]:
    """Statuses of the answers, and how long the slowest took."""
    statuses: Counter[int] = Counter()
    times: list[float] = []
    lock = threading.Lock()

    def ask(client: Client, number: int) -> None:
        content = mutated(seed, random.Random(f"{given.seed}/{kind}/{number}"))
        started = time.perf_counter()
        try:
            client.describe([content])
            status = 200
        except ServiceError as error:
            status = error.status
        with lock:
            times.append(time.perf_counter() - started)
            statuses[status] += 1

    by_clients(address, given.clients, given.count, ask)
    return statuses, max(times)


if __name__ == "__main__":
    sys.exit(main())
