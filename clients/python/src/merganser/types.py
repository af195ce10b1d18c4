"""What the engine takes and answers: plain, frozen values with ``to_dict``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, TypeAlias, overload

ManagedKind: TypeAlias = Literal["events", "profiles"]
"""The kinds of table that rows enter by ingest."""

TableKind: TypeAlias = Literal["events", "profiles", "table", "view"]
"""The kinds of table that there are."""

OnDuplicate: TypeAlias = Literal["skip", "replace", "error"]
"""What becomes of a row whose key is known: it is left out, takes the other's place, or fails the ingest."""


@dataclass(frozen=True)
class TableMetadata:
    """Where the rows of a table came from.

    For an ingest, give ``type`` and what is known of the fetch; the server fills in the rest, and ``get_metadata`` tells it.
    A ``fetched_at`` without a time zone is UTC. Dates are ``YYYY-MM-DD``.
    """

    type: ManagedKind
    fetched_at: datetime | None = None
    from_date: str | None = None
    to_date: str | None = None
    filter_events: Sequence[str] | None = None
    filter_where: str | None = None
    row_count: int | None = None
    table_name: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """The metadata as values of JSON."""
        return _plain(self.__dict__)


@dataclass(frozen=True)
class TableInfo:
    """A table in a listing. ``row_count`` is live; views have none."""

    name: str
    type: TableKind
    row_count: int | None
    fetched_at: datetime | None
    size_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The table as values of JSON."""
        return _plain(self.__dict__)


@dataclass(frozen=True)
class ColumnInfo:
    """A column, with its type as DuckDB writes it."""

    name: str
    type: str
    nullable: bool
    primary_key: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The column as values of JSON."""
        return _plain(self.__dict__)


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table or view, in their order."""

    table_name: str
    columns: tuple[ColumnInfo, ...]
    kind: TableKind = "table"

    def to_dict(self) -> dict[str, Any]:
        """The schema as values of JSON."""
        columns = [column.to_dict() for column in self.columns]
        return {"table_name": self.table_name, "kind": self.kind, "columns": columns}


@dataclass(frozen=True)
class SQLResult(Sequence[tuple[Any, ...]]):
    """Rows with the names of their columns: a sequence of tuples."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[Any, ...], ...]: ...
    def __getitem__(self, index: int | slice) -> tuple[Any, ...] | tuple[tuple[Any, ...], ...]:
        return self.rows[index]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dict for each row; of columns with the same name, the last one counts."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """The result as one dict; values are as they came."""
        return {"columns": list(self.columns), "rows": [list(row) for row in self.rows], "row_count": len(self.rows)}


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _json_value(value) for name, value in fields.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return list[Any](value) if isinstance(value, tuple) else value
