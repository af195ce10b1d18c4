"""``StorageEngine``: tables of events and profiles on a server, a private one or one that runs."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import pyarrow as pa
from adbc_driver_flightsql.dbapi import Connection

from merganser import _values
from merganser._client import Client, Pem, Target, basic, read_pem
from merganser._put import ProgressCallback, put
from merganser._server import PrivateServer, shared
from merganser._sources import source_of
from merganser._status import Params
from merganser.errors import (
    ClosedError,
    DatabaseNotFoundError,
    InvalidDataError,
    QueryError,
    UnavailableError,
)
from merganser.relation import Ran, Relation, nested
from merganser.types import (
    ColumnInfo,
    ManagedKind,
    OnDuplicate,
    SQLResult,
    TableInfo,
    TableKind,
    TableMetadata,
    TableSchema,
)

if TYPE_CHECKING:
    import pandas as pd

_Engine = TypeVar("_Engine", bound="StorageEngine")
_NAME = re.compile(r"[A-Za-z0-9_]+\Z")
_NAME_MAX = 255


class StorageEngine:
    """Tables of events and profiles, and SQL on them.

    ``StorageEngine(path)`` starts a private server on a database file, which ends with the engine; engines of one process on
    one file share it. ``ephemeral``, ``memory`` and ``open_existing`` start one, too; ``connect`` uses a server that runs.

    An engine may be used from several threads. It does not survive a fork: make another one in the child.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, read_only: bool = False) -> None:
        if path is None:
            raise InvalidDataError("Use StorageEngine.ephemeral() or StorageEngine.memory() for temporary databases")
        self._open_file(Path(path).expanduser().absolute(), read_only)

    @classmethod
    def ephemeral(cls: type[_Engine]) -> _Engine:
        """On a file in a temporary directory, which is deleted with the engine; after a crash, by the next start."""
        engine = cls.__new__(cls)
        server = PrivateServer(["--ephemeral"])
        engine._attach(server, server.stop)
        return engine

    @classmethod
    def memory(cls: type[_Engine]) -> _Engine:
        """In memory only."""
        engine = cls.__new__(cls)
        server = PrivateServer(["--memory"])
        engine._attach(server, server.stop)
        return engine

    @classmethod
    def open_existing(cls: type[_Engine], path: str | os.PathLike[str], *, read_only: bool = True) -> _Engine:
        """On a file that is there, for reading unless told otherwise."""
        file = Path(path).expanduser().absolute()
        if not file.exists():
            raise DatabaseNotFoundError(file)
        engine = cls.__new__(cls)
        engine._open_file(file, read_only)
        return engine

    @classmethod
    def connect(
        cls: type[_Engine],
        uri: str,
        *,
        user: str | None = None,
        password: str = "",
        token: str | None = None,
        tls_root_certs: Pem | None = None,
        tls_client_cert: Pem | None = None,
        tls_client_key: Pem | None = None,
    ) -> _Engine:
        """On a server that runs, like ``grpc://host:8815``, or ``grpc+tls://host:8815``.

        Who signs in is a ``user`` with a ``password``, or who has a ``token``: an API token or a JWT. Certificates and keys
        are PEM, as text or as the path of a file.
        """
        if user is not None and token is not None:
            raise InvalidDataError("give a user and a password, or a token, and not both")
        authorization = f"Bearer {token}" if token is not None else basic(user, password) if user is not None else None
        target = Target(uri, authorization, read_pem(tls_root_certs), read_pem(tls_client_cert), read_pem(tls_client_key))
        engine = cls.__new__(cls)
        engine._join(target, None, lambda: None)
        return engine

    # --- the server ---

    def _open_file(self, path: Path, read_only: bool) -> None:
        if read_only and not path.exists():
            raise DatabaseNotFoundError(path)
        server = shared.acquire(path, read_only)
        self._attach(server, lambda: shared.release(server))

    def _attach(self, server: PrivateServer, release: Callable[[], None]) -> None:
        self._join(Target(server.uri, basic(server.user, server.password)), server, release)

    def _join(self, target: Target, server: PrivateServer | None, release: Callable[[], None]) -> None:
        self._pid = os.getpid()
        self._server = server
        try:
            client = Client(target)
            # The first call: whether the server is there, and lets us in; its answer names the session.
            [info] = client.action("server_info")
        except BaseException:
            release()
            raise
        self._client = client
        file = info.get("database_path")
        self._path = Path(file) if file else None
        self._read_only = info.get("mode") == "read-only"
        # Runs once: on close, when the engine is collected, or at the end of the program.
        self._finalizer = weakref.finalize(self, _close, os.getpid(), client, release)

    def _open_client(self) -> Client:
        if os.getpid() != self._pid:
            raise ClosedError("this engine belongs to the process that made it, of which this one is a fork: make another")
        if not self._finalizer.alive:
            raise ClosedError("Database connection has been closed. Create a new StorageEngine instance to reconnect.")
        if self._server is not None and not self._server.is_running():
            raise UnavailableError(self._server.epitaph())
        return self._client

    def close(self) -> None:
        """Ends the session, and the private server; may be called again."""
        if os.getpid() == self._pid:
            self._finalizer()

    cleanup = close

    def __enter__(self: _Engine) -> _Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", closed"
        return f"<{type(self).__name__}: {self._path or self._client.target.uri}{state}>"

    @property
    def path(self) -> Path | None:
        """The database file; none if it is in memory, or the server does not say."""
        return self._path

    @property
    def read_only(self) -> bool:
        """Whether the database is open for reading only."""
        return self._read_only

    @property
    def uri(self) -> str:
        """The server's address."""
        return self._client.target.uri

    @property
    def connection(self) -> Connection:
        """A connection of the ADBC driver (DBAPI 2.0, autocommit), in the engine's session; for one thread at a time."""
        return self._open_client().own_connection()

    # --- ingest ---

    def create_events_table(
        self,
        name: str,
        data: Any,
        metadata: TableMetadata | None = None,
        progress_callback: ProgressCallback | None = None,
        batch_size: int | None = None,
        *,
        on_duplicate: OnDuplicate = "skip",
    ) -> int:
        """Makes a table of events of ``data`` and answers how many rows are stored.

        ``data`` is an iterable of dicts, Arrow data (a table, a reader, a dataset), or a data frame of pandas or polars. It is
        streamed; if it raises, nothing is stored. ``progress_callback`` is called with the rows stored so far after each
        batch, of ``batch_size`` rows. A row whose key is known, from the table or from ``data``, is left out, unless
        ``on_duplicate`` is ``"replace"``, with which the last one stays, or ``"error"``, with which nothing is stored.
        """
        return self._ingest("events", "create", name, data, metadata, progress_callback, batch_size, on_duplicate)

    def create_profiles_table(
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
        return self._ingest("profiles", "create", name, data, metadata, progress_callback, batch_size, on_duplicate)

    def append_events_table(
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
        return self._ingest("events", "append", name, data, metadata, progress_callback, batch_size, on_duplicate)

    def append_profiles_table(
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
        return self._ingest("profiles", "append", name, data, metadata, progress_callback, batch_size, on_duplicate)

    def _ingest(
        self,
        kind: ManagedKind,
        mode: Literal["create", "append"],
        name: str,
        data: Any,
        metadata: TableMetadata | None,
        progress: ProgressCallback | None,
        batch_size: int | None,
        on_duplicate: OnDuplicate,
    ) -> int:
        client = self._open_client()
        _check_name(name)
        if batch_size is not None and batch_size < 1:
            raise InvalidDataError(f"batch_size must be at least 1, got {batch_size}")
        if progress is not None and batch_size is None:
            batch_size = PROGRESS_ROWS
        command: dict[str, Any] = {"kind": kind, "table": name, "mode": mode, "on_duplicate": on_duplicate}
        if metadata is not None:
            command["metadata"] = _ingest_metadata(kind, metadata)
        source = source_of(kind, data, batch_size)
        result = put(client.flight, command, source.schema, source.batches, progress)
        return result["rows_inserted"] + result["rows_replaced"]

    # --- queries ---

    def execute(self, sql: str, params: Params = None) -> Relation:
        """A query as a relation: it runs when its rows are asked for. Any other statement runs now.

        Parameters are a sequence for ``?``, or a mapping for ``$name``.
        """
        client = self._open_client()
        relation = Relation(client, sql, params)
        try:
            # What can be the table of another query changes nothing, and may wait.
            client.schema(f"SELECT * FROM {nested(sql)}")
        except QueryError:
            return Ran(client, sql, params, relation.arrow())
        return relation

    def execute_df(self, sql: str, params: Params = None) -> pd.DataFrame:
        """The rows of a statement as a pandas frame."""
        return Relation(self._open_client(), sql, params).df()

    def execute_scalar(self, sql: str, params: Params = None) -> Any:
        """The first value of the first row; None if there is no row."""
        relation = Relation(self._open_client(), sql, params)
        row = relation.fetchone()
        relation.close()
        return row[0] if row else None

    def execute_rows(self, sql: str, params: Params = None) -> SQLResult:
        """The rows of a statement as tuples, with the names of the columns."""
        table = Relation(self._open_client(), sql, params).arrow()
        return SQLResult(tuple(table.column_names), tuple(_values.rows_of(table)))

    def execute_rows_params(self, sql: str, params: Params) -> SQLResult:
        """``execute_rows`` under the name that the replaced engine had for it with parameters."""
        return self.execute_rows(sql, params)

    # --- tables ---

    def list_tables(self, kind: TableKind | Literal["all"] | None = None, name_like: str | None = None) -> list[TableInfo]:
        """The tables of events and profiles by name, or those of another kind, or all; ``name_like`` is a LIKE pattern."""
        asked = None if kind in (None, "all") else kind
        found = self._open_client().action("list_tables", kind=asked, name_like=name_like)
        tables = [_table_info(table) for table in found]
        managed = [table for table in tables if kind is not None or table.type in ("events", "profiles")]
        return sorted(managed, key=lambda table: table.name)

    def get_schema(self, table: str) -> TableSchema:
        """The columns of a table or view."""
        [found] = self._open_client().action("get_schema", table=table)
        columns = (
            ColumnInfo(column["name"], column["type"], bool(column["nullable"]), bool(column["primary_key"]))
            for column in found["columns"]
        )
        return TableSchema(found["table"], tuple(columns), found["kind"])

    def get_metadata(self, table: str) -> TableMetadata:
        """Where the rows of a table of events or profiles came from."""
        [found] = self._open_client().action("get_metadata", table=table)
        return TableMetadata(
            type=found["type"],
            fetched_at=_time(found.get("fetched_at")),
            from_date=found.get("from_date"),
            to_date=found.get("to_date"),
            filter_events=found.get("filter_events") or None,
            filter_where=found.get("filter_where"),
            row_count=int(found.get("row_count", 0)),
            table_name=found["table_name"],
            created_at=_time(found.get("created_at")),
            updated_at=_time(found.get("updated_at")),
        )

    def table_exists(self, table: str) -> bool:
        """Whether there is a table or view of that name."""
        [found] = self._open_client().action("table_exists", table=table)
        return bool(found["exists"])

    def drop_table(self, table: str, *, if_exists: bool = False) -> None:
        """Drops a table with its metadata; ``TableNotFoundError`` if it is not there, unless ``if_exists``."""
        self._open_client().action("drop_table", table=table, if_exists=if_exists)


PROGRESS_ROWS = 1000
"""Rows of one batch if somebody wants to hear of each."""


def _close(pid: int, client: Client, release: Callable[[], None]) -> None:
    # At the end of a forked child, too; what it has a copy of is its parent's.
    if os.getpid() == pid:
        client.close()
        release()


def _check_name(name: str) -> None:
    if name.startswith("_"):
        raise InvalidDataError(f"Table name '{name}' cannot start with underscore (reserved for internal tables)")
    if not _NAME.match(name):
        raise InvalidDataError(f"Table name '{name}' must contain only alphanumeric characters and underscores")
    if len(name) > _NAME_MAX:
        raise InvalidDataError(f"Table name of {len(name)} characters: it must have {_NAME_MAX} at most")


def _ingest_metadata(kind: ManagedKind, metadata: TableMetadata) -> dict[str, Any]:
    if metadata.type != kind:
        raise InvalidDataError(f"the metadata is of {metadata.type}, and the table of {kind}")
    fetched_at = metadata.fetched_at
    if fetched_at is not None and fetched_at.tzinfo is None:
        fetched_at = fetched_at.replace(tzinfo=timezone.utc)
    known = {
        "fetched_at": fetched_at.isoformat() if fetched_at is not None else None,
        "from_date": metadata.from_date,
        "to_date": metadata.to_date,
        "filter_events": list(metadata.filter_events) if metadata.filter_events else None,
        "filter_where": metadata.filter_where,
    }
    return {key: value for key, value in known.items() if value is not None}


def _table_info(found: Mapping[str, Any]) -> TableInfo:
    rows, size = found.get("row_count"), found.get("size_bytes")
    return TableInfo(
        name=found["name"],
        type=found["kind"],
        row_count=None if rows is None else int(rows),
        fetched_at=_time(found.get("fetched_at")),
        size_bytes=None if size is None else int(size),
    )


def _time(text: str | None) -> datetime | None:
    """A time of RFC 3339, of which Python 3.10 knows neither the Z nor other than three or six digits."""
    if text is None:
        return None
    return cast("datetime", pa.scalar(text).cast(pa.timestamp("us", tz="UTC")).as_py()).astimezone(timezone.utc)
