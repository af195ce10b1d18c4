"""Bound parameters through the ADBC driver: every style, every type, NULLs, many rows, and what does not fit."""

import datetime
import decimal

import pyarrow as pa
import pytest

import support
from adbc_support import STATUS, refused, rows, run, scalar

UTC = datetime.UTC


# --- styles ---


@pytest.mark.parametrize(
    ("sql", "parameters", "wanted"),
    [
        ("SELECT ? + 1", (41,), 42),
        ("SELECT $1 + 1", (41,), 42),
        ("SELECT $2 || $1", ("b", "a"), "ab"),
        ("SELECT $1 || $1", ("x",), "xx"),
        ("SELECT $a || $b", ("x", "y"), "xy"),
        ("SELECT ?1 || ?2", ("x", "y"), "xy"),
        ("SELECT count(*) FROM range(10) WHERE range < ?", (3,), 3),
        ("SELECT range FROM range(10) ORDER BY 1 LIMIT ? OFFSET ?", (1, 7), 7),
    ],
)
def test_styles(adbc, sql, parameters, wanted):
    assert scalar(adbc, sql, parameters) == wanted


def test_by_name_is_not_of_the_driver(adbc):
    """A dict asks the driver to bind by name, which this one does not know: it says so itself."""
    with refused(STATUS.NOT_IMPLEMENTED, part="bind_by_name"):
        scalar(adbc, "SELECT $first || '-' || $second", {"second": "b", "first": "a"})


def test_a_statement_runs_again_with_other_values(adbc):
    with adbc.cursor() as cursor:
        for value in (1, 2, None, 3):
            assert cursor.execute("SELECT ?::BIGINT * 10", (value,)).fetchall() == [(value and value * 10,)]


def test_prepare_tells_the_parameters(adbc, table):
    run(adbc, f"CREATE TABLE {table} (n INTEGER, s VARCHAR, d DECIMAL(9, 2))")
    with adbc.cursor() as cursor:
        schema = cursor.adbc_prepare(f"INSERT INTO {table} VALUES (?, ?, ?)")
        assert schema.types == [pa.int32(), pa.string(), pa.decimal128(9, 2)]
        # What nobody can know yet is null.
        assert cursor.adbc_prepare("SELECT ? AS x").types == [pa.null()]
        assert len(cursor.adbc_prepare("SELECT 1")) == 0
        assert run(adbc, f"SELECT * FROM {table}") in (-1, 0)


def test_execute_schema_runs_nothing(adbc, table):
    run(adbc, f"CREATE TABLE {table} (n INTEGER)")
    with adbc.cursor() as cursor:
        schema = cursor.adbc_execute_schema(f"INSERT INTO {table} VALUES (1) RETURNING n")
        assert schema.names == ["n"]
        schema = cursor.adbc_execute_schema(f"SELECT n, 'x' AS s FROM {table} WHERE n = ?", (1,))
        assert schema == pa.schema([("n", pa.int32()), ("s", pa.string())])
    assert rows(adbc, f"SELECT * FROM {table}") == []


# --- types ---


@pytest.mark.parametrize(
    "value",
    [
        True,
        0,
        -(2**63),
        2**63 - 1,
        1.5,
        float("inf"),
        "",
        "ä\0b🦆",
        b"",
        b"\x00\xff",
        datetime.date(2024, 2, 29),
        datetime.time(10, 20, 30, 123456),
        datetime.datetime(2024, 1, 2, 3, 4, 5, 678901),
        decimal.Decimal("-12345.67"),
        None,
    ],
    ids=repr,
)
def test_python_values_come_back(adbc, value):
    assert scalar(adbc, "SELECT ?", (value,)) == value


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([255, None], pa.uint8()), "UTINYINT"),
        (pa.array([2**64 - 1, None], pa.uint64()), "UBIGINT"),
        (pa.array([1.5, None], pa.float32()), "FLOAT"),
        (pa.array([1.5, None], pa.float16()), "FLOAT"),
        (pa.array([decimal.Decimal("1.25"), None], pa.decimal128(38, 10)), "DECIMAL(38,10)"),
        (pa.array(["x", None], pa.large_string()), "VARCHAR"),
        (pa.array(["x", None], pa.string_view()), "VARCHAR"),
        (pa.array(["x", None]).dictionary_encode(), "VARCHAR"),
        (pa.array([b"x", None], pa.large_binary()), "BLOB"),
        (pa.array([b"xy", None], pa.binary(2)), "BLOB"),
        (pa.array([1, None], pa.timestamp("s")), "TIMESTAMP_S"),
        (pa.array([1, None], pa.timestamp("ns")), "TIMESTAMP_NS"),
        (pa.array([1, None], pa.timestamp("us", "UTC")), "TIMESTAMP WITH TIME ZONE"),
        (pa.array([86_400_000, None], pa.date64()), "DATE"),
        (pa.array([1, None], pa.time32("ms")), "TIME"),
        (pa.array([[1, None, 2], None], pa.list_(pa.int64())), "BIGINT[]"),
        (pa.array([{"a": 1, "b": "x"}, None], pa.struct([("a", pa.int32()), ("b", pa.string())])), None),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())), "MAP(VARCHAR, INTEGER)"),
        (pa.array([None, None], pa.null()), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_arrow_values_come_back(adbc, array, kind):
    """Each row of a batch is bound, and the results follow one another."""
    with adbc.cursor() as cursor:
        cursor.execute("SELECT ? AS x, typeof(?) AS t", pa.RecordBatch.from_arrays([array, array], ["1", "2"]))
        result = cursor.fetch_arrow_table()
    assert result["x"].to_pylist() == array.to_pylist()
    if kind:
        assert result["t"].to_pylist()[0] == kind


def test_values_are_cast_to_what_the_statement_wants(adbc, table):
    """A client sends its own types: 64 bits for a small integer, text for a date."""
    run(adbc, f"CREATE TABLE {table} (a TINYINT, b DATE, c DECIMAL(9, 2), d UUID, e VARCHAR, f TIMESTAMP)")
    uuid = "6f7a2b1e-0c4d-4a57-9d0b-0e3f5a1c2d3e"
    sql = f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)"
    assert run(adbc, sql, (7, "2024-02-29", 1.25, uuid, 12, datetime.date(2024, 1, 2))) == 1
    [row] = rows(adbc, f"SELECT a, b, c, d::VARCHAR, e, f FROM {table}")
    wanted = (7, datetime.date(2024, 2, 29), decimal.Decimal("1.25"), uuid, "12", datetime.datetime(2024, 1, 2))
    assert row == wanted


# --- many rows ---


def test_executemany_with_nulls(adbc, table):
    run(adbc, f"CREATE TABLE {table} (n BIGINT, s VARCHAR)")
    values = [(1, "a"), (None, "b"), (3, None), (None, None)]
    with adbc.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES (?, ?)", values)
        assert cursor.rowcount == 4
    assert rows(adbc, f"SELECT * FROM {table}") == values


def test_executemany_of_many_rows(adbc, table):
    count = 20_000
    run(adbc, f"CREATE TABLE {table} (n BIGINT, s VARCHAR)")
    with adbc.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(n, f"row {n}") for n in range(count)])
        assert cursor.rowcount == count
    assert rows(adbc, f"SELECT count(*), sum(n), count(DISTINCT s) FROM {table}") == [
        (count, count * (count - 1) // 2, count)
    ]


def test_executemany_of_an_arrow_stream(adbc, table):
    run(adbc, f"CREATE TABLE {table} (n BIGINT)")
    batches = [pa.RecordBatch.from_pydict({"1": list(range(start, start + 10))}) for start in (0, 10, 20)]
    with adbc.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES (?)", pa.Table.from_batches(batches).to_reader(10))
        assert cursor.rowcount == 30
    assert rows(adbc, f"SELECT count(*), min(n), max(n) FROM {table}") == [(30, 0, 29)]


def test_executemany_updates_and_deletes(adbc, table):
    run(adbc, f"CREATE TABLE {table} AS SELECT range AS n FROM range(10)")
    with adbc.cursor() as cursor:
        cursor.executemany(f"UPDATE {table} SET n = n + ? WHERE n = ?", [(100, 1), (100, 2), (100, 77)])
        assert cursor.rowcount == 2
        cursor.executemany(f"DELETE FROM {table} WHERE n > ?", [(101,), (8,)])
        assert cursor.rowcount == 3
    assert scalar(adbc, f"SELECT count(*) FROM {table}") == 7


def test_a_failing_row_stores_none(adbc, table):
    """All rows of one execution are one transaction."""
    run(adbc, f"CREATE TABLE {table} (n INTEGER PRIMARY KEY)")
    with adbc.cursor() as cursor, refused(STATUS.ALREADY_EXISTS, STATUS.INVALID_ARGUMENT, part="uplicate"):
        cursor.executemany(f"INSERT INTO {table} VALUES (?)", [(1,), (2,), (1,)])
    assert scalar(adbc, f"SELECT count(*) FROM {table}") == 0


def test_a_query_runs_for_each_row(adbc):
    with adbc.cursor() as cursor:
        cursor.execute("SELECT ? + 1 AS n", pa.RecordBatch.from_pydict({"1": [1, 2, 3, 4]}))
        assert [row[0] for row in cursor.fetchall()] == [2, 3, 4, 5]
        cursor.execute("SELECT range AS n FROM range(?::BIGINT)", pa.RecordBatch.from_pydict({"1": [2, 0, 1]}))
        assert [row[0] for row in cursor.fetchall()] == [0, 1, 0]


def test_inserts_with_returning(adbc, table):
    run(adbc, f"CREATE TABLE {table} (n INTEGER)")
    with adbc.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} VALUES (?) RETURNING n * 10", pa.RecordBatch.from_pydict({"1": [1, 2]}))
        assert cursor.fetchall() == [(10,), (20,)]
    assert scalar(adbc, f"SELECT count(*) FROM {table}") == 2


def test_inserts_into_events(adbc, table):
    """An INSERT into a managed table is an ingest, with parameters, too: a key is stored once."""
    with adbc.cursor() as cursor:
        cursor.adbc_ingest(table, support.some_events(["a"]), mode="create")
        time = datetime.datetime(2024, 1, 1)
        values = [("Purchase", time, "u", key, '{"a": 1}') for key in ("a", "b", "b", "c")]
        cursor.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", values)
    assert rows(adbc, f"SELECT insert_id FROM {table} ORDER BY 1") == [("a",), ("b",), ("c",)]


# --- what does not fit ---


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?", ()),
        ("SELECT ? + ?", (1,)),
        ("SELECT ?", (1, 2)),
        ("SELECT 1", (1,)),
        ("SELECT ?::INTEGER", ("x",)),
        ("SELECT ?::TINYINT", (1000,)),
        ("SELECT ?::DATE", ("2024-02-30",)),
    ],
)
def test_what_does_not_fit_is_refused(adbc, sql, parameters):
    with refused(STATUS.INVALID_ARGUMENT, STATUS.INVALID_STATE):
        rows(adbc, sql, parameters)
    assert scalar(adbc, "SELECT ?", (1,)) == 1


def test_a_bad_value_in_the_middle_names_itself(adbc, table):
    run(adbc, f"CREATE TABLE {table} (n INTEGER)")
    with adbc.cursor() as cursor, refused(STATUS.INVALID_ARGUMENT, part="seven"):
        cursor.executemany(f"INSERT INTO {table} VALUES (?)", [("1",), ("seven",)])
    assert scalar(adbc, f"SELECT count(*) FROM {table}") == 0


def test_a_parameter_is_never_sql(adbc, table):
    run(adbc, f"CREATE TABLE {table} (s VARCHAR)")
    text = f"'); DROP TABLE {table}; --"
    run(adbc, f"INSERT INTO {table} VALUES (?)", (text,))
    assert rows(adbc, f"SELECT s FROM {table} WHERE s = ?", (text,)) == [(text,)]


def test_a_query_that_gave_way_to_another_keeps_its_values(adbc, table):
    """With a temporary table, statements of a session take one connection in turn, and a plan waits for its DoGet."""
    run(adbc, f"CREATE TEMP TABLE {table} AS FROM range(5) r(i)")
    sql, wanted = f"SELECT i FROM {table} WHERE i < ? ORDER BY i", [(0,), (1,), (2,)]
    with adbc.cursor() as cursor:
        (partition,), _ = cursor.adbc_execute_partitions(sql, (3,))
        assert scalar(adbc, f"SELECT count(*) FROM {table}") == 5
        cursor.adbc_read_partition(partition)
        assert cursor.fetchall() == wanted
    with adbc.cursor() as cursor, refused(STATUS.NOT_FOUND, part="was read"):
        cursor.adbc_read_partition(partition)
    run(adbc, f"DROP TABLE {table}")
