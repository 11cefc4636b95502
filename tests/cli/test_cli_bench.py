"""Several models in one table, as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_the_command(run: Run, street: Path, tmp_path: Path) -> None:
    words = ("bench", "squeezenet1_0-avg", "squeezenet1_0-max", "no-such-model", "--dataset", street)
    words = (*words, "--truth", "same-name", "--weights", "random:0", "--resize", "none", "--device", "cpu")
    status, out, err = run(*words, "--out", "made", "--quiet", "--json")
    document = json.loads(out)
    assert (status, err) == (0, "")
    rows = {row["name"]: row for row in document["rows"]}
    assert "no-such-model" in rows["no-such-model"]["error"]
    assert rows["squeezenet1_0-avg"]["recall"].keys() == {"1", "5", "10"}
    page = (tmp_path / "made" / "index.html").read_text(encoding="utf-8")
    assert ">Models that could not be run</h2>" in page and ">Against the best</h2>" in page
    assert "squeezenet1_0-max" in page and "src=" not in page
    status, out, err = run("bench", "nothing", "--dataset", street, "--truth", "same-name", "--out", "none")
    assert status == 1 and "none of the models could be run" in err
