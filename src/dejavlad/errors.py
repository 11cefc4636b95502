"""Every error that dejavlad raises on purpose, one tree.

::

    DejavladError                    anything below; the command prints it as one line
    ├── InputError (ValueError)      a value given by the caller: what was given, what is valid
    │   ├── UnknownNameError         a name that is in no table; lists the near ones
    │   ├── PhotoError               a photo that cannot be read: path and reason
    │   │   └── BlankPhotoError      it can be read, but shows nothing
    │   └── MalformedFileError       the content of a file is damaged or hostile; the caller adds which file
    ├── StoreError                   something on disk that cannot be used as it is
    │   ├── StoreMismatchError       made by another model, preprocessing, list ... than expected
    │   ├── StoreBusyError           another process is writing there
    │   └── CheckpointError          a model file that cannot be read, or does not fit the network
    ├── DivergedError                training broke down: a loss or a weight that is not finite
    ├── PeerError                    another of several processes that train together has ended
    ├── DownloadError                a file that could not be fetched or did not verify
    └── MissingExtraError            an optional dependency is not installed
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

MOST_NAMES = 40
"""Of a longer table a message tells so many names."""
SHOWS_NOTHING = "shows nothing"
"""What the reason of a photo begins with that can be read, but shows nothing."""


class DejavladError(Exception):
    """Base of every error raised on purpose; its text is one line fit for a terminal."""


class InputError(DejavladError, ValueError):
    """A value given by the caller cannot be used."""


class UnknownNameError(InputError):
    """A name that is in no table.

    Args:
        kind: what was asked for, e.g. ``"backbone"``.
        given: the name that was given.
        valid: the names that exist.
        note: what else may be given.
        near: what else is near to the name that was given, as paths are.
        listed: what lists the names that exist, where they are too many for a message.
    """

    def __init__(
        self,
        kind: str,
        given: str,
        valid: Iterable[str],
        note: str = "",
        *,
        near: Sequence[str] = (),
        listed: str = "",
    ) -> None:
        import difflib

        self.kind, self.given, self.valid = kind, given, sorted(valid)
        near = [*near, *difflib.get_close_matches(given, self.valid, n=3, cutoff=0.5)]
        shown = ", ".join(self.valid[:MOST_NAMES]) or "none"
        if len(self.valid) > MOST_NAMES:
            shown += f" and {len(self.valid) - MOST_NAMES:,} more"
        hint = f"did you mean {' or '.join(near)}?" if near else listed or f"valid: {shown}"
        if note:
            hint = f"{hint} ({note})"
        super().__init__(f"unknown {kind} {given!r}; {hint}")


class PhotoError(InputError):
    """A photo that cannot be read.

    Args:
        path: the file, or the name of an array.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"cannot read photo {str(path)!r}: {reason}")

    def __reduce__(self) -> tuple[type[PhotoError], tuple[str, str]]:
        return type(self), (self.path, self.reason)  # crosses process borders


class BlankPhotoError(PhotoError):
    """A photo that can be read, but shows nothing: black, white, of one colour, fog.

    Args:
        path: the file, or the name of an array.
        reason: what there is instead, in words; `reason` begins with ``shows nothing``.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        if not reason.startswith(SHOWS_NOTHING):
            self.reason = f"{SHOWS_NOTHING}: {reason}"
        self.args = (f"photo {str(path)!r} {self.reason}",)


class MalformedFileError(InputError):
    """The content of a file is damaged, hostile, or no regular file's; the text is the reason alone.

    Raised by `dejavlad.guarded`; who reads a file says in an error of its own which file it is, and what it
    should have been.
    """


class StoreError(DejavladError):
    """Something on disk cannot be used as it is."""


class StoreMismatchError(StoreError):
    """A store was made by another model, preprocessing, list or precision than expected.

    Args:
        differences: setting -> (in the store, expected now).
        hint: what to do; unless told, to write to another folder.
        other: what is expected is called: now, or what the store is compared with.
    """

    def __init__(
        self,
        path: str | Path,
        differences: dict[str, tuple[object, object]],
        hint: str = "",
        other: str = "now",
    ) -> None:
        self.path, self.differences = str(path), differences
        whose = other if other == "now" else f"in the {other}"
        changes = "; ".join(
            f"{key}: {old!r} there, {new!r} {whose}" for key, (old, new) in differences.items()
        )
        super().__init__(
            f"{str(path)!r} was made otherwise ({changes}). {hint or 'Give another --out, or delete it.'}"
        )


class StoreBusyError(StoreError):
    """Another process is writing there."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        super().__init__(f"{str(path)!r} is being written by another run; wait for it, or give another --out")


class CheckpointError(StoreError):
    """A model file cannot be read, or does not fit the network that it is for."""


class DivergedError(DejavladError):
    """Training broke down: a loss or a weight is not finite; what was reached before is kept."""


class PeerError(DejavladError):
    """Another of the processes that train together has ended.

    Args:
        count: how many they are.
        why: what it said, where that is known.
    """

    def __init__(self, count: int, why: str = "") -> None:
        super().__init__(
            f"another of the {count} processes of this training has ended{why}, and so does this one. Once "
            "its fault is mended, run the same again: it goes on from the last checkpoint"
        )


class DownloadError(DejavladError):
    """A file could not be fetched, or what came is not what was promised."""


class MissingExtraError(DejavladError, ImportError):
    """An optional dependency is not installed.

    Args:
        what: what needs it, e.g. ``"the HNSW index"``.
        extra: the extra that brings it, e.g. ``"faiss"``.
    """

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} needs an optional dependency: pip install 'dejavlad[{extra}]'")


def first_line(error: object) -> str:
    """The first line of what another program says is wrong, at most 200 characters; else its error's name."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def first_names(names: Iterable[str], most: int = 6) -> str:
    """Some names in sorted order, and how many more there are: for messages."""
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more if listed else "nothing"
