"""What a server answered, as exceptions: the one place that reads the errors of ADBC and of pyarrow."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from adbc_driver_manager import Error as AdbcError
from pyarrow import flight

from merganser.errors import (
    AuthError,
    InternalError,
    InvalidDataError,
    MerganserError,
    QueryCancelled,
    QueryError,
    QueryTimeout,
    ResourceError,
    TableExistsError,
    TableNotFoundError,
    UnavailableError,
)

Params = Sequence[Any] | Mapping[str, Any] | None

# The names of gRPC's codes, by their numbers.
_CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED"
    " FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()

# How pyarrow writes them. It has one class for several, but each has a text of its own.
_PYARROW = {
    "Flight returned not found error": "NOT_FOUND",
    "Flight returned already exists error": "ALREADY_EXISTS",
    "Flight returned invalid argument error": "INVALID_ARGUMENT",
    "gRPC returned precondition failed error": "FAILED_PRECONDITION",
    "gRPC returned resource exhausted error": "RESOURCE_EXHAUSTED",
    "Flight cancelled call": "CANCELLED",
    "Flight returned timeout error": "DEADLINE_EXCEEDED",
    "Flight returned unavailable error": "UNAVAILABLE",
    "Flight returned unauthorized error": "PERMISSION_DENIED",
    "Flight returned unauthenticated error": "UNAUTHENTICATED",
    "Flight returned unimplemented error": "UNIMPLEMENTED",
    "Flight returned internal error": "INTERNAL",
}
_PYARROW_TEXT = re.compile(
    rf"(?P<code>{'|'.join(_PYARROW)}), with message: (?P<message>.*?)(?:\. gRPC client debug context: .*)?$", re.DOTALL
)
_ADBC_TEXT = re.compile(r"^(?:[A-Z_]+: )?\[FlightSQL\] (?P<message>.*) \((?P<code>\w+); [^)]*\).*$", re.DOTALL)

WIRE_ERRORS = (AdbcError, pa.ArrowException, flight.FlightError, OSError)
"""What ADBC and pyarrow raise for what a server, or the way to it, has answered."""


@dataclass(frozen=True)
class Status:
    """A gRPC code by its name, and the server's message."""

    code: str
    message: str


def status_of(error: BaseException) -> Status:
    """What an error of ADBC or pyarrow says."""
    text = str(error)
    if found := _ADBC_TEXT.search(text):
        code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", found["code"]).upper()
        return Status("CANCELLED" if code == "CANCELED" else code, found["message"])
    if found := _PYARROW_TEXT.search(text):
        return Status(_PYARROW[found["code"]], found["message"])
    if isinstance(error, AdbcError):
        number = error.vendor_code or 0
        return Status(_CODES[number] if 0 < number < len(_CODES) else "UNKNOWN", text)
    if isinstance(error, (flight.FlightUnavailableError, ConnectionError)):
        return Status("UNAVAILABLE", text)
    return Status("UNKNOWN", text)


def exception(status: Status, *, query: str | None = None, params: Params = None, table: str | None = None) -> MerganserError:
    """The exception for a status; ``query`` or ``table`` is what the call was about."""
    code, message = status.code, status.message
    if query is None and table is not None:
        if code == "NOT_FOUND":
            return TableNotFoundError(table)
        if code == "ALREADY_EXISTS" and "duplicate key" not in message:
            return TableExistsError(table)
    if query is None and code in ("INVALID_ARGUMENT", "ALREADY_EXISTS"):
        return InvalidDataError(message)
    details: dict[str, Any] = {"code": code}
    if query is not None:
        # The replaced engine had the statement one level deeper; both places are found.
        details |= {"query": query, "response_body": {"query": query, "error": message}}
        if params:
            details["params"] = params
    return _CLASSES.get(code, QueryError)(message, details=details)


_CLASSES: dict[str, type[MerganserError]] = {
    "CANCELLED": QueryCancelled,
    "DEADLINE_EXCEEDED": QueryTimeout,
    "INTERNAL": InternalError,
    "PERMISSION_DENIED": AuthError,
    "RESOURCE_EXHAUSTED": ResourceError,
    "UNAUTHENTICATED": AuthError,
    "UNAVAILABLE": UnavailableError,
}


@contextlib.contextmanager
def translated(*, query: str | None = None, params: Params = None, table: str | None = None) -> Generator[None]:
    """Errors of the wire that the block raises become ours. Nothing that is the user's may run in it."""
    try:
        yield
    except MerganserError:
        raise
    except WIRE_ERRORS as error:
        raise exception(status_of(error), query=query, params=params, table=table) from error
