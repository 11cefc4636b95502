"""Protocols by name: what counts as right, what is left out, and of what a recall is the share.

Two papers' "MSLS-val" or "Nordland" need not be the same: each way of measuring has a name of its own,
``DATASET@WAY``, and results of different ones are not compared. They stand on the datasets' cards
(`dejavlad.datasets.cards`), with the source of each; (m) marks what is told from memory.
"""

from __future__ import annotations

from dejavlad.datasets.cards import CARDS
from dejavlad.errors import UnknownNameError
from dejavlad.ground_truth.protocol import Protocol

__all__ = ["PROTOCOLS", "Protocol", "protocol"]

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for card in CARDS.values() for protocol in card.protocols
}
"""Name -> protocol."""


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownNameError: there is none; near ones are listed.
    """
    if name not in PROTOCOLS:
        dataset = name.partition("@")[0]
        own = [known for known, protocol in PROTOCOLS.items() if protocol.dataset == dataset]
        raise UnknownNameError(
            "protocol", name, own or PROTOCOLS, note="all of them: dejavlad dataset protocols"
        )
    return PROTOCOLS[name]
