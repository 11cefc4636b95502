"""Where the answers of the original programs lie.

A folder named by ``DEJAVLAD_GOLDEN`` is asked first, then ``shared/golden`` beside the checkout, then
``tests/golden``, whose files are small enough for the repository (``NAME_small`` is cut from a larger one).
Whatever the folder, a test reads counts and sizes from the file.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
OWN = TESTS / "golden"
FOLDERS = (Path(os.environ.get("DEJAVLAD_GOLDEN", TESTS.parents[1] / "shared" / "golden")), OWN)


def golden_path(name: str) -> Path:
    """The file or folder `name` of the goldens; the running test is skipped where no folder has it."""
    small = OWN / Path(name).with_stem(f"{Path(name).stem}_small")
    for path in (*(folder / name for folder in FOLDERS), small):
        if path.exists():
            return path
    pytest.skip(f"no {FOLDERS[0] / name} (DEJAVLAD_GOLDEN names the golden folder)", allow_module_level=True)
