"""`dejavlad models`: which models there are."""

from __future__ import annotations

from dejavlad.cli.terminal import Output, table


def models(*, output: Output = Output()) -> None:
    """Names, descriptor size, where weights come from, licence, and whether they are here.

    Example: `dejavlad models`
    """
    from dejavlad.model import list_models

    entries = list_models()
    rows = [
        (entry.name, entry.dims or "-", "here" if entry.here else "to download", entry.licence, entry.what)
        for entry in entries
    ]
    output.answer(
        [entry.to_dict() for entry in entries],
        table(("name", "dims", "weights", "licence", "what"), rows, right=(1,)),
    )
