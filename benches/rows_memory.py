"""Row k: what idle sessions and results that nobody reads on cost: resident memory of the server, over what it had before.

Sessions: each has one option set by SetSessionOptions and is then left alone. Results: each is a `SELECT *` of lineitem on a
connection of its own, of which the client has read one batch. The table is read whole before, so that its pages are not counted.
"""

import gc
import json

from pyarrow import flight

from figures import Figures, in_rounds, limited
from flight_client import connect, put_tpch, read

WARM_SESSIONS = 20
SESSION_KB = 100
# query.result_buffer: the server's default.
RESULT_MB = 64 * 1024 * 1024 / 1e6


def field(number, value):
    """A protobuf field of bytes, for less than 128 of them."""
    return bytes([number << 3 | 2, len(value)]) + value


# SetSessionOptionsRequest: {session_options: {"TimeZone": {string_value: "Europe/Oslo"}}}
OPTIONS = field(1, field(1, b"TimeZone") + field(2, field(1, b"Europe/Oslo")))


def open_sessions(client, count):
    for _ in range(count):
        options = flight.FlightCallOptions(headers=[client.authenticate_basic_token("any", "thing")])
        list(client.do_action(flight.Action("SetSessionOptions", OPTIONS), options))


def open_result(uri, held):
    client = connect(uri)
    reader = client.do_get(flight.Ticket(b"SELECT * FROM lineitem"))
    reader.read_chunk()
    held.append((client, reader))


def measure(bench, selected):
    figures = Figures()

    def side():
        with bench.directory() as directory, bench.merganser(directory) as server, connect(server.uri) as client:
            # The sessions come first: memory that a load leaves behind is given back while they are opened.
            open_sessions(client, WARM_SESSIONS)
            before = server.settled_mb()
            open_sessions(client, bench.sessions)
            [info] = client.do_action(flight.Action("server_info", b"{}"))
            assert json.loads(info.body.to_pybytes())["sessions"] >= bench.sessions, "the sessions are not kept"
            figures.add("session", (server.settled_mb() - before) * 1000 / bench.sessions)
            put_tpch(client, bench.data.tpch(), ["lineitem"])
            for _ in range(2):
                read(client, "SELECT * FROM lineitem")
            before, held = server.settled_mb(), []
            for _ in range(bench.results):
                open_result(server.uri, held)
            figures.add("result", (server.settled_mb() - before) / bench.results)
            for opened, reader in held:
                reader.cancel()
                opened.close()
            held.clear()
            gc.collect()

    in_rounds(bench.rounds, [side], "row k")
    buffers = f"query.result_buffer: {RESULT_MB:.1f} MB"
    return [
        limited("k", f"{bench.sessions:,} idle sessions, each", figures["session"], "KB", SESSION_KB, lower=True),
        limited("k", f"{bench.results} half-read results, each", figures["result"], "MB", RESULT_MB, lower=True, peer=buffers),
    ]
