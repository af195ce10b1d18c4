"""Files of earlier versions open: of this server, and of DuckDB.

`format-0.duckdb.gz` was written by this server when it kept no version in its files; `duckdb-1.4.duckdb.gz` by DuckDB 1.4.5.
"""

import gzip
import os
import subprocess

import duckdb
import pytest

from support import DATA, action, count, ingest, path, put, query, scalar, some_events


@pytest.fixture
def unpacked(tmp_path):
    """`unpacked(name)` is a copy of a database of the test data."""

    def unpack(name):
        file = tmp_path / f"{name}.duckdb"
        file.write_bytes(gzip.decompress((DATA / f"{name}.duckdb.gz").read_bytes()))
        return file

    return unpack


def test_a_file_without_a_version_opens_and_gets_one(server_factory, unpacked):
    file = unpacked("format-0")
    server = server_factory(file, "--read-only")
    with server.flight() as client:
        assert count(client, "events") == 500
    server.stop()
    for _ in range(2):
        server = server_factory(file)
        with server.flight() as client:
            listed = {row["name"]: (row["kind"], row["row_count"]) for row in action(client, "list_tables")}
            assert listed.keys() == {"events", "named", "people", "plain"}
            assert (listed["people"], listed["plain"]) == (("profiles", 20), ("table", 2))
            # Keys of then are known now, and so is the id of the ingest.
            again = put(client, ingest("events", mode="append"), some_events(["id_0", "id_499", "new"]))[-1]
            assert again["rows_inserted"] + again["rows_duplicate"] == 3 and again["rows_duplicate"] >= 2
            with_id = ingest("events", kind="events", mode="append", ingest_id="6f6a2c0e-9b1d-4f5c-8f43-0d3f2b8f8a11")
            assert put(client, with_id, some_events(["other"]))[-1]["rows_inserted"] == 500
            assert action(client, "get_metadata", table="events")[0]["row_count"] == count(client, "events") == 501
            assert query(client, "FROM named").to_pylist() == [{"event_name": "Purchase", "n": 501}]
            assert scalar(client, "SELECT version FROM _format") == 1
        assert server.stop() == 0


def test_a_file_of_a_later_version_is_refused(server_factory, unpacked, tmp_path):
    file = unpacked("format-0")
    server_factory(file).stop()
    with duckdb.connect(str(file)) as connection:
        connection.execute("UPDATE _format SET version = 99")
    for more in ([], ["--read-only"]):
        command = [os.environ["MERGANSER_BIN"], "serve", "--listen", "127.0.0.1:0", str(file), *more]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        assert "has format 99" in result.stderr and "use the version that wrote it" in result.stderr
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT version FROM _format").fetchall() == [(99,)]


def test_a_file_of_duckdb_1_opens(server_factory, unpacked, tmp_path):
    file = unpacked("duckdb-1.4")
    for turn in range(2):
        server = server_factory(file, "--set", f"backup.directory={tmp_path / 'backups'}")
        with server.flight() as client:
            assert count(client, "many") == 10_000
            assert query(client, "FROM v ORDER BY a").to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
            put(client, path("events", f"log_{turn}"), some_events(["a"]))
            action(client, "backup", name=f"b{turn}")
        assert server.stop() == 0
