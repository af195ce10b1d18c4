"""The server as its operator sees it: the operations port, health, metrics, request ids, the access log, traces, and its end."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import uuid
from concurrent import futures

import grpc
import pyarrow as pa
import pyarrow.flight as fl
import pytest

import raw
from support import count, ingest, put, query, refused, some_events, table_exists

PATIENCE_SECONDS = 30
HEALTH = "/grpc.health.v1.Health/"
FLIGHT = "arrow.flight.protocol.FlightService"
SERVING, NOT_SERVING = 1, 2
LONG = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11"


@pytest.fixture
def operated(server_factory):
    """`operated(*arguments)` starts a server with an operations port."""

    def start(*arguments):
        server = server_factory("--memory", "--set", "ops.listen=127.0.0.1:0", *arguments)
        server.ops_port = int(re.search(r"operations on http://127\.0\.0\.1:(\d+)", server.log())[1])
        return server

    return start


def until(condition, what):
    """Waits for a condition, and returns what it answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not in {PATIENCE_SECONDS} s: {what}")


def get(server, path, method="GET", headers=None):
    """One request to the operations port: the status, the headers and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ops_port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def metrics(server):
    """All samples of /metrics, by their name with labels as they are written."""
    status, _, body = get(server, "/metrics")
    assert status == 200
    lines = [line for line in body.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def fresh_metrics(server, name, value):
    """The metrics once one of them has a value: gauges are looked up once in a second."""
    return until(lambda: (found := metrics(server)).get(name) == value and found, f"{name} is {value}")


def health(server, service="", headers=()):
    """The status of gRPC's health service."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        answer = channel.unary_unary(HEALTH + "Check")(raw.encode({1: service or None}), metadata=list(headers), timeout=10)
    return raw.one(raw.decode(answer), 1, 0)


def call(server, method, fields, **headers):
    """One call with headers; its code, message, headers and trailers."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
        started = channel.unary_stream(raw.SERVICE + method)(raw.encode(fields), metadata=sent, timeout=PATIENCE_SECONDS)
        try:
            list(started)
        except grpc.RpcError:
            pass
        return started.code().name, started.details(), dict(started.initial_metadata()), dict(started.trailing_metadata())


def ticket(sql):
    return {1: sql}


# --- the port ---


def test_there_is_no_port_unless_one_asks(server):
    assert "operations on" not in server.log()


def test_a_port_in_use_is_one_line(operated, server_factory):
    server = operated()
    with pytest.raises(AssertionError, match="cannot listen on .* \\(ops.listen\\)"):
        server_factory("--memory", "--set", f"ops.listen=127.0.0.1:{server.ops_port}")


def test_health_is_told_in_json(operated):
    server = operated()
    for path, word in [("/healthz", "ok"), ("/readyz", "ready")]:
        status, headers, body = get(server, path)
        assert (status, headers["content-type"], json.loads(body)) == (200, "application/json", {"status": word})
        assert get(server, path, "HEAD")[0] == 200
    assert get(server, "/readyz", "POST")[0] == 405
    assert get(server, "/")[0] == 404


def test_the_health_command_says_what_the_port_says(operated):
    server = operated("--set", "engine.open_max=1", "--set", "ops.probe_timeout=2s")

    def health_command(*arguments, **environment):
        """Its exit code and what it prints."""
        command = [os.environ["MERGANSER_BIN"], "health", *arguments]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return done.returncode, (done.stdout + done.stderr).strip()

    address = f"127.0.0.1:{server.ops_port}"
    assert health_command(address) == (0, '{"status":"ok"}')
    # In a container the address is told to both, and stands for all.
    assert health_command("--ready", MERGANSER_OPS_LISTEN=f"0.0.0.0:{server.ops_port}") == (0, '{"status":"ready"}')
    with server.flight() as client:
        reader = client.do_get(fl.Ticket(b"SELECT * FROM range(100000000)"))
        reader.read_chunk()
        until(lambda: get(server, "/readyz")[0] == 503, "not ready")
        code, said = health_command("--ready", address)
        assert code == 1 and f"{address} answers 503: " in said and "engine.open_max" in said
        assert health_command(address)[0] == 0
        reader.cancel()
    server.process.kill()
    server.process.wait()
    code, said = health_command(address)
    assert code == 1 and f"{address} gives no answer: " in said
    assert health_command()[0] == 2


def test_what_strangers_do_to_the_port_is_bounded(operated):
    server = operated("--set", "ops.connections_max=2")
    assert get(server, "/readyz", headers={"x": "y" * 100_000})[0] in (400, 431)
    # Two who say nothing have all places, and lose them.
    silent = [socket.create_connection(("127.0.0.1", server.ops_port)) for _ in range(2)]
    begin = time.monotonic()
    assert get(server, "/readyz")[0] == 200
    assert time.monotonic() - begin < 12
    for connection in silent:
        connection.close()


def test_busy_threads_are_not_ready_and_alive(operated):
    server = operated("--set", "engine.open_max=1", "--set", "ops.probe_timeout=2s")
    with server.flight() as client:
        reader = client.do_get(fl.Ticket(b"SELECT * FROM range(100000000)"))
        reader.read_chunk()
        _, _, body = until(lambda: (got := get(server, "/readyz"))[0] == 503 and got, "not ready")
        assert "engine.open_max" in json.loads(body)["reason"]
        assert get(server, "/healthz")[0] == 200
        until(lambda: health(server) == NOT_SERVING, "gRPC's health says so, too")
        assert health(server, FLIGHT) == NOT_SERVING
        reader.cancel()
    until(lambda: get(server, "/readyz")[0] == 200, "ready again")
    until(lambda: health(server) == SERVING and health(server, FLIGHT) == SERVING, "serving again")


def test_grpc_health_asks_for_no_credentials(operated):
    server = operated("--set", "auth.user=ada", "--set", "auth.password=secret")
    assert (health(server), health(server, FLIGHT)) == (SERVING, SERVING)
    with pytest.raises(grpc.RpcError) as caught:
        health(server, "unknown.Service")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert get(server, "/readyz")[0] == 200


# --- metrics ---


def test_calls_rows_and_bytes_are_counted(operated):
    server = operated()
    with server.flight() as client:
        put(client, ingest("t", kind="events", mode="create_append"), some_events(["a", "b"]))
        put(client, ingest("t", kind="events", mode="append"), some_events(["b", "c"]))
        with refused("NOT_FOUND"):
            put(client, ingest("none", kind="events", mode="append"), some_events(["a"]))
        assert query(client, "FROM t").num_rows == 3
        with refused("INVALID_ARGUMENT"):
            query(client, "SELECT")
    found = until(
        lambda: (m := metrics(server)).get('merganser_calls_total{method="DoPut",code="NOT_FOUND"}') == 1 and m, "counted"
    )
    assert found['merganser_calls_total{method="DoPut",code="OK"}'] == 2
    assert found['merganser_calls_total{method="DoGet",code="OK"}'] == 1
    assert found['merganser_calls_total{method="DoGet",code="INVALID_ARGUMENT"}'] == 1
    assert found['merganser_call_seconds_count{method="DoGet"}'] == 2
    assert found['merganser_calls_in_flight{method="DoGet"}'] == 0
    assert found['merganser_sent_bytes_total{method="DoGet"}'] > 300
    assert found["merganser_sent_rows_total"] == 3
    assert found["merganser_ingest_received_rows_total"] == 4
    assert found["merganser_ingest_received_bytes_total"] > 500
    assert found['merganser_ingests_total{outcome="stored"}'] == 2
    assert found['merganser_ingests_total{outcome="NOT_FOUND"}'] == 1
    assert found['merganser_ingest_rows_total{result="inserted"}'] == 3
    assert found['merganser_ingest_rows_total{result="duplicate"}'] == 1
    assert found["merganser_ready"] == 1
    assert found["process_resident_memory_bytes"] > 10_000_000 and found["process_threads"] > 3
    assert any(name.startswith("merganser_build_info{") for name in found)
    fresh_metrics(server, "merganser_ingest_streams", 0)


def test_connections_are_counted(operated):
    server = operated()
    assert metrics(server).get("merganser_connections", 0) == 0
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        channel.unary_unary(HEALTH + "Check")(b"", timeout=10)
        assert metrics(server)["merganser_connections"] == 1
    fresh_metrics(server, "merganser_connections", 0)


def test_every_metric_is_described_and_has_the_documented_kind(operated):
    server = operated()
    with server.flight() as client:
        put(client, ingest("t", kind="events", mode="create_append"), some_events(["a"]))
        query(client, "FROM t")
    _, _, body = get(server, "/metrics")
    page = (pathlib.Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    documented = dict(re.findall(r"^\| `(merganser_\w+)` \| (\w+) \|", page, re.M))
    kinds = dict(re.findall(r"^# TYPE (merganser_\w+) (\w+)$", body, re.M))
    helps = dict(re.findall(r"^# HELP (merganser_\w+) (.+)$", body, re.M))
    assert kinds and set(kinds) <= set(documented) and set(kinds) <= set(helps)
    assert all(documented[name] == kind for name, kind in kinds.items())
    # A database in memory has no files.
    missing = set(documented) - set(kinds)
    assert missing <= {"merganser_database_file_bytes", "merganser_database_wal_bytes", "merganser_disk_free_bytes"}


def test_files_and_disks_are_measured(server_factory, tmp_path):
    server = server_factory(tmp_path / "a.duckdb", "--set", "ops.listen=127.0.0.1:0")
    server.ops_port = int(re.search(r"operations on http://127\.0\.0\.1:(\d+)", server.log())[1])
    with server.flight() as client:
        put(client, ingest("t", kind="events", mode="create"), some_events([str(number) for number in range(1000)]))
    found = metrics(server)
    assert found["merganser_database_file_bytes"] >= 12288
    assert found["merganser_database_wal_bytes"] > 1000
    assert found['merganser_disk_free_bytes{directory="data"}'] > 1_000_000
    assert found['merganser_disk_free_bytes{directory="temp"}'] > 1_000_000


def test_what_is_open_is_measured(operated):
    server = operated()
    with server.flight() as client:
        put(client, ingest("t", kind="events", mode="create"), some_events(["before"]))
        # Few rows wait in memory for the append's end.
        writer, reader = client.do_put(ingest("t", kind="events", mode="append"), some_events([]).schema)
        reader.read()
        writer.write_table(some_events(["a", "b"]))
        found = fresh_metrics(server, "merganser_ingest_streams", 1)
        assert found['merganser_calls_in_flight{method="DoPut"}'] == 1
        assert found["merganser_connections"] >= 1
        older = until(lambda: (m := metrics(server))["merganser_ingest_lag_seconds"] > 1.5 and m, "rows wait")
        assert older["merganser_ingest_memory_bytes"] > 0
        writer.close()
        fresh_metrics(server, "merganser_ingest_lag_seconds", 0)
        stream = client.do_get(fl.Ticket(b"SELECT * FROM range(100000000)"))
        stream.read_chunk()
        busy = until(lambda: (m := metrics(server))["merganser_statements_open"] >= 1 and m, "a statement is open")
        assert busy['merganser_engine_threads{pool="statements",state="busy"}'] >= 1
        stream.cancel()
        fresh_metrics(server, "merganser_statements_open", 0)


def test_a_call_that_its_client_leaves_is_counted(operated):
    server = operated()
    with server.flight() as client:
        stream = client.do_get(fl.Ticket(b"SELECT * FROM range(100000000)"))
        stream.read_chunk()
        stream.cancel()
        fresh_metrics(server, 'merganser_calls_total{method="DoGet",code="CANCELLED"}', 1)


# --- request ids and logs ---


def test_the_client_s_request_id_is_everywhere(operated):
    server = operated("--log-format", "json")
    code, _, headers, trailers = call(server, "DoGet", ticket("SELECT 1"), x_request_id="my-id.1_a")
    assert (code, headers["x-request-id"]) == ("OK", "my-id.1_a")
    code, _, headers, trailers = call(server, "DoGet", ticket("SELEC"), x_request_id="my-id.2")
    assert code == "INVALID_ARGUMENT"
    assert (headers | trailers)["x-request-id"] == "my-id.2"
    # An error in the middle of a stream is told in the trailers.
    failing = "SELECT CASE WHEN range = 999999 THEN error('half-way') ELSE range END FROM range(1000000)"
    code, message, headers, trailers = call(server, "DoGet", ticket(failing), x_request_id="my-id.3")
    assert code == "INVALID_ARGUMENT" and "half-way" in message
    assert (headers | trailers)["x-request-id"] == "my-id.3"

    def lines(of):
        found = [json.loads(line) for line in server.log().splitlines() if of in line]
        return found if any(line["target"] == "access" for line in found) else None

    [line] = until(lambda: lines("my-id.1_a"), "the access log has the call")
    assert line["spans"][0]["request_id"] == "my-id.1_a"
    assert (line["method"], line["code"], line["user"]) == ("DoGet", "OK", "anonymous")
    assert line["peer"].startswith("127.0.0.1:") and line["seconds"] > 0 and line["bytes_out"] > 100
    refused_lines = until(lambda: lines("my-id.2"), "the access log has the call")
    assert {line["target"] for line in refused_lines} == {"access", "merganser::flight::status"}


@pytest.mark.parametrize("bad", ["a b", "x" * 65, 'a"b', "a;b=c"])
def test_a_bad_request_id_is_replaced(server, bad):
    _, _, headers, _ = call(server, "DoGet", ticket("SELECT 1"), x_request_id=bad)
    assert uuid.UUID(headers["x-request-id"]).version == 7


def test_calls_that_are_refused_have_a_line_without_a_user(operated):
    server = operated("--set", "auth.user=ada", "--set", "auth.password=secret", "--log-format", "json")
    code, _, headers, trailers = call(server, "DoGet", ticket("SELECT 1"), x_request_id="stranger")
    assert code == "UNAUTHENTICATED" and (headers | trailers)["x-request-id"] == "stranger"
    found = until(lambda: [line for line in server.log().splitlines() if '"access"' in line], "a line")
    line = json.loads(found[0])
    assert (line["code"], line["user"]) == ("UNAUTHENTICATED", "-")
    found = metrics(server)
    assert found['merganser_calls_total{method="DoGet",code="UNAUTHENTICATED"}'] == 1
    assert "secret" not in server.log()


def test_the_access_log_is_bounded(operated):
    server = operated("--set", "log.access_per_second=2", "--log-format", "json")
    with server.flight() as client:
        for _ in range(50):
            query(client, "SELECT 1")
        time.sleep(1.1)
        query(client, "SELECT 1")

    def lines():
        found = [json.loads(line) for line in server.log().splitlines() if '"target":"access"' in line]
        skipped = sum(line.get("skipped", 0) for line in found)
        written = sum("method" in line for line in found)
        return skipped and skipped + written == 51 and (skipped, written)

    skipped, written = until(lines, "all calls are written or counted")
    assert written <= 20 < skipped


def test_there_may_be_no_access_log(operated):
    server = operated("--set", "log.access_per_second=0")
    with server.flight() as client:
        query(client, "SELECT 1")
    assert server.stop() == 0
    assert " access: " not in server.log()


# --- traces ---


def test_spans_go_to_a_collector(server_factory):
    got = []

    def export(request, _):
        got.append(request)
        return b""

    collector = grpc.server(futures.ThreadPoolExecutor(2))
    handler = grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService",
        {"Export": grpc.unary_unary_rpc_method_handler(export)},
    )
    collector.add_generic_rpc_handlers((handler,))
    port = collector.add_insecure_port("127.0.0.1:0")
    collector.start()
    try:
        server = server_factory("--memory", "--set", f"otel.endpoint=http://127.0.0.1:{port}")
        trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
        call(server, "DoGet", ticket("SELECT 1"), traceparent=f"00-{trace}-{parent}-01", x_request_id="traced")
        # The last spans are sent at the end.
        assert server.stop() == 0
        sent = b"".join(got)
        spans = [decoded(span) for span in spans_of(got)]
        assert {"call", "statement"} <= {name for name, *_ in spans}, spans
        [(_, of, above, id)] = [span for span in spans if span[0] == "call"]
        assert (of.hex(), above.hex()) == (trace, parent)
        assert (trace, id) in [(of.hex(), above) for name, of, above, _ in spans if name == "statement"]
        assert b"traced" in sent and b"DoGet" in sent and b"SELECT" not in sent
    finally:
        collector.stop(None)


def spans_of(requests):
    """The spans of ExportTraceServiceRequests."""
    for request in requests:
        for resource in raw.decode(request)[1]:
            for scope in raw.decode(resource)[2]:
                yield from raw.decode(scope)[2]


def decoded(span):
    fields = raw.decode(span)
    return fields[5][0].decode(), fields[1][0], fields[4][0] if fields[4] else b"", fields[2][0]


def test_a_collector_that_is_not_there_harms_nobody(server_factory):
    server = server_factory("--memory", "--set", "otel.endpoint=http://127.0.0.1:1")
    with server.flight() as client:
        assert query(client, "SELECT 1").num_rows == 1
    assert server.stop() == 0


# --- the end ---


def in_background(work):
    """Runs `work` in a thread; `result()` of the answer waits for it."""
    return futures.ThreadPoolExecutor(1).submit(work)


def test_running_calls_finish_and_new_ones_are_refused(operated):
    server = operated("--set", "server.shutdown_grace=20s")
    idle = server.flight()
    query(idle, "SELECT 1")
    busy = server.flight()
    writer, reader = busy.do_put(ingest("t", kind="events", mode="create"), some_events([]).schema)
    reader.read()
    writer.write_table(some_events(["a", "b"]))
    stream = busy.do_get(fl.Ticket(b"SELECT * FROM range(3000000)"))
    rows = stream.read_chunk().data.num_rows
    watch = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    statuses = watch.unary_stream(HEALTH + "Watch")(b"")
    assert raw.one(raw.decode(next(statuses)), 1, 0) == SERVING

    server.process.send_signal(signal.SIGTERM)
    _, _, body = until(lambda: (got := get(server, "/readyz"))[0] == 503 and got, "not ready")
    assert json.loads(body) == {"status": "not ready", "reason": "the server is stopping"}
    assert get(server, "/healthz")[0] == 200
    assert raw.one(raw.decode(next(statuses)), 1, 0) == NOT_SERVING
    for client in (idle, busy):
        with refused("UNAVAILABLE"):
            query(client, "SELECT 1")

    # What had begun ends well.
    while True:
        try:
            rows += stream.read_chunk().data.num_rows
        except StopIteration:
            break
    assert rows == 3_000_000
    writer.done_writing()
    result = json.loads(reader.read().to_pybytes())
    assert result["rows_inserted"] == 2
    writer.close()
    # Nobody waits for those who only watch.
    begin = time.monotonic()
    assert server.process.wait(timeout=15) == 0
    assert time.monotonic() - begin < 10
    for client in (idle, busy):
        client.close()
    watch.close()


def test_what_does_not_finish_in_time_is_interrupted(server_factory, tmp_path):
    file = tmp_path / "a.duckdb"
    server = server_factory(file, "--set", "server.shutdown_grace=1s")
    client, other = server.flight(), server.flight()
    put(client, ingest("kept", kind="events", mode="create"), some_events(["a"]))
    statement = in_background(lambda: query(other, LONG))
    writer, reader = client.do_put(ingest("lost", kind="events", mode="create"), some_events([]).schema)
    reader.read()
    writer.write_table(some_events(["a", "b"]))
    until(lambda: "call" in server.log() and count(client, "kept") == 1, "all calls have begun")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=20) == 0
    with refused("UNAVAILABLE", "the server is stopping"):
        statement.result()
    with refused("UNAVAILABLE", "the server is stopping"):
        writer.close()
    assert "they are interrupted" in server.log()
    client.close()
    other.close()
    # Written back, and nothing half there.
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("a.duckdb")] == ["a.duckdb"]
    with server_factory(file).flight() as client:
        assert count(client, "kept") == 1
        assert not table_exists(client, "lost")


def test_an_idle_server_ends_at_once(operated):
    server = operated()
    with server.flight() as client:
        query(client, "SELECT 1")
        begin = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begin < 3


def test_a_second_signal_ends_it_at_once(server_factory, tmp_path):
    file = tmp_path / "a.duckdb"
    server = server_factory(file, "--set", "server.shutdown_grace=10m")
    client, other = server.flight(), server.flight()
    put(client, ingest("kept", kind="events", mode="create"), some_events(["a"]))
    statement = in_background(lambda: query(other, LONG))
    time.sleep(0.3)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in server.log(), "it stops")
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=5) != 0
    with pytest.raises((fl.FlightError, pa.ArrowException)):
        statement.result()
    with server_factory(file).flight() as again:
        assert count(again, "kept") == 1


def test_many_who_ask_do_not_make_the_database_work_more(operated):
    """Probes and gauges are looked up once in a second, however often one asks."""
    server = operated()
    threads = [threading.Thread(target=lambda: [metrics(server) for _ in range(20)]) for _ in range(8)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begin < 10
