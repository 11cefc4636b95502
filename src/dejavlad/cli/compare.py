"""`dejavlad compare`: results side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dejavlad.cli.terminal import Flag, Output, paired_text, table


def compare(
    results: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    mix: Flag = False,
    output: Output = Output(),
) -> None:
    """Results side by side; refuses to compare what was measured under different protocols.

    Each but the first is tested against the first, query by query: is it better by more than chance?

    Example: `dejavlad compare out/rootsift out/squeezenet`

    Parameters
    ----------
    results
        Folders that `dejavlad evaluate` wrote, or their `result.json`.
    mix
        Compare results of different protocols all the same.
    """
    from dejavlad.evaluation import Result
    from dejavlad.evaluation import compare as side_by_side

    compared = side_by_side([Result.load(path) for path in results], names=[str(p) for p in results], mix=mix)
    text = table(compared.header, compared.rows, right=range(1, len(compared.header)))
    for name, tests in compared.paired.items():
        text += f"\n\n{paired_text(name, compared.names[0], tests)}"
    if compared.unread:
        output.note(compared.unread)
    if compared.differences:
        output.note(f"mixed all the same: {', '.join(compared.differences)} differ")
    output.answer(compared.to_dict(), text)
