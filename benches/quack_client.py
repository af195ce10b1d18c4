"""One client of Quack: a DuckDB 1.5.5 of its own that has attached the server. A worker, see workers.py.

A process for each client, not a thread: Python's DuckDB keeps the interpreter's lock while it binds, and Quack's client sends the
query then, so threads would wait for each other. It also makes the database files that the server serves.
"""

import contextlib
import time
import uuid

import latency
import quack
from workers import answer_commands

connections = []
# How a result is taken: as Python's rows, which is the fastest for one value, or as an Arrow table.
FORMS = {"rows": lambda result: result.fetchall(), "arrow": lambda result: result.to_arrow_table()}


def make(database, statements, arrow=None):
    """Makes a database file; `arrow` is an Arrow file that the statements know as `source`."""
    with contextlib.closing(quack.connect(database)) as connection:
        if arrow:
            from pyarrow import ipc, OSFile

            with OSFile(arrow) as file:
                connection.register("source", ipc.open_file(file).read_all())
        for statement in statements:
            connection.execute(statement)


def attach(uri):
    connection = quack.connect()
    connection.execute(f"ATTACH '{uri}' AS remote (TOKEN '{quack.TOKEN}')")
    connections.append(connection)


def remote(sql):
    """The statement that runs `sql` on the server as it stands, in one round trip."""
    return f"FROM remote.query('{sql.replace(chr(39), chr(39) * 2)}')"


def read(sql):
    """Seconds from the call to an Arrow table, and its rows. sql() and not execute(), whose result is copied once more."""
    started = time.perf_counter()
    table = connections[0].sql(remote(sql)).to_arrow_table()
    return {"seconds": time.perf_counter() - started, "rows": table.num_rows}


def event():
    """An event that nobody has seen, of the same form as the load client's."""
    number = uuid.uuid4().int
    members = f'"country":"NO","os":"iOS","page":"/page{number % 10}","amount":{number % 500}.25,"position":{number % 50}'
    properties = f'{{"campaign":"camp_{number % 100}",{members}}}'
    return f"('Impression', now()::TIMESTAMP, 'user_{number % 10_000}', '{number:032x}', '{properties}')"


def insert(table, form, seconds, warmup, first):
    """INSERTs of one row; `form` says who reads the statement first: the server (`query`) or the client (`attached`)."""
    connection, numbers = connections[0], iter(range(first, 1 << 62))
    values = event if table == "single" else lambda: f"({next(numbers)}, 'text', 1.5)"
    if form == "query":
        operation = lambda: connection.execute(remote(f"INSERT INTO {table} VALUES {values()}")).fetchall()
    else:
        operation = lambda: connection.execute(f"INSERT INTO remote.{table} VALUES {values()}").fetchall()
    return latency.repeat(operation, seconds, warmup)


def query(sql, form, seconds, warmup):
    """The same query again and again, each to its last row. execute() and not sql(), which would send it twice."""
    statement, connection = remote(sql), connections[0]
    return latency.repeat(lambda: FORMS[form](connection.execute(statement)), seconds, warmup)


if __name__ == "__main__":
    answer_commands({"make": make, "attach": attach, "read": read, "insert": insert, "query": query})
