import argparse
import sys
from pathlib import Path

import pytest

from .conftest import Running, Town

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
hostile = pytest.importorskip("serve_hostile")


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(hostile.seeds()))
def test_mutated_photos_get_an_error_or_an_answer(running: Running, town: Town, kind: str) -> None:
    """A few of what ``benchmarks/serve_hostile.py`` sends by the thousand."""
    given = argparse.Namespace(count=60, clients=3, seed=7)
    statuses, slowest = hostile.attack(running.address, kind, hostile.seeds()[kind], given)
    assert set(statuses) <= hostile.EXPECTED and statuses.total() == 60
    assert slowest < 20
    assert running.client.locate([town.query(1)])[0]["known"]
    assert running.service.budget.used == 0 and running.service.check.waiting == 0
