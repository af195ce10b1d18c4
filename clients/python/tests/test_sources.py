"""Arrow data and data frames to record batches."""

from datetime import datetime, timezone

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
from support import NOW, event

from merganser import InvalidDataError
from merganser._rows import BATCH_BYTES_MAX
from merganser._sources import source_of

ROWS = [event(number) for number in range(250)]
TABLE = pa.table(
    {
        "event_name": [row["event_name"] for row in ROWS],
        "event_time": pa.array([row["event_time"] for row in ROWS], pa.timestamp("us", tz="UTC")),
        "distinct_id": [row["distinct_id"] for row in ROWS],
        "insert_id": [row["insert_id"] for row in ROWS],
        "properties": ['{"amount": 1}'] * len(ROWS),
    }
)


def read(data, rows_max=None, kind="events"):
    source = source_of(kind, data, rows_max)
    batches = list(source.batches)
    assert all(batch.schema.equals(source.schema) for batch in batches)
    return batches


class Capsule:
    """Somebody else's stream of Arrow data."""

    def __arrow_c_stream__(self, requested_schema=None):
        return TABLE.__arrow_c_stream__(requested_schema)


@pytest.fixture(params=["table", "batch", "reader", "dataset", "capsule"])
def arrow_data(request, tmp_path):
    if request.param == "dataset":
        pa.dataset.write_dataset(TABLE, tmp_path, format="parquet")
        return pa.dataset.dataset(tmp_path)
    return {
        "table": lambda: TABLE,
        "batch": lambda: TABLE.to_batches()[0],
        "reader": lambda: TABLE.to_reader(),
        "capsule": Capsule,
    }[request.param]()


def test_arrow_data(arrow_data):
    batches = read(arrow_data, rows_max=100)
    assert [batch.num_rows for batch in batches] == [100, 100, 50]
    assert pa.Table.from_batches(batches).equals(TABLE)


def test_batches_of_arrow_data_are_sliced_by_bytes():
    wide = pa.table({"distinct_id": [str(n) for n in range(100)], "properties": ['"' + "x" * 1_000_000 + '"'] * 100})
    sizes = [batch.num_rows for batch in read(wide, kind="profiles")]
    assert sum(sizes) == 100
    assert max(sizes) <= BATCH_BYTES_MAX // 1_000_000 + 1


def test_a_batch_without_rows_goes_through():
    empty = pa.RecordBatch.from_pylist([], TABLE.schema)
    assert [batch.num_rows for batch in read(empty)] == [0]


def test_a_pandas_frame_of_python_objects():
    frame = pd.DataFrame(ROWS)
    batches = read(frame, rows_max=100)
    assert [batch.num_rows for batch in batches] == [100, 100, 50]
    table = pa.Table.from_batches(batches)
    assert table["properties"].to_pylist()[3] == '{"amount":3,"country":"NO"}'
    assert table["event_time"].to_pylist()[0] == NOW
    assert table["insert_id"].to_pylist() == [row["insert_id"] for row in ROWS]


def test_a_pandas_frame_of_arrow_types_and_with_an_index():
    frame = TABLE.to_pandas(types_mapper=pd.ArrowDtype).set_index(pd.Index(range(1000, 1250), name="n"))
    table = pa.Table.from_batches(read(frame))
    assert table.column_names == TABLE.column_names
    assert table["properties"].to_pylist() == TABLE["properties"].to_pylist()


def test_what_is_missing_in_a_pandas_frame():
    frame = pd.DataFrame({"distinct_id": ["a", "b"], "properties": [{"a": 1}, None], "last_seen": ["2024-01-01", float("nan")]})
    frame = frame.astype({"last_seen": object})
    rows = pa.Table.from_batches(read(frame, kind="profiles")).to_pylist()
    assert rows == [
        {"distinct_id": "a", "properties": '{"a":1}', "last_seen": datetime(2024, 1, 1, tzinfo=timezone.utc)},
        {"distinct_id": "b", "properties": None, "last_seen": None},
    ]


def test_a_bad_value_in_a_pandas_frame_names_its_row():
    frame = pd.DataFrame([event(number) for number in range(30)])
    frame.loc[20, "properties"] = object()
    with pytest.raises(InvalidDataError, match=r"^row 21: properties: "):
        read(frame, rows_max=7)


def test_a_polars_frame():
    batches = read(pl.from_arrow(TABLE), rows_max=100)
    assert [batch.num_rows for batch in batches] == [100, 100, 50]
    assert pa.Table.from_batches(batches)["insert_id"].to_pylist() == TABLE["insert_id"].to_pylist()


def test_an_empty_polars_frame():
    assert sum(batch.num_rows for batch in read(pl.from_arrow(TABLE).clear())) == 0


@pytest.mark.parametrize("data", [5, None, "events.csv", b"x", {"event_name": "x"}, pd.Series([1]), pl.LazyFrame({"a": [1]})])
def test_what_is_no_source(data):
    with pytest.raises(InvalidDataError, match="this is a"):
        source_of("events", data, None)
