"""Which programs made a file: what it takes to repeat a figure, or to know why it differs."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Final

LIBRARIES: Final = (
    *("numpy", "scipy", "torch", "cv2", "PIL", "faiss", "kornia", "transformers", "lightning_fabric"),
    *("onnxruntime", "openvino"),
)
"""Modules that figures may depend on; those that are not loaded had no part in them."""


def versions() -> dict[str, str]:
    """Name -> version of dejavlad, Python, the machine, and those of `LIBRARIES` and MNN that are loaded."""
    from dejavlad import __version__

    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in LIBRARIES}
    if "MNN" in sys.modules:  # which does not tell its version so
        loaded["MNN"] = importlib.metadata.version("mnn")
    return {
        "dejavlad": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        **{name: str(version) for name, version in loaded.items() if version is not None},
    }
