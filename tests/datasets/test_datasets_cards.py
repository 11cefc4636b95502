"""The cards of the named datasets: whole, and the tables of the documentation are theirs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from dejavlad.datasets import DATASETS
from dejavlad.datasets.card import Card, Page, Published, way
from dejavlad.datasets.cards import CARDS, PUBLISHED
from dejavlad.datasets.layouts.two_folders import open_folders
from dejavlad.evaluation.protocols import PROTOCOLS

TOOL = Path(__file__).parents[2] / "tools" / "dataset_tables.py"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dataset_tables", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def card(name: str, counts: Published | None = None, **more: object) -> Card:
    return Card(name, open_folders, Page("mine", "anywhere"), counts, **more)  # type: ignore[arg-type]


def test_what_is_known_of_a_dataset_stands_on_its_card() -> None:
    assert list(DATASETS) == list(CARDS) and all(name == card.name for name, card in CARDS.items())
    assert set(PUBLISHED) == {card.name for card in CARDS.values() if card.counts}
    protocols = [protocol for card in CARDS.values() for protocol in card.protocols]
    assert list(PROTOCOLS.values()) == protocols and len(PROTOCOLS) == len(protocols)


def test_protocols_take_the_counts_of_their_card() -> None:
    counts = Published(30, 4, "its authors", sure=False)
    ways = (way("a@1f", "me", frames=1), way("a@5m", "you", metres=5, misses="drop", counts=("n_queries",)))
    near, far = card("a", counts, ways=ways).protocols
    assert (near.name, near.dataset, near.source, near.frames) == ("a@1f", "a", "me", 1)
    assert (near.n_database, near.n_queries) == (30, 4)
    assert (far.n_database, far.n_queries, far.misses, far.metres) == (None, 4, "drop", 5)
    assert card("b", ways=ways).protocols[0].n_database is None


def test_the_tables_of_the_documentation_are_up_to_date(tables: ModuleType) -> None:
    keys: set[str] = set()
    for page in ("datasets.md", "protocols.md"):
        text = (tables.DOCS / page).read_text(encoding="utf-8")
        assert tables.updated(text) == text, f"{page}: run python tools/dataset_tables.py"
        keys |= {match[2] for match in tables.BLOCK.finditer(text)}
    assert keys == tables.blocks().keys() - {"own"}


def test_a_table_has_a_row_for_each_dataset_that_is_known(tables: ModuleType) -> None:
    cards = [
        card("a", Published(1_000, 2, "its authors", 33), ways=(way("a@1f", "me", frames=1),)),
        card("b", Published(7, None, "papers", sure=False)),
        card("c"),
        card("d"),
    ]
    assert tables.dataset_table(cards).splitlines() == [
        "| name | database | queries | right answers | protocols |",
        "|---|---|---|---|---|",
        "| `a` | 1,000 | 2 | 33 | `a@1f` |",
        "| `b` | 7 † | | | |",
        "| `c`, `d` | | | | |",
    ]
    assert tables.dataset_table([card("c")]) == ""


def test_a_table_that_is_out_of_date_is_replaced(tables: ModuleType) -> None:
    text = "before\n\n<!-- cards: holidays -->\nold\n<!-- end of cards -->\nafter\n"
    new = tables.updated(text)
    assert "old" not in new and new.startswith("before\n") and new.endswith("<!-- end of cards -->\nafter\n")
    assert "| `holidays` | 1,491 | 500 | 991 |" in new and "*Licence*: see the publishers." in new
    assert tables.updated(new) == new
