"""Several models under one protocol, in one table; a folder that resumes.

The folder::

    OUT/MODEL/      what `dejavlad evaluate` writes, and bench_row.json: how fast it was, and by what
    OUT/bench.json  the table
    OUT/index.html  the same as a page

A model that cannot be run costs its row, which says why.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from dejavlad.errors import DejavladError, InputError
from dejavlad.evaluation import Result
from dejavlad.extraction.extract import DESCRIBING
from dejavlad.files import size_and_time, write_whole
from dejavlad.ground_truth import PlaceDataset
from dejavlad.guarded.json_file import read_json_object, with_checksum, without_checksum
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.pipelines.bench_table import Bench, Row, check_one_protocol, table_of
from dejavlad.pipelines.evaluation import (
    DescribingHere,
    describe_dataset,
    fitted_to,
    rank,
    ranked_with,
    unread_of,
)
from dejavlad.pipelines.keywords import check_keywords
from dejavlad.pipelines.scoring import SCORING, Scoring, score
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.zoo import ModelEntry, list_models, load_model

FILE, ROW = "bench.json", "bench_row.json"

Load = Callable[[str, OnProgress], PlaceModel]


def bench(
    models: Sequence[str],
    places: PlaceDataset,
    out: str | Path,
    *,
    earlier: Sequence[str | Path] = (),
    scoring: Scoring = SCORING,
    load: Load | None = None,
    on_row: Callable[[Row], None] = lambda _: None,
    **describing: Unpack[DescribingHere],
) -> Bench:
    """Evaluate several models on one dataset, and compare them; run again, it goes on where it stopped.

    Args:
        models: names, folders or files, as `load_model` takes them.
        places: the photos, and what is right.
        out: the folder; what a model's own folder in it holds already is taken.
        earlier: folders of results that `dejavlad evaluate` wrote, whose rows join the table.
        scoring: how rankings are made and scored.
        load: opens a model, and tells of downloads; `load_model` on the processor or GPU, unless given.
        on_row: called with each row once it is known.
        describing: how photos are described.

    Raises:
        InputError: no models, one of them twice, no truth, or an earlier result of another protocol or of
            other photos.
        DejavladError: none of the models could be run.
        StoreError: an earlier result that cannot be read, or a table that cannot be written.
    """
    check_keywords(describing, DescribingHere)
    if places.truth is None:
        raise InputError(f"{places.name} does not say what is right, so there is no recall: give --truth")
    out, names = Path(out), [*map(str, models), *map(str, earlier)]
    if not names or len(set(names)) != len(names):
        raise InputError(f"give one model or more, each once; given {', '.join(names) or 'none'}")
    known = {entry.name: entry for entry in list_models()}
    opened = load or (lambda name, on_download: load_model(name, on_progress=on_download))
    rows = [_earlier(str(path), known) for path in earlier]
    check_one_protocol(rows)
    for name in map(str, models):
        row = _row(name, known.get(name), places, out / folder_of(name), scoring, opened, describing)
        check_one_protocol([*rows, row])
        rows.append(row)
        on_row(row)
    if all(row.result is None for row in rows):
        reasons = "; ".join(f"{row.name}: {row.error}" for row in rows)
        raise DejavladError(f"none of the models could be run: {reasons}")
    made = table_of(places.name, rows, scoring.recall_at)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(with_checksum(made.to_dict()), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(out / FILE, text + "\n")
    return made


def folder_of(name: str) -> str:
    """The folder of a model's results: its name, where that can be one, else what is like it."""
    plain = re.sub(r"[^A-Za-z0-9._@+-]+", "_", name).strip("._")
    if plain == name and len(plain) <= 80:
        return plain
    return f"{plain[-60:]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _row(
    name: str,
    entry: ModelEntry | None,
    places: PlaceDataset,
    folder: Path,
    scoring: Scoring,
    load: Load,
    describing: DescribingHere,
) -> Row:
    """The row of one model; where it fails, with the reason instead of figures."""
    on_progress = describing.get("on_progress", silent)
    try:
        model = fitted_to(load(name, on_progress), places.database, folder, describing)
        setting = _setting(model, places, scoring)
        if (taken := _finished(folder, setting)) is not None:
            return _made(name, entry, model, *taken, taken=True)
        clock = _Clock(on_progress)
        timed: DescribingHere = {**describing, "on_progress": clock}
        model, database, queries = describe_dataset(model, places, folder, **timed)
        speed = clock.speed() or _speed_before(folder, model.fingerprint)
        write_whole(
            folder / ROW, json.dumps(with_checksum({"fingerprint": model.fingerprint, **speed})) + "\n"
        )
        started = time.perf_counter()
        ranking = rank(database, queries, scoring, places.truth)
        seconds = {**clock.seconds, "search": round(time.perf_counter() - started, 2)}
        scored = score(
            ranking,
            places,
            folder,
            scoring,
            model=database.manifest.setting.made_by,
            seconds=seconds,
            unread=unread_of(database, queries),
            made_with=ranked_with(database.manifest.setting, scoring, describing.get("seed", 0)),
        )
        assert scored is not None
        noted = {"fingerprint": model.fingerprint, **speed, "setting": setting}
        write_whole(folder / ROW, json.dumps(with_checksum(noted)) + "\n")
        return _made(name, entry, model, scored, speed)
    except (DejavladError, MemoryError) as error:
        reason = str(error) or "there is not enough memory"
        licence, code_licence = _licences(entry, None)
        reason = " ".join(reason.split("\n"))
        return Row(name, error=reason, licence=licence, code_licence=code_licence)


def _made(
    name: str,
    entry: ModelEntry | None,
    model: PlaceModel,
    result: Result,
    speed: dict[str, float],
    *,
    taken: bool = False,
) -> Row:
    licence, code_licence = _licences(entry, model)
    tensors = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}
    return Row(
        name,
        result,
        ms=speed.get("ms"),
        cpu_ms=speed.get("cpu_ms"),
        dims=model.descriptor_size,
        weights_mb=round(sum(tensor.nbytes for tensor in tensors.values()) / 1e6, 2),
        map_mb=_map_mb(result, model.descriptor_size),
        taken=taken,
        licence=licence,
        code_licence=code_licence,
    )


def _earlier(path: str, known: Mapping[str, ModelEntry]) -> Row:
    """A row of a result that is there; what neither it nor the list of models says stays unknown."""
    result = Result.load(path)
    model = result.model or {}
    dims = model.get("dims")
    dims = dims if isinstance(dims, int) else None
    licence, code_licence = _licences(known.get(str(model.get("name"))), None)
    return Row(
        path,
        result,
        dims=dims,
        map_mb=_map_mb(result, dims),
        licence=licence,
        code_licence=code_licence,
        taken=True,
    )


def _map_mb(result: Result, dims: int | None) -> float | None:
    return None if dims is None else round(4e-6 * result.n_database * dims, 3)


def _licences(entry: ModelEntry | None, model: PlaceModel | None) -> tuple[str, str]:
    """Of the weights and of the code; empty where it is not known."""
    if entry is not None:
        return entry.licence, entry.code_licence
    return "" if model is None else str(model.provenance.get("licence", "")), ""


def _setting(model: PlaceModel, places: PlaceDataset, scoring: Scoring) -> dict[str, Any]:
    """All that a result follows from."""
    assert places.truth is not None
    return {
        "fingerprint": model.fingerprint,
        "truth": places.truth.hash,
        "database": _files(places.database),
        "queries": _files(places.queries),
        "scoring": json.loads(json.dumps(asdict(scoring))),
    }


def _files(photos: PhotoList) -> str:
    """SHA-256 of the photos' keys, and of each file's size and time, so that another photo is noticed."""
    digest = hashlib.sha256()
    for photo in photos:
        path = Path(str(photo.path)) if getattr(photo, "path", None) else None
        stat = path.stat() if path is not None and path.is_file() else None
        state = () if stat is None else size_and_time(stat)
        digest.update(json.dumps([photo.key, *state]).encode() + b"\n")
    return digest.hexdigest()


def _finished(folder: Path, setting: dict[str, Any]) -> tuple[Result, dict[str, float]] | None:
    """What an earlier run came to with the same model, protocol and photos; None where there is none."""
    noted = _note(folder)
    if noted.get("setting") != setting or not (folder / "result.json").is_file():
        return None
    result = Result.load(folder)
    if (result.model or {}).get("fingerprint") != setting["fingerprint"]:
        return None
    return result, _speed_of(noted)


def _note(folder: Path) -> dict[str, Any]:
    """What was noted of an earlier run; nothing where that cannot be read: it can be measured again."""
    try:
        return dict(without_checksum(read_json_object(folder / ROW)))
    except (OSError, ValueError):
        return {}


def _speed_before(folder: Path, fingerprint: str) -> dict[str, float]:
    noted = _note(folder)
    return _speed_of(noted) if noted.get("fingerprint") == fingerprint else {}


def _speed_of(noted: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(noted[name]) for name in ("ms", "cpu_ms") if isinstance(noted.get(name), (int, float))
    }


class _Clock:
    """Measures how long photos take, by the reports of `extract`: those of this run alone."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._last: tuple[int, float, float] | None = None
        self._wall = self._cpu = 0.0
        self._photos = 0

    def __call__(self, report: Progress) -> None:
        now = time.perf_counter(), time.process_time()
        if report.what == DESCRIBING:
            if self._last is not None and report.done > self._last[0] and report.done > report.resumed:
                self._photos += report.done - self._last[0]
                self._wall += now[0] - self._last[1]
                self._cpu += now[1] - self._last[2]
            self._last = (report.done, *now)
        self._on_progress(report)

    @property
    def seconds(self) -> dict[str, float]:
        return {"describe": round(self._wall, 2)} if self._photos else {}

    def speed(self) -> dict[str, float]:
        """Milliseconds a photo; nothing where none was described."""
        if not self._photos:
            return {}
        return {
            "ms": round(1000 * self._wall / self._photos, 3),
            "cpu_ms": round(1000 * self._cpu / self._photos, 3),
        }
