"""The service's HTTP interface from Python; filled below."""

from __future__ import annotations
