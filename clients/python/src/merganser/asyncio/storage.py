"""``AsyncStorageEngine``: the engine for programs that run on asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from merganser._client import Pem
from merganser._put import ProgressCallback
from merganser._status import Params
from merganser.asyncio._calls import Calls, rows_of
from merganser.relation import Relation
from merganser.storage import StorageEngine
from merganser.types import OnDuplicate, SQLResult, TableInfo, TableKind, TableMetadata, TableSchema

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class AsyncStorageEngine:
    """A ``StorageEngine`` whose calls are awaited; make one with ``open``, ``ephemeral``, ``memory`` or ``connect``.

    Calls run side by side, as many as an engine may have statements open; more wait.
    """

    def __init__(self, engine: StorageEngine, calls: Calls | None = None) -> None:
        self._engine = engine
        self._calls = calls or Calls()

    @classmethod
    async def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> AsyncStorageEngine:
        """On a database file, with a private server."""
        return cls(await asyncio.to_thread(StorageEngine, path, read_only=read_only))

    @classmethod
    async def ephemeral(cls) -> AsyncStorageEngine:
        """On a temporary file, with a private server."""
        return cls(await asyncio.to_thread(StorageEngine.ephemeral))

    @classmethod
    async def memory(cls) -> AsyncStorageEngine:
        """In memory only, with a private server."""
        return cls(await asyncio.to_thread(StorageEngine.memory))

    @classmethod
    async def connect(
        cls,
        uri: str,
        *,
        user: str | None = None,
        password: str = "",
        token: str | None = None,
        tls_root_certs: Pem | None = None,
        tls_client_cert: Pem | None = None,
        tls_client_key: Pem | None = None,
    ) -> AsyncStorageEngine:
        """On a server that runs."""
        engine = await asyncio.to_thread(
            StorageEngine.connect,
            uri,
            user=user,
            password=password,
            token=token,
            tls_root_certs=tls_root_certs,
            tls_client_cert=tls_client_cert,
            tls_client_key=tls_client_key,
        )
        return cls(engine)

    @property
    def engine(self) -> StorageEngine:
        """The engine whose calls these are."""
        return self._engine

    async def close(self) -> None:
        """Ends the session, and the private server."""
        await asyncio.to_thread(self._engine.close)
        self._calls.close()

    async def __aenter__(self) -> AsyncStorageEngine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def execute(self, sql: str, params: Params = None) -> AsyncRelation:
        """A query as a relation; any other statement runs now."""
        return AsyncRelation(await self._calls.run(self._engine.execute, sql, params), self._calls)

    async def execute_df(self, sql: str, params: Params = None) -> pd.DataFrame:
        """The rows of a statement as a pandas frame."""
        return await self._calls.run(self._engine.execute_df, sql, params)

    async def execute_scalar(self, sql: str, params: Params = None) -> Any:
        """The first value of the first row; None if there is no row."""
        return await self._calls.run(self._engine.execute_scalar, sql, params)

    async def execute_rows(self, sql: str, params: Params = None) -> SQLResult:
        """The rows of a statement as tuples, with the names of the columns."""
        return await self._calls.run(self._engine.execute_rows, sql, params)

    async def create_events_table(
        self,
        name: str,
        data: Any,
        metadata: TableMetadata | None = None,
        progress_callback: ProgressCallback | None = None,
        batch_size: int | None = None,
        *,
        on_duplicate: OnDuplicate = "skip",
    ) -> int:
        """Makes a table of events of ``data``, which may be an asynchronous iterable of dicts, too.

        Other sources, and ``progress_callback``, are called in a thread.
        """
        method = self._engine.create_events_table
        return await self._ingest(method, name, data, metadata, progress_callback, batch_size, on_duplicate=on_duplicate)

    async def create_profiles_table(
        self,
        name: str,
        data: Any,
        metadata: TableMetadata | None = None,
        progress_callback: ProgressCallback | None = None,
        batch_size: int | None = None,
        *,
        on_duplicate: OnDuplicate = "skip",
    ) -> int:
        """Makes a table of profiles; see ``create_events_table``."""
        method = self._engine.create_profiles_table
        return await self._ingest(method, name, data, metadata, progress_callback, batch_size, on_duplicate=on_duplicate)

    async def append_events_table(
        self,
        name: str,
        data: Any,
        metadata: TableMetadata | None = None,
        progress_callback: ProgressCallback | None = None,
        batch_size: int | None = None,
        *,
        on_duplicate: OnDuplicate = "skip",
    ) -> int:
        """Adds to a table of events; see ``create_events_table``."""
        method = self._engine.append_events_table
        return await self._ingest(method, name, data, metadata, progress_callback, batch_size, on_duplicate=on_duplicate)

    async def append_profiles_table(
        self,
        name: str,
        data: Any,
        metadata: TableMetadata | None = None,
        progress_callback: ProgressCallback | None = None,
        batch_size: int | None = None,
        *,
        on_duplicate: OnDuplicate = "skip",
    ) -> int:
        """Adds to a table of profiles; see ``create_events_table``."""
        method = self._engine.append_profiles_table
        return await self._ingest(method, name, data, metadata, progress_callback, batch_size, on_duplicate=on_duplicate)

    async def _ingest(self, method: Callable[..., int], name: str, data: Any, *rest: Any, on_duplicate: OnDuplicate) -> int:
        if isinstance(data, AsyncIterable):
            data = rows_of(data, asyncio.get_running_loop())
        return await self._calls.run(method, name, data, *rest, on_duplicate=on_duplicate)

    async def list_tables(self, kind: TableKind | Literal["all"] | None = None, name_like: str | None = None) -> list[TableInfo]:
        """The tables of events and profiles by name, or those of another kind, or all."""
        return await self._calls.run(self._engine.list_tables, kind, name_like)

    async def get_schema(self, table: str) -> TableSchema:
        """The columns of a table or view."""
        return await self._calls.run(self._engine.get_schema, table)

    async def get_metadata(self, table: str) -> TableMetadata:
        """Where the rows of a table of events or profiles came from."""
        return await self._calls.run(self._engine.get_metadata, table)

    async def table_exists(self, table: str) -> bool:
        """Whether there is a table or view of that name."""
        return await self._calls.run(self._engine.table_exists, table)

    async def drop_table(self, table: str, *, if_exists: bool = False) -> None:
        """Drops a table with its metadata."""
        await self._calls.run(self._engine.drop_table, table, if_exists=if_exists)


class AsyncRelation:
    """A ``Relation`` whose rows are awaited."""

    def __init__(self, relation: Relation, calls: Calls) -> None:
        self._relation = relation
        self._calls = calls

    def sql_query(self) -> str:
        """The statement."""
        return self._relation.sql_query()

    def filter(self, condition: str) -> AsyncRelation:
        """The rows for which a SQL condition holds."""
        return AsyncRelation(self._relation.filter(condition), self._calls)

    def project(self, *expressions: str) -> AsyncRelation:
        """These SQL expressions of each row."""
        return AsyncRelation(self._relation.project(*expressions), self._calls)

    def order(self, expressions: str) -> AsyncRelation:
        """The rows in the order of SQL expressions."""
        return AsyncRelation(self._relation.order(expressions), self._calls)

    def limit(self, count: int, offset: int = 0) -> AsyncRelation:
        """So many rows, from an offset on."""
        return AsyncRelation(self._relation.limit(count, offset), self._calls)

    def aggregate(self, expressions: str, group_by: str = "ALL") -> AsyncRelation:
        """SQL aggregates, grouped by what is no aggregate unless told otherwise."""
        return AsyncRelation(self._relation.aggregate(expressions, group_by), self._calls)

    async def df(self) -> pd.DataFrame:
        """The rows as a pandas frame."""
        return await self._calls.run(self._relation.df)

    async def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return await self._calls.run(self._relation.arrow)

    async def pl(self) -> pl.DataFrame:
        """The rows as a polars frame."""
        return await self._calls.run(self._relation.pl)

    async def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows, or those that ``fetchone`` and ``fetchmany`` have left."""
        return await self._calls.run(self._relation.fetchall)

    async def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """The next so many rows."""
        return await self._calls.run(self._relation.fetchmany, size)

    async def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last one."""
        return await self._calls.run(self._relation.fetchone)

    async def close(self) -> None:
        """Ends a statement whose rows were not read to the end."""
        await self._calls.run(self._relation.close)
