"""Results as Python values and as data frames, the way DuckDB's own Python package gives them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import pandas as pd

_TYPE_NAME = b"ARROW:FLIGHT:SQL:TYPE_NAME"
_DAYS_OF_A_MONTH = 30


def duckdb_type(field: pa.Field[Any]) -> str:
    """The type as DuckDB calls it; empty where the server does not say."""
    return (field.metadata or {}).get(_TYPE_NAME, b"").decode()


def rows_of(batch: pa.RecordBatch | pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows as tuples."""
    if not batch.num_columns:
        return iter(())
    return zip(*(_values(field, column) for field, column in zip(batch.schema, batch.columns, strict=True)), strict=True)


def _values(field: pa.Field[Any], column: pa.Array[Any] | pa.ChunkedArray[Any]) -> list[Any]:
    if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
        column = pc.cast(column, pa.timestamp("us", field.type.tz), safe=False)
    values = column.to_pylist(maps_as_pydicts="lossy")
    convert = _converter(field)
    return values if convert is None else [None if value is None else convert(value) for value in values]


def _converter(field: pa.Field[Any]) -> Callable[[Any], Any] | None:
    """What Arrow has no type of its own for, but DuckDB and Python do."""
    name = duckdb_type(field)
    if name == "HUGEINT":
        return int
    if name == "UUID" and pa.types.is_string(field.type):
        return uuid.UUID
    if pa.types.is_interval(field.type):
        return _timedelta
    return None


def _timedelta(interval: pa.MonthDayNano) -> timedelta:
    days = interval.months * _DAYS_OF_A_MONTH + interval.days
    return timedelta(days=days, microseconds=interval.nanoseconds / 1000)


def data_frame(table: pa.Table) -> pd.DataFrame:
    """A pandas frame: decimals are floats, days are times, integers and booleans with nulls are pandas' nullable ones."""
    table = table.rename_columns(distinct(table.column_names))
    for index, field in enumerate(table.schema):
        cast = pa.float64() if pa.types.is_decimal(field.type) else pa.timestamp("us") if pa.types.is_date(field.type) else None
        if cast is not None:
            column = pc.cast(table.column(index), cast, safe=False)
            table = table.set_column(index, pa.field(field.name, cast), column)
    nullable = _nullable_types()
    with_nulls = {
        field.name: nullable[field.type]
        for field, column in zip(table.schema, table.columns, strict=True)
        if column.null_count and field.type in nullable
    }
    frame = table.to_pandas(maps_as_pydicts="lossy", ignore_metadata=True)
    if with_nulls:
        for name, dtype in with_nulls.items():
            frame[name] = table.column(name).to_pandas(types_mapper=lambda _type, dtype=dtype: dtype)
    return frame


def _nullable_types() -> dict[pa.DataType, Any]:
    import pandas as pd

    return {
        pa.bool_(): pd.BooleanDtype(),
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
    }


def distinct(names: list[str]) -> list[str]:
    """Names of which each is there once: `a`, `a_1`."""
    taken: set[str] = set()
    distinct: list[str] = []
    for name in names:
        new, number = name, 0
        while new in taken:
            number += 1
            new = f"{name}_{number}"
        taken.add(new)
        distinct.append(new)
    return distinct
