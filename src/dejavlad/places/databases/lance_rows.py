"""What the tables of a map in LanceDB hold, as Arrow's tables: schemas, rows, and columns read back.

Legend: M rows, D the descriptor's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError
from dejavlad.places.address import Address
from dejavlad.places.databases.columns import COLUMNS, Columns, filled, missing, seals_of
from dejavlad.places.databases.lance_store import import_lance

PHOTOS, FEATURES, DOCUMENTS = "photos", "features", "documents"
KEYS: Final = {PHOTOS: ["key"], FEATURES: ["key"], DOCUMENTS: ["name", "part"]}
"""Columns that tell rows apart. Lance knows them: of two writers of one key, the second updates the row."""
LANCE_KEY: Final = "lance-schema:unenforced-primary-key"
PART: Final = 4 << 20
"""Bytes of a document that share a row."""
SHARED: Final = {"failed", "zone", "group", "tags", "crop", "view", "model"}
"""Columns of which many rows hold the same text."""

Floats = NDArray[np.float32]


def schema_of(name: str, dims: int = 1) -> Any:
    """The schema of a table; `dims`, D, for photos."""
    pa = import_lance()[1]
    if name == PHOTOS:
        types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        kinds = {column: types[kind] for column, kind in COLUMNS.items()}
        kinds["vector"] = pa.list_(pa.float32(), dims)
    elif name == FEATURES:
        kinds = {"key": pa.string(), "mark": pa.int64(), "record": pa.large_binary()}
    else:
        kinds = {"name": pa.string(), "part": pa.int64(), "data": pa.large_binary()}
    schema = pa.schema(list(kinds.items()))
    for position, key in enumerate(KEYS[name], 1):
        known = {LANCE_KEY: "true", f"{LANCE_KEY}:position": str(position)}
        field = pa.field(key, kinds[key], nullable=False, metadata=known)
        schema = schema.set(schema.get_field_index(key), field)
    return schema


def check_schema(name: str, table: Any, address: Address) -> None:
    """Refuse a table whose columns someone else has changed.

    Raises:
        StoreError: which, and how.
    """
    schema = table.schema
    vector = schema.field("vector").type if "vector" in schema.names else None
    wanted = schema_of(name, max(1, getattr(vector, "list_size", 1)))
    what = "the table" if name == PHOTOS else f"the table {name!r}"
    absent = [field.name for field in wanted if field.name not in schema.names]
    changed = [
        f"{f.name} ({schema.field(f.name).type}, not {f.type})"
        for f in wanted
        if f.name in schema.names and schema.field(f.name).type != f.type
    ]
    if absent or changed:
        why = [f"it has no column {', '.join(absent)}"] if absent else []
        why += [f"another type: {', '.join(changed)}"] if changed else []
        raise StoreError(
            f"{what} of {address} was changed by someone else: {'; '.join(why)}; open an "
            f"earlier version ({address.text}@VERSION), or build the map again"
        )


def photo_lines(columns: Columns, vectors_MD: Floats) -> Any:
    """Rows of photos; `columns` as `columns.columns_of` gives them."""
    pa, dims = import_lance()[1], vectors_MD.shape[1]
    schema = schema_of(PHOTOS, dims)
    arrays = [pa.array(columns[name], schema.field(name).type) for name in COLUMNS]
    flat = pa.array(np.ascontiguousarray(vectors_MD, np.float32).ravel())
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, dims))
    return pa.table(arrays, schema=schema)


def feature_lines(records: Mapping[str, tuple[int, bytes]]) -> Any:
    """Rows of local features: key -> mark and record."""
    rows = [(key, mark, record) for key, (mark, record) in records.items()]
    return import_lance()[1].table(list(zip(*rows, strict=True)), schema=schema_of(FEATURES))


def document_lines(documents: Mapping[str, bytes]) -> Any:
    """Rows of documents, in parts."""
    rows = [
        (name, i, data[i * PART : (i + 1) * PART])
        for name, data in documents.items()
        for i in range(max(1, -(-len(data) // PART)))
    ]
    return import_lance()[1].table(list(zip(*rows, strict=True)), schema=schema_of(DOCUMENTS))


def columns_of(lines: Any, address: Address) -> Columns:
    """Columns of rows with ``_rowid``, as `MapView.columns` gives them: compared with their seals, `mark`
    without its seal.

    Raises:
        StoreError: someone else changed them.
    """
    columns: Columns = {"id": lines["_rowid"].to_numpy().astype(np.uint64)}
    for name, kind in COLUMNS.items():
        if name not in lines.schema.names:
            continue
        if kind is str and name in SHARED:
            columns[name] = shared_texts(lines[name])
        elif kind is str:
            columns[name] = lines[name].to_pylist()
        else:
            columns[name] = lines[name].fill_null(missing(name)).to_numpy()
    marks = [(mark or "").partition(".") for mark in columns["mark"]]
    for i, ((_, _, written), seal) in enumerate(zip(marks, seals_of(columns), strict=True)):
        if written and written != seal:  # rows of earlier versions have none
            raise StoreError(
                f"{address} was changed by someone else: what it says of {columns['key'][i]!r} is not what "
                f"was written; open an earlier version ({address.text}@VERSION), or build it anew, at "
                "another address (versions of dejavlad that write no checksums must not write to it)"
            )
    known: dict[str, str] = {}  # of which many rows hold the same text
    columns["mark"] = [known.setdefault(commit, commit) for commit, _, _ in marks]
    return columns


def joined(parts: list[Any]) -> Any:
    """One table of several."""
    return import_lance()[1].concat_tables(parts)


def corrected(lines: Any, facts: Mapping[str, Mapping[str, Any]], address: Address) -> Any:
    """Rows as they were read, with other facts (key -> columns) and new seals."""
    columns = columns_of(lines, address)
    keys = columns["key"]
    new = {name: [facts[key][name] for key in keys] for name in next(iter(facts.values()))}
    filled_in = columns | {name: filled(name, values) for name, values in new.items()}
    new["mark"] = sealed(columns["mark"], filled_in)
    lines = lines.drop_columns("_rowid")
    for name, values in new.items():
        place, field = lines.schema.get_field_index(name), lines.schema.field(name)
        lines = lines.set_column(place, field, import_lance()[1].array(values, field.type))
    return lines


def sealed(commits: list[str], columns: Columns) -> list[str]:
    """What the column `mark` holds: the commit, and the row's seal."""
    return [f"{commit}.{seal}" for commit, seal in zip(commits, seals_of(columns), strict=True)]


def shared_texts(column: Any) -> list[str | None]:
    """The texts of a column, of which equal ones are one object in memory."""
    texts: list[str | None] = []
    for part in column.dictionary_encode().chunks:
        known = [*part.dictionary.to_pylist(), None]
        texts += [known[i] for i in part.indices.fill_null(len(known) - 1).to_numpy().tolist()]
    return texts
