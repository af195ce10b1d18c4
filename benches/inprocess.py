"""DuckDB 2.0 in-process: the same work without a wire, in a process of its own. A worker, see workers.py.

`python inprocess.py MEMORY_MIB`. It also makes the database files of the plain server.
"""

import contextlib
import json
import sys
import threading
import time

import duckdb

import latency
from data import EVENT_COLUMNS, read as read_arrow
from workers import answer_commands

MEMORY_MIB = sys.argv[1]
OLD_BATCH_ROWS = 1000
KEPT = ("event_name", "event_time", "distinct_id", "insert_id")
# How a result is taken: as Python's rows, which is the fastest for one value, or as an Arrow table.
FORMS = {
    "rows": lambda cursor, sql: cursor.execute(sql).fetchall(),
    "arrow": lambda cursor, sql: cursor.sql(sql).to_arrow_table(),
}
state = {}


def connect(database):
    return duckdb.connect(database, config={"memory_limit": f"{MEMORY_MIB}MiB"})


def make(database, statements, arrow=None):
    """Makes a database file; `arrow` is an Arrow file that the statements know as `source`."""
    with contextlib.closing(connect(database)) as connection:
        if arrow:
            connection.register("source", read_arrow(arrow))
        for statement in statements:
            connection.execute(statement)


def attach(database):
    state["connection"] = connect(database)


def read(sql):
    """Seconds from the call to an Arrow table, and its rows."""
    started = time.perf_counter()
    table = state["connection"].sql(sql).to_arrow_table()
    return {"seconds": time.perf_counter() - started, "rows": table.num_rows}


def load(first, more):
    """Takes the events into memory, before anything is measured; in one piece, which DuckDB reads with all its threads."""
    state["first"], state["more"] = (read_arrow(path).combine_chunks() for path in (first, more))


def insert(database, key, append):
    """Seconds to INSERT the events into a new table on a new file, and then to append those of which half are known."""
    with contextlib.closing(connect(database)) as connection:
        connection.register("first", state["first"])
        connection.register("more", state["more"])
        connection.execute(f"CREATE TABLE events ({EVENT_COLUMNS.format(key=key)})")
        found = {"seconds": timed_insert(connection, "INSERT INTO events SELECT * FROM first", state["first"].num_rows)}
        if append:
            new = state["more"].num_rows - state["more"].num_rows // 2
            found["append"] = timed_insert(connection, "INSERT OR IGNORE INTO events SELECT * FROM more", new)
    return found


def timed_insert(connection, sql, expected):
    started = time.perf_counter()
    [[rows]] = connection.execute(sql).fetchall()
    seconds = time.perf_counter() - started
    assert rows == expected, f"{rows} rows, not {expected}"
    return seconds


def old_way(database, rows):
    """Seconds that the engine which Merganser replaces takes: dicts, json.dumps, and executemany of INSERT OR IGNORE."""
    events = state["first"].slice(0, rows).to_pylist()
    for event in events:
        event["properties"] = json.loads(event["properties"])
    with contextlib.closing(connect(database)) as connection:
        connection.execute(f"CREATE TABLE events ({EVENT_COLUMNS.format(key='PRIMARY KEY')})")
        started = time.perf_counter()
        for begin in range(0, rows, OLD_BATCH_ROWS):
            batch = [
                [*(event[name] for name in KEPT), json.dumps(event["properties"])]
                for event in events[begin : begin + OLD_BATCH_ROWS]
            ]
            connection.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", batch)
        return time.perf_counter() - started


def query(sql, form, clients, seconds, warmup):
    """The same query again and again, each to its last row, on `clients` connections with a thread each."""
    times, fetch = [None] * clients, FORMS[form]

    def work(number):
        cursor = state["connection"].cursor()
        times[number] = latency.repeat(lambda: fetch(cursor, sql), seconds, warmup)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latency.summary([took for list in times for took in list], seconds)


def queries(texts):
    """Seconds of each of the queries, one after another."""
    return [read(sql)["seconds"] for sql in texts]


if __name__ == "__main__":
    functions = (make, attach, read, load, insert, old_way, query, queries)
    answer_commands({function.__name__: function for function in functions})
