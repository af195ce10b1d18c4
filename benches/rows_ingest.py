"""Rows c and d: events into a new table by one DoPut, and an append of as many of which half are known.

Measured from the call to the answer that they are stored. The reference is `INSERT ... SELECT` from Arrow in-process, without a wire
and without a second process, which is faster than what any client of it could have. Each round has fresh files and fresh processes.
"""

import time

from data import read as read_arrow
from figures import Figures, compared, in_rounds, limited, spread
from flight_client import connect, put_table

# The old way takes one in so many of the events, because it needs some milliseconds for each.
OLD_SHARE = 100


def measure(bench, selected):
    files = bench.data.event_files()
    first, more = map(read_arrow, files)
    new = more.num_rows - more.num_rows // 2
    figures, old_rows = Figures(), first.num_rows // OLD_SHARE

    def server():
        with bench.directory() as directory, bench.merganser(directory) as merganser, connect(merganser.uri) as client:
            for name, mode, table, expected in [("put", "create", first, first.num_rows), ("append", "append", more, new)]:
                merganser.reset_peak()
                started = time.perf_counter()
                rows = put_table(client, "events", mode, table)
                figures.add(name, table.num_rows / (time.perf_counter() - started))
                assert rows == expected, f"{rows} new rows, not {expected}"
                figures.add(f"{name} peak", merganser.peak_mb())

    def local():
        with bench.directory() as directory, bench.inprocess() as worker:
            worker.call("load", first=str(files[0]), more=str(files[1]))
            plain = worker.call("insert", database=f"{directory}/plain.duckdb", key="NOT NULL", append=False)
            keyed = worker.call("insert", database=f"{directory}/keyed.duckdb", key="PRIMARY KEY", append="d" in selected)
            figures.add("plain", first.num_rows / plain["seconds"])
            figures.add("keyed", first.num_rows / keyed["seconds"])
            if "d" in selected:
                figures.add("keyed append", more.num_rows / keyed["append"])
            if "c" in selected and "old" not in figures.values:
                figures.add("old", old_rows / worker.call("old_way", database=f"{directory}/old.duckdb", rows=old_rows))

    in_rounds(bench.rounds, [server, local], "rows c and d")
    lines = []
    if "c" in selected:
        what = f"DoPut of {first.num_rows:,} events, new table"
        keyed, plain = "in-process `INSERT`, `PRIMARY KEY`", "in-process `INSERT`, no key"
        lines += [
            compared("c", what, figures, "put", "keyed", keyed, "rows/s", 2),
            compared("c", what, figures, "put", "plain", plain, "rows/s", None, 0.9),
            old_line(what, figures, old_rows),
            limited("c", f"{what}: peak memory of the server", figures["put peak"], "MB"),
        ]
    if "d" in selected:
        what = f"append of {more.num_rows:,} events, half known"
        peer = "in-process `INSERT OR IGNORE`, `PRIMARY KEY`"
        lines += [
            compared("d", what, figures, "append", "keyed append", peer, "rows/s", 1.5, 3),
            limited("d", f"{what}: peak memory of the server", figures["append peak"], "MB"),
        ]
    return lines


def old_line(what, figures, rows):
    """The old engine's rate, which was measured once and stands beside all rounds."""
    figures.values["old"] *= len(figures["put"])
    peer = f"the old engine's way, {rows:,} events, once"
    line = compared("c", what, figures, "put", "old", peer, "rows/s")
    line.theirs = spread(figures["old"][:1], "1/s")
    return line
