"""Merganser: events and profiles in DuckDB, streamed in and queried over Arrow Flight."""

from merganser._mixpanel.credentials import Credentials
from merganser._mixpanel.errors import FetchAuthError, FetchError
from merganser._mixpanel.limits import FetchLimits
from merganser._results import (
    ColumnStats,
    ColumnSummary,
    EventCount,
    FetchResult,
    PropertyValue,
    Summary,
    ValueCount,
)
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
from merganser.workspace import Workspace

__all__ = [
    "AuthError",
    "ClosedError",
    "ColumnInfo",
    "ColumnStats",
    "ColumnSummary",
    "Credentials",
    "DatabaseLockedError",
    "DatabaseNotFoundError",
    "EventCount",
    "FetchAuthError",
    "FetchError",
    "FetchLimits",
    "FetchResult",
    "InternalError",
    "InvalidDataError",
    "MerganserError",
    "PropertyValue",
    "QueryCancelled",
    "QueryError",
    "QueryTimeout",
    "Relation",
    "ResourceError",
    "SQLResult",
    "ServerStartError",
    "StorageEngine",
    "Summary",
    "TableExistsError",
    "TableInfo",
    "TableMetadata",
    "TableNotFoundError",
    "TableSchema",
    "UnavailableError",
    "ValueCount",
    "Workspace",
]
