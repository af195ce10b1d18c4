"""The exceptions, each with the fields that tell what it is about.

All derive from :class:`MerganserError`. Those for which Python has a class of its own derive from that one, too: who catches
``ValueError`` or ``FileNotFoundError`` need not know ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar


class MerganserError(Exception):
    """What every exception of this package is.

    ``code`` is a stable word for the class of error, ``details`` what is known of this one. ``details["code"]`` is the name of
    the gRPC code where the server has answered one. If ``retryable``, the same call may succeed later.
    """

    default_code: ClassVar[str] = "ERROR"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.details: dict[str, Any] = details or {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses have arguments of their own; pickle is to call none of them.
        return (_restore, (type(self), self.args, self.__dict__))

    def to_dict(self) -> dict[str, Any]:
        """The error as plain values."""
        return {"code": self.code, "message": self.message, "details": self.details}


def _restore(cls: type[MerganserError], args: tuple[Any, ...], state: dict[str, Any]) -> MerganserError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class TableExistsError(MerganserError):
    """A table is to be made, and there is one of that name."""

    default_code = "TABLE_EXISTS"

    def __init__(self, table_name: str, message: str | None = None) -> None:
        suggestion = "Drop it first, or append to it."
        details = {"table_name": table_name, "code": "ALREADY_EXISTS", "suggestion": suggestion}
        super().__init__(message or f"Table '{table_name}' already exists.", details=details)
        self.table_name = table_name


class TableNotFoundError(MerganserError):
    """There is no table of that name."""

    default_code = "TABLE_NOT_FOUND"

    def __init__(self, table_name: str, message: str | None = None) -> None:
        details = {"table_name": table_name, "code": "NOT_FOUND"}
        super().__init__(message or f"Table '{table_name}' not found.", details=details)
        self.table_name = table_name


class InvalidDataError(MerganserError, ValueError):
    """A row, a column, a name or an argument that is not as it has to be. ``row`` counts from 1, as the server does."""

    default_code = "INVALID_DATA"

    def __init__(self, message: str, *, field: str | None = None, row: int | None = None) -> None:
        known = {"field": field, "row": row, "code": "INVALID_ARGUMENT"}
        super().__init__(message, details={key: value for key, value in known.items() if value is not None})
        self.field = field
        self.row = row


class QueryError(MerganserError):
    """A statement that failed. ``details`` has ``query``, ``code`` (of gRPC) and, if there were some, ``params``."""

    default_code = "QUERY_FAILED"

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, details=details)


class QueryCancelled(QueryError):  # noqa: N818 - as users know it
    """A statement, or an ingest, that somebody has cancelled."""

    default_code = "QUERY_CANCELLED"


class QueryTimeout(QueryError):  # noqa: N818 - as users know it
    """A statement that took longer than it may."""

    default_code = "QUERY_TIMEOUT"


class AuthError(MerganserError):
    """No credentials or wrong ones (``UNAUTHENTICATED``), or not allowed (``PERMISSION_DENIED``)."""

    default_code = "AUTH_FAILED"


class ResourceError(MerganserError):
    """A limit of memory, disk, queue or sessions; the message names the limit and its setting."""

    default_code = "RESOURCE_EXHAUSTED"
    retryable = True


class UnavailableError(MerganserError):
    """The server cannot be reached, is stopping, or reopens its database: try again."""

    default_code = "UNAVAILABLE"
    retryable = True


class InternalError(MerganserError):
    """A bug of the server: the message has an id that its log tells more about."""

    default_code = "INTERNAL"


class ServerStartError(MerganserError, OSError):
    """The private server did not start."""

    default_code = "SERVER_START_FAILED"

    def __str__(self) -> str:
        return self.message


class DatabaseLockedError(ServerStartError):
    """Another process has the database file open."""

    default_code = "DATABASE_LOCKED"

    def __init__(self, db_path: str | Path, holding_pid: int | None = None, message: str | None = None) -> None:
        holder = f" (PID {holding_pid})" if holding_pid is not None else ""
        details: dict[str, Any] = {
            "db_path": str(db_path),
            "suggestion": "Wait for the other process to close it, or open it read-only in both.",
        }
        if holding_pid is not None:
            details["holding_pid"] = holding_pid
        super().__init__(message or f"Database '{db_path}' is locked by another process{holder}.", details=details)
        self.db_path = str(db_path)
        self.holding_pid = holding_pid


class DatabaseNotFoundError(MerganserError, FileNotFoundError):
    """The database file is not there."""

    default_code = "DATABASE_NOT_FOUND"

    def __init__(self, db_path: str | Path) -> None:
        super().__init__(f"Database file not found: {db_path}", details={"db_path": str(db_path)})
        self.db_path = str(db_path)

    def __str__(self) -> str:
        return self.message


class ClosedError(MerganserError, RuntimeError):
    """The engine has been closed, or belongs to another process."""

    default_code = "CLOSED"
