"""Raw Flight: streams tables that are in memory already. No query, no conversion: what the transport alone can do.

`python raw_server.py NAME=FILE...`, Arrow files or Parquet files. The ticket is a name.
"""

import sys

import duckdb
import pyarrow as pa
from pyarrow import flight

from data import BATCH_ROWS, read


def load(path):
    """The file as DuckDB's result would be, in one piece that is cut into batches when it is sent."""
    if path.endswith(".parquet"):
        with duckdb.connect() as connection:
            return connection.sql(f"FROM read_parquet('{path}')").to_arrow_table().combine_chunks()
    return read(path)


class Server(flight.FlightServerBase):
    def __init__(self, files):
        super().__init__("grpc://127.0.0.1:0")
        self.tables = {name: load(path) for name, path in files}

    def do_get(self, context, ticket):
        table = self.tables[ticket.ticket.decode()]
        batches = table.to_batches(max_chunksize=BATCH_ROWS)
        return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(table.schema, batches))


server = Server([argument.split("=", 1) for argument in sys.argv[1:]])
print(f"listening on grpc://127.0.0.1:{server.port}", flush=True)
server.serve()
