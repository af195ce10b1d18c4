"""What clients find when they look around: every metadata command of Flight SQL, through ADBC and as raw commands, and
read as the JDBC and ODBC drivers read the answers."""

import re
import time

import adbc_driver_manager
import duckdb
import pyarrow as pa
import pytest
from pyarrow import flight as fl

import support
from support import refused, some_events

PREFIX = b"ARROW:FLIGHT:SQL:"
UTF8 = pa.string()


# --- commands, packed by hand: the field numbers of the messages, and their values ---


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def field(number, value):
    if isinstance(value, bool | int):
        return varint(number << 3) + varint(int(value))
    data = value if isinstance(value, bytes) else value.encode()
    return varint(number << 3 | 2) + varint(len(data)) + data


def command(name, fields=()):
    """An Any with a Flight SQL command; a list is a repeated field."""
    body = b""
    for number, value in fields:
        for one in value if isinstance(value, list) else [value]:
            body += field(number, one)
    packed = field(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}") + field(2, body)
    return fl.FlightDescriptor.for_command(packed)


def ask(client, name, *fields):
    """The rows of a command; GetSchema, FlightInfo and DoGet must agree on the columns."""
    descriptor = command(name, fields)
    info = client.get_flight_info(descriptor)
    assert len(info.endpoints) == 1 and not info.endpoints[0].locations
    reader = client.do_get(info.endpoints[0].ticket)
    table = reader.read_all()
    table.validate(full=True)
    schema = client.get_schema(descriptor).schema
    assert table.schema.equals(info.schema, check_metadata=True)
    assert table.schema.equals(schema, check_metadata=True)
    return table


def tables(client, *fields):
    return ask(client, "CommandGetTables", *fields)


CATALOG, SCHEMA, TABLE, TYPES, INCLUDE = 1, 2, 3, 4, 5


def table_schema(client, name):
    [data] = tables(client, (TABLE, name), (INCLUDE, True))["table_schema"].to_pylist()
    return pa.ipc.read_schema(pa.py_buffer(data))


def described(column):
    """A field's metadata without the prefix that all keys have."""
    return {key.removeprefix(PREFIX).decode(): value.decode() for key, value in (column.metadata or {}).items()}


@pytest.fixture
def execute(adbc):
    with adbc.cursor() as cursor:
        yield cursor.execute


# --- schemas, exactly ---


def fields(*columns):
    return pa.schema([pa.field(name, of, nullable) for name, of, nullable in columns])


SQL_INFO = pa.dense_union(
    [
        pa.field("string_value", UTF8, False),
        pa.field("bool_value", pa.bool_(), False),
        pa.field("bigint_value", pa.int64(), False),
        pa.field("int32_bitmask", pa.int32(), False),
        pa.field("string_list", pa.list_(UTF8), False),
        pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32())), False),
    ]
)
KEYS = fields(
    ("pk_catalog_name", UTF8, True),
    ("pk_db_schema_name", UTF8, True),
    ("pk_table_name", UTF8, False),
    ("pk_column_name", UTF8, False),
    ("fk_catalog_name", UTF8, True),
    ("fk_db_schema_name", UTF8, True),
    ("fk_table_name", UTF8, False),
    ("fk_column_name", UTF8, False),
    ("key_sequence", pa.int32(), False),
    ("fk_key_name", UTF8, True),
    ("pk_key_name", UTF8, True),
    ("update_rule", pa.uint8(), False),
    ("delete_rule", pa.uint8(), False),
)
TABLES = [
    ("catalog_name", UTF8, True),
    ("db_schema_name", UTF8, True),
    ("table_name", UTF8, False),
    ("table_type", UTF8, False),
]


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("CommandGetSqlInfo", [], fields(("info_name", pa.uint32(), False), ("value", SQL_INFO, False))),
        ("CommandGetCatalogs", [], fields(("catalog_name", UTF8, False))),
        ("CommandGetDbSchemas", [], fields(("catalog_name", UTF8, True), ("db_schema_name", UTF8, False))),
        ("CommandGetTables", [], fields(*TABLES)),
        ("CommandGetTables", [(INCLUDE, True)], fields(*TABLES, ("table_schema", pa.binary(), False))),
        ("CommandGetTableTypes", [], fields(("table_type", UTF8, False))),
        (
            "CommandGetPrimaryKeys",
            [(3, "x")],
            fields(
                ("catalog_name", UTF8, True),
                ("db_schema_name", UTF8, True),
                ("table_name", UTF8, False),
                ("column_name", UTF8, False),
                ("key_sequence", pa.int32(), False),
                ("key_name", UTF8, True),
            ),
        ),
        ("CommandGetExportedKeys", [(3, "x")], KEYS),
        ("CommandGetImportedKeys", [(3, "x")], KEYS),
        ("CommandGetCrossReference", [(3, "x"), (6, "y")], KEYS),
    ],
)
def test_schemas_are_the_reference(flight, name, body, expected):
    rows = ask(flight, name, *body)
    assert rows.schema.equals(expected), rows.schema


# --- catalogs, schemas, tables ---


def test_catalogs_and_schemas(flight, execute, table):
    execute(f"CREATE SCHEMA {table}_schema")
    assert ask(flight, "CommandGetCatalogs")["catalog_name"].to_pylist() == ["merganser"]

    def schemas(*body):
        rows = ask(flight, "CommandGetDbSchemas", *body).to_pylist()
        assert {row["catalog_name"] for row in rows} <= {"merganser"}
        return [row["db_schema_name"] for row in rows]

    everything = schemas()
    assert "main" in everything and f"{table}_schema" in everything
    assert everything == sorted(everything)
    assert schemas((1, "merganser")) == schemas((1, "%")) == everything
    assert schemas((1, "")) == schemas((1, "elsewhere")) == []
    assert schemas((2, "ma_n")) == ["main"]
    assert schemas((2, "MAIN")) == schemas((2, "ma\\_n")) == []


def test_table_types(flight):
    assert ask(flight, "CommandGetTableTypes")["table_type"].to_pylist() == ["BASE TABLE", "LOCAL TEMPORARY", "VIEW"]


def test_tables_are_filtered(flight, execute, table):
    execute(f"CREATE SCHEMA s_{table}")
    execute(f"CREATE TABLE s_{table}.a_b (x INTEGER)")
    execute(f"CREATE TABLE s_{table}.axb (x INTEGER)")
    execute(f'CREATE TABLE s_{table}."A%""B" (x INTEGER)')
    execute(f"CREATE VIEW s_{table}.v AS SELECT 1 AS x")

    def names(*body):
        rows = tables(flight, (SCHEMA, f"s_{table}"), *body).to_pylist()
        assert all(row["catalog_name"] == "merganser" and row["db_schema_name"] == f"s_{table}" for row in rows)
        return [row["table_name"] for row in rows]

    assert names() == ['A%"B', "a_b", "axb", "v"]
    assert names((TABLE, "a_b")) == ["a_b", "axb"]
    assert names((TABLE, "a\\_b")) == ["a_b"]
    assert names((TABLE, "A\\%%")) == ['A%"B']
    assert names((TABLE, "A_B")) == [] == names((TABLE, "a\\"))
    assert names((TYPES, ["TABLE"])) == names((TYPES, ["base table"])) == ['A%"B', "a_b", "axb"]
    assert names((TYPES, ["View", "table"])) == ['A%"B', "a_b", "axb", "v"]
    assert names((TYPES, ["SYSTEM TABLE"])) == [] == names((TYPES, ["LOCAL TEMPORARY"]))
    assert names((CATALOG, "")) == [] == names((CATALOG, "memory"))
    assert names((CATALOG, "%")) == names((CATALOG, "merganser")) == names()


def test_the_servers_own_tables_are_not_listed(flight, execute, table):
    flight_rows = tables(flight, (INCLUDE, True)).to_pylist()
    assert not {row["table_name"] for row in flight_rows} & {"_metadata", "_ingests"}
    # A user's table of such a name elsewhere is the user's.
    execute(f"CREATE SCHEMA {table}")
    execute(f"CREATE TABLE {table}._ingests (x INTEGER)")
    assert [row["table_name"] for row in tables(flight, (SCHEMA, table)).to_pylist()] == ["_ingests"]


def test_table_schemas_are_those_of_queries(flight, execute, table):
    columns = [
        "BOOLEAN, b TINYINT, c UBIGINT, d HUGEINT, e DECIMAL(9, 2) NOT NULL, f VARCHAR, g BLOB, h UUID, i JSON, j DATE",
        "k TIME, l TIMESTAMPTZ, m TIMESTAMP_NS, n INTERVAL, o ENUM ('x', 'y'), p INTEGER[], q INTEGER[3]",
        "r STRUCT(a INTEGER, b VARCHAR[]), s MAP(VARCHAR, INTEGER), t UNION(a INTEGER, b VARCHAR), u BIT, v DOUBLE",
    ]
    execute(f"CREATE TABLE {table} (a {', '.join(columns)})")
    schema = table_schema(flight, table)
    streamed = support.query(flight, f"SELECT * FROM {table}").schema
    assert [(column.name, column.type) for column in schema] == [(column.name, column.type) for column in streamed]
    assert [column.name for column in schema if not column.nullable] == ["e"]
    assert described(schema.field("e")) == {
        "TYPE_NAME": "DECIMAL(9,2)",
        "PRECISION": "9",
        "SCALE": "2",
        "CATALOG_NAME": "merganser",
        "SCHEMA_NAME": "main",
        "DB_SCHEMA_NAME": "main",
        "TABLE_NAME": table,
        "IS_AUTO_INCREMENT": "0",
        "IS_CASE_SENSITIVE": "0",
        "IS_READ_ONLY": "0",
        "IS_SEARCHABLE": "1",
    }


def test_comments_and_sequences(flight, execute, table):
    execute(f"CREATE SEQUENCE {table}_ids")
    execute(f"CREATE TABLE {table} (id BIGINT DEFAULT nextval('{table}_ids'), name VARCHAR)")
    execute(f"COMMENT ON TABLE {table} IS 'who buys'")
    execute(f"COMMENT ON COLUMN {table}.name IS 'as they write it'")
    schema = table_schema(flight, table)
    assert schema.metadata == {b"ARROW:FLIGHT:SQL:REMARKS": b"who buys"}
    assert described(schema.field("id"))["IS_AUTO_INCREMENT"] == "1"
    assert described(schema.field("name"))["REMARKS"] == "as they write it"
    assert described(schema.field("name"))["IS_CASE_SENSITIVE"] == "1"


def test_a_broken_view_breaks_nothing(flight, execute, table):
    execute(f"CREATE TABLE {table}_gone (a INTEGER)")
    execute(f"CREATE VIEW {table}_view AS SELECT a, a / 2 AS half FROM {table}_gone")
    execute(f"DROP TABLE {table}_gone")
    with pytest.raises(KeyError):
        support.query(flight, f"FROM {table}_view")
    schema = table_schema(flight, f"{table}_view")
    assert schema.names == ["a", "half"]
    assert described(schema.field("a"))["IS_READ_ONLY"] == "1"


def test_columns_of_results_are_described(flight, execute, table):
    """Whoever shows a result reads its columns' types there; REMARKS would become JDBC's label of the column."""
    execute(f"CREATE TABLE {table} (x DECIMAL(7, 3))")
    execute(f"COMMENT ON COLUMN {table}.x IS 'not a label'")
    schema = support.query(flight, f"SELECT x, 'y' AS y FROM {table}").schema
    assert described(schema.field("x")) == {
        "TYPE_NAME": "DECIMAL(7,3)",
        "PRECISION": "7",
        "SCALE": "3",
        "IS_CASE_SENSITIVE": "0",
        "IS_READ_ONLY": "0",
        "IS_SEARCHABLE": "1",
    }
    assert described(schema.field("y"))["TYPE_NAME"] == "VARCHAR"


def test_ten_thousand_tables(server_factory, tmp_path):
    """One statement a table would take a minute; a tool asks for all columns when it connects."""
    with duckdb.connect(tmp_path / "catalog.duckdb") as database:
        database.execute("CREATE SCHEMA many")
        database.execute("BEGIN")
        for number in range(10_000):
            database.execute(
                f"CREATE TABLE many.t{number} (id BIGINT NOT NULL, name VARCHAR, price DECIMAL({9 + number % 9}, 2),"
                " added TIMESTAMP, properties JSON, tags VARCHAR[])"
            )
        database.execute("COMMIT")
    server = server_factory(tmp_path / "catalog.duckdb")
    seconds = {}
    with server.flight() as client, server.adbc() as connection:
        for what, body in {"names": [], "columns": [(INCLUDE, True)]}.items():
            started = time.monotonic()
            rows = tables(client, (SCHEMA, "many"), *body)
            seconds[what] = time.monotonic() - started
            assert rows.num_rows == 10_000
        started = time.monotonic()
        [found] = connection.adbc_get_objects(depth="columns", db_schema_filter="many").read_all().to_pylist()
        seconds["adbc"] = time.monotonic() - started
    [schema] = found["catalog_db_schemas"]
    assert sum(len(one["table_columns"]) for one in schema["db_schema_tables"]) == 60_000
    # Far more than it takes, for a busy machine.
    assert max(seconds.values()) < 15, seconds


# --- keys ---


def test_primary_keys(flight, execute, table):
    execute(f"CREATE TABLE {table} (a INTEGER, b VARCHAR, PRIMARY KEY (b, a))")
    rows = ask(flight, "CommandGetPrimaryKeys", (3, table)).to_pylist()
    assert [(row["column_name"], row["key_sequence"]) for row in rows] == [("b", 1), ("a", 2)]
    assert {(row["catalog_name"], row["db_schema_name"], row["table_name"]) for row in rows} == {
        ("merganser", "main", table)
    }
    assert ask(flight, "CommandGetPrimaryKeys", (1, "merganser"), (2, "main"), (3, table)).num_rows == 2
    assert ask(flight, "CommandGetPrimaryKeys", (1, ""), (3, table)).num_rows == 0
    assert ask(flight, "CommandGetPrimaryKeys", (2, "other"), (3, table)).num_rows == 0
    assert ask(flight, "CommandGetPrimaryKeys", (3, "nowhere")).num_rows == 0


def test_managed_tables_have_their_keys(flight, profiles, table):
    support.put(flight, support.path("events", f"{table}_e"), some_events(["a"]))
    support.put(flight, support.path("profiles", f"{table}_p"), profiles)
    for name, key in {f"{table}_e": "insert_id", f"{table}_p": "distinct_id"}.items():
        [row] = ask(flight, "CommandGetPrimaryKeys", (1, "merganser"), (2, "main"), (3, name)).to_pylist()
        assert (row["table_name"], row["column_name"], row["key_sequence"]) == (name, key, 1)
    assert ask(flight, "CommandGetPrimaryKeys", (2, "other"), (3, f"{table}_e")).num_rows == 0


def test_foreign_keys(flight, execute, table):
    execute(f"CREATE TABLE {table}_p (a INTEGER, b INTEGER, PRIMARY KEY (a, b))")
    execute(f"CREATE TABLE {table}_f (x INTEGER, y INTEGER, FOREIGN KEY (x, y) REFERENCES {table}_p (a, b))")
    imported = ask(flight, "CommandGetImportedKeys", (3, f"{table}_f"))
    rows = imported.to_pylist()
    assert [(row["pk_column_name"], row["fk_column_name"], row["key_sequence"]) for row in rows] == [
        ("a", "x", 1),
        ("b", "y", 2),
    ]
    assert {(row["pk_table_name"], row["fk_table_name"]) for row in rows} == {(f"{table}_p", f"{table}_f")}
    assert {(row["update_rule"], row["delete_rule"]) for row in rows} == {(3, 3)}
    assert all(row["pk_key_name"] and row["fk_key_name"] for row in rows)
    assert ask(flight, "CommandGetExportedKeys", (3, f"{table}_p")) == imported
    assert ask(flight, "CommandGetCrossReference", (3, f"{table}_p"), (6, f"{table}_f")) == imported
    assert ask(flight, "CommandGetCrossReference", (3, f"{table}_f"), (6, f"{table}_p")).num_rows == 0
    assert ask(flight, "CommandGetExportedKeys", (3, f"{table}_f")).num_rows == 0


# --- SqlInfo and types ---


def sql_info(client, *codes):
    rows = ask(client, "CommandGetSqlInfo", *[(1, code) for code in codes])
    ids = [member for chunk in rows["value"].chunks for member in chunk.type_codes.to_pylist()]
    return {
        name: (member, value)
        for name, member, value in zip(rows["info_name"].to_pylist(), ids, rows["value"].to_pylist(), strict=True)
    }


def test_sql_info_as_jdbc_reads_it(flight):
    """JDBC asks for everything once and casts each value to the type that it expects; an unknown code is a null key."""
    info = sql_info(flight)
    assert sorted(info) == [*range(6), *range(8, 12), 100, 101, *range(500, 577)]
    strings, longs = {0, 1, 2, 504, 513, 514, 529, 530, 531}, {503, 505, 507, *range(541, 556), *range(557, 563)}
    masks = {8, 100, 101, 522, 525, 526, 528, 533, 534, 535, 538, 540, 564, *range(567, 572)}
    for code, (member, _) in info.items():
        expected = 0 if code in strings else 2 if code in longs else 3 if code in masks else 1
        expected = 4 if code in range(508, 513) else 5 if code == 517 else expected
        assert member == expected, code
    assert re.match(r"^duckdb v\d", info[1][1])
    assert info[3][1] is False and info[573][1] is False
    assert "SELECT" in info[508][1] and "ABS" in info[509][1] and "UPPER" in info[510][1]
    assert "VERSION" in info[511][1] and "DATE_TRUNC" in info[512][1]
    assert dict(info[517][1])[7]


def test_functions_that_are_told_are_there(flight):
    info = sql_info(flight, 509, 510, 511, 512)
    told = {name.lower() for _, names in info.values() for name in names}
    known = support.query(flight, "SELECT DISTINCT lower(function_name) AS name FROM duckdb_functions()")
    # These the parser reads without a function of the name.
    grammar = {"coalesce", "current_time", "current_timestamp", "extract", "ifnull", "localtime", "localtimestamp"}
    assert told - set(known["name"].to_pylist()) <= grammar
    assert len(told) > 150


def test_sql_info_by_number(flight):
    assert sql_info(flight, 8) == {8: (3, 1)}
    assert sql_info(flight, 8, 10_000, 577) == {8: (3, 1)}
    assert sql_info(flight, 6, 7) == {}


def test_sql_info_of_a_read_only_database(server_factory, tmp_path):
    path = tmp_path / "a.duckdb"
    server_factory(path).stop()
    with server_factory("--read-only", path).flight() as client:
        info = sql_info(client)
        assert (info[3][1], info[10][1], info[502][1]) == (True, False, False)
        assert ask(client, "CommandGetTables", (INCLUDE, True)).num_rows == 0


def test_types(flight):
    rows = ask(flight, "CommandGetXdbcTypeInfo")
    assert rows.num_columns == 19
    numbers = rows["data_type"].to_pylist()
    assert numbers == sorted(numbers)
    by_name = {row["type_name"]: row for row in rows.to_pylist()}
    assert by_name["DECIMAL"]["create_params"] == ["precision", "scale"]
    assert by_name["UINTEGER"]["unsigned_attribute"] is True
    assert by_name["TIMESTAMP"]["sql_data_type"] == 9 and by_name["TIMESTAMP"]["datetime_subcode"] == 3
    # DuckDB reads every name as a type; some need to be told of what.
    open_ended = {"ENUM": "ENUM('a')", "UNION": "UNION(a INTEGER)", "MAP": "MAP(INTEGER, INTEGER)", "LIST": "INTEGER[]"}
    open_ended |= {"ARRAY": "INTEGER[2]", "STRUCT": "STRUCT(a INTEGER)", "NULL": '"NULL"'}
    for name in by_name:
        support.query(flight, f"SELECT NULL::{open_ended.get(name, name)} IS NULL")
    assert ask(flight, "CommandGetXdbcTypeInfo", (1, 4))["type_name"].to_pylist() == ["INTEGER", "UINTEGER"]
    assert ask(flight, "CommandGetXdbcTypeInfo", (1, -5))["type_name"].to_pylist() == ["BIGINT", "UBIGINT"]
    assert ask(flight, "CommandGetXdbcTypeInfo", (1, 1000)).num_rows == 0


def test_odbc_looks_around(flight, execute, table):
    """SQLTables, SQLColumns, SQLGetTypeInfo: `%` for any catalog, metadata on every field, the types that it needs."""
    execute(f"CREATE TABLE {table} (n INTEGER, t VARCHAR, l INTEGER[])")
    execute(f"CREATE VIEW {table}_v AS SELECT * FROM {table}")
    patterns = [(CATALOG, "%"), (SCHEMA, "%"), (TABLE, f"{table}%")]
    rows = tables(flight, *patterns, (TYPES, ["TABLE", "VIEW"]), (INCLUDE, True))
    assert rows["table_name"].to_pylist() == [table, f"{table}_v"]
    for data in rows["table_schema"].to_pylist():
        for column in pa.ipc.read_schema(pa.py_buffer(data)):
            assert {"TYPE_NAME", "SCHEMA_NAME", "TABLE_NAME"} <= described(column).keys()
    numbers = set(ask(flight, "CommandGetXdbcTypeInfo")["data_type"].to_pylist())
    assert numbers >= {12, 4, -5, 8, 3, 91, 92, 93, -7, -2}


def test_what_is_not_there_says_so(flight):
    with refused("UNIMPLEMENTED", "Substrait"):
        ask(flight, "CommandStatementSubstraitPlan")


# --- the same through ADBC ---


def objects(adbc, **filters):
    found = {}
    for catalog in adbc.adbc_get_objects(**filters).read_all().to_pylist():
        schemas = found.setdefault(catalog["catalog_name"], {})
        for schema in catalog["catalog_db_schemas"] or []:
            names = schemas.setdefault(schema["db_schema_name"], {})
            for one in schema["db_schema_tables"] or []:
                columns = [column["column_name"] for column in one["table_columns"] or []]
                names[one["table_name"]] = (one["table_type"], columns)
    return found


def test_adbc_objects_at_every_depth(adbc, execute, table):
    execute(f"CREATE SCHEMA {table}")
    execute(f"CREATE TABLE {table}.t_1 (a INTEGER, b VARCHAR)")
    execute(f"CREATE VIEW {table}.v AS SELECT 1 AS x")
    assert objects(adbc, depth="catalogs") == {"merganser": {}}
    assert objects(adbc, depth="db_schemas", db_schema_filter=table) == {"merganser": {table: {}}}
    found = {"t_1": ("BASE TABLE", []), "v": ("VIEW", [])}
    assert objects(adbc, depth="tables", db_schema_filter=table) == {"merganser": {table: found}}
    found = {"t_1": ("BASE TABLE", ["a", "b"]), "v": ("VIEW", ["x"])}
    assert objects(adbc, depth="all", db_schema_filter=table) == {"merganser": {table: found}}
    assert objects(adbc, depth="columns", db_schema_filter=table, table_name_filter="t\\_1") == {
        "merganser": {table: {"t_1": found["t_1"]}}
    }
    filtered = objects(adbc, depth="all", db_schema_filter=table, column_name_filter="b")
    assert filtered["merganser"][table]["t_1"] == ("BASE TABLE", ["b"])
    assert objects(adbc, depth="tables", db_schema_filter=table, table_types_filter=["view"]) == {
        "merganser": {table: {"v": ("VIEW", [])}}
    }
    assert objects(adbc, depth="all", catalog_filter="elsewhere") == {}


def test_adbc_columns_have_their_types(adbc, execute, table):
    """Power BI reads xdbc_type_name."""
    execute(f"CREATE TABLE {table} (price DECIMAL(9, 2) NOT NULL)")
    [catalog] = adbc.adbc_get_objects(depth="columns", table_name_filter=table).read_all().to_pylist()
    [column] = [
        column
        for schema in catalog["catalog_db_schemas"]
        for one in schema["db_schema_tables"] or []
        for column in one["table_columns"]
    ]
    assert (column["xdbc_type_name"], column["ordinal_position"]) == ("DECIMAL(9,2)", 1)


def test_adbc_small_questions(adbc, execute, table):
    assert adbc.adbc_get_table_types() == ["BASE TABLE", "LOCAL TEMPORARY", "VIEW"]
    info = adbc.adbc_get_info()
    assert info["vendor_name"] == "Merganser" and info["vendor_version"].startswith("duckdb v2")
    execute(f"CREATE TABLE {table} (a INTEGER NOT NULL, b ENUM ('x'))")
    schema = adbc.adbc_get_table_schema(table)
    assert schema.equals(pa.schema([pa.field("a", pa.int32(), False), pa.field("b", pa.string())]))
    assert adbc.adbc_get_table_schema(table, catalog_filter="merganser", db_schema_filter="main") == schema
    with pytest.raises(adbc_driver_manager.Error):
        adbc.adbc_get_table_schema("nowhere")
