"""``Relation``: a query that runs when its rows are asked for, and from which other queries are made."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from adbc_driver_flightsql.dbapi import Cursor
from adbc_driver_manager import _lib  # pyright: ignore[reportPrivateUsage]

from merganser import _cancel, _values
from merganser._client import Client
from merganser._status import Params, translated
from merganser.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

# Strings, quoted names, comments, and single characters.
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$|.""", re.DOTALL)


ATTEMPTS_MAX = 100
"""How often a query is sent whose plan others have pushed out before it ran."""
# Statements of a session with temporary tables take turns, also between the planning of a query and its run.
_PLAN_IS_GONE = "query.plans_expire"


class Relation:
    """A query over the wire, as ``StorageEngine.execute`` gives it.

    Nothing runs before its rows are asked for; ``filter``, ``project``, ``order``, ``limit`` and ``aggregate`` make another
    relation, as one statement for the server. Its parameters are carried along.
    """

    def __init__(self, client: Client, sql: str, params: Params = None) -> None:
        self._client = client
        self._sql = sql
        self._params = params
        self._schema: pa.Schema | None = None
        self._open: _Rows | None = None

    def __repr__(self) -> str:
        return f"<Relation: {self._sql}>"

    def sql_query(self) -> str:
        """The statement."""
        return self._sql

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow has them; the server plans the query for it, and does not run it."""
        if self._schema is None:
            self._schema = self._client.schema(self._sql)
        return self._schema

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return self.schema.names

    @property
    def types(self) -> list[str]:
        """The types of the columns, as DuckDB writes them."""
        return [_values.duckdb_type(field) for field in self.schema]

    def filter(self, condition: str) -> Relation:
        """The rows for which a SQL condition holds."""
        return self._compose(f"SELECT * FROM {self._nested()} WHERE (\n{condition}\n)")

    def project(self, *expressions: str) -> Relation:
        """These SQL expressions of each row."""
        return self._compose(f"SELECT {', '.join(expressions)}\nFROM {self._nested()}")

    def order(self, expressions: str) -> Relation:
        """The rows in the order of SQL expressions, like ``"n DESC, name"``."""
        return self._compose(f"SELECT * FROM {self._nested()} ORDER BY {expressions}\n")

    def limit(self, count: int, offset: int = 0) -> Relation:
        """So many rows, from an offset on."""
        return self._compose(f"SELECT * FROM {self._nested()} LIMIT {int(count)} OFFSET {int(offset)}")

    def aggregate(self, expressions: str, group_by: str = "ALL") -> Relation:
        """SQL aggregates like ``"name, count(*)"``, grouped by what is no aggregate unless told otherwise."""
        return self._compose(f"SELECT {expressions}\nFROM {self._nested()} GROUP BY {group_by or 'ALL'}\n")

    def _nested(self) -> str:
        return nested(self._sql)

    def _compose(self, sql: str) -> Relation:
        return Relation(self._client, sql, self._params)

    def df(self) -> pd.DataFrame:
        """The rows as a pandas frame."""
        return _values.data_frame(self.arrow())

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        batches = self._batches()
        schema = next(batches)
        return pa.Table.from_batches(batches, schema)

    def pl(self) -> pl.DataFrame:
        """The rows as a polars frame."""
        import polars

        table = self.arrow()
        return polars.DataFrame(table.rename_columns(_values.distinct(table.column_names)))

    def fetch_record_batch(self) -> pa.RecordBatchReader:
        """The rows as a stream of Arrow batches, of which a few are held at a time. It can be read once."""
        batches = self._batches()
        schema = next(batches)
        assert isinstance(schema, pa.Schema)
        return pa.RecordBatchReader.from_batches(schema, batches)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows, or those that ``fetchone`` and ``fetchmany`` have left."""
        return list(self._take(None))

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """The next so many rows."""
        return list(self._take(size))

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; after the last one None, and then the first one again."""
        rows = list(self._take(1))
        return rows[0] if rows else None

    def close(self) -> None:
        """Ends a statement whose rows were not read to the end."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _take(self, count: int | None) -> Iterator[tuple[Any, ...]]:
        rows = self._open or _Rows(self._batches())
        self._open = rows
        taken = 0
        while count is None or taken < count:
            row = next(rows, None)
            if row is None:
                self._open = None
                return
            taken += 1
            yield row

    def _batches(self) -> Generator[Any, None, None]:
        """The schema, then the batches. The statement ends with the generator."""
        for attempt in range(ATTEMPTS_MAX):
            with self._client.run(self._sql, self._params) as cursor:
                with self._reading(cursor):
                    reader = cursor.fetch_record_batch()
                try:
                    batch = self._read(reader, cursor)
                except QueryError as error:
                    if attempt + 1 == ATTEMPTS_MAX or _PLAN_IS_GONE not in error.message:
                        raise
                    continue
                yield reader.schema
                while batch is not None:
                    yield batch
                    batch = self._read(reader, cursor)
                return

    def _read(self, reader: pa.RecordBatchReader, cursor: Cursor) -> pa.RecordBatch | None:
        with self._reading(cursor):
            try:
                return _interruptible(reader.read_next_batch, cursor)
            except StopIteration:
                return None

    @contextlib.contextmanager
    def _reading(self, cursor: Cursor) -> Generator[None]:
        with _cancel.calling(cursor.adbc_cancel), translated(query=self._sql, params=self._params):
            yield


def _interruptible(read: Callable[[], pa.RecordBatch], cursor: Cursor) -> pa.RecordBatch:
    """Ctrl-C cancels the statement while it waits for rows, as the driver sees to it in its own calls."""
    blocking: Any = getattr(_lib, "_blocking_call", None)
    return read() if blocking is None else blocking(read, (), {}, cursor.adbc_cancel)


def nested(sql: str) -> str:
    """A statement as the table of another one: without the semicolon and the comments at its end."""
    end = 0
    for token in _TOKEN.finditer(sql):
        if not (token[0].isspace() or token[0] == ";" or token[0].startswith(("--", "/*"))):
            end = token.end()
    return f"(\n{sql[:end]}\n)"


class _Rows(Iterator[tuple[Any, ...]]):
    """The rows of a result, one after the other."""

    def __init__(self, batches: Generator[Any, None, None]) -> None:
        next(batches)
        self._batches = batches
        self._rows: Iterator[tuple[Any, ...]] = iter(())

    def close(self) -> None:
        self._batches.close()

    def __next__(self) -> tuple[Any, ...]:
        while (row := next(self._rows, None)) is None:
            self._rows = _values.rows_of(next(self._batches))
        return row


class Ran(Relation):
    """What a statement has answered that ran at once: one that changes something, or that is no table of others."""

    def __init__(self, client: Client, sql: str, params: Params, result: pa.Table) -> None:
        super().__init__(client, sql, params)
        self._schema = result.schema
        self._result = result

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self._result

    def _batches(self) -> Generator[Any, None, None]:
        yield self._result.schema
        yield from self._result.to_batches()

    def _nested(self) -> str:
        message = "this statement ran at once, and no query can be made of it: only of a SELECT and the like"
        raise QueryError(message, {"query": self._sql, "code": "INVALID_ARGUMENT"})
