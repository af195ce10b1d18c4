"""The workflows of the replaced engine's quickstart, over the wire on real data: the same results as DuckDB in-process.

The data is the sample, or all that it was taken from: MERGANSER_FULL_DATA names the directory of events.ndjson.gz and
profiles.ndjson.gz.
"""

import json
import os
import pathlib
import subprocess

import duckdb
import pytest

import support
from support import action, count, ingest, path, put, query, refused, scalar, some_events, table_exists

# Queries that name the tables events and profiles; all have an order.
QUERIES = {
    "count by name": "SELECT event_name, count(*) AS count FROM events GROUP BY event_name ORDER BY 1",
    "top properties": (
        "SELECT properties->>'$.page' AS page, count(*) AS views FROM events WHERE event_name = 'page view'"
        " GROUP BY page ORDER BY views DESC, page LIMIT 10"
    ),
    "numeric property": (
        "SELECT event_name, CAST(properties->>'$.amount' AS DECIMAL) AS amount FROM events"
        " WHERE CAST(properties->>'$.amount' AS DECIMAL) > 100 ORDER BY 2, insert_id"
    ),
    "sum": "SELECT sum(CAST(properties->>'$.amount' AS BIGINT)) AS total FROM events",
    "nested property": (
        "SELECT properties->>'$.device.os' AS os, count(DISTINCT distinct_id) AS users FROM events GROUP BY os ORDER BY os"
    ),
    "nested array": (
        "SELECT insert_id, properties->>'$.cart[0].category' AS category, CAST(properties->>'$.cart[0].value' AS BIGINT) AS value"
        " FROM events WHERE category IS NOT NULL ORDER BY insert_id"
    ),
    "quoted path": (
        "SELECT properties->>'$.\"$source\"' AS source, count(*) AS n FROM events GROUP BY source ORDER BY source"
    ),
    "nested in profiles": (
        "SELECT properties->>'$.experiment.variant' AS variant, properties->>'$.timezone.utc[0]' AS zone, count(*) AS n"
        " FROM profiles GROUP BY ALL ORDER BY ALL"
    ),
    "json array": "SELECT insert_id, json_array_length(properties->'$.cart') AS n FROM events WHERE n > 0 ORDER BY 1",
    "property keys": (
        "SELECT DISTINCT unnest(json_keys(properties)) AS key FROM events WHERE event_name = 'checkout' ORDER BY key"
    ),
    "days": "SELECT date_trunc('day', event_time) AS day, count(*) AS n FROM events GROUP BY day ORDER BY day",
    "time range": "SELECT min(event_time), max(event_time), count(DISTINCT distinct_id) FROM events",
    "after a time": "SELECT insert_id FROM events WHERE event_time > '2026-10-01' ORDER BY 1",
    "text of the properties": "SELECT insert_id, properties FROM events ORDER BY insert_id",
    "profiles": "SELECT distinct_id, properties->>'$.$email' AS email, last_seen FROM profiles ORDER BY 1",
    "join": (
        "SELECT p.properties->>'$.title' AS title, count(*) AS n FROM events e JOIN profiles p USING (distinct_id)"
        " GROUP BY title ORDER BY n DESC, title"
    ),
    "share by event": (
        "SELECT event_name, count(*) AS n, min(event_time) AS first, max(event_time) AS last,"
        " round(100.0 * count(*) / sum(count(*)) OVER (), 2) AS share FROM events GROUP BY 1 ORDER BY n DESC, 1"
    ),
    "window": (
        "SELECT distinct_id, event_time - lag(event_time) OVER (PARTITION BY distinct_id ORDER BY event_time, insert_id)"
        " AS gap FROM events QUALIFY gap IS NOT NULL ORDER BY 1, 2 LIMIT 100"
    ),
}


@pytest.fixture(scope="module")
def data():
    return pathlib.Path(os.environ.get("MERGANSER_FULL_DATA") or support.DATA)


@pytest.fixture(scope="module")
def events(data):
    return support.events_table(data)


@pytest.fixture(scope="module")
def profiles(data):
    return support.profiles_table(data)


@pytest.fixture(scope="module")
def reference(events, profiles):
    """DuckDB in this process, with the data in tables as the replaced engine made them."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        "CREATE TABLE events (event_name VARCHAR NOT NULL, event_time TIMESTAMP NOT NULL, distinct_id VARCHAR NOT NULL,"
        " insert_id VARCHAR PRIMARY KEY, properties JSON)"
    )
    connection.execute("CREATE TABLE profiles (distinct_id VARCHAR PRIMARY KEY, properties JSON, last_seen TIMESTAMP)")
    connection.register("event_rows", events)
    connection.register("profile_rows", profiles)
    connection.execute("INSERT INTO events SELECT * FROM event_rows")
    connection.execute("INSERT INTO profiles SELECT * FROM profile_rows")
    return connection


@pytest.fixture(scope="module")
def loaded(server, events, profiles):
    """A server that has the data from DoPut."""
    with server.flight() as client:
        put(client, path("events", "events"), events, batch_rows=500)
        put(client, path("profiles", "profiles"), profiles)
    return server


@pytest.fixture(scope="module")
def imported(tmp_path_factory, data, events, profiles):
    """A server that has the data from `merganser ingest`, which was run twice."""
    server = support.Server(["--memory"], tmp_path_factory.mktemp("imported"), "server").wait_until_ready()
    try:
        for name, rows in [("events", events.num_rows), ("profiles", profiles.num_rows)]:
            command = [os.environ["MERGANSER_BIN"], "ingest", data / f"{name}.ndjson.gz", "--table", name, "--json"]
            for inserted, duplicate in [(rows, 0), (0, rows)]:
                run = subprocess.run([*command, "--server", server.uri], capture_output=True, text=True, timeout=60)
                assert run.returncode == 0, run.stderr
                told = json.loads(run.stdout)
                assert (told["rows_inserted"], told["rows_duplicate"]) == (inserted, duplicate)
        yield server
    finally:
        server.stop()


def answers(server, sql):
    """What pyarrow and ADBC get."""
    with server.flight() as client:
        flight = query(client, sql)
    with server.adbc() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        adbc = cursor.fetch_arrow_table()
    return flight, adbc


@pytest.mark.parametrize("name", QUERIES)
def test_queries_answer_as_in_process(loaded, reference, name):
    expected = reference.sql(QUERIES[name]).to_arrow_table()
    assert expected.num_rows > 0
    for result in answers(loaded, QUERIES[name]):
        assert result.to_pylist() == expected.to_pylist()
        # JSON may say that it is JSON; it is text in both.
        types = [getattr(kind, "storage_type", kind) for kind in result.schema.types]
        assert types == expected.schema.types


def with_read_properties(table):
    """The rows, with the properties' values: spaces and escapes are as in the exported file, or as Python writes them."""
    rows = table.to_pylist()
    return [row | {"properties": json.loads(row["properties"])} if "properties" in row else row for row in rows]


@pytest.mark.parametrize("name", QUERIES)
def test_imported_files_answer_as_in_process(imported, reference, name):
    expected = with_read_properties(reference.sql(QUERIES[name]).to_arrow_table())
    for result in answers(imported, QUERIES[name]):
        assert with_read_properties(result) == expected


def test_data_frames(loaded, reference):
    with loaded.flight() as client:
        frame = query(client, QUERIES["count by name"]).to_pandas()
    assert frame.to_dict("list") == reference.sql(QUERIES["count by name"]).df().to_dict("list")
    assert frame.describe()["count"]["count"] == len(frame)


def test_introspection(loaded, reference, events, profiles):
    with loaded.flight() as client:
        listed = {row["name"]: (row["kind"], row["row_count"]) for row in action(client, "list_tables", kind="events")}
        assert listed["events"] == ("events", events.num_rows)
        [schema] = action(client, "get_schema", table="events")
        columns = [(column["name"], column["type"]) for column in schema["columns"]]
        described = reference.sql("SELECT name, type FROM pragma_table_info('events')").fetchall()
        assert columns == described
        [metadata] = action(client, "get_metadata", table="profiles")
        assert (metadata["type"], metadata["row_count"]) == ("profiles", profiles.num_rows)


def test_streaming_a_generator_with_progress(flight, table):
    """The quickstart's main job: rows made one by one, in batches, told of at each."""
    command = ingest(table, kind="events", progress="every_batch", metadata={"from_date": "2024-01-01"})
    batch = some_events([]).schema
    writer, reader = flight.do_put(command, batch)
    reader.read()
    told = []
    for start in range(0, 10_000, 1_000):
        writer.write_table(some_events([f"imp_{index}" for index in range(start, start + 1_000)]))
        told.append(reader.read().to_pybytes())
    writer.done_writing()
    writer.close()
    assert len(told) == 10 and b"10000" in told[-1]
    assert count(flight, table) == 10_000


def test_replacing_a_table(flight, table):
    put(flight, path("events", table), some_events(["old"]))
    if table_exists(flight, table):
        action(flight, "drop_table", table=table)
    put(flight, path("events", table), some_events(["new"]))
    assert scalar(flight, f"SELECT insert_id FROM {table}") == "new"


def test_errors(flight, table):
    put(flight, path("events", table), some_events(["a"]))
    with refused("ALREADY_EXISTS", table):
        put(flight, path("events", table), some_events(["a"]))
    with refused("NOT_FOUND", "missing_table"):
        action(flight, "get_schema", table="missing_table")
    with refused("NOT_FOUND", "nonexistent"):
        query(flight, "SELECT * FROM nonexistent")
