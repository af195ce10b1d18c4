"""First figures: one million events into the server, out again, and an append with half of the keys known; beside them the same
rows through DuckDB in this process.

Each round does both sides on fresh database files, in alternating order, so that what else the machine does hits both. A ratio is
of one round; the table shows its median, and its spread over the rounds. benches/README.md tells how to run it.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import flight

BATCH_ROWS = 65_536
EVENTS_SQL = (
    "event_name VARCHAR NOT NULL, event_time TIMESTAMP NOT NULL, distinct_id VARCHAR NOT NULL,"
    " insert_id VARCHAR {key}, properties JSON"
)
# What is measured on the server, and the in-process work that it is compared with.
COMPARED = [
    ("DoPut, new table", "put", "INSERT, no key", "insert"),
    ("DoPut, new table", "put", "INSERT, PRIMARY KEY", "insert_key"),
    ("DoPut, half known", "append", "INSERT OR IGNORE, half known", "append_key"),
    ("SELECT *, DoGet", "select", "SELECT *, in-process", "select_local"),
]


# --- the rows: the same for both sides ---


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


def impressions(random, ids):
    """The seed's impressions: 10,000 users, 100 campaigns, and insert_ids that tell nothing about their order."""
    rows = len(ids)
    start = np.datetime64("2024-01-01T00:00:00", "us")
    times = start + np.sort(random.integers(0, 30 * 86_400 * 10**6, rows)).astype("timedelta64[us]")
    columns = {
        "event_name": pa.array(["Impression"]).take(pa.array(np.zeros(rows, dtype=np.int32))),
        "event_time": pa.array(times),
        "distinct_id": numbered("user_", np.arange(rows) % 10_000),
        "insert_id": ids,
        "properties": properties(random, rows),
    }
    return pa.table(columns)


def make_rows(rows):
    """The new table's rows, and those of the append: half of its keys are known, in random order."""
    random = np.random.default_rng(1)
    first = impressions(random, random_ids(random, rows))
    known = first["insert_id"].combine_chunks()[rows - rows // 2 :]
    ids = pa.concat_arrays([known, random_ids(random, rows - rows // 2)])
    return first, impressions(random, ids.take(pa.array(random.permutation(rows))))


# --- the server ---


class Server:
    """One `merganser serve --ephemeral` with its files in `directory`."""

    def __init__(self, binary, directory):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MERGANSER_")}
        environment |= {"TMPDIR": directory, "XDG_CONFIG_HOME": directory, "XDG_DATA_HOME": directory}
        self.log = open(pathlib.Path(directory) / "server.log", "wb")
        command = [binary, "serve", "--ephemeral", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, env=environment, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise SystemExit(f"the server did not start: {pathlib.Path(self.log.name).read_text()}")
        self.uri = line.split()[-1]

    def peak_mib(self):
        """The most memory that was resident since the last reset."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def reset_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.log.close()
        assert code == 0, pathlib.Path(self.log.name).read_text()


def put(client, mode, table):
    command = json.dumps({"table": "impressions", "kind": "events", "mode": mode}).encode()
    writer, reader = client.do_put(flight.FlightDescriptor.for_command(command), table.schema)
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        writer.write_batch(batch)
    writer.done_writing()
    result = None
    while (answer := reader.read()) is not None:
        result = json.loads(answer.to_pybytes())
    writer.close()
    return result["rows_inserted"]


def select(client):
    return client.do_get(flight.Ticket(b"SELECT * FROM impressions")).read_all().num_rows


# --- measuring ---


@dataclass
class Figures:
    """Seconds of each work and peak memory of the server's, by name; one value for each round."""

    rows: int
    seconds: dict = field(default_factory=dict)
    peaks: dict = field(default_factory=dict)

    def measure(self, name, expected, work, *arguments):
        started = time.perf_counter()
        rows = work(*arguments)
        seconds = time.perf_counter() - started
        assert rows == expected, f"{name}: {rows} rows, not {expected}"
        self.seconds.setdefault(name, []).append(seconds)

    def rate(self, name):
        return [self.rows / seconds for seconds in self.seconds[name]]

    def ratio(self, ours, theirs):
        return [b / a for a, b in zip(self.seconds[ours], self.seconds[theirs], strict=True)]


def measure_server(figures, binary, first, more):
    rows, new = first.num_rows, more.num_rows - more.num_rows // 2
    with tempfile.TemporaryDirectory(prefix="merganser-bench-") as directory:
        server = Server(binary, directory)
        try:
            with flight.connect(server.uri) as client:
                figures.peaks.setdefault("idle", []).append(server.peak_mib())
                for name, expected, work, *arguments in [
                    ("put", rows, put, "create", first),
                    ("select", rows, select),
                    ("append", new, put, "append", more),
                ]:
                    server.reset_peak()
                    figures.measure(name, expected, work, client, *arguments)
                    figures.peaks.setdefault(name, []).append(server.peak_mib())
        finally:
            server.stop()


def insert(connection, table, source, conflict=""):
    [[rows]] = connection.execute(f"INSERT {conflict} INTO {table} SELECT * FROM {source}").fetchall()
    return rows


def measure_local(figures, first, more):
    """DuckDB in this process, on a file, as the server's is."""
    rows, new = first.num_rows, more.num_rows - more.num_rows // 2
    with tempfile.TemporaryDirectory(prefix="merganser-bench-") as directory:
        for table, key, name in [("plain", "NOT NULL", "insert"), ("keyed", "PRIMARY KEY", "insert_key")]:
            with contextlib.closing(duckdb.connect(f"{directory}/{table}.duckdb")) as connection:
                connection.register("first", first)
                connection.register("more", more)
                connection.execute(f"CREATE TABLE {table} ({EVENTS_SQL.format(key=key)})")
                figures.measure(name, rows, insert, connection, table, "first")
                if table == "plain":
                    read = lambda: connection.sql("SELECT * FROM plain").to_arrow_table().num_rows
                    figures.measure("select_local", rows, read)
                else:
                    figures.measure("append_key", new, insert, connection, table, "more", "OR IGNORE")


# --- the report ---


def machine():
    cpu = next((line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cpu.split(': ')[-1]}, {len(os.sched_getaffinity(0))} cores for client and server, {memory:.0f} GiB,"
        f" {platform.system()} {platform.release()}; load before {os.getloadavg()[0]:.1f};"
        f" Python {platform.python_version()}, pyarrow {pa.__version__}, duckdb {duckdb.__version__}"
    )


def million(values):
    return f"{statistics.median(values) / 1e6:.2f} M ({min(values) / 1e6:.2f}-{max(values) / 1e6:.2f})"


def times(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def report(figures, data_bytes):
    print(f"\n{figures.rows:,} rows, {data_bytes / 2**20:.0f} MiB of Arrow, {len(figures.seconds['put'])} rounds;")
    print("rows/s and ratios are medians, in parentheses the lowest and the highest\n")
    print("| server | rows/s | in-process | rows/s | server / in-process | peak RSS of the server |")
    print("|---|--:|---|--:|--:|--:|")
    for ours, our_name, theirs, their_name in COMPARED:
        peak = f"{max(figures.peaks[our_name]):.0f} MiB"
        ratio = times(figures.ratio(our_name, their_name))
        ours_rate, theirs_rate = million(figures.rate(our_name)), million(figures.rate(their_name))
        print(f"| {ours} | {ours_rate} | {theirs} | {theirs_rate} | {ratio} | {peak} |")
    idle, load = max(figures.peaks["idle"]), os.getloadavg()[0]
    print(f"\nPeak RSS is VmHWM, reset before each work; of an idle server {idle:.0f} MiB. Load at the end {load:.1f}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="the merganser to measure")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    print(machine())
    first, more = make_rows(arguments.rows)
    figures = Figures(arguments.rows)
    sides = [
        lambda: measure_server(figures, arguments.binary, first, more),
        lambda: measure_local(figures, first, more),
    ]
    for turn in range(arguments.rounds):
        for side in sides if turn % 2 == 0 else reversed(sides):
            side()
        print(f"round {turn + 1} of {arguments.rounds}", file=sys.stderr)
    report(figures, first.nbytes)


if __name__ == "__main__":
    main()
