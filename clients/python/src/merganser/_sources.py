"""Whatever rows may come in, as record batches of so many rows: dicts, Arrow data, data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.dataset as ds

from merganser import _rows
from merganser.errors import InvalidDataError
from merganser.types import ManagedKind

ROWS_MAX = 65_536
"""Rows of one batch, unless the caller says otherwise."""


@dataclass(frozen=True)
class Source:
    """Batches with one schema, which is known before the first of them is asked for."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def source_of(kind: ManagedKind, data: Any, rows_max: int | None) -> Source:
    """The batches of ``data``. Nothing of it is read here but its schema."""
    rows = rows_max or ROWS_MAX
    if isinstance(data, pa.Table):
        return Source(data.schema, _sliced(data.to_batches(), rows))
    if isinstance(data, pa.RecordBatch):
        return Source(data.schema, _sliced([data], rows))
    if isinstance(data, pa.RecordBatchReader):
        return Source(data.schema, _sliced(data, rows))
    if isinstance(data, ds.Dataset):
        # Few fragments and batches ahead: each is held whole.
        batches = data.to_batches(batch_size=rows, batch_readahead=2, fragment_readahead=1)
        return Source(data.schema, _sliced(batches, rows))
    library = type(data).__module__.partition(".")[0]
    if library == "pandas":
        return _pandas(kind, data, rows)
    if library == "polars":
        return _polars(data, rows)
    if hasattr(data, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(data)
        return Source(reader.schema, _sliced(reader, rows))
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, Iterable):
        raise InvalidDataError(f"rows are an iterable of dicts, Arrow data or a data frame, and this is a {type(data).__name__}")
    dicts = cast("Iterable[Mapping[str, Any]]", data)
    return Source(_rows.schema_of(kind), _rows.batches_of(kind, dicts, rows))


def _sliced(batches: Iterable[pa.RecordBatch], rows_max: int) -> Iterator[pa.RecordBatch]:
    """Slices of so many rows and, as far as an average row tells, bytes. A batch without rows is passed on, too."""
    for batch in batches:
        row_bytes = max(1, batch.nbytes // max(1, batch.num_rows))
        rows = max(1, min(rows_max, _rows.BATCH_BYTES_MAX // row_bytes))
        for start in range(0, max(batch.num_rows, 1), rows):
            yield batch.slice(start, rows)


def _pandas(kind: ManagedKind, frame: Any, rows_max: int) -> Source:
    """Columns of Python objects are written as those of dicts are; a frame of structs would give each row the keys of all."""
    if not hasattr(frame, "columns"):
        raise InvalidDataError(f"rows are a data frame, and this is a pandas {type(frame).__name__}")
    managed = _rows.COLUMNS[kind]
    objects = {name for name in frame.columns if name in managed and frame[name].dtype == object}
    plain = pa.Schema.from_pandas(frame[[name for name in frame.columns if name not in objects]], preserve_index=False)
    schema = pa.schema([(name, managed[name] if name in objects else plain.field(name).type) for name in frame.columns])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(frame), rows_max):
            piece = frame.iloc[start : start + rows_max]
            arrays = [_pandas_array(field, piece[field.name], field.name in objects, start + 1) for field in schema]
            yield from _sliced([pa.RecordBatch.from_arrays(arrays, schema=schema)], rows_max)

    return Source(schema, batches())


def _pandas_array(field: pa.Field[Any], series: Any, is_objects: bool, first_row: int) -> pa.Array[Any]:
    if not is_objects:
        return pa.array(series, field.type, from_pandas=True)
    if field.name == "properties":
        return _rows.json_array(_rows.json_texts(series, first_row))
    return _rows.array(field, series.tolist(), first_row)


def _polars(frame: Any, rows_max: int) -> Source:
    if not hasattr(frame, "iter_slices"):
        raise InvalidDataError(f"rows are a polars DataFrame, and this is a {type(frame).__name__}: collect() it first")
    empty = frame.clear().to_arrow()

    def batches() -> Iterator[pa.RecordBatch]:
        for piece in frame.iter_slices(rows_max):
            yield from _sliced(piece.to_arrow().to_batches(), rows_max)

    return Source(empty.schema, batches())
