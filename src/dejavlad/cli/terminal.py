"""What the verbs say and how: answers on standard output, progress and complaints on standard error."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dejavlad.cli.progress_lines import ProgressLines
from dejavlad.failures import blank, failures_text, unread
from dejavlad.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from rich.progress import TaskID

    from dejavlad.evaluation.statistics import Paired
    from dejavlad.extraction import DescriptorStore
    from dejavlad.photo import PhotoList


Flag = Annotated[bool, Parameter(negative=())]
"""An option that is given or left out; it has no `--no-` form."""


@Parameter(name="*", group="Output")
@dataclass(frozen=True)
class Output:
    """How a verb speaks."""

    quiet: Flag = False
    "Say nothing but errors."
    json: Flag = False
    "Print one JSON document instead of text."

    def answer(self, document: object, text: str) -> None:
        """Print the answer: `document` as JSON where asked for, else `text` (nothing when quiet)."""
        if self.json:
            print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
        elif not self.quiet:
            print(text)

    def note(self, text: str) -> None:
        """A remark beside the answer, on standard error."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def notes(self, *lists: PhotoList) -> None:
        """What is worth telling of how photo lists came about, on standard error; each line once."""
        for text in dict.fromkeys(note for photos in lists for note in photos.notes):
            self.note(text)

    def failures(
        self, failed: Mapping[str, str], photo: str = "photo", photos: str = "photos", *, most: int = 5
    ) -> None:
        """The photos that could not be used, on standard error: those that cannot be read and those that show
        nothing, each with their number and the first few by name."""
        for reasons in (unread(failed), blank(failed)):
            if reasons:
                self.note(f"{failures_text(reasons, photo, photos)}:")
            for key, reason in list(reasons.items())[:most]:
                self.note(f"left out {key!r}: {reason}")
            if len(reasons) > most:
                self.note(f"... and {len(reasons) - most} more")

    def scaled(self, *stores: DescriptorStore) -> None:
        """Say of descriptors made elsewhere that they were not of unit length."""
        for store in stores:
            if store.scaled is not None:
                least, most = store.scaled
                self.note(
                    f"{store.path or store.photos.name}: rows are of length {least:.3g} to {most:.3g}; "
                    "they are compared at length 1"
                )

    @contextlib.contextmanager
    def progress(self) -> Iterator[OnProgress]:
        """A callback that draws a bar with the time left on standard error, or writes a line now and then
        where that is no terminal (a log, another program)."""
        if self.quiet:
            yield silent
            return
        if not sys.stderr.isatty():
            yield ProgressLines(lambda line: print(line, file=sys.stderr, flush=True))
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
        )
        tasks: dict[str, TaskID] = {}
        bars = Bars(*columns, console=console)

        def show(report: Progress) -> None:
            if not tasks:
                bars.start()
            if report.what not in tasks:
                tasks[report.what] = bars.add_task(report.what, total=report.total - report.resumed, note="")
            bars.update(
                tasks[report.what],
                completed=report.done - report.resumed,
                total=report.total - report.resumed,
                description=report.what + f" ({report.resumed} done before)" * bool(report.resumed),
                note=report.note,
            )

        try:
            yield show
        finally:
            if tasks:
                bars.stop()


_words: ContextVar[Sequence[str]] = ContextVar("words", default=())


def remember(words: Sequence[str]) -> None:
    """Keep the words that the command was called with, for `command_line`."""
    _words.set(tuple(words))


def command_line() -> str:
    """The command as it was called, to be told on pages."""
    return shlex.join(["dejavlad", *_words.get()])


def complain(reason: str, *, hint: str = "", status: int = 1) -> int:
    """One line on standard error; returns the exit status."""
    line = " ".join(reason.split("\n"))
    print(f"dejavlad: {line}" + (f" (see: {hint})" if hint else ""), file=sys.stderr)
    return status


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[int] = ()) -> str:
    """Plain text columns, two spaces apart; the columns numbered in `right` are set flush right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        set_cells = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(set_cells).rstrip()

    return "\n".join(map(line, cells))


def paired_text(name: str, other: str, tests: Sequence[Paired]) -> str:
    """How one result compares with another, query by query."""
    title = f"{name} against {other} ({tests[0].test}; 95 % intervals; * p below 0.05)"
    return "\n".join([title, *(f"  {test}" for test in tests)])
