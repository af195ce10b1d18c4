"""The data: events as an analytics source delivers them, and TPC-H's tables. Made once, kept as files, the same for every side."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BATCH_ROWS = 65_536
EVENT_COLUMNS = (
    "event_name VARCHAR NOT NULL, event_time TIMESTAMP NOT NULL, distinct_id VARCHAR NOT NULL,"
    " insert_id VARCHAR {key}, properties JSON"
)
TPCH_TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")


def random_ids(random, rows):
    """`rows` random texts of 32 hexadecimal digits, like Mixpanel's `$insert_id`."""
    text = random.bytes(16 * rows).hex().encode()
    offsets = np.arange(rows + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(text))


def numbered(prefix, numbers):
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")


def properties(random, rows):
    """JSON objects of six members."""
    pick = lambda *values: pa.array(values).take(pa.array(random.integers(0, len(values), rows)))
    amount = pc.cast(pa.array(np.round(random.uniform(1, 500, rows), 2)), pa.string())
    parts = [
        '{"campaign":"',
        numbered("camp_", np.arange(rows) % 100),
        '","country":"',
        pick("NO", "SE", "DK", "DE", "FR", "US"),
        '","os":"',
        pick("iOS", "Android", "macOS", "Windows"),
        '","page":"',
        numbered("/page", np.arange(rows) % 10),
        '","amount":',
        amount,
        ',"position":',
        pa.array(random.integers(0, 50, rows)).cast(pa.string()),
        "}",
    ]
    return pc.binary_join_element_wise(*parts, "")


def impressions(random, ids, start="2024-01-01T00:00:00"):
    """The seed's impressions: 30 days, 10,000 users, 100 campaigns, and insert_ids that tell nothing about their order."""
    rows = len(ids)
    times = np.datetime64(start, "us") + np.sort(random.integers(0, 30 * 86_400 * 10**6, rows)).astype("timedelta64[us]")
    columns = {
        "event_name": pa.array(["Impression"]).take(pa.array(np.zeros(rows, dtype=np.int32))),
        "event_time": pa.array(times),
        "distinct_id": numbered("user_", np.arange(rows) % 10_000),
        "insert_id": ids,
        "properties": properties(random, rows),
    }
    return pa.table(columns)


def make_events(rows):
    """The new table's rows, and those of the append: half of its keys are known, in random order."""
    random = np.random.default_rng(1)
    first = impressions(random, random_ids(random, rows))
    known = first["insert_id"].combine_chunks()[rows - rows // 2 :]
    ids = pa.concat_arrays([known, random_ids(random, rows - rows // 2)])
    return first, impressions(random, ids.take(pa.array(random.permutation(rows))))


def write(table, path):
    """An Arrow file, which is there only when it is whole."""
    unfinished = path.with_suffix(".unfinished")
    with pa.ipc.new_file(unfinished, table.schema) as file:
        file.write_table(table, max_chunksize=BATCH_ROWS)
    unfinished.rename(path)


def read(path):
    """An Arrow file in this process's own memory."""
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


class Data:
    """Where the files are. Each is made when it is asked for first."""

    def __init__(self, directory, small):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.events_rows = 100_000 if small else 2_000_000
        self.scale = "0.05" if small else "1"

    def event_files(self):
        """The Arrow files of the new table and of the append."""
        paths = [self.directory / f"events-{self.events_rows}-{name}.arrow" for name in ("first", "more")]
        if not all(path.exists() for path in paths):
            print(f"making {self.events_rows:,} events, twice", file=sys.stderr)
            for table, path in zip(make_events(self.events_rows), paths, strict=True):
                write(table, path)
        return paths

    def tpch(self):
        """The directory with a Parquet file for each table."""
        directory = self.directory / f"tpch-{self.scale}"
        if not directory.exists():
            unfinished = directory.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            generate = pathlib.Path(sys.executable).with_name("tpchgen-cli")
            print(f"making TPC-H at scale {self.scale}", file=sys.stderr)
            command = [generate, "parquet", "-s", self.scale, "-o", unfinished]
            subprocess.run(command, check=True, stdout=sys.stderr)
            unfinished.rename(directory)
        return directory
