"""Looking at a server's database as a whole, and comparing it with what its clients know."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import model
import pyarrow as pa
from client import FindingError
from model import Attempt, History, Provenance, State, Table
from operations import INDEXED, OWN, SHARED
from pyarrow import flight
from support import action, query

# What each table was when all of it was looked at last: most are the same a round later.
SEEN: dict[str, tuple[pa.Table, dict[str, int]]] = {}
VERSION = re.compile(r'^\{"v":(\d+),')
SERVER_TABLES = {"_format", "_ingests", "_metadata"}
COLUMNS = {
    "events": "event_name, event_time, distinct_id, insert_id, properties",
    "profiles": "distinct_id, properties, last_seen",
    "table": "k, v, p",
}


@dataclass
class Found:
    """A table of the database."""

    kind: str
    rows: dict[str, int]
    provenance: Provenance


def observe(client: flight.FlightClient) -> dict[str, Found]:
    """All tables, each consistent in itself: whole rows, unique keys, the same count everywhere, one row of metadata."""
    there = query(client, "SELECT table_name FROM duckdb_tables() WHERE NOT temporary").column(0).to_pylist()
    listed = {entry["name"]: entry for entry in action(client, "list_tables")}
    if set(there) - SERVER_TABLES != set(listed):
        raise FindingError(f"DuckDB has the tables {sorted(there)}, list_tables {sorted(listed)}")
    metadata = query(client, "FROM _metadata").to_pylist()
    described = {entry["table_name"]: entry for entry in metadata}
    managed = {name for name, entry in listed.items() if entry["kind"] != "table"}
    if len(described) != len(metadata) or set(described) != managed:
        raise FindingError(f"_metadata has {sorted(one['table_name'] for one in metadata)} for {sorted(managed)}")
    found = {}
    for name, entry in listed.items():
        rows = read(client, name, entry["kind"])
        counted = query(client, f"SELECT count(*) FROM {name}").column(0).to_pylist()[0]
        counts = {"rows": len(rows), "count(*)": counted, "list_tables": entry["row_count"]}
        provenance = Provenance()
        if name in described:
            line = described[name]
            if line["type"] != entry["kind"]:
                raise FindingError(f"_metadata says {line['type']} of {name}, list_tables {entry['kind']}")
            counts["_metadata"] = line["row_count"]
            provenance = Provenance(*(str(line[what]) if line[what] else None for what in ("from_date", "to_date")))
            fetched = line["fetched_at"]
            provenance = Provenance(provenance.from_date, provenance.to_date, f"{fetched:%Y-%m-%dT%H:%M:%SZ}")
        if len(set(counts.values())) != 1:
            raise FindingError(f"table {name} is counted in different ways: {counts}")
        found[name] = Found(entry["kind"], rows, provenance)
    return found


def read(client: flight.FlightClient, name: str, kind: str) -> dict[str, int]:
    """Key and version of each row, after a look at all of it."""
    table = query(client, f"SELECT {COLUMNS[kind]} FROM {name}")
    seen = SEEN.get(name)
    if seen and seen[0].equals(table):
        return seen[1]
    rows: dict[str, int] = {}
    columns = []
    for column in table.columns:
        is_time = str(column.type).startswith("timestamp")
        columns.append((column.cast("timestamp[us]").cast("int64") if is_time else column).to_pylist())
    key_at = table.schema.names.index(model.KEYS[kind])
    text_at = 1 if kind == "profiles" else len(columns) - 1
    for line in zip(*columns, strict=True):
        version = VERSION.match(line[text_at] or "")
        key = line[key_at]
        if not version or line != model.row(kind, key, int(version[1])):
            raise FindingError(f"a row of {name} is not what was sent: {line}")
        if key in rows:
            raise FindingError(f"key {key} of {name} is there twice")
        rows[key] = int(version[1])
    SEEN[name] = table, rows
    return rows


def owner(key: str) -> str:
    return key.split("_", 1)[0]


def own_tables(client: int) -> list[str]:
    return [name.format(client) for name in [*OWN, INDEXED]]


def part(found: dict[str, Found], client: int) -> dict[str, Found]:
    """What one client has made."""
    mine = {name: found[name] for name in own_tables(client) if name in found}
    for name in SHARED:
        if name in found:
            rows = {key: version for key, version in found[name].rows.items() if owner(key) == str(client)}
            mine[name] = Found(found[name].kind, rows, found[name].provenance)
    return mine


def differences(wanted: State, found: dict[str, Found]) -> list[str]:
    """In which ways one client's tables are not what they should be."""
    told = [f"{name} is missing" for name in wanted if name not in found]
    told += [f"{name} is there" for name in found if name not in wanted]
    for name in [name for name in wanted if name in found]:
        told += table_differences(name, wanted[name], found[name])
    return told


def table_differences(name: str, table: Table, there: Found) -> Iterable[str]:
    if table.kind != there.kind:
        yield f"{name} is a table of {there.kind}, and not of {table.kind}"
    missing = sorted(set(table.rows) - set(there.rows))
    more = sorted(set(there.rows) - set(table.rows))
    other = sorted(key for key in set(table.rows) & set(there.rows) if table.rows[key] != there.rows[key])
    for what, keys in [("are missing", missing), ("are too many", more), ("have another version", other)]:
        if keys:
            yield f"{name}: {len(keys)} rows {what} ({len(table.rows)} wanted), like {keys[:3]}"
    if name not in SHARED and table.kind != "table":
        wanted, has = table.provenance, there.provenance
        if (wanted.from_date, wanted.to_date) != (has.from_date, has.to_date):
            yield f"{name}: from_date and to_date are {has}, and not {wanted}"
        if wanted.fetched and wanted.fetched != has.fetched:
            yield f"{name}: fetched_at is {has.fetched}, and not {wanted.fetched}"


def compare(
    found: dict[str, Found], histories: list[History], position: int | None = None
) -> list[tuple[State, Attempt | None]]:
    """The state that each client's tables are in, of those that they may be in.

    # Raises
    `FindingError` when there is none.
    """
    clients = {str(history.client) for history in histories}
    own = {name for history in histories for name in own_tables(history.client)}
    strangers = [name for name in found if name not in SHARED and name not in own]
    shared = {name: found[name].rows for name in SHARED if name in found}
    strangers += [f"{name}: {key}" for name, rows in shared.items() for key in rows if owner(key) not in clients]
    if strangers:
        raise FindingError(f"nobody has made these: {strangers[:5]}")
    possible = []
    for history in histories:
        candidates = history.candidates(position)
        mine = part(found, history.client)
        told = [differences(state, mine) for state, _ in candidates]
        fitting = [candidate for candidate, wrong in zip(candidates, told, strict=True) if not wrong]
        if not fitting:
            flying = candidates[-1][1]
            lines = [f"client {history.client}: in flight: {flying.what if flying else 'nothing'}"]
            lines += [f"  not {'after' if number else 'before'} it: {wrong}" for number, wrong in enumerate(told)]
            lines += [f"  acknowledged before: {one.what}" for one in history.attempts[-4:] if one is not flying]
            raise FindingError("\n".join(lines))
        possible.append(fitting)
    for chosen in itertools.product(*possible):
        if all(shared_dates_fit(name, found, [state for state, _ in chosen]) for name in SHARED if name in found):
            return list(chosen)
    dates = {name: found[name].provenance for name in shared}
    raise FindingError(f"the dates of the shared tables are those of no state: {dates}")


def shared_dates_fit(name: str, found: dict[str, Found], states: list[State]) -> bool:
    dates = Provenance()
    for state in states:
        dates = dates.then(state[name].provenance)
    has = found[name].provenance
    return found[name].kind == "table" or (dates.from_date, dates.to_date) == (has.from_date, has.to_date)
