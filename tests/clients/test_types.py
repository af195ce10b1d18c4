"""Types through the real binary: what ADBC reads, beside DuckDB in-process, and what an ingest stores."""

import duckdb
import pyarrow as pa
import pytest

# Expressions whose values are read as DuckDB's own text.
TEXTS = {
    "uhugeint": "340282366920938463463374607431768211455::UHUGEINT",
    "bit": "'010101'::BIT",
    "timetz": "'12:34:56.12+05:30'::TIMETZ",
    "timetz_west": "'00:00:00-15:59:59'::TIMETZ",
    "bignum": "'-123456789012345678901234567890123456789012345678901234567890'::BIGNUM",
    "enum": "'sad'::ENUM ('happy', 'sad')",
    "uuid": "'00010203-0405-0607-0809-0a0b0c0d0e0f'::UUID",
    "json": "'[1]'::JSON",
}


def read(adbc, sql):
    with adbc.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


@pytest.mark.parametrize("value", TEXTS.values(), ids=TEXTS.keys())
def test_text(adbc, value):
    expected = duckdb.sql(f"SELECT ({value})::VARCHAR").fetchall()[0][0]
    nested = f"[{value}] AS l, {{'m': {value}}} AS s, MAP {{1: {value}}} AS m"
    table = read(adbc, f"SELECT {value} AS v, {nested}, true AS b")
    assert table.schema.field("v").type == pa.string()
    assert table.to_pylist() == [
        {"v": expected, "l": [expected], "s": {"m": expected}, "m": [(1, expected)], "b": True}
    ]


def test_what_duckdb_exports_well_is_the_same(adbc):
    sql = """SELECT COLUMNS(lambda c: c NOT LIKE '%enum%' AND c NOT LIKE '%hugeint' AND c NOT IN
        ('bit', 'time_tz', 'bignum', 'timestamp_tz', 'timestamptz_array', 'timestamp_tz_ns', 'geometry'))
        FROM test_all_types()"""
    expected = duckdb.sql(sql).to_arrow_table()
    table = read(adbc, sql)
    assert table.schema == expected.schema
    for name in table.column_names:
        # As text, because a NaN is not equal to itself.
        assert str(table[name].combine_chunks()) == str(expected[name].combine_chunks()), name


def test_a_hugeint_that_does_not_fit(adbc):
    with adbc.cursor() as cursor, pytest.raises(Exception, match="cast the column to VARCHAR"):
        cursor.execute("SELECT 170141183460469231731687303715884105727::HUGEINT")
        cursor.fetchall()


def test_a_zone_is_utc(adbc):
    assert read(adbc, "SELECT '2024-01-01'::TIMESTAMPTZ AS t").schema.field("t").type == pa.timestamp("us", tz="UTC")


def test_variant(adbc):
    table = read(adbc, "SELECT {'a': [1, NULL, 'x'::VARIANT]}::VARIANT AS v")
    assert table.to_pylist() == [{"v": '{"a":[1,null,"x"]}'}]


INGESTED = {
    "half": (pa.array([1.5, None], pa.float16()), "FLOAT", [1.5, None]),
    "decimal256": (pa.array([1, None], pa.decimal256(38, 2)), "DECIMAL(38,2)", None),
    "dictionary": (pa.array(["a", None, "a"]).dictionary_encode(), "VARCHAR", ["a", None, "a"]),
    "dictionaries": (
        pa.array([["a", None], None], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        "VARCHAR[]",
        [["a", None], None],
    ),
    "runs": (
        pa.RunEndEncodedArray.from_arrays([2, 3], pa.array([1, 2], pa.decimal128(4, 1))),
        "DECIMAL(4,1)",
        [1, 1, 2],
    ),
    "duration": (pa.array([1_000, None], pa.duration("ms")), "INTERVAL", [pa.MonthDayNano([0, 0, 10**9]), None]),
    "date64": (pa.array([86_400_000], pa.date64()), "DATE", None),
    "time32": (pa.array([1, None], pa.time32("s")), "TIME", None),
    "view": (pa.array(["longer than twelve bytes"], pa.string_view()), "VARCHAR", ["longer than twelve bytes"]),
}


@pytest.mark.parametrize("name", INGESTED)
def test_ingest(adbc, name):
    array, sql_type, expected = INGESTED[name]
    with adbc.cursor() as cursor:
        cursor.adbc_ingest(f"types_{name}", pa.table({"v": array}), mode="replace")
        cursor.execute(f"SELECT typeof(v) FROM types_{name} LIMIT 1")
        assert cursor.fetchone() == (sql_type,)
        stored = read(adbc, f"SELECT v FROM types_{name}")["v"]
    assert stored.to_pylist() == (array.to_pylist() if expected is None else expected)
