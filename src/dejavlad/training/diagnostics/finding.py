"""What the doctor says: a known way in which training goes wrong, seen here."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault by its name, and what speaks for it."""

    fault: str
    """In a few words, the same each time."""
    seen: str
    """What was seen, with numbers, as part of a sentence."""
    why: str
    """Why it does harm, as part of a sentence."""
    do: str
    """What to do about it, as one or more sentences without the last full stop."""

    def __str__(self) -> str:
        return f"{self.fault}: {self.seen}. {self.why}. {self.do}"

    def to_dict(self) -> dict[str, str]:
        """The four fields by name, for records and JSON."""
        return asdict(self)
