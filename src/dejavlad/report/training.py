"""The page of a training run: what was learnt, how, and what went wrong. As the original's ``plotResults.m``.

It reads what the run wrote down, at any time while it goes on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dejavlad.errors import InputError
from dejavlad.evaluation import Result
from dejavlad.guarded.toml_file import read_toml
from dejavlad.model.run_folder import best_at, best_epoch, is_run, read_records, recalls
from dejavlad.report.charts.axes import Axis, percent_axis, smooth
from dejavlad.report.charts.chart import WIDE, WIDTH, Series, chart
from dejavlad.report.page import Section, write_sections
from dejavlad.report.sections import reproduce_section
from dejavlad.report.templating import HTML, render
from dejavlad.report.text import count, duration, percent, plain

SHOWN_RECALLS = (1, 5, 10)
RUN_CONFIG = "config.toml"


@dataclass(frozen=True, slots=True)
class Story:
    """What a run wrote down."""

    name: str
    """Of its folder."""
    records: list[dict[str, Any]]
    """All records."""
    options: dict[str, Any]
    """Of the training."""

    @classmethod
    def read(cls, run: str | Path) -> Story:
        """What lies in a run's folder.

        Raises:
            InputError: there is no run, or its options cannot be read.
            StoreError: its records cannot be read.
        """
        run = Path(run)
        if not is_run(run):
            raise InputError(f"{str(run)!r} is no training run")
        try:
            options = read_toml(run / RUN_CONFIG)
        except (OSError, ValueError) as error:
            raise InputError(f"{str(run / RUN_CONFIG)!r} cannot be read: {error}") from None
        return cls(run.resolve().name, read_records(run), options)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Its records of one kind."""
        return [record for record in self.records if record["kind"] == kind]

    @property
    def batches(self) -> list[dict[str, Any]]:
        """Records of all batches."""
        return self.of("batch")

    @property
    def tested(self) -> str:
        """Which set tells how good it is: the validation set, where there is one."""
        return "val" if recalls(self.records) else "train"

    @property
    def recalls(self) -> dict[int, dict[int, float]]:
        """Epoch -> N -> recall@N, on `tested`."""
        return recalls(self.records, self.tested)

    @property
    def best(self) -> int | None:
        """The epoch with the best recall, by `best_epoch`; None before an epoch was tested."""
        tested = {epoch: recall for epoch, recall in self.recalls.items() if epoch}
        return best_epoch(tested) if tested else None

    @property
    def seconds(self) -> dict[str, float]:
        """Where the time went: what was done -> seconds."""
        parts = {
            "describing photos for mining": self.of("refresh"),
            "choosing tuples and taking steps": self.batches,
            "tests": self.of("test"),
        }
        return {
            name: sum(float(record["seconds"]) for record in records)
            for name, records in parts.items()
            if records
        }


def write_training_page(
    run: str | Path, path: str | Path | None = None, *, command: str | None = None
) -> Path:
    """Write the page of a training run, of what it has written down by now.

    Args:
        run: its folder.
        path: the file; ``index.html`` in the folder, unless given.
        command: how the run was made.

    Raises:
        InputError: it is no run.
        StoreError: its records cannot be read.
    """
    story = Story.read(run)
    sections = [
        warnings_section(story),
        recall_section(story),
        loss_section(story),
        mining_section(story),
        time_section(story),
        epochs_section(story),
        options_section(story),
        reproduce_section(command, "How to go on"),
    ]
    recalls_by_epoch, best = story.recalls, story.best
    intro = render(
        "training",
        "intro",
        before=recalls_by_epoch.get(0),
        after=None if best is None else recalls_by_epoch[best],
        best=best,
        own=story.tested == "train",
        finished=bool(story.of("finished")),
        tiles=_tiles(story),
    )
    return write_sections(Path(run) / "index.html" if path is None else path, story.name, intro, sections)


@dataclass(frozen=True, slots=True)
class Learnt:
    """A training that the demo shows."""

    run: Path
    """Its folder."""
    model: str
    """What was trained, in words."""
    before: Result
    """On streets held out, before training."""
    after: Result
    """The same streets, with the best epoch's model."""


def learnt_section(learnt: Learnt) -> Section:
    """A training in short: recall before and after on streets held out, and how it came."""
    story = Story.read(learnt.run)
    first = min(learnt.before.recall)
    return Section.of(
        "training",
        "Learning from positions",
        "training",
        model=learnt.model,
        spent=sum(story.seconds.values()),
        n_batches=len(story.batches),
        n_epochs=int(story.batches[-1]["epoch"]),
        best=story.best,
        first=first,
        gain=100 * (learnt.after.recall[first] - learnt.before.recall[first]),
        curve=_recall_chart(story),
        head=[
            f"{count(learnt.after.n_counted, 'query', 'queries')} held out",
            *(f"recall@{n}" for n in learnt.before.recall),
        ],
        rows=[
            (name, [percent(value) for value in result.recall.values()])
            for name, result in (("before training", learnt.before), ("after training", learnt.after))
        ],
    )


def warnings_section(story: Story) -> Section | None:
    """What was noticed while it trained; None where all is well."""
    warnings = story.of("warning")
    if not warnings:
        return None
    return Section.of("doctor", "Something may be wrong", "training", warnings=warnings)


def recall_section(story: Story) -> Section | None:
    """How recall rose; None before the first test."""
    drawing = _recall_chart(story, WIDE)
    return None if drawing is None else Section.of("recall", "Recall", "training", drawing=drawing)


def loss_section(story: Story) -> Section | None:
    """The loss of each batch, smoothed, and the learning rate; None before the first batch."""
    batches = story.batches
    losses = [float(record["loss"]) for record in batches]
    if not any(map(math.isfinite, losses)):
        return None
    width = max(1, len(losses) // 30)
    rates = _numbered([float(record["rate"]) for record in batches])
    steps = [rates[0]]
    for before, after in itertools.pairwise(rates):
        if before[1] != after[1]:
            steps += [before, after]
    rate = _chart([Series([*steps, rates[-1]], "curve t3")], "batch", "Learning rate", text=_scientific)
    series = [Series(_numbered(losses), "curve faint"), Series(_numbered(smooth(losses, width)), "curve t0")]
    loss = _chart(series, "batch; lines are beginnings of epochs", "Loss of each batch", _epochs(batches))
    return Section.of("loss", "Loss and learning rate", "training", loss=loss, rate=rate, width=width)


def mining_section(story: Story) -> Section | None:
    """Violating and very hard negatives of each batch, or of classes the photos that are more like another
    one; None before the first batch."""
    batches = story.batches
    if not batches:
        return None
    if story.options.get("mining") == "classes":
        wrong = [record["very_hard"] / max(1, record["tuples"]) for record in batches]
        means = smooth(wrong, max(1, len(batches) // 30))
        series = [Series(_numbered(means), "curve t1", "more like another class")]
        drawing = _chart(series, "batch", "Share of photos", _epochs(batches), width=WIDE)
        return Section.of("mining", "Classes", "training", drawing=drawing, classes=True)
    series = []
    for key, name, style in (
        ("triplets", "chosen", "curve dash t3"),
        ("violating", "violate the margin", "curve t0"),
        ("very_hard", "nearer than the positive", "curve t1"),
    ):
        shares = [record[key] / max(1, record["tuples"]) for record in batches]
        means = smooth(shares, max(1, len(batches) // 30))
        series.append(Series(_numbered(means), style, name))
    drawing = _chart(series, "batch", "Negatives of a query", _epochs(batches), width=WIDE)
    return Section.of("mining", "Negatives", "training", drawing=drawing, classes=False)


def time_section(story: Story) -> Section | None:
    """Where the time went; None before any was spent."""
    whole = sum(story.seconds.values())
    parts = [
        (f"time{i}", name, seconds, duration(seconds))
        for i, (name, seconds) in enumerate(story.seconds.items())
    ]
    return Section.of("time", "Time", "training", parts=parts, whole=whole) if whole else None


def epochs_section(story: Story) -> Section | None:
    """The figures of each epoch; None before the first test."""
    sets = {name: recalls(story.records, name) for name in ("val", "train")}
    epochs = sorted({epoch for tested in sets.values() for epoch in tested})
    if not epochs:
        return None
    columns = [
        (name, n)
        for name, tested in sets.items()
        if tested
        for n in SHOWN_RECALLS
        if n in next(iter(tested.values()))
    ]
    losses: dict[int, list[float]] = {}
    for record in story.batches:
        losses.setdefault(record["epoch"], []).append(record["loss"])
    rows = []
    for epoch in epochs:
        shares = [sets[name].get(epoch, {}).get(n) for name, n in columns]
        mean = f"{sum(losses[epoch]) / len(losses[epoch]):.4f}" if epoch in losses else "–"
        figures = ["–" if share is None else percent(share) for share in shares]
        rows.append((str(epoch) if epoch else "before", [*figures, mean]))
    names = {"val": "validation", "train": "training"}
    return Section.of(
        "epochs",
        "Epochs",
        "training",
        head=["epoch", *(f"@{n} {names[name]}" for name, n in columns), "mean loss"],
        rows=rows,
        best=None if story.best is None else str(story.best),
        by=best_at(next(iter(story.recalls.values()))),
        name=story.name,
    )


def options_section(story: Story) -> Section:
    """All options of the training."""
    rows = [(key, plain(value), True) for key, value in story.options.items()]
    half = -(-len(rows) // 2)
    changed = [record["changed"] for record in story.of("options")]
    return Section.of("options", "Options", "training", halves=[rows[:half], rows[half:]], changed=changed)


def _tiles(story: Story) -> list[tuple[str, str, bool]]:
    """The recalls before and after, and how much was learnt from."""
    tested, best = story.recalls, story.best
    figures: list[tuple[str, str, bool]] = []
    if best is not None:
        for n in [n for n in SHOWN_RECALLS if n in tested[best]][:2]:
            if 0 in tested:
                figures.append((f"recall@{n} before", percent(tested[0][n]), False))
            figures.append((f"recall@{n}, epoch {best}", percent(tested[best][n]), n == min(tested[best])))
    spent = duration(sum(story.seconds.values()))
    return [*figures, ("batches", f"{len(story.batches):,}", False), ("time", spent, False)]


def _recall_chart(story: Story, width: int = WIDTH) -> HTML | None:
    """recall@1, 5 and 10 over the epochs, on both sets; None before the first test."""
    series = []
    for name, style, meaning in (("val", "", "validation"), ("train", " dash", "training")):
        tested = recalls(story.records, name)
        for i, n in enumerate(SHOWN_RECALLS):
            points = [(float(epoch), recall[n]) for epoch, recall in tested.items() if n in recall]
            radius = 0.0 if style else 3.5
            series.append(Series(points, f"curve t{i}{style}", f"recall@{n}, {meaning}", radius))
    epochs = [x for line in series for x, _ in line.points]
    if not epochs:
        return None
    return chart(
        Axis.along(epochs, "epoch"), percent_axis(), series, alt="Recall over the epochs", width=width
    )


def _chart(
    series: Sequence[Series],
    title: str,
    alt: str,
    marks: Sequence[float] = (),
    *,
    text: Callable[[float], str] = "{:g}".format,
    width: int = WIDTH,
) -> HTML:
    """Values from 0 on, over the numbers of batches."""
    points = [point for line in series for point in line.points]
    finite = [y for _, y in points if math.isfinite(y)]
    y = Axis.of(finite or [1.0], text=text, start=0.0)
    return chart(Axis.along([x for x, _ in points], title), y, series, alt=alt, marks=marks, width=width)


def _numbered(values: Sequence[float]) -> list[tuple[float, float]]:
    """(number of the batch, from 1; its value)."""
    return [(float(i), value) for i, value in enumerate(values, 1)]


def _epochs(batches: Sequence[Mapping[str, Any]]) -> list[float]:
    """Numbers of the batches that epochs begin with."""
    return [i + 1.0 for i, (a, b) in enumerate(itertools.pairwise(batches), 1) if a["epoch"] != b["epoch"]]


def _scientific(value: float) -> str:
    return f"{value:.1e}" if value else "0"
