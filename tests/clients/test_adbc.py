"""The ADBC Flight SQL driver, unchanged, through its DBAPI: what pandas, polars and BI tools build on."""

import threading
from datetime import datetime

import adbc_driver_manager
import pyarrow as pa
import pytest

import support
from support import action, some_events

STATUS = adbc_driver_manager.AdbcStatusCode


@pytest.fixture
def cursor(adbc):
    with adbc.cursor() as cursor:
        yield cursor


def rows(cursor, sql, parameters=None):
    cursor.execute(sql, parameters)
    return cursor.fetchall()


def refused(status, part, run, *arguments):
    with pytest.raises(adbc_driver_manager.Error) as caught:
        run(*arguments)
    assert caught.value.status_code == status, caught.value
    assert part in str(caught.value)


# --- statements ---


def test_select(cursor):
    cursor.execute("SELECT range AS n, 'row ' || range AS s FROM range(3)")
    assert [column[0] for column in cursor.description] == ["n", "s"]
    assert cursor.fetchone() == (0, "row 0")
    assert cursor.fetchall() == [(1, "row 1"), (2, "row 2")]


def test_fetch_arrow_table(cursor):
    cursor.execute("SELECT range AS n FROM range(200000)")
    table = cursor.fetch_arrow_table()
    assert table.schema == pa.schema([("n", pa.int64())])
    assert table.num_rows == 200_000


def test_fetch_df(cursor):
    cursor.execute("SELECT range AS n FROM range(10)")
    assert cursor.fetch_df()["n"].sum() == 45


def test_an_empty_result_has_its_columns(cursor):
    cursor.execute("SELECT 1::INTEGER AS n WHERE false")
    assert cursor.fetch_arrow_table().schema == pa.schema([("n", pa.int32())])


def test_ddl_and_dml_run_once(cursor, table):
    cursor.execute(f"CREATE TABLE {table} (n BIGINT)")
    cursor.execute(f"INSERT INTO {table} SELECT range FROM range(5)")
    assert cursor.rowcount == 5
    cursor.execute(f"UPDATE {table} SET n = n + 10 WHERE n >= 3")
    assert cursor.rowcount == 2
    cursor.execute(f"DELETE FROM {table} WHERE n = 0")
    assert cursor.rowcount == 1
    assert rows(cursor, f"SELECT n FROM {table} ORDER BY n") == [(1,), (2,), (13,), (14,)]
    cursor.execute(f"DROP TABLE {table}")
    refused(STATUS.NOT_FOUND, table, cursor.execute, f"SELECT * FROM {table}")


def test_returning_gives_rows(cursor, table):
    cursor.execute(f"CREATE TABLE {table} (n BIGINT)")
    assert rows(cursor, f"INSERT INTO {table} VALUES (1), (2) RETURNING n * 10") == [(10,), (20,)]
    assert rows(cursor, f"SELECT count(*) FROM {table}") == [(2,)]


def test_two_cursors_at_once(adbc):
    with adbc.cursor() as one, adbc.cursor() as two:
        one.execute("SELECT range FROM range(100000)")
        two.execute("SELECT -1")
        assert two.fetchall() == [(-1,)]
        assert sum(row[0] for row in one.fetchall()) == 100_000 * 99_999 // 2


def test_types_survive(cursor):
    [row] = rows(
        cursor,
        "SELECT true, 1::TINYINT, 2::UBIGINT, 1.5::DOUBLE, 1.25::DECIMAL(9, 2), DATE '2024-01-02', TIME '10:20:30',"
        " TIMESTAMP '2024-01-02 10:20:30.123456', [1, 2], {'a': 1}, '\\xAA'::BLOB, NULL, 'é'",
    )
    assert row[:4] == (True, 1, 2, 1.5)
    assert str(row[4]) == "1.25"
    assert (row[5].isoformat(), row[6].isoformat()) == ("2024-01-02", "10:20:30")
    assert row[7] == datetime(2024, 1, 2, 10, 20, 30, 123456)
    assert row[8:] == ([1, 2], {"a": 1}, b"\xaa", None, "é")


def test_cancel(adbc):
    with adbc.cursor() as cursor:
        cursor.execute("SELECT range AS n FROM range(100000000000)")
        timer = threading.Timer(0.3, cursor.adbc_cancel)
        timer.start()
        with pytest.raises(adbc_driver_manager.Error) as caught:
            while cursor.fetchmany(10_000):
                pass
        timer.join()
        assert caught.value.status_code == STATUS.CANCELLED
    with adbc.cursor() as cursor:
        assert rows(cursor, "SELECT 1") == [(1,)]


# --- ingest ---


def test_ingest_makes_events_of_their_columns(cursor, flight, table, events):
    assert cursor.adbc_ingest(table, events, mode="create") == 2000
    assert action(flight, "get_metadata", table=table)[0]["type"] == "events"
    [schema] = action(flight, "get_schema", table=table)
    assert [column["name"] for column in schema["columns"] if column["primary_key"]] == ["insert_id"]
    cursor.adbc_ingest(table, events.slice(0, 100), mode="append")
    assert rows(cursor, f"SELECT count(*) FROM {table}") == [(2000,)]


def test_ingest_makes_profiles_of_their_columns(cursor, flight, table, profiles):
    assert cursor.adbc_ingest(table, profiles, mode="create") == 200
    assert action(flight, "get_metadata", table=table)[0]["type"] == "profiles"


def test_ingest_makes_a_plain_table_of_other_columns(cursor, flight, table):
    cursor.adbc_ingest(table, pa.table({"x": [1, 2, 3], "s": ["a", None, "c"]}), mode="create")
    assert rows(cursor, f"SELECT * FROM {table} ORDER BY x") == [(1, "a"), (2, None), (3, "c")]
    [listed] = action(flight, "list_tables", name_like=table)
    assert listed["kind"] == "table"


def test_ingest_modes(cursor, table):
    one, two = pa.table({"x": [1]}), pa.table({"x": [2]})
    refused(STATUS.NOT_FOUND, table, lambda: cursor.adbc_ingest(table, one, mode="append"))
    cursor.adbc_ingest(table, one, mode="create_append")
    refused(STATUS.ALREADY_EXISTS, table, lambda: cursor.adbc_ingest(table, one, mode="create"))
    cursor.adbc_ingest(table, two, mode="append")
    cursor.adbc_ingest(table, two, mode="create_append")
    assert rows(cursor, f"SELECT x FROM {table} ORDER BY 1") == [(1,), (2,), (2,)]
    cursor.adbc_ingest(table, two, mode="replace")
    assert rows(cursor, f"SELECT x FROM {table}") == [(2,)]


def test_ingest_of_a_stream(cursor, table, events):
    batches = events.to_batches(max_chunksize=100)
    cursor.adbc_ingest(table, pa.RecordBatchReader.from_batches(events.schema, batches), mode="create")
    assert rows(cursor, f"SELECT count(*) FROM {table}") == [(2000,)]


def test_ingest_of_nothing_makes_the_table(cursor, table):
    # One batch without rows: of a stream without any batch the driver sends nothing at all, not even its name.
    schema = pa.schema([("x", pa.int64())])
    batches = [pa.RecordBatch.from_pylist([], schema=schema)]
    cursor.adbc_ingest(table, pa.RecordBatchReader.from_batches(schema, batches), mode="create")
    assert rows(cursor, f"SELECT count(*) FROM {table}") == [(0,)]


def test_bad_rows_are_refused(cursor, flight, table):
    bad = some_events(["a", None])
    refused(STATUS.INVALID_ARGUMENT, "row 2", lambda: cursor.adbc_ingest(table, bad, mode="create"))
    assert not support.table_exists(flight, table)


# --- what tools ask ---


def test_table_schema(adbc, cursor, table):
    cursor.adbc_ingest(table, some_events(["a"]), mode="create")
    schema = adbc.adbc_get_table_schema(table)
    assert schema.names == ["event_name", "event_time", "distinct_id", "insert_id", "properties"]
    assert [field.nullable for field in schema] == [False, False, False, False, True]


def test_objects(adbc, cursor, table):
    cursor.adbc_ingest(table, some_events(["a"]), mode="create")
    objects = adbc.adbc_get_objects(depth="columns", table_name_filter=table).read_all().to_pylist()
    found = {
        found["table_name"]: [column["column_name"] for column in found["table_columns"]]
        for catalog in objects
        for schema in catalog["catalog_db_schemas"] or []
        for found in schema["db_schema_tables"] or []
    }
    assert found == {table: ["event_name", "event_time", "distinct_id", "insert_id", "properties"]}
    everything = adbc.adbc_get_objects(depth="tables").read_all().to_pylist()
    assert "_metadata" not in str(everything)


def test_table_types_and_info(adbc):
    assert "VIEW" in adbc.adbc_get_table_types()
    info = adbc.adbc_get_info()
    assert info["vendor_name"] and info["vendor_version"]


# --- errors ---


@pytest.mark.parametrize(
    ("sql", "status", "part"),
    [
        ("SELEC 1", STATUS.INVALID_ARGUMENT, "SELEC"),
        ("SELECT * FROM nowhere", STATUS.NOT_FOUND, "nowhere"),
        ("SELECT 1; SELECT 2", STATUS.INVALID_ARGUMENT, "one statement"),
        ("SELECT 'x'::INTEGER", STATUS.INVALID_ARGUMENT, "x"),
    ],
)
def test_errors_have_their_codes(cursor, sql, status, part):
    def run():
        cursor.execute(sql)
        cursor.fetchall()

    refused(status, part, run)


def test_creating_twice(cursor, table):
    cursor.execute(f"CREATE TABLE {table} (x INTEGER)")
    refused(STATUS.ALREADY_EXISTS, table, cursor.execute, f"CREATE TABLE {table} (x INTEGER)")


def test_pandas_reads_through_adbc(adbc):
    import pandas

    frame = pandas.read_sql("SELECT range AS n FROM range(5)", adbc)
    assert frame["n"].tolist() == [0, 1, 2, 3, 4]
