"""Dicts to record batches: what goes the short way, what goes the long way, and what is refused."""

import json
import uuid
from collections import UserDict
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import orjson
import pandas as pd
import pyarrow as pa
import pytest
from support import NOW, event, profile

from merganser import InvalidDataError
from merganser._rows import GROUP_ROWS, batches_of, schema_of


def table_of(*rows, kind="events", rows_max=1000, **options):
    return pa.Table.from_batches(batches_of(kind, rows, rows_max, **options), schema_of(kind))


def one(name, value):
    """What becomes of one value of a column."""
    return table_of(event(1, **{name: value}))[name].to_pylist()[0]


def test_usual_rows():
    table = table_of(*[event(number) for number in range(300)])
    assert table.schema == schema_of("events")
    row = table.to_pylist()[299]
    properties = json.loads(row.pop("properties"))
    assert properties == {"amount": 299, "country": "NO"}
    assert row == {"event_name": "Purchase", "event_time": NOW, "distinct_id": "user_5", "insert_id": "evt_299"}


def test_profiles():
    [row] = table_of(profile(1), kind="profiles").to_pylist()
    assert row == {"distinct_id": "user_1", "properties": '{"plan":"pro"}', "last_seen": NOW}


def test_the_sample_survives(events):
    table = table_of(*events, rows_max=700)
    assert [json.loads(text) for text in table["properties"].to_pylist()] == [row["properties"] for row in events]
    assert table["event_time"].to_pylist() == [row["event_time"] for row in events]


@pytest.mark.parametrize(("rows_max", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (1000, [5])])
def test_batches_have_so_many_rows(rows_max, sizes):
    batches = batches_of("events", map(event, range(5)), rows_max)
    assert [batch.num_rows for batch in batches] == sizes


def test_batches_have_so_many_bytes():
    rows = [event(number, properties={"text": "x" * 10_000}) for number in range(1000)]
    sizes = [batch.nbytes for batch in batches_of("events", rows, 100_000, bytes_max=1 << 20)]
    assert len(sizes) >= 8
    assert max(sizes) < (1 << 20) + 2 * GROUP_ROWS * 10_000
    names = [event(number, distinct_id="x" * 10_000) for number in range(1000)]
    assert len(list(batches_of("events", names, 100_000, bytes_max=1 << 20))) >= 8


def test_the_source_is_not_read_ahead():
    read = []

    def source():
        for number in range(1000):
            read.append(number)
            yield event(number)

    batches = batches_of("events", source(), 100)
    assert not read
    next(batches)
    assert len(read) == 100


def test_no_rows_are_no_batch():
    assert list(batches_of("events", [], 10)) == []


@pytest.mark.parametrize("field", ["event_name", "event_time", "distinct_id", "insert_id", "properties"])
def test_a_missing_field_of_an_event(field):
    rows = [event(number) for number in range(200)]
    del rows[150][field]
    with pytest.raises(ValueError, match=f"^Event record missing required field: {field} \\(row 151\\)$") as caught:
        list(batches_of("events", rows, 70))
    assert isinstance(caught.value, InvalidDataError)
    assert (caught.value.field, caught.value.row) == (field, 151)


@pytest.mark.parametrize("field", ["distinct_id", "properties", "last_seen"])
def test_a_missing_field_of_a_profile(field):
    row = profile(1)
    del row[field]
    with pytest.raises(ValueError, match=f"^Profile record missing required field: {field} \\(row 1\\)$"):
        table_of(row, kind="profiles")


@pytest.mark.parametrize("row", [("a", "b"), None, 5, "text", ["event_name"]])
def test_what_is_no_dict(row):
    with pytest.raises(InvalidDataError, match=f"^row 3 is a {type(row).__name__} and no dict$"):
        table_of(event(1), event(2), row)


def test_other_mappings_and_other_fields():
    assert table_of(UserDict(event(1)) | {"extra": 1}).num_rows == 1


OSLO = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOW, NOW),
        (NOW.replace(tzinfo=None), NOW),
        (NOW.astimezone(OSLO), NOW),
        (date(2024, 1, 2), datetime(2024, 1, 2, tzinfo=timezone.utc)),
        ("2024-01-02T03:04:05.678901Z", NOW),
        ("2024-01-02T04:04:05.678901+01:00", NOW),
        ("2024-01-02 03:04:05.678901", NOW),
        ("2024-01-02", datetime(2024, 1, 2, tzinfo=timezone.utc)),
        ("2024-01-02T03:04:05", NOW.replace(microsecond=0)),
        (1704164645, NOW.replace(microsecond=0)),
        (1704164645.5, NOW.replace(microsecond=500_000)),
        (1704164645678, NOW.replace(microsecond=678_000)),
        (1704164645678901, NOW),
        (1704164645678901234, NOW),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=timezone.utc)),
        (pd.Timestamp("2024-01-02T03:04:05.678901Z"), NOW),
        (None, None),
        (pd.NaT, None),
        (float("nan"), None),
    ],
)
def test_times(value, expected):
    assert one("event_time", value) == expected
    # Beside a value of another type it goes the long way, to the same time.
    for other in (NOW, "2024-01-01T00:00:00Z", 1704164645):
        assert table_of(event(1, event_time=other), event(2, event_time=value))["event_time"].to_pylist()[1] == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", 'cannot read "yesterday" as a time'),
        ("", 'cannot read "" as a time'),
        (True, "a bool is no time"),
        ([], "a list is no time"),
    ],
)
def test_what_is_no_time(value, reason):
    with pytest.raises(InvalidDataError, match=f"^row 2: event_time: {reason}") as caught:
        table_of(event(1), event(2, event_time=value))
    assert (caught.value.field, caught.value.row) == ("event_time", 2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("é\0", "é\0"), ("", ""), (5, "5"), (uuid.UUID(int=5), str(uuid.UUID(int=5))), (None, None), (pd.NA, None)],
)
def test_texts(value, expected):
    assert one("distinct_id", value) == expected


@pytest.mark.parametrize("value", [True, b"\xff", {}, "\ud800"])
def test_what_is_no_text(value):
    with pytest.raises(InvalidDataError, match=r"^row 1: insert_id: ") as caught:
        one("insert_id", value)
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, "{}"),
        ({"é": [1, None, {"b": True}]}, '{"é":[1,null,{"b":true}]}'),
        ({"big": 2**70, "small": -(2**70)}, '{"big":1180591620717411303424,"small":-1180591620717411303424}'),
        ({"big": 2**70, "when": date(2024, 1, 2)}, '{"big":1180591620717411303424,"when":"2024-01-02"}'),
        ({1: 2, None: 3}, '{"1":2,"null":3}'),
        ({"price": Decimal("29.990")}, '{"price":29.990}'),
        ({"nan": float("nan")}, '{"nan":null}'),
        ([1, 2], "[1,2]"),
        (None, None),
        ('{"a": 1.0}', '{"a": 1.0}'),
        (b'{"a":  1}', '{"a":  1}'),
        (UserDict({"a": 1}), '{"a":1}'),
    ],
)
def test_properties(value, expected):
    assert one("properties", value) == expected


@pytest.mark.parametrize("value", [{"a": object()}, {"a": {1, 2}}, {"a": "\ud800"}, {"a": Decimal("NaN")}, b"\xff"])
def test_what_is_no_json(value):
    with pytest.raises(InvalidDataError, match=r"^row 70: properties: ") as caught:
        table_of(*map(event, range(69)), event(70, properties=value))
    assert (caught.value.field, caught.value.row) == ("properties", 70)


def test_a_nul_in_the_data_does_not_shift_rows():
    rows = [event(number, properties={"a": "\0,\0", "b": "x,\0,y"}) for number in range(130)]
    assert [json.loads(text) for text in table_of(*rows)["properties"].to_pylist()] == [row["properties"] for row in rows]


def test_a_nul_in_a_fragment_does_not_shift_rows():
    fragment = orjson.Fragment(b'1},\0,{"a":2')
    rows = [event(1, properties={"a": fragment}), event(2, properties={"b": 1})]
    assert table_of(*rows)["properties"].to_pylist() == ['{"a":1},\0,{"a":2}', '{"b":1}']


def test_nulls_are_kept_apart_from_json_null():
    table = table_of(event(1, properties=None), event(2, properties="null"))
    assert table["properties"].to_pylist() == [None, "null"]
