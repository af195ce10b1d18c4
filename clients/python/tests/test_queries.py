"""Queries: relations, parameters, values, errors; on a server in memory."""

import threading
import time
import uuid
from datetime import date, datetime, timezone
from decimal import Decimal

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from support import event

from merganser import (
    AuthError,
    InvalidDataError,
    QueryCancelled,
    QueryError,
    ResourceError,
    SQLResult,
    StorageEngine,
    _cancel,
    _client,
)


@pytest.fixture
def ev(engine):
    engine.create_events_table("ev", [event(number) for number in range(10)])
    return engine


def test_a_relation_runs_when_it_is_asked(ev):
    relation = ev.execute("SELECT insert_id, (properties->>'$.amount')::INT AS amount FROM ev")
    assert relation.columns == ["insert_id", "amount"]
    assert relation.types == ["VARCHAR", "INTEGER"]
    some = relation.filter("amount > 3").project("amount", "amount % 2 AS odd").order("amount DESC").limit(3, offset=1)
    assert some.fetchall() == [(8, 0), (7, 1), (6, 0)]
    assert some.aggregate("odd, count(*) AS n").order("odd").fetchall() == [(0, 2), (1, 1)]
    assert some.aggregate("sum(amount)").fetchone() == (21,)
    ev.append_events_table("ev", [event(100)])
    assert len(relation.fetchall()) == 11


def test_a_relation_in_every_form(ev):
    relation = ev.execute("SELECT insert_id AS id, event_time FROM ev").order("id").limit(2)
    assert isinstance(relation.df(), pd.DataFrame)
    assert relation.df()["id"].tolist() == relation.arrow()["id"].to_pylist() == relation.pl()["id"].to_list()
    reader = relation.fetch_record_batch()
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.read_all().num_rows == 2


def test_rows_one_after_the_other(ev):
    relation = ev.execute("SELECT range FROM range(10000)")
    assert [relation.fetchone() for _ in range(3)] == [(0,), (1,), (2,)]
    assert relation.fetchmany(2) == [(3,), (4,)]
    rest = relation.fetchall()
    assert (rest[0], rest[-1]) == ((5,), (9999,))
    assert relation.fetchone() == (0,)
    relation.close()
    assert ev.execute("SELECT 1 WHERE false").fetchone() is None


@pytest.mark.parametrize("end", [";", " ; -- a comment", "\n-- a comment", "\n-- it's", ";\n;"])
def test_a_relation_of_text_with_an_end(ev, end):
    relation = ev.execute("SELECT insert_id FROM ev WHERE distinct_id <> ';--'" + end)
    assert relation.aggregate("count(*)").fetchall() == [(10,)]


def test_what_changes_something_runs_at_once(engine):
    engine.execute("CREATE TABLE t (n INTEGER)")
    made = engine.execute("INSERT INTO t SELECT range FROM range(5)")
    assert engine.execute_scalar("SELECT count(*) FROM t") == 5
    assert engine.execute("INSERT INTO t VALUES (7), (8) RETURNING n").fetchall() == [(7,), (8,)]
    assert engine.execute_scalar("SELECT count(*) FROM t") == 7
    engine.execute("WITH a AS (SELECT 9 AS n) INSERT INTO t SELECT n FROM a")
    assert engine.execute_scalar("SELECT count(*) FROM t WHERE n = 9") == 1
    engine.execute_rows("DELETE FROM t WHERE n = $n", {"n": 9})
    assert engine.execute_scalar("SELECT count(*) FROM t") == 7
    with pytest.raises(QueryError, match="ran at once"):
        made.limit(1)


@pytest.mark.parametrize("sql", ["SHOW TABLES", "DESCRIBE ev", "SUMMARIZE ev", "FROM ev", "EXPLAIN SELECT 1", "VALUES (1)"])
def test_other_statements_that_have_rows(ev, sql):
    assert ev.execute(sql).fetchall()
    assert len(ev.execute_rows(sql)) > 0
    assert len(ev.execute_df(sql)) > 0


def test_scalars(ev):
    assert ev.execute_scalar("SELECT count(*) FROM ev") == 10
    assert ev.execute_scalar("SELECT sum((properties->>'$.amount')::BIGINT) FROM ev") == 45
    assert type(ev.execute_scalar("SELECT sum(range) FROM range(5)")) is int
    assert ev.execute_scalar("SELECT 1 WHERE false") is None
    assert ev.execute_scalar("SELECT NULL") is None
    # Of a large result, no more is read than is needed.
    started = time.monotonic()
    assert ev.execute_scalar("SELECT range FROM range(1000000000)") == 0
    assert time.monotonic() - started < 20


def test_rows_have_their_columns(ev):
    result = ev.execute_rows("SELECT insert_id, 1 AS n FROM ev ORDER BY 1 LIMIT 2")
    assert isinstance(result, SQLResult)
    assert result.columns == ("insert_id", "n")
    assert [name for name, _ in result] == ["evt_0", "evt_1"]
    assert result.to_dicts()[1] == {"insert_id": "evt_1", "n": 1}


PARAMETERS = [
    5,
    2.5,
    "é'\"",
    None,
    True,
    b"\0x",
    date(2024, 1, 2),
    datetime(2024, 1, 2, 3, 4, 5, 6),
    Decimal("1.50"),
    [1, 2],
    2**40,
]


@pytest.mark.parametrize("value", PARAMETERS, ids=repr)
def test_parameters(engine, value):
    assert engine.execute_scalar("SELECT ?", [value]) == value
    assert engine.execute_rows("SELECT $b, $a", {"a": value, "b": 1})[0] == (1, value)
    relation = engine.execute("SELECT ? AS v", [value])
    assert relation.limit(5).project("v").fetchall() == [(value,)]


def test_parameters_that_do_not_fit(engine):
    assert engine.execute_scalar("SELECT ?::UUID", [uuid.UUID(int=7)]) == uuid.UUID(int=7)
    assert engine.execute_rows_params("SELECT ? + ?", [1, 2])[0] == (3,)
    assert engine.execute_df("SELECT $x::INT AS x", {"x": 5})["x"].tolist() == [5]
    assert engine.execute_rows("SELECT $x + $y + $x AS s", {"y": 1, "x": 5}).rows == ((11,),)
    with pytest.raises(InvalidDataError, match=r"\$y"):
        engine.execute_rows("SELECT $x + $y", {"x": 5})
    with pytest.raises(InvalidDataError, match=r"\$z"):
        engine.execute_rows("SELECT $x", {"x": 5, "z": 1})
    with pytest.raises(InvalidDataError, match="one alone"):
        engine.execute_rows("SELECT ?", "x")
    with pytest.raises(InvalidDataError, match="parameter 2: object"):
        engine.execute_rows("SELECT ?, ?", [1, object()])
    with pytest.raises(QueryError):
        engine.execute_rows("SELECT ?, ?", [1])


VALUES = """
    true, 1::TINYINT, -1::SMALLINT, 1::INTEGER, 1::BIGINT, 170141183460469231731687303715884105::HUGEINT, 1::UBIGINT,
    1.5::FLOAT, 1.5::DOUBLE, 1.50::DECIMAL(9, 2), 'é', 'x'::BLOB, DATE '2024-01-02', TIME '03:04:05.000006',
    TIMESTAMP '2024-01-02 03:04:05.000006', TIMESTAMP_S '2024-01-02 03:04:05', TIMESTAMP_MS '2024-01-02 03:04:05.006',
    TIMESTAMP_NS '2024-01-02 03:04:05.000006', TIMESTAMPTZ '2024-01-02 03:04:05+00', INTERVAL '1 month 2 days 3 seconds',
    '00000000-0000-0000-0000-000000000007'::UUID, [1, NULL], {'a': 1, 'b': [{'c': 'x'}]}, MAP {'k': 1},
    'a'::ENUM ('a', 'b'), NULL, '{"a": 1}'::JSON, '101'::BIT, [1, 2]::INTEGER[2]
"""


def test_values_are_those_of_duckdb(engine):
    [ours] = engine.execute_rows(f"SELECT {VALUES}")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        [theirs] = connection.execute(f"SELECT {VALUES}").fetchall()
    # An array of a fixed size is a list like others.
    theirs = [list(value) if isinstance(value, tuple) else value for value in theirs]
    assert [(value, type(value)) for value in ours] == [(value, type(value)) for value in theirs]
    assert ours[18] == datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


COLUMNS = """
    SELECT i AS whole, CASE WHEN i > 0 THEN i END AS gaps, (i > 0) AS flag, CASE WHEN i > 0 THEN true END AS gaps_flag,
           i * 1.5 AS price, sum(i) OVER () AS total, 'x' || i AS text, DATE '2024-01-02' AS day,
           TIMESTAMP '2024-01-02 03:04:05' AS at, [i] AS list
    FROM (SELECT range::INTEGER AS i FROM range(3))
"""


def test_frames_are_those_of_duckdb(engine):
    ours = engine.execute_df(COLUMNS)
    with duckdb.connect() as connection:
        theirs = connection.execute(COLUMNS).df()
    assert {name: str(dtype) for name, dtype in ours.dtypes.items()} == {
        name: str(dtype) for name, dtype in theirs.dtypes.items()
    }
    for name in ours.columns.drop("list"):
        pd.testing.assert_series_equal(ours[name], theirs[name])
    assert [list(value) for value in ours["list"]] == [[0], [1], [2]]


def test_columns_of_one_name(engine):
    assert list(engine.execute_df("SELECT 1 AS a, 2 AS a, 3 AS a_1").columns) == ["a", "a_1", "a_1_1"]
    assert engine.execute("SELECT 1 AS a, 2 AS a").pl().columns == ["a", "a_1"]
    assert engine.execute_rows("SELECT 1 AS a, 2 AS a").columns == ("a", "a")
    assert engine.execute_df("SELECT 1 AS a WHERE false").columns.tolist() == ["a"]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT * FROM nonexistent", "NOT_FOUND"),
        ("SELEC 1", "INVALID_ARGUMENT"),
        ("SELECT 1; SELECT 2", "INVALID_ARGUMENT"),
        ("", "INVALID_ARGUMENT"),
        ("-- nothing", "INVALID_ARGUMENT"),
        ("UPDATE ev SET properties = NULL", "FAILED_PRECONDITION"),
        ("SELECT 'x'::INTEGER", "INVALID_ARGUMENT"),
    ],
)
@pytest.mark.parametrize("method", ["execute", "execute_df", "execute_scalar", "execute_rows"])
def test_errors(ev, sql, code, method):
    with pytest.raises(QueryError) as caught:
        result = getattr(ev, method)(sql)
        result.fetchall()
    error = caught.value
    assert error.details["query"] == sql
    assert error.details["code"] == code
    assert error.message
    assert "gRPC" not in error.message
    assert "FlightSQL" not in error.message


def test_an_error_in_the_middle_of_a_result(engine):
    sql = "SELECT CASE WHEN range < 9000000 THEN range ELSE error('no more') END FROM range(10000000)"
    reader = engine.execute(sql).fetch_record_batch()
    with pytest.raises(QueryError, match="no more"):
        reader.read_all()
    with pytest.raises(QueryError, match="no more"):
        engine.execute_rows(sql)


def test_what_sql_may_not_do(engine):
    with pytest.raises(AuthError) as caught:
        engine.execute_rows("SELECT * FROM read_csv('/etc/passwd')")
    assert caught.value.details["code"] == "PERMISSION_DENIED"


def test_one_session():
    with StorageEngine.memory() as engine:
        engine.execute("CREATE TEMP TABLE own AS SELECT 42 AS n")
        assert engine.execute_scalar("SELECT n FROM own") == 42
        # A result that is open takes a connection of its own, and all are in one session.
        reader = engine.execute("FROM range(1000000)").fetch_record_batch()
        assert engine.execute_scalar("SELECT n FROM own") == 42
        assert reader.read_all().num_rows == 1_000_000
        with engine.connection.cursor() as cursor:
            assert cursor.execute("SELECT n FROM own").fetchall() == [(42,)]


@pytest.mark.parametrize("statement", ["SELECT 1", "CREATE TEMP TABLE own AS SELECT 42 AS n"])
def test_threads(statement):
    """With a temporary table the statements of a session take turns."""
    seen, failed = [], []

    def work(number):
        try:
            for _ in range(5):
                seen.append(engine.execute_scalar("SELECT ? + count(*) FROM range(10)", [number]) - number)
        except Exception as error:
            failed.append(error)

    with StorageEngine.memory() as engine:
        engine.execute(statement)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    assert seen == [10] * 40


def test_too_many_open_results(engine, monkeypatch):
    monkeypatch.setattr(_client, "CONNECTIONS_WAIT_SECONDS", 0.1)
    readers = []
    with pytest.raises(ResourceError, match="32 statements"):
        for _ in range(33):
            readers.append(engine.execute("FROM range(10000000)").fetch_record_batch())
    assert len(readers) == 32
    readers.clear()
    assert engine.execute_scalar("SELECT 1") == 1


def test_a_statement_is_cancelled_at_the_server(engine):
    cancellation = _cancel.Cancellation()
    _cancel.current.set(cancellation)
    threading.Timer(0.5, cancellation.ask).start()
    started = time.monotonic()
    try:
        with pytest.raises(QueryCancelled):
            engine.execute_scalar("SELECT count(*) FROM range(1000000000000)")
    finally:
        _cancel.current.set(None)
    assert time.monotonic() - started < 20
    running = "SELECT count(*) FROM merganser.queries WHERE state <> 'done' AND text LIKE '%FROM range%'"
    assert engine.execute_scalar(running) == 0
