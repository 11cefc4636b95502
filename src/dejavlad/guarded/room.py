"""A budget of memory for what is made of one file."""

from __future__ import annotations

from dataclasses import dataclass

from dejavlad.errors import CheckpointError


@dataclass(slots=True)
class Room:
    """What may still be made of a file: bytes and values."""

    nbytes: int
    values: int = 1_000_000

    @classmethod
    def of(cls, size: int) -> Room:
        """For a file of so many bytes; networks hardly compress."""
        return cls(64 * 2**20 + 32 * size)

    def take(self, nbytes: int, values: int = 1) -> None:
        """Raises CheckpointError where there is no such room left."""
        self.nbytes -= nbytes
        self.values -= values
        if self.nbytes < 0 or self.values < 0:
            raise CheckpointError("it declares far more data than a file of its size can hold")
