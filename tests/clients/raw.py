"""Flight without a client: gRPC calls whose every byte, header and half-close the test decides.

The replays of clients that no package brings to this machine are written with it. A protobuf message is a dict of field
numbers: `{1: "text", 4: ["a", "b"], 5: True}`.
"""

import queue
import struct
from collections import defaultdict

import grpc
import pyarrow as pa

SERVICE = "/arrow.flight.protocol.FlightService/"
TYPE_URL = "type.googleapis.com/arrow.flight.protocol.sql."
PATIENCE_SECONDS = 30


# --- protobuf ---


class Fixed64(int):
    """An integer that is sent in eight bytes."""


def _varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def encode(fields):
    """A message; None is a field that is not sent, a list is a repeated one, a dict is a message in the message."""
    out = b""
    for number, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            if value is None:
                continue
            if isinstance(value, float):
                out += _varint(number << 3 | 1) + struct.pack("<d", value)
            elif isinstance(value, Fixed64):
                out += _varint(number << 3 | 1) + struct.pack("<q", value)
            elif isinstance(value, int):
                out += _varint(number << 3) + _varint(value)
            else:
                body = encode(value) if isinstance(value, dict) else value.encode() if isinstance(value, str) else value
                out += _varint(number << 3 | 2) + _varint(len(body)) + bytes(body)
    return out


def decode(data):
    """The fields of a message: for each number the list of its values, integers or bytes."""
    fields, at = defaultdict(list), 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            value = varint()
            fields[tag >> 3].append(value - (1 << 64) if value >> 63 else value)
            continue
        length = {1: 8, 2: None, 5: 4}[tag & 7] or varint()
        fields[tag >> 3].append(bytes(data[at : at + length]))
        at += length
    return fields


def one(fields, number, default=b""):
    """The value of a field that is there at most once."""
    values = fields.get(number, [])
    assert len(values) <= 1, f"field {number} is repeated"
    return values[0] if values else default


def packed(name, fields):
    """A Flight SQL message in the Any that all of its commands and actions come in."""
    return encode({1: TYPE_URL + name, 2: encode(fields)})


def unpacked(name, data):
    """The message in an Any, which must be of that name."""
    fields = decode(data)
    assert one(fields, 1).decode() == TYPE_URL + name
    return decode(one(fields, 2))


def command(name, fields):
    """A descriptor of a Flight SQL command."""
    return {1: 2, 2: packed(name, fields)}


# --- Arrow ---


def schema_of(data):
    """A schema as FlightInfo and the actions carry it: with IPC's continuation and length, or empty."""
    return pa.ipc.read_schema(pa.py_buffer(data)) if data else pa.schema([])


def data_messages(table, descriptor=None):
    """FlightData for a table, a message for the schema and one for each batch; the first carries the descriptor."""
    first = pa.ipc.read_message(table.schema.serialize())
    yield {1: descriptor, 2: first.metadata.to_pybytes()}
    for batch in table.to_batches():
        message = pa.ipc.read_message(batch.serialize())
        yield {2: message.metadata.to_pybytes(), 1000: message.body.to_pybytes()}


def no_parameters():
    """What Java, C++ and Go send when there is nothing to bind: no columns, and one batch of no rows."""
    return pa.Table.from_batches([pa.RecordBatch.from_pylist([], schema=pa.schema([]))])


def table_of(messages):
    """The table of a stream of FlightData."""
    stream = b""
    for message in map(decode, messages):
        header, body = one(message, 2), one(message, 1000)
        padding = b"\0" * (-len(header) % 8)
        stream += struct.pack("<iI", -1, len(header + padding)) + header + padding + body
    return pa.ipc.open_stream(stream + struct.pack("<iI", -1, 0)).read_all()


# --- gRPC ---


class Call:
    """One running call: what it sends and what it receives, in the order that the test decides."""

    def __init__(self, start, metadata, cookies):
        self._requests, self._cookies = queue.Queue(), cookies
        self._call = start(iter(self._requests.get, None), metadata=metadata, timeout=PATIENCE_SECONDS)

    def send(self, fields):
        self._requests.put(encode(fields))
        return self

    def half_close(self):
        self._requests.put(None)
        return self

    def receive(self):
        """The next message, as bytes; None at the end."""
        return next(self._call, None)

    def rest(self):
        """All that comes until the end."""
        found = list(self._call)
        self.headers()
        return found

    def headers(self):
        """The headers of the answer; a client with a cookie jar fills it here."""
        headers = [(key, value) for key, value in self._call.initial_metadata()]
        if self._cookies is not None:
            for key, value in headers:
                if key == "set-cookie":
                    name, _, rest = value.partition("=")
                    self._cookies[name.strip()] = rest.partition(";")[0]
        return headers

    def trailers(self):
        return [(key, value) for key, value in self._call.trailing_metadata()]

    def cancel(self):
        self._call.cancel()


class Client:
    """A channel with headers on every call, and with a cookie jar if the client that it plays has one."""

    def __init__(self, server, user_agent, cookies=False):
        options = [("grpc.primary_user_agent", user_agent), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options)
        self.headers = {}
        self.cookies = {} if cookies else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def start(self, method):
        """A call whose messages the test sends one by one."""
        headers = dict(self.headers)
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return Call(self._channel.stream_stream(SERVICE + method), list(headers.items()), self.cookies)

    def call(self, method, fields):
        """A call of one message; returns the answers."""
        return self.start(method).send(fields).half_close().rest()

    def action(self, name, body):
        """The bodies that an action answers."""
        return [one(decode(answer), 1) for answer in self.call("DoAction", {1: name, 2: body})]

    def sql_action(self, name, fields, result=None):
        """A Flight SQL action `name`; the message of its one result, if it has one."""
        bodies = self.action(name, packed(f"Action{name}Request", fields))
        if result is None:
            assert bodies == []
            return None
        [body] = bodies
        return unpacked(f"Action{name}Result", body)

    def info(self, descriptor):
        """A FlightInfo, with what every client relies on: a schema, and one endpoint without locations (rules 10, 11)."""
        [answer] = self.call("GetFlightInfo", descriptor)
        info = decode(answer)
        [endpoint] = info[3]
        assert decode(endpoint)[2] == [], "the endpoint has a location"
        return info

    def get(self, descriptor):
        """Runs a query or a metadata command, and reads its one endpoint."""
        info = self.info(descriptor)
        table = table_of(self.call("DoGet", decode(decode(info[3][0])[1][0])))
        told = schema_of(one(info, 1))
        assert table.schema.equals(told, check_metadata=True), f"told {told}\ngot {table.schema}"
        return table

    def put(self, descriptor, table):
        """DoPut of a table; the app_metadata of each answer."""
        call = self.start("DoPut")
        for message in data_messages(table, descriptor):
            call.send(message)
        return [one(decode(answer), 1) for answer in call.half_close().rest()]

    def update_count(self, descriptor, table):
        """DoPut of an update; the one count that it answers, which is sent raw and not in an Any."""
        [answer] = self.put(descriptor, table)
        return record_count(answer)


def record_count(answer):
    """The count of a DoPutUpdateResult."""
    return one(decode(answer), 1, 0)


def session_options(**options):
    """SetSessionOptions' request."""

    def value(option):
        if isinstance(option, str):
            return {1: option}
        if isinstance(option, list):
            return {5: {1: option}}
        return {3: Fixed64(option)}

    return encode({1: [{1: name, 2: {} if option is None else value(option)} for name, option in options.items()]})
