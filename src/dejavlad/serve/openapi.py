"""The interface as an OpenAPI document (stub filled below)."""

from __future__ import annotations

from typing import Any


def document(version: str, token: bool) -> dict[str, Any]:
    """The document."""
    return {"openapi": "3.1.0", "info": {"title": "dejavlad", "version": version}, "paths": {}}
