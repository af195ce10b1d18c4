"""Lines of Mixpanel's export and profiles of its engage API, as rows of the tables.

The rows are those that ``merganser ingest`` makes of the same lines. What the table has a column for is cut out, and
everything else of the properties stays as it came, byte for byte; other members of the line join the properties, at their end.

An event without ``$insert_id`` (or with an empty or null one) gets one that is derived from its content, so that fetching it
again adds nothing: the UUID version 5, in the namespace ``_NAMESPACE``, of the name that is made of event_name, event_time in
microseconds, distinct_id and properties as they are sent, each followed by a NUL character.

Nearly all lines go a quick way: they are decoded by a struct that knows only what has a column, the members' text is cut out by
their values, and what remains is decoded again by a struct that refuses these members. So what was cut is what was meant, and
nothing was left, or the line goes the exact way.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Annotated, Literal, Protocol

import msgspec
import pyarrow as pa

from merganser._mixpanel import times
from merganser._mixpanel.limits import BATCH_BYTES, BATCH_ROWS
from merganser._mixpanel.members import LineError, Member, column_text, decode, visit

_TIME = pa.timestamp("us", tz="UTC")
EVENTS = pa.schema(
    [
        pa.field("event_name", pa.string(), nullable=False),
        pa.field("event_time", _TIME, nullable=False),
        pa.field("distinct_id", pa.string(), nullable=False),
        pa.field("insert_id", pa.string(), nullable=False),
        pa.field("properties", pa.string()),
    ]
)
PROFILES = pa.schema(
    [
        pa.field("distinct_id", pa.string(), nullable=False),
        pa.field("properties", pa.string()),
        pa.field("last_seen", _TIME),
    ]
)

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "merganser.v1/insert_id")


class Rows(Protocol):
    """Rows on their way into batches of ``schema``."""

    schema: pa.Schema

    def push(self, record: bytes) -> None:
        """Takes a line or a profile; a :class:`LineError` says what is wrong with it."""
        ...

    def is_full(self) -> bool:
        """Whether it is time to flush."""
        ...

    def flush(self) -> pa.RecordBatch:
        """The rows since the last flush."""
        ...


class _Properties(msgspec.Struct, gc=False):
    time: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    distinct_id: str | None = None
    insert_id: str | None = msgspec.field(default=None, name="$insert_id")


class _Event(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    event: str
    properties: _Properties


_Nothing = Literal["\0"]  # No value that somebody sends: a member of this type is refused.


class _Rest(msgspec.Struct, gc=False):
    time: _Nothing = "\0"
    distinct_id: _Nothing = "\0"
    insert_id: _Nothing = msgspec.field(default="\0", name="$insert_id")


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_rest = msgspec.json.Decoder(_Rest).decode


class EventRows:
    """Lines of the export, as rows of an events table."""

    schema = EVENTS

    def __init__(self) -> None:
        self._names: list[str] = []
        self._times: list[int] = []
        self._distinct_ids: list[str] = []
        self._insert_ids: list[str] = []
        self._properties: list[bytes] = []
        self._bytes = 0

    def push(self, record: bytes) -> None:
        """Takes a line of the export."""
        try:
            event = _decode_event(record)
            found = event.properties
            properties = _cut(record, found.time, found.distinct_id, found.insert_id)
        except (msgspec.DecodeError, ValueError, RecursionError):  # Only newer ones of msgspec's errors are ValueErrors.
            self._push_exactly(record)
            return
        if properties is None:
            self._push_exactly(record)
        else:
            self._add(event.event, times.epoch(found.time), found.distinct_id or "", found.insert_id, properties)

    def is_full(self) -> bool:
        """Whether it is time to flush."""
        return len(self._names) >= BATCH_ROWS or self._bytes >= BATCH_BYTES

    def flush(self) -> pa.RecordBatch:
        """The rows since the last flush."""
        columns = [
            pa.array(self._names, pa.string()),
            pa.array(self._times, pa.int64()).cast(_TIME),
            pa.array(self._distinct_ids, pa.string()),
            pa.array(self._insert_ids, pa.string()),
            pa.array(self._properties, pa.string()),
        ]
        self.__init__()
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _push_exactly(self, record: bytes) -> None:
        columns, properties = _cut_exactly(decode(record), "properties", ("event",), ("time", "distinct_id", "$insert_id"))
        if "properties" not in columns:
            raise LineError("`properties` is missing")
        name = column_text(columns.get("event"))
        if name is None:
            raise LineError("`event` is missing")
        time = _time(columns.get("time"))
        if time is None:
            raise LineError("`time` is missing")
        distinct_id = column_text(columns.get("distinct_id")) or ""
        self._add(name, time, distinct_id, column_text(columns.get("$insert_id")), properties.encode())

    def _add(self, name: str, time: int, distinct_id: str, insert_id: str | None, properties: bytes) -> None:
        self._names.append(name)
        self._times.append(time)
        self._distinct_ids.append(distinct_id)
        self._insert_ids.append(insert_id or derive_insert_id(name, time, distinct_id, properties))
        self._properties.append(properties)
        self._bytes += len(properties)


class ProfileRows:
    """Profiles of the engage API, as rows of a profiles table. They are few, and all go the exact way."""

    schema = PROFILES

    def __init__(self) -> None:
        self._distinct_ids: list[str] = []
        self._properties: list[str] = []
        self._last_seen: list[int | None] = []
        self._bytes = 0

    def push(self, record: bytes) -> None:
        """Takes a profile."""
        columns, properties = _cut_exactly(decode(record), "$properties", ("$distinct_id",), ("$last_seen",))
        if "$distinct_id" not in columns:
            raise LineError("`$distinct_id` is missing")
        distinct_id = column_text(columns["$distinct_id"]) or ""
        last_seen = _time(columns.get("$last_seen"))
        self._distinct_ids.append(distinct_id)
        self._properties.append(properties)
        self._last_seen.append(last_seen)
        self._bytes += len(record)

    def is_full(self) -> bool:
        """Whether it is time to flush."""
        return len(self._distinct_ids) >= BATCH_ROWS or self._bytes >= BATCH_BYTES

    def flush(self) -> pa.RecordBatch:
        """The rows since the last flush."""
        columns = [
            pa.array(self._distinct_ids, pa.string()),
            pa.array(self._properties, pa.string()),
            pa.array(self._last_seen, pa.int64()).cast(_TIME),
        ]
        self.__init__()
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


_SPACES = (b" ", b"\t", b"\r", b"\n")
_NEXT = (b',"', b"")  # What may stand after a member that is cut, and before the first that is not.


def derive_insert_id(name: str, time: int, distinct_id: str, properties: bytes) -> str:
    """The insert_id of an event that has none; see the head of this file."""
    hashed = b"".join(part + b"\0" for part in (name.encode(), b"%d" % time, distinct_id.encode(), properties))
    digest = hashlib.sha1(_NAMESPACE.bytes + hashed, usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def _cut(line: bytes, time: int, distinct_id: str | None, insert_id: str | None) -> bytes | None:
    """The properties of ``line`` without the members that have these values; none if the line is not in the usual form.

    A member that is not there is not looked for: a nested one would be found. Where one is there and a nested one is cut, it is
    left, and refused.
    """
    _, _, rest = line.partition(b'"properties":{')
    # A comma before the first member, too, and no braces: each member then is `,` and its text.
    rest = b"," + rest[:-2]
    members = [b',"time":%d' % time]
    if distinct_id is not None:
        members.append(f',"distinct_id":"{distinct_id}"'.encode())
    usual = b"".join(members)
    if rest.startswith(usual) and rest[len(usual) : len(usual) + 2] == b',"':
        rest = rest[len(usual) :]
        members.clear()
    if insert_id:
        members.append(f',"$insert_id":"{insert_id}"'.encode())
    for member in members:
        # Where there is nothing to cut it is spelled otherwise: what is decoded below tells.
        before, _, after = rest.partition(member)
        if before[-1:] in _SPACES or after[:2] not in _NEXT:
            return None
        rest = before + after
    if rest[:2] not in _NEXT or rest[-1:] in _SPACES:
        return None
    properties = b"{" + rest[1:] + b"}"
    _decode_rest(properties)
    if not properties.isascii():
        # Checked nowhere else: msgspec reads bytes.
        properties.decode()
    return properties


def _cut_exactly(line: str, nested: str, outer: tuple[str, ...], inner: tuple[str, ...]) -> tuple[dict[str, Member], str]:
    """The members of ``line`` named in ``outer``, its object ``nested`` and the members of that named in ``inner``, by their
    names; and the text of an object with all others: the nested ones, where neighbours keep what is between them, then those of
    the line.
    """
    columns: dict[str, Member] = {}
    kept: list[str] = []
    others: list[str] = []
    for member in visit(line):
        if member.key == nested:
            if not member.value.startswith("{"):
                raise LineError(f"`{nested}` is not an object")
            columns[nested] = member
            kept += _cut_nested(line, member, inner, columns)
        elif member.key in outer:
            columns[member.key] = member
        else:
            others.append(line[member.start : member.end])
    return columns, "{" + ",".join(kept + others) + "}"


def _cut_nested(line: str, nested: Member, inner: tuple[str, ...], columns: dict[str, Member]) -> list[str]:
    """The runs of neighbours that stay; the members named in ``inner`` are put into ``columns``."""
    runs: list[list[int]] = []
    is_neighbour = False
    for member in visit(line, nested.end - len(nested.value)):
        if member.key in inner:
            columns[member.key] = member
        elif is_neighbour:
            runs[-1][1] = member.end
        else:
            runs.append([member.start, member.end])
        is_neighbour = member.key not in inner
    return [line[start:end] for start, end in runs]


def _time(member: Member | None) -> int | None:
    text = (column_text(member) or "").strip()
    if member is None or not text:
        return None
    micros = times.parse(text)
    if micros is None:
        raise LineError(f"`{member.key}` is not a time: `{text[:64]}`")
    return micros
