"""What the JDBC driver for Flight SQL (flight-sql-jdbc-driver 19.0.0, on arrow-java's FlightSqlClient) sends, call by call.

No package of it reaches this machine, so its calls are replayed. DBeaver, DataGrip, Tableau and Metabase sit on top of it. The
driver keeps cookies, prepares every statement, never calls BeginTransaction, and reads an update's answer in its own ways;
each test names the habit that it replays.
"""

import base64
import decimal

import grpc
import pyarrow as pa
import pytest

from raw import (
    Client,
    command,
    data_messages,
    decode,
    encode,
    no_parameters,
    one,
    record_count,
    schema_of,
    session_options,
)

USER_AGENT = "JDBC Flight SQL Driver 19.0.0"
# Every code that the driver may ask DatabaseMetaData for: SqlInfo.forNumber() of any other is null, and a crash.
CODES_MAX = 576
PREPARED = "CreatePreparedStatement"


def connect(server, user="user", password="password", catalog=None):
    """DriverManager.getConnection: a handshake with Basic, and the catalog as a session option if the URL has one."""
    client = Client(server, USER_AGENT, cookies=True)
    if user is not None:
        client.headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        call = client.start("Handshake").send({}).half_close()
        answers = call.rest()
        headers = dict(call.headers())
        assert headers["authorization"].startswith("Bearer "), "the token is in the headers, before any trailer"
        assert [one(decode(answer), 2) for answer in answers] == [headers["authorization"][len("Bearer ") :].encode()]
        client.headers["authorization"] = headers["authorization"]
    if catalog is not None:
        [result] = client.action("SetSessionOptions", session_options(catalog=catalog))
        assert decode(result)[1] == [], "the catalog is refused"
    return client


@pytest.fixture
def jdbc(server):
    with connect(server) as client:
        yield client


class Statement:
    """ArrowFlightPreparedStatement: what the driver keeps of one prepared statement."""

    def __init__(self, client, sql):
        self.client = client
        result = client.sql_action(PREPARED, {1: sql}, result=True)
        self.handle = one(result, 1)
        self.dataset, self.parameters = schema_of(one(result, 2)), schema_of(one(result, 3))
        assert self.handle
        # Driver 19: a schema of no fields is an update (rule 4).
        self.is_update = len(self.dataset) == 0
        assert bool(one(result, 4, 0)) == self.is_update, "is_update says what the schema says"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # With the handle of the beginning, whatever a DoPut answered (rule 5).
        self.client.sql_action("ClosePreparedStatement", {1: self.handle})

    def execute(self, rows=None):
        """PreparedStatement.execute: an update's count, or a query's table."""
        if self.is_update:
            return self.update(rows if rows is not None else no_parameters())
        descriptor = command("CommandPreparedStatementQuery", {1: self.handle})
        if rows is not None:
            [answer] = self.client.put(descriptor, rows)
            # The driver takes the handle of the answer without looking whether there is one (rule 5).
            assert one(decode(answer), 1) == self.handle
        return self.client.get(descriptor)

    def update(self, rows):
        count = self.client.update_count(command("CommandPreparedStatementUpdate", {1: self.handle}), rows)
        assert count >= 0, "-1 makes the driver open a result, which runs the statement again (rule 3)"
        return count


def execute(client, sql, rows=None):
    with Statement(client, sql) as statement:
        return statement.execute(rows)


def rows(table):
    return [tuple(row.values()) for row in table.to_pylist()]


# --- connecting ---


def test_connect_and_close(server):
    with connect(server, catalog="merganser") as client:
        assert client.cookies, "the driver keeps cookies"
        assert rows(execute(client, "SELECT current_catalog()")) == [("merganser",)]
        [result] = client.action("CloseSession", b"")
        assert one(decode(result), 1, 0) == 1


def test_a_catalog_that_is_not_there_is_an_error_of_the_option(server):
    with connect(server) as client:
        [result] = client.action("SetSessionOptions", session_options(catalog="nowhere"))
        [error] = [decode(entry) for entry in decode(result)[1]]
        assert one(error, 1) == b"catalog"
        assert one(decode(one(error, 2)), 1) == 2, "invalid value, and no status"


def test_without_a_user_there_is_no_handshake(server):
    """The cookie alone carries the session (rule 18)."""
    with connect(server, user=None) as client:
        execute(client, "CREATE TEMP TABLE of_the_cookie (n INTEGER)")
        assert client.cookies
        assert execute(client, "INSERT INTO of_the_cookie VALUES (1)") == 1
        assert rows(execute(client, "SELECT * FROM of_the_cookie")) == [(1,)]


def test_a_password_may_hold_colons(server_factory):
    server = server_factory("--memory", "--set", "auth.user=alice", "--set", "auth.password=a:b:c")
    with connect(server, "alice", "a:b:c") as client:
        assert rows(execute(client, "SELECT 1")) == [(1,)]
    with pytest.raises(grpc.RpcError) as caught:
        connect(server, "alice", "a")
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with Client(server, USER_AGENT) as stranger, pytest.raises(grpc.RpcError) as caught:
        stranger.sql_action(PREPARED, {1: "SELECT 1"}, result=True)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


# --- statements ---


def test_a_query(jdbc):
    with Statement(jdbc, "SELECT range AS n FROM range(3)") as statement:
        assert not statement.is_update
        assert statement.dataset == pa.schema([("n", pa.int64())])
        assert rows(statement.execute()) == [(0,), (1,), (2,)]
        # The same statement again.
        assert rows(statement.execute()) == [(0,), (1,), (2,)]


def test_ddl_is_no_rows_and_runs_once(jdbc, table):
    with Statement(jdbc, f"CREATE TABLE {table} (n INTEGER)") as statement:
        assert statement.is_update
        assert statement.execute() == 0
    assert execute(jdbc, f"INSERT INTO {table} VALUES (1), (2)") == 2
    assert rows(execute(jdbc, f"SELECT count(*) FROM {table}")) == [(2,)]
    assert execute(jdbc, f"DROP TABLE {table}") == 0


def test_preparing_runs_nothing(jdbc, table):
    execute(jdbc, f"CREATE TABLE {table} (n INTEGER)")
    with Statement(jdbc, f"INSERT INTO {table} VALUES (1)"):
        pass
    assert rows(execute(jdbc, f"SELECT count(*) FROM {table}")) == [(0,)]


@pytest.mark.parametrize("sql", ["SELECT n FROM {} WHERE n = ?", "INSERT INTO {} VALUES (?) RETURNING n"])
def test_what_returns_rows_is_no_update(jdbc, table, sql):
    """The schema is there before any parameter is bound (rule 4)."""
    execute(jdbc, f"CREATE TABLE {table} AS SELECT 5 AS n")
    with Statement(jdbc, sql.format(table)) as statement:
        assert statement.dataset.names == ["n"] and not statement.is_update
        assert statement.parameters.types == [pa.int32()]
        assert rows(statement.execute(pa.table({"1": pa.array([5], pa.int32())}))) == [(5,)]


def test_parameters_of_every_kind(jdbc, table):
    """The driver binds strictly by the type that parameter_schema declares."""
    execute(jdbc, f"CREATE TABLE {table} (i INTEGER, l BIGINT, d DOUBLE, s VARCHAR, x DECIMAL(9, 2), b BOOLEAN)")
    with Statement(jdbc, f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)") as statement:
        wanted = [pa.int32(), pa.int64(), pa.float64(), pa.string(), pa.decimal128(9, 2), pa.bool_()]
        assert statement.parameters.types == wanted
        assert all(field.nullable and field.name for field in statement.parameters)
        values = [[1, None], [2, None], [2.5, None], ["ä", None], [decimal.Decimal("1.25"), None], [True, None]]
        columns = [pa.array(column, field.type) for column, field in zip(values, statement.parameters)]
        # executeBatch: all rows in one batch of one DoPut.
        batch = pa.RecordBatch.from_arrays(columns, schema=statement.parameters)
        assert statement.update(pa.Table.from_batches([batch])) == 2
    assert rows(execute(jdbc, f"SELECT * FROM {table} ORDER BY ALL")) == [
        (1, 2, 2.5, "ä", decimal.Decimal("1.25"), True),
        (None,) * 6,
    ]


def test_a_parameter_of_unknown_type_is_text(jdbc):
    """It cannot bind anything to a Null."""
    with Statement(jdbc, "SELECT ? AS x") as statement:
        assert statement.parameters.types == [pa.string()]
        assert rows(statement.execute(pa.table({"1": ["a"]}))) == [("a",)]


def test_a_batch_is_all_or_nothing(jdbc, table):
    execute(jdbc, f"CREATE TABLE {table} (n INTEGER PRIMARY KEY)")
    with Statement(jdbc, f"INSERT INTO {table} VALUES (?)") as statement:
        with pytest.raises(grpc.RpcError) as caught:
            statement.update(pa.table({"1": pa.array([1, 2, 1], pa.int32())}))
        assert caught.value.code() in (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.INVALID_ARGUMENT)
        assert statement.update(pa.table({"1": pa.array([1, 2], pa.int32())})) == 2


def test_an_update_is_answered_before_the_half_close(jdbc, table):
    """FlightSqlClient.executeUpdate reads the answer first, and only then ends its side (rule 6)."""
    call = jdbc.start("DoPut")
    descriptor = command("CommandStatementUpdate", {1: f"CREATE TABLE {table} AS SELECT range AS n FROM range(3)"})
    for message in list(data_messages(no_parameters(), descriptor))[:1]:
        call.send(message)
    assert record_count(one(decode(call.receive()), 1)) in (0, 3)
    call.half_close()
    assert call.rest() == []
    assert jdbc.update_count(command("CommandStatementUpdate", {1: f"DELETE FROM {table}"}), no_parameters()) == 3


def test_a_prepared_update_from_a_bare_descriptor(jdbc, table):
    """arrow-rs' client sends nothing but the descriptor when there are no parameters (rule 7)."""
    execute(jdbc, f"CREATE TABLE {table} (n INTEGER)")
    with Statement(jdbc, f"INSERT INTO {table} VALUES (7)") as statement:
        call = jdbc.start("DoPut")
        call.send({1: command("CommandPreparedStatementUpdate", {1: statement.handle})}).half_close()
        [answer] = call.rest()
        assert record_count(one(decode(answer), 1)) == 1
    assert rows(execute(jdbc, f"SELECT n FROM {table}")) == [(7,)]


def test_closing_twice_and_closing_what_never_was(jdbc):
    with Statement(jdbc, "SELECT 1") as statement:
        jdbc.sql_action("ClosePreparedStatement", {1: statement.handle})
    jdbc.sql_action("ClosePreparedStatement", {1: b"never"})


def test_transactions_are_sql(server, jdbc, table):
    """Connection.commit and rollback send nothing; who wants a transaction says so in SQL (rule 18)."""
    execute(jdbc, f"CREATE TABLE {table} (n INTEGER)")
    execute(jdbc, "BEGIN TRANSACTION")
    execute(jdbc, f"INSERT INTO {table} VALUES (1)")
    with connect(server) as other:
        assert rows(execute(other, f"SELECT count(*) FROM {table}")) == [(0,)]
        execute(jdbc, "COMMIT")
        assert rows(execute(other, f"SELECT count(*) FROM {table}")) == [(1,)]
    execute(jdbc, "BEGIN")
    execute(jdbc, f"DELETE FROM {table}")
    execute(jdbc, "ROLLBACK")
    assert rows(execute(jdbc, f"SELECT count(*) FROM {table}")) == [(1,)]


def test_times_are_plain_or_utc(jdbc):
    """The driver reads other zones wrongly."""
    result = execute(jdbc, "SELECT TIMESTAMP '2024-01-02 03:04:05' AS a, TIMESTAMPTZ '2024-01-02 03:04:05+00' AS b")
    assert result.schema.types == [pa.timestamp("us"), pa.timestamp("us", "UTC")]


def test_no_dictionaries_and_no_views(jdbc):
    """The driver shows the indexes of a dictionary."""
    execute(jdbc, "CREATE TYPE jdbc_mood AS ENUM ('ok', 'sad')")
    result = execute(jdbc, "SELECT 'sad'::jdbc_mood AS m, 'x' AS s, '\\x01'::BLOB AS b")
    assert result.schema.types == [pa.string(), pa.string(), pa.binary()]
    assert rows(result) == [("sad", "x", b"\x01")]


# --- DatabaseMetaData ---


def test_all_sql_info_at_once(jdbc):
    """Every code that a getter reads is there with the type that it casts to, and no code that is none (rules 15, 16)."""
    info = jdbc.get(command("CommandGetSqlInfo", {}))
    # A union does not tell its type once it is read: look at the array itself.
    found = {}
    for batch in info.to_batches():
        values = batch.column(1)
        for name, code, value in zip(batch.column(0).to_pylist(), values.type_codes.to_pylist(), values.to_pylist()):
            found[name] = (code, value)
    string, boolean, bigint, bitmask, strings, mapping = range(6)
    wanted = {
        string: [0, 1, 2, 504, 513, 514, 529, 530, 531],
        boolean: [3, 4, 5, 9, 10, 11, *range(500, 503), 506, 515, 516, *range(518, 522), 523, 524, 527, 532, 536, 537]
        + [539, 556, 563, 565, 566, *range(572, 577)],
        bigint: [503, 505, 507, *range(541, 556), *range(557, 563)],
        bitmask: [8, 100, 101, 522, 525, 526, 528, 533, 534, 535, 538, 540, 564, *range(567, 572)],
        strings: list(range(508, 513)),
        mapping: [517],
    }
    for kind, codes in wanted.items():
        for code in codes:
            assert code in found, f"SqlInfo {code} is missing"
            assert found[code][0] == kind, f"SqlInfo {code} is of the wrong type: {found[code]}"
    assert all(0 <= code <= CODES_MAX for code in found), "a code that the driver does not know is a crash"
    assert (found[504][1], found[513][1], found[531][1], found[8][1], found[573][1]) == ('"', "\\", "catalog", 1, False)
    assert found[1][1].startswith("duckdb v2.0.0")


def test_columns_come_with_what_get_columns_reads(jdbc, table):
    execute(jdbc, f"CREATE TABLE {table} (id INTEGER NOT NULL PRIMARY KEY, price DECIMAL(9, 2), name VARCHAR)")
    fields = {1: "merganser", 2: "main", 3: table, 4: ["TABLE"], 5: True}
    [row] = jdbc.get(command("CommandGetTables", fields)).to_pylist()
    assert (row["catalog_name"], row["db_schema_name"], row["table_name"]) == ("merganser", "main", table)
    schema = pa.ipc.read_schema(pa.py_buffer(row["table_schema"]))
    told = [
        (field.name, field.nullable, field.metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"].decode()) for field in schema
    ]
    assert told == [("id", False, "INTEGER"), ("price", True, "DECIMAL(9,2)"), ("name", True, "VARCHAR")]
    price = schema.field("price").metadata
    assert (price[b"ARROW:FLIGHT:SQL:PRECISION"], price[b"ARROW:FLIGHT:SQL:SCALE"]) == (b"9", b"2")


def test_a_result_has_no_remarks(jdbc, table):
    """The driver would show them as the column's label."""
    execute(jdbc, f"CREATE TABLE {table} (n INTEGER)")
    execute(jdbc, f"COMMENT ON COLUMN {table}.n IS 'a remark'")
    field = execute(jdbc, f"SELECT n FROM {table}").schema.field("n")
    assert b"ARROW:FLIGHT:SQL:REMARKS" not in (field.metadata or {})


def test_keys(jdbc, table):
    execute(jdbc, f"CREATE TABLE {table}_a (x INTEGER, y INTEGER, PRIMARY KEY (y, x))")
    execute(jdbc, f"CREATE TABLE {table}_b (y INTEGER, x INTEGER, FOREIGN KEY (y, x) REFERENCES {table}_a (y, x))")
    keys = jdbc.get(command("CommandGetPrimaryKeys", {3: f"{table}_a"})).to_pylist()
    assert sorted((key["key_sequence"], key["column_name"]) for key in keys) == [(1, "y"), (2, "x")]
    for name, of in [("CommandGetExportedKeys", f"{table}_a"), ("CommandGetImportedKeys", f"{table}_b")]:
        found = jdbc.get(command(name, {3: of})).to_pylist()
        assert [(key["fk_column_name"], key["pk_column_name"]) for key in found] == [("y", "y"), ("x", "x")]
        assert {(key["update_rule"], key["delete_rule"]) for key in found} == {(3, 3)}
    crossed = jdbc.get(command("CommandGetCrossReference", {3: f"{table}_a", 6: f"{table}_b"}))
    assert crossed.num_rows == 2


def test_the_rest_of_the_metadata(jdbc):
    assert "merganser" in jdbc.get(command("CommandGetCatalogs", {}))["catalog_name"].to_pylist()
    schemas = jdbc.get(command("CommandGetDbSchemas", {1: "merganser", 2: "ma%"})).to_pylist()
    assert schemas == [{"catalog_name": "merganser", "db_schema_name": "main"}]
    kinds = jdbc.get(command("CommandGetTableTypes", {}))["table_type"].to_pylist()
    assert {"BASE TABLE", "VIEW"} <= set(kinds)


# --- what FlightSqlClient can, and the driver does not ---


def test_transactions_of_the_protocol(jdbc, table):
    """FlightSqlClient.begin, commit and rollback; a savepoint is UNIMPLEMENTED."""
    execute(jdbc, f"CREATE TABLE {table} (n INTEGER)")
    for end, kept in ((2, 0), (1, 1)):
        transaction = one(jdbc.sql_action("BeginTransaction", {}, result=True), 1)
        assert transaction
        update = command("CommandStatementUpdate", {1: f"INSERT INTO {table} VALUES (1)", 2: transaction})
        assert jdbc.update_count(update, no_parameters()) == 1
        inside = command("CommandStatementQuery", {1: f"SELECT count(*) FROM {table}", 2: transaction})
        assert rows(jdbc.get(inside)) == [(1,)]
        with pytest.raises(grpc.RpcError) as caught:
            jdbc.sql_action("BeginSavepoint", {1: transaction, 2: "s"}, result=True)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        jdbc.sql_action("EndTransaction", {1: transaction, 2: end})
        assert rows(execute(jdbc, f"SELECT count(*) FROM {table}")) == [(kept,)]
        with pytest.raises(grpc.RpcError) as caught:
            jdbc.sql_action("EndTransaction", {1: transaction, 2: end})
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("action", ["CancelFlightInfo", "CancelQuery"])
def test_cancelling_by_flight_info(jdbc, action):
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
    [info] = jdbc.call("GetFlightInfo", command("CommandStatementQuery", {1: endless}))
    [endpoint] = decode(info)[3]
    # The schema comes first, and then nothing for hours.
    reading = jdbc.start("DoGet").send(decode(decode(endpoint)[1][0])).half_close()
    assert reading.receive()
    # Flight's own action is sent as it is, Flight SQL's older one in an Any.
    if action == "CancelFlightInfo":
        [body] = jdbc.action(action, encode({1: info}))
        status = one(decode(body), 1, 0)
    else:
        status = one(jdbc.sql_action(action, {1: info}, result=True), 1, 0)
    assert status in (1, 2)
    with pytest.raises(grpc.RpcError) as caught:
        reading.rest()
    assert caught.value.code() == grpc.StatusCode.CANCELLED


def test_list_actions(jdbc):
    kinds = {one(decode(answer), 1).decode() for answer in jdbc.call("ListActions", {})}
    assert kinds >= {
        *("CreatePreparedStatement", "ClosePreparedStatement", "BeginTransaction", "EndTransaction"),
        *("CancelQuery", "CancelFlightInfo", "RenewFlightEndpoint"),
        *("SetSessionOptions", "GetSessionOptions", "CloseSession"),
    }
