"""The query log and sessions: what another connection sees, cancels and closes, and what is told to nobody."""

import contextlib
import json
import os
import re
import subprocess
import threading
import time

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from support import action, ingest, put, query, refused, scalar, some_events

# Hours of work that the engine can interrupt at any moment.
ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b WHERE a.range <> 4711"
PATIENCE_SECONDS = 20


def wait_for(what):
    """The first answer of `what()` that is something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.01)
    raise AssertionError("it never happened")


def running(client, **wanted):
    """The statement that runs and is like that."""

    def look():
        found = action(client, "list_queries")
        return [info for info in found if wanted.items() <= info.items()]

    return wait_for(look)[0]


def ended(client, query_id):
    """The statement once it has ended."""

    def look():
        found = action(client, "list_queries", all=True)
        return [info for info in found if info["id"] == query_id and info["state"] == "done"]

    return wait_for(look)[0]


@contextlib.contextmanager
def in_background(client, sql, options=None):
    """Runs a query beside the test; the list gets its exception."""
    errors = []

    def run():
        try:
            # Batch by batch: read_all() takes a CANCELLED for a ctrl-c, and interrupts the main thread.
            for _ in client.do_get(fl.Ticket(sql.encode()), options):
                pass
        except (fl.FlightError, pa.ArrowException) as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield errors
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def cli(server, *arguments):
    """What a command prints on stdout."""
    command = [os.environ["MERGANSER_BIN"], *arguments, "--server", server.uri]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


class Session:
    """A client with a session, which it names by its token."""

    def __init__(self, server):
        self.client = server.flight()
        answered = {}
        middleware = type("M", (fl.ClientMiddleware,), {"received_headers": lambda _, headers: answered.update(headers)})
        factory = type("F", (fl.ClientMiddlewareFactory,), {"start_call": lambda _, info: middleware()})
        with fl.connect(server.uri, middleware=[factory()]) as client:
            action(client, "server_info")
        [bearer] = answered["authorization"]
        self.token = bearer.removeprefix("Bearer ")
        self.options = fl.FlightCallOptions(headers=[(b"authorization", bearer.encode())])

    def run(self, sql):
        return self.client.do_get(fl.Ticket(sql.encode()), self.options).read_all()


def test_a_running_query_is_seen_and_cancelled_by_another(server, flight):
    with server.flight() as client, in_background(client, ENDLESS) as errors:
        info = running(flight, kind="query", state="running")
        assert info["user"] == "anonymous" and info["outcome"] is None
        assert re.fullmatch("[0-9a-f]{16}", info["fingerprint"])
        assert "<> ?" in info["text"] and "4711" not in info["text"]
        [answer] = action(flight, "cancel_query", id=info["id"])
        assert answer == {"id": info["id"]}
    [error] = errors
    assert isinstance(error, fl.FlightCancelledError) and "cancelled by user anonymous" in str(error)
    info = ended(flight, info["id"])
    assert (info["outcome"], info["error_code"]) == ("cancelled", "CANCELLED")
    assert info["error"] == "cancelled by user anonymous"
    with refused("NOT_FOUND", "is not running"):
        action(flight, "cancel_query", id=info["id"])
    with refused("NOT_FOUND", "is not running"):
        action(flight, "cancel_query", id="x")


def test_each_way_to_run_something_is_one_entry(flight, adbc, table):
    put(flight, ingest(table, kind="events", mode="create"), some_events(["a", "b", "c"]))
    put(flight, ingest(table, mode="append"), some_events(["d"]))
    with adbc.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} SELECT * REPLACE (insert_id || 'x' AS insert_id) FROM {table}")
        cursor.execute(f"SELECT insert_id FROM {table} WHERE insert_id > ?", ["b"])
        assert len(cursor.fetchall()) == 5
    before = query(flight, f"SELECT distinct_id FROM {table}").num_rows
    assert before == 8
    of_table = [info for info in action(flight, "list_queries", all=True) if table in f"{info['text']}{info['table']}"]
    seen = [(info["kind"], info["outcome"], info["rows"]) for info in reversed(of_table)]
    assert seen == [("ingest", "ok", 3), ("ingest", "ok", 1), ("update", "ok", 4), ("query", "ok", 5), ("query", "ok", 8)]
    assert [info["table"] for info in of_table] == [None, None, None, table, table]
    assert all(info["bytes"] > 0 and info["session"] is None for info in of_table if info["kind"] == "ingest")


def test_an_ingest_that_waits_for_its_client_is_cancelled(server, flight, table):
    with server.flight() as client:
        rows = some_events(["a"])
        writer, reader = client.do_put(ingest(table, kind="events", mode="create"), rows.schema)
        reader.read()
        writer.write_table(rows)
        info = running(flight, kind="ingest", table=table)
        action(flight, "cancel_query", id=info["id"])
        with refused("CANCELLED", "cancelled by user anonymous"):
            writer.close()
    assert ended(flight, info["id"])["outcome"] == "cancelled"
    assert action(flight, "table_exists", table=table) == [{"table": table, "exists": False}]


def test_sql_reads_it(flight):
    query(flight, "SELECT 'sql_reads_it' AS a_name_of_its_own")
    sql = "SELECT * FROM merganser_queries() WHERE text LIKE '%a_name_of_its_own' AND kind = 'query'"
    [row] = query(flight, sql).to_pylist()
    assert (row["text"], row["outcome"], row["rows"]) == ("select ? as a_name_of_its_own", "ok", 1)
    assert scalar(flight, "SELECT count(*) FROM merganser.queries WHERE state <> 'done'") == 1
    schema = query(flight, "SELECT started_at, total_ms FROM merganser_queries() LIMIT 0").schema
    assert schema.types == [pa.timestamp("us"), pa.uint64()]


def test_errors_and_timeouts_are_told_without_data(server_factory):
    server = server_factory("--memory", "--set", "engine.query_timeout=3s")
    with server.flight() as client:
        with pytest.raises(pa.ArrowInvalid):
            query(client, "SELECT 'a secret'::INTEGER FROM range(3)")
        with refused("DEADLINE_EXCEEDED"):
            query(client, ENDLESS)
        timeout, error = action(client, "list_queries", all=True)
        assert (timeout["outcome"], timeout["error_code"]) == ("timeout", "DEADLINE_EXCEEDED")
        assert (error["outcome"], error["error_code"]) == ("error", "INVALID_ARGUMENT")
        assert error["error"] == "Conversion Error"
        everything = json.dumps(query(client, "SELECT * FROM merganser_queries()").to_pylist(), default=str)
        assert "secret" not in everything + json.dumps(action(client, "list_queries", all=True))


def test_the_ring_is_bounded(server_factory):
    server = server_factory("--memory", "--set", "queries.history_max=5", "--set", "queries.text=none")
    with server.flight() as client:
        for number in range(20):
            query(client, f"SELECT {number}")
        infos = action(client, "list_queries", all=True)
        assert len(infos) == 5 and len({info["fingerprint"] for info in infos}) == 1
        assert [info["text"] for info in infos] == [None] * 5
        assert infos == sorted(infos, key=lambda info: info["id"], reverse=True)
        assert len(action(client, "list_queries", all=True, limit=2)) == 2


def test_slow_statements_are_logged(server_factory):
    slow = ["--memory", "--set", "queries.slow=1s", "--set", "engine.query_timeout=1500ms"]
    server = server_factory(*slow)
    with server.flight() as client:
        query(client, "SELECT 1")
        with refused("DEADLINE_EXCEEDED"):
            query(client, ENDLESS)
    [line] = [line for line in server.log().splitlines() if "slow statement" in line]
    assert "WARN" in line and "fingerprint=" in line and 'user="anonymous"' in line and "run_ms=" in line
    assert 'outcome="timeout"' in line and "4711" not in line and "range" not in line
    server = server_factory(*slow, "--set", "queries.text=full")
    with server.flight() as client:
        with refused("DEADLINE_EXCEEDED"):
            query(client, ENDLESS)
    [line] = [line for line in server.log().splitlines() if "slow statement" in line]
    assert "a.range <> 4711" in line


def test_sessions_are_listed_and_closed(server, flight):
    session = Session(server)
    session.run("SET TimeZone = 'Europe/Oslo'")
    session.run("CREATE TEMP TABLE mine AS SELECT 1 AS x")
    session.run("BEGIN")
    session.run("SELECT * FROM mine")
    [info] = [info for info in action(flight, "list_sessions") if info["settings"].get("TimeZone") == "Europe/Oslo"]
    assert info["user"] == "anonymous" and info["in_transaction"] and info["statements"] == 0
    assert info["created_at"] <= info["last_used_at"]
    [row] = query(flight, f"SELECT * FROM merganser_sessions() WHERE id = '{info['id']}'").to_pylist()
    assert row["settings"] == "TimeZone=Europe/Oslo" and row["in_transaction"]
    queries = [found for found in action(flight, "list_queries", all=True) if found["session"] == info["id"]]
    assert len(queries) == 4
    # The token is the right to be in the session: nobody is told it.
    told = json.dumps([action(flight, "list_sessions"), action(flight, "list_queries", all=True)])
    assert session.token not in told
    told = query(flight, "SELECT to_json(q) AS q FROM merganser_queries() q").to_pylist()
    told += query(flight, "SELECT to_json(s) AS s FROM merganser_sessions() s").to_pylist()
    assert session.token not in json.dumps(told) and session.token not in server.log()

    assert action(flight, "close_session", id=info["id"]) == [{"id": info["id"]}]
    with refused("NOT_FOUND", "the session has ended"):
        session.run("SELECT * FROM mine")
    with refused("NOT_FOUND", "is not known"):
        action(flight, "close_session", id=info["id"])
    assert info["id"] not in [found["id"] for found in action(flight, "list_sessions")]


def test_closing_a_session_interrupts_its_statements(server, flight):
    session = Session(server)
    session.run("SET VARIABLE a = 1")
    with in_background(session.client, ENDLESS, session.options) as errors:
        running_in = running(flight, kind="query", state="running")["session"]
        [info] = [info for info in action(flight, "list_sessions") if info["statements"] == 1]
        assert info["id"] == running_in
        action(flight, "close_session", id=info["id"])
    [error] = errors
    assert isinstance(error, fl.FlightCancelledError) and "the session was closed by user anonymous" in str(error)


def test_the_command_line(server, flight):
    assert "what" in cli(server, "queries", "--all") or "no statements" in cli(server, "queries")
    with server.flight() as client, in_background(client, ENDLESS) as errors:
        info = running(flight, kind="query", state="running")
        [line] = [line for line in cli(server, "queries").splitlines() if info["id"] in line]
        assert "anonymous" in line and "running" in line and "select sum" in line
        [told] = json.loads(cli(server, "queries", "--json"))
        assert told["id"] == info["id"]
        assert cli(server, "cancel", info["id"]) == f"cancelled {info['id']}\n"
    assert len(errors) == 1
    ended(flight, info["id"])
    assert "cancelled" in cli(server, "queries", "--all")
    session = Session(server)
    session.run("SET TimeZone = 'Asia/Tokyo'")
    assert "TimeZone=Asia/Tokyo" in cli(server, "sessions")
