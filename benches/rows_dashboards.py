"""Row j: 32 clients with dashboard queries while one client ingests, compared with each of the two alone.

The queries read the first rows of the table that the ingest appends to, always the same ones; before each part the table is put back
to these. The ingest is one append of 200,000 new events after another. Rows count when their append is answered.
"""

import contextlib
import os
import time

import numpy as np

from data import impressions, random_ids, read as read_arrow
from environments import HERE
from figures import Figures, compared, exact, in_rounds
from flight_client import connect, put_table
from workers import Worker

CLIENTS = 32


class Ingest:
    """Appends for some seconds, made beforehand but for their insert_ids."""

    def __init__(self, uri, rows):
        self.uri, self.random = uri, np.random.default_rng(int.from_bytes(os.urandom(8)))
        self.made = impressions(self.random, random_ids(self.random, rows), start="2024-02-02T00:00:00")

    def run(self, seconds):
        """Rows a second; the append that the end cuts is not waited for but counted as far as the time went."""
        rows, place = self.made.num_rows, self.made.schema.get_field_index("insert_id")
        with connect(self.uri) as client:
            begin = time.perf_counter()
            end, stored, before = begin + seconds, 0.0, begin
            while before < end:
                events = self.made.set_column(place, "insert_id", random_ids(self.random, rows))
                assert put_table(client, "events", "append", events) == rows
                now = time.perf_counter()
                stored += rows * min(1, (end - before) / (now - before))
                before = now
        return stored / seconds


def measure(bench, selected):
    figures, seconds, errors = Figures(), bench.seconds(20), []
    base = read_arrow(bench.data.event_files()[0])
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(bench.directory())
        server = stack.enter_context(bench.merganser(directory))
        client = stack.enter_context(connect(server.uri))
        ingest = Ingest(server.uri, bench.append_rows)
        dashboards = stack.enter_context(Worker(bench.scripts.main, HERE / "dashboards.py"))

        def part(name, with_queries, with_ingest):
            put_table(client, "events", "replace", base)
            if with_queries:
                dashboards.begin("run", uri=server.uri, clients=CLIENTS, seconds=seconds)
            if with_ingest:
                figures.add(f"{name} ingest", ingest.run(seconds))
            if with_queries:
                found = dashboards.end()
                figures.add(f"{name} queries", found["queries"] / seconds)
                errors.extend(found["errors"] + ["..."] * (found["error_count"] - len(found["errors"])))

        sides = [lambda: part("alone", True, False), lambda: part("alone", False, True), lambda: part("both", True, True)]
        in_rounds(bench.rounds, sides, "row j")

    what = f"{CLIENTS} dashboard clients beside an ingest"
    faults = exact("j", f"{what}: errors", len(errors), 0)
    faults.what += f", first: {errors[0]}" if errors else ""
    return [
        faults,
        compared("j", f"{what}: ingest", figures, "both ingest", "alone ingest", "the ingest alone", "rows/s", 0.5),
        compared("j", f"{what}: queries", figures, "both queries", "alone queries", "the queries alone", "1/s", 0.5),
    ]
