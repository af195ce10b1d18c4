"""`flight_sql_client`, the command-line client of arrow-flight 60.1.0."""

import os
import subprocess

import pytest

from support import query

BINARY = "MERGANSER_TEST_FLIGHT_SQL_CLIENT"

pytestmark = pytest.mark.skipif(BINARY not in os.environ, reason=f"{BINARY} is not set to an installed flight_sql_client")


def run(server, *arguments, code=0):
    command = [os.environ[BINARY], "--host", "127.0.0.1", "--port", str(server.port), *arguments]
    environment = os.environ | {"RUST_BACKTRACE": "0"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def cells(printed):
    """The cells of the rows below the head of a printed table."""
    lines = [line for line in printed.splitlines() if line.startswith("|")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_statement_query(server):
    assert cells(run(server, "statement-query", "SELECT range AS n FROM range(3)")) == [["0"], ["1"], ["2"]]


def test_statement_query_that_changes(server, flight, table):
    run(server, "statement-query", f"CREATE TABLE {table} AS SELECT 1 AS n")
    run(server, "statement-query", f"INSERT INTO {table} VALUES (2)")
    assert query(flight, f"SELECT n FROM {table} ORDER BY 1")["n"].to_pylist() == [1, 2]


def test_prepared_statement_query(server):
    assert cells(run(server, "prepared-statement-query", "SELECT 42 AS n")) == [["42"]]
    # Values become what parameter_schema says.
    sql = "SELECT $1::BIGINT * 2 AS n, $2::VARCHAR AS s"
    found = run(server, "prepared-statement-query", sql, "-p", "1=21", "-p", "2=x")
    assert cells(found) == [["42", "x"]]


def test_metadata(server, flight, table):
    query(flight, f"CREATE TABLE {table} (n INTEGER)")
    assert ["merganser"] in cells(run(server, "catalogs"))
    assert ["merganser", "main"] in cells(run(server, "db-schemas", "merganser"))
    found = cells(run(server, "tables", "merganser", "--db-schema-filter", "main", "--table-filter", f"{table}%"))
    assert found == [["merganser", "main", table, "BASE TABLE"]]
    assert ["VIEW"] in cells(run(server, "table-types"))


def test_errors(server):
    assert "nowhere" in run(server, "statement-query", "SELECT * FROM nowhere", code=1)


def test_credentials(server_factory):
    server = server_factory("--memory", "--set", "auth.user=alice", "--set", "auth.password=secret")
    alice = ["--username", "alice", "--password"]
    assert cells(run(server, *alice, "secret", "statement-query", "SELECT 1 AS n")) == [["1"]]
    for wrong in ([*alice, "wrong"], ["--token", "forged"], []):
        run(server, *wrong, "statement-query", "SELECT 1 AS n", code=1)
