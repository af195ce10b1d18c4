"""Limits: each is a clear error that names its setting, and the server serves on."""

import os
import pathlib
import subprocess
import threading
import time

import pyarrow as pa
import pytest
from pyarrow import flight
from support import SHOWN, count, ingest, put, query, refused, scalar, some_events

# It counts for a long time, whatever the machine.
ENDLESS = "SELECT count(*) FROM range(1000000000000) t(i) WHERE i % 7 = 3"
# Each alias means twice the one before: binding takes minutes, and no interrupt is heard there.
STUCK = "SELECT 1 a0" + "".join(f", a{i - 1} + a{i - 1} a{i}" for i in range(1, 30))


def settings(**values):
    return [part for name, value in values.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]


def test_rows_and_size_of_a_result(server_factory):
    server = server_factory("--memory", *settings(query__result_rows_max=100_000, query__result_size_max="8MiB"))
    with server.flight() as client:
        assert query(client, "FROM range(100000)").num_rows == 100_000
        with refused("RESOURCE_EXHAUSTED", "query.result_rows_max"):
            query(client, "FROM range(100001)")
        with refused("RESOURCE_EXHAUSTED", "query.result_size_max"):
            query(client, "SELECT repeat('x', 1000) FROM range(20000)")
        query(client, "CREATE TABLE t AS SELECT 1 AS a")
        with refused("RESOURCE_EXHAUSTED", "query.result_rows_max"):
            query(client, "INSERT INTO t SELECT range FROM range(200000) RETURNING a")
        # It was rolled back.
        assert scalar(client, "SELECT count(*) FROM t") == 1


def test_one_user_has_only_so_many_statements(server_factory):
    server = server_factory("--memory", *settings(engine__user_statements_max=1, engine__user_queue_max=0))
    with server.flight() as client, server.flight() as other:
        thread = threading.Thread(target=lambda: pytest.raises(Exception, query_for, client, ENDLESS, 3))
        thread.start()
        time.sleep(0.5)
        with refused("RESOURCE_EXHAUSTED", "engine.user_statements_max", "engine.user_queue_max"):
            query(other, "SELECT 1")
        thread.join()
        assert scalar(client, "SELECT 1") == 1


def cpu_seconds(server):
    fields = pathlib.Path(f"/proc/{server.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_query_that_nobody_reads_does_not_run(server_factory):
    """GetFlightInfo plans it: it has no slot, and takes none of the cores."""
    server = server_factory("--memory", *settings(engine__statements_max=1, engine__user_statements_max=1))
    with server.flight() as client:
        tickets = [client.get_flight_info(sql_descriptor(ENDLESS)).endpoints[0].ticket for _ in range(3)]
        assert scalar(client, "SELECT 1") == 1
        before = cpu_seconds(server)
        time.sleep(1)
        assert cpu_seconds(server) - before < 0.5
        with refused("DEADLINE_EXCEEDED"):
            client.do_get(tickets[0], flight.FlightCallOptions(timeout=1)).read_all()


def sql_descriptor(sql):
    """CommandStatementQuery, packed by hand: each of its lengths is below 128."""
    text = sql.encode()
    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    value = b"\x0a" + bytes([len(text)]) + text
    return flight.FlightDescriptor.for_command(b"\x0a" + bytes([len(name)]) + name + b"\x12" + bytes([len(value)]) + value)


def test_a_result_that_nobody_fetches_is_dropped(server_factory):
    server = server_factory("--memory", *settings(query__results_max=1, query__results_expire="1s"))
    with server.flight() as client:
        query(client, "CREATE TABLE t (n INTEGER)")
        insert = sql_descriptor("INSERT INTO t VALUES (1) RETURNING n")
        client.get_flight_info(insert)
        with refused("RESOURCE_EXHAUSTED", "query.results_max"):
            client.get_flight_info(insert)
        # The server looks every five seconds.
        time.sleep(7)
        ticket = client.get_flight_info(insert).endpoints[0].ticket
        assert client.do_get(ticket).read_all().to_pydict() == {"n": [1]}
        assert scalar(client, "SELECT count(*) FROM t") == 2


def test_an_ingest_does_not_wait_for_statements(server_factory):
    limits = settings(engine__statements_max=1, engine__user_statements_max=1, engine__statements_queue_wait="200ms")
    server = server_factory("--memory", *limits)
    with server.flight() as client, server.flight() as other:
        put(client, ingest("events"), some_events(["a"]))
        thread = threading.Thread(target=lambda: pytest.raises(Exception, query_for, other, ENDLESS, 5))
        thread.start()
        time.sleep(1)
        for number, command in enumerate([{"kind": "events", "mode": "append"}, {"mode": "append"}, {"mode": "create_append"}]):
            assert put(client, ingest("events", **command), some_events([f"b_{number}"]))[-1]["rows_inserted"] == 1
        thread.join()


def test_a_stream_that_waits_for_its_client_keeps_no_memory(server_factory):
    """What it has gathered is written meanwhile, and others have room."""
    server = server_factory("--memory", *settings(ingest__stream_memory="1MiB", ingest__memory="2MiB"))
    large = pa.table({"text": ["x" * 100_000 for _ in range(9)]})
    with server.flight() as client, server.flight() as other:
        waiting = [client.do_put(ingest(table, kind="table", mode="create"), large.schema) for table in ("a", "b")]
        for writer, reader in waiting:
            reader.read()
            writer.write_table(large)
        started = time.monotonic()
        for attempt in range(5):
            put(other, ingest(f"c{attempt}", kind="table", mode="create"), large)
        assert time.monotonic() - started < 60
        for writer, _ in waiting:
            writer.close()
        assert [count(other, table) for table in ("a", "b", "c4")] == [9, 9, 9]


def query_for(client, sql, seconds):
    return client.do_get(flight.Ticket(sql.encode()), flight.FlightCallOptions(timeout=seconds)).read_all()


@pytest.mark.parametrize(
    "sql",
    [ENDLESS, STUCK, "SELECT sum(levenshtein(repeat('a', 60000 + i::INT), repeat('b', 60000))) FROM range(20) t(i)"],
    ids=["running", "binding", "function"],
)
def test_the_query_timeout_is_kept_where_nothing_can_be_interrupted(server_factory, sql):
    server = server_factory("--memory", *settings(engine__query_timeout="1s"))
    with server.flight() as client:
        began = time.monotonic()
        with refused("DEADLINE_EXCEEDED", "engine.query_timeout"):
            query(client, sql)
        assert time.monotonic() - began < 5
        assert scalar(client, "SELECT 1") == 1
    server.kill9()


def test_the_query_timeout_counts_the_time_of_a_slow_reader(server_factory):
    server = server_factory("--memory", *settings(engine__query_timeout="1s"))
    with server.flight() as client:
        reader = client.do_get(flight.Ticket(b"SELECT range, repeat('x', 100) FROM range(100000000)"))
        reader.read_chunk()
        time.sleep(2)
        with refused("DEADLINE_EXCEEDED", "engine.query_timeout"):
            while True:
                reader.read_chunk()


def test_a_stuck_statement_counts_until_it_ends(server_factory):
    limits = settings(engine__query_timeout="1s", engine__statements_max=1, engine__statements_queue_wait="200ms")
    server = server_factory("--memory", *limits)
    with server.flight() as client:
        with refused("DEADLINE_EXCEEDED", "engine.query_timeout"):
            query(client, STUCK)
        with refused("RESOURCE_EXHAUSTED", "engine.statements_queue_wait"):
            query(client, "SELECT 1")
    server.kill9()


def test_memory_has_names(server_factory, tmp_path):
    tight = settings(engine__memory_limit="64MiB", engine__temp_directory_max="8MiB")
    server = server_factory(tmp_path / "t.duckdb", *tight)
    in_memory = server_factory("--memory", *tight)
    text = "md5(i::VARCHAR) || md5((i + 1)::VARCHAR) || md5((i + 2)::VARCHAR)"
    wide = f"SELECT sum(length(x)) FROM (SELECT x FROM (SELECT {text} AS x FROM range(3000000) t(i)) ORDER BY x OFFSET 3)"
    with server.flight() as client, in_memory.flight() as other:
        with refused("RESOURCE_EXHAUSTED", "engine.temp_directory_max"):
            query(client, wide)
        with refused("RESOURCE_EXHAUSTED", "engine.memory_limit"):
            query(other, wide)
        assert scalar(client, "SELECT 1") == scalar(other, "SELECT 1") == 1


def test_a_query_has_its_own_memory(server_factory, tmp_path):
    server = server_factory(tmp_path / "q.duckdb", *settings(engine__query_memory_max="32MiB"))
    with server.flight() as client:
        assert scalar(client, "SELECT current_setting('operator_memory_limit')") == "32.0 MiB"
        assert scalar(client, "SELECT count(*) FROM (SELECT i FROM range(3000000) t(i) ORDER BY hash(i))") == 3_000_000


def test_form_of_a_statement(server, flight):
    for sql, setting in [
        ("SELECT '" + "x" * (256 << 10) + "'", "engine.statement_bytes_max"),
        ("SELECT " + "(" * 101 + "1" + ")" * 101, "engine.statement_depth_max"),
        ("SELECT " + "CASE WHEN true THEN 1 ELSE " * 101 + "1" + " END" * 101, "engine.statement_depth_max"),
        ("SELECT " + ".".join(["a"] * 102), "engine.statement_depth_max"),
        ("SELECT " + "- " * 1100 + "1", "engine.expression_depth_max"),
        ("SELECT 1" + " UNION ALL SELECT 1" * 250, "engine.statement_parts_max"),
        ("SELECT count(*) FROM range(1)" + ", range(1)" * 500, "engine.statement_parts_max"),
        ("SELECT " + "list_transform([1], lambda x: " * 9 + "1" + ")" * 9, "engine.statement_lambdas_max"),
        ("SELECT " + "[" * 9 + "1" + " FOR x IN [1]]" * 9, "engine.statement_lambdas_max"),
    ]:
        with refused("RESOURCE_EXHAUSTED", setting):
            query(flight, sql)
    assert scalar(flight, "SELECT " + "(" * 99 + "1" + ")" * 99) == 1
    assert scalar(flight, "SELECT count(*) FROM (" + " UNION ALL ".join(["SELECT 1"] * 200) + ")") == 200
    # A chain is not a nest.
    chain = "[1, 2]"
    for _ in range(20):
        chain = f"list_transform({chain}, lambda x: x + 1)"
    assert scalar(flight, f"SELECT {chain}") == [21, 22]


def test_a_type_that_arrow_cannot_nest(server, flight):
    with refused("INVALID_ARGUMENT", "nests more deeply"):
        query(flight, "SELECT " + "[" * 90 + "1" + "]" * 90)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 96 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", directory]).returncode:
        pytest.skip("only root may mount a tmpfs")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def test_the_disk_has_a_floor(server_factory, small_disk):
    server = server_factory(small_disk / "d.duckdb", *settings(engine__disk_free_min="32MiB"))
    filler = small_disk / "filler"
    with server.flight() as client:
        put(client, ingest("events", kind="events"), some_events(["a", "b"]))
        query(client, "CREATE TABLE t AS SELECT 1 AS a")
        filler.write_bytes(b"x" * (70 << 20))
        time.sleep(1.1)
        for sql in ["INSERT INTO t VALUES (2)", "UPDATE t SET a = 2", "CREATE TABLE u AS FROM t", "CREATE TABLE u (a INT)"]:
            with refused("RESOURCE_EXHAUSTED", "engine.disk_free_min"):
                query(client, sql)
        for mode in ["append", "create_append", "replace"]:
            with refused("RESOURCE_EXHAUSTED", "engine.disk_free_min"):
                put(client, ingest("events", kind="events", mode=mode), some_events(["c"]))
        with refused("RESOURCE_EXHAUSTED", "engine.disk_free_min"):
            query(client, "INSERT INTO events FROM events")
        assert scalar(client, "SELECT count(*) FROM events") == 2
        query(client, "DROP TABLE t")
        filler.unlink()
        time.sleep(1.1)
        put(client, ingest("events", kind="events", mode="append"), some_events(["c"]))
        assert scalar(client, "SELECT count(*) FROM events") == 3


def test_the_floor_ends_a_long_stream(server_factory, small_disk):
    server = server_factory(small_disk / "d.duckdb", *settings(engine__disk_free_min="32MiB"))
    with server.flight() as client:
        batch = pa.table({"a": pa.array(os.urandom(1000).hex() for _ in range(2000))})
        shown, _ = SHOWN["RESOURCE_EXHAUSTED"]
        writer, _reader = client.do_put(ingest("long", kind="table", mode="create"), batch.schema)
        with pytest.raises(shown, match="disk_free_min"):
            with writer:
                for round in range(200):
                    writer.write_table(batch)
                    if round == 2:
                        (small_disk / "filler").write_bytes(b"x" * (70 << 20))
                        time.sleep(1.1)
                writer.done_writing()
        assert scalar(client, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'long'") == 0
