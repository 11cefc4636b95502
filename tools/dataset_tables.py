"""The tables of ``docs/datasets.md`` and ``docs/protocols.md``, made of the datasets' cards.

``python tools/dataset_tables.py`` writes them; with ``--check`` it only says whether they are up to date.
What stands between ``<!-- cards: KEY -->`` and ``<!-- end of cards -->`` is replaced, the text around stays.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from dejavlad.datasets.card import Card
from dejavlad.datasets.cards import CARDS
from dejavlad.ground_truth.protocol import Protocol

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"(<!-- cards: ([\w-]+) -->\n).*?(<!-- end of cards -->)", re.DOTALL)
COLUMNS = ("name", "database", "queries", "right answers", "protocols", "")


def blocks() -> dict[str, str]:
    """What belongs between the marks of each key: a page's table and source, and the table of protocols."""
    made = {"protocols": protocol_table([known for card in CARDS.values() for known in card.protocols])}
    for page in {card.page.key: card.page for card in CARDS.values()}.values():
        cards = [card for card in CARDS.values() if card.page == page and card.shown]
        text = dataset_table(cards)
        if page.source:
            line = f"*Get it*: {page.source}. *Licence*: {page.licence}."
            text += "\n\n" * bool(text)
            text += textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False)
        made[page.key] = text
    return made


def dataset_table(cards: Sequence[Card]) -> str:
    """One row a dataset; those of which nothing is known but the name share the last one."""
    known = [card for card in cards if card.counts or card.ways or card.note]
    rows = [_row(card) for card in known]
    if others := ", ".join(f"`{card.name}`" for card in cards if card not in known):
        rows.append((others, "", "", "", "", ""))
    used = [i for i in range(len(COLUMNS)) if i == 0 or any(row[i] for row in rows)]
    if used == [0]:
        return ""
    return _table([COLUMNS[i] for i in used], ([row[i] for i in used] for row in rows))


def protocol_table(protocols: Iterable[Protocol]) -> str:
    """One row a protocol."""
    return _table(
        ("protocol", "right", "without a right answer", "left out", "source"),
        (
            (
                f"`{protocol.name}`",
                protocol.right,
                "does not count" if protocol.misses == "drop" else "a miss",
                protocol.suppressed or "–",
                "; ".join(text for text in (protocol.source, protocol.note) if text),
            )
            for protocol in protocols
        ),
    )


def updated(text: str) -> str:
    """A page's text with its tables as the cards are now."""
    made = blocks()
    return BLOCK.sub(lambda match: f"{match[1]}\n{made[match[2]]}\n\n{match[3]}", text)


def main(arguments: Sequence[str]) -> int:
    """Exit status 1 and a line for each page that is out of date, with ``--check``; 0 otherwise."""
    status = 0
    for page in (DOCS / "datasets.md", DOCS / "protocols.md"):
        text = page.read_text(encoding="utf-8")
        if (new := updated(text)) == text:
            continue
        if "--check" in arguments:
            print(f"{page.name} is not as the cards are: python tools/dataset_tables.py")
            status = 1
        else:
            page.write_text(new, encoding="utf-8", newline="\n")
    return status


def _row(card: Card) -> tuple[str, ...]:
    counts = card.counts
    mark = "" if counts is None or counts.sure else " †"
    numbers = (None,) * 3 if counts is None else (counts.database, counts.queries, counts.positives)
    protocols = ", ".join(f"`{protocol.name}`" for protocol in card.protocols)
    cells = ("" if number is None else f"{number:,}{mark}" for number in numbers)
    return (f"`{card.name}`", *cells, protocols, card.note)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["|".join(f" {cell} " if cell else " " for cell in line) for line in (header, *rows)]
    return "\n".join(f"|{line}|" for line in (lines[0], "|".join(["---"] * len(header)), *lines[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
