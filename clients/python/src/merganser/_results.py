"""What a workspace answers: plain, frozen values with ``to_dict``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, cast

from merganser.types import ManagedKind


class _Plain:
    """A dataclass that can say itself in values of JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The same as values of JSON."""
        return cast("dict[str, Any]", _plain(asdict(cast("Any", self))))


@dataclass(frozen=True)
class FetchResult(_Plain):
    """A fetch that is done, and durable.

    ``rows`` are stored, of the ``fetched_rows`` that Mixpanel sent; the others have a key that was known. With
    ``on_duplicate="replace"``, those that took the place of others count. ``bytes`` are those of the answers, most often
    compressed. ``retries`` counts the attempts that failed on the way.
    """

    table: str
    type: ManagedKind
    rows: int
    fetched_rows: int
    bytes: int
    requests: int
    retries: int
    duration_seconds: float
    fetched_at: datetime
    from_date: str | None = None
    to_date: str | None = None


@dataclass(frozen=True)
class EventCount(_Plain):
    """How often an event happened, and to how many."""

    event: str
    count: int
    users: int
    first_seen: datetime
    last_seen: datetime
    share: float
    """Of all events of the table, between 0 and 1."""


@dataclass(frozen=True)
class PropertyValue(_Plain):
    """A value of a property, as text (None: JSON's null), and how many rows have it."""

    value: str | None
    count: int


@dataclass(frozen=True)
class ValueCount(_Plain):
    """A value of a column, and how many rows have it."""

    value: Any
    count: int


@dataclass(frozen=True)
class ColumnSummary(_Plain):
    """A column in a summary. What its type does not have (the mean of a text) is None."""

    name: str
    type: str
    min: str | None
    max: str | None
    approx_unique: int
    mean: float | None
    std: float | None
    q25: str | None
    q50: str | None
    q75: str | None
    count: int
    """Rows with a value."""
    null_share: float
    """Rows without one, between 0 and 1."""


@dataclass(frozen=True)
class Summary(_Plain):
    """The columns of a table, each in a few figures."""

    table: str
    row_count: int
    columns: tuple[ColumnSummary, ...]


@dataclass(frozen=True)
class ColumnStats(_Plain):
    """One column, or one expression, in figures. ``mean`` and ``std`` are of numbers only."""

    table: str
    column: str
    type: str
    count: int
    null_count: int
    null_share: float
    approx_unique: int
    min: Any
    max: Any
    mean: float | None
    std: float | None
    top_values: tuple[ValueCount, ...]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[Any]", value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)
