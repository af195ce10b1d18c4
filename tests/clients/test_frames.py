"""pandas and polars through the ADBC driver, as notebooks use them: reading, parameters, writing."""

import datetime

import pandas
import polars
import pytest

from adbc_support import connect, rows, run, scalar


@pytest.fixture(params=[True, False], ids=["autocommit", "transactions"])
def connection(request, server):
    with connect(server, autocommit=request.param) as connection:
        yield connection


def some_rows():
    return {
        "n": [1, 2, None],
        "s": ["a", None, "ä🦆"],
        "d": [1.5, None, -2.25],
        "t": [datetime.datetime(2024, 1, 2, 3, 4, 5, 678901), None, datetime.datetime(1970, 1, 1)],
        "b": [True, False, None],
    }


# --- pandas ---


def test_pandas_reads(connection):
    frame = pandas.read_sql("SELECT range AS n, 'row ' || range AS s FROM range(5)", connection)
    assert frame["n"].tolist() == [0, 1, 2, 3, 4] and frame["s"].tolist()[4] == "row 4"
    frame = pandas.read_sql("SELECT 1 AS n, NULL::TIMESTAMP AS t", connection, dtype_backend="pyarrow")
    assert str(frame.dtypes["t"]) == "timestamp[us][pyarrow]"


@pytest.mark.parametrize("if_exists", ["fail", "append", "replace"])
def test_pandas_writes(connection, adbc, table, if_exists):
    frame = pandas.DataFrame(some_rows())
    assert frame.to_sql(table, connection, index=False, if_exists=if_exists) == 3
    if if_exists == "fail":
        with pytest.raises(ValueError):
            frame.to_sql(table, connection, index=False, if_exists="fail")
    else:
        frame.to_sql(table, connection, index=False, if_exists=if_exists)
    # pandas commits.
    wanted = 6 if if_exists == "append" else 3
    assert scalar(adbc, f"SELECT count(*) FROM {table}") == wanted
    found = rows(adbc, f"SELECT DISTINCT n, s, d, b FROM {table} ORDER BY n NULLS LAST")
    assert found == [(1, "a", 1.5, True), (2, None, None, False), (None, "ä🦆", -2.25, None)]


def test_pandas_writes_into_a_schema(connection, adbc, table):
    run(adbc, f"CREATE SCHEMA {table}")
    pandas.DataFrame({"n": [1]}).to_sql("inside", connection, schema=table, index=False)
    assert rows(adbc, f"SELECT n FROM {table}.inside") == [(1,)]


def test_pandas_reads_a_table_by_name(connection, adbc, table):
    run(adbc, f"CREATE TABLE {table} AS SELECT 1 AS n")
    assert pandas.read_sql_table(table, connection)["n"].tolist() == [1]


# --- polars ---


def test_polars_reads(connection):
    frame = polars.read_database("SELECT range AS n, [range] AS l, {'a': 'x'} AS r FROM range(3)", connection)
    assert frame.to_dict(as_series=False) == {"n": [0, 1, 2], "l": [[0], [1], [2]], "r": [{"a": "x"}] * 3}


def test_polars_reads_with_parameters(connection):
    options = {"parameters": (7,)}
    frame = polars.read_database("SELECT ?::BIGINT * 6 AS n", connection, execute_options=options)
    assert frame["n"].to_list() == [42]


def test_polars_reads_in_batches(connection):
    batches = polars.read_database(
        "SELECT range AS n FROM range(200000)", connection, iter_batches=True, batch_size=10_000
    )
    frames = list(batches)
    assert len(frames) > 1 and sum(frame["n"].sum() for frame in frames) == 200_000 * 199_999 // 2


@pytest.mark.parametrize("mode", ["fail", "append", "replace"])
def test_polars_writes(connection, adbc, table, mode):
    frame = polars.DataFrame(some_rows()).with_columns(polars.Series("c", ["x", "y", None], dtype=polars.Categorical))
    if mode == "append":
        run(adbc, f"CREATE TABLE {table} (n BIGINT, s VARCHAR, d DOUBLE, t TIMESTAMP, b BOOLEAN, c VARCHAR)")
    assert frame.write_database(table, connection, engine="adbc", if_table_exists=mode) == 3
    if mode == "replace":
        assert frame.write_database(table, connection, engine="adbc", if_table_exists=mode) == 3
    found = polars.read_database(f"SELECT * FROM {table} ORDER BY n NULLS LAST", adbc)
    assert found.select(frame.columns).to_dicts() == frame.cast({"c": polars.String}).to_dicts()
