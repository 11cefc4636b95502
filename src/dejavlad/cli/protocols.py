"""`dejavlad dataset protocols`: the named ways of measuring."""

from __future__ import annotations

from dejavlad.cli.terminal import Output, table


def protocols(name: str | None = None, /, *, output: Output = Output()) -> None:
    """The named protocols, for `dejavlad evaluate --protocol`: what is right, and what does not count.

    Example: `dejavlad dataset protocols nordland`

    Parameters
    ----------
    name
        Of this dataset only, or all there is to tell of this protocol.
    """
    from dejavlad.evaluation.protocols import PROTOCOLS, protocol

    chosen = [entry for entry in PROTOCOLS.values() if name is None or entry.name.startswith(f"{name}@")]
    if name is not None and not chosen:
        chosen = [entry for entry in PROTOCOLS.values() if entry.dataset.startswith(name)] or [protocol(name)]
    if name is not None and len(chosen) == 1:
        only = chosen[0]
        lines = [
            ("protocol", only.name),
            ("dataset", only.dataset),
            ("right", only.right),
            ("left out", only.suppressed or "nothing"),
            ("queries without a right answer", "do not count" if only.misses == "drop" else "are misses"),
            ("database photos", _count(only.n_database)),
            ("queries", _count(only.n_queries)),
            ("photos' size as published", only.resize or "not told"),
            ("source", only.source),
            *([("note", only.note)] if only.note else []),
        ]
        output.answer([only.to_dict()], "\n".join(f"{what + ':':<32}{value}" for what, value in lines))
        return
    rows = [
        (
            entry.name,
            entry.right,
            entry.misses,
            entry.suppressed or "-",
            entry.resize or "-",
            _count(entry.n_database),
            _count(entry.n_queries),
        )
        for entry in chosen
    ]
    header = ("protocol", "right", "misses", "left out", "resize", "database", "queries")
    output.answer([entry.to_dict() for entry in chosen], table(header, rows, right=(5, 6)))


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
