"""Rows as dicts become record batches, of so many rows and so many bytes.

This is what an ingest from Python spends its time on, so the usual row takes a short way: columns are picked out by C code
(``itemgetter``, ``zip``), properties are written by orjson, and Arrow builds an array of each column at once. Whatever is
not as usual takes the long way, value by value, which also finds out what is wrong with which row.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import Any

import orjson
import pyarrow as pa

from merganser.errors import InvalidDataError
from merganser.types import ManagedKind

BATCH_BYTES_MAX = 16 << 20
"""A batch is closed when its texts are that large; one group of rows, or one row, may go beyond it."""
GROUP_ROWS = 64
"""Rows that are taken from the source at once."""

TIME = pa.timestamp("us", tz="UTC")
COLUMNS: dict[ManagedKind, dict[str, pa.DataType]] = {
    "events": {
        "event_name": pa.string(),
        "event_time": TIME,
        "distinct_id": pa.string(),
        "insert_id": pa.string(),
        "properties": pa.string(),
    },
    "profiles": {"distinct_id": pa.string(), "properties": pa.string(), "last_seen": TIME},
}
_NAMES: dict[ManagedKind, str] = {"events": "Event", "profiles": "Profile"}
_NONE_TYPE = type(None)
_SEPARATOR = orjson.Fragment(b"\0")


def schema_of(kind: ManagedKind) -> pa.Schema:
    """The columns that batches of rows have."""
    return pa.schema(list(COLUMNS[kind].items()))


def batches_of(
    kind: ManagedKind, rows: Iterable[Mapping[str, Any]], rows_max: int, bytes_max: int = BATCH_BYTES_MAX
) -> Iterator[pa.RecordBatch]:
    """The batches of ``rows``.

    Raises ``InvalidDataError``, with the number of the row, for what is no dict, lacks a field, or has a value of another type.
    """
    schema = schema_of(kind)
    batch = _Batch(kind, schema)
    source = iter(rows)
    first_row = 1
    while group := list(islice(source, min(GROUP_ROWS, rows_max - batch.rows))):
        batch.add(group, first_row)
        first_row += len(group)
        if batch.rows >= rows_max or batch.bytes >= bytes_max:
            yield batch.finish()
            batch = _Batch(kind, schema)
    if batch.rows:
        yield batch.finish()


class _Batch:
    """The columns of one batch while it grows. Properties are written as they come, to know how large they are."""

    def __init__(self, kind: ManagedKind, schema: pa.Schema) -> None:
        self.rows = 0
        self.bytes = 0
        self._kind: ManagedKind = kind
        self._schema = schema
        self._first_row = 0
        self._pick = itemgetter(*schema.names)
        self._columns: list[list[Any]] = [[] for _ in schema.names]

    def add(self, group: Sequence[Mapping[str, Any]], first_row: int) -> None:
        if not self.rows:
            self._first_row = first_row
        try:
            picked = list(zip(*map(self._pick, group)))  # noqa: B905 - all are of one length
        except (KeyError, TypeError, IndexError) as error:
            raise self._bad_row(group, first_row) from error
        for name, column, values in zip(self._schema.names, self._columns, picked, strict=True):
            if name == "properties":
                texts = _json_texts(values, first_row)
                self.bytes += sum(map(len, filter(None, texts)))
                column += texts
            else:
                if self._schema.field(name).type is not TIME:
                    self.bytes += _text_size(values)
                column += values
        self.rows += len(group)

    def finish(self) -> pa.RecordBatch:
        columns = zip(self._schema, self._columns, strict=True)
        arrays = [
            json_array(values) if field.name == "properties" else array(field, values, self._first_row)
            for field, values in columns
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _bad_row(self, group: Sequence[Any], first_row: int) -> InvalidDataError:
        kind = _NAMES[self._kind]
        for number, row in enumerate(group, start=first_row):
            if not isinstance(row, Mapping):
                return InvalidDataError(f"row {number} is a {type(row).__name__} and no dict", row=number)
            for name in self._schema.names:
                if name not in row:
                    message = f"{kind} record missing required field: {name} (row {number})"
                    return InvalidDataError(message, field=name, row=number)
        return InvalidDataError(f"rows from {first_row} on cannot be read")


def _text_size(values: Sequence[Any]) -> int:
    try:
        return sum(map(len, values))
    except TypeError:
        return sum(len(value) for value in values if isinstance(value, str))


def array(field: pa.Field[Any], values: Sequence[Any], first_row: int) -> pa.Array[Any]:
    """The values as a column of texts or of times."""
    if field.type == TIME:
        return _times(field.name, values, first_row)
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, ValueError):
        return pa.array(_each(_text, field.name, values, first_row), field.type)


def _each(convert: Callable[[Any], Any], name: str, values: Iterable[Any], first_row: int) -> list[Any]:
    """The long way: one value after the other."""
    converted: list[Any] = []
    for number, value in enumerate(values, start=first_row):
        try:
            converted.append(convert(value))
        except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
            raise InvalidDataError(f"row {number}: {name}: {error}", field=name, row=number) from error
    return converted


def _is_missing(value: Any) -> bool:
    """None, and what data frames have in its place: NaN, NaT, NA."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def _text(value: Any) -> str | None:
    if _is_missing(value):
        return None
    if isinstance(value, str):
        value.encode()
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, uuid.UUID)):
        raise TypeError(f"a {type(value).__name__} is no text")
    return str(value)


# --- times ---


def _times(name: str, values: Sequence[Any], first_row: int) -> pa.Array[Any]:
    kinds = set(map(type, values)) - {_NONE_TYPE}
    try:
        if kinds <= {datetime}:
            return pa.array(values, TIME)
        if kinds == {str}:
            return _iso_times(values)
        if kinds == {int}:
            return _epochs(values)
    except (pa.ArrowException, OverflowError, ValueError):
        # A value that Arrow cannot read is found below.
        pass
    return pa.array(_each(_time, name, values, first_row), TIME)


def _iso_times(values: Sequence[str | None]) -> pa.Array[Any]:
    texts = pa.array(values, pa.string())
    try:
        return texts.cast(TIME)
    except pa.ArrowException:
        # Without an offset they are UTC.
        return texts.cast(pa.timestamp("us")).cast(TIME)


def _epochs(values: Sequence[int | None]) -> pa.Array[Any]:
    """Seconds, if all of them are: what events come with. See ``_epoch``."""
    if max(map(abs, filter(None, values)), default=0) >= 10**11:
        raise OverflowError
    return pa.array(values, pa.int64()).cast(pa.timestamp("s", tz="UTC")).cast(TIME)


def _time(value: Any) -> datetime | None:
    if _is_missing(value):
        return None
    if isinstance(value, datetime):
        value = value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)
        return datetime.fromtimestamp(0, timezone.utc) + (value - datetime.fromtimestamp(0, timezone.utc))
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    if isinstance(value, str):
        return _iso_time(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a {type(value).__name__} is no time")
    return _epoch(value)


def _iso_time(text: str) -> datetime:
    stripped = text.strip()
    # Python 3.10 does not know the Z.
    plain = stripped[:-1] + "+00:00" if stripped[-1:] in ("Z", "z") else stripped
    try:
        return _time(datetime.fromisoformat(plain)) or datetime.min
    except ValueError:
        pass
    try:
        # Python 3.10 knows three or six digits of a second only.
        return _iso_times([stripped])[0].as_py()
    except pa.ArrowException:
        raise ValueError(f'cannot read "{text}" as a time') from None


def _epoch(value: float) -> datetime:
    """The unit is told by the size, as the server does: seconds, then milliseconds, microseconds, nanoseconds."""
    units = ((10**11, 1), (10**14, 10**3), (10**17, 10**6))
    in_a_second = next((count for limit, count in units if abs(value) < limit), 10**9)
    epoch = datetime.fromtimestamp(0, timezone.utc)
    if isinstance(value, int):
        return epoch + timedelta(microseconds=value * 10**6 // in_a_second)
    return epoch + timedelta(seconds=value / in_a_second)


# --- properties ---


def json_array(texts: Sequence[bytes | None]) -> pa.Array[Any]:
    """Texts in UTF-8 as a column, without decoding them."""
    return pa.array(texts, pa.binary()).cast(pa.string(), safe=False)


def _json_texts(values: Sequence[Any], first_row: int) -> list[bytes | None]:
    if set(map(type, values)) <= {dict}:
        try:
            return _written(values)
        except TypeError:
            # Something that JSON does not have; the long way knows more, or names the row.
            pass
    return json_texts(values, first_row)


def _written(values: Sequence[dict[Any, Any]]) -> list[bytes | None]:
    """All in one call: each takes a buffer of a kilobyte, which is several times what an event's text needs.

    They are told apart by a byte that JSON has nowhere.
    """
    separated: list[Any] = [_SEPARATOR] * (2 * len(values) - 1)
    separated[::2] = values
    texts: list[bytes | None] = [*orjson.dumps(separated)[1:-1].split(b",\0,")]
    if len(texts) != len(values):
        raise TypeError("a fragment of the caller's has that byte")
    return texts


def json_texts(values: Iterable[Any], first_row: int) -> list[bytes | None]:
    """The JSON text of each value; what is text is JSON already."""
    return _each(_json, "properties", values, first_row)


def _json(value: Any) -> bytes | None:
    if _is_missing(value):
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode().encode()
    try:
        return orjson.dumps(value, _default, orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        # orjson has integers of 64 bits only.
        return json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _default(value: Any) -> Any:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(format(value, "f"))
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def _plain(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value, _default, orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY))
