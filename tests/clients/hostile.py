"""The hostile statements of tests/hostile: reading the list, the arena in which they are tried, and what must never be seen.

Each file of the list is one class of attacks; `tests/hostile/README.md` says what its keys mean.
"""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tomllib
from dataclasses import dataclass

import duckdb
import grpc

import raw
import support

DIRECTORY = pathlib.Path(__file__).parent.parent / "hostile"
# `open` is everybody on a server that has no users; `restricted` is a reader with the grant read:pub_*.
ROLES = ("open", "reader", "restricted", "writer", "admin")
INHERITS = {"restricted": "reader", "open": "admin"}
ADMINS = ("admin", "open")
PASSWORD = "correct horse battery staple"

REFUSALS = {"PERMISSION_DENIED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "FAILED_PRECONDITION", "NOT_FOUND", "ALREADY_EXISTS"}
CODES = {
    "works": {"OK"},
    "denied": {"PERMISSION_DENIED"},
    "invalid": {"INVALID_ARGUMENT"},
    "unimplemented": {"UNIMPLEMENTED"},
    "invalid_or_missing": {"INVALID_ARGUMENT", "NOT_FOUND"},
    "refused": REFUSALS,
    "quiet": REFUSALS | {"OK"},
}
# After these the data must be what it was.
MUST_CHANGE_NOTHING = {"denied", "invalid", "unimplemented", "invalid_or_missing", "refused"}

# What is in the root of an arena: directories, servers' logs, users.
KNOWN = ("outside", "data", "exports", "server", "builder", "template", "users", "merganser")
FILE_CANARY = "CANARY-FILE"
TABLE_CANARY = "CANARY-TABLE"

FIXTURES = f"""
CREATE TABLE pub_plain AS SELECT i::INTEGER AS i, 'open ' || i AS v FROM range(1, 11) r(i);
CREATE TABLE pub_scratch AS FROM pub_plain;
CREATE TABLE scratch AS FROM pub_plain;
CREATE TABLE secret_text AS SELECT 'text' AS v;
CREATE TABLE secret_plain AS SELECT 1 AS i, '{TABLE_CANARY}' AS v, 2 AS hidden_tungsten;
CREATE SCHEMA vault;
CREATE TABLE vault.secret AS FROM secret_plain;
CREATE VIEW pub_view AS FROM secret_plain;
CREATE VIEW pub_view_2 AS FROM pub_view;
CREATE VIEW pub_open AS FROM pub_plain;
CREATE MACRO pub_macro() AS TABLE FROM secret_plain;
CREATE MACRO pub_scalar() AS (SELECT max(v) FROM secret_plain);
CREATE SEQUENCE seq;
"""

# One row for each thing that a statement could change; the macros, too, so that a new one is seen.
SNAPSHOT = """
SELECT 'rows', t, n, h FROM (
    SELECT 'pub_plain' AS t, count(*) AS n, sum(hash(x)) AS h FROM pub_plain x
    UNION ALL SELECT 'pub_scratch', count(*), sum(hash(x)) FROM pub_scratch x
    UNION ALL SELECT 'scratch', count(*), sum(hash(x)) FROM scratch x
    UNION ALL SELECT 'secret_text', count(*), sum(hash(x)) FROM secret_text x
    UNION ALL SELECT 'secret_plain', count(*), sum(hash(x)) FROM secret_plain x
    UNION ALL SELECT 'vault', count(*), sum(hash(x)) FROM vault.secret x
    UNION ALL SELECT 'pub_events', count(*), sum(hash(x)) FROM pub_events x
    UNION ALL SELECT 'secret_events', count(*), sum(hash(x)) FROM secret_events x
    UNION ALL SELECT '_metadata', count(*), sum(hash(x)) FROM _metadata x
)
UNION ALL SELECT 'table', schema_name || '.' || table_name, column_count, hash(sql, comment) FROM duckdb_tables()
UNION ALL SELECT 'view', schema_name || '.' || view_name, 0, hash(sql, comment) FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT 'column', table_name || '.' || column_name, 0, hash(comment) FROM duckdb_columns() WHERE comment IS NOT NULL
UNION ALL SELECT 'index', index_name, 0, hash(sql) FROM duckdb_indexes()
UNION ALL SELECT 'sequence', sequence_name, coalesce(last_value, 0), 0 FROM duckdb_sequences()
UNION ALL SELECT 'trigger', trigger_name, 0, 0 FROM duckdb_triggers()
UNION ALL SELECT 'macro', function_name, count(*), 0 FROM duckdb_functions() WHERE function_type LIKE '%macro' AND NOT internal GROUP BY ALL
UNION ALL SELECT 'type', type_name, count(*), 0 FROM duckdb_types() WHERE NOT internal GROUP BY ALL
UNION ALL SELECT 'schema', schema_name, 0, 0 FROM duckdb_schemas() WHERE database_name = 'merganser'
ORDER BY ALL
"""
COUNTS_AGREE = """
SELECT count(*) FROM (SELECT table_name, row_count FROM _metadata WHERE table_name IN ('pub_events', 'secret_events')
    EXCEPT SELECT 'pub_events', count(*) FROM pub_events EXCEPT SELECT 'secret_events', count(*) FROM secret_events)
"""


@dataclass(frozen=True)
class Group:
    """Statements of one attack class with one verdict."""

    file: str
    name: str
    checked: str
    verdict: dict
    statements: list
    before: tuple
    hides: tuple
    paths_are_secret: bool
    undo: bool
    reads: bool
    exports: bool

    def changes_nothing(self, verdict):
        """Whether the data must be afterwards what it was before."""
        return self.reads or verdict in MUST_CHANGE_NOTHING

    def cases(self, role):
        """Each statement with its verdict for `role`."""
        for case in self.statements:
            yield case["sql"], verdict_of(case.get("verdict", self.verdict), role)

    def checks(self):
        """Each statement with what DuckDB does with it when nothing is locked."""
        for case in self.statements:
            yield case["sql"], case.get("checked", self.checked)


def verdict_of(verdicts, role):
    for key in (role, INHERITS.get(role), "all"):
        if key in verdicts:
            return verdicts[key]
    raise KeyError(f"no verdict for {role}")


def _files():
    for path in sorted(DIRECTORY.glob("*.toml")):
        yield path.stem, tomllib.loads(path.read_text())


def groups():
    """All groups of SQL statements."""
    return [
        Group(
            file,
            group["name"],
            group["checked"],
            group["verdict"],
            [case if isinstance(case, dict) else {"sql": case} for case in group["statements"]],
            tuple(group.get("before", ())),
            tuple(group.get("hides", ())),
            group.get("paths_are_secret", False),
            group.get("undo", False),
            group.get("reads", False),
            group.get("exports", False),
        )
        for file, content in _files()
        for group in content.get("group", [])
    ]


def calls():
    """All attacks that are no SQL text."""
    return [call for _, content in _files() for call in content.get("call", [])]


def brought():
    """What an old database file already holds."""
    return [sql for _, content in _files() for group in content.get("group", []) for sql in group.get("brought", [])]


class Arena:
    """A server on a copy of the fixtures, beside files that it must leave alone."""

    def __init__(self, root, with_users, with_exports=False):
        self.root, self.with_users = root, with_users
        self.outside, self.data, self.exports = root / "outside", root / "data", root / "exports"
        self.options = ("--set", f"engine.export_directory={self.exports}") if with_exports else ()
        self.database = self.data / "main.duckdb"
        self.users = root / "users.toml"
        self.server, self._clients, self._number = None, {}, 0
        self.data.mkdir(parents=True)
        self.exports.mkdir()
        self._plant()
        self._build()
        self.planted = self._hashes()
        self.magic = self.template.read_bytes()[8:24]
        self.start()
        self.normal = self.snapshot()

    # --- what there is ---

    def expand(self, sql):
        """`sql` with the paths of this arena."""
        names = {
            "@planted@": self.outside / "planted.csv",
            "@planted_json@": self.outside / "planted.json",
            "@planted_parquet@": self.outside / "planted.parquet",
            "@planted_database@": self.outside / "planted.duckdb",
            "@outside@": self.outside,
            "@new@": self.outside / "new",
            "@database@": self.database,
            "@directory@": self.data,
            "@exports@": self.exports,
        }
        for name, path in names.items():
            sql = sql.replace(name, str(path))
        return sql

    def _plant(self):
        self.outside.mkdir()
        (self.outside / "planted.csv").write_text(f"{FILE_CANARY}\n")
        (self.outside / "planted.json").write_text(json.dumps({"v": FILE_CANARY}) + "\n")
        with duckdb.connect() as connection:
            connection.execute(f"COPY (SELECT '{FILE_CANARY}' AS v) TO '{self.outside}/planted.parquet'")
            connection.execute("CREATE TABLE t AS SELECT 1 AS a")
            connection.execute(f"EXPORT DATABASE '{self.outside}/exported'")
        with duckdb.connect(self.outside / "planted.duckdb") as connection:
            connection.execute(f"CREATE TABLE t AS SELECT '{FILE_CANARY}' AS v")
        (self.outside / "link_to_database").symlink_to(self.database)

    def _build(self):
        """The database that every round begins with: what an older DuckDB left in it, and managed tables by ingest."""
        with duckdb.connect(self.database) as connection:
            connection.execute(FIXTURES)
            for sql in brought():
                connection.execute(self.expand(sql))
        server = support.Server([self.database], self.root, "builder").wait_until_ready()
        with server.flight() as client:
            for table in ("pub_events", "secret_events"):
                support.put(client, support.path("events", table), support.some_events([f"{table}_{n}" for n in range(5)]))
        assert server.stop() == 0, server.log()
        self.template = self.root / "template.duckdb"
        shutil.copyfile(self.database, self.template)
        for role, more in (("reader", ()), ("restricted", ("--grant", "read:pub_*")), ("writer", ()), ("admin", ())):
            if self.with_users:
                self._add_user(role, "reader" if role == "restricted" else role, more)

    def _add_user(self, name, role, more):
        command = [os.environ["MERGANSER_BIN"], "user", "add", name, "--role", role, *more, "--password-stdin"]
        subprocess.run([*command, "--users-file", self.users], input=PASSWORD + "\n", text=True, check=True)

    # --- the server ---

    def start(self):
        users = ("--set", f"auth.users_file={self.users}") if self.with_users else ()
        self._number += 1
        self.server = support.Server([self.database, *users, *self.options], self.root, f"server-{self._number}")
        self.server.wait_until_ready()

    def client(self, role, use="attack"):
        """A client that signs in as `role`; there is one for each use."""
        if (role, use) not in self._clients:
            client = raw.Client(self.server, "hostile", cookies=True)
            if role != "open":
                secret = base64.b64encode(f"{role}:{PASSWORD}".encode()).decode()
                client.headers["authorization"] = f"Basic {secret}"
            self._clients[role, use] = client
        return self._clients[role, use]

    def table(self, sql):
        """What somebody who may everything reads."""
        client = self.client("admin" if self.with_users else "open", "look")
        return raw.table_of(client.call("DoGet", {1: sql})).to_pydict()

    def snapshot(self):
        return self.table(SNAPSHOT)

    def damage(self):
        """What is wrong with the process and the files."""
        if self.server.process.poll() is not None:
            return [f"the server has ended: {self.server.process.poll()}"]
        found = []
        if self._hashes() != self.planted:
            found.append("files outside have changed")
        if others := [path.name for path in self.root.iterdir() if not path.name.startswith(KNOWN)]:
            found.append(f"new files beside the directories: {others}")
        if others := [path.name for path in self.data.iterdir() if not path.name.startswith("main.duckdb")]:
            found.append(f"new files beside the database: {others}")
        with self.database.open("rb") as file:
            if file.read(24)[8:] != self.magic:
                found.append("the database file is destroyed")
        return found

    def change(self):
        """What has become of the data; nothing, if it is what it was."""
        try:
            now = self.snapshot()
        except (grpc.RpcError, KeyError) as error:
            return f"the data cannot be read: {str(getattr(error, 'details', lambda: error)())[:300]}"
        return "" if now == self.normal else f"the data has changed: {difference(self.normal, now)}"

    def counts_agree(self):
        """Whether _metadata tells the number of rows of each managed table."""
        try:
            return list(self.table(COUNTS_AGREE).values()) == [[0]]
        except grpc.RpcError:
            return True  # One of the tables was dropped, as it may be.

    def reset(self):
        """Begins again on the fixtures; tells what was wrong with the database at its end."""
        found = self.stop()
        for path in self.data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self._hashes() != self.planted:
            shutil.rmtree(self.outside)
            self._plant()
            self.planted = self._hashes()
        shutil.copyfile(self.template, self.database)
        self.start()
        return found

    def stop(self):
        for client in self._clients.values():
            client.__exit__()
        self._clients = {}
        found = []
        if (code := self.server.stop()) != 0:
            found.append(f"the server ended with {code}")
        try:
            with duckdb.connect(self.database, read_only=True) as connection:
                connection.execute("SHOW ALL TABLES").fetchall()
        except duckdb.Error as error:
            found.append(f"the database file cannot be opened: {str(error).splitlines()[0]}")
        return found

    def _hashes(self):
        def content(path):
            if path.is_symlink():
                return os.readlink(path)
            return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"

        return {str(path.relative_to(self.outside)): content(path) for path in sorted(self.outside.rglob("*"))}


def difference(before, after):
    rows = [set(zip(*((str(value) for value in column) for column in table.values()))) for table in (before, after)]
    return f"gone {sorted(rows[0] - rows[1])[:3]}, new {sorted(rows[1] - rows[0])[:3]}"


# --- the ways of a statement over the wire ---


def by_ticket(client, sql):
    """DoGet of a ticket that is the text."""
    return client.call("DoGet", {1: sql})


def by_info(client, sql):
    """GetFlightInfo of a CommandStatementQuery, and DoGet of what it answers."""
    return _fetch(client, raw.command("CommandStatementQuery", {1: sql}))


def by_update(client, sql):
    """DoPut of a CommandStatementUpdate."""
    return client.put(raw.command("CommandStatementUpdate", {1: sql}), raw.no_parameters())


def by_prepared_query(client, sql):
    """A prepared statement, read."""
    return _prepared(client, sql, lambda handle: _fetch(client, raw.command("CommandPreparedStatementQuery", {1: handle})))


def by_prepared_update(client, sql):
    """A prepared statement, executed."""
    return _prepared(
        client,
        sql,
        lambda handle: client.put(raw.command("CommandPreparedStatementUpdate", {1: handle}), raw.no_parameters()),
    )


def _fetch(client, descriptor):
    answers = client.call("GetFlightInfo", descriptor)
    for endpoint in raw.decode(answers[0])[3]:
        answers += client.call("DoGet", raw.decode(raw.decode(endpoint)[1][0]))
    return answers


def _prepared(client, sql, run):
    [answer] = client.action("CreatePreparedStatement", raw.packed("ActionCreatePreparedStatementRequest", {1: sql}))
    handle = raw.one(raw.unpacked("ActionCreatePreparedStatementResult", answer), 1)
    try:
        return [answer, *run(handle)]
    finally:
        client.sql_action("ClosePreparedStatement", {1: handle})


WAYS = {
    "ticket": by_ticket,
    "info": by_info,
    "update": by_update,
    "prepared query": by_prepared_query,
    "prepared update": by_prepared_update,
}


def in_session(client, new=True):
    """Gives the client a session, `new` or the one that it has; the server offers one with any answer."""
    if client.cookies and new:
        outcome(client.action, "CloseSession", b"")
        client.cookies = {}
    if not client.cookies:
        outcome(by_ticket, client, "SELECT 1")
    return client


def outcome(run, *arguments):
    """The name of the gRPC code, and the answers, or the error's text."""
    try:
        answers = run(*arguments)
    except grpc.RpcError as error:
        return error.code().name, [(error.details() or "").encode()]
    return "OK", answers


# --- calls that are no SQL text ---

EVENT = support.some_events(["mine"])


def put_path(client, parts):
    return client.put({1: 1, 3: parts}, EVENT)


def ingest(client, settings):
    return client.put({1: 2, 2: json.dumps(settings)}, EVENT)


def sql_ingest(client, told):
    options = {1: 1, 2: told.get("exists", 1)}
    fields = {1: options, 2: told["table"], 3: told.get("schema"), 4: told.get("catalog")}
    return client.put(raw.command("CommandStatementIngest", fields), EVENT)


def action(client, told):
    return client.action(told["name"], json.dumps(told["body"]))


def options(client, told):
    """The answer's first field has an entry for each option that was refused; here that is an error as any other."""
    [answer] = client.action("SetSessionOptions", raw.session_options(**told))
    if raw.decode(answer)[1]:
        raise OptionRefused
    return [answer]


class OptionRefused(grpc.RpcError):
    """SetSessionOptions tells of it in its answer."""

    def code(self):
        return grpc.StatusCode.INVALID_ARGUMENT

    def details(self):
        return ""


def tables(client, told):
    fields = {1: told.get("catalog"), 2: told.get("schema"), 3: told.get("table"), 4: told.get("types"), 5: told.get("columns")}
    return _fetch(client, raw.command("CommandGetTables", fields))


def schemas(client, told):
    return _fetch(client, raw.command("CommandGetDbSchemas", {1: told.get("catalog"), 2: told.get("schema")}))


def keys(client, told):
    return _fetch(client, raw.command("CommandGetPrimaryKeys", {3: told["table"]}))


def describe(client, parts):
    return _fetch(client, {1: 1, 3: parts})


def ticket(client, text):
    return client.call("DoGet", {1: text})


def parameter(client, told):
    values = raw.pa.table({"0": [told["value"]]})

    def run(handle):
        bound = client.put(raw.command("CommandPreparedStatementQuery", {1: handle}), values)
        # A server may answer with another handle, which then stands for the statement and its values.
        new = raw.one(raw.decode(bound[0]), 1, handle) if bound else handle
        return _fetch(client, raw.command("CommandPreparedStatementQuery", {1: new}))

    return _prepared(client, told["sql"], run)


DO = {run.__name__: run for run in (put_path, ingest, sql_ingest, action, options, schemas, tables, keys, describe, ticket, parameter)}


def expanded(arena, value):
    """`value` with the paths of the arena in all its texts."""
    return json.loads(arena.expand(json.dumps(value)))


def rows_of(do, answers):
    """How many rows or answers there are; what came before DoGet's messages is left out."""
    return len(answers) if do == "action" else raw.table_of(answers[2 if do == "parameter" else 1 :]).num_rows
