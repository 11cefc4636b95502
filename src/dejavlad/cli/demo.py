"""`dejavlad demo`: the whole story on a made town."""

from __future__ import annotations

from pathlib import Path

from dejavlad.cli.options import ModelOptions
from dejavlad.cli.terminal import Flag, Output, command_line


def demo(
    *,
    out: Path = Path("dejavlad-demo"),
    photos: int | None = None,
    full: Flag = False,
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Make a town, map it, locate photos, evaluate, and write a page about it.

    Example: `dejavlad demo --out demo`, `dejavlad demo --full --out demo`

    Parameters
    ----------
    out
        The folder for all of it; run again, it goes on where it stopped.
    photos
        How many photos the town has (default: 300; 600 with --full).
    full
        Also re-rank by patches, and train a network on other streets of the town, which takes longer.
    """
    from dejavlad.pipelines.demo import LEARNS, Running
    from dejavlad.pipelines.demo import demo as run_demo

    model_name = options.chosen(None, output)
    with output.progress() as on_progress:
        made = run_demo(
            options.load(model_name, on_progress),
            out,
            photos=photos,
            full=full,
            running=Running(options.device, options.batch_size, options.workers, options.seed, on_progress),
            command=command_line(),
        )
    for warning in made.warnings:
        output.note(warning)
    trained, gain = None, []
    if made.learnt is not None:
        before, after = made.learnt.before, made.learnt.after
        trained = {"before": before.to_dict(), "after": after.to_dict(), "run": str(made.learnt.run)}
        gain = [f"{LEARNS}, trained: recall@1 {before.recall[1]:.3f} to {after.recall[1]:.3f}"]
    output.answer(
        {
            "page": str(made.page),
            "result": made.result.to_dict(),
            "answers": [answer.to_dict() for answer in made.answers],
            "training": trained,
        },
        "\n\n".join(
            [str(made.answers[0]), str(made.answers[-1]), str(made.result), *gain, f"open {made.page}"]
        ),
    )
