"""Small appends: many clients, one commit, and every promise about keys, counts and metadata all the same."""

import contextlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from adbc_support import eventually
from support import action, count, ingest, path, put, query, refused, some_events

CLIENTS, APPENDS = 8, 40


def append(client, table, ids, **settings):
    """Rows received, inserted, duplicate, replaced."""
    result = put(client, ingest(table, kind="events", mode="append", **settings), some_events(ids))[-1]
    return tuple(result[f"rows_{what}"] for what in ("received", "inserted", "duplicate", "replaced"))


def row_count(flight, table):
    [metadata] = action(flight, "get_metadata", table=table)
    assert metadata["row_count"] == count(flight, table)
    return metadata["row_count"]


@pytest.fixture
def events(flight, table):
    """A table with the keys `old_0` to `old_99`."""
    put(flight, path("events", table), some_events([f"old_{number}" for number in range(100)]))
    return table


def test_concurrent_appends_store_each_key_once(server, flight, events):
    start = threading.Barrier(CLIENTS)

    def one_client(_):
        with server.flight() as client:
            start.wait()
            # All clients send the same keys, at about the same time; every fifth is in the table already.
            ids = [f"old_{number}" if number % 5 == 0 else f"new_{number}" for number in range(APPENDS)]
            return [append(client, events, [insert_id]) for insert_id in ids]

    with ThreadPoolExecutor(CLIENTS) as clients:
        outcomes = [outcome for client in clients.map(one_client, range(CLIENTS)) for outcome in client]
    new = APPENDS - APPENDS // 5
    assert len(outcomes) == CLIENTS * APPENDS
    assert sum(inserted for _, inserted, _, _ in outcomes) == new
    assert sum(duplicate for _, _, duplicate, _ in outcomes) == CLIENTS * APPENDS - new
    assert row_count(flight, events) == 100 + new
    assert query(flight, f"SELECT count(DISTINCT insert_id) FROM {events}").column(0).to_pylist() == [100 + new]


def test_a_key_may_come_twice_in_one_append(flight, events):
    assert append(flight, events, ["a", "old_1", "a", "b"]) == (4, 2, 2, 0)
    assert row_count(flight, events) == 102


def test_what_others_change_between_appends_is_seen(flight, events):
    assert append(flight, events, ["a"]) == (1, 1, 0, 0)
    query(flight, f"DELETE FROM {events} WHERE insert_id IN ('a', 'old_1')")
    assert append(flight, events, ["a", "old_1", "old_2"]) == (3, 2, 1, 0)
    assert row_count(flight, events) == 101
    # By SQL, by a stream that replaces, and by a table of the same name.
    query(flight, f"INSERT INTO {events} SELECT * REPLACE ('sql' AS insert_id) FROM {events} LIMIT 1")
    assert append(flight, events, ["sql", "b"]) == (2, 1, 1, 0)
    put(flight, ingest(events, kind="events", mode="replace"), some_events(["r_1", "r_2"]))
    assert append(flight, events, ["r_1", "a"]) == (2, 1, 1, 0)
    action(flight, "drop_table", table=events)
    with refused("NOT_FOUND", events):
        append(flight, events, ["a"])
    put(flight, ingest(events, kind="profiles"), pa.table({"distinct_id": ["a"], "properties": ["{}"]}))
    with refused("FAILED_PRECONDITION", "profiles"):
        append(flight, events, ["a"])


def test_a_transaction_that_holds_the_table_is_waited_for(adbc, flight, events):
    assert append(flight, events, ["a"]) == (1, 1, 0, 0)
    with adbc.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"DELETE FROM {events} WHERE insert_id = 'a'")
        with ThreadPoolExecutor(1) as other:
            waiting = other.submit(append, flight, events, ["a", "old_1"])
            cursor.execute("COMMIT")
            assert waiting.result(timeout=60) == (2, 1, 1, 0)
    assert row_count(flight, events) == 101


def test_duplicates_are_an_error_where_that_is_asked_for(flight, events):
    with refused("ALREADY_EXISTS", "row 2", "old_7"):
        append(flight, events, ["a", "old_7"], on_duplicate="error")
    with refused("ALREADY_EXISTS", "row 3"):
        append(flight, events, ["x", "y", "x"], on_duplicate="error")
    assert append(flight, events, ["a", "x"], on_duplicate="error") == (2, 2, 0, 0)
    assert row_count(flight, events) == 102


def test_the_last_row_replaces_where_that_is_asked_for(flight, events):
    assert append(flight, events, ["old_1", "a"], on_duplicate="replace") == (2, 1, 0, 1)
    assert append(flight, events, ["a", "b"]) == (2, 1, 1, 0)
    assert row_count(flight, events) == 102


def test_an_id_is_stored_once(flight, events):
    name = str(uuid.uuid4())
    assert append(flight, events, ["a", "old_1"], ingest_id=name) == (2, 1, 1, 0)
    assert append(flight, events, ["z"], ingest_id=name) == (2, 1, 1, 0)
    assert row_count(flight, events) == 101


def test_an_id_is_known_when_its_table_is_gone(flight, events):
    """Who sends again because the first answer was lost gets that answer, whatever became of the table meanwhile."""
    name = str(uuid.uuid4())
    assert append(flight, events, ["a", "old_1"], ingest_id=name) == (2, 1, 1, 0)
    action(flight, "drop_table", table=events)
    assert append(flight, events, ["a", "old_1"], ingest_id=name) == (2, 1, 1, 0)


def test_old_ids_are_forgotten_and_no_ingest_is_lost(server_factory):
    server = server_factory("--memory", "--set", "ingest.ids_max=10")

    def one_client(number):
        with server.flight() as client:
            for turn in range(12):
                command = ingest(f"t_{number}_{turn}", kind="events", ingest_id=str(uuid.uuid4()))
                assert put(client, command, some_events(["a"]))[-1]["rows_inserted"] == 1

    with ThreadPoolExecutor(6) as clients:
        list(clients.map(one_client, range(6)))
    with server.flight() as client:
        name = str(uuid.uuid4())
        command = ingest("t_0_0", kind="events", mode="append", ingest_id=name)
        assert put(client, command, some_events(["b"]))[-1]["rows_inserted"] == 1
        assert put(client, command, some_events(["b"]))[-1]["rows_inserted"] == 1


@contextlib.contextmanager
def holding(client, table):
    """An ingest that counts each batch keeps its table to itself until it ends."""
    data = some_events(["held"])
    command = ingest(table, kind="events", mode="append", progress="every_batch")
    writer, reader = client.do_put(command, data.schema)
    writer.write_table(data)
    # The first answer comes when the table is the ingest's, the second with the batch.
    assert reader.read() is not None and reader.read() is not None
    try:
        yield
    finally:
        writer.done_writing()
        while reader.read() is not None:
            pass
        writer.close()


def test_a_wait_for_a_table_has_an_end(server_factory):
    server = server_factory("--memory", "--set", "ingest.table_wait=500ms")
    with server.flight() as one, server.flight() as other:
        put(one, path("events", "events"), some_events(["a"]))
        with holding(one, "events"):
            with refused("RESOURCE_EXHAUSTED", "ingest.table_wait", "events"):
                append(other, "events", ["b"])
            with refused("RESOURCE_EXHAUSTED", "ingest.table_wait", "events"):
                query(other, "DELETE FROM events")
        assert append(other, "events", ["b", "held"]) == (2, 1, 1, 0)
        assert count(other, "events") == 3


@pytest.mark.parametrize("rows", [2, 20_000])
def test_an_append_that_waits_for_its_table_is_cancelled(server_factory, rows):
    """Also one that has grown before."""
    server = server_factory("--memory")
    ids = [f"b{row}" for row in range(rows)]
    with server.flight() as one, server.flight() as other, ThreadPoolExecutor(1) as thread:
        put(one, path("events", "events"), some_events(["a"]))
        with holding(one, "events"):
            waiting = thread.submit(append, other, "events", ids)
            [info] = eventually("the append waits", lambda: [info for info in action(one, "list_queries") if info["rows"] == rows])
            action(one, "cancel_query", id=info["id"])
            with refused("CANCELLED", "cancelled by user anonymous"):
                waiting.result(timeout=30)
        assert sorted(query(one, "SELECT insert_id FROM events")["insert_id"].to_pylist()) == ["a", "held"]


def test_two_transactions_that_wait_for_each_other_end(server_factory):
    """Each has deleted from one table and appends to the other's: one is refused, and the other goes on."""
    server = server_factory("--memory", "--set", "engine.statements_queue_wait=1s")
    tables = ("a", "b")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.flight()) for _ in tables]
        sessions = [fl.FlightCallOptions(headers=[client.authenticate_basic_token("u", "p")]) for client in clients]
        for client, session, table in zip(clients, sessions, tables, strict=True):
            put(client, path("events", table), some_events(["x", "y"]))
            for sql in ("BEGIN", f"DELETE FROM {table} WHERE insert_id = 'x'"):
                client.do_get(fl.Ticket(sql.encode()), session).read_all()

        def append_to_the_other(at):
            command = ingest(tables[1 - at], kind="events", mode="append", progress="every_batch")
            data = some_events(["z"])
            writer, reader = clients[at].do_put(command, data.schema, sessions[at])
            try:
                writer.write_table(data)
                writer.done_writing()
                while reader.read() is not None:
                    pass
                writer.close()
            except pa.ArrowException as error:
                return str(error)
            return "stored"

        with ThreadPoolExecutor(2) as threads:
            outcomes = list(threads.map(append_to_the_other, range(2)))
    assert any("engine.statements_queue_wait" in outcome for outcome in outcomes), outcomes


def test_metadata_is_widened(flight, events):
    for from_date, to_date in [("2024-02-01", "2024-02-02"), ("2024-01-05", "2024-01-06")]:
        append(flight, events, [from_date], metadata={"from_date": from_date, "to_date": to_date})
    [metadata] = action(flight, "get_metadata", table=events)
    assert (metadata["from_date"], metadata["to_date"]) == ("2024-01-05", "2024-02-02")


def test_an_append_may_turn_out_large(flight, events):
    ids = [f"old_{number}" for number in range(50)] + [f"large_{number}" for number in range(30_000)]
    assert append(flight, events, ids) == (30_050, 30_000, 50, 0)
    assert append(flight, events, ["large_7", "b"]) == (2, 1, 1, 0)
    assert row_count(flight, events) == 30_101


def test_streams_that_share_little_memory_all_get_through(server_factory):
    """Each held a part of the memory and waited for the rest, which the others held."""
    small = ["--set", "ingest.memory=4MiB", "--set", "ingest.stream_memory=4MiB"]
    server = server_factory("--memory", *small)
    streams, rows = 16, 20_000
    data = [some_events([f"{stream}_{row}" for row in range(rows)]) for stream in range(streams)]

    def one_stream(stream):
        with server.flight() as client:
            return put(client, path("events", f"stream_{stream}"), data[stream], batch_rows=4_000)[-1]["rows_inserted"]

    with ThreadPoolExecutor(streams) as clients:
        assert list(clients.map(one_stream, range(streams))) == [rows] * streams
