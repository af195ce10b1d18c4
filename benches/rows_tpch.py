"""Row h: the 22 queries of TPC-H, one after another, each to an Arrow table in the client.

The figure is the sum of the 22 times. Server and reference have the same threads and the same limit of memory; loading and one first
run of all queries are not measured.
"""

import contextlib
import re

from data import TPCH_TABLES
from environments import HERE
from figures import Figures, compared, in_rounds
from flight_client import connect, put_tpch, read

QUERIES = HERE.parent / "tests" / "clients" / "tpch" / "queries.sql"


def measure(bench, selected):
    texts = re.split(r"^-- Q\d+\n", QUERIES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(texts) == 22, f"{len(texts)} queries in {QUERIES}"
    tpch, figures = bench.data.tpch(), Figures()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(bench.directory())
        worker = stack.enter_context(bench.inprocess())
        making = [f"CREATE TABLE {table} AS FROM read_parquet('{tpch}/{table}.parquet')" for table in TPCH_TABLES]
        worker.call("make", database=f"{directory}/inprocess.duckdb", statements=making)
        worker.call("attach", database=f"{directory}/inprocess.duckdb")
        server = stack.enter_context(bench.merganser(directory))
        client = stack.enter_context(connect(server.uri))
        put_tpch(client, tpch)

        ours = lambda: [read(client, sql)["seconds"] for sql in texts]
        local = lambda: worker.call("queries", texts=texts)
        ours(), local()
        sides = [lambda: figures.add("ours", ours()), lambda: figures.add("local", local())]
        in_rounds(bench.rounds, sides, "row h")

    each = {side: [min(times) for times in zip(*figures[side], strict=True)] for side in ("ours", "local")}
    slowest = max(range(22), key=lambda number: each["ours"][number] - each["local"][number])
    figures.values = {side: [sum(times) for times in figures[side]] for side in ("ours", "local")}
    what = f"TPC-H at scale {bench.data.scale}, 22 queries"
    line = compared("h", what, figures, "ours", "local", "in-process DuckDB", "s", 1.05, lower=True)
    times = " and ".join(f"{each[side][slowest] * 1000:.0f}" for side in ("ours", "local"))
    line.what += f" (widest apart: Q{slowest + 1}, at best {times} ms)"
    return [line]
