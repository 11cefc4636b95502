"""How many photos each known dataset holds, as published: the counts of all cards by name."""

from __future__ import annotations

from dejavlad.datasets.card import Published
from dejavlad.datasets.cards import CARDS

__all__ = ["PUBLISHED", "Published"]

PUBLISHED: dict[str, Published] = {
    card.name: card.counts for card in CARDS.values() if card.counts is not None
}
"""Name of a dataset -> its counts, for those where they are known."""
