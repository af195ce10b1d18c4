"""Flight SQL from stock pyarrow.flight, which has no client of it: a session, prepared statements, deadlines, dropped streams.

The commands are made by hand, as users of pyarrow do with the protobuf messages.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from adbc_support import eventually
from raw import decode, encode, one, packed, schema_of, unpacked
from support import path, put, query, refused, scalar, some_events

# Hours of work that the engine can interrupt at any moment.
ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
METADATA = {
    "CommandGetCatalogs": {},
    "CommandGetDbSchemas": {},
    "CommandGetTables": {5: True},
    "CommandGetTableTypes": {},
    "CommandGetSqlInfo": {},
    "CommandGetXdbcTypeInfo": {},
    "CommandGetPrimaryKeys": {3: "t"},
    "CommandGetExportedKeys": {3: "t"},
    "CommandGetImportedKeys": {3: "t"},
    "CommandGetCrossReference": {3: "t", 6: "u"},
}


def command(name, fields):
    return fl.FlightDescriptor.for_command(packed(name, fields))


def read(client, descriptor, options=None):
    info = client.get_flight_info(descriptor, options)
    [endpoint] = info.endpoints
    assert endpoint.locations == []
    table = client.do_get(endpoint.ticket, options).read_all()
    assert table.schema.equals(info.schema, check_metadata=True)
    return table


def action(client, name, body, options=None):
    return [result.body.to_pybytes() for result in client.do_action(fl.Action(name, body), options)]


def prepare(client, sql, options=None):
    [body] = action(client, "CreatePreparedStatement", packed("ActionCreatePreparedStatementRequest", {1: sql}), options)
    return unpacked("ActionCreatePreparedStatementResult", body)


@pytest.fixture
def session(flight):
    """The header of a session, which pyarrow sends only if it is told to."""
    header = flight.authenticate_basic_token("user", "password")
    return fl.FlightCallOptions(headers=[header])


# --- a session ---


def test_a_session_by_handshake(flight, session):
    def run(sql, options):
        return flight.do_get(fl.Ticket(sql.encode()), options).read_all()

    run("CREATE TEMP TABLE of_the_session AS SELECT 1 AS n", session)
    assert run("SELECT n FROM of_the_session", session)["n"].to_pylist() == [1]
    with refused("NOT_FOUND", "of_the_session"):
        query(flight, "SELECT n FROM of_the_session")
    run("SET TimeZone = 'Asia/Kolkata'", session)
    assert run("SELECT current_setting('TimeZone') AS z", session)["z"].to_pylist() == ["Asia/Kolkata"]
    assert scalar(flight, "SELECT current_setting('TimeZone')") == "UTC"


def test_a_transaction_in_a_session(flight, session, table):
    def run(sql):
        return flight.do_get(fl.Ticket(sql.encode()), session).read_all()

    run(f"CREATE TABLE {table} (n INTEGER)")
    run("BEGIN")
    run(f"INSERT INTO {table} VALUES (1)")
    assert scalar(flight, f"SELECT count(*) FROM {table}") == 0
    run("COMMIT")
    assert scalar(flight, f"SELECT count(*) FROM {table}") == 1


def test_many_read_a_table_in_one_session(server, flight, session, table):
    """Their one connection goes from one to the other; what is asked for by name is read now, and gives way to nobody."""
    flight.do_get(fl.Ticket(f"CREATE TEMP TABLE t_{table} AS SELECT 1 AS n".encode()), session).read_all()
    put(flight, path("events", table), some_events([str(number) for number in range(500)]))
    [endpoint] = flight.get_flight_info(path(table)).endpoints

    def read(_):
        return flight.do_get(endpoint.ticket, session).read_all().num_rows

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(read, range(40))) == {500}


def test_the_rows_of_a_table_are_counted_in_the_transaction(flight, session, table):
    def run(sql):
        return flight.do_get(fl.Ticket(sql.encode()), session).read_all()

    run(f"CREATE TABLE {table} AS FROM range(30) t(n)")
    run("BEGIN")
    run(f"DELETE FROM {table} WHERE n = 7")
    run(f"CREATE TABLE {table}_new AS FROM range(3) t(n)")
    for name, rows in [(table, 29), (f"{table}_new", 3)]:
        info = flight.get_flight_info(path(name), session)
        assert info.total_records == rows == flight.do_get(info.endpoints[0].ticket, session).read_all().num_rows
    run("ROLLBACK")


def test_without_a_session_nothing_is_kept(flight):
    """A transaction that nobody could end is refused, or ends with its call: the next call is not in it."""
    for sql in ("BEGIN", "CREATE TEMP TABLE nobodys AS SELECT 1 AS n"):
        try:
            query(flight, sql)
        except pa.ArrowException:
            pass
    with refused("NOT_FOUND", "nobodys"):
        query(flight, "SELECT * FROM nobodys")


# --- prepared statements ---


def test_a_prepared_query(flight):
    prepared = prepare(flight, "SELECT ?::BIGINT * 2 AS n")
    assert schema_of(one(prepared, 2)) == pa.schema([("n", pa.int64())])
    assert schema_of(one(prepared, 3)).types == [pa.int64()]
    assert one(prepared, 4, 0) == 0
    descriptor = command("CommandPreparedStatementQuery", {1: one(prepared, 1)})
    for values in ([21], [1, 2, 3], [None]):
        writer, reader = flight.do_put(descriptor, pa.schema([("1", pa.int64())]))
        writer.write_batch(pa.record_batch([pa.array(values, pa.int64())], ["1"]))
        writer.done_writing()
        assert one(decode(reader.read().to_pybytes()), 1) == one(prepared, 1)
        writer.close()
        wanted = [value and value * 2 for value in values]
        # The values stay until others are bound.
        assert read(flight, descriptor)["n"].to_pylist() == wanted
        assert read(flight, descriptor)["n"].to_pylist() == wanted
    close = packed("ActionClosePreparedStatementRequest", {1: one(prepared, 1)})
    assert action(flight, "ClosePreparedStatement", close) == []
    with refused("NOT_FOUND"):
        flight.get_flight_info(descriptor)
    assert action(flight, "ClosePreparedStatement", close) == []


def test_parameters_of_all_statements_have_a_bound(server_factory):
    """Those of the statement not used for longest go, and it with them."""
    limits = ["--set", "query.parameters_bytes_max=4MiB", "--set", "query.parameters_memory=4MiB"]
    server = server_factory("--memory", *limits)
    with server.flight() as client:
        descriptors = []
        for number in range(3):
            prepared = prepare(client, "SELECT length(?::VARCHAR) AS n")
            descriptors.append(command("CommandPreparedStatementQuery", {1: one(prepared, 1)}))
            batch = pa.record_batch([pa.array(["x" * (900_000 + number)])], ["1"])
            writer, reader = client.do_put(descriptors[-1], batch.schema)
            writer.write_batch(batch)
            writer.done_writing()
            reader.read()
            writer.close()
        with refused("NOT_FOUND", "query.parameters_memory"):
            client.get_flight_info(descriptors[0])
        assert [read(client, descriptor)["n"].to_pylist() for descriptor in descriptors[1:]] == [[900_001], [900_002]]


def test_a_prepared_update(flight, table):
    query(flight, f"CREATE TABLE {table} (n INTEGER, s VARCHAR)")
    prepared = prepare(flight, f"INSERT INTO {table} VALUES (?, ?)")
    assert one(prepared, 4, 0) == 1 and len(schema_of(one(prepared, 2))) == 0
    descriptor = command("CommandPreparedStatementUpdate", {1: one(prepared, 1)})
    batch = pa.record_batch([pa.array([1, None, 3]), pa.array(["a", "b", None])], ["1", "2"])
    writer, reader = flight.do_put(descriptor, batch.schema)
    writer.write_batch(batch)
    writer.write_batch(batch.slice(0, 1))
    writer.done_writing()
    assert one(decode(reader.read().to_pybytes()), 1) == 4
    assert reader.read() is None
    writer.close()
    assert scalar(flight, f"SELECT count(*) FROM {table}") == 4


def test_get_schema_of_every_command(flight):
    prepared = prepare(flight, "SELECT 1::BIGINT AS n")
    commands = {
        "CommandStatementQuery": {1: "SELECT 1::BIGINT AS n"},
        "CommandPreparedStatementQuery": {1: one(prepared, 1)},
    } | METADATA
    for name, fields in commands.items():
        descriptor = command(name, fields)
        told = flight.get_schema(descriptor).schema
        assert told.equals(read(flight, descriptor).schema, check_metadata=True), name
    assert len(flight.get_schema(command("CommandStatementQuery", {1: "CREATE TABLE never (n INTEGER)"})).schema) == 0
    with refused("NOT_FOUND"):
        flight.get_schema(command("CommandStatementQuery", {1: "SELECT * FROM never"}))


def test_plain_sql_in_descriptors_and_tickets(flight):
    """The C# driver and many users of pyarrow know nothing of commands (rule 20)."""
    assert read(flight, fl.FlightDescriptor.for_command(b"SELECT 1 AS n"))["n"].to_pylist() == [1]
    assert flight.do_get(fl.Ticket(b"SELECT 1 AS n")).read_all()["n"].to_pylist() == [1]
    query(flight, "CREATE OR REPLACE TABLE by_path AS SELECT 1 AS n")
    for path in (("by_path",), ("main", "by_path"), ("merganser", "main", "by_path")):
        assert read(flight, fl.FlightDescriptor.for_path(*path))["n"].to_pylist() == [1]


def test_what_is_not_offered_says_so(flight):
    transaction = action(flight, "BeginTransaction", packed("ActionBeginTransactionRequest", {}))
    transaction = one(unpacked("ActionBeginTransactionResult", transaction[0]), 1)
    with refused("UNIMPLEMENTED"):
        action(flight, "BeginSavepoint", packed("ActionBeginSavepointRequest", {1: transaction, 2: "s"}))
    with refused("UNIMPLEMENTED"):
        flight.get_flight_info(command("CommandStatementSubstraitPlan", {1: {1: b"plan"}}))
    action(flight, "EndTransaction", packed("ActionEndTransactionRequest", {1: transaction, 2: 2}))


def test_unknown_handles_are_not_found(flight):
    for descriptor in (
        command("CommandPreparedStatementQuery", {1: b"never"}),
        command("CommandStatementQuery", {1: "SELECT 1", 2: b"never"}),
    ):
        with refused("NOT_FOUND"):
            flight.get_flight_info(descriptor)
    with refused("NOT_FOUND"):
        action(flight, "EndTransaction", packed("ActionEndTransactionRequest", {1: b"never", 2: 1}))


# --- polling, renewing, cancelling ---


def test_renewing_an_endpoint(flight):
    info = flight.get_flight_info(command("CommandStatementQuery", {1: "SELECT 1 AS n"}))
    [endpoint] = info.endpoints
    [answer] = action(flight, "RenewFlightEndpoint", encode({1: endpoint.serialize()}))
    assert fl.FlightEndpoint.deserialize(answer).ticket == endpoint.ticket
    assert flight.do_get(endpoint.ticket).read_all().num_rows == 1


def test_cancelling_before_reading(flight):
    info = flight.get_flight_info(command("CommandStatementQuery", {1: ENDLESS}))
    [answer] = action(flight, "CancelFlightInfo", encode({1: info.serialize()}))
    assert one(decode(answer), 1) in (1, 2, 3)


@pytest.mark.parametrize("how", ["drop", "cancel"])
def test_a_dropped_stream_frees_the_server(server, how):
    """The reader is let go in the middle; the server stops working, and forgets the query."""

    def ticks():
        with open(f"/proc/{server.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def idle():
        before = ticks()
        time.sleep(0.2)
        return ticks() - before <= 0.05 * os.sysconf("SC_CLK_TCK")

    with server.flight() as client:
        readers = [client.do_get(fl.Ticket(b"SELECT range AS n FROM range(100000000000)")) for _ in range(4)]
        for reader in readers:
            assert reader.read_chunk().data.num_rows > 0
            if how == "cancel":
                reader.cancel()
        del reader
        readers.clear()
    eventually("the server is idle", idle)


@pytest.mark.parametrize("rpc", ["get_flight_info", "do_put", "do_get"])
def test_deadlines_on_every_call(flight, table, rpc):
    """The deadline is the caller's: the status says so, and nothing is left of the statement."""
    options = fl.FlightCallOptions(timeout=0.5)
    sql = f"CREATE TABLE {table} AS {ENDLESS}"
    prepared = prepare(flight, sql)
    started = time.monotonic()
    with refused("DEADLINE_EXCEEDED"):
        if rpc == "get_flight_info":
            flight.get_flight_info(command("CommandStatementQuery", {1: sql}), options)
        elif rpc == "do_get":
            flight.do_get(fl.Ticket(sql.encode()), options).read_all()
        else:
            descriptor = command("CommandPreparedStatementUpdate", {1: one(prepared, 1)})
            writer, reader = flight.do_put(descriptor, pa.schema([]), options)
            writer.done_writing()
            reader.read()
            writer.close()
    assert time.monotonic() - started < 10
    with refused("NOT_FOUND", table):
        query(flight, f"SELECT * FROM {table}")
