"""The plain Flight server: what anybody writes in fifteen lines over DuckDB 2.0. DoGet runs the ticket as SQL; nothing else.

`python plain_server.py DATABASE MEMORY_MIB`
"""

import sys

import duckdb
from pyarrow import flight

# Of 16,384 to 1,000,000 rows, no size is faster than this one by more than the noise.
BATCH_ROWS = 65_536


class Server(flight.FlightServerBase):
    def __init__(self, database, memory_mib):
        super().__init__("grpc://127.0.0.1:0")
        self.connection = duckdb.connect(database, config={"memory_limit": f"{memory_mib}MiB"})

    def do_get(self, context, ticket):
        # sql() gives rows as DuckDB makes them; execute() would copy them once more, as DuckDB 2.0 warns.
        relation = self.connection.cursor().sql(ticket.ticket.decode())
        return flight.RecordBatchStream(relation.to_arrow_reader(BATCH_ROWS))


server = Server(*sys.argv[1:])
print(f"listening on grpc://127.0.0.1:{server.port}", flush=True)
server.serve()
