"""What a training run has left in its folder, read without training: its records, and its models by name.

::

    run.json              it is a run
    log.jsonl             its records, one JSON object a line
    epochs/000, 001 ...   the model before training and after each epoch
    latest/               the model at the last checkpoint
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from dejavlad.errors import InputError, StoreError
from dejavlad.guarded.fields import fits
from dejavlad.guarded.json_file import CHECKSUM, parse_json_object, without_checksum
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.model.checkpoint import is_model

RUN, LOG, EPOCHS, LATEST = "run.json", "log.jsonl", "epochs", "latest"
BEST_AT = 5
"""N of the recall by which an epoch is best, unless told; where it was not taken, the next smaller one, or
the smallest of all."""
SAME = 1e-6
"""Recalls that differ by less are the same."""
FIELDS: dict[str, dict[str, Any]] = {
    "": {"kind": str, "at": tuple[int, int]},
    "batch": {
        **dict.fromkeys(("epoch", "batch", "tuples", "triplets", "violating", "very_hard"), int),
        **dict.fromkeys(("loss", "rate", "seconds"), Real),
    },
    "test": {"epoch": int, "set": str, "recall": dict[str, Real], "rank_loss": Real | None, "seconds": Real},
    "warning": dict.fromkeys(("fault", "seen", "why", "do"), str),
}
"""What stands in each record, and in those of some kinds; a loss may be no number (NaN)."""
FORMS = "RUN, RUN@latest, RUN@epoch:7, RUN@best or RUN@best:10"


def is_run(folder: Path) -> bool:
    """Whether the folder holds a training run."""
    return (folder / RUN).is_file()


def epoch_folder(run: Path, epoch: int) -> Path:
    """The folder of the model after an epoch, whether it exists or not."""
    return run / EPOCHS / f"{epoch:03d}"


def epochs_of_run(run: Path) -> list[int]:
    """The epochs, ascending, whose models the run has saved."""
    folders = (run / EPOCHS).glob("[0-9]*")
    return sorted(int(path.name) for path in folders if path.name.isdecimal() and is_model(path))


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All records of a run; a last line that was cut off is left out.

    Raises:
        StoreError: they cannot be read, or another line is damaged.
    """
    try:
        text = read_utf8(folder / LOG)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(folder / LOG)!r} cannot be read: {error}") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    records: list[dict[str, Any]] = []
    for number, line in lines:
        try:
            records.append(parse_json_object(line))
        except ValueError as error:
            if number < lines[-1][0]:
                raise _damaged(folder, number, error) from None
    checked = any(CHECKSUM in record for record in records)  # all have one, or none
    for (number, _), record in zip(lines, records, strict=False):
        try:
            if checked and CHECKSUM not in record:
                raise ValueError("it has no checksum")
            _check_record(without_checksum(record))
        except ValueError as error:
            raise _damaged(folder, number, error) from None
    return [without_checksum(record) for record in records]


def _damaged(folder: Path, number: int, error: ValueError) -> StoreError:
    return StoreError(
        f"{str(folder / LOG)!r} line {number} is damaged: {error}; take that line out to go without it"
    )


def _check_record(record: dict[str, Any]) -> None:
    for name, kind in {**FIELDS[""], **FIELDS.get(str(record.get("kind")), {})}.items():
        if name not in record or not fits(record[name], kind):
            raise ValueError(f"{name} cannot be {repr(record.get(name))[:60]}")


def recalls(records: Iterable[Mapping[str, Any]], split: str = "val") -> dict[int, dict[int, float]]:
    """Epoch -> N -> recall@N, for ``val`` or ``train``; epoch 0 is before training."""
    return {
        int(record["epoch"]): {int(n): float(value) for n, value in record["recall"].items()}
        for record in records
        if record["kind"] == "test" and record["set"] == split
    }


def best_of_run(run: Path, n: int | None = None) -> int:
    """The epoch with the best recall@n on the validation set; see `best_epoch`.

    Raises:
        InputError: no epoch was tested on one, or not at n.
    """
    measured = {epoch: recall for epoch, recall in recalls(read_records(run)).items() if epoch > 0}
    if not measured:
        raise InputError(f"{str(run)!r}: no epoch was tested on a validation set")
    return best_epoch(measured, n)


def model_of_run(run: Path, which: str = "") -> Path:
    """The folder of one of its models.

    Args:
        run: its folder.
        which: ``latest``, ``epoch:7``, ``best``, ``best:10``; empty: the best where there are tests, else
            the latest.

    Raises:
        InputError: there is no such model.
    """
    kind, _, number = which.partition(":")
    if not which:
        tested = any(epoch > 0 for epoch in recalls(read_records(run)))
        return model_of_run(run, "best" if tested else "latest")
    if which == "latest":
        folder = run / LATEST
    elif kind == "epoch" and number.isdecimal():
        folder = epoch_folder(run, int(number))
    elif kind == "best" and (number.isdecimal() or which == "best"):
        folder = epoch_folder(run, best_of_run(run, int(number) if number else None))
    else:
        raise InputError(f"{which!r} is none of a run's models; valid: {FORMS}")
    if not is_model(folder):
        epochs = ", ".join(map(str, epochs_of_run(run))) or "none"
        raise InputError(f"{str(run)!r} has no model {which!r}; epochs there: {epochs}")
    return folder


def resolve(text: str | Path) -> Path | None:
    """``RUN``, ``RUN@latest``, ``RUN@epoch:7`` or ``RUN@best:10`` to a model folder; None: RUN is no run.

    Raises:
        InputError: the run has no such model.
    """
    if is_run(Path(text)):
        return model_of_run(Path(text))
    folder, at, which = str(text).rpartition("@")
    if at and is_run(Path(folder)):
        return model_of_run(Path(folder), which)
    return None


def best_at(ns: Iterable[int]) -> int:
    """N of the recall by which an epoch is best, of those that were taken; see `BEST_AT`."""
    ascending = sorted(ns)
    return max((n for n in ascending if n <= BEST_AT), default=ascending[0])


def best_epoch(recalls: Mapping[int, Mapping[int, float]], n: int | None = None) -> int:
    """The epoch with the highest recall@n.

    Among the same, recall at the next smaller N decides, and so on down to the smallest; then at the larger
    ones, ascending; then the earlier epoch. Equivalent to ``getBestEpoch.m``.

    Args:
        recalls: epoch -> N -> recall@N.
        n: one of the Ns; see `BEST_AT`.

    Raises:
        InputError: recall was not taken at n.
    """
    ns = sorted(next(iter(recalls.values())))
    n = best_at(ns) if n is None else n
    if n not in ns:
        raise InputError(f"recall@{n} was not taken; valid: {', '.join(map(str, ns))}")
    order = [
        n,
        *reversed([tie_breaker for tie_breaker in ns if tie_breaker < n]),
        *(tie_breaker for tie_breaker in ns if tie_breaker > n),
    ]
    left = sorted(recalls)
    for tie_breaker in order:
        most = max(recalls[epoch].get(tie_breaker, 0.0) for epoch in left)
        left = [epoch for epoch in left if most - recalls[epoch].get(tie_breaker, 0.0) < SAME]
    return left[0]
