"""Merganser: events and profiles in DuckDB, streamed in and queried over Arrow Flight."""

from merganser.errors import (
    AuthError,
    ClosedError,
    DatabaseLockedError,
    DatabaseNotFoundError,
    InternalError,
    InvalidDataError,
    MerganserError,
    QueryCancelled,
    QueryError,
    QueryTimeout,
    ResourceError,
    ServerStartError,
    TableExistsError,
    TableNotFoundError,
    UnavailableError,
)
from merganser.types import ColumnInfo, SQLResult, TableInfo, TableMetadata, TableSchema

__all__ = [
    "AuthError",
    "ClosedError",
    "ColumnInfo",
    "DatabaseLockedError",
    "DatabaseNotFoundError",
    "InternalError",
    "InvalidDataError",
    "MerganserError",
    "QueryCancelled",
    "QueryError",
    "QueryTimeout",
    "ResourceError",
    "SQLResult",
    "ServerStartError",
    "TableExistsError",
    "TableInfo",
    "TableMetadata",
    "TableNotFoundError",
    "TableSchema",
    "UnavailableError",
]
