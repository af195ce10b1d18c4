"""Tables: making, filling, describing and dropping them, on a server in memory."""

from datetime import datetime, timedelta, timezone

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support import NOW, event, profile

from merganser import (
    ColumnInfo,
    InvalidDataError,
    QueryError,
    TableExistsError,
    TableMetadata,
    TableNotFoundError,
)
from merganser._rows import schema_of

METADATA = TableMetadata(type="events", fetched_at=NOW, from_date="2024-01-01", to_date="2024-01-31")


class Untouched:
    """A source that must not be read."""

    def __iter__(self):
        raise AssertionError("the source was touched")


def test_events(engine, events):
    assert engine.create_events_table("ev", iter(events), METADATA) == 2000
    assert engine.execute_scalar("SELECT count(*) FROM ev") == 2000
    stored = engine.execute_rows("SELECT insert_id, event_time, properties FROM ev ORDER BY insert_id")
    wanted = sorted((row["insert_id"], row["event_time"].replace(tzinfo=None)) for row in events)
    assert [row[:2] for row in stored] == wanted


def test_profiles(engine, profiles):
    assert engine.create_profiles_table("pr", profiles, TableMetadata(type="profiles", fetched_at=NOW)) == 200
    assert engine.append_profiles_table("pr", [*profiles[:5], profile(1)]) == 1
    assert engine.get_metadata("pr").row_count == 201


def test_keys_are_stored_once_and_counted(engine):
    assert engine.create_events_table("ev", [event(1), event(2), event(1)]) == 2
    assert engine.append_events_table("ev", [event(2), event(3)]) == 1
    assert engine.execute_scalar("SELECT count(*) FROM ev") == 3


def test_rows_with_known_keys_replace_others_if_they_are_to(engine):
    rows = [profile(1, properties={"n": 1}), profile(2), profile(1, properties={"n": 2})]
    assert engine.create_profiles_table("pr", rows, on_duplicate="replace") == 2
    number = "SELECT (properties->>'$.n')::INTEGER FROM pr WHERE distinct_id = 'user_1'"
    assert engine.execute_scalar(number) == 2
    assert engine.append_profiles_table("pr", [profile(1, properties={"n": 3}), profile(3)], on_duplicate="replace") == 2
    assert engine.execute_scalar(number) == 3
    assert engine.append_profiles_table("pr", [profile(1, properties={"n": 4})]) == 0
    assert engine.execute_scalar(number) == 3
    assert engine.get_metadata("pr").row_count == 3
    engine.create_events_table("ev", [event(1)])
    assert engine.append_events_table("ev", [event(1, event_name="Refund")], on_duplicate="replace") == 1
    assert engine.execute_scalar("SELECT event_name FROM ev") == "Refund"


def test_rows_with_known_keys_fail_if_they_are_to(engine):
    engine.create_events_table("ev", [event(1)])
    with pytest.raises(InvalidDataError, match=r'nothing is stored: row 2: insert_id: "evt_1" is already in table ev'):
        engine.append_events_table("ev", [event(2), event(1)], on_duplicate="error")
    assert engine.get_metadata("ev").row_count == 1
    with pytest.raises(InvalidDataError, match="`replaced` is not"):
        engine.append_events_table("ev", [event(2)], on_duplicate="replaced")


@pytest.mark.parametrize("make", [pd.DataFrame, lambda rows: pl.DataFrame(rows), lambda rows: pa.Table.from_pylist(rows)])
def test_frames_and_arrow_data(engine, make):
    rows = [event(number, event_time=NOW + timedelta(seconds=number)) for number in range(1000)]
    assert engine.create_events_table("ev", make(rows)) == 1000
    [row] = engine.execute_rows("SELECT event_time, properties->>'$.amount' FROM ev WHERE insert_id = ?", ["evt_7"])
    assert row == ((NOW + timedelta(seconds=7)).replace(tzinfo=None), "7")


def test_nothing_makes_an_empty_table(engine):
    told = []
    assert engine.create_events_table("ev", [], METADATA, told.append) == 0
    assert told == []
    assert engine.create_events_table("ev2", pa.Table.from_pylist([event(1)]).slice(0, 0)) == 0
    assert [table.name for table in engine.list_tables()] == ["ev", "ev2"]


@pytest.mark.parametrize(
    ("rows", "batch_size", "expected"),
    [(2500, None, [1000, 2000, 2500]), (500, 100, [100, 200, 300, 400, 500]), (3, 1000, [3])],
)
def test_progress_is_told_for_each_batch(engine, rows, batch_size, expected):
    told = []
    engine.create_events_table("ev", map(event, range(rows)), METADATA, told.append, batch_size)
    assert told == expected


def test_progress_counts_what_is_stored(engine):
    told = []
    source = (event(number) for number in (1, 1, 2, 2, 2, 2))
    assert engine.create_events_table("ev", source, progress_callback=told.append, batch_size=2) == 2
    assert told == [1, 2, 2]


def test_a_source_that_fails_stores_nothing(engine):
    def source():
        yield from map(event, range(30_000))
        raise ConnectionError("the source is gone")

    with pytest.raises(ConnectionError, match="the source is gone"):
        engine.create_events_table("ev", source(), METADATA)
    assert not engine.table_exists("ev")
    engine.create_events_table("ev", [event(1)], METADATA)
    with pytest.raises(ConnectionError):
        engine.append_events_table("ev", source(), batch_size=1000)
    assert engine.execute_scalar("SELECT count(*) FROM ev") == 1
    assert engine.get_metadata("ev").row_count == 1


def test_a_callback_that_fails_stores_nothing(engine):
    def tell(rows):
        if rows >= 3000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.create_events_table("ev", map(event, range(3000)), METADATA, tell)
    assert not engine.table_exists("ev")


def test_a_row_that_lacks_a_field(engine):
    rows = [event(number) for number in range(3000)]
    del rows[2999]["insert_id"]
    with pytest.raises(ValueError, match=r"Event record missing required field: insert_id \(row 3000\)"):
        engine.create_events_table("ev", rows)
    assert not engine.table_exists("ev")


def test_a_row_that_the_server_refuses(engine):
    with pytest.raises(ValueError, match="row 2: event_name: must not be null"):
        engine.create_events_table("ev", [event(1), event(2, event_name=None)])
    with pytest.raises(ValueError, match="row 1: properties"):
        engine.create_events_table("ev", [event(1, properties="{no json")])
    assert not engine.table_exists("ev")


def test_columns_that_the_server_refuses_before_the_source_is_read(engine):
    schema = pa.schema([*schema_of("events"), ("surprise", pa.string())])

    def batches():
        raise AssertionError("the source was touched")
        yield

    with pytest.raises(InvalidDataError, match="surprise"):
        engine.create_events_table("ev", pa.RecordBatchReader.from_batches(schema, batches()))


def test_a_table_that_is_there(engine):
    engine.create_events_table("ev", [event(1)])
    for name in ("ev", "EV"):
        with pytest.raises(TableExistsError) as caught:
            engine.create_events_table(name, Untouched())
        assert caught.value.table_name == name


def test_a_table_that_is_not_there(engine):
    for call in (
        lambda: engine.append_events_table("none", Untouched()),
        lambda: engine.get_schema("none"),
        lambda: engine.get_metadata("none"),
        lambda: engine.drop_table("none"),
    ):
        with pytest.raises(TableNotFoundError) as caught:
            call()
        assert caught.value.table_name == "none"
    assert not engine.table_exists("none")
    engine.drop_table("none", if_exists=True)


def test_a_table_of_another_kind(engine):
    engine.create_events_table("ev", [event(1)])
    with pytest.raises(QueryError) as caught:
        engine.append_profiles_table("ev", Untouched())
    assert caught.value.details["code"] == "FAILED_PRECONDITION"
    with pytest.raises(ValueError, match="the metadata is of profiles, and the table of events"):
        engine.append_events_table("ev", Untouched(), TableMetadata(type="profiles"))


@pytest.mark.parametrize("name", ["_x", "", "a b", "a\n", "x" * 256, "é"])
def test_names(engine, name):
    with pytest.raises(ValueError, match="^Table name"):
        engine.create_events_table(name, Untouched())


@pytest.mark.parametrize("batch_size", [0, -5])
def test_batch_sizes(engine, batch_size):
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        engine.create_events_table("ev", Untouched(), batch_size=batch_size)


def test_metadata(engine):
    fetched_at = datetime(2024, 2, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    metadata = TableMetadata("events", fetched_at, "2024-01-10", "2024-01-20", ["a", "b"], "x > 1")
    engine.create_events_table("ev", [event(1)], metadata)
    found = engine.get_metadata("ev")
    assert (found.type, found.table_name, found.row_count) == ("events", "ev", 1)
    assert found.fetched_at == fetched_at
    assert found.fetched_at.utcoffset() == timedelta(0)
    assert (found.from_date, found.to_date) == ("2024-01-10", "2024-01-20")
    assert (found.filter_events, found.filter_where) == (["a", "b"], "x > 1")
    assert found.created_at <= found.updated_at
    engine.append_events_table("ev", [event(2)], TableMetadata("events", NOW, "2024-01-01", "2024-01-15"))
    found = engine.get_metadata("ev")
    assert (found.from_date, found.to_date, found.row_count) == ("2024-01-01", "2024-01-20", 2)
    with pytest.raises(ValueError, match="from_date"):
        engine.create_events_table("ev2", Untouched(), TableMetadata("events", from_date="yesterday"))


def test_listings(engine):
    engine.create_events_table("b_events", [event(1), event(2)], METADATA)
    engine.create_profiles_table("a_profiles", [profile(1)])
    engine.execute("CREATE TABLE c_plain AS SELECT 1 AS n")
    engine.execute("CREATE VIEW d_view AS SELECT 1 AS n")
    assert [(table.name, table.type, table.row_count) for table in engine.list_tables()] == [
        ("a_profiles", "profiles", 1),
        ("b_events", "events", 2),
    ]
    assert engine.list_tables()[1].fetched_at == NOW
    assert [table.name for table in engine.list_tables("all")] == ["a_profiles", "b_events", "c_plain", "d_view"]
    assert [(table.name, table.row_count) for table in engine.list_tables("view")] == [("d_view", None)]
    assert [table.name for table in engine.list_tables(name_like="b%")] == ["b_events"]


def test_schemas(engine):
    engine.create_events_table("ev", [event(1)])
    schema = engine.get_schema("EV")
    assert (schema.table_name, schema.kind) == ("ev", "events")
    assert schema.columns == (
        ColumnInfo("event_name", "VARCHAR", nullable=False),
        ColumnInfo("event_time", "TIMESTAMP", nullable=False),
        ColumnInfo("distinct_id", "VARCHAR", nullable=False),
        ColumnInfo("insert_id", "VARCHAR", nullable=False, primary_key=True),
        ColumnInfo("properties", "JSON", nullable=True),
    )
    assert engine.get_schema("_metadata").columns[0].name == "table_name"


def test_dropping(engine):
    engine.create_events_table("ev", [event(1)], METADATA)
    assert engine.table_exists("ev")
    engine.drop_table("ev")
    assert not engine.table_exists("ev")
    assert engine.execute_scalar("SELECT count(*) FROM _metadata") == 0
