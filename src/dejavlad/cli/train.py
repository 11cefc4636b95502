"""`dejavlad train`: learn a descriptor from photos and their rough positions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from dejavlad.cli.options import WeightOptions
from dejavlad.cli.terminal import Flag, Output, command_line
from dejavlad.errors import DejavladError, InputError
from dejavlad.failures import failures_dict, failures_text
from dejavlad.progress import OnProgress, Progress

if TYPE_CHECKING:
    from dejavlad.ground_truth import PlaceDataset
    from dejavlad.model import PlaceModel
    from dejavlad.training import Finding, Run, TrainConfig

PARTS = ("train", "val")
"""Folders of a dataset with parts, and what they serve for."""


@Parameter(name="*", group="Model")
@dataclass(frozen=True)
class StartOptions(WeightOptions):
    """What training begins with, and where it is computed."""

    resize: str | None = None
    "HxW, longest:N or none, as --set resize=... (default: none, or with --init the model's own)."
    precision: Literal["fp32", "bf16", "fp64"] | None = None
    "As --set precision=..."
    batch_size: int | None = None
    "Photos described at once, as --set describe_batch=... (queries of a step: --set batch_size=...)."
    workers: int | None = None
    "As --set workers=..."
    seed: int | None = None
    "As --set seed=..."

    def change(self, config: TrainConfig) -> TrainConfig:
        """The options with what is given here."""
        given: dict[str, Any] = {
            "resize": self.resize,
            "precision": self.precision,
            "describe_batch": self.batch_size,
            "workers": self.workers,
            "seed": self.seed,
        }
        return config.changed({key: value for key, value in given.items() if value is not None})

    def load(self, config: TrainConfig, init: str | None, on_progress: OnProgress) -> PlaceModel:
        """The model to begin with."""
        from dejavlad.training import initial_model

        return initial_model(
            config,
            init,
            on_progress=on_progress,
            device=self.device,
            weights=self.weights,
            input=self.input,
            offline=self.offline or None,
        )

    def named(self, init: str | None) -> bool:
        """Whether a model is given, rather than left to the options of the training."""
        return any(given is not None for given in (init, self.weights, self.input))


@Parameter(name="*")
@dataclass(frozen=True)
class RunOptions:
    """What a run is tested on, begins with and writes."""

    val: str | None = None
    """What it is tested on after each epoch: a dataset's name or folder; `none` for nothing. Default: where
    `--dataset` is a folder with `train` in it, the `val` beside that."""
    set: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None
    "Change an option, as `learning_rate=1e-5`; several may follow."
    init: str | None = None
    "The model to begin with, instead of the network that the options name."
    check: Flag = False
    "Only examine what would be learnt from, on a sample: seconds to a minute."
    tensorboard: Flag = False
    "Write event files for TensorBoard too, into `events` in the run's folder."
    root: Path | None = None
    "Where a named dataset lies."

    def datasets(self, dataset: str, config: TrainConfig) -> tuple[PlaceDataset, PlaceDataset | None]:
        """What is learnt from, and what is tested on; classes need no queries, so photos alone will do."""
        from dejavlad.datasets import DATASETS, holds_two, open_dataset, open_one_folder

        roots = (Path(), self.root or Path())
        whole = next((path for root in roots if (path := root / dataset).is_dir()), None)
        in_parts = whole is not None and (whole / PARTS[0]).is_dir()
        folder = whole / PARTS[0] if whole is not None and in_parts else whole
        alone = config.mining == "classes" and folder is not None and not holds_two(folder)
        if folder is not None and alone and (in_parts or dataset not in DATASETS):
            learnt = open_one_folder(folder)
        elif folder is not None and in_parts:
            learnt = open_dataset(folder)
        else:
            learnt = open_dataset(dataset, root=self.root)
        if self.val is None and whole is not None and in_parts and (whole / PARTS[1]).is_dir():
            return learnt, open_dataset(whole / PARTS[1])
        return learnt, None if self.val in (None, "none") else open_dataset(self.val, root=self.root)


def train(
    *,
    config: Annotated[str | None, Parameter(name=("--config", "--recipe"))] = None,
    dataset: str,
    out: Path,
    running: RunOptions = RunOptions(),
    options: StartOptions = StartOptions(),
    output: Output = Output(),
) -> None:
    """Learn a descriptor from photos and their rough positions; run it again and it goes on where it stopped.

    Examples:

        dejavlad train --config pitts30k-vgg16-vlad --dataset town --out run
        dejavlad train --config netvlad --init MODEL --set epochs=5 --dataset town/train --out run
        dejavlad train --config netvlad --dataset town --out run --check
        dejavlad train --recipe cosplace --dataset sf-xl/processed --out run

    Then `run`, `run@latest`, `run@epoch:3` and `run@best:1` are models by name.

    Parameters
    ----------
    config
        A recipe by its name, or a TOML file of options; left out where a run goes on.
    dataset
        What is learnt from: a dataset's name or folder, or a folder with `train` (and `val`) in it; where
        classes are learnt (cosplace, eigenplaces), a folder of photos too.
    out
        The run's folder. Its `index.html` shows how it goes.
    """
    from dejavlad.model.run_folder import is_run
    from dejavlad.training import Run
    from dejavlad.training import check as examine

    goes_on = is_run(out)
    chosen = options.change(_config(config, out, goes_on).with_settings(running.set or ()))
    learnt, tested = running.datasets(dataset, chosen)
    for places in (learnt, tested):
        if places is not None:
            output.notes(places.database, places.queries)
    with output.progress() as on_progress:
        resumes = goes_on and not options.named(running.init)
        model = None if resumes else options.load(chosen, running.init, on_progress)
        if running.check:
            initial = model or options.load(chosen, str(Run(out).model("epoch:0")), on_progress)
            _answer_check(examine(chosen, initial, learnt, on_progress=on_progress), output)
            _tell_cost(initial, learnt, chosen, output)
            return
        if model is not None and not goes_on:
            _tell_cost(model, learnt, chosen, output)
        events = running.tensorboard
        run, page = _train(chosen, model, learnt, tested, out, options.device, events, output, on_progress)
    if page is not None:
        _answer(run, page, output)


def _config(config: str | None, out: Path, goes_on: bool) -> TrainConfig:
    from dejavlad.training import Run, list_recipes, load_recipe

    if config is not None:
        return load_recipe(config)
    if goes_on:
        return Run(out).config
    raise InputError(f"give --config: a .toml file, or one of {', '.join(list_recipes())}")


def _train(
    config: TrainConfig,
    model: PlaceModel | None,
    learnt: PlaceDataset,
    tested: PlaceDataset | None,
    out: Path,
    device: str,
    tensorboard: bool,
    output: Output,
    on_progress: OnProgress,
) -> tuple[Run, Path | None]:
    """Train, telling how it goes; the run and its page, which the first of several processes writes."""
    from dejavlad.report import write_training_page
    from dejavlad.training import train as run_training
    from dejavlad.training.distributed import is_first
    from dejavlad.training.run.events import Events
    from dejavlad.training.trainer import TRAINING

    events = Events(out) if tensorboard and is_first() else None
    last = ""

    def on_record(record: Mapping[str, Any]) -> None:
        nonlocal last
        if events is not None:
            events(record)
        if record["kind"] == "batch":
            last = (
                f"epoch {record['epoch']}, loss {record['loss']:.3f}, {record['violating']} violating, "
                f"{record['very_hard']} very hard"
            )
        elif record["kind"] == "warning":
            output.note(f"warning: {_warning_text(record)}")
        elif record["kind"] == "frozen maps" and (record["kept"] or config.train_from):
            kept = f"kept for {record['serves']}" if record["kept"] else "not kept"
            output.note(f"frozen layers of {record['set']}: {kept} ({record['why']})")
        elif record["kind"] == "photo":
            output.note(f"left out {record['key']!r}: {record['reason']}")
        if record["kind"] in ("test", "warning", "finished"):
            write_training_page(out, command=command_line())

    def show(report: Progress) -> None:
        on_progress(replace(report, note=last) if report.what == TRAINING else report)

    try:
        run = run_training(
            config, model, learnt, tested, out, device=device, on_progress=show, on_record=on_record
        )
    except KeyboardInterrupt:
        output.note(f"stopped in {last or 'the beginning'}; what was learnt is kept")
        raise
    finally:
        if events is not None:
            events.close()
    return run, write_training_page(out, command=command_line()) if is_first() else None


def _tell_cost(model: PlaceModel, learnt: PlaceDataset, config: TrainConfig, output: Output) -> None:
    """What it will take; what stands in the way of training itself is for the training to say."""
    from dejavlad.training.diagnostics.cost import estimate_cost

    if not output.quiet:
        with contextlib.suppress(DejavladError):
            output.note(str(estimate_cost(model, learnt, config)))


def _answer_check(findings: list[Finding], output: Output) -> None:
    text = (
        "\n".join(f"warning: {finding}" for finding in findings)
        or "nothing is wrong that is known to go wrong"
    )
    output.answer([finding.to_dict() for finding in findings], text)


def _answer(run: Run, page: Path, output: Output) -> None:
    split = "val" if run.recalls() else "train"
    recalls = {epoch: recall for epoch, recall in run.recalls(split).items() if recall}
    last = max(recalls, default=0)
    best = run.best() if split == "val" and last else last
    lines = [
        f"{'before' if not epoch else f'epoch {epoch}'}: "
        + ", ".join(f"recall@{n} {value:.3f}" for n, value in recalls[epoch].items() if n in (1, 5, 10))
        for epoch in sorted({0, best} & recalls.keys())
    ]
    model = run.model()
    failed = {record["key"]: record["reason"] for record in run.records if record["kind"] == "photo"}
    output.answer(
        {
            "run": str(run.path),
            "model": str(model),
            "epochs": max(run.epochs),
            "best": best,
            "recall": {str(epoch): {str(n): v for n, v in r.items()} for epoch, r in recalls.items()},
            "of": split,
            "warnings": [record for record in run.records if record["kind"] == "warning"],
            "page": str(page),
            **failures_dict(failed),
        },
        "\n".join([*lines, f"model: {run.path}", f"open {page}"]),
    )
    if failed:
        output.note(f"{failures_text(failed)}, and are neither queries nor answers")


def _warning_text(record: Mapping[str, Any]) -> str:
    return f"{record['fault']}: {record['seen']}. {record['why']}. {record['do']}"
