"""Errors as answers: a status and one line; nothing of how the program is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dejavlad.errors import (
    DejavladError,
    InputError,
    MissingExtraError,
    StoreBusyError,
    StoreError,
    StoreMismatchError,
    UnknownNameError,
)

BUSY_AGAIN = {"Retry-After": "2"}


class Refusal(Exception):
    """A request that is not answered, and why.

    Args:
        status: of HTTP.
        reason: one line: what was given, what is valid.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.reason = status, " ".join(reason.split())
        self.headers = dict(headers or {})
        super().__init__(reason)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"error": {"status": self.status, "reason": self.reason}}


def refusal_of(error: DejavladError) -> Refusal:
    """An error of the library as an answer."""
    text = str(error)
    if isinstance(error, StoreBusyError):
        return Refusal(409, "another process is changing this map; try again later", BUSY_AGAIN)
    if isinstance(error, StoreMismatchError):
        return Refusal(503, "the map on disk is of another model now; start the service again")
    if isinstance(error, MissingExtraError):
        return Refusal(501, text)
    if isinstance(error, UnknownNameError):
        return Refusal(404 if error.kind == "photo in the map" else 400, text)
    if isinstance(error, InputError):
        return Refusal(400, text)
    if isinstance(error, StoreError):
        return Refusal(503, "the map cannot be read now: it is being made anew, or is damaged", BUSY_AGAIN)
    return Refusal(500, "something is wrong with the model on disk; the service's log says what")
