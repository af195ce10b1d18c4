"""Ingest from stock pyarrow.flight: every promise about DoPut."""

import re
import uuid
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from support import action, count, ingest, path, put, query, refused, scalar, some_events, table_exists

PROGRESS_FIELDS = {"rows_received", "rows_written"}
RESULT_FIELDS = {"rows_received", "rows_inserted", "rows_duplicate", "rows_replaced", "bytes_received", "seconds"}


def counts(answers):
    """Rows received, inserted, duplicate, replaced."""
    result = answers[-1]
    assert set(result) == RESULT_FIELDS
    return tuple(result[field] for field in ("rows_received", "rows_inserted", "rows_duplicate", "rows_replaced"))


def stored(flight, table, column="insert_id"):
    return query(flight, f'SELECT {column} FROM "{table}" ORDER BY 1').column(0).to_pylist()


# --- the three ways to say it ---


def test_a_path_creates_a_table(flight, table, events):
    answers = put(flight, path("events", table), events)
    assert answers[0] == {"rows_received": 0, "rows_written": 0}
    assert all(set(answer) == PROGRESS_FIELDS for answer in answers[:-1])
    assert counts(answers) == (2000, 2000, 0, 0)
    assert answers[-1]["bytes_received"] > 0 and answers[-1]["seconds"] > 0
    assert count(flight, table) == 2000
    [metadata] = action(flight, "get_metadata", table=table)
    fetched = datetime.fromisoformat(metadata["fetched_at"])
    assert abs((datetime.now(UTC) - fetched).total_seconds()) < 60
    assert (metadata["type"], metadata["row_count"]) == ("events", 2000)


def test_a_path_creates_profiles(flight, table, profiles):
    assert counts(put(flight, path("profiles", table), profiles)) == (200, 200, 0, 0)
    assert action(flight, "get_metadata", table=table)[0]["type"] == "profiles"


def test_a_json_command_carries_everything(flight, table):
    metadata = {
        "fetched_at": "2024-02-01T10:00:00Z",
        "from_date": "2024-01-01",
        "to_date": "2024-01-31",
        "filter_events": ["Purchase", "Sign up"],
        "filter_where": 'properties["plan"] == "pro"',
    }
    command = ingest(table, kind="events", mode="create", on_duplicate="skip", metadata=metadata)
    assert counts(put(flight, command, some_events(["a", "b"]))) == (2, 2, 0, 0)
    [kept] = action(flight, "get_metadata", table=table)
    assert datetime.fromisoformat(kept.pop("fetched_at")) == datetime(2024, 2, 1, 10, tzinfo=UTC)
    assert {key: kept[key] for key in metadata if key != "fetched_at"} == {
        key: value for key, value in metadata.items() if key != "fetched_at"
    }


def test_the_columns_tell_the_kind(flight, table):
    put(flight, ingest(table), some_events(["a"]))
    put(flight, ingest(f"{table}_plain"), pa.table({"x": [1, 2]}))
    kinds = {row["name"]: row["kind"] for row in action(flight, "list_tables", name_like=f"{table}%")}
    assert kinds == {table: "events", f"{table}_plain": "table"}


def test_an_empty_stream_makes_an_empty_table(flight, table):
    assert counts(put(flight, path("events", table), some_events([]))) == (0, 0, 0, 0)
    assert count(flight, table) == 0
    assert action(flight, "get_metadata", table=table)[0]["row_count"] == 0


@pytest.mark.parametrize("command", [b'{"table": "t", "mood": "create"}', b'{"table": "t", "mode": "destroy"}', b"{"])
def test_a_bad_command_is_refused(flight, command):
    with refused("INVALID_ARGUMENT"):
        put(flight, fl.FlightDescriptor.for_command(command), some_events(["a"]))


@pytest.mark.parametrize("name", ["", "_mine", "a b", "a\n", 'a"b', "a" * 256, "é"])
def test_a_bad_name_is_refused_with_the_rule(flight, name):
    with refused("INVALID_ARGUMENT", "name"):
        put(flight, ingest(name, kind="events"), some_events(["a"]))


# --- modes ---


def test_create_refuses_a_table_that_exists(flight, table):
    put(flight, path("events", table), some_events(["a"]))
    with refused("ALREADY_EXISTS", table):
        put(flight, path("events", table), some_events(["b"]))
    with refused("ALREADY_EXISTS"):
        put(flight, path("events", table.upper()), some_events(["b"]))
    assert stored(flight, table) == ["a"]


def test_an_existing_table_is_told_before_the_data_is_asked_for(flight, table):
    put(flight, path("events", table), some_events(["a"]))
    writer, reader = flight.do_put(path("events", table), some_events([]).schema)
    with refused("ALREADY_EXISTS", table):
        reader.read()
        writer.close()


def test_append_adds_to_a_table(flight, table):
    with refused("NOT_FOUND", table):
        put(flight, ingest(table, kind="events", mode="append"), some_events(["a"]))
    put(flight, path("events", table), some_events(["a"]))
    assert counts(put(flight, ingest(table, mode="append"), some_events(["a", "b"]))) == (2, 1, 1, 0)
    assert stored(flight, table) == ["a", "b"]
    assert action(flight, "get_metadata", table=table)[0]["row_count"] == 2


def test_append_refuses_another_kind(flight, table, profiles):
    put(flight, path("events", table), some_events(["a"]))
    with refused("FAILED_PRECONDITION", table):
        put(flight, ingest(table, kind="profiles", mode="append"), profiles)


def test_append_widens_the_dates_and_keeps_the_first_filters(flight, table):
    def send(ids, **metadata):
        put(flight, ingest(table, kind="events", mode="create_append", metadata=metadata), some_events(ids))

    february, march = "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"
    send(["a"], from_date="2024-01-10", to_date="2024-01-20", filter_events=["Purchase"], fetched_at=february)
    send(["b"], from_date="2024-01-05", to_date="2024-01-15", filter_events=["Refund"], fetched_at=march)
    [metadata] = action(flight, "get_metadata", table=table)
    assert (metadata["from_date"], metadata["to_date"]) == ("2024-01-05", "2024-01-20")
    assert metadata["filter_events"] == ["Purchase"]
    assert metadata["fetched_at"].startswith("2024-03-01T00:00:00")
    assert metadata["row_count"] == 2


def test_create_append_makes_or_adds(flight, table):
    for ids in (["a"], ["b"]):
        put(flight, ingest(table, mode="create_append"), some_events(ids))
    assert stored(flight, table) == ["a", "b"]


def test_replace_takes_the_tables_place(flight, table):
    put(flight, ingest(table, mode="replace"), some_events(["a", "b"]))
    put(flight, ingest(table, mode="replace"), some_events(["c"]))
    assert stored(flight, table) == ["c"]
    with refused("INVALID_ARGUMENT", "row 2"):
        put(flight, ingest(table, mode="replace"), some_events(["d", None]))
    assert stored(flight, table) == ["c"]


# --- duplicates ---


def test_skip_keeps_the_first(flight, table):
    amounts = some_events(["a", "b", "a", "a", "c"])
    assert counts(put(flight, path("events", table), amounts)) == (5, 3, 2, 0)
    first = scalar(flight, f"SELECT properties->>'$.amount' FROM {table} WHERE insert_id = 'a'")
    assert first == "0"
    assert counts(put(flight, ingest(table, mode="append", on_duplicate="skip"), amounts, batch_rows=2)) == (5, 0, 5, 0)


def test_replace_keeps_the_last(flight, table):
    command = ingest(table, kind="events", mode="create_append", on_duplicate="replace")
    put(flight, command, some_events(["a", "b"], event_name="old"))
    received, inserted, duplicate, replaced = counts(put(flight, command, some_events(["b", "c"], event_name="new")))
    assert (received, inserted, duplicate, replaced) == (2, 1, 0, 1)
    rows = query(flight, f"SELECT insert_id, event_name FROM {table} ORDER BY 1").to_pylist()
    assert [tuple(row.values()) for row in rows] == [("a", "old"), ("b", "new"), ("c", "new")]


def test_replace_takes_the_last_of_one_stream(flight, table):
    put(flight, ingest(table, kind="events", on_duplicate="replace"), some_events(["a", "a", "a"]), batch_rows=1)
    assert scalar(flight, f"SELECT properties->>'$.amount' FROM {table}") == "2"


def test_error_stores_nothing(flight, table):
    command = ingest(table, kind="events", mode="create_append", on_duplicate="error")
    with refused("ALREADY_EXISTS", "twice", "row 3"):
        put(flight, command, some_events(["a", "twice", "twice"]))
    assert not table_exists(flight, table)
    put(flight, command, some_events(["a"]))
    with refused("ALREADY_EXISTS", "a", "row 2"):
        put(flight, command, some_events(["b", "a"]))
    assert stored(flight, table) == ["a"]


# --- what rows may look like ---


@pytest.mark.parametrize(
    "times",
    [
        pa.array([datetime(2024, 1, 1, 7)], pa.timestamp("ms")),
        pa.array([datetime(2024, 1, 1, 7, tzinfo=UTC)], pa.timestamp("ns", tz="Europe/Oslo")),
        pa.array(["2024-01-01T12:00:00+05:00"]),
        pa.array(["2024-01-01 07:00:00"]),
        pa.array([1_704_092_400]),
        pa.array([1_704_092_400_000]),
        pa.array([1_704_092_400_000_000]),
    ],
    ids=["naive", "zoned", "offset", "text", "seconds", "milliseconds", "microseconds"],
)
def test_times_are_stored_as_utc(flight, table, times):
    put(flight, path("events", table), some_events(["a"]).set_column(1, "event_time", times))
    assert scalar(flight, f"SELECT event_time FROM {table}") == datetime(2024, 1, 1, 7)


def test_json_text_is_stored_as_it_came(flight, table):
    texts = ['{"b": 1, "a":  1.50, "n": 12345678901234567890123}', '{"s":"\\u00e9 é \\u0000"}', "null", "[1]", None]
    rows = some_events([str(index) for index in range(len(texts))]).set_column(4, "properties", pa.array(texts))
    put(flight, path("events", table), rows)
    assert query(flight, f"SELECT properties FROM {table} ORDER BY insert_id").column(0).to_pylist() == texts


def test_structs_become_json(flight, table):
    properties = pa.array([{"plan": "pro", "tags": ["a", "b"], "n": None}])
    put(flight, path("events", table), some_events(["a"]).set_column(4, "properties", properties))
    sql = f"SELECT properties->>'$.plan', properties->>'$.tags[1]' FROM {table}"
    assert [list(row.values()) for row in query(flight, sql).to_pylist()] == [["pro", "b"]]


def test_columns_are_taken_by_name(flight, table, events):
    shuffled = events.select(["properties", "insert_id", "event_time", "event_name", "distinct_id"]).slice(0, 10)
    encoded = shuffled.set_column(3, "event_name", shuffled["event_name"].dictionary_encode())
    put(flight, path("events", table), encoded)
    assert stored(flight, table) == sorted(shuffled["insert_id"].to_pylist())


def test_extra_columns_are_refused_or_folded(flight, table):
    rows = some_events(["a"]).append_column("region", pa.array(["north"]))
    with refused("INVALID_ARGUMENT", "region"):
        put(flight, path("events", table), rows)
    put(flight, ingest(table, kind="events", extra="properties"), rows)
    assert scalar(flight, f"SELECT properties->>'$.region' FROM {table}") == "north"


def test_a_missing_column_is_named(flight, table):
    with refused("INVALID_ARGUMENT", "insert_id"):
        put(flight, path("events", table), some_events(["a"]).drop_columns(["insert_id"]))


def test_bad_rows_are_named_and_nothing_is_stored(flight, table):
    good = some_events([f"id_{index}" for index in range(30)])
    times = ["2024-01-01"] * 30
    times[2] = "yesterday"
    properties = good["properties"].to_pylist()
    properties[25] = '{"a": '
    bad = good.set_column(1, "event_time", pa.array(times)).set_column(4, "properties", pa.array(properties))
    bad = bad.set_column(2, "distinct_id", pa.array([None if index == 12 else "u" for index in range(30)]))
    parts = ("row 3", "event_time", "yesterday", "row 13", "distinct_id", "row 26", "properties")
    with refused("INVALID_ARGUMENT", *parts):
        put(flight, path("events", table), bad)
    assert not table_exists(flight, table)
    assert count_metadata(flight, table) == 0


def test_at_most_ten_bad_rows_are_named(flight, table):
    with refused("INVALID_ARGUMENT") as caught:
        put(flight, path("events", table), some_events([f"id_{index}" for index in range(50)], event_name=None))
    assert len(set(re.findall(r"row (\d+): event_name", str(caught.value)))) == 10


def count_metadata(flight, table):
    return scalar(flight, f"SELECT count(*) FROM _metadata WHERE table_name = '{table}'")


# --- commit, progress, repetition ---


def test_explicit_commit_needs_its_marker(flight, table):
    command = ingest(table, kind="events", commit="explicit")
    try:
        put(flight, command, some_events(["a"]))
    except pa.ArrowException:
        pass  # whether the end without the marker is an error is told by the server; that nothing is stored is promised
    assert not table_exists(flight, table)
    assert count_metadata(flight, table) == 0
    assert counts(put(flight, command, some_events(["a"]), commit={})) == (1, 1, 0, 0)
    assert stored(flight, table) == ["a"]


def test_explicit_commit_checks_the_rows(flight, table):
    command = ingest(table, kind="events", commit="explicit")
    with pytest.raises(pa.ArrowException):
        put(flight, command, some_events(["a", "b"]), commit={"rows": 3})
    assert not table_exists(flight, table)
    put(flight, command, some_events(["a", "b"]), commit={"rows": 2})
    assert stored(flight, table) == ["a", "b"]


def test_every_batch_is_acknowledged_in_order(flight, table):
    command = ingest(table, kind="events", progress="every_batch")
    answers = put(flight, command, some_events([str(index) for index in range(2500)]), batch_rows=1000)
    assert [answer["rows_written"] for answer in answers[1:-1]] == [1000, 2000, 2500]
    assert [answer["rows_received"] for answer in answers[1:-1]] == [1000, 2000, 2500]


def test_progress_does_not_count_duplicates(flight, table):
    command = ingest(table, kind="events", progress="every_batch")
    answers = put(flight, command, some_events(["a", "b"] * 3), batch_rows=2)
    assert [answer["rows_written"] for answer in answers[1:-1]] == [2, 2, 2]


def test_an_ingest_id_makes_a_stream_idempotent(flight, table):
    put(flight, path("events", table), some_events(["a"]))
    command = ingest(table, kind="events", mode="append", ingest_id=str(uuid.uuid4()))
    first = counts(put(flight, command, some_events(["a", "b"])))
    again = counts(put(flight, command, some_events(["a", "b", "c"])))
    assert first == again == (2, 1, 1, 0)
    assert stored(flight, table) == ["a", "b"]
    with refused("INVALID_ARGUMENT"):
        put(flight, ingest(table, kind="events", mode="append", ingest_id="not a uuid"), some_events(["d"]))


def test_a_plain_table_takes_any_columns(flight, table):
    data = pa.table({"n": [1, 2, None], "tags": [["a"], [], None], "at": pa.array([0, 1, 2], pa.timestamp("s"))})
    put(flight, ingest(table, kind="table"), data)
    assert query(flight, f"SELECT n, tags FROM {table}").to_pydict() == data.select(["n", "tags"]).to_pydict()
    put(flight, ingest(table, kind="table", mode="append"), data.select(["tags", "n"]))
    assert count(flight, table) == 6


def test_a_first_message_over_the_limit_names_the_limit(server_factory):
    """The descriptor itself may be what is too large."""
    server = server_factory("--memory", "--set", "server.message_bytes_max=1MiB")
    with server.flight() as client, refused("RESOURCE_EXHAUSTED", "1048576", "server.message_bytes_max"):
        put(client, fl.FlightDescriptor.for_command(b"{" + b" " * (2 << 20) + b"}"), some_events(["a"]))


def test_progress_of_a_replacement(flight, table):
    put(flight, path("events", table), some_events(["old"]))
    command = ingest(table, kind="events", mode="replace", progress="every_batch")
    *progress, result = put(flight, command, some_events([str(number) for number in range(30)]), batch_rows=10)
    assert [answer["rows_written"] for answer in progress] == [0, 10, 20, 30]
    assert result["rows_inserted"] == 30


def test_events_without_keys_are_asked_for(flight):
    """A name that a table of events cannot have is refused, and no plain table made in silence."""
    with refused("INVALID_ARGUMENT", "web-events"):
        put(flight, ingest("web-events"), some_events(["a"]))
    assert put(flight, ingest("web-events", kind="table"), some_events(["a"]))[-1]["rows_inserted"] == 1
    action(flight, "drop_table", table="web-events")


def test_plain_tables_have_no_keys_to_speak_of(flight, table):
    plain = pa.table({"a": [1]})
    for settings in ({"on_duplicate": "replace"}, {"metadata": {"from_date": "2024-01-01"}}):
        with refused("INVALID_ARGUMENT", "tables of events and profiles only"):
            put(flight, ingest(table, kind="table", **settings), plain)
