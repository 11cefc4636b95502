"""Figures of a result as tiles and tables, and how to make them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dejavlad.datasets import PlaceDataset
from dejavlad.datasets.twins import twins_text
from dejavlad.evaluation import Result
from dejavlad.report.text import count, duration, escape, percent, plain, shorten

TOLD_METRES = (5.0, 10.0, 25.0, 50.0, 100.0)
"""Distances of the table."""
LONGEST_COMMAND = 20_000
"""Characters of a command that a page shows."""


def tiles(figures: Sequence[tuple[str, str, bool]]) -> str:
    """Large figures side by side.

    Args:
        figures: what it is and its value, as HTML, and whether it is the main one.
    """
    return (
        '<dl class="tiles">'
        + "".join(
            f"<div{' class=main' if main else ''}><dt>{what}</dt><dd>{value}</dd></div>"
            for what, value, main in figures
        )
        + "</dl>"
    )


def result_tiles(result: Result | None, places: PlaceDataset) -> str:
    """The recalls and how many photos they are of."""
    recalls = list(result.recall.items())[:4] if result is not None else []
    figures = [(f"recall@{n}", percent(value), i == 0) for i, (n, value) in enumerate(recalls)]
    figures += [
        ("queries", f"{len(places.queries):,}", False),
        ("database photos", f"{len(places.database):,}", False),
    ]
    return tiles(figures)


def table(rows: Sequence[tuple[str, str]], caption: str = "") -> str:
    """Facts, one a row.

    Args:
        rows: name and value, as HTML.
        caption: what they are of, for those who do not see the page.
    """
    told = f' aria-label="{escape(caption)}"' if caption else ""
    body = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in rows)
    return f'<div class="scroll"><table{told}><tbody>{body}</tbody></table></div>'


def grid(caption: str, head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Figures by two things.

    Args:
        caption: what they are, for those who do not see the page.
        head: what the first column names, then what the others hold, as HTML.
        rows: the name of a row and its figures, as HTML.
    """
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{figure}</td>" for figure in figures)}</tr>'
        for name, figures in rows
    )
    return (
        f'<div class="scroll"><table class="num" aria-label="{escape(caption)}">'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def recall_table(result: Result) -> str:
    """recall@N, and with fewer dimensions where that was tried."""
    ns = list(dict.fromkeys([*result.recall, *(n for recall in result.dims.values() for n in recall)]))
    full = result.model.get("dims") if result.model is not None else None
    lines = [("all" if full is None else f"{plain(full)} dims" if result.dims else "recall", result.recall)]
    lines += [(f"{d:,} dims", recall) for d, recall in sorted(result.dims.items()) if d != full]
    rows = [(name, _percents(recall, ns)) for name, recall in lines]
    if intervals := result.intervals:
        rows.append(("95&nbsp;% interval", [_ends(intervals.get(n)) for n in ns]))
    first = "descriptor" if result.dims else "share of queries"
    return grid("Recall", [first, *(f"recall@{n}" for n in ns)], rows)


def parts_table(result: Result) -> str:
    """recall@N of each part of the queries; nothing where there are none."""
    if not result.parts:
        return ""
    ns = list(result.recall)
    return grid(
        "Recall by parts",
        ["part", *(f"recall@{n}" for n in ns), "queries"],
        (
            (plain(name), [*_percents(part.recall, ns), f"{part.queries:,}"])
            for name, part in result.parts.items()
        ),
    )


def distances_table(result: Result) -> str:
    """The share of queries with an answer so near, at round distances; nothing where it is not known."""
    if not result.by_distance:
        return ""
    curves = result.by_distance.values()
    return grid(
        "Recall by distance",
        ["one of the", *(f"first {n}" for n in result.by_distance)],
        (
            (f"within {metres:g}&nbsp;m", [percent(curve[metres]) for curve in curves])
            for metres in TOLD_METRES
            if all(metres in curve for curve in curves)
        ),
    )


def _percents(recall: Mapping[int, float], ns: Iterable[int]) -> list[str]:
    return [percent(recall[n]) if n in recall else "–" for n in ns]


def outcomes(result: Result, depth: int) -> str:
    """How many queries came to which end, as a bar with its key; nothing where the ranks are not known."""
    if result.hits_at is None or not result.n_queries:
        return ""
    once = int((result.hits_at == 1).sum())
    later = int((result.hits_at > 1).sum())
    missing = result.n_queries - once - later - result.n_without_truth
    ends = [
        ("good", "right at once", once),
        ("later", f"right answer at ranks 2 to {depth:,}", later),
        ("bad", f"no right answer among the first {depth:,}", missing),
        ("none", "without a right answer in the database", result.n_without_truth),
    ]
    there = [end for end in ends if end[2] > 0]
    bar, start = "", 0.0
    for kind, told, number in there:
        width = 400 * number / result.n_queries
        bar += f'<rect class="o-{kind}" x="{start:.2f}" width="{width:.2f}" height="14">'
        bar += f"<title>{told}: {number:,}</title></rect>"
        start += width
    key = "".join(
        f'<li><i class="k-{kind}"></i><b>{number:,}</b> {told}</li>' for kind, told, number in there
    )
    alt = ", ".join(f"{number} {told}" for _, told, number in there)
    return (
        f'<div class="gap"><svg class="round" viewBox="0 0 400 14" role="img" aria-label="{alt}" '
        f'preserveAspectRatio="none">{bar}</svg><ul class="key down">{key}</ul></div>'
    )


def facts(result: Result, places: PlaceDataset) -> str:
    """Counts, model, protocol and seconds."""
    rows = [
        ("Dataset", plain(places.name)),
        ("Database", count(result.n_database, "photo")),
        ("Queries", count(result.n_queries, "query", "queries")),
        (
            "Without a right answer",
            f"{count(result.n_without_truth, 'query', 'queries')}"
            + (" (left out)" if result.protocol.get("misses") == "drop" else " (counted as misses)")
            if result.n_without_truth
            else "none",
        ),
        ("Recall is a share of", count(result.n_counted, "query", "queries")),
    ]
    if twins := twins_text(result.twins):
        rows.append(("Twins", plain(twins)))
    if result.model is not None:
        rows += [
            (_name(f"model {key}"), _code(value)) for key, value in result.model.items() if value is not None
        ]
    if result.rerank is not None:
        rows.append(("Re-ranked", plain(result.rerank)))
    if places.protocol is not None:
        rows.append(("What is right", _code(places.protocol)))
    rows += [(plain(name), f"{value:.4f}") for name, value in result.metrics.items()]
    rows += [(_name(key), _code(value)) for key, value in _flat(result.protocol).items()]
    rows += [(_name(f"time to {key}"), escape(duration(value))) for key, value in result.seconds.items()]
    return table(rows, "What the figures depend on")


def reproduce(command: str | None) -> str:
    """The command, ready to be copied; nothing where it is not known."""
    if command is None:
        return ""
    lines = "\n".join(escape(line) for line in shorten(command, LONGEST_COMMAND).split("\n"))
    return f'<div class="card"><pre><code>{lines}</code></pre></div>'


def _flat(held: Mapping[str, object]) -> dict[str, object]:
    """Protocol entries, those of the truth among them."""
    told: dict[str, object] = {}
    for key, value in held.items():
        if key == "truth" and isinstance(value, Mapping):
            told |= {f"truth {name}": inner for name, inner in value.items()}
        elif value is not None:
            told[key] = value
    return told


def _name(key: str) -> str:
    return plain(key.replace("_", " ")[:1].upper() + key.replace("_", " ")[1:])


def _ends(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "–"
    low, high = interval
    return f"{100 * low:.1f}–{100 * high:.1f}&nbsp;%"


def _code(value: object) -> str:
    return f"<code>{plain(value)}</code>"
