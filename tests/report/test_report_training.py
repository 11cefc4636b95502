"""The page of a training run: complete in one file, and it says what the run wrote down."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_report_pages import HOSTILE, read

from dejavlad.errors import InputError
from dejavlad.report import write_training_page
from dejavlad.report.charts.axes import Axis, percent_axis, smooth, ticks
from dejavlad.report.charts.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Series, chart


def batch(epoch: int, number: int, loss: float = 0.5) -> dict[str, Any]:
    return {
        "kind": "batch", "at": [epoch, number], "epoch": epoch, "batch": number, "loss": loss, "tuples": 4,
        "triplets": 20, "violating": 10, "very_hard": 3, "rate": 1e-3 / epoch, "seconds": 0.5,
    }  # fmt: skip


def score_of(epoch: int, photos: str, *values: float) -> dict[str, Any]:
    recall = dict(zip(("1", "5", "10"), values, strict=True))
    at = [epoch + 1, 0]
    fields = {"epoch": epoch, "set": photos, "recall": recall, "rank_loss": 0.1, "seconds": 2.0}
    return {"kind": "test", "at": at, **fields}


REFRESH = [{"kind": "refresh", "at": [1, 0], "seconds": 3.0, "spread": 1.0}]
WHOLE = [
    *REFRESH,
    score_of(0, "val", 0.25, 0.5, 0.75),
    score_of(0, "train", 0.3, 0.5, 0.7),
    *(batch(1, i, 1.0 / i) for i in range(1, 5)),
    score_of(1, "val", 0.5, 0.9, 0.95),
    score_of(1, "train", 0.6, 0.7, 0.8),
    *(batch(2, i, 0.2) for i in range(1, 5)),
    score_of(2, "val", 0.45, 0.85, 0.95),
    score_of(2, "train", 0.8, 0.9, 1.0),
    {"kind": "finished", "at": [3, 0], "epochs": 2},
]


def run_of(folder: Path, records: list[dict[str, Any]], options: str = "margin = 0.1\n") -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}", encoding="utf-8")
    (folder / "config.toml").write_text(options, encoding="utf-8")
    (folder / "log.jsonl").write_text(
        "".join(json.dumps(record) + "\n" for record in records), encoding="utf-8"
    )
    return folder


def test_a_whole_run(tmp_path: Path) -> None:
    path = write_training_page(run_of(tmp_path / "run", WHOLE), command="dejavlad train --out run")
    assert path == tmp_path / "run" / "index.html"
    page = read(path)
    prose = page.prose
    assert "recall@1 on photos held out from 25.0 % to 50.0 % , in epoch 1. It is done." in prose
    assert "1 best" in prose and "0.5208" in prose and "0.2000" in prose
    for words in (
        "3.00 s describing photos for mining",
        "4.00 s choosing tuples and taking steps",
        "12 s tests",
    ):
        assert words in prose
    assert "Something may be wrong" not in prose
    assert "margin" in prose and "dejavlad train --out run" in prose
    assert len([line for line in page.of("polyline") if "curve" in line["class"]]) == 6 + 2 + 1 + 3


@pytest.mark.parametrize("until", range(len(WHOLE)))
def test_at_any_time_while_it_goes_on(tmp_path: Path, until: int) -> None:
    page = read(write_training_page(run_of(tmp_path / "run", WHOLE[:until])))
    assert "It goes on, or was cut off." in page.prose


def test_without_a_validation_set_and_with_losses_that_are_none(tmp_path: Path) -> None:
    records = [record for record in WHOLE if record.get("set") != "val"]
    records.insert(3, batch(1, 9, float("nan")))
    page = read(write_training_page(run_of(tmp_path / "run", records)))
    assert "on its own training photos from 30.0 % to 80.0 %" in page.prose
    assert "nan," not in page.text and ",nan" not in page.text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_harmless_whatever_stands_in_the_log(tmp_path: Path, hostile: str) -> None:
    warning = {"kind": "warning", "at": [1, 0]} | dict.fromkeys(("fault", "seen", "why", "do"), hostile)
    changed = {"kind": "options", "at": [1, 0], "changed": {"info": ["", hostile]}}
    options = f"info = {json.dumps(hostile.encode('utf-8', 'replace').decode())}\n"
    path = write_training_page(run_of(tmp_path / "run", [*WHOLE, warning, changed], options), command=hostile)
    page = read(path)
    assert "Something may be wrong" in page.prose
    assert not page.of("img") and len(page.of("script")) == 1


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training run"):
        write_training_page(tmp_path)


def test_curves_go_where_they_should() -> None:
    x = Axis.along([0, 10], "x")
    drawn = chart(x, percent_axis(), [Series([(0, 0.0), (10, 1.0)], name="rise")], alt="what")
    corners = f"{LEFT}.0,{HEIGHT - BOTTOM}.0 {WIDTH - RIGHT}.0,{TOP}.0"
    assert f'<polyline class="curve" points="{corners}"/>' in drawn and "rise</li>" in drawn
    assert "polyline" not in chart(x, percent_axis(), [Series([])], alt="what")
    assert "circle" in chart(x, percent_axis(), [Series([(3, 0.5)])], alt="what")
    split = Series([(0, 0.0), (1, float("nan")), (2, 1.0)])
    assert "nan" not in chart(x, percent_axis(), [split], alt="what")


def test_ticks_are_round_and_hold_the_values() -> None:
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(0, 93) == [0, 20, 40, 60, 80, 100]
    assert ticks(0, 3, 6, whole=True) == [0, 1, 2, 3]
    assert len(ticks(0, 0)) >= 2
    for high in (1e-9, 0.013, 7, 1234567):
        steps = ticks(0, high)
        assert steps[0] == 0 and steps[-1] >= high * (1 - 1e-9) and 3 <= len(steps) <= 7


def test_smoothing_keeps_the_mean_of_a_line() -> None:
    assert smooth([1.0, 2.0, 3.0, 4.0, 5.0], 3) == pytest.approx([1.5, 2.0, 3.0, 4.0, 4.5])
    assert smooth([2.0], 9) == [2.0]
