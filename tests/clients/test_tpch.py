"""TPC-H at scale 0.1 through the ADBC driver: bulk ingest of its tables, and its 22 queries beside DuckDB in-process."""

import pathlib
import re
import subprocess
import sys

import duckdb
import pyarrow.parquet
import pytest

from adbc_support import connect, scalar

QUERIES = (pathlib.Path(__file__).parent / "tpch" / "queries.sql").read_text(encoding="utf-8")
ROWS = {
    "customer": 15_000,
    "lineitem": 600_572,
    "nation": 25,
    "orders": 150_000,
    "part": 20_000,
    "partsupp": 80_000,
    "region": 5,
    "supplier": 1_000,
}


def queries():
    """The queries by their names."""
    pieces = re.split(r"^-- (Q\d+)\n", QUERIES, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


@pytest.fixture(scope="module")
def loaded(server, tmp_path_factory):
    """A connection to a server that has the tables, and DuckDB in-process that has them, too."""
    directory = tmp_path_factory.mktemp("tpch")
    generate = pathlib.Path(sys.executable).with_name("tpchgen-cli")
    subprocess.run([generate, "parquet", "-s", "0.1", "-o", directory], check=True, timeout=120)
    with connect(server) as connection, duckdb.connect() as reference:
        for table, count in ROWS.items():
            file = directory / f"{table}.parquet"
            # The columns are string views, in many batches.
            with pyarrow.parquet.ParquetFile(file) as data, connection.cursor() as cursor:
                batches = pyarrow.RecordBatchReader.from_batches(data.schema_arrow, data.iter_batches())
                assert cursor.adbc_ingest(table, batches, mode="create") == count
            reference.execute(f"CREATE TABLE {table} AS FROM read_parquet('{file}')")
        yield connection, reference


def test_the_tables_arrive_whole(loaded):
    connection, reference = loaded
    for table, count in ROWS.items():
        assert scalar(connection, f"SELECT count(*) FROM {table}") == count
        # Every value of every row, in no order.
        checksum = f"SELECT sum(hash({table}::VARCHAR)::HUGEINT)::VARCHAR FROM {table}"
        assert scalar(connection, checksum) == reference.execute(checksum).fetchall()[0][0], table


def test_all_queries_are_there():
    assert list(queries()) == [f"Q{number}" for number in range(1, 23)]


@pytest.mark.parametrize("name", [f"Q{number}" for number in range(1, 23)])
def test_query(loaded, name):
    connection, reference = loaded
    sql = queries()[name]
    with connection.cursor() as cursor:
        cursor.execute(sql)
        found = cursor.fetch_arrow_table()
    wanted = reference.sql(sql).to_arrow_table()
    assert found.schema.names == wanted.schema.names
    assert found.schema.types == wanted.schema.types
    assert found.num_rows == wanted.num_rows
    for name, one, two in zip(wanted.schema.names, found.columns, wanted.columns, strict=True):
        if pyarrow.types.is_floating(two.type):
            # Threads add up in any order.
            assert one.to_pylist() == pytest.approx(two.to_pylist(), rel=1e-9), name
        else:
            assert one.to_pylist() == two.to_pylist(), name
