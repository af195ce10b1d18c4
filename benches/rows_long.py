"""Row i: one long ingest into a server with little memory: is the memory bounded, is the speed, is the key still enforced?

One DoPut of events that the client makes on the way (columns made before, random insert_ids made for each batch), while DuckDB has
512 MB. The rate is of rows that the server says it has received, by its IngestProgress; the commit is in the total only.
"""

import os
import time

import numpy as np
import pyarrow as pa

from data import BATCH_ROWS, impressions, random_ids
from figures import Figures, compared, exact, in_rounds, limited
from flight_client import connect, put, scalar

PEAK_MB = 900
DUPLICATES = 1000


class Source:
    """Batches of new events, and the first of them again at the end."""

    def __init__(self, rows):
        self.rows, self.random = rows, np.random.default_rng(int.from_bytes(os.urandom(8)))
        self.made = impressions(self.random, random_ids(self.random, BATCH_ROWS)).combine_chunks().to_batches()[0]
        self.schema, self.known = self.made.schema, None

    def batch(self, rows, ids):
        columns = [ids if name == "insert_id" else self.made.column(name)[:rows] for name in self.schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def batches(self):
        for begin in range(0, self.rows, BATCH_ROWS):
            rows = min(BATCH_ROWS, self.rows - begin)
            ids = random_ids(self.random, rows)
            if begin == 0:
                self.known = ids[:DUPLICATES]
            yield self.batch(rows, ids)
        yield self.batch(DUPLICATES, self.known)


def seconds_at(progress, rows):
    """When so many rows had been received, between two answers in a straight line."""
    return float(np.interp(rows, [point[1] for point in progress], [point[0] for point in progress]))


def rate_between(progress, begin, end):
    return (end - begin) / (seconds_at(progress, end) - seconds_at(progress, begin))


def run(bench, figures):
    """One ingest into a server of its own, and a small append after it."""
    rows, progress = bench.long_rows, []
    source = Source(rows)
    with bench.directory() as directory, bench.merganser(directory, **{"engine.memory_limit": "512MB"}) as server:
        with connect(server.uri) as client:
            server.reset_peak()
            started = time.perf_counter()
            note = lambda answer: progress.append((time.perf_counter() - started, answer["rows_received"]))
            result = put(client, "events", "create", source.schema, source.batches(), note)
            figures.add("whole", rows / (time.perf_counter() - started))
            figures.add("peak", server.peak_mb())
            figures.add("stored", scalar(client, "SELECT count(*) FROM events"))
            figures.add("duplicates", result["rows_duplicate"])
            # Known keys and as many new ones, in an ingest of their own.
            ids = pa.concat_arrays([source.known, random_ids(source.random, DUPLICATES)])
            again = put(client, "events", "append", source.schema, [source.batch(2 * DUPLICATES, ids)])
            figures.add("known again", again["rows_duplicate"])
            figures.add("after", scalar(client, "SELECT count(*) FROM events"))
            figures.add("peak after", server.peak_mb())
    # The last answer before the commit is a little short of all rows.
    last = max(point[1] for point in progress[:-1]) if len(progress) > 1 else rows
    figures.add("early", rate_between(progress, *early(rows)))
    figures.add("late", rate_between(progress, last - late(rows), last))


def early(rows):
    """From which row to which the rate at the start is taken."""
    return (1_000_000, 3_000_000) if rows >= 20_000_000 else (rows // 20, rows * 3 // 20)


def late(rows):
    """Over how many rows the rate at the end is taken."""
    return min(2_000_000, rows // 10)


def worst(found, expected):
    """Of numbers that must be right, one that is not."""
    return next((number for number in found if number != expected), expected)


def measure(bench, selected):
    rows, figures = bench.long_rows, Figures()
    in_rounds(bench.rounds, [lambda: run(bench, figures)], "row i")

    what = f"one DoPut of {rows:,} events, 512 MB for DuckDB"
    late_what = f"{what}: rate of the last {late(rows):,} rows"
    begin, end = early(rows)
    exactly = lambda what, name, expected: exact("i", what, worst(figures[name], expected), expected)
    return [
        limited("i", f"{what}: peak memory", figures["peak"], "MB", PEAK_MB, lower=True),
        limited("i", f"{what}: peak memory after a small append, too", figures["peak after"], "MB"),
        compared("i", late_what, figures, "late", "early", f"rows {begin:,} to {end:,}", "rows/s", 0.8),
        limited("i", f"{what}: whole, with the commit", figures["whole"], "rows/s"),
        exactly(f"{what}: rows stored", "stored", rows),
        exactly(f"{what}: duplicates found in the stream, of {DUPLICATES:,}", "duplicates", DUPLICATES),
        exactly(f"append of {2 * DUPLICATES:,}, half known: duplicates", "known again", DUPLICATES),
        exactly(f"append of {2 * DUPLICATES:,}, half known: rows after it", "after", rows + DUPLICATES),
    ]
