"""The page of several models: one table, recall against speed, and what each was better by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dejavlad.report.page import Section, write_sections
from dejavlad.report.sections import facts_section, protocol_facts, reproduce_section
from dejavlad.report.templating import render
from dejavlad.report.text import percent


def write_bench_page(
    made: Mapping[str, Any],
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    path: str | Path,
    *,
    command: str | None = None,
) -> Path:
    """Write the page of a table of models: one HTML file that loads nothing.

    Args:
        made: as ``bench.json`` has it.
        header: titles of the table's columns.
        cells: its rows, as text, the best model first.
        path: the file.
        command: how it was made.
    """
    ran = [row for row in made["rows"] if not row["error"]]
    failed = [row for row in made["rows"] if row["error"]]
    first = next(iter(ran[0]["recall"]))
    tests = [
        (name, f"recall@{test['n']}", f"{test['difference']:+.3f}",
         f"{test['low']:+.3f} to {test['high']:+.3f}", f"{test['p']:.2g}")
        for name, several in made["against_best"].items()
        for test in several
    ]  # fmt: skip
    bars = [
        {
            "name": row["name"],
            "share": row["recall"][first],
            "ends": (row.get("intervals") or {}).get(first),
            "text": percent(row["recall"][first]),
        }
        for row in ran
    ]
    rows = [(row[0], list(row[1:])) for row in cells]
    sections = [
        Section.of("chart", f"Recall@{first}", "bench", bars=bars, n=first),
        Section.of("models", "Models", "bench", head=list(header), rows=rows),
        Section.of("tests", "Against the best", "bench", tests=tests, best=ran[0]["name"]) if tests else None,
        Section.of("failed", "Models that could not be run", "bench", failed=failed) if failed else None,
        facts_section(protocol_facts(made["protocol"])),
        reproduce_section(command),
    ]
    tiles = [
        (f"recall@{first} of the best", percent(ran[0]["recall"][first]), True),
        ("models", str(len(ran)), False),
        ("queries", f"{ran[0]['n_counted']:,}", False),
        ("database photos", f"{ran[0]['n_database']:,}", False),
    ]
    intro = render("bench", "intro", best=ran[0]["name"], dataset=made["dataset"], tiles=tiles, n=len(ran))
    return write_sections(path, f"Models on {made['dataset']}", intro, sections)
