"""flightsql-dbapi and its SQLAlchemy dialect, against the server at the URI given: asserts, and prints what it did.

It runs in an environment of its own, see requirements-dbapi.txt, so it stands alone; test_dbapi.py starts it.
"""

import sys
import urllib.parse

import sqlalchemy
from flightsql import FlightSQLClient, connect
from flightsql.client import TableRef
from flightsql.exceptions import Error
from sqlalchemy import column, select, table, text

SERVER = urllib.parse.urlsplit(sys.argv[1])


def client(**options):
    return FlightSQLClient(host=SERVER.hostname, port=SERVER.port, insecure=True, **options)


def rows(found):
    return [tuple(row) for row in found]


def read(sql_client, info):
    return sql_client.do_get(info.endpoints[0].ticket).read_all()


def queries(connection):
    cursor = connection.execute("SELECT range AS n, 'row ' || range AS s FROM range(3)")
    assert cursor.fetchone() == [0, "row 0"]
    assert cursor.fetchall() == [[1, "row 1"], [2, "row 2"]]
    assert [name for name, _ in cursor.description or []] == ["n", "s"]


def updates(sql_client):
    """execute_update reads the answer before it ends its own side."""
    assert sql_client.execute_update("CREATE TABLE dbapi_t (n BIGINT, s VARCHAR)") == 0
    assert sql_client.execute_update("INSERT INTO dbapi_t VALUES (1, 'a'), (2, 'b')") == 2
    assert sql_client.execute_update("UPDATE dbapi_t SET s = 'c' WHERE n = 2") == 1


def parameters(connection):
    """Every parameter comes as a dense union of five types."""
    cursor = connection.execute("SELECT s FROM dbapi_t WHERE n = ?", (2,))
    assert cursor.fetchall() == [["c"]]
    values = (7, 1.5, "ä", b"\x00\xff", True)
    cursor = connection.execute("SELECT ? AS i, ? AS f, ? AS s, ? AS b, ? AS t", values)
    assert rows(cursor.fetchall()) == [values]
    connection.executemany("INSERT INTO dbapi_t VALUES (?, ?)", [(3, "d"), (4, "e"), (5, "f")])
    assert connection.execute("SELECT count(*) AS n FROM dbapi_t").fetchall() == [[5]]


def metadata(connection, sql_client):
    assert "dbapi_t" in connection.flightsql_get_table_names(schema="main")
    assert "main" in connection.flightsql_get_schema_names()
    columns = connection.flightsql_get_columns("dbapi_t", "main")
    assert [(spec["name"], spec["type"].__name__) for spec in columns] == [("n", "BIGINT"), ("s", "TEXT")]
    assert connection.flightsql_get_sql_info([504]) == {504: '"'}
    assert connection.flightsql_get_primary_keys("dbapi_t") == []
    assert connection.flightsql_get_foreign_keys("dbapi_t") == []
    assert "merganser" in read(sql_client, sql_client.get_catalogs())["catalog_name"].to_pylist()
    assert "VIEW" in read(sql_client, sql_client.get_table_types())["table_type"].to_pylist()
    assert read(sql_client, sql_client.get_xdbc_type_info(12))["type_name"].to_pylist()
    refs = TableRef(table="dbapi_t"), TableRef(table="dbapi_u")
    assert read(sql_client, sql_client.get_cross_reference(*refs)).num_rows == 0
    assert read(sql_client, sql_client.get_exported_keys(refs[0])).num_rows == 0


def errors(connection):
    for sql, part in [("SELEC 1", "SELEC"), ("SELECT * FROM nowhere", "nowhere")]:
        try:
            connection.execute(sql)
        except Exception as error:
            assert part in str(error), error
        else:
            raise AssertionError(f"{sql} is not refused")
    try:
        connection.execute("SELECT ?", ([1],))
    except Error:
        # The client's own limit: it knows five types.
        pass


def through_sqlalchemy():
    """Superset's way: a URL, reflection, and statements with literal values unless the feature is on."""
    for query in ("insecure=True", "insecure=True&feature-sqlalchemy-prepared-statements=on"):
        # The dialect is found by its entry point; `datafusion+flightsql` needs an import of flightsql.sqlalchemy before.
        url = f"datafusion://user:password@{SERVER.hostname}:{SERVER.port}?{query}"
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT 1 AS n")).scalar() == 1
            mine = table("dbapi_t", column("n"), column("s"))
            found = connection.execute(select(mine.c.s).where(mine.c.n == 2)).fetchall()
            assert rows(found) == [("c",)], found
            inspector = sqlalchemy.inspect(engine)
            assert "dbapi_t" in inspector.get_table_names(schema="main")
            assert "main" in inspector.get_schema_names()
            assert [spec["name"] for spec in inspector.get_columns("dbapi_t", schema="main")] == ["n", "s"]
        print(f"sqlalchemy with {query}")


def sessions():
    """A user makes a handshake, and so a session; who gives none sends `Bearer None` with every call."""
    one, two = client(user="one", password="x"), client(user="two", password="x")
    read(one, one.execute("CREATE TEMP TABLE dbapi_own AS SELECT 1 AS n"))
    assert read(one, one.execute("SELECT n FROM dbapi_own"))["n"].to_pylist() == [1]
    try:
        read(two, two.execute("SELECT n FROM dbapi_own"))
    except KeyError:
        pass
    else:
        raise AssertionError("the temporary table of one session is seen in another")
    nobody = client()
    assert read(nobody, nobody.execute("SELECT 1 AS n"))["n"].to_pylist() == [1]


def main():
    sql_client = client(user="user", password="password")
    connection = connect(sql_client)
    steps = [
        ("queries", queries, [connection]),
        ("updates", updates, [sql_client]),
        ("parameters", parameters, [connection]),
        ("metadata", metadata, [connection, sql_client]),
        ("errors", errors, [connection]),
        ("sqlalchemy", through_sqlalchemy, []),
        ("sessions", sessions, []),
    ]
    for name, step, arguments in steps:
        step(*arguments)
        print(name, flush=True)


main()
