"""Paths in files that others wrote: lists, predictions and dataset files lead to photos alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from kinds import make_dataset, model, photos

import dejavlad as dv
from dejavlad.errors import DejavladError
from dejavlad.evaluation.predictions import open_ranking
from dejavlad.report import write_page

SECRET = "a secret line of another file"
DEVICES = [name for name in ("/dev/zero", "/dev/stdin") if Path(name).exists()]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that is no photo, beside the folder of the lists."""
    (tmp_path / "secret.txt").write_text(f"{SECRET}\n" * 20)
    photos(tmp_path / "in" / "photos")
    return tmp_path / "in"


@pytest.mark.parametrize("line", ["../secret.txt", "photos/../../secret.txt", *DEVICES, "photos"])
def test_what_a_list_names_is_read_as_a_photo_alone(line: str, outside: Path, tmp_path: Path) -> None:
    (outside / "list.txt").write_text(f"photos/00.png\n{line}\nphotos/01.png\n")
    try:
        listed = dv.photos(outside / "list.txt")
    except DejavladError as error:
        assert SECRET not in str(error) and "\n" not in str(error)
        return
    store = dv.extract(model(), listed, tmp_path / "store")
    (reason,) = store.failed.values()
    assert SECRET not in reason and store.done.sum() == 2
    places = dv.PlaceDataset("hostile", listed, listed)
    page = write_page(None, dv.build_index("flat", store).search(store, k=2), places, tmp_path / "page.html")
    assert SECRET not in page.read_text("utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"secret.txt", "in", "store", "page.html"}


@pytest.mark.parametrize(
    "name", ["../secret.txt", "/etc/passwd", "photos/../../00.png", "\\\\server\\00.png"]
)
def test_predictions_name_photos_of_the_lists(name: str, outside: Path) -> None:
    listed = dv.photos(outside / "photos")
    (outside / "predictions.txt").write_text(f"# kapture format: 1.0\n00.png, {name}\n")
    with pytest.raises(DejavladError) as caught:
        open_ranking(outside / "predictions.txt", listed, listed)
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["database", "queries", "positions", "truth", "root"])
@pytest.mark.parametrize("value", ["../secret.txt", "..", "nul\\u0000byte", *DEVICES])
def test_what_a_dataset_file_names_is_not_told(
    field: str, value: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "secret.txt").write_text(f"{SECRET}\n" * 20)
    make_dataset(tmp_path / "in")
    own = tmp_path / "in" / "own.toml"
    lines = [line for line in own.read_text().splitlines() if not line.startswith(f"{field} =")]
    own.write_text("\n".join([*lines, f'{field} = "{value}"']) + "\n")
    try:
        places = dv.open_dataset(own)
        description = repr([places.database.keys[:9], places.queries.keys[:9], places.database.notes])
    except DejavladError as error:
        description = str(error)
        assert "\n" not in description
    if field in ("truth", "root"):  # a line of a table or list that is none may be named
        assert SECRET not in description
