"""What the ODBC driver for Flight SQL (Arrow C++ 26 and Dremio's, below Power BI, Excel and Tableau) sends.

No package of it reaches this machine. It is built on Arrow's C++ client, which pyarrow brings, so the handshakes go through
that very client; the statements and the catalog functions are replayed byte by byte. The driver connects to the first location
of an endpoint without asking whether it is the same server, and reads metadata of fields without asking whether there is any.
"""

import base64

import grpc
import pyarrow as pa
import pytest
from pyarrow import flight

from raw import Client, command, decode, no_parameters, one, schema_of, session_options

USER_AGENT = "grpc-c++/1.84.0 grpc-c/57.0.0 (linux; chttp2)"
# ODBC's data types, as CommandGetXdbcTypeInfo names them.
SQL_TYPES = {
    "VARCHAR": 12,
    "INTEGER": 4,
    "BIGINT": -5,
    "DOUBLE": 8,
    "DECIMAL": 3,
    "BOOLEAN": -7,
    "DATE": 91,
    "TIME": 92,
    "TIMESTAMP": 93,
    "BINARY": -2,
}


class TokenHandler(flight.ClientAuthHandler):
    """The driver's handler of a token: one handshake of nothing, and no token of its own for the calls."""

    def authenticate(self, outgoing, incoming):
        outgoing.write(b"")

    def get_token(self):
        return b""


class Recorder(flight.ClientMiddlewareFactory):
    """Keeps what the server's headers and trailers say, call by call."""

    def __init__(self):
        super().__init__()
        self.headers = []

    def start_call(self, info):
        told = {}
        self.headers.append(told)

        class Middleware(flight.ClientMiddleware):
            def received_headers(self, headers):
                told.update({key.lower(): values for key, values in headers.items()})

        return Middleware()


def driver(server, cookies=True):
    """A connection of the driver: a cookie jar, and whatever the handshake gave."""
    return Client(server, USER_AGENT, cookies=cookies)


@pytest.fixture
def odbc(server):
    with driver(server) as client:
        # What SQLConnect asks first; its answer brings the cookie of the session.
        client.get(command("CommandGetSqlInfo", {}))
        yield client


def rows(table):
    return [tuple(row.values()) for row in table.to_pylist()]


def direct(client, sql):
    """SQLExecDirect: always CommandStatementQuery, for updates, too."""
    return client.get(command("CommandStatementQuery", {1: sql}))


# --- connecting ---


def test_user_and_password(server_factory):
    """UserPasswordAuthMethod: AuthenticateBasicToken, and its header on each call."""
    server = server_factory("--memory", "--set", "auth.user=alice", "--set", "auth.password=secret")
    with server.flight() as client:
        name, token = client.authenticate_basic_token("alice", "secret")
        assert name == b"authorization" and token.startswith(b"Bearer ")
        options = flight.FlightCallOptions(headers=[(name, token)])
        assert client.do_get(flight.Ticket(b"SELECT 1 AS n"), options).read_all()["n"].to_pylist() == [1]
        for wrong in ("wrong", "secret2", ""):
            with pytest.raises(flight.FlightUnauthenticatedError):
                client.authenticate_basic_token("alice", wrong)
        with pytest.raises(flight.FlightUnauthenticatedError):
            client.do_get(flight.Ticket(b"SELECT 1 AS n")).read_all()


def test_token(server_factory):
    """TokenAuthMethod: a handshake that carries the token as a header, and an empty payload (rule 9)."""
    server = server_factory("--memory", "--set", "auth.user=alice", "--set", "auth.password=secret")
    with server.flight() as client:
        header = client.authenticate_basic_token("alice", "secret")
    with server.flight() as client:
        client.authenticate(TokenHandler(), flight.FlightCallOptions(headers=[header]))
        options = flight.FlightCallOptions(headers=[header])
        assert client.do_get(flight.Ticket(b"SELECT 1 AS n"), options).read_all().num_rows == 1
    with server.flight() as client, pytest.raises(flight.FlightUnauthenticatedError):
        forged = (b"authorization", b"Bearer 00000000-0000-0000-0000-000000000000")
        client.authenticate(TokenHandler(), flight.FlightCallOptions(headers=[forged]))


def test_no_authentication(server):
    """NoOpAuthMethod: a handshake of nothing, and a server that wants nothing may still say UNIMPLEMENTED; ours answers."""
    with server.flight() as client:
        client.authenticate(TokenHandler())
        assert client.do_get(flight.Ticket(b"SELECT 1 AS n")).read_all().num_rows == 1


def test_basic_on_every_call(server_factory):
    """Basic is good for any call, padded or not, and the password may hold colons (rules 8, 9)."""
    server = server_factory("--memory", "--set", "auth.user=alice", "--set", "auth.password=se:cr:et")
    padded = base64.b64encode(b"alice:se:cr:et").decode()
    assert padded.endswith("=")
    for basic in (padded, padded.rstrip("=")):
        with driver(server) as client:
            client.headers["authorization"] = "Basic " + basic
            assert rows(direct(client, "SELECT 1")) == [(1,)]
    with driver(server) as client, pytest.raises(grpc.RpcError) as caught:
        client.headers["authorization"] = "Basic " + base64.b64encode(b"alice:se").decode()
        direct(client, "SELECT 1")
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_handshake_answers_a_header_and_a_message(server):
    """C++, Go and Java want the header, JavaScript the message (rule 9)."""
    with driver(server) as client:
        client.headers["authorization"] = "Basic " + base64.b64encode(b"user:password").decode()
        # Go sends no message at all.
        for send in (lambda call: call, lambda call: call.send({})):
            call = send(client.start("Handshake")).half_close()
            [answer] = call.rest()
            assert dict(call.headers())["authorization"] == "Bearer " + one(decode(answer), 2).decode()


def test_a_call_without_a_session_gets_one(server):
    """A Bearer for those who adopt it, a cookie for those who keep cookies; neither when the call brings one."""
    recorder = Recorder()
    with flight.FlightClient(server.uri, middleware=[recorder]) as client:
        client.do_get(flight.Ticket(b"SELECT 1")).read_all()
        [bearer] = recorder.headers[-1]["authorization"]
        [cookie] = recorder.headers[-1]["set-cookie"]
        assert bearer.startswith("Bearer ") and cookie.startswith("merganser_session=")
        for header in ((b"authorization", bearer.encode()), (b"cookie", cookie.split(";")[0].encode())):
            options = flight.FlightCallOptions(headers=[header])
            client.do_get(flight.Ticket(b"SELECT 1"), options).read_all()
            assert not {"authorization", "set-cookie"} & set(recorder.headers[-1])


def test_cookies_carry_the_session(server, odbc):
    direct(odbc, "CREATE TEMP TABLE of_the_cookie AS SELECT 7 AS n")
    assert rows(direct(odbc, "SELECT n FROM of_the_cookie")) == [(7,)]
    assert odbc.cookies
    with driver(server, cookies=False) as stranger, pytest.raises(grpc.RpcError) as caught:
        direct(stranger, "SELECT n FROM of_the_cookie")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_large_headers(odbc):
    """Unknown parts of a connection string are sent as headers."""
    odbc.headers["x-anything"] = "x" * 30_000
    assert rows(direct(odbc, "SELECT 1")) == [(1,)]


# --- statements ---


def test_updates_come_as_queries_and_run_once(odbc, table):
    """GetFlightInfo runs them, the DoGet that may follow does not run them again (rule 2)."""
    assert len(direct(odbc, f"CREATE TABLE {table} (n INTEGER)").schema) == 0
    info = odbc.info(command("CommandStatementQuery", {1: f"INSERT INTO {table} VALUES (1), (2)"}))
    assert one(info, 4, 0) == 2, "total_records is the count"
    # Before any DoGet.
    assert rows(direct(odbc, f"SELECT count(*) FROM {table}")) == [(2,)]
    odbc.call("DoGet", decode(decode(info[3][0])[1][0]))
    assert rows(direct(odbc, f"SELECT count(*) FROM {table}")) == [(2,)]


def test_prepared_statements(odbc, table):
    """SQLPrepare, SQLBindParameter, SQLExecute: an empty dataset_schema is an update."""
    direct(odbc, f"CREATE TABLE {table} (n INTEGER, s VARCHAR)")
    prepared = odbc.sql_action("CreatePreparedStatement", {1: f"INSERT INTO {table} VALUES (1, 'a')"}, result=True)
    assert len(schema_of(one(prepared, 2))) == 0
    update = command("CommandPreparedStatementUpdate", {1: one(prepared, 1)})
    assert odbc.update_count(update, no_parameters()) == 1
    odbc.sql_action("ClosePreparedStatement", {1: one(prepared, 1)})

    prepared = odbc.sql_action("CreatePreparedStatement", {1: f"SELECT s FROM {table} WHERE n = ?"}, result=True)
    query = command("CommandPreparedStatementQuery", {1: one(prepared, 1)})
    [answer] = odbc.put(query, pa.table({"1": pa.array([1], pa.int32())}))
    assert one(decode(answer), 1) == one(prepared, 1)
    assert rows(odbc.get(query)) == [("a",)]


def test_the_schema_of_a_result(odbc):
    """SQLNumResultCols asks before it fetches: GetSchema and GetFlightInfo tell the same."""
    query = command("CommandStatementQuery", {1: "SELECT 1::INTEGER AS n, 'a' AS s, [1] AS l"})
    [told] = odbc.call("GetSchema", query)
    assert schema_of(one(decode(told), 1)).equals(odbc.get(query).schema, check_metadata=True)


def test_columns_of_a_result_tell_their_types(odbc, table):
    """Power BI cannot understand a column without TYPE_NAME."""
    direct(odbc, f"CREATE TABLE {table} (n DECIMAL(9, 2), s VARCHAR)")
    schema = direct(odbc, f"SELECT * FROM {table}").schema
    assert [field.metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"] for field in schema] == [b"DECIMAL(9,2)", b"VARCHAR"]


# --- the catalog functions ---


def test_get_info(odbc):
    """SQLGetInfo asks for everything, and reads 503, 505 and 507 as 64 bits without a look at their type (rule 16)."""
    table = odbc.get(command("CommandGetSqlInfo", {}))
    found = {}
    for batch in table.to_batches():
        union = batch.column(1)
        found |= dict(zip(batch.column(0).to_pylist(), zip(union.type_codes.to_pylist(), union.to_pylist())))
    assert [found[code][0] for code in (503, 505, 507, 562)] == [2] * 4
    assert found[531] == (0, "catalog"), "which switches catalogs on"
    assert found[8] == (3, 1)


def test_tables(odbc, table):
    """SQLTables and its special cases."""
    direct(odbc, f"CREATE TABLE {table} (n INTEGER)")
    direct(odbc, f"CREATE VIEW {table}_v AS SELECT 1 AS n")

    def tables(**fields):
        numbers = {"catalog": 1, "schema": 2, "name": 3, "kinds": 4, "columns": 5}
        found = odbc.get(command("CommandGetTables", {numbers[name]: value for name, value in fields.items()}))
        return [(row["table_name"], row["table_type"]) for row in found.to_pylist()]

    mine = [(table, "BASE TABLE"), (f"{table}_v", "VIEW")]
    assert tables(name=f"{table}%") == mine
    assert tables(catalog="merganser", schema="%", name=f"{table}%") == mine
    # Asked for as TABLE, in any case.
    assert tables(name=f"{table}%", kinds=["TABLE"]) == tables(name=f"{table}%", kinds=["base table"]) == mine[:1]
    assert tables(name=f"{table}%", kinds=["VIEW", "SYNONYM"]) == mine[1:]
    # Tools escape an underscore with the string that SqlInfo 513 names.
    assert tables(name=table.replace("_", "\\_")) == mine[:1]
    assert tables(catalog="") == []
    # SQLTables("%", "", ""), ("", "%", "") and the types become these.
    assert "merganser" in odbc.get(command("CommandGetCatalogs", {}))["catalog_name"].to_pylist()
    assert "main" in odbc.get(command("CommandGetDbSchemas", {2: "%"}))["db_schema_name"].to_pylist()
    assert "VIEW" in odbc.get(command("CommandGetTableTypes", {}))["table_type"].to_pylist()


def test_columns(odbc):
    """SQLColumns reads the metadata of each field of table_schema, and crashes where there is none (rules 13, 14)."""
    direct(odbc, "CREATE TABLE sql_columns (a INTEGER NOT NULL, b VARCHAR, c DECIMAL(9, 2), d TIMESTAMP, e INTEGER[])")
    direct(odbc, "CREATE VIEW sql_columns_v AS SELECT 1 AS n, NULL AS x")
    found = odbc.get(command("CommandGetTables", {2: "%", 3: "sql_columns%", 5: True})).to_pylist()
    assert [row["table_name"] for row in found] == ["sql_columns", "sql_columns_v"]
    for row in found:
        for field in pa.ipc.read_schema(pa.py_buffer(row["table_schema"])):
            told = {key.decode(): value.decode() for key, value in field.metadata.items()}
            assert told["ARROW:FLIGHT:SQL:TYPE_NAME"]
            assert told["ARROW:FLIGHT:SQL:SCHEMA_NAME"] == told["ARROW:FLIGHT:SQL:DB_SCHEMA_NAME"] == "main"
            assert told["ARROW:FLIGHT:SQL:CATALOG_NAME"] == "merganser"
            assert told["ARROW:FLIGHT:SQL:TABLE_NAME"] == row["table_name"]


def test_every_table_of_the_server_has_column_metadata(odbc):
    """The server's own tables are no exception."""
    for row in odbc.get(command("CommandGetTables", {5: True})).to_pylist():
        for field in pa.ipc.read_schema(pa.py_buffer(row["table_schema"])):
            assert field.metadata and field.metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"], f"{row['table_name']}.{field.name}"


def test_type_info(odbc):
    """SQLGetTypeInfo, which Power BI calls when it connects: all types in order, or those of one number."""
    table = odbc.get(command("CommandGetXdbcTypeInfo", {}))
    assert table.schema.names == [
        *("type_name", "data_type", "column_size", "literal_prefix", "literal_suffix", "create_params", "nullable"),
        *("case_sensitive", "searchable", "unsigned_attribute", "fixed_prec_scale", "auto_increment"),
        *("local_type_name", "minimum_scale", "maximum_scale", "sql_data_type", "datetime_subcode"),
        *("num_prec_radix", "interval_precision"),
    ]
    numbers = table["data_type"].to_pylist()
    assert numbers == sorted(numbers)
    for name, number in SQL_TYPES.items():
        assert number in numbers, f"{name} is missing"
        only = odbc.get(command("CommandGetXdbcTypeInfo", {1: number}))
        assert set(only["data_type"].to_pylist()) == {number}
    assert odbc.get(command("CommandGetXdbcTypeInfo", {1: 12345})).num_rows == 0


# --- the session ---


def test_session_options(odbc):
    """Options are told back; an unknown one is an error of the option and no status, an empty one is unset."""
    def get():
        [answer] = odbc.action("GetSessionOptions", b"")
        entries = [decode(entry) for entry in decode(answer)[1]]
        return {one(entry, 1).decode(): decode(one(entry, 2)) for entry in entries}

    def errors(**options):
        [answer] = odbc.action("SetSessionOptions", session_options(**options))
        entries = [decode(entry) for entry in decode(answer)[1]]
        return {one(entry, 1).decode(): one(decode(one(entry, 2)), 1) for entry in entries}

    direct(odbc, "CREATE SCHEMA of_the_session")
    assert errors(schema="of_the_session", TimeZone="Asia/Kolkata") == {}
    assert rows(direct(odbc, "SELECT current_schema(), current_setting('TimeZone')")) == [
        ("of_the_session", "Asia/Kolkata")
    ]
    assert get()["schema"][1] == [b"of_the_session"]
    assert errors(colour="blue", TimeZone="Asia/Kolkatta", schema="nowhere") == {
        "colour": 1,
        "TimeZone": 2,
        "schema": 2,
    }
    assert rows(direct(odbc, "SELECT current_schema()")) == [("of_the_session",)]
    assert errors(TimeZone=None, schema=None) == {}
    assert rows(direct(odbc, "SELECT current_schema(), current_setting('TimeZone')")) == [("main", "UTC")]


def test_a_closed_session_is_gone(odbc):
    direct(odbc, "CREATE TEMP TABLE of_the_session AS SELECT 1 AS n")
    [answer] = odbc.action("CloseSession", b"")
    assert one(decode(answer), 1, 0) == 1
    with pytest.raises(grpc.RpcError) as caught:
        direct(odbc, "SELECT * FROM of_the_session")
    assert caught.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAUTHENTICATED)
