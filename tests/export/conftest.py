import pytest

from export.members import model


@pytest.fixture
def make():
    return model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "exports"
