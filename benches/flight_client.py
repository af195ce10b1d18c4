"""Merganser's and the peers' client over Flight, as a Python program has it: pyarrow."""

import json
import subprocess
import threading
import time

import pyarrow.parquet
from pyarrow import flight

from data import BATCH_ROWS, TPCH_TABLES


def connect(uri):
    """A client with a connection of its own; gRPC would give all clients of one address the same."""
    return flight.connect(uri, generic_options=[("grpc.use_local_subchannel_pool", 1)])


def read(client, ticket):
    """Seconds from the call to a pyarrow Table, and its rows."""
    started = time.perf_counter()
    table = client.do_get(flight.Ticket(ticket.encode())).read_all()
    return {"seconds": time.perf_counter() - started, "rows": table.num_rows}


def scalar(client, sql):
    return client.do_get(flight.Ticket(sql.encode())).read_all().column(0)[0].as_py()


def put(client, table, mode, schema, batches, progress=None, kind="events"):
    """One ingest; returns its result. `progress` is called with each answer on the way."""
    command = json.dumps({"table": table, "kind": kind, "mode": mode}).encode()
    writer, reader = client.do_put(flight.FlightDescriptor.for_command(command), schema)
    answers = []

    def receive():
        while (answer := reader.read()) is not None:
            answers.append(json.loads(answer.to_pybytes()))
            if progress:
                progress(answers[-1])

    # Beside the writing, so that a progress is seen when it comes.
    receiver = threading.Thread(target=receive)
    receiver.start()
    try:
        for batch in batches:
            writer.write_batch(batch)
        writer.done_writing()
        receiver.join()
    finally:
        writer.close()
    return answers[-1]


def put_table(client, name, mode, table):
    """One ingest of a table of events, in batches of 65,536 rows; returns the number of new rows."""
    return put(client, name, mode, table.schema, table.to_batches(max_chunksize=BATCH_ROWS))["rows_inserted"]


def put_tpch(client, directory, tables=TPCH_TABLES):
    for name in tables:
        with pyarrow.parquet.ParquetFile(directory / f"{name}.parquet") as file:
            put(client, name, "create", file.schema_arrow, file.iter_batches(BATCH_ROWS), kind="table")


def load(program, uri, work, clients, seconds, **options):
    """One run of the load client; returns what it says. An operation that fails is an error of the row."""
    command = [program, "--server", uri, work, "--clients", str(clients), "--seconds", str(seconds)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + 120)
    if ended.returncode != 0:
        raise RuntimeError(f"load {work} with {clients} clients: {ended.stderr.strip() or ended.stdout.strip()}")
    return json.loads(ended.stdout)
