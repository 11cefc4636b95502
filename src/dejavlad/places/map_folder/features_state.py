"""Where the local features of a map lie (``MAP/local.sqlite``), and how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from dejavlad.storage.state import State

FILE: Final = "local.sqlite"
KIND, VERSION = "dejavlad-map-features", 1
TABLE = "CREATE TABLE features(row INTEGER PRIMARY KEY, record BLOB NOT NULL, crc INTEGER NOT NULL)"
AGAIN = "delete this file; `dejavlad map build --local` makes it again"
SETTING: Final = "setting"


def features_state(folder: Path) -> State:
    """The state of a map's local features, which may not be there."""
    return State(folder / FILE, KIND, VERSION, (TABLE,), AGAIN)


def features_setting(state: State) -> dict[str, Any] | None:
    """``kind``, ``points`` and ``longest``; None where the map keeps none.

    Raises:
        StoreError: the file is damaged.
    """
    if not state.exists():
        return None
    with state.reading() as connection:
        setting = state.value(connection, SETTING)
    try:
        return {"kind": str(setting["kind"]), "points": setting["points"], "longest": setting["longest"]}
    except (TypeError, KeyError, ValueError) as error:
        raise state.damaged(error) from None
