"""The page of a training run: what was learnt, how, and what went wrong. As the original's ``plotResults.m``.

It reads what the run wrote down, at any time while it goes on.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dejavlad.errors import InputError
from dejavlad.evaluation import Result
from dejavlad.guarded.toml_file import read_toml
from dejavlad.model.run_folder import best_at, best_epoch, is_run, read_records, recalls
from dejavlad.report.curves import Axes, Curve, curves, smooth
from dejavlad.report.numbers import grid, reproduce, table, tiles
from dejavlad.report.page import Section, page, write
from dejavlad.report.text import count, duration, escape, label, percent, plain

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
        return [one for one in self.records if one["kind"] == kind]

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
        """The epoch that is best (see `best_epoch`); None before the first test after one."""
        found = {epoch: recall for epoch, recall in self.recalls.items() if epoch}
        return best_epoch(found) if found else None


def write_training_page(
    run: str | Path, path: str | Path | None = None, *, command: str | None = None
) -> Path:
    """The page of a training run, of what is there by now.

    Args:
        run: its folder.
        path: the file; ``index.html`` in the folder, unless given.
        command: how the run was made.

    Returns:
        The file.

    Raises:
        InputError: there is no run.
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
        Section("again", "How to go on", reproduce(command)) if command else None,
    ]
    intro = f"<p>{summary(story)}</p>\n{training_tiles(story)}\n"
    return write(page(story.name, intro, sections), Path(run) / "index.html" if path is None else path)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the demo tells of a training."""

    run: Path
    """Its folder."""
    model: str
    """What was trained, in words."""
    before: Result
    """On streets held out, as it began."""
    after: Result
    """The same streets, with the best epoch's model."""


def learnt_section(learnt: Learnt) -> Section:
    """A training in short: recall before and after on streets held out, and how it came."""
    story = Story.read(learnt.run)
    figures = grid(
        "Recall before and after training",
        [
            f"{count(learnt.after.n_counted, 'query', 'queries')} held out",
            *(f"recall@{n}" for n in learnt.before.recall),
        ],
        (
            (name, [percent(value) for value in result.recall.values()])
            for name, result in (("before training", learnt.before), ("after training", learnt.after))
        ),
    )
    first = min(learnt.before.recall)
    gain = 100 * (learnt.after.recall[first] - learnt.before.recall[first])
    change = f"{abs(gain):.1f} points {'more' if gain > 0 else 'less'}" if gain else "no change"
    spent = sum(_seconds(story).values())
    drawn = _recall_curves(story)
    lead = (
        f"{escape(learnt.model)}, learnt from nothing but rough positions, on streets of another district, "
        f"in {escape(duration(spent))}: {count(len(story.batches), 'batch', 'batches')}, "
        f"{count(int(story.batches[-1]['epoch']), 'epoch')}, of which {_th(story.best)} was best on a third "
        f"district. On the streets of this map, which it never saw, that is <b>{change}</b> of "
        f"recall@{first}."
    )
    return Section(
        "training",
        "Learning from positions",
        f'<div class="pair"><div class="card">{drawn}</div><div class="card">{figures}</div></div>',
        lead,
    )


def _th(epoch: int | None) -> str:
    return "the last" if epoch is None else f"epoch {epoch}"


def summary(story: Story) -> str:
    """What came of it, in a sentence or two, as HTML."""
    found, best = story.recalls, story.best
    where = "photos held out" if story.tested == "val" else "its own training photos"
    state = "It is done." if story.of("finished") else "It goes on, or was cut off."
    if best is None:
        return f"Learning to recognise places from rough positions. {state}"
    n = min(found[best])
    before = f" from <b>{percent(found[0][n])}</b>" if 0 in found else ""
    return (
        f"Learning to recognise places from rough positions took recall@{n} on {where}{before} to "
        f"<b>{percent(found[best][n])}</b>, in epoch {best}. {state}"
    )


def training_tiles(story: Story) -> str:
    """The recalls before and after, and how much was learnt from."""
    found, best = story.recalls, story.best
    figures: list[tuple[str, str, bool]] = []
    if best is not None:
        for n in [n for n in SHOWN_RECALLS if n in found[best]][:2]:
            if 0 in found:
                figures.append((f"recall@{n} before", percent(found[0][n]), False))
            figures.append((f"recall@{n}, epoch {best}", percent(found[best][n]), n == min(found[best])))
    spent = sum(_seconds(story).values())
    figures.append(("batches", f"{len(story.batches):,}", False))
    figures.append(("time", escape(duration(spent)), False))
    return tiles(figures)


def warnings_section(story: Story) -> Section | None:
    """What the doctor found; None where all is well."""
    found = story.of("warning")
    if not found:
        return None
    cards = "".join(
        f'<div class="card warn"><h3>{escape(one["fault"])}</h3><p>{escape(_sentence(one["seen"]))} '
        f'{escape(_sentence(one["why"]))}</p><p class="do">{escape(one["do"])}</p></div>'
        for one in found
    )
    return Section(
        "doctor", "Something may be wrong", f'<div class="twins">{cards}</div>', "Seen in this run:"
    )


def _recall_curves(story: Story) -> str:
    """recall@1, 5 and 10 over the epochs, on both sets."""
    drawn = []
    for of, style, name in (("val", "", "validation"), ("train", " dash", "training")):
        found = recalls(story.records, of)
        for i, n in enumerate(SHOWN_RECALLS):
            points = [(float(epoch), recall[n]) for epoch, recall in found.items() if n in recall]
            drawn.append(Curve(points, f"curve t{i}{style}", f"recall@{n}, {name}", knots=not style))
    return curves(drawn, Axes("epoch", "Recall over the epochs", lambda share: f"{share:.0%}", top=1.0))


def recall_section(story: Story) -> Section | None:
    """How recall rose; None before the first test."""
    html = _recall_curves(story)
    if not html:
        return None
    return Section(
        "recall",
        "Recall",
        f'<div class="card">{html}</div>',
        "The share of queries with a right answer among their first N; epoch 0 is before training. "
        "Where training photos are recognised ever better and those held out are not, it learns by heart.",
    )


def loss_section(story: Story) -> Section | None:
    """The loss of each batch, smoothed, and the learning rate."""
    batches = story.batches
    if not batches:
        return None
    losses = [float(one["loss"]) for one in batches]
    width = max(1, len(losses) // 30)
    numbers = range(1, len(losses) + 1)
    drawn = [
        Curve(list(zip(numbers, losses, strict=True)), "curve faint"),
        Curve(list(zip(numbers, smooth(losses, width), strict=True)), "curve t0"),
    ]
    marks = _epochs(batches)
    loss = curves(drawn, Axes("batch; lines are beginnings of epochs", "Loss of each batch", marks=marks))
    rates = [(float(i), float(one["rate"])) for i, one in zip(numbers, batches, strict=True)]
    steps = [rates[0]]
    for before, after in itertools.pairwise(rates):
        if before[1] != after[1]:
            steps += [before, after]
    rate = curves(
        [Curve([*steps, rates[-1]], "curve t3")],
        Axes("batch", "Learning rate", lambda v: f"{v:.1e}" if v else "0"),
    )
    return Section(
        "loss",
        "Loss and learning rate",
        f'<div class="twins"><div class="card"><h3>Loss</h3>{loss}</div>'
        f'<div class="card"><h3>Learning rate</h3>{rate}</div></div>',
        f"The loss of each batch, and its mean over {count(width, 'batch', 'batches')} around. Negatives are "
        "chosen anew as the network learns, so it need not fall; recall tells.",
    )


def mining_section(story: Story) -> Section | None:
    """Violating and very hard negatives of each batch."""
    batches = story.batches
    if not batches:
        return None
    width = max(1, len(batches) // 30)
    drawn = []
    for key, name, style in (
        ("triplets", "chosen", "curve dash t3"),
        ("violating", "violate the margin", "curve t0"),
        ("very_hard", "nearer than the positive", "curve t1"),
    ):
        means = smooth([one[key] / max(1, one["tuples"]) for one in batches], width)
        drawn.append(Curve([(float(i), value) for i, value in enumerate(means, 1)], style, name))
    html = curves(drawn, Axes("batch", "Negatives of a query", marks=_epochs(batches)))
    return Section(
        "mining",
        "Negatives",
        f'<div class="card">{html}</div>',
        "For each query, how many negatives were chosen by the descriptors at the last refresh, how many of "
        "them violate the margin when they are looked at, and how many are nearer than the positive.",
    )


def time_section(story: Story) -> Section | None:
    """Where the time went."""
    spent = _seconds(story)
    whole = sum(spent.values())
    if not whole:
        return None
    bar, start = "", 0.0
    for i, (name, seconds) in enumerate(spent.items()):
        width = 400 * seconds / whole
        bar += f'<rect class="t{i}" x="{start:.2f}" width="{width:.2f}" height="14">'
        bar += f"<title>{escape(name)}</title></rect>"
        start += width
    key = "".join(
        f'<li><svg class="dot" viewBox="0 0 10 10" aria-hidden="true"><rect class="t{i}" width="10" '
        f'height="10" rx="5"/></svg><b>{escape(duration(seconds))}</b> {escape(name)}</li>'
        for i, (name, seconds) in enumerate(spent.items())
    )
    told = ", ".join(f"{name} {duration(seconds)}" for name, seconds in spent.items())
    return Section(
        "time",
        "Time",
        f'<div class="card"><svg class="round" viewBox="0 0 400 14" role="img" aria-label="{escape(told)}" '
        f'preserveAspectRatio="none">{bar}</svg><ul class="key down">{key}</ul></div>',
    )


def epochs_section(story: Story) -> Section | None:
    """The figures of each epoch."""
    sets = {of: recalls(story.records, of) for of in ("val", "train")}
    epochs = sorted({epoch for found in sets.values() for epoch in found})
    if not epochs:
        return None
    columns = [
        (of, n)
        for of, found in sets.items()
        if found
        for n in SHOWN_RECALLS
        if n in next(iter(found.values()))
    ]
    names = {"val": "validation", "train": "training"}
    losses: dict[int, list[float]] = {}
    for one in story.batches:
        losses.setdefault(one["epoch"], []).append(one["loss"])
    rows = []
    for epoch in epochs:
        cells = [sets[of].get(epoch, {}).get(n) for of, n in columns]
        mean = f"{sum(losses[epoch]) / len(losses[epoch]):.4f}" if epoch in losses else "–"
        chosen = ' <span class="chip good">best</span>' if epoch == story.best else ""
        told = ["–" if cell is None else percent(cell) for cell in cells]
        rows.append((f"{epoch if epoch else 'before'}{chosen}", [*told, mean]))
    by = best_at(next(iter(story.recalls.values())))
    figures = grid("Epochs", ["epoch", *(f"@{n} {names[of]}" for of, n in columns), "mean loss"], rows)
    return Section(
        "epochs",
        "Epochs",
        f'<div class="card">{figures}</div>',
        f"Best is by recall@{by}; <code>{label(story.name)}@epoch:N</code> is the model of any epoch.",
    )


def options_section(story: Story) -> Section:
    """All options of the training."""
    rows = [(escape(key), f"<code>{plain(value)}</code>") for key, value in story.options.items()]
    half = -(-len(rows) // 2)
    tables = "".join(
        f'<div class="card">{table(part, "Options")}</div>' for part in (rows[:half], rows[half:]) if part
    )
    changed = [one["changed"] for one in story.of("options")]
    told = f" Changed on the way: {plain(json.dumps(changed))}." if changed else ""
    return Section("options", "Options", f'<div class="twins">{tables}</div>', f"As they are now.{told}")


def _seconds(story: Story) -> dict[str, float]:
    parts = {
        "describing photos for mining": story.of("refresh"),
        "choosing tuples and taking steps": story.batches,
        "tests": story.of("test"),
    }
    return {name: sum(float(one["seconds"]) for one in records) for name, records in parts.items() if records}


def _epochs(batches: Sequence[Mapping[str, Any]]) -> list[float]:
    """Numbers of the batches that epochs begin with."""
    return [i + 1.0 for i, (a, b) in enumerate(itertools.pairwise(batches), 1) if a["epoch"] != b["epoch"]]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
