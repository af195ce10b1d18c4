"""Queries, descriptors, actions and errors from stock pyarrow.flight."""

import threading
import time

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from support import action, count, ingest, path, put, query, refused, scalar, some_events, table_exists

ACTIONS = {"list_tables", "get_schema", "get_metadata", "table_exists", "drop_table", "server_info", "backup", "list_backups"}
# Hours of work that the engine can interrupt at any moment.
ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"


def command(sql):
    return fl.FlightDescriptor.for_command(sql.encode())


# --- DoGet ---


def test_a_ticket_of_sql_runs_straight_away(flight):
    assert query(flight, "SELECT 42 AS answer, 'x' AS letter").to_pylist() == [{"answer": 42, "letter": "x"}]


def test_a_result_without_rows_has_its_columns(flight):
    result = query(flight, "SELECT 1::BIGINT AS n, 'a' AS s WHERE false")
    assert result.schema == pa.schema([("n", pa.int64()), ("s", pa.string())])
    assert result.num_rows == 0


def test_a_large_result_comes_in_batches(flight):
    reader = flight.do_get(fl.Ticket(b"SELECT range AS n, repeat('x', 100) AS s FROM range(500000)"))
    rows, total = [], 0
    for chunk in reader:
        rows.append(chunk.data.num_rows)
        total += sum(chunk.data.column(0).to_pylist())
    assert sum(rows) == 500_000 and total == 500_000 * 499_999 // 2
    assert len(rows) > 5 and max(rows) <= 65_536


def test_flight_info_of_sql(flight, table):
    put(flight, path("events", table), some_events(["a", "b"]))
    info = flight.get_flight_info(command(f"SELECT insert_id FROM {table} ORDER BY 1"))
    assert info.schema.names == ["insert_id"]
    [endpoint] = info.endpoints
    result = flight.do_get(endpoint.ticket).read_all()
    assert result.column(0).to_pylist() == ["a", "b"]
    assert result.schema == info.schema
    assert flight.get_schema(command(f"SELECT insert_id FROM {table}")).schema == info.schema


def test_a_table_has_a_descriptor_of_its_own(flight, table, events):
    put(flight, path("events", table), events)
    info = flight.get_flight_info(path(table))
    assert info.total_records == 2000
    assert info.schema.names == ["event_name", "event_time", "distinct_id", "insert_id", "properties"]
    assert flight.get_schema(path(table)).schema == info.schema
    result = flight.do_get(info.endpoints[0].ticket).read_all()
    assert sorted(result["insert_id"].to_pylist()) == sorted(events["insert_id"].to_pylist())

    [listed] = [info for info in flight.list_flights() if info.descriptor.path == [table.encode()]]
    assert (listed.total_records, listed.schema) == (2000, info.schema)
    assert all(info.descriptor.path != [b"_metadata"] for info in flight.list_flights())
    with refused("NOT_FOUND", "nowhere"):
        flight.get_flight_info(path("nowhere"))


def test_a_dropped_stream_stops_its_query(flight):
    reader = flight.do_get(fl.Ticket(b"SELECT range AS n FROM range(100000000000)"))
    assert reader.read_chunk().data.num_rows > 0
    reader.cancel()
    assert scalar(flight, "SELECT 1") == 1


def test_a_deadline_ends_a_query(flight):
    started = time.monotonic()
    with refused("DEADLINE_EXCEEDED"):
        flight.do_get(fl.Ticket(ENDLESS.encode()), fl.FlightCallOptions(timeout=0.5)).read_all()
    assert time.monotonic() - started < 10


def test_a_cancelled_query_ends_at_once(flight):
    reader = flight.do_get(fl.Ticket(b"SELECT range AS n, 1 AS one FROM range(100000000000)"))
    timer = threading.Timer(0.3, reader.cancel)
    timer.start()
    with refused("CANCELLED"):
        while True:
            reader.read_chunk()
    timer.join()


# --- errors ---


@pytest.mark.parametrize(
    ("sql", "code", "part"),
    [
        ("SELEC 1", "INVALID_ARGUMENT", "SELEC"),
        ("", "INVALID_ARGUMENT", ""),
        ("-- nothing", "INVALID_ARGUMENT", ""),
        ("SELECT nothing FROM range(1)", "INVALID_ARGUMENT", "nothing"),
        ("SELECT 'x'::INTEGER", "INVALID_ARGUMENT", "x"),
        ("SELECT * FROM nowhere", "NOT_FOUND", "nowhere"),
        ("DROP TABLE nowhere", "NOT_FOUND", "nowhere"),
        ("SELECT 1; SELECT 2", "INVALID_ARGUMENT", "one statement"),
        ("COPY (SELECT 1) TO '/tmp/x.csv'", "PERMISSION_DENIED", "disabled"),
        ("ATTACH ':memory:' AS x", "PERMISSION_DENIED", "ATTACH"),
        ("DETACH merganser", "PERMISSION_DENIED", "DETACH"),
        ("SELECT * FROM read_csv('/etc/passwd')", "PERMISSION_DENIED", "not offered"),
        ("SET TimeZone = 'Asia/Kolkata'", "FAILED_PRECONDITION", "session"),
    ],
)
def test_bad_sql(flight, sql, code, part):
    if code == "INVALID_ARGUMENT" and part == "":
        # Refused, by the gate or by the parser: the words are free.
        with pytest.raises(pa.ArrowException):
            query(flight, sql)
    else:
        with refused(code, part):
            query(flight, sql)


def test_several_statements_are_refused_before_any_runs(flight, table):
    with refused("INVALID_ARGUMENT"):
        query(flight, f"CREATE TABLE {table} (x INTEGER); SELEC")
    assert not table_exists(flight, table)


def test_a_typing_mistake_gets_a_hint(flight, table):
    put(flight, path("events", table), some_events(["a"]))
    with refused("NOT_FOUND", table):
        query(flight, f"SELECT * FROM {table}x")
    with refused("INVALID_ARGUMENT", "event_name"):
        query(flight, f"SELECT event_nam FROM {table}")


def test_an_error_in_mid_stream_ends_the_stream(flight):
    sql = "SELECT CASE WHEN range < 300000 THEN range ELSE ('x' || range)::BIGINT END AS n FROM range(400000)"
    with refused("INVALID_ARGUMENT", "x300000"):
        query(flight, sql)


def test_a_message_never_repeats_the_whole_query(flight):
    sql = "SELECT nothing_of_that_name, " + ", ".join(f"'{index:06}'" for index in range(2000))
    with refused("INVALID_ARGUMENT", "nothing_of_that_name") as caught:
        query(flight, sql)
    assert len(str(caught.value)) < 5000
    assert "001999" not in str(caught.value)


# --- SQL on managed tables ---


def test_insert_is_an_ingest(flight, table):
    put(flight, path("events", table), some_events(["a"]))
    row = "('Purchase', '2024-01-01 12:00:00', 'u', '{}', '{{\"a\": 1}}')"
    query(flight, f"INSERT INTO {table} VALUES {row.format('a')}, {row.format('b')}, {row.format('b')}")
    assert count(flight, table) == 2
    assert action(flight, "get_metadata", table=table)[0]["row_count"] == 2


def test_deleted_keys_are_free(flight, table):
    put(flight, path("events", table), some_events(["a", "b"]))
    query(flight, f"DELETE FROM {table} WHERE insert_id = 'a'")
    assert put(flight, ingest(table, mode="append"), some_events(["a", "b"]))[-1]["rows_inserted"] == 1
    assert count(flight, table) == 2


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE {} SET event_name = 'x'",
        "ALTER TABLE {} ADD COLUMN x INTEGER",
        "MERGE INTO {} USING (SELECT 1) s ON false WHEN MATCHED THEN DELETE",
    ],
    ids=["update", "alter", "merge"],
)
def test_other_changes_are_refused(flight, table, sql):
    put(flight, path("events", table), some_events(["a"]))
    with pytest.raises(pa.ArrowException):
        query(flight, sql.format(table))
    assert scalar(flight, f"SELECT event_name FROM {table}") == "Purchase"


def test_drop_table_takes_the_metadata_along(flight, table):
    put(flight, path("events", table), some_events(["a"]))
    query(flight, f"DROP TABLE {table}")
    assert not table_exists(flight, table)
    assert scalar(flight, f"SELECT count(*) FROM _metadata WHERE table_name = '{table}'") == 0


def test_metadata_is_a_table_that_only_the_server_writes(flight, table):
    put(flight, path("events", table), some_events(["a"]))
    row = query(flight, f"SELECT * FROM _metadata WHERE table_name = '{table}'").to_pylist()[0]
    assert list(row) == [
        *("table_name", "type", "fetched_at", "from_date", "to_date", "row_count"),
        *("filter_events", "filter_where", "created_at", "updated_at"),
    ]
    assert (row["type"], row["row_count"], row["from_date"]) == ("events", 1, None)
    for sql in ("DELETE FROM _metadata", "DROP TABLE _metadata", "UPDATE _metadata SET row_count = 0"):
        with pytest.raises((pa.ArrowException, KeyError)):
            query(flight, sql)
    for name in ("_metadata", "_ingests"):
        with refused("FAILED_PRECONDITION", name):
            put(flight, ingest(name, kind="table", mode="append"), pa.table({"table_name": ["x"]}))
        with refused("FAILED_PRECONDITION", name):
            action(flight, "drop_table", table=name)
    assert count(flight, "_metadata") > 0


# --- actions ---


def test_list_actions_describes_each(flight):
    described = {kind.type: kind.description for kind in flight.list_actions()}
    assert set(described) >= ACTIONS
    assert all(described.values())


def test_list_tables(flight, table, profiles):
    put(flight, path("events", table), some_events(["a", "b"]))
    put(flight, path("profiles", f"{table}_people"), profiles)
    query(flight, f"CREATE TABLE {table}_plain AS SELECT 1 AS x")
    query(flight, f"CREATE VIEW {table}_view AS SELECT * FROM {table}")
    listed = {row["name"]: row for row in action(flight, "list_tables", name_like=f"{table}%")}
    assert {name: row["kind"] for name, row in listed.items()} == {
        table: "events",
        f"{table}_people": "profiles",
        f"{table}_plain": "table",
        f"{table}_view": "view",
    }
    assert listed[table]["row_count"] == 2 and listed[table]["fetched_at"]
    assert listed[f"{table}_view"]["row_count"] is None
    only = action(flight, "list_tables", kind="profiles", name_like=f"{table}%")
    assert [row["name"] for row in only] == [f"{table}_people"]
    assert all(row["name"] != "_metadata" for row in action(flight, "list_tables"))


def test_get_schema(flight, table):
    put(flight, path("events", table), some_events(["a"]))
    [schema] = action(flight, "get_schema", table=table.upper())
    assert schema["table"] == table and schema["kind"] == "events"
    columns = [
        (column["name"], column["type"], column["nullable"], column["primary_key"]) for column in schema["columns"]
    ]
    assert columns == [
        ("event_name", "VARCHAR", False, False),
        ("event_time", "TIMESTAMP", False, False),
        ("distinct_id", "VARCHAR", False, False),
        ("insert_id", "VARCHAR", False, True),
        ("properties", "JSON", True, False),
    ]
    assert action(flight, "get_schema", table="_metadata")[0]["columns"][0]["name"] == "table_name"


def test_table_exists_and_drop_table(flight, table):
    assert not table_exists(flight, table)
    put(flight, path("events", table), some_events(["a"]))
    assert table_exists(flight, table) and table_exists(flight, table.upper())
    assert action(flight, "drop_table", table=table)[0]["dropped"] is True
    assert not table_exists(flight, table)
    with refused("NOT_FOUND", table):
        action(flight, "drop_table", table=table)
    assert action(flight, "drop_table", table=table, if_exists=True)[0]["dropped"] is False


@pytest.mark.parametrize("name", ["get_schema", "get_metadata"])
def test_actions_on_a_missing_table(flight, name):
    with refused("NOT_FOUND", "nowhere"):
        action(flight, name, table="nowhere")


def test_server_info(flight):
    [info] = action(flight, "server_info")
    assert info["mode"] == "memory" and info["database_path"] == ""
    assert "2.0.0" in info["duckdb_version"] and info["uptime_seconds"] >= 0


def test_bad_actions(flight):
    with pytest.raises((pa.ArrowException, NotImplementedError)):
        action(flight, "make_coffee")
    with refused("INVALID_ARGUMENT", "tabel"):
        action(flight, "get_schema", tabel="x")
    with refused("INVALID_ARGUMENT"):
        list(flight.do_action(fl.Action("get_schema", b"{")))


# --- many at once ---


def test_many_clients_at_once(server, table):
    """Appends from several connections, with readers between them: each key once, counts exact."""
    with server.flight() as client:
        put(client, path("events", table), some_events([]))
    failures = []

    def work(worker):
        try:
            with server.flight() as client:
                for turn in range(10):
                    ids = [f"{turn}_{index}" for index in range(50)] + [f"worker{worker}_{turn}"]
                    put(client, ingest(table, kind="events", mode="append"), some_events(ids))
                    assert count(client, table) >= 51
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    with server.flight() as client:
        assert count(client, table) == 10 * 50 + 8 * 10
        assert scalar(client, f"SELECT count(DISTINCT insert_id) FROM {table}") == 580
        assert action(client, "get_metadata", table=table)[0]["row_count"] == 580


# --- time zones ---


def test_time_zones_work_without_icu(server_factory):
    """What needs DuckDB's ICU extension elsewhere; tests/timezone_oracle compares hundreds of expressions with it."""
    server = server_factory("--memory")
    with server.flight() as client:
        assert scalar(client, "SELECT now() - INTERVAL 7 DAY < now()") is True
        assert scalar(client, "SELECT current_date = now()::DATE") is True
        assert scalar(client, "SELECT date_trunc('day', now()) <= now()") is True
        in_new_york = "SELECT TIMESTAMP '2024-07-01 12:00:00' AT TIME ZONE 'America/New_York'"
        assert query(client, in_new_york).column(0).cast(pa.timestamp("us", "UTC"))[0].as_py().hour == 16
        assert query(client, in_new_york).schema.types == [pa.timestamp("us", "UTC")]
        query(client, "SET GLOBAL TimeZone = 'Asia/Kolkata'")
        assert query(client, "SELECT now()").schema.types == [pa.timestamp("us", "Asia/Kolkata")]
        assert scalar(client, "SELECT (TIMESTAMPTZ '2024-01-01 00:00:00+00')::VARCHAR") == "2024-01-01 05:30:00+05:30"
        with refused("INVALID_ARGUMENT", "Kolkata"):
            query(client, "SET GLOBAL TimeZone = 'Asia/Kolkatta'")


# --- compression ---


def compressed(flight, sql, how):
    options = fl.FlightCallOptions(headers=[(b"merganser-compression", how)])
    return flight.do_get(fl.Ticket(sql.encode()), options).read_all()


@pytest.mark.parametrize("how", [b"lz4", b"zstd", b"none"])
def test_bodies_are_compressed_for_who_asks(flight, how):
    sql = "SELECT range AS n, 'text ' || range % 10 AS t, [range] AS l FROM range(200000)"
    assert compressed(flight, sql, how).equals(query(flight, sql))


def test_an_unknown_compression_is_refused(flight):
    with refused("INVALID_ARGUMENT", "lz4"):
        compressed(flight, "SELECT 1", b"gzip")
