"""Ingests whose bodies are compressed, or have dictionaries: they are stored like others, and what unfolds to far more than was
sent, or claims to, is refused before it is in memory."""

import struct

import pyarrow as pa
import pytest
from pyarrow import flight as fl
from support import ingest, query, refused, scalar

import raw

CODECS = ["lz4", "zstd"]


def plain(table):
    return ingest(table, kind="table", mode="create")


def compressed(batch, codec):
    """The batch as one IPC message."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(batch)
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    reader.read_next_message()
    return reader.read_next_message()


def send(client, descriptor, table, codec):
    """An ingest as `put` of support.py does it, compressed."""
    write = pa.ipc.IpcWriteOptions(compression=codec)
    writer, reader = client.do_put(descriptor, table.schema, fl.FlightCallOptions(write_options=write))
    with writer:
        for batch in table.to_batches():
            writer.write_batch(batch)
        writer.done_writing()
        while reader.read() is not None:
            pass


@pytest.fixture
def narrow(server_factory):
    """A server that takes messages of 1 MiB, and as much of dictionaries."""
    sizes = {"server.message_bytes_max": "1MiB", "server.messages_memory": "1MiB", "ingest.stream_memory": "1MiB"}
    return server_factory("--memory", *(word for name, value in sizes.items() for word in ("--set", f"{name}={value}")))


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_rows_are_stored(flight, codec):
    words = pa.array(["a", "b", None] * 1000).dictionary_encode()
    table = pa.table({"n": range(3000), "text": ["x" * 100] * 3000, "word": words, "list": [[1, 2]] * 3000})
    send(flight, plain(f"compressed_{codec}"), table, codec)
    got = query(flight, f"SELECT * FROM compressed_{codec} ORDER BY n")
    assert got.to_pydict() == table.to_pydict()


@pytest.mark.parametrize("codec", CODECS)
def test_what_unfolds_to_too_much_is_refused(narrow, codec):
    with narrow.flight() as client:
        with refused("RESOURCE_EXHAUSTED", "unfolds to", "server.message_bytes_max"):
            send(client, plain("bomb"), pa.table({"text": ["x" * 20_000_000]}), codec)
        with refused("NOT_FOUND"):
            query(client, "SELECT * FROM bomb")
        send(client, plain("fits"), pa.table({"text": ["x" * 900_000]}), codec)
        assert scalar(client, "SELECT sum(length(text)) FROM fits") == 900_000


@pytest.mark.parametrize("length", [1 << 33, 1 << 45, (1 << 63) - 1])
@pytest.mark.parametrize("command", ["ingest", "parameters"])
@pytest.mark.parametrize("codec", CODECS)
def test_a_length_that_is_a_lie_asks_for_no_memory(server, codec, command, length):
    """The decoder of LZ4 would ask for so much at once, and a server that does not get it ends."""
    batch = pa.record_batch({"text": ["x" * 100_000]})
    message = compressed(batch, codec)
    body = message.body.to_pybytes()
    # The text's bytes are the last buffer; the end of the offsets before them is the same number.
    before, true, after = body.rpartition(struct.pack("<q", 100_000))
    assert true
    body = before + struct.pack("<q", length) + after
    with raw.Client(server, "test") as client, server.flight() as other:
        descriptor = {1: 2, 2: b'{"table": "lie", "kind": "table", "mode": "create"}'}
        if command == "parameters":
            created = client.sql_action("CreatePreparedStatement", {1: "SELECT ?::VARCHAR"}, "CreatePreparedStatement")
            descriptor = raw.command("CommandPreparedStatementQuery", {1: raw.one(created, 1)})
        [schema, _] = raw.data_messages(pa.Table.from_batches([batch]), descriptor)
        call = client.start("DoPut").send(schema)
        call.send({2: message.metadata.to_pybytes(), 1000: body}).half_close()
        with pytest.raises(raw.grpc.RpcError) as caught:
            call.rest()
        assert caught.value.code() == raw.grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "unfolds to" in caught.value.details()
        assert scalar(other, "SELECT 42") == 42
        with refused("NOT_FOUND"):
            query(other, "SELECT * FROM lie")


def test_the_dictionaries_of_a_stream_have_a_limit(narrow):
    def words(length, word="x"):
        return pa.array([word * length]).dictionary_encode()

    with narrow.flight() as client:
        columns = {f"c{number}": words(400_000) for number in range(3)}
        with refused("RESOURCE_EXHAUSTED", "dictionaries", "ingest.stream_memory"):
            send(client, plain("many"), pa.table(columns), "zstd")
        with refused("NOT_FOUND"):
            query(client, "SELECT * FROM many")
        # One that takes the place of another is counted once.
        replaced = pa.concat_tables([pa.table({"c": words(400_000, word)}) for word in "abcd"])
        send(client, plain("replaced"), replaced, None)
        assert scalar(client, "SELECT count(DISTINCT c) FROM replaced") == 4
