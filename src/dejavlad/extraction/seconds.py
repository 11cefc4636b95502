"""What the steps of an extraction take, added up; they overlap, so their sum may be more than the whole."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class Seconds:
    """Seconds by step."""

    decode: float = 0.0
    """Reading, decoding and preparing photos, added up over the threads."""
    network: float = 0.0
    """Describing prepared photos (and writing their patches)."""
    write: float = 0.0
    """Writing descriptors."""
    wait: float = 0.0
    """Of the network and the writing, for photos: what decoding costs beyond what they take themselves."""

    @contextmanager
    def of(self, step: Literal["network", "write"]) -> Iterator[None]:
        """Add the time of what is done inside to a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, step, getattr(self, step) + time.perf_counter() - start)

    def waited(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The batches, the time until each comes being added to `wait`."""
        stream = iter(batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(stream)
            except StopIteration:
                return
            finally:
                self.wait += time.perf_counter() - start
            yield batch

    def to_dict(self) -> dict[str, float]:
        """For JSON, to milliseconds."""
        return {step: round(value, 3) for step, value in asdict(self).items()}

    def __str__(self) -> str:
        steps = ", ".join(f"{step} {value:.1f}" for step, value in asdict(self).items())
        return f"seconds: {steps}"
