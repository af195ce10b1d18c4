"""Bombs: short statements that take DuckDB's parser, binder, optimizer or functions a lot of stack, memory or time. Each ends, in
an answer or in a clear error, and the server answers the next statement."""

import pyarrow as pa
import pytest
from pyarrow import flight
from support import Server, scalar

# What a bomb may take, and how long it may: far less than the machine has.
SETTINGS = {
    "engine.process_memory_max": "1GiB",
    "engine.memory_limit": "256MiB",
    "engine.query_timeout": "2s",
    "engine.statements_queue_wait": "5s",
}
# What a bomb may end in: no answer of the kind "internal error", and no broken connection.
ENDS = ("resource exhausted", "timeout", "invalid argument", "not found", "unauthorized", "unimplemented")


def nest(before, middle, after, levels):
    return before * levels + middle + after * levels


def chain(part, parts, before="SELECT ", after=""):
    return before + part * parts + after


def ctes(body, count):
    links = [f"c{i} AS ({body.format(c=f'c{i - 1}')})" for i in range(1, count)]
    return "WITH c0 AS (SELECT 1 AS a), " + ", ".join(links) + f" SELECT count(*) FROM c{count - 1}"


NESTED = {
    "parentheses": ("(", "1", ")"),
    "brackets": ("[", "1", "]"),
    "braces": ("{'a': ", "1", "}"),
    "rows": ("row(", "1", ")"),
    "structs": ("struct_pack(a := ", "1", ")"),
    "functions": ("abs(", "1", ")"),
    "unnest": ("unnest([", "1", "])"),
    "scalar subqueries": ("(SELECT ", "1", ")"),
    "EXISTS": ("EXISTS(SELECT ", "1", ")"),
    "CASE": ("CASE WHEN true THEN 1 ELSE ", "1", " END"),
    "BETWEEN": ("(1 BETWEEN 0 AND ", "1", ")"),
    "AND and OR": ("(a = 1 AND (a = 2 OR ", "a = 3", "))"),
    "INTERVAL": ("INTERVAL (", "1", ") DAY"),
    "lambdas": ("list_transform([1], lambda x: ", "1", ")"),
    "comprehensions": ("[x FOR x IN ", "[1]", "]"),
    "comprehensions' bodies": ("[", "1", " FOR x IN [1, 2]]"),
    "struct types": ("NULL::STRUCT(a ", "INT", ")"),
    "map types": ("NULL::MAP(INT, ", "INT", ")"),
    "comments": ("/*", "", "*/ 1"),
}
CHAINED = {
    "NOT": ("NOT ", "true"),
    "minus": ("- ", "1"),
    "tilde": ("~ ", "1"),
    "dots": ("a.", "a"),
    "plus": ("1 + ", "1"),
    "concatenation": ("'a' || ", "'a'"),
    "power": ("2 ** ", "1"),
    "AND": ("1 = 1 AND ", "true"),
    "OR": ("1 = 2 OR ", "true"),
    "commas": ("1, ", "1"),
    "stars": ("*, ", "1 FROM (SELECT 1 AS a, 2 AS b)"),
    "quotes": ("''", " 1"),
    "dollars": ("$a$", " 1"),
}
SUFFIXED = {
    "casts": ("1", "::INT"),
    "indexes": ("[1]", "[1]"),
    "fields": ("(1)", ".a"),
    "list types": ("NULL::INT", "[]"),
    "JSON arrows": ("'{}'::JSON", "->'a'"),
    "IS NULL": ("1", " IS NULL"),
    "COLLATE": ("'a'", " COLLATE nocase"),
    "UNION ALL": ("1", " UNION ALL SELECT 1"),
    "UNION": ("1", " UNION SELECT 1"),
    "INTERSECT": ("1", " INTERSECT SELECT 1"),
    "EXCEPT": ("1", " EXCEPT SELECT 1"),
    "cross joins": ("count(*) FROM range(2)", ", range(2)"),
    "joins": ("count(*) FROM (SELECT 1 AS a)", " JOIN (SELECT 1 AS a) USING (a)"),
    "left joins": ("count(*) FROM range(2)", " LEFT JOIN range(2) ON true"),
    "semicolons": ("1", ";"),
}
OTHERS = {
    "chained CTEs": ctes("SELECT a FROM {c}", 900),
    "doubled CTEs": ctes("SELECT x.a FROM {c} x, {c} y", 200),
    "doubled CTEs that are not materialized": ctes("SELECT x.a FROM {c} x, {c} y", 24).replace(" AS (", " AS NOT MATERIALIZED ("),
    "unions of CTEs": ctes("SELECT a FROM {c} UNION ALL SELECT a FROM {c}", 60),
    "reused aliases": "SELECT 1 a0" + "".join(f", a{i - 1} + a{i - 1} a{i}" for i in range(1, 24)),
    "laterals": "SELECT * FROM (SELECT 1 a0)" + "".join(f", LATERAL (SELECT a{i - 1} + 1 a{i})" for i in range(1, 60)),
    "rollup": "SELECT count(*) FROM (SELECT " + ",".join(f"1 a{i}" for i in range(200)) + ") GROUP BY ROLLUP("
    + ",".join(f"a{i}" for i in range(200)) + ")",
    "cube": "SELECT count(*) FROM (SELECT " + ",".join(f"1 a{i}" for i in range(30)) + ") GROUP BY CUBE("
    + ",".join(f"a{i}" for i in range(30)) + ")",
    "windows": "SELECT " + ",".join(f"sum(a) OVER (PARTITION BY a + {i} ORDER BY a)" for i in range(1000)) + " FROM range(10) t(a)",
    "pivot": "PIVOT (SELECT 1 a, 2 b) ON a IN (" + ",".join(map(str, range(20_000))) + ") USING sum(b)",
    "COLUMNS": "SELECT COLUMNS('a')" + " + COLUMNS('a')" * 20 + " FROM (SELECT " + ",".join(f"1 AS a{i}" for i in range(1000)) + ")",
    "nested queries": nest("SELECT * FROM (", "SELECT 1", ")", 3000),
    "nested WITH": nest("WITH c AS (", "SELECT 1 a", ") SELECT * FROM c", 3000),
    "deep JSON": "SELECT '" + nest("[", "", "]", 40_000) + "'::JSON",
    "deep JSON as VARIANT": "SELECT (repeat('[', 40000) || repeat(']', 40000))::JSON::VARIANT",
    "structure of deep JSON": "SELECT json_structure(repeat('[', 40000) || repeat(']', 40000))",
    "deep type in a text": """SELECT json_transform('1', repeat('[', 3000) || '"INT"' || repeat(']', 3000))""",
    "deep regular expression": "SELECT regexp_matches('a', repeat('(', 40000) || 'a' || repeat(')', 40000))",
    "repeat": "SELECT length(repeat('x', 2000000000)) FROM range(1000)",
    "many wide values": "SELECT repeat('x', 50000000 + i::INT) FROM range(1000) t(i)",
    "lpad": "SELECT max(length(lpad('x', 200000000, 'y'))) FROM range(100)",
    "long list": "SELECT len(range(2000000000))",
    "list of wide values": "SELECT list(repeat('x', 1000000) || i) FROM range(5000) t(i)",
    "text of many": "SELECT string_agg(repeat('abc', 10000) || i, ',') FROM range(1000000) t(i)",
    "doubling recursion": "WITH RECURSIVE t(a) AS (SELECT 'x' UNION ALL SELECT a || a FROM t) SELECT count(*) FROM t",
    "endless recursion": "WITH RECURSIVE t(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM t) SELECT count(*) FROM t",
    "endless range": "SELECT count(*) FROM range(1000000000000) t(i) WHERE i % 7 = 3",
    "huge product": "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = 1",
}
BOMBS = (
    {f"{name}, nested": "SELECT " + nest(*parts, levels) for levels in [2000] for name, parts in NESTED.items()}
    | {f"{name}, nested 90": "SELECT " + nest(*parts, 90) for name, parts in NESTED.items()}
    | {f"{name}, in a row": "SELECT " + part * 5000 + end for name, (part, end) in CHAINED.items()}
    | {f"{name}, in a row of 900": "SELECT " + part * 900 + end for name, (part, end) in CHAINED.items()}
    | {f"{name}, appended": "SELECT " + begin + part * 5000 for name, (begin, part) in SUFFIXED.items()}
    | {f"{name}, appended 240": "SELECT " + begin + part * 240 for name, (begin, part) in SUFFIXED.items()}
    | OTHERS
)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """A server, and another when the first is busy with statements that nothing interrupts."""
    directory = tmp_path_factory.mktemp("bombs")
    running = []

    def serve():
        if not running or len(running[-1][1]) >= 3:
            if running:
                running[-1][0].kill9()
            arguments = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
            running.append((Server(["--memory", *arguments], directory, f"server-{len(running)}").wait_until_ready(), []))
        return running[-1]

    yield serve
    running[-1][0].kill9()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_and_the_server_goes_on(servers, name):
    server, overdue = servers()
    with server.flight() as client:
        try:
            for _ in client.do_get(flight.Ticket(BOMBS[name].encode()), flight.FlightCallOptions(timeout=20)):
                pass
        except (pa.ArrowException, flight.FlightError, KeyError, NotImplementedError) as error:
            message = str(error)
            assert any(end in message for end in ENDS), message
            if "timeout" in message:
                assert "engine.query_timeout" in message, message
                overdue.append(name)
        assert server.process.poll() is None, server.log()[-500:]
        assert scalar(client, "SELECT 42") == 42
