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
from merganser.relation import Relation
from merganser.storage import StorageEngine
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
    "Relation",
    "ResourceError",
    "SQLResult",
    "ServerStartError",
    "StorageEngine",
    "TableExistsError",
    "TableInfo",
    "TableMetadata",
    "TableNotFoundError",
    "TableSchema",
    "UnavailableError",
]
