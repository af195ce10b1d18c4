"""The statements with which a workspace looks around in a table."""

from __future__ import annotations

import math
from typing import Any

from merganser._results import ColumnStats, ColumnSummary, EventCount, PropertyValue, Summary, ValueCount
from merganser.errors import InvalidDataError
from merganser.storage import StorageEngine
from merganser.types import TableSchema

_NUMBERS = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
    "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip


def quoted(name: str) -> str:
    """``name`` as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def summarize(engine: StorageEngine, table: str) -> Summary:
    """The columns in figures. SUMMARIZE rounds the share of missing values, so values are counted."""
    names = [quoted(column.name) for column in engine.get_schema(table).columns]
    counts = ", ".join(f"count({name})" for name in names)
    [[row_count, *found]] = engine.execute_rows(f"SELECT count(*), {counts} FROM {quoted(table)}")
    rows = engine.execute_rows(f"SELECT * FROM (SUMMARIZE {quoted(table)})").to_dicts()
    columns = (_column_summary(row, count, row_count) for row, count in zip(rows, found, strict=True))
    return Summary(table, row_count, tuple(columns))


def _column_summary(row: dict[str, Any], count: int, row_count: int) -> ColumnSummary:
    return ColumnSummary(
        name=row["column_name"],
        type=row["column_type"],
        min=row["min"],
        max=row["max"],
        approx_unique=int(row["approx_unique"] or 0),
        mean=_number(row["avg"]),
        std=_number(row["std"]),
        q25=row["q25"],
        q50=row["q50"],
        q75=row["q75"],
        count=count,
        null_share=(row_count - count) / row_count if row_count else 0.0,
    )


def events(engine: StorageEngine, table: str) -> list[EventCount]:
    """Counts by name, the most frequent first."""
    _require(engine.get_schema(table), "event_name", "event_time", "distinct_id")
    rows = engine.execute_rows(
        "SELECT event_name, count(*), count(DISTINCT distinct_id), min(event_time), max(event_time)"
        f" FROM {quoted(table)} GROUP BY ALL ORDER BY 2 DESC, 1"
    )
    total = sum(row[1] for row in rows)
    return [EventCount(name, count, users, first, last, count / total) for name, count, users, first, last in rows]


def property_keys(engine: StorageEngine, table: str, event: str | None) -> list[str]:
    """The keys of the properties, by name."""
    where, params = _of_event(engine, table, event)
    rows = engine.execute_rows(
        f"SELECT DISTINCT unnest(json_keys(properties)) AS key FROM {quoted(table)} {where} ORDER BY key", params
    )
    return [key for (key,) in rows]


def property_values(engine: StorageEngine, table: str, key: str, event: str | None, limit: int) -> list[PropertyValue]:
    """The values of a property, the most frequent first."""
    where, params = _of_event(engine, table, event)
    # As a JSON pointer, in which two characters are written otherwise.
    pointer = "/" + key.replace("~", "~0").replace("/", "~1")
    rows = engine.execute_rows(
        f"SELECT properties ->> ? AS value, count(*) FROM {quoted(table)} {where} {'AND' if where else 'WHERE'}"
        " json_exists(properties, ?) GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
        [pointer, *params, pointer, _at_least("limit", limit, 0)],
    )
    return [PropertyValue(value, count) for value, count in rows]


def column_stats(engine: StorageEngine, table: str, column: str, top: int) -> ColumnStats:
    """Figures of a column, or of an expression over the columns."""
    schema = engine.get_schema(table)
    _at_least("top", top, 0)
    names = {known.name.lower(): known.name for known in schema.columns}
    # An expression ends at the line's end, with a comment or without.
    value = quoted(names[column.lower()]) if column.lower() in names else f"({column}\n)"
    source = f"(SELECT {value} AS value FROM {quoted(table)})"
    kind = str(engine.execute_scalar(f"SELECT column_type FROM (DESCRIBE SELECT * FROM {source})"))
    is_number = kind.partition("(")[0] in _NUMBERS
    numbers = "avg(value), stddev_samp(value)" if is_number else "NULL, NULL"
    [figures] = engine.execute_rows(
        f"SELECT count(*), count(value), approx_count_distinct(value), min(value), max(value), {numbers} FROM {source}"
    )
    total, count, unique, lowest, highest, mean, std = figures
    tops = engine.execute_rows(
        f"SELECT value, count(*) FROM {source} WHERE value IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {top:d}"
    )
    return ColumnStats(
        table=schema.table_name,
        column=column,
        type=kind,
        count=count,
        null_count=total - count,
        null_share=(total - count) / total if total else 0.0,
        approx_unique=unique,
        min=lowest,
        max=highest,
        mean=_number(mean),
        std=_number(std),
        top_values=tuple(ValueCount(value, frequency) for value, frequency in tops),
    )


def _of_event(engine: StorageEngine, table: str, event: str | None) -> tuple[str, list[Any]]:
    schema = engine.get_schema(table)
    _require(schema, "properties", *(["event_name"] if event is not None else []))
    return ("WHERE event_name = ?", [event]) if event is not None else ("", [])


def _require(schema: TableSchema, *wanted: str) -> None:
    known = {column.name.lower() for column in schema.columns}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InvalidDataError(f"table '{schema.table_name}' has no column {' and no '.join(missing)}", field=missing[0])


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise InvalidDataError(f"{name} must be at least {least}, not {value}", field=name)
    return value


def _number(value: Any) -> float | None:
    """A figure that SUMMARIZE has as text, or as NaN where there is none."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except ValueError:
        # The mean of times is a time.
        return None
    return None if math.isnan(number) else number
