"""The server as a process: where it keeps its data, what it prints, how it starts and stops."""

import json
import os
import pathlib
import subprocess

import pytest

from support import action, count, path, put, query, refused, some_events


def serve(*arguments):
    """Runs a server that is expected not to start; returns its exit code and what it wrote to stderr."""
    command = [os.environ["MERGANSER_BIN"], "serve", "--listen", "127.0.0.1:0", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MERGANSER_")}
    environment["XDG_CONFIG_HOME"] = "/nonexistent"
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, env=environment)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr.strip()


def test_stdout_tells_how_to_connect(server):
    lines = server.stdout_path.read_text().splitlines()
    assert lines[0] == f"listening on {server.uri}"
    assert len(lines) == 2 and server.uri in lines[1]


def test_a_persistent_database_stays(server_factory, tmp_path):
    file = tmp_path / "new" / "directory" / "a.duckdb"
    server = server_factory(file)
    with server.flight() as client:
        put(client, path("events", "kept"), some_events(["a"]))
        [info] = action(client, "server_info")
        assert (info["mode"], info["database_path"]) == ("persistent", str(file))
    assert server.stop() == 0
    # The log is written back, and nothing is left over.
    assert [entry.name for entry in file.parent.iterdir()] == ["a.duckdb"]
    with server_factory(file).flight() as client:
        assert count(client, "kept") == 1


def test_the_default_file_is_in_the_data_directory(server_factory, tmp_path):
    server_factory()
    assert (tmp_path / "merganser" / "merganser.duckdb").exists()


def test_a_locked_file_is_one_line_that_names_the_process(server_factory, tmp_path):
    server = server_factory(tmp_path / "a.duckdb")
    code, message = serve(tmp_path / "a.duckdb")
    assert code != 0
    assert len(message.splitlines()) == 1
    assert str(server.pid) in message and "lock" in message


def test_a_missing_read_only_file_is_one_line(tmp_path):
    code, message = serve("--read-only", tmp_path / "a.duckdb")
    assert code != 0
    assert message.splitlines()[-1].endswith(f"database file not found: {tmp_path / 'a.duckdb'}")
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "a.duckdb").exists()


def test_read_only_servers_share_a_file_and_refuse_writes(server_factory, tmp_path):
    file = tmp_path / "a.duckdb"
    writer = server_factory(file)
    with writer.flight() as client:
        put(client, path("events", "kept"), some_events(["a"]))
    assert writer.stop() == 0
    for server in [server_factory("--read-only", file), server_factory("--read-only", file)]:
        with server.flight() as client:
            assert count(client, "kept") == 1
            assert action(client, "server_info")[0]["mode"] == "read-only"
            with refused("FAILED_PRECONDITION", "read-only"):
                put(client, path("events", "more"), some_events(["a"]))
            with refused("FAILED_PRECONDITION", "read-only"):
                query(client, "CREATE TABLE x (n INTEGER)")
            with refused("FAILED_PRECONDITION", "read-only"):
                action(client, "drop_table", table="kept")


def ephemeral_directories(directory):
    return {entry for entry in pathlib.Path(directory).iterdir() if entry.name.startswith("merganser-ephemeral-")}


def test_an_ephemeral_database_is_deleted(server_factory, tmp_path):
    server = server_factory("--ephemeral")
    with server.flight() as client:
        put(client, path("events", "gone"), some_events(["a"]))
        assert action(client, "server_info")[0]["mode"] == "ephemeral"
    assert len(ephemeral_directories(tmp_path)) == 1
    assert server.stop() == 0
    assert ephemeral_directories(tmp_path) == set()


def test_the_next_start_deletes_what_a_crash_left(server_factory, tmp_path):
    crashed, alive = server_factory("--ephemeral"), server_factory("--ephemeral")
    both = ephemeral_directories(tmp_path)
    crashed.kill9()
    assert ephemeral_directories(tmp_path) == both
    server_factory("--ephemeral")
    now = ephemeral_directories(tmp_path)
    assert len(both) == len(now) == 2 and len(both & now) == 1
    with alive.flight() as client:
        put(client, path("events", "kept"), some_events(["a"]))
        assert count(client, "kept") == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["a.duckdb", "--ephemeral"], "--ephemeral"),
        (["--memory", "--ephemeral"], "--memory"),
        (["--memory", "--read-only"], "--read-only"),
        (["--set", "engine.treads=1"], "did you mean `engine.threads`?"),
    ],
)
def test_usage_errors(arguments, part):
    code, message = serve(*arguments)
    assert code != 0
    assert part in message


def test_print_config(tmp_path):
    (tmp_path / "my.toml").write_text("[engine]\nthreads = 3\n")
    command = [os.environ["MERGANSER_BIN"], "serve", "--config", tmp_path / "my.toml", "--memory", "--print-config"]
    environment = os.environ | {"MERGANSER_QUERY_BATCH_ROWS": "1000"}
    printed = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=True).stdout
    lines = {line.split(" = ")[0]: line for line in printed.splitlines() if " = " in line}
    assert lines["threads"].startswith("threads = 3 ") and lines["threads"].endswith("my.toml")
    assert lines["batch_rows"].endswith("# MERGANSER_QUERY_BATCH_ROWS")
    assert lines["mode"].endswith("# --memory")
    assert lines["listen"].endswith("# default")


def test_the_log_can_be_json(server_factory):
    server = server_factory("--memory", "--log-format", "json")
    assert server.stop() == 0
    lines = server.log().splitlines()
    assert lines and all(json.loads(line)["level"] for line in lines)


def test_a_connection_to_nowhere_is_unavailable(server_factory):
    server = server_factory("--memory")
    assert server.stop() == 0
    with refused("UNAVAILABLE"), server.flight() as client:
        action(client, "server_info")
