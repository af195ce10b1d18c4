"""What the database must hold: the rows, told by key and version, and the tables as one client has left them.

A row's key and version say all of it, so that a model of many rows is small, and a row that was damaged shows.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa

from support import EVENTS_SCHEMA, PROFILES_SCHEMA

BASE_MICROSECONDS = 1_704_067_200_000_000
# JSON is stored byte for byte: spellings that no serialiser would choose. The longest makes rows that do not compress away.
SPELLINGS = [r"1.0E+2", r'"\u00e9\/ø"', r"[ 1 ,2]", r'{"b":null, "a":-0}', '"' + "x" * 40 + '"']
PLAIN_SCHEMA = pa.schema([("k", pa.string()), ("v", pa.int64()), ("p", pa.string())])
SCHEMAS = {"events": EVENTS_SCHEMA, "profiles": PROFILES_SCHEMA, "table": PLAIN_SCHEMA}
KEYS = {"events": "insert_id", "profiles": "distinct_id", "table": "k"}

# Key and version.
Rows = Mapping[str, int]
Stream = list[tuple[str, int]]


def properties(key: str, version: int) -> str:
    check = zlib.crc32(f"{key}/{version}".encode())
    return f'{{"v":{version},  "k":"{key}","s":{SPELLINGS[check % 5]},"sum":{check}}}'


@functools.lru_cache(maxsize=1 << 18)
def row(kind: str, key: str, version: int) -> tuple[object, ...]:
    """The row in the order of its kind's columns; times are microseconds since 1970."""
    check = zlib.crc32(f"{key}/{version}".encode())
    microseconds = BASE_MICROSECONDS + check * 1009
    if kind == "events":
        return f"event {check % 7}", microseconds, f"user {check % 97}", key, properties(key, version)
    if kind == "profiles":
        return key, properties(key, version), microseconds if check % 3 else None
    return key, version, properties(key, version)


def arrow(kind: str, stream: Stream) -> pa.Table:
    schema = SCHEMAS[kind]
    columns = list(zip(*(row(kind, key, version) for key, version in stream), strict=True)) or [()] * len(schema)
    arrays = [
        pa.array(column, pa.int64()).cast(to.type) if pa.types.is_timestamp(to.type) else pa.array(column, to.type)
        for column, to in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def literal(kind: str, key: str, version: int) -> str:
    """The row as SQL's VALUES has it."""

    def one(value: object) -> str:
        if isinstance(value, str):
            return "'" + value.replace("'", "''") + "'"
        return "NULL" if value is None else str(value)

    values = [one(value) for value in row(kind, key, version)]
    position = {"events": 1, "profiles": 2}.get(kind)
    if position is not None and values[position] != "NULL":
        values[position] = f"make_timestamp({values[position]})"
    return f"({', '.join(values)})"


@dataclass(frozen=True)
class Provenance:
    """What `_metadata` says of a table; `fetched` is None where the server's clock said it."""

    from_date: str | None = None
    to_date: str | None = None
    fetched: str | None = None

    def then(self, later: Provenance) -> Provenance:
        """After an append."""
        dates = [date for date in (self.from_date, later.from_date) if date]
        ends = [date for date in (self.to_date, later.to_date) if date]
        return Provenance(min(dates, default=None), max(ends, default=None), later.fetched)


@dataclass(frozen=True)
class Table:
    """A table, or one client's part of a shared one."""

    kind: str
    rows: Rows = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)


# By name: what one client has made.
State = Mapping[str, Table]


@dataclass(frozen=True)
class Counts:
    """What the server answers of an ingest."""

    received: int
    inserted: int
    duplicate: int
    replaced: int


class DuplicateError(Exception):
    """A known key, where that is an error."""


def merge(rows: Rows, stream: Stream, on_duplicate: str, is_new: bool = False) -> tuple[dict[str, int], Counts]:
    """The rows after an ingest, and what the server says of it."""
    after = dict(rows)
    inserted = replaced = 0
    seen: set[str] = set()
    for key, version in stream:
        known = key in after
        if known and on_duplicate == "error":
            raise DuplicateError(key)
        if not known:
            inserted += 1
        elif on_duplicate == "skip":
            continue
        elif not is_new and key in rows and key not in seen:
            replaced += 1
        seen.add(key)
        after[key] = version
    return after, Counts(len(stream), inserted, len(stream) - inserted - replaced, replaced)


def with_table(state: State, name: str, table: Table | None) -> State:
    after = {other: value for other, value in state.items() if other != name}
    if table is not None:
        after[name] = table
    return after


def without_keys(table: Table, keys: Iterable[str]) -> Table:
    gone = set(keys)
    return replace(table, rows={key: version for key, version in table.rows.items() if key not in gone})


def microseconds(value: datetime | None) -> int | None:
    """A time of a row, as `row` has it."""
    if value is None:
        return None
    since = value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@dataclass
class Attempt:
    """An operation of a client: from where to where in the shim's log, and what the client's tables are after it."""

    what: str
    before: State
    after: State
    start: int
    # None: not acknowledged.
    end: int | None = None
    # False while nothing that it has sent may be stored yet.
    may_be_done: bool = True


@dataclass
class History:
    """What one client did since its server started."""

    client: int
    state: State
    attempts: list[Attempt] = field(default_factory=list)

    def candidates(self, position: int | None = None) -> list[tuple[State, Attempt | None]]:
        """What the client's tables may be at a place in the log (or at its end), and what was in flight."""
        if not self.attempts:
            return [(self.state, None)]
        state = self.attempts[0].before
        for attempt in self.attempts:
            if position is not None and attempt.start > position:
                break
            if attempt.end is None or (position is not None and attempt.end > position):
                # In flight.
                return [(state, None), (attempt.after, attempt)] if attempt.may_be_done else [(state, attempt)]
            state = attempt.after
        return [(state, None)]
