"""``AsyncWorkspace``: data from Mixpanel, and a quick look at it, without stopping the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import date
from types import TracebackType
from typing import TYPE_CHECKING, Any

from merganser._mixpanel.credentials import Credentials
from merganser._mixpanel.limits import FetchLimits
from merganser._results import ColumnStats, EventCount, FetchResult, PropertyValue, Summary
from merganser.asyncio._calls import Calls
from merganser.asyncio.storage import AsyncStorageEngine
from merganser.types import OnDuplicate, SQLResult, TableInfo, TableSchema
from merganser.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


class AsyncWorkspace:
    """A ``Workspace`` whose calls are awaited; make one with ``ephemeral``, ``memory``, ``open`` or ``connect``.

    ``storage`` is the engine below, whose calls are awaited, too.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        # The threads are the engine's, too: together they have no more statements open than an engine may have.
        self._calls = Calls()
        self.storage = AsyncStorageEngine(workspace.storage, self._calls)

    @classmethod
    async def ephemeral(cls, *, credentials: Credentials | None = None, limits: FetchLimits | None = None) -> AsyncWorkspace:
        """In a temporary database, which is gone when the workspace is closed."""
        return cls(await asyncio.to_thread(Workspace.ephemeral, credentials=credentials, limits=limits))

    @classmethod
    async def memory(cls, *, credentials: Credentials | None = None, limits: FetchLimits | None = None) -> AsyncWorkspace:
        """In memory only."""
        return cls(await asyncio.to_thread(Workspace.memory, credentials=credentials, limits=limits))

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        credentials: Credentials | None = None,
        limits: FetchLimits | None = None,
    ) -> AsyncWorkspace:
        """In a database file, which is made if it is not there."""
        made = asyncio.to_thread(Workspace.open, path, read_only=read_only, credentials=credentials, limits=limits)
        return cls(await made)

    @classmethod
    async def connect(
        cls, uri: str, *, credentials: Credentials | None = None, limits: FetchLimits | None = None, **connection: Any
    ) -> AsyncWorkspace:
        """On a server that runs; ``connection`` is what ``AsyncStorageEngine.connect`` takes."""
        return cls(await asyncio.to_thread(Workspace.connect, uri, credentials=credentials, limits=limits, **connection))

    @property
    def workspace(self) -> Workspace:
        """The workspace whose calls these are."""
        return self._workspace

    async def close(self) -> None:
        """Ends the session, and the server if it is the workspace's own."""
        await self.storage.close()

    async def __aenter__(self) -> AsyncWorkspace:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- fetch ---

    async def fetch_events(
        self,
        name: str = "events",
        *,
        from_date: str | date,
        to_date: str | date,
        events: Sequence[str] | str | None = None,
        where: str | None = None,
        append: bool = False,
        on_duplicate: OnDuplicate = "skip",
        progress: bool = True,
    ) -> FetchResult:
        """Fetches events of days; see ``Workspace.fetch_events``. Who cancels it stores nothing."""
        return await self._calls.run(
            self._workspace.fetch_events,
            name,
            from_date=from_date,
            to_date=to_date,
            events=events,
            where=where,
            append=append,
            on_duplicate=on_duplicate,
            progress=progress,
        )

    async def fetch_profiles(
        self,
        name: str = "profiles",
        *,
        where: str | None = None,
        cohort_id: int | None = None,
        output_properties: Sequence[str] | None = None,
        append: bool = False,
        on_duplicate: OnDuplicate = "skip",
        progress: bool = True,
    ) -> FetchResult:
        """Fetches profiles; see ``Workspace.fetch_profiles``. Who cancels it stores nothing."""
        return await self._calls.run(
            self._workspace.fetch_profiles,
            name,
            where=where,
            cohort_id=cohort_id,
            output_properties=output_properties,
            append=append,
            on_duplicate=on_duplicate,
            progress=progress,
        )

    # --- SQL ---

    async def sql(self, query: str, params: Any = None) -> pd.DataFrame:
        """The rows of a statement as a pandas frame. Parameters are a sequence for ``?``, or a mapping for ``$name``."""
        return await self._calls.run(self._workspace.sql, query, params)

    async def sql_scalar(self, query: str, params: Any = None) -> Any:
        """The first value of the first row; None if there is no row."""
        return await self._calls.run(self._workspace.sql_scalar, query, params)

    async def sql_rows(self, query: str, params: Any = None) -> SQLResult:
        """The rows of a statement as tuples, with the names of the columns."""
        return await self._calls.run(self._workspace.sql_rows, query, params)

    # --- tables ---

    async def tables(self) -> list[TableInfo]:
        """The tables of events and profiles, by name."""
        return await self._calls.run(self._workspace.tables)

    async def schema(self, table: str) -> TableSchema:
        """The columns of a table or view."""
        return await self._calls.run(self._workspace.schema, table)

    async def drop(self, *tables: str) -> None:
        """Drops tables with their metadata. If one of them is not there, none is dropped."""
        await self._calls.run(self._workspace.drop, *tables)

    # --- a first look ---

    async def sample(self, table: str, n: int = 10) -> pd.DataFrame:
        """``n`` rows at random."""
        return await self._calls.run(self._workspace.sample, table, n)

    async def summarize(self, table: str) -> Summary:
        """Each column in figures: range, quartiles, distinct values, missing values."""
        return await self._calls.run(self._workspace.summarize, table)

    async def events(self, table: str = "events") -> list[EventCount]:
        """How often each event happened, and to how many, the most frequent first."""
        return await self._calls.run(self._workspace.events, table)

    async def property_keys(self, table: str, event: str | None = None) -> list[str]:
        """The names of the properties of all rows, or of those of an event."""
        return await self._calls.run(self._workspace.property_keys, table, event)

    async def property_values(self, table: str, key: str, event: str | None = None, limit: int = 20) -> list[PropertyValue]:
        """The values of a property and how many rows have each, the most frequent first."""
        return await self._calls.run(self._workspace.property_values, table, key, event, limit)

    async def column_stats(self, table: str, column: str, top: int = 10) -> ColumnStats:
        """Figures of a column, or of an expression of SQL over the columns, like ``properties->>'$.plan'``."""
        return await self._calls.run(self._workspace.column_stats, table, column, top)
