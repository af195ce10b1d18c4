"""``Workspace``: data from Mixpanel, fetched into a server, and a quick look at it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from merganser import _explore
from merganser._mixpanel.credentials import Credentials
from merganser._mixpanel.limits import FetchLimits
from merganser._mixpanel.tally import Tally
from merganser._results import ColumnStats, EventCount, FetchResult, PropertyValue, Summary
from merganser.errors import InvalidDataError
from merganser.storage import StorageEngine
from merganser.types import OnDuplicate, SQLResult, TableInfo, TableMetadata, TableSchema

if TYPE_CHECKING:
    import pandas as pd

    from merganser._mixpanel.fetch import Source

# What a fetch needs (httpx, rich) is imported when there is one: it takes long, and queries do without.

_Self = TypeVar("_Self", bound="Workspace")


class Workspace:
    """Events and profiles of Mixpanel in a database, and what one asks it first.

    Made by ``ephemeral``, ``memory`` and ``open``, with a server of its own, or by ``connect``, with one that runs::

        with Workspace.ephemeral() as ws:
            ws.fetch_events("events", from_date="2024-01-01", to_date="2024-01-31")
            print(ws.events("events"))
            df = ws.sql("SELECT event_time::DATE AS day, count(*) AS events FROM events GROUP BY ALL ORDER BY day")

    ``credentials`` are those of a service account; what they leave open is in ``MP_USERNAME``, ``MP_SECRET``,
    ``MP_PROJECT_ID`` and ``MP_REGION``. Only a fetch needs them. ``storage`` is the engine below, for all else.

    A workspace may be used from several threads. ``merganser.asyncio.AsyncWorkspace`` is its twin for async code.
    """

    def __init__(
        self, storage: StorageEngine, *, credentials: Credentials | None = None, limits: FetchLimits | None = None
    ) -> None:
        self.storage = storage
        self._credentials = credentials or Credentials()
        self._limits = limits or FetchLimits()

    @classmethod
    def ephemeral(cls: type[_Self], *, credentials: Credentials | None = None, limits: FetchLimits | None = None) -> _Self:
        """In a temporary database, which is gone when the workspace is closed."""
        return cls(StorageEngine.ephemeral(), credentials=credentials, limits=limits)

    @classmethod
    def memory(cls: type[_Self], *, credentials: Credentials | None = None, limits: FetchLimits | None = None) -> _Self:
        """In memory only."""
        return cls(StorageEngine.memory(), credentials=credentials, limits=limits)

    @classmethod
    def open(
        cls: type[_Self],
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        credentials: Credentials | None = None,
        limits: FetchLimits | None = None,
    ) -> _Self:
        """In a database file, which is made if it is not there."""
        return cls(StorageEngine(path, read_only=read_only), credentials=credentials, limits=limits)

    @classmethod
    def connect(
        cls: type[_Self],
        uri: str,
        *,
        credentials: Credentials | None = None,
        limits: FetchLimits | None = None,
        **connection: Any,
    ) -> _Self:
        """On a server that runs, like ``grpc://host:8815``; ``connection`` is what ``StorageEngine.connect`` takes."""
        return cls(StorageEngine.connect(uri, **connection), credentials=credentials, limits=limits)

    def close(self) -> None:
        """Ends the session, and the server if it is the workspace's own; may be called again."""
        self.storage.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.storage!r}>"

    # --- fetch ---

    def fetch_events(
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
        """Fetches the events of the days from ``from_date`` to ``to_date``, both included, into a new table ``name``.

        ``events`` are the names of those that are wanted, ``where`` is an expression of Mixpanel. With ``append`` the table is
        there, and only events that it does not have are added: an event is known by its ``$insert_id``, and without one by its
        content. With ``on_duplicate="replace"`` it takes the place of the one that is known.

        The days are downloaded several at a time, each as often as it takes (``FetchLimits``), and go into the server as they
        come. All of them are stored, or nothing is, and a ``FetchError`` names the day and the reason. ``progress`` shows a bar
        on a terminal.
        """
        from merganser._mixpanel.export import Export

        first, last = _day("from_date", from_date), _day("to_date", to_date)
        if last < first:
            raise InvalidDataError(f"from_date {first} is after to_date {last}", field="from_date")
        names = [events] if isinstance(events, str) else None if events is None else list(events)
        if names == []:
            raise InvalidDataError("events is empty: name some, or leave it out for all", field="events")
        metadata = TableMetadata(
            type="events",
            fetched_at=datetime.now(timezone.utc),
            from_date=str(first),
            to_date=str(last),
            filter_events=names,
            filter_where=where,
        )
        store = self.storage.append_events_table if append else self.storage.create_events_table
        return self._fetch(name, Export(first, last, names, where), metadata, store, on_duplicate, "days", progress)

    def fetch_profiles(
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
        """Fetches profiles into a new table ``name``; with ``append``, those that the table does not have into one that is there.

        With ``on_duplicate="replace"``, those that it has are replaced, too, so that it is as Mixpanel is now.
        ``where`` is an expression of Mixpanel, ``cohort_id`` a cohort that they are in, ``output_properties`` the properties
        that are wanted. All of them are stored, or nothing is; see ``fetch_events``.
        """
        from merganser._mixpanel.engage import Engage

        metadata = TableMetadata(type="profiles", fetched_at=datetime.now(timezone.utc), filter_where=where)
        store = self.storage.append_profiles_table if append else self.storage.create_profiles_table
        source = Engage(where, cohort_id, output_properties)
        return self._fetch(name, source, metadata, store, on_duplicate, "pages", progress)

    def _fetch(
        self,
        name: str,
        source: Source,
        metadata: TableMetadata,
        store: Callable[..., int],
        on_duplicate: OnDuplicate,
        parts: str,
        progress: bool,
    ) -> FetchResult:
        from merganser._mixpanel.bar import Bar
        from merganser._mixpanel.fetch import Fetch

        account = self._credentials.resolve()
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            bar = stack.enter_context(Bar(f"Fetching {name}", parts)) if progress else None
            tally = Tally(bar)
            fetch = stack.enter_context(contextlib.closing(Fetch(source, account, self._limits, tally)))
            rows = store(name, fetch.reader(), metadata, on_duplicate=on_duplicate)
        fetched_at = metadata.fetched_at or datetime.now(timezone.utc)
        return FetchResult(
            table=name,
            type=metadata.type,
            rows=rows,
            fetched_rows=tally.rows,
            bytes=tally.bytes,
            requests=tally.parts + tally.retries,
            retries=tally.retries,
            duration_seconds=time.monotonic() - began,
            fetched_at=fetched_at,
            from_date=metadata.from_date,
            to_date=metadata.to_date,
        )

    # --- SQL ---

    def sql(self, query: str, params: Any = None) -> pd.DataFrame:
        """The rows of a statement as a pandas frame. Parameters are a sequence for ``?``, or a mapping for ``$name``."""
        return self.storage.execute_df(query, params)

    def sql_scalar(self, query: str, params: Any = None) -> Any:
        """The first value of the first row; None if there is no row."""
        return self.storage.execute_scalar(query, params)

    def sql_rows(self, query: str, params: Any = None) -> SQLResult:
        """The rows of a statement as tuples, with the names of the columns."""
        return self.storage.execute_rows(query, params)

    # --- tables ---

    def tables(self) -> list[TableInfo]:
        """The tables of events and profiles, by name."""
        return self.storage.list_tables()

    def schema(self, table: str) -> TableSchema:
        """The columns of a table or view."""
        return self.storage.get_schema(table)

    def drop(self, *tables: str) -> None:
        """Drops tables with their metadata. If one of them is not there, none is dropped."""
        for table in tables:
            self.storage.get_schema(table)
        for table in tables:
            self.storage.drop_table(table)

    # --- a first look ---

    def sample(self, table: str, n: int = 10) -> pd.DataFrame:
        """``n`` rows at random."""
        if n < 0:
            raise InvalidDataError(f"n must be at least 0, not {n}", field="n")
        self.storage.get_schema(table)
        return self.storage.execute_df(f"SELECT * FROM {_explore.quoted(table)} USING SAMPLE {n:d} ROWS")

    def summarize(self, table: str) -> Summary:
        """Each column in figures: range, quartiles, distinct values, missing values."""
        return _explore.summarize(self.storage, table)

    def events(self, table: str = "events") -> list[EventCount]:
        """How often each event happened, and to how many, the most frequent first."""
        return _explore.events(self.storage, table)

    def property_keys(self, table: str, event: str | None = None) -> list[str]:
        """The names of the properties of all rows, or of those of an event."""
        return _explore.property_keys(self.storage, table, event)

    def property_values(self, table: str, key: str, event: str | None = None, limit: int = 20) -> list[PropertyValue]:
        """The values of a property and how many rows have each, the most frequent first."""
        return _explore.property_values(self.storage, table, key, event, limit)

    def column_stats(self, table: str, column: str, top: int = 10) -> ColumnStats:
        """Figures of a column, or of an expression of SQL over the columns, like ``properties->>'$.plan'``."""
        return _explore.column_stats(self.storage, table, column, top)


def _day(name: str, value: str | date) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return datetime.strptime(value, "%Y-%m-%d").date()
    except ValueError:
        raise InvalidDataError(f"{name} must be a day like 2024-01-31, not {value!r}", field=name) from None
