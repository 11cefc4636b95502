"""Which programs made a file."""

import importlib.metadata
import sys
from types import ModuleType

import numpy as np
import pytest

from dejavlad.versions import versions


def test_programs_that_are_loaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "MNN", raising=False)
    monkeypatch.setitem(sys.modules, "faiss", ModuleType("faiss"))  # one that tells no version
    made = versions()
    assert made["numpy"] == np.__version__ and not {"MNN", "faiss"} & made.keys()
    monkeypatch.setitem(sys.modules, "MNN", ModuleType("MNN"))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 3.1")
    assert versions()["MNN"] == "mnn 3.1"
