"""The rest of the ADBC driver: ingest into catalogs and schemas, options, partitions, polling, cancel, credentials."""

import json
import os
import threading
import time

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import pyarrow as pa
import pytest

from adbc_support import STATUS, connect, eventually, refused, rows, run, scalar

DATABASE = adbc_driver_flightsql.DatabaseOptions
SESSION_OPTION = adbc_driver_flightsql.ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value
# Hours of work that the engine can interrupt at any moment.
ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"


# --- ingest ---


def test_ingest_into_a_schema(adbc, table):
    run(adbc, f"CREATE SCHEMA {table}")
    with adbc.cursor() as cursor:
        for mode in ("create", "append", "create_append", "replace"):
            assert cursor.adbc_ingest("t", pa.table({"n": [1, 2]}), mode=mode, db_schema_name=table) == 2
        assert rows(adbc, f"SELECT n FROM {table}.t ORDER BY 1") == [(1,), (2,)]
        cursor.adbc_ingest("t", pa.table({"n": [3]}), catalog_name="merganser", db_schema_name=table, mode="append")
        assert scalar(adbc, f"SELECT count(*) FROM merganser.{table}.t") == 3
        with refused(STATUS.NOT_FOUND, STATUS.INVALID_ARGUMENT, part="nowhere"):
            cursor.adbc_ingest("t", pa.table({"n": [1]}), db_schema_name="nowhere")
        with refused(STATUS.NOT_FOUND, STATUS.INVALID_ARGUMENT, part="nowhere"):
            cursor.adbc_ingest("t", pa.table({"n": [1]}), catalog_name="nowhere")


def test_append_goes_by_name(adbc, table):
    """Columns in another order, and some of them missing."""
    run(adbc, f"CREATE TABLE {table} (a BIGINT, b VARCHAR DEFAULT 'none', c DOUBLE)")
    with adbc.cursor() as cursor:
        cursor.adbc_ingest(table, pa.table({"c": [1.5], "a": [1]}), mode="append")
        with refused(STATUS.ALREADY_EXISTS, STATUS.INVALID_ARGUMENT, part="extra"):
            cursor.adbc_ingest(table, pa.table({"a": [1], "extra": [1]}), mode="append")
    assert [row[0::2] for row in rows(adbc, f"SELECT * FROM {table}")] == [(1, 1.5)]


def test_ingest_of_every_type(adbc, table):
    columns = {
        "a": pa.array([1, None], pa.float16()),
        "b": pa.array(["x", None], pa.large_string()),
        "c": pa.array(["x", None], pa.string_view()),
        "d": pa.array([b"x", None], pa.binary_view()),
        "e": pa.array([b"xy", None], pa.binary(2)),
        "f": pa.array([1, None], pa.decimal128(5, 2)),
        "g": pa.array([86_400_000, None], pa.date64()),
        "h": pa.array([1, None], pa.time32("s")),
        "i": pa.array([1000, None], pa.time64("ns")),
        "j": pa.array([1, None], pa.timestamp("ms", "Asia/Kolkata")),
        "k": pa.array([None, None], pa.null()),
        "l": pa.array(["x", None]).dictionary_encode(),
        "m": pa.array([[1], None], pa.list_(pa.int8())),
        "n": pa.array([{"a": 1}, None]),
        "o": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
        "p": pa.array([True, None]),
        "q": pa.array([2**64 - 1, None], pa.uint64()),
    }
    with adbc.cursor() as cursor:
        assert cursor.adbc_ingest(table, pa.table(columns)) == 2
        cursor.execute(f"SELECT * FROM {table}")
        found = cursor.fetch_arrow_table()
    for name, column in columns.items():
        assert len(found[name]) == 2 and found[name].null_count >= 1, name
    assert [found[name][0].as_py() for name in "abcdelmnopq"] == [
        *(1.0, "x", "x", b"x", b"xy", "x", [1], {"a": 1}, [("k", 1)], True, 2**64 - 1)
    ]


# --- options ---


def test_current_catalog_and_schema(adbc, table):
    assert (adbc.adbc_current_catalog, adbc.adbc_current_db_schema) == ("merganser", "main")
    run(adbc, f"CREATE SCHEMA {table}")
    adbc.adbc_current_db_schema = table
    assert adbc.adbc_current_db_schema == table
    assert scalar(adbc, "SELECT current_schema()") == table
    run(adbc, "CREATE TABLE inside AS SELECT 1 AS n")
    assert adbc.adbc_get_table_schema("inside").names == ["n"]
    with pytest.raises(adbc_driver_manager.Error):
        adbc.adbc_current_db_schema = "nowhere"
    with pytest.raises(adbc_driver_manager.Error):
        adbc.adbc_current_catalog = "nowhere"
    # SQL and options are about the same thing.
    run(adbc, "USE main")
    assert adbc.adbc_current_db_schema == "main"


def test_session_options(adbc):
    handle = adbc.adbc_connection
    handle.set_options(**{f"{SESSION_OPTION}TimeZone": "Asia/Kolkata"})
    assert handle.get_option(f"{SESSION_OPTION}TimeZone") == "Asia/Kolkata"
    assert scalar(adbc, "SELECT current_setting('TimeZone')") == "Asia/Kolkata"
    options = json.loads(handle.get_option(adbc_driver_flightsql.ConnectionOptions.OPTION_SESSION_OPTIONS.value))
    assert options["TimeZone"] == "Asia/Kolkata" and options["catalog"] == "merganser"
    erase = adbc_driver_flightsql.ConnectionOptions.OPTION_ERASE_SESSION_OPTION_PREFIX.value
    handle.set_options(**{f"{erase}TimeZone": ""})
    assert scalar(adbc, "SELECT current_setting('TimeZone')") == "UTC"
    with pytest.raises(adbc_driver_manager.Error):
        handle.set_options(**{f"{SESSION_OPTION}colour": "blue"})


def test_the_session_has_a_query_timeout(server, adbc):
    adbc.adbc_connection.set_options(**{f"{SESSION_OPTION}query_timeout": "300ms"})
    started = time.monotonic()
    with refused(STATUS.TIMEOUT):
        rows(adbc, ENDLESS)
    assert time.monotonic() - started < 10
    with connect(server) as other:
        assert scalar(other, "SELECT sum(range) FROM range(1000000)") == 499_999_500_000


def test_extension_types_are_asked_for(adbc):
    assert rows(adbc, "SELECT uuid()")[0][0].count("-") == 4
    adbc.adbc_connection.set_options(**{f"{SESSION_OPTION}extension_types": "arrow.uuid"})
    with adbc.cursor() as cursor:
        cursor.execute("SELECT '6f7a2b1e-0c4d-4a57-9d0b-0e3f5a1c2d3e'::UUID AS u")
        assert cursor.fetch_arrow_table().schema.field("u").type == pa.uuid()


# --- partitions and polling ---


def test_partitions(server, adbc):
    with adbc.cursor() as cursor:
        partitions, schema = cursor.adbc_execute_partitions("SELECT range AS n FROM range(100000)")
        assert schema == pa.schema([("n", pa.int64())])
        total = 0
        for partition in partitions:
            cursor.adbc_read_partition(partition)
            total += sum(row[0] for row in cursor.fetchall())
        assert total == 100_000 * 99_999 // 2


def test_incremental_execution(adbc):
    """The driver polls with PollFlightInfo until there is no more to come."""
    with adbc.cursor() as cursor:
        statement = cursor.adbc_statement
        statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        statement.set_sql_query("SELECT range AS n FROM range(1000)")
        found = []
        while True:
            partitions, _, _ = statement.execute_partitions()
            if not partitions:
                break
            found += partitions
        total = 0
        for partition in found:
            with adbc.cursor() as reader:
                reader.adbc_read_partition(partition)
                total += len(reader.fetchall())
        assert total == 1000


# --- cancel, deadlines ---


def test_cancel_while_the_server_works(adbc, table):
    """Cancelling from another thread interrupts a statement that has not answered yet; it leaves nothing."""
    with adbc.cursor() as cursor:
        timer = threading.Timer(0.3, cursor.adbc_cancel)
        timer.start()
        started = time.monotonic()
        with refused(STATUS.CANCELLED):
            cursor.execute(f"CREATE TABLE {table} AS {ENDLESS}")
        timer.join()
        assert time.monotonic() - started < 10
    with refused(STATUS.NOT_FOUND):
        rows(adbc, f"SELECT * FROM {table}")


def test_a_cancelled_query_stops_working(server, adbc):
    """Not only for the client: the server's processor is idle again."""

    def ticks():
        with open(f"/proc/{server.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def idle():
        before = ticks()
        time.sleep(0.2)
        return ticks() - before <= 0.05 * os.sysconf("SC_CLK_TCK")

    with adbc.cursor() as cursor:
        timer = threading.Timer(0.3, cursor.adbc_cancel)
        timer.start()
        with refused(STATUS.CANCELLED):
            cursor.execute(ENDLESS).fetchall()
        timer.join()
    eventually("the server is idle", idle)


def test_cancel_in_a_transaction(server, table):
    """The transaction is lost, the session is not."""
    with connect(server, autocommit=False) as connection:
        run(connection, f"CREATE TABLE {table} (n BIGINT)")
        connection.commit()
        with connection.cursor() as cursor:
            run(connection, f"INSERT INTO {table} VALUES (1)")
            timer = threading.Timer(0.3, cursor.adbc_cancel)
            timer.start()
            with refused(STATUS.CANCELLED):
                cursor.execute(f"INSERT INTO {table} {ENDLESS}")
            timer.join()
        connection.rollback()
        assert run(connection, f"INSERT INTO {table} VALUES (2)") == 1
        connection.commit()
        assert rows(connection, f"SELECT n FROM {table}") == [(2,)]


def test_timeouts_of_the_driver(server):
    timeouts = {
        adbc_driver_flightsql.ConnectionOptions.TIMEOUT_FETCH.value: "0.5",
        adbc_driver_flightsql.ConnectionOptions.TIMEOUT_UPDATE.value: "0.5",
    }
    with connect(server, conn_kwargs=timeouts) as connection:
        for sql in (ENDLESS, f"CREATE TABLE never AS {ENDLESS}"):
            started = time.monotonic()
            with refused(STATUS.TIMEOUT):
                rows(connection, sql)
            assert time.monotonic() - started < 10
        assert scalar(connection, "SELECT 1") == 1


# --- credentials ---


def test_credentials(server_factory):
    server = server_factory("--memory", "--set", "auth.user=alice", "--set", "auth.password=se:cret")
    good = {adbc_driver_manager.DatabaseOptions.USERNAME.value: "alice"}
    good[adbc_driver_manager.DatabaseOptions.PASSWORD.value] = "se:cret"
    with connect(server, db_kwargs=good) as connection:
        assert scalar(connection, "SELECT 1") == 1
    for wrong in (good | {"password": "se"}, good | {"username": "bob"}, {}):
        with refused(STATUS.UNAUTHENTICATED), connect(server, db_kwargs=wrong) as connection:
            rows(connection, "SELECT 1")


def test_a_header_of_ones_own(server_factory):
    """Basic as a header, as those set it who know nothing of handshakes."""
    server = server_factory("--memory", "--set", "auth.user=alice", "--set", "auth.password=secret")
    header = {DATABASE.AUTHORIZATION_HEADER.value: "Basic YWxpY2U6c2VjcmV0"}
    with connect(server, db_kwargs=header) as connection:
        assert scalar(connection, "SELECT 1") == 1


@pytest.mark.parametrize("cookies", ["true", "false"])
def test_with_and_without_cookies(server, cookies):
    options = {DATABASE.WITH_COOKIE_MIDDLEWARE.value: cookies}
    with connect(server, autocommit=False, db_kwargs=options) as connection:
        run(connection, "CREATE TEMP TABLE of_the_session AS SELECT 1 AS n")
        connection.commit()
        assert scalar(connection, "SELECT n FROM of_the_session") == 1


# --- sizes ---


def test_a_row_larger_than_a_message(server):
    """The driver takes 16 MiB; one row of 5 MiB is more than other clients take, and is sent all the same (rule 19)."""
    with connect(server) as connection:
        assert scalar(connection, "SELECT length(repeat('x', ?))", (5_000_000,)) == 5_000_000
        assert len(scalar(connection, "SELECT repeat('x', 5000000)")) == 5_000_000


def test_an_ingest_of_large_batches(server, table):
    """In one message of 14 MiB."""
    with connect(server) as connection, connection.cursor() as cursor:
        data = pa.table({"s": ["x" * 1_000_000] * 14})
        assert cursor.adbc_ingest(table, data.to_batches()[0]) == 14
        assert scalar(connection, f"SELECT sum(length(s)) FROM {table}") == 14_000_000
