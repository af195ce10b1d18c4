"""Whatever breaks (the client, the server, the source of the rows), a stream is stored whole or not at all, and what was
acknowledged stays.

Each test breaks something for real: processes are killed, not asked.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from support import action, count, ingest, path, put, query, scalar, some_events, table_exists

ROWS_OF_A_BATCH = 1000

# A client that sends batches until it is told to stop, and says so after each that the server has received.
SENDER = """
import sys
import pyarrow.flight as fl
from support import ingest, some_events

uri, table, mode = sys.argv[1:]
client = fl.connect(uri)
command = ingest(table, kind="events", mode=mode, progress="every_batch")
writer, reader = client.do_put(command, some_events([]).schema)
reader.read()
turn = 0
while True:
    writer.write_table(some_events([f"{turn}_{index}" for index in range(1000)]))
    reader.read()
    print("received", flush=True)
    turn += 1
"""


def start_sender(server, table, mode="create", batches=3):
    """Starts a client process, and returns when it is in the middle of its stream."""
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER, server.uri, table, mode],
        cwd=os.path.dirname(__file__),
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(batches):
        assert sender.stdout.readline() == "received\n"
    return sender


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def succeeds(client, descriptor, insert_id="a"):
    """Whether one more row can be ingested; while the server still clears up after another stream, it may not."""
    try:
        put(client, descriptor, some_events([insert_id]))
    except pa.ArrowException:
        return False
    return True


def metadata_rows(client, table):
    return scalar(client, f"SELECT count(*) FROM _metadata WHERE table_name = '{table}'")


def assert_nothing_of(client, table):
    assert not table_exists(client, table)
    assert metadata_rows(client, table) == 0
    assert all(row["name"] != table for row in action(client, "list_tables"))


def open_stream(client, table, **settings):
    """An ingest in mid-stream, in this process: three batches are received."""
    command = ingest(table, kind="events", progress="every_batch", **settings)
    writer, reader = client.do_put(command, some_events([]).schema)
    reader.read()
    for turn in range(3):
        writer.write_table(some_events([f"{turn}_{index}" for index in range(ROWS_OF_A_BATCH)]))
        assert json.loads(reader.read().to_pybytes())["rows_received"] == (turn + 1) * ROWS_OF_A_BATCH
    return writer


# --- the client ---


def test_a_killed_client_leaves_nothing(server, flight, table):
    sender = start_sender(server, table)
    assert not table_exists(flight, table), "nobody sees a stream that has not ended"
    kill(sender)

    wait_for(lambda: succeeds(flight, path("events", table)))
    assert count(flight, table) == 1
    assert metadata_rows(flight, table) == 1


def test_a_killed_client_leaves_the_old_table(server, flight, table):
    put(flight, path("events", table), some_events(["old"]))
    for mode in ("append", "replace"):
        kill(start_sender(server, table, mode))
        wait_for(lambda: succeeds(flight, ingest(table, mode="append"), "old"))
        assert query(flight, f"SELECT insert_id FROM {table}").column(0).to_pylist() == ["old"]


def test_killed_clients_do_not_use_up_the_server(server_factory):
    server = server_factory("--memory", "--set", "ingest.streams_max=2")
    with server.flight() as client:
        for turn in range(5):
            wait_for(lambda: succeeds(client, ingest("free", kind="events", mode="create_append")))
            kill(start_sender(server, f"lost_{turn}", batches=1))
        for turn in range(5):
            assert_nothing_of(client, f"lost_{turn}")


def test_a_source_that_fails_stores_nothing(flight, table):
    """pyarrow's writer cannot cancel: leaving it looks like a normal end. Hence the explicit commit."""
    writer = open_stream(flight, table, commit="explicit")
    try:
        writer.close()
    except pa.ArrowException:
        pass
    wait_for(lambda: not table_exists(flight, table))
    assert_nothing_of(flight, table)


def test_a_reader_that_leaves_stops_its_query(server, table):
    """Half-read streams of clients that are gone hold no statement."""
    for _ in range(50):
        client = server.flight()
        client.do_get(fl.Ticket(b"SELECT range AS n FROM range(100000000000)")).read_chunk()
        client.close()
    with server.flight() as client:
        assert scalar(client, "SELECT 1") == 1


# --- the server ---


@pytest.fixture
def persistent(server_factory, tmp_path):
    """Starts a server, again and again, on one file."""
    return lambda *arguments: server_factory(tmp_path / "data" / "events.duckdb", *arguments)


def test_a_killed_server_keeps_what_it_acknowledged_and_nothing_else(persistent, events, profiles):
    server = persistent()
    with server.flight() as client:
        put(client, path("events", "kept"), events)
        put(client, path("profiles", "people"), profiles)
        put(client, path("events", "added"), some_events(["a"]))
        writers = [open_stream(client, "lost"), open_stream(client, "added", mode="append")]
        writers.append(open_stream(client, "kept", mode="replace"))
        server.kill9()
        for writer in writers:
            with pytest.raises((pa.ArrowException, fl.FlightError)):
                writer.close()

    with persistent().flight() as client:
        assert (count(client, "kept"), count(client, "people"), count(client, "added")) == (2000, 200, 1)
        assert_nothing_of(client, "lost")
        rows = {row["name"]: row["row_count"] for row in action(client, "list_tables")}
        assert rows == {"added": 1, "kept": 2000, "people": 200}
        assert action(client, "get_metadata", table="added")[0]["row_count"] == 1
        stored = query(client, "SELECT insert_id FROM kept ORDER BY 1").column(0).to_pylist()
        assert stored == sorted(events["insert_id"].to_pylist())
        put(client, path("events", "lost"), some_events(["a"]))
        # The keys are known after a crash, too.
        assert put(client, ingest("kept", mode="append"), events)[-1]["rows_inserted"] == 0


@pytest.mark.parametrize("after_seconds", [0.2, 0.5, 1.0])
def test_small_appends_are_durable_once_acknowledged(persistent, after_seconds):
    """Group commit must not acknowledge a row before the commit that holds it is on disk."""
    server = persistent()
    with server.flight() as client:
        put(client, path("events", "log"), some_events([]))
    acknowledged, sent = [], []

    def append(worker):
        try:
            with server.flight() as client:
                for turn in range(1_000_000):
                    ids = [f"{worker}_{turn}_{index}" for index in range(3)]
                    sent.extend(ids)
                    put(client, ingest("log", kind="events", mode="append"), some_events(ids))
                    acknowledged.extend(ids)
        except (pa.ArrowException, fl.FlightError, KeyError):
            return  # the server is gone

    threads = [threading.Thread(target=append, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(after_seconds)
    server.kill9()
    for thread in threads:
        thread.join()

    assert acknowledged
    with persistent().flight() as client:
        stored = query(client, "SELECT insert_id FROM log").column(0).to_pylist()
        assert len(stored) == len(set(stored))
        assert set(acknowledged) <= set(stored) <= set(sent)
        assert action(client, "get_metadata", table="log")[0]["row_count"] == len(stored)
        groups = {row.rsplit("_", 1)[0] for row in stored}
        assert len(stored) == 3 * len(groups), "each append is there whole or not at all"


def test_a_stopped_server_does_not_store_what_it_interrupts(persistent):
    server = persistent("--set", "server.shutdown_grace=1s")
    with server.flight() as client:
        put(client, path("events", "kept"), some_events(["a"]))
        writer = open_stream(client, "lost")
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        stopping.join(timeout=60)
        with pytest.raises((pa.ArrowException, fl.FlightError)):
            writer.close()
    assert server.process.returncode == 0, server.log()
    with persistent().flight() as client:
        assert count(client, "kept") == 1
        assert_nothing_of(client, "lost")


def test_an_ingest_id_is_remembered_over_a_crash(persistent):
    command = ingest("log", kind="events", mode="create_append", ingest_id="6f6a2c0e-9b1d-4f5c-8f43-0d3f2b8f8a11")
    server = persistent()
    with server.flight() as client:
        first = put(client, command, some_events(["a", "b"]))[-1]
    server.kill9()
    with persistent().flight() as client:
        again = put(client, command, some_events(["a", "b", "c"]))[-1]
        assert again["rows_inserted"] == first["rows_inserted"] == 2
        assert count(client, "log") == 2
