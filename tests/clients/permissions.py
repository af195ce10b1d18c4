"""Random users and random commands, over every kind of Flight SQL call, against a model of what may be allowed.

    MERGANSER_BIN=target/release/merganser python tests/clients/permissions.py 20000 7   # commands, seed

Each command says what it needs; `allowed` is the model. What it allows must work, and what it does not must be PERMISSION_DENIED;
a listing must show what may be read, no more and no less. test_permissions.py runs some hundreds of commands.
"""

import base64
import fnmatch
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import pyarrow as pa

import hostile
import raw
import support

ROLES = ("reader", "writer", "admin")
PATTERNS = ("*", "a*", "A?", "b*", "?1", "s.*", "s.a*", "*1", "v_*", "ev*", "new_a*", "s.new*", "nothing")
USERS = 12
PASSWORD = "correct horse battery staple"


def allowed(role, grants, needs):
    """The model: whether a user may do what needs all of ("read", table), ("write", table), ("own",), ("catalog",), ("administer",)."""

    def may(what, table=None):
        least = {"administer": "admin", "write": "writer", "own": "writer"}.get(what, "reader")
        if role == "admin" or ROLES.index(role) < ROLES.index(least):
            return role == "admin"
        if what == "own" or not grants:
            return True
        matches = (access for access, pattern in grants if table and fnmatch.fnmatchcase(table, pattern.lower()))
        return any(access in (what, "write") for access in matches)

    return all(may(*need) for need in needs)


# --- what there is ---

# Plain tables, all with the columns i and v; tables of events; and what the views read.
PLAIN = ("a1", "a2", "b1", "b2", "s.a1", "s.b1")
EVENTS = ("ev_a", "ev_b")
VIEWS = {"v_a": ("a1",), "v_b": ("b1",), "v_ab": ("a2", "b2"), "v_s": ("s.a1",), "v_v": ("b1",), "s.v_b": ("b2",)}
BODIES = {
    "v_a": "FROM a1",
    "v_b": "FROM b1 WHERE i > 0",
    "v_ab": "FROM a2 UNION ALL FROM b2",
    "v_s": "SELECT i, (SELECT max(v) FROM s.a1) AS v FROM range(3) r(i)",
    "v_v": "FROM v_b",
    "s.v_b": "FROM main.b2",
}
MACROS = {"of_a": ("a1",), "of_b": ("b2", "s.b1")}
FIXTURES = [
    "CREATE SCHEMA s",
    *(f"CREATE TABLE {table} AS SELECT i::INTEGER AS i, 'v' || i AS v FROM range(1, 4) r(i)" for table in PLAIN),
    *(f"CREATE VIEW {view} AS {BODIES[view]}" for view in VIEWS),
    # A macro's names mean what they mean to its caller.
    "CREATE MACRO of_a() AS TABLE FROM main.a1",
    "CREATE MACRO of_b() AS TABLE SELECT b.* FROM main.b2 b, s.b1",
    "CREATE SEQUENCE counts",
]


def reads(relation):
    """What reading it needs: the tables below a view or macro count, not its name."""
    relation = relation.removesuffix("()")
    return [("read", table) for table in VIEWS.get(relation) or MACROS.get(relation) or (relation,)]


def looks(relation):
    """What knowing of it needs: it is found by its name."""
    return [("read", relation), *reads(relation)]


# --- users ---


class User:
    """A user with clients: one with nothing set, and one whose session uses the schema s."""

    def __init__(self, name, role, grants):
        self.name, self.role, self.grants = name, role, grants

    def add(self, users_file):
        grants = [part for access, pattern in self.grants for part in ("--grant", f"{access}:{pattern}")]
        command = [os.environ["MERGANSER_BIN"], "user", "add", self.name, "--role", self.role, *grants, "--password-stdin"]
        subprocess.run([*command, "--users-file", users_file], input=PASSWORD + "\n", text=True, check=True, stdout=subprocess.DEVNULL)

    def connect(self, server):
        self.clients = []
        for schema in ("main", "s"):
            client = raw.Client(server, "permissions", cookies=True)
            client.headers["authorization"] = "Basic " + base64.b64encode(f"{self.name}:{PASSWORD}".encode()).decode()
            client.call("DoGet", {1: "SELECT 1"})
            client.action("SetSessionOptions", raw.session_options(schema=schema))
            client.schema = schema
            self.clients.append(client)

    def may(self, needs):
        return allowed(self.role, self.grants, needs)

    def __str__(self):
        return f"{self.role} {self.name} with {[f'{access}:{pattern}' for access, pattern in self.grants]}"


def some_user(chance, number):
    role = chance.choice(ROLES) if number >= len(ROLES) else ROLES[number]
    grants = [(chance.choice(("read", "write")), chance.choice(PATTERNS)) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
    return User(f"user{number}", role, grants)


# --- commands ---

QUERIES = (
    "SELECT * FROM {t}",
    "SELECT count(*) FROM {t} x, {u} y",
    "SELECT (SELECT max(i) FROM {t} x WHERE x.i >= y.i) FROM {u} y",
    "SELECT * FROM {u} WHERE i IN (SELECT i FROM {t})",
    "WITH x AS MATERIALIZED (FROM {t}) SELECT * FROM x UNION ALL SELECT * FROM {u}",
    "SELECT * FROM query($$FROM {t}$$) POSITIONAL JOIN {u}",
    "SELECT list_transform((SELECT list(i) FROM {t}), lambda i: i + 1) FROM {u}",
    "EXPLAIN ANALYZE SELECT count(*) FROM {t} x SEMI JOIN {u} y USING (i)",
    "SUMMARIZE SELECT x.* FROM {t} x, {u}",
    "SELECT 1 FROM {t} WHERE false UNION SELECT 1 FROM {u} LIMIT 0",
)
CHANGES = (
    "INSERT INTO {t} SELECT * FROM {u} LIMIT 1",
    "UPDATE {t} SET v = (SELECT max(v) FROM {u})",
    "DELETE FROM {t} WHERE i IN (SELECT i + 1000000 FROM {u})",
    "MERGE INTO {t} t USING (SELECT i + 1000000 AS i, v FROM {u}) u ON t.i = u.i WHEN MATCHED THEN DELETE",
    "WITH d AS (DELETE FROM {t} WHERE i < 0 RETURNING i) SELECT d.i FROM d, {u}",
)
OTHERS = (
    ("SELECT 1", []),
    ("SELECT nextval('main.counts')", [("own",)]),
    ("CREATE OR REPLACE TEMP TABLE mine (i INTEGER)", [("own",)]),
    ("SHOW TABLES", [("catalog",)]),
    ("FROM duckdb_columns()", [("catalog",)]),
    ("SELECT macro_definition FROM duckdb_functions()", [("catalog",)]),
    ("DESCRIBE main.a1", [("catalog",)]),
    ("FROM merganser.main._metadata", [("catalog",)]),
    ("FROM merganser.queries", [("administer",)]),
    ("FROM merganser_sessions()", [("administer",)]),
    ("SELECT count(*) FROM duckdb_settings()", [("administer",)]),
    ("SET GLOBAL TimeZone = 'UTC'", [("administer",)]),
    ("ANALYZE", [("administer",)]),
    ("CREATE SCHEMA IF NOT EXISTS s", [("write", "s.")]),
    ("SELECT count(*) FROM main.ev_a", [("read", "ev_a")]),
    ("DELETE FROM main.ev_b WHERE insert_id = 'nobody'", [("write", "ev_b")]),
    ("INSERT INTO main.ev_a SELECT * FROM main.ev_b", [("write", "ev_a"), ("read", "ev_b")]),
)
ROWS = pa.table({"i": pa.array([1], pa.int32()), "v": ["one"]})


class Commands:
    """Makes commands: each is a text, what it needs, what runs it, and what an admin runs before and after."""

    def __init__(self, chance):
        self.chance, self.number = chance, 0

    def some(self, client):
        make = self.chance.choice((self.query, self.query, self.change, self.change, self.definition, self.other, self.ingest, self.ingest, self.action, self.by_name))
        return make(client)

    def spelled(self, name, client):
        """A name as somebody may write it who is in the client's schema."""
        schema, _, table = name.rpartition(".")
        schema = schema or "main"
        table = self.chance.choice((table, table.upper(), f'"{table.upper()}"'))
        short = [table] if schema == client.schema else []
        return self.chance.choice((f"{schema}.{table}", f"merganser.{schema}.{table}", *short))

    def relation(self):
        return self.chance.choice((*PLAIN, *VIEWS, *(f"{macro}()" for macro in MACROS)))

    def new(self, prefix="new_"):
        """A name that nothing has yet."""
        self.number += 1
        return self.chance.choice(("", "s.")) + prefix + self.chance.choice("ab") + str(self.number)

    def sql(self, text, needs, ways, before=(), after=()):
        way = self.chance.choice(ways)
        return f"{text!r} by {way}", needs, lambda client: hostile.WAYS[way](client, text), before, after

    def query(self, client):
        text, names, needs = self.chance.choice(QUERIES), {}, []
        for key in ("t", "u"):
            relation = self.relation()
            # Macros are in the main schema.
            names[key] = f"main.{relation}" if relation.endswith("()") else self.spelled(relation, client)
            needs += reads(relation) if f"{{{key}}}" in text else []
        return self.sql(text.format(**names), needs, ("ticket", "info", "prepared query"))

    def change(self, client):
        t, u = self.chance.choice(PLAIN), self.chance.choice((*PLAIN, *VIEWS))
        text = self.chance.choice(CHANGES).format(t=self.spelled(t, client), u=self.spelled(u, client))
        return self.sql(text, [("write", t), *reads(u)], ("info", "update", "prepared update"))

    def definition(self, client):
        """Makes, renames or drops something of its own."""
        new, u = self.new(), self.chance.choice((*PLAIN, *VIEWS))
        short = new.removeprefix("s.")
        made = [f"CREATE TABLE {new} AS FROM a1"]
        source = self.spelled(u, client)
        ways = ("ticket", "update", "prepared update")
        target = self.spelled(new, client)
        return self.chance.choice((
            lambda: self.sql(f"CREATE TABLE {target} AS FROM {source}", [("write", new), *reads(u)], ways, (), [f"DROP TABLE {new}"]),
            # A view tells nobody more than they may read.
            lambda: self.sql(f"CREATE VIEW {target} AS FROM {source}", [("write", new)], ways, (), [f"DROP VIEW {new}"]),
            lambda: self.sql(f"CREATE OR REPLACE MACRO {target}() AS TABLE FROM {source}", [("write", new)], ways, (), [f"DROP MACRO TABLE {new}"]),
            lambda: self.sql(f"DROP TABLE {target}", [("write", new)], ways, made, [f"DROP TABLE IF EXISTS {new}"]),
            lambda: self.sql(f"DROP TABLE IF EXISTS {target}", [("write", new)], ways),
            lambda: self.sql(f"COMMENT ON TABLE {target} IS 'x'", [("write", new)], ways, made, [f"DROP TABLE {new}"]),
            lambda: self.sql(f"ALTER TABLE {target} ADD COLUMN x INTEGER", [("write", new)], ways, made, [f"DROP TABLE {new}"]),
            lambda: self.sql(f"CREATE INDEX x{short} ON {target} (i)", [("write", new)], ways, made, [f"DROP TABLE {new}"]),
            lambda: self.renamed(new, target, made, ways),
        ))()

    def renamed(self, old, target, made, ways):
        self.number += 1
        new = old.removeprefix("s.") + self.chance.choice("_1x") + str(self.number)
        schema = "s." if old.startswith("s.") else ""
        drops = [f"DROP TABLE IF EXISTS {schema}{new}", f"DROP TABLE IF EXISTS {old}"]
        return self.sql(f"ALTER TABLE {target} RENAME TO {new}", [("write", old), ("write", schema + new)], ways, made, drops)

    def other(self, client):
        text, needs = self.chance.choice(OTHERS)
        return self.sql(text, needs, ("ticket", "info"))

    def ingest(self, client):
        """Rows by DoPut, in each of its ways."""
        # Tables of events are in the main schema, and a session's schema is not asked whether it is meant.
        if client.schema == "main" and self.chance.random() < 0.4:
            table = self.chance.choice(EVENTS)
            settings = json.dumps({"table": table, "kind": "events", "mode": self.chance.choice(("append", "create_append"))})
            self.number += 1
            events = support.some_events([str(self.number)])
            return f"ingest {settings}", [("write", table)], lambda one: one.put({1: 2, 2: settings}, events), (), ()
        exists = self.chance.random() < 0.6
        table = self.chance.choice(PLAIN) if exists else self.new()
        schema, _, name = table.rpartition(".")
        if (schema or "main") == client.schema and self.chance.random() < 0.4:
            settings = json.dumps({"table": name, "kind": "table", "mode": "create_append"})
            descriptor, told = {1: 2, 2: settings}, settings
        else:
            # What is not said is the session's.
            unsaid = (schema or "main") == client.schema and self.chance.random() < 0.5
            fields = {1: {1: 1, 2: 2}, 2: name, 3: None if unsaid else schema or "main", 4: self.chance.choice((None, "merganser"))}
            descriptor, told = raw.command("CommandStatementIngest", fields), fields
        after = () if exists else [f"DROP TABLE {table}"]
        return f"ingest {told} in {client.schema}", [("write", table)], lambda one: one.put(descriptor, ROWS), (), after

    def action(self, client):
        table = self.chance.choice((*EVENTS, "a1", "b1", "V_A", "v_b", "v_ab"))
        lower = table.lower()
        event = self.chance.choice(EVENTS)
        name, body, needs = self.chance.choice((
            ("get_schema", {"table": table}, looks(lower)),
            ("table_exists", {"table": table}, [("read", lower)]),
            ("get_metadata", {"table": event.upper()}, [("read", event)]),
            ("drop_table", {"table": "nothing_" + table, "if_exists": True}, [("write", "nothing_" + lower)]),
            ("server_info", {}, []),
        ))
        return f"action {name} {body}", needs, lambda one: one.action(name, json.dumps(body)), (), ()

    def by_name(self, client):
        """A table by its own descriptor, of the main schema."""
        table = self.chance.choice([name for name in (*PLAIN, *VIEWS, *EVENTS) if "." not in name])
        parts = self.chance.choice(([table], ["main", table.upper()], ["merganser", "main", table]))
        rpc, run = self.chance.choice((
            ("GetFlightInfo and DoGet", lambda one: hostile.describe(one, parts)),
            ("GetSchema", lambda one: one.call("GetSchema", {1: 1, 3: parts})),
        ))
        return f"{rpc} of {parts}", looks(table), run, (), ()


# --- listings ---


def check_listings(user):
    """Each listing has exactly what the user may know of."""
    client = user.clients[0]
    known = {name for name in (*PLAIN, *EVENTS, *VIEWS) if user.may(looks(name))}
    main = {name for name in known if "." not in name}
    tables = raw.table_of(hostile.tables(client, {"columns": True})[1:]).to_pylist()
    found = {name_of(row["db_schema_name"], row["table_name"]) for row in tables if row["catalog_name"] == "merganser"}
    assert found == known, f"GetTables: {user}: {found ^ known}"
    assert all(raw.schema_of(row["table_schema"]).names for row in tables)
    listed = {json.loads(body)["name"] for body in client.action("list_tables", b"{}")}
    assert listed == main, f"list_tables: {user}: {listed ^ main}"
    flights = {raw.decode(raw.one(raw.decode(answer), 2))[3][-1].decode() for answer in client.call("ListFlights", {})}
    assert flights == main, f"ListFlights: {user}: {flights ^ main}"
    schemas = {row["db_schema_name"] for row in raw.table_of(hostile.schemas(client, {"catalog": "merganser"})[1:]).to_pylist()}
    has_s = user.may([("catalog",)]) or any(name.startswith("s.") for name in known)
    assert schemas == ({"main", "s"} if has_s else {"main"}), f"GetDbSchemas: {user}: {schemas}"
    for table in EVENTS:
        keys = raw.table_of(hostile.keys(client, {"table": table})[1:])
        assert keys.num_rows == (table in known), f"GetPrimaryKeys: {user}: {table}"
    queries = [json.loads(body) for body in client.action("list_queries", json.dumps({"all": True, "limit": 1000}))]
    others = {query["user"] for query in queries} - {user.name}
    assert bool(others) == user.may([("administer",)]), f"list_queries: {user}: {others}"


def name_of(schema, table):
    return table if schema == "main" else f"{schema}.{table}"


# --- the run ---


def start(directory, chance):
    """A server with the fixtures and some users; the first of them is an admin."""
    users = [User("root", "admin", []), *(some_user(chance, number) for number in range(USERS))]
    users_file = directory / "users.toml"
    for user in users:
        user.add(users_file)
    server = support.Server(["--memory", "--set", f"auth.users_file={users_file}"], directory, "permissions").wait_until_ready()
    users[0].connect(server)
    admin = users[0].clients[0]
    for sql in FIXTURES:
        hostile.by_update(admin, sql)
    for table in EVENTS:
        admin.put({1: 1, 3: ["events", table]}, support.some_events([table]))
    for user in users[1:]:
        user.connect(server)
    return server, users


def run(directory, commands, seed):
    """Runs so many commands; answers how many were allowed and refused."""
    chance = random.Random(seed)
    server, users = start(directory, chance)
    admin, make = users[0].clients[0], Commands(chance)
    counts = {"OK": 0, "PERMISSION_DENIED": 0}
    try:
        for number in range(commands):
            user = chance.choice(users[1:])
            client = chance.choice(user.clients)
            told, needs, do, before, after = make.some(client)
            for sql in before:
                hostile.by_update(admin, sql)
            code, answers = hostile.outcome(do, client)
            expected = "OK" if user.may(needs) else "PERMISSION_DENIED"
            what = f"seed {seed}, command {number}: {told} as {user}, which needs {needs}: {code}, not {expected}"
            assert code == expected, f"{what}: {answers[0][:300] if code != 'OK' else ''}"
            counts[code] += 1
            for sql in after if code == "OK" or before else ():
                hostile.by_update(admin, sql)
        for user in users:
            check_listings(user)
    finally:
        code = server.stop()
    assert code == 0, server.log()
    return counts


def main():
    commands, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    # Each round has users of its own.
    for offset in range(0, commands, 2000):
        with tempfile.TemporaryDirectory() as directory:
            counts = run(pathlib.Path(directory), min(2000, commands - offset), seed + offset)
            print(f"seed {seed + offset}: {counts}", flush=True)


if __name__ == "__main__":
    main()
