"""Rows a and b: a whole table to an Arrow table in the client.

a is TPC-H's lineitem, b the events with their JSON. Measured from the call to the whole result; connecting and the first run of each
side, which warms the file's pages, are not. Every side has the same rows in a database file of its own; raw Flight has them in memory.
"""

import contextlib

from figures import Figures, compared, in_rounds
from flight_client import connect, put_table, put_tpch, read
from data import EVENT_COLUMNS, read as read_arrow

TABLES = {"a": "lineitem", "b": "events"}
BARS = {"a": {"Quack": (4, None), "plain Flight": (1, 1.1), "raw Flight": (None, 0.95)}}
BARS["b"] = BARS["a"] | {"Quack": (None, None)}


def statements(data, selected):
    """What makes the tables in a DuckDB; the events are its `source`."""
    if "a" in selected:
        yield f"CREATE TABLE lineitem AS FROM read_parquet('{data.tpch() / 'lineitem.parquet'}')"
    if "b" in selected:
        yield f"CREATE TABLE events ({EVENT_COLUMNS.format(key='NOT NULL')})"
        yield "INSERT INTO events SELECT * FROM source"


def measure(bench, selected):
    with contextlib.ExitStack() as stack:
        readers = start(bench, selected, stack)
        lines = []
        for row in selected:
            table, figures = TABLES[row], Figures()
            expected = {read_one(table)["rows"] for _, read_one in readers}
            assert len(expected) == 1, f"the sides have different numbers of rows: {expected}"

            def side(name, read_one, figures=figures, table=table):
                found = read_one(table)
                figures.add(name, found["rows"] / found["seconds"])

            sides = [lambda name=name, read_one=read_one: side(name, read_one) for name, read_one in readers]
            in_rounds(bench.rounds, sides, f"row {row}")
            what = f"`SELECT *` of {expected.pop():,} rows of {table}"
            peers = BARS[row] | {"in-process DuckDB": (None, None)}
            lines += [compared(row, what, figures, "Merganser", peer, peer, "rows/s", *bars) for peer, bars in peers.items()]
        return lines


def start(bench, selected, stack):
    """Starts all sides with their tables; for each its name, and what reads one of the tables."""
    directory = stack.enter_context(bench.directory())
    first, _ = bench.data.event_files()
    making = list(statements(bench.data, selected))
    arguments = {"statements": making, "arrow": str(first)}

    inprocess = stack.enter_context(bench.inprocess())
    for name in ("plain", "inprocess"):
        inprocess.call("make", database=f"{directory}/{name}.duckdb", **arguments)
    inprocess.call("attach", database=f"{directory}/inprocess.duckdb")
    quack = stack.enter_context(bench.quack_client())
    quack.call("make", database=f"{directory}/quack.duckdb", **arguments)

    files = {"events": first} if "b" in selected else {}
    if "a" in selected:
        files["lineitem"] = bench.data.tpch() / "lineitem.parquet"
    plain = stack.enter_context(bench.scripts.plain(directory, f"{directory}/plain.duckdb"))
    raw = stack.enter_context(bench.scripts.raw(directory, **files))
    quack_server = stack.enter_context(bench.scripts.quack(directory, f"{directory}/quack.duckdb"))
    quack.call("attach", uri=quack_server.uri)
    merganser = stack.enter_context(bench.merganser(directory))

    ours, plain, raw = (stack.enter_context(connect(server.uri)) for server in (merganser, plain, raw))
    if "a" in selected:
        put_tpch(ours, bench.data.tpch(), ["lineitem"])
    if "b" in selected:
        put_table(ours, "events", "create", read_arrow(first))
    return [
        ("Merganser", lambda table: read(ours, f"SELECT * FROM {table}")),
        ("plain Flight", lambda table: read(plain, f"SELECT * FROM {table}")),
        ("raw Flight", lambda table: read(raw, table)),
        ("Quack", lambda table: quack.call("read", sql=f"SELECT * FROM {table}")),
        ("in-process DuckDB", lambda table: inprocess.call("read", sql=f"SELECT * FROM {table}")),
    ]
