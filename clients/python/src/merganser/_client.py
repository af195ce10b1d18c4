"""A client of one server: its credentials, its session, the connections of ADBC, and the calls of Flight."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import orjson
import pyarrow as pa
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from merganser import _cancel
from merganser._parameters import bind
from merganser._status import Params, Status, exception, translated
from merganser.errors import InvalidDataError, ResourceError

CONNECTIONS_MAX = 32
"""Statements of one engine that run, or whose result is being read, at once; more wait."""
CONNECTIONS_WAIT_SECONDS = 30
"""How long they wait before they fail."""
MESSAGE_BYTES_MAX = 1 << 30
"""The largest message that is read; the server sends larger ones than 4 MiB for single rows only."""

Pem = str | bytes | Path
"""Certificates and keys: as text, or where the file is."""


@dataclass(frozen=True)
class Target:
    """Which server, who signs in, and what is trusted."""

    uri: str
    authorization: str | None = field(default=None, repr=False)
    tls_root_certs: bytes | None = field(default=None, repr=False)
    tls_client_cert: bytes | None = field(default=None, repr=False)
    tls_client_key: bytes | None = field(default=None, repr=False)


def basic(user: str, password: str) -> str:
    """The header of a user with a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def read_pem(pem: Pem | None) -> bytes | None:
    """A certificate or key; text that is none is the path of a file."""
    if pem is None:
        return None
    if isinstance(pem, str) and "-----BEGIN" in pem:
        return pem.encode()
    return pem if isinstance(pem, bytes) else Path(pem).read_bytes()


class Client:
    """All calls of one engine. They are in one session, so that temporary tables and ``SET`` hold for all of them."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._session = _Session(target.authorization)
        tls: dict[str, Any] = {
            "tls_root_certs": target.tls_root_certs,
            "cert_chain": target.tls_client_cert,
            "private_key": target.tls_client_key,
        }
        given = {key: pem for key, pem in tls.items() if pem}
        try:
            self.flight = flight.FlightClient(target.uri, middleware=[_SessionFactory(self._session)], **given)
        except pa.ArrowInvalid as error:
            raise InvalidDataError(f"{target.uri!r} is no address of a server, like grpc://host:8815: {error}") from error
        self._connections = _Connections(self._connect)

    def close(self) -> None:
        """Ends the session and closes everything."""
        self._connections.close()
        self.flight.close()

    def action(self, name: str, /, **request: Any) -> list[dict[str, Any]]:
        """The answers of one of the server's actions."""
        body = orjson.dumps({key: value for key, value in request.items() if value is not None})
        with translated(table=request.get("table")):
            return [orjson.loads(result.body.to_pybytes()) for result in self.flight.do_action(flight.Action(name, body))]

    def schema(self, sql: str) -> pa.Schema:
        """The columns of a query, which is planned and does not run."""
        with translated(query=sql):
            result: Any = self.flight.get_schema(flight.FlightDescriptor.for_command(sql.encode()))
            return result.schema

    @contextlib.contextmanager
    def run(self, sql: str, params: Params = None) -> Generator[adbc.Cursor]:
        """Runs one statement; its result is there to be read while the block runs."""
        if not sql or sql.isspace():
            # The driver refuses it with words of its own.
            raise exception(Status("INVALID_ARGUMENT", "the statement is empty"), query=sql)
        with self._connections.one() as connection:
            cursor = connection.cursor()
            try:
                with _cancel.calling(cursor.adbc_cancel), translated(query=sql, params=params):
                    cursor.execute(sql, bind(cursor, sql, params))
                yield cursor
            finally:
                _close(cursor)

    def own_connection(self) -> adbc.Connection:
        """A connection that the user may keep."""
        return self._connections.keep()

    def _connect(self) -> adbc.Connection:
        target = self.target
        prefix = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value
        options = {
            DatabaseOptions.WITH_MAX_MSG_SIZE.value: str(MESSAGE_BYTES_MAX),
            DatabaseOptions.AUTHORIZATION_HEADER.value: target.authorization,
            prefix + "cookie": self._session.cookie,
            DatabaseOptions.TLS_ROOT_CERTS.value: _text(target.tls_root_certs),
            DatabaseOptions.MTLS_CERT_CHAIN.value: _text(target.tls_client_cert),
            DatabaseOptions.MTLS_PRIVATE_KEY.value: _text(target.tls_client_key),
        }
        with translated():
            given = {key: value for key, value in options.items() if value}
            return adbc.connect(target.uri, db_kwargs=given, autocommit=True)


def _close(closable: adbc.Cursor | adbc.Connection) -> None:
    """Closes what a server has a part in. If that is gone, nothing is left to close, and the driver is not to try again."""
    try:
        closable.close()
    except Exception:
        vars(closable)["_closed"] = True


def _text(pem: bytes | None) -> str | None:
    return pem.decode() if pem else None


class _Session:
    """The headers that every call has: credentials, and the cookie that the server's first answer set."""

    def __init__(self, authorization: str | None) -> None:
        self._authorization = authorization
        self.cookie: str | None = None

    def headers(self) -> dict[str, list[str] | list[bytes]]:
        known = {"authorization": self._authorization, "cookie": self.cookie}
        return {name: [value] for name, value in known.items() if value}

    def hear(self, headers: Mapping[str, Sequence[str | bytes]]) -> None:
        for name, values in headers.items():
            if name.lower() == "set-cookie" and values:
                text = values[0] if isinstance(values[0], str) else values[0].decode()
                self.cookie = text.split(";", 1)[0]


class _SessionFactory(flight.ClientMiddlewareFactory):
    def __init__(self, session: _Session) -> None:
        super().__init__()
        self._session = session

    def start_call(self, info: flight.CallInfo) -> flight.ClientMiddleware:  # noqa: ARG002 - Flight's signature
        return _SessionMiddleware(self._session)


class _SessionMiddleware(flight.ClientMiddleware):
    def __init__(self, session: _Session) -> None:
        super().__init__()
        self._session = session

    def sending_headers(self) -> dict[str, list[str] | list[bytes]]:
        return self._session.headers()

    def received_headers(self, headers: dict[str, list[str] | list[bytes]]) -> None:
        self._session.hear(headers)


class _Connections:
    """Connections of ADBC, each used by one thread at a time. They are closed at the end only: that ends their session."""

    def __init__(self, connect: Callable[[], adbc.Connection]) -> None:
        self._connect = connect
        self._changed = threading.Condition()
        self._idle: list[adbc.Connection] = []
        self._all: list[adbc.Connection] = []
        self._kept: adbc.Connection | None = None

    @contextlib.contextmanager
    def one(self) -> Generator[adbc.Connection]:
        connection = self._take()
        try:
            yield connection
        finally:
            with self._changed:
                self._idle.append(connection)
                self._changed.notify()

    def _take(self) -> adbc.Connection:
        deadline = time.monotonic() + CONNECTIONS_WAIT_SECONDS
        with self._changed:
            while not self._idle:
                if len(self._all) < CONNECTIONS_MAX:
                    return self._open()
                if not self._changed.wait(deadline - time.monotonic()):
                    raise ResourceError(
                        f"{CONNECTIONS_MAX} statements of this engine are open, which is the limit: read their results to"
                        " the end, or close them"
                    )
            return self._idle.pop()

    def keep(self) -> adbc.Connection:
        with self._changed:
            kept = self._kept or self._connect()
            self._kept = kept
            return kept

    def _open(self) -> adbc.Connection:
        connection = self._connect()
        self._all.append(connection)
        return connection

    def close(self) -> None:
        with self._changed:
            kept = [self._kept] if self._kept is not None else []
            connections, self._all, self._idle, self._kept = self._all + kept, [], [], None
        for connection in connections:
            _close(connection)
