"""Abuse of HTTP/2 by clients that write its frames themselves: whatever they do, others are served, and memory stays."""

import contextlib
import pathlib
import socket
import struct
import time

import pyarrow as pa
import pytest
from pyarrow import flight

from adbc_support import eventually
from raw import encode
from support import action, ingest, put, query, refused

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW = 4
SERVICE = "/arrow.flight.protocol.FlightService/"
# What one abuser may make the server keep.
MEMORY_MIB = 128


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name, value):
    """A literal of HPACK, neither indexed nor compressed."""

    def text(value):
        value = value.encode()
        # Lengths from 127 on go on in further bytes.
        if len(value) < 127:
            return bytes([len(value)]) + value
        length, rest = b"\x7f", len(value) - 127
        while rest >= 128:
            length, rest = length + bytes([rest % 128 + 128]), rest // 128
        return length + bytes([rest]) + value

    return b"\x00" + text(name) + text(value)


def call(method):
    fields = {":method": "POST", ":scheme": "http", ":path": SERVICE + method, ":authority": "localhost"}
    fields |= {"content-type": "application/grpc", "te": "trailers"}
    return b"".join(header(name, value) for name, value in fields.items())


def message(payload):
    return struct.pack(">BI", 0, len(payload)) + payload


def ticket(sql):
    """A `Ticket` of less than 128 bytes."""
    return message(bytes([0x0A, len(sql)]) + sql.encode())


class Abuser:
    """A connection that speaks HTTP/2 as far as it is told to."""

    def __init__(self, server, settings=b""):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.send(PREFACE + frame(SETTINGS, payload=settings) + frame(SETTINGS, ACK))

    def send(self, data):
        self.socket.sendall(data)

    def send_while_open(self, data, times):
        """Whether all of it was taken."""
        self.socket.settimeout(5)
        try:
            for _ in range(times):
                self.send(data)
        except OSError:
            return False
        return True

    def read(self, seconds):
        """What the server says in this time, or until it closes the connection."""
        self.socket.settimeout(0.2)
        said, deadline = b"", time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                try:
                    more = self.socket.recv(1 << 16)
                except ConnectionError:
                    return said
                if not more:
                    return said
                said += more
        return said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def resident_mib(server):
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


@contextlib.contextmanager
def unmoved(server):
    """The server answers others, and has not grown at the end."""
    with server.flight() as client:
        one(client)
        before = resident_mib(server)
        yield server
        one(client)
        grown = resident_mib(server) - before
    with server.flight() as client:
        one(client)
    assert grown < MEMORY_MIB, f"{grown} MiB more"


@pytest.fixture
def quiet(server):
    with unmoved(server):
        yield server


def one(client):
    assert client.do_get(flight.Ticket(b"SELECT 1 AS one")).read_all().to_pydict() == {"one": [1]}


def test_the_frames_are_right(quiet):
    with Abuser(quiet) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, call("DoGet")))
        client.send(frame(DATA, END_STREAM, 1, ticket("SELECT 'here I am'")))
        said = client.read(1)
        assert b"here I am" in said


def test_streams_that_are_reset_at_once(quiet):
    """Rapid reset: each stream begins a call and takes it back."""
    with Abuser(quiet) as client:
        for stream in range(1, 40_001, 2):
            opened = frame(HEADERS, END_HEADERS, stream, call("DoGet"))
            opened += frame(DATA, END_STREAM, stream, ticket("SELECT count(*) FROM range(100000)"))
            if not client.send_while_open(opened + frame(RESET, 0, stream, struct.pack(">I", 8)), 1):
                break
        client.read(1)


def test_headers_without_an_end(quiet):
    with Abuser(quiet) as client:
        client.send(frame(HEADERS, 0, 1, call("DoGet")))
        more = frame(CONTINUATION, 0, 1, header("x-more", "x" * 16_000))
        assert not client.send_while_open(more, 20_000), "320 MB of headers were taken"


def test_headers_beyond_the_limit(quiet):
    """They are 431, or the end of the connection; no call."""
    calls = quiet.log().count('method="DoGet"')
    with Abuser(quiet) as client:
        client.send(frame(HEADERS, 0, 1, call("DoGet")))
        for number in range(8):
            flags = END_HEADERS if number == 7 else 0
            client.send_while_open(frame(CONTINUATION, flags, 1, header("x-more", "x" * 16_000)), 1)
        client.read(1)
    assert quiet.log().count('method="DoGet"') == calls


@pytest.mark.parametrize("kind", [PING, SETTINGS, WINDOW])
def test_floods_that_want_answers(quiet, kind):
    """The answers are never read."""
    payload = {PING: b"12345678", SETTINGS: b"", WINDOW: struct.pack(">I", 1)}[kind]
    with Abuser(quiet) as client:
        client.send_while_open(frame(kind, payload=payload) * 1000, 1000)


def test_empty_data_without_an_end(quiet):
    with Abuser(quiet) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, call("DoPut")))
        client.send_while_open(frame(DATA, 0, 1) * 1000, 1000)


def test_a_result_that_is_never_read(server_factory):
    """A window of nothing: the query waits, and holds no more than its buffer."""
    settings = struct.pack(">HI", INITIAL_WINDOW, 0)
    server = server_factory("--memory", "--set", "query.result_buffer=8MiB")
    with unmoved(server), contextlib.ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(Abuser(server, settings))
            client.send(frame(HEADERS, END_HEADERS, 1, call("DoGet")))
            client.send(frame(DATA, END_STREAM, 1, ticket("SELECT range, repeat('x', 100) FROM range(10000000)")))
        client.read(2)


def test_a_message_that_is_announced_and_does_not_come(quiet):
    """One of 900 MB, of which there is a byte: nothing is set aside for it."""
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(Abuser(quiet))
            client.send(frame(HEADERS, END_HEADERS, 1, call("DoPut")))
            client.send(frame(DATA, 0, 1, struct.pack(">BI", 0, 900_000_000) + b"x"))
        client.read(1)


def test_frames_that_are_none(quiet):
    for garbage in (b"\xff" * 4096, frame(DATA, 0, 1, b"no stream"), frame(HEADERS, END_HEADERS, 2, b"\xff\xff"), frame(99) * 1000):
        with Abuser(quiet) as client:
            client.send(garbage)
            client.read(1)


def plain(table):
    return ingest(table, kind="table", mode="create")


def little_room(server_factory, **values):
    values = {"server.message_bytes_max": "1MiB", "server.messages_memory": "1MiB"} | values
    return server_factory("--memory", *(word for name, value in values.items() for word in ("--set", f"{name}={value}")))


def announce(client, stream=1, sent=1):
    """Begins a message of 900 kB, and sends so many bytes of it."""
    client.send(frame(HEADERS, END_HEADERS, stream, call("DoPut")) + frame(DATA, 0, stream, struct.pack(">BI", 0, 900_000)))
    for start in range(0, sent, 16_000):
        client.send(frame(DATA, 0, stream, b"x" * min(16_000, sent - start)))


def test_messages_wait_for_room(server_factory):
    """Who has announced a large message has its room until it is there, or does not come."""
    server = little_room(server_factory, **{"server.messages_wait": "500ms", "ingest.idle_timeout": "8s"})
    large = pa.table({"text": ["x" * 100_000 for _ in range(6)]})
    with server.flight() as other, Abuser(server) as client:
        put(other, plain("before"), large)
        announce(client)
        with refused("RESOURCE_EXHAUSTED", "server.messages_memory", "server.messages_wait"):
            # The first ones may come before the announcement.
            for attempt in range(100):
                put(other, plain(f"meanwhile_{attempt}"), large)
        # What is small needs no room.
        put(other, plain("small"), pa.table({"text": ["x"]}))
        eventually("the message is given up", lambda: 'method="DoPut" code="DEADLINE_EXCEEDED"' in server.log())
        put(other, plain("after"), large)
        assert query(other, "SELECT count(*) AS n FROM after").to_pydict() == {"n": [6]}


def test_who_waits_for_room_is_in_nobody_s_way(server_factory):
    """One call of a connection waits, and another one is answered."""
    server = little_room(server_factory, **{"server.messages_wait": "1min"})
    with Abuser(server) as first, Abuser(server) as client:
        announce(first)
        # The server's own windows have to be there before they can be filled.
        client.read(1)
        announce(client, 1, 800_000)
        client.send(frame(HEADERS, END_HEADERS, 3, call("DoGet")) + frame(DATA, END_STREAM, 3, ticket("SELECT 'here I am'")))
        assert b"here I am" in client.read(2)


def test_who_reads_no_answer_is_given_up(server_factory):
    """A window of nothing, so that not even the first answer comes: the ingest ends all the same, and its table is free."""
    server = server_factory("--memory", "--set", "ingest.idle_timeout=3s")
    schema = pa.schema({"text": pa.string()}).serialize().to_pybytes()
    # What goes before an IPC message is not a part of FlightData's header.
    command = encode({1: {1: 2, 2: plain("silent").command}, 2: schema[8:]})
    with server.flight() as other, Abuser(server, struct.pack(">HI", INITIAL_WINDOW, 0)) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, call("DoPut")) + frame(DATA, 0, 1, message(command)))
        eventually("the ingest has begun", lambda: action(other, "list_queries"))
        eventually("it has ended", lambda: not action(other, "list_queries"))
        put(other, plain("silent"), pa.table({"text": ["x"]}))


def test_only_rows_come_in_large_messages(server):
    with server.flight() as client:
        with refused("RESOURCE_EXHAUSTED", "rows come by DoPut"):
            list(client.do_action(flight.Action("server_info", b"x" * 3_000_000)))
        with refused("RESOURCE_EXHAUSTED", "engine.statement_bytes_max"):
            query(client, "SELECT 1 --" + "x" * 1_000_000)


@pytest.mark.parametrize("method", ["DoPut", "DoAction"])
@pytest.mark.parametrize("sent", [b"", struct.pack(">BI", 0, 900_000) + b"x"])
def test_a_stream_that_does_not_go_on_is_ended(server_factory, sent, method):
    server = server_factory("--memory", "--set", "ingest.idle_timeout=1s")
    with Abuser(server) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, call(method)) + frame(DATA, 0, 1, sent))
        client.read(4)
    # The answer itself is compressed.
    assert f'method="{method}" code="DEADLINE_EXCEEDED"' in server.log()
