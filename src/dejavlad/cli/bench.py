"""`dejavlad bench`: several models on the same photos, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dejavlad.cli.options import ModelOptions, ScoringOptions
from dejavlad.cli.sources import PlaceOptions
from dejavlad.cli.terminal import Output, command_line, paired_text, table
from dejavlad.errors import InputError


def bench(
    *models: str,
    out: Path,
    results: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
    scores: ScoringOptions = ScoringOptions(),
    sources: PlaceOptions = PlaceOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Evaluate several models on the same photos: recall, paired tests, speed, sizes, licences.

    A model that cannot be run is told with its reason, and the others go on; status 1 where none could be.

    Example: `dejavlad bench rootsift-vlad efficientnet_lite0-vlad --dataset town/test --out bench`

    Parameters
    ----------
    models
        Names, folders or files of models.
    out
        The folder: one of results for each model, `bench.json`, `index.html`. Run again, it goes on where it
        stopped, and takes what is finished.
    results
        Results that `dejavlad evaluate` wrote, to stand in the same table; refused where their protocol or
        photos differ.
    """
    _ = options.one_dims  # refused at once, not as a failure of each model
    places, stores = sources.open(None, output)
    if stores is not None:
        raise InputError("bench describes photos: --database and --queries are stores of descriptors already")
    output.notes(places.database, places.queries)
    from dejavlad.pipelines.bench_table import Row
    from dejavlad.pipelines.benchmark import bench as run_bench
    from dejavlad.report.bench import write_bench_page

    def tell(row: Row) -> None:
        output.note(f"{row.name}: {row.error}" if row.error else f"{row.name}: {row.result}")

    with output.progress() as on_progress:
        made = run_bench(
            models,
            places,
            out,
            earlier=results or (),
            scoring=scores.scoring(),
            load=options.load,
            on_row=tell,
            **options.describing(on_progress),
        )
    page = write_bench_page(
        made.to_dict(), made.header, made.cells, out / "index.html", command=command_line()
    )
    text = table(made.header, made.cells, right=range(1, len(made.header) - 2))
    for name, tests in made.against_best.items():
        text += f"\n\n{paired_text(name, made.ran[0].name, tests)}"
    for row in made.rows:
        if row.error:
            text += f"\n\n{row.name} could not be run: {row.error}"
    output.answer({**made.to_dict(), "page": str(page)}, f"{text}\n\nopen {page}")
