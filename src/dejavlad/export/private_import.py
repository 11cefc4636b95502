"""Programs of OpenVINO's makers, imported so that nothing is sent to them.

OpenVINO and NNCF bring ``openvino-telemetry``, which sends an event over the network as soon as either is
imported, unless its user has declined. Both do without it where it is not installed; so here it is not found.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

TELEMETRY: Final = "openvino_telemetry"


def import_privately(name: str) -> Any:
    """Import ``openvino`` or ``nncf`` with its telemetry off, for as long as this process lives.

    A program that has imported ``openvino_telemetry`` itself, before, keeps it for itself.

    Raises:
        ImportError: it is not installed.
    """
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        if before is not None:
            sys.modules[TELEMETRY] = before
