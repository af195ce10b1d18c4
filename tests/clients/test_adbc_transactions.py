"""Transactions, sessions and temporary tables through the ADBC driver, whose DBAPI begins a transaction on its own."""

import threading

import pyarrow as pa
import pytest

from adbc_support import STATUS, connect, eventually, open_on, refused, rows, run, scalar
from support import some_events


@pytest.fixture
def pair(server):
    """Two connections with transactions."""
    with connect(server, autocommit=False) as one, connect(server, autocommit=False) as other:
        yield one, other


@pytest.fixture
def made(adbc, table):
    """A table of one column, committed."""
    run(adbc, f"CREATE TABLE {table} (n BIGINT)")
    return table


# --- commit and rollback ---


def test_others_see_what_is_committed(pair, made):
    one, other = pair
    assert run(one, f"INSERT INTO {made} VALUES (1), (2)") == 2
    assert scalar(one, f"SELECT count(*) FROM {made}") == 2
    assert scalar(other, f"SELECT count(*) FROM {made}") == 0
    other.commit()
    one.commit()
    assert scalar(other, f"SELECT count(*) FROM {made}") == 2


def test_rollback(pair, made):
    one, other = pair
    run(one, f"INSERT INTO {made} VALUES (1)")
    one.rollback()
    assert scalar(one, f"SELECT count(*) FROM {made}") == 0
    # And again, in the next transaction.
    run(one, f"INSERT INTO {made} VALUES (2)")
    one.commit()
    assert rows(other, f"SELECT n FROM {made}") == [(2,)]


def test_a_transaction_sees_one_moment(pair, made):
    one, other = pair
    assert scalar(one, f"SELECT count(*) FROM {made}") == 0
    run(other, f"INSERT INTO {made} VALUES (1)")
    other.commit()
    assert scalar(one, f"SELECT count(*) FROM {made}") == 0
    one.commit()
    assert scalar(one, f"SELECT count(*) FROM {made}") == 1


def test_ddl_is_part_of_it(pair, table):
    one, other = pair
    run(one, f"CREATE TABLE {table} AS SELECT 1 AS n")
    with refused(STATUS.NOT_FOUND, part=table):
        rows(other, f"SELECT * FROM {table}")
    other.rollback()
    one.rollback()
    with refused(STATUS.NOT_FOUND, part=table):
        rows(one, f"SELECT * FROM {table}")


def test_an_error_leaves_a_way_back(pair, made):
    one, other = pair
    run(one, f"INSERT INTO {made} VALUES (1)")
    with refused(STATUS.INVALID_ARGUMENT):
        rows(one, "SELECT 'x'::INTEGER")
    one.rollback()
    assert run(one, f"INSERT INTO {made} VALUES (2)") == 1
    one.commit()
    assert rows(other, f"SELECT n FROM {made}") == [(2,)]


def test_a_conflict_is_told(pair, made):
    one, other = pair
    run(one, f"INSERT INTO {made} VALUES (1)")
    one.commit()
    run(one, f"UPDATE {made} SET n = 2")
    with refused(STATUS.UNKNOWN, STATUS.INVALID_STATE, STATUS.INTERNAL, STATUS.INVALID_ARGUMENT, part="onflict"):
        run(other, f"UPDATE {made} SET n = 3")
        other.commit()
    other.rollback()
    one.commit()
    assert rows(other, f"SELECT n FROM {made}") == [(2,)]


@pytest.mark.parametrize("first", ["insert", "delete", "ingest"])
def test_what_is_committed_while_the_first_statement_waits_is_no_conflict(pair, adbc, table, first):
    """A transaction sees the state after its first wait for a table, and not the one before."""
    one, other = pair

    def write(connection, key):
        values = f"('a', TIMESTAMP '2024-01-01 00:00:00', 'user', '{key}', NULL)"
        if first == "insert":
            return run(connection, f"INSERT INTO {table} VALUES {values}")
        if first == "delete":
            return run(connection, f"DELETE FROM {table} WHERE insert_id = '{key}'")
        with connection.cursor() as cursor:
            return cursor.adbc_ingest(table, some_events([key]), mode="append")

    with adbc.cursor() as cursor:
        cursor.adbc_ingest(table, some_events(["x", "y", "kept"]), mode="create")
    keys = ["x", "y"] if first == "delete" else ["new", "other"]
    assert write(one, keys[0]) == 1
    written = []
    waiting = threading.Thread(target=lambda: written.append(write(other, keys[1])))
    waiting.start()
    waiting.join(0.5)
    assert not written, "it did not wait"
    one.commit()
    waiting.join()
    assert written == [1]
    other.commit()
    left = 1 if first == "delete" else 5
    assert scalar(adbc, f"SELECT count(*) FROM {table}") == left
    assert scalar(adbc, f"SELECT row_count FROM _metadata WHERE table_name = '{table}'") == left


def test_closing_rolls_back(server, adbc, made):
    with connect(server, autocommit=False) as connection:
        run(connection, f"INSERT INTO {made} VALUES (1)")
    assert scalar(adbc, f"SELECT count(*) FROM {made}") == 0


def test_switching_autocommit_on_commits(server, adbc, made):
    with connect(server, autocommit=False) as connection:
        run(connection, f"INSERT INTO {made} VALUES (1)")
        connection.adbc_connection.set_autocommit(True)
        assert scalar(adbc, f"SELECT count(*) FROM {made}") == 1
        run(connection, f"INSERT INTO {made} VALUES (2)")
        assert scalar(adbc, f"SELECT count(*) FROM {made}") == 2
        connection.adbc_connection.set_autocommit(False)
        run(connection, f"INSERT INTO {made} VALUES (3)")
        connection.rollback()
        assert scalar(connection, f"SELECT count(*) FROM {made}") == 2


def test_sql_transactions(adbc, server, made):
    """BEGIN, COMMIT and ROLLBACK as SQL, with the driver's autocommit on: the session keeps them (rule 18)."""
    with connect(server) as other:
        run(adbc, "BEGIN")
        run(adbc, f"INSERT INTO {made} VALUES (1)")
        assert scalar(other, f"SELECT count(*) FROM {made}") == 0
        run(adbc, "COMMIT")
        assert scalar(other, f"SELECT count(*) FROM {made}") == 1
        run(adbc, "BEGIN TRANSACTION")
        run(adbc, f"DELETE FROM {made}")
        run(adbc, "ROLLBACK")
        assert scalar(other, f"SELECT count(*) FROM {made}") == 1


def test_transactions_with_parameters(pair, made):
    one, other = pair
    with one.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {made} VALUES (?)", [(n,) for n in range(100)])
    assert scalar(one, f"SELECT count(*) FROM {made} WHERE n < ?", (50,)) == 50
    assert scalar(other, f"SELECT count(*) FROM {made}") == 0
    one.commit()
    other.rollback()
    assert scalar(other, f"SELECT count(*) FROM {made}") == 100


def test_an_idle_transaction_costs_nothing(server, made):
    """The driver begins one at connect and after each commit: that must not stop anybody."""
    idle = [connect(server, autocommit=False) for _ in range(20)]
    try:
        with connect(server) as worker:
            run(worker, f"INSERT INTO {made} SELECT range FROM range(1000)")
            assert scalar(idle[0], f"SELECT count(*) FROM {made}") == 1000
    finally:
        for connection in idle:
            connection.close()


# --- ingest ---


def test_an_ingest_is_part_of_the_transaction(pair, table):
    """The driver sends no transaction with an ingest: it belongs to the one that its session has open (rule 17)."""
    one, other = pair
    with one.cursor() as cursor:
        assert cursor.adbc_ingest(table, pa.table({"n": [1, 2]}), mode="create") == 2
    assert scalar(one, f"SELECT count(*) FROM {table}") == 2
    with refused(STATUS.NOT_FOUND, part=table):
        rows(other, f"SELECT * FROM {table}")
    one.rollback()
    other.rollback()
    with refused(STATUS.NOT_FOUND, part=table):
        rows(one, f"SELECT * FROM {table}")
    one.rollback()
    with one.cursor() as cursor:
        cursor.adbc_ingest(table, pa.table({"n": [3]}), mode="create")
    one.commit()
    assert rows(other, f"SELECT n FROM {table}") == [(3,)]


def test_an_ingest_into_a_table_that_the_transaction_made(pair, table):
    one, other = pair
    run(one, f"CREATE TABLE {table} (n BIGINT)")
    with one.cursor() as cursor:
        cursor.adbc_ingest(table, pa.table({"n": [1]}), mode="append")
    one.commit()
    assert rows(other, f"SELECT n FROM {table}") == [(1,)]


def test_an_ingest_of_events_is_part_of_it_too(pair, table):
    one, other = pair
    with one.cursor() as cursor:
        cursor.adbc_ingest(table, some_events(["a", "b"]), mode="create")
    one.commit()
    with one.cursor() as cursor:
        cursor.adbc_ingest(table, some_events(["b", "c"]), mode="append")
    assert scalar(other, f"SELECT count(*) FROM {table}") == 2
    one.rollback()
    assert rows(one, f"SELECT insert_id FROM {table} ORDER BY 1") == [("a",), ("b",)]


# --- what belongs to one connection ---


def test_temporary_tables_are_ones_own(server, adbc):
    run(adbc, "CREATE TEMP TABLE own AS SELECT 1 AS n")
    with connect(server) as other:
        with refused(STATUS.NOT_FOUND, part="own"):
            rows(other, "SELECT * FROM own")
        run(other, "CREATE TEMP TABLE own AS SELECT 2 AS n")
        assert (rows(adbc, "SELECT n FROM own"), rows(other, "SELECT n FROM own")) == ([(1,)], [(2,)])
    assert rows(adbc, "SELECT n FROM own") == [(1,)]


@pytest.mark.parametrize("mode", ["create", "append", "create_append", "replace"])
def test_temporary_ingest(server, adbc, table, mode):
    """A temporary table hides one of the same name, and does not touch it."""
    run(adbc, f"CREATE TABLE {table} AS SELECT 'all' AS s")
    name = table
    with adbc.cursor() as cursor:
        if mode == "append":
            with refused(STATUS.NOT_FOUND):
                cursor.adbc_ingest(name, pa.table({"n": [1]}), mode=mode, temporary=True)
            run(adbc, f"CREATE TEMP TABLE {name} (n BIGINT)")
        assert cursor.adbc_ingest(name, pa.table({"n": [1, 2]}), mode=mode, temporary=True) == 2
    assert rows(adbc, f"SELECT n FROM temp.{name} ORDER BY 1") == [(1,), (2,)]
    with connect(server) as other:
        assert rows(other, f"SELECT s FROM {name}") == [("all",)]
        with refused(STATUS.NOT_FOUND):
            rows(other, f"SELECT * FROM temp.{name}")


def test_variables_and_settings(server, adbc):
    run(adbc, "SET VARIABLE limit_of_mine = 7")
    run(adbc, "SET TimeZone = 'Asia/Kolkata'")
    with connect(server) as other:
        assert scalar(adbc, "SELECT getvariable('limit_of_mine')") == 7
        assert scalar(other, "SELECT getvariable('limit_of_mine')") is None
        sql = "SELECT TIMESTAMPTZ '2024-01-01 00:00:00+00'::VARCHAR"
        assert (scalar(adbc, sql), scalar(other, sql)) == ("2024-01-01 05:30:00+05:30", "2024-01-01 00:00:00+00")


def test_schemas(server, adbc, table):
    run(adbc, f"CREATE SCHEMA {table}")
    run(adbc, f"USE {table}")
    run(adbc, "CREATE TABLE inside AS SELECT 1 AS n")
    assert rows(adbc, "SELECT n FROM inside") == [(1,)]
    with connect(server) as other:
        with refused(STATUS.NOT_FOUND):
            rows(other, "SELECT n FROM inside")
        assert rows(other, f"SELECT n FROM {table}.inside") == [(1,)]


def test_closing_ends_the_session(server):
    before = open_on(server)
    with connect(server) as connection, connection.cursor() as cursor:
        run(connection, "CREATE TEMP TABLE gone AS SELECT 1 AS n")
        cursor.adbc_prepare("SELECT ?")
        assert open_on(server)[0] > before[0]
    eventually("the session is gone", lambda: open_on(server) <= before)


# --- several cursors ---


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_cursors_take_turns(server, table, autocommit):
    """A result is read to its end, whatever else its connection does meanwhile."""
    with connect(server) as maker:
        run(maker, f"CREATE TABLE {table} AS SELECT range AS n FROM range(300000)")
    with connect(server, autocommit=autocommit) as connection:
        with connection.cursor() as one, connection.cursor() as two, connection.cursor() as three:
            one.execute(f"SELECT n FROM {table}")
            first = one.fetchmany(10)
            two.execute(f"SELECT n + 1 FROM {table}")
            assert len(two.fetchmany(10)) == 10
            three.execute(f"INSERT INTO {table} VALUES (-1)")
            assert three.rowcount == 1
            assert scalar(connection, f"SELECT count(*) FROM {table}") == 300_001
            assert len(first) + len(one.fetchall()) == 300_000
            assert 10 + len(two.fetchall()) == 300_000


def test_a_result_left_in_the_middle(server, table):
    """Its transaction goes on."""
    with connect(server, autocommit=False) as connection:
        run(connection, f"CREATE TABLE {table} (n BIGINT)")
        for turn in range(20):
            with connection.cursor() as cursor:
                cursor.execute("SELECT range AS n FROM range(1000000)")
                assert len(cursor.fetchmany(10)) == 10
            run(connection, f"INSERT INTO {table} VALUES ({turn})")
        connection.commit()
        assert scalar(connection, f"SELECT count(*) FROM {table}") == 20


def test_threads_share_a_connection(server, table):
    """The driver lets several threads use one connection: their statements do not mix."""
    failures = []

    def work(connection, number):
        try:
            for turn in range(10):
                assert scalar(connection, f"SELECT {number} * 1000 + ?::BIGINT", (turn,)) == number * 1000 + turn
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT {number} AS n FROM range(5000)")
                    assert set(cursor.fetchall()) == {(number,)}
        except BaseException as error:
            failures.append(error)

    with connect(server) as connection:
        threads = [threading.Thread(target=work, args=(connection, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures, failures
