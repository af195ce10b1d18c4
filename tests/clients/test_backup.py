"""A backup of a server at work is one moment of it, whole; what is not whole is refused; and it comes back."""

import fcntl
import json
import os
import shutil
import subprocess
import threading
import time

import duckdb
import pytest

from support import action, count, ingest, path, put, query, refused, scalar, some_events

ROWS_OF_AN_APPEND = 3


def merganser(*arguments, check=True, **environment):
    """Runs a command of the binary; returns what it said."""
    command = [os.environ["MERGANSER_BIN"], *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)
    if check:
        assert result.returncode == 0, result.stderr
        return result.stdout
    assert result.returncode == 1, result
    return result.stderr


@pytest.fixture
def backups(tmp_path):
    return tmp_path / "backups"


@pytest.fixture
def serve(server_factory, tmp_path, backups):
    """Starts a server with backups on a file of the test's."""
    return lambda name="a.duckdb", *more: server_factory(
        tmp_path / name, "--set", f"backup.directory={backups}", *more
    )


def partial(backups):
    return [entry for entry in os.listdir(backups) if entry.startswith(".partial")] if backups.exists() else []


def manifest(backup):
    return json.loads((backup / "manifest.json").read_text())


def rows_of(backup):
    return {(table["schema"], table["name"]): table["rows"] for table in manifest(backup)["tables"]}


class Appending:
    """Clients that append, and one that asks, until the end of the block; `failed` is what went wrong."""

    def __init__(self, server, clients=3):
        self.server, self.stop, self.sent, self.failed = server, threading.Event(), [], []
        self.threads = [threading.Thread(target=self.append, args=(client,)) for client in range(clients)]
        self.threads.append(threading.Thread(target=self.ask))

    def append(self, worker):
        try:
            with self.server.flight() as client:
                turn = 0
                while not self.stop.is_set():
                    ids = [f"{worker}_{turn}_{index}" for index in range(ROWS_OF_AN_APPEND)]
                    put(client, ingest("log", kind="events", mode="append"), some_events(ids))
                    self.sent.extend(ids)
                    turn += 1
        except Exception as error:  # noqa: BLE001
            self.failed.append(error)

    def ask(self):
        try:
            with self.server.flight() as client:
                while not self.stop.is_set():
                    assert count(client, "log") % ROWS_OF_AN_APPEND == 0
        except Exception as error:  # noqa: BLE001
            self.failed.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def test_a_backup_is_one_moment_of_a_server_at_work(serve, server_factory, backups, tmp_path, events):
    server = serve()
    with server.flight() as client:
        put(client, path("events", "log"), some_events([]))
        put(client, path("events", "kept"), events)
        put(client, ingest("by_id", kind="events", mode="create_append", ingest_id="6f6a2c0e-9b1d-4f5c-8f43-0d3f2b8f8a12"), some_events(["a"]))
        with Appending(server) as work:
            time.sleep(0.3)
            before = set(work.sent)
            made = [action(client, "backup", name=f"b{turn}")[0] for turn in range(3)]
        assert not work.failed, work.failed
        assert [backup["name"] for backup in action(client, "list_backups")] == ["b0", "b1", "b2"]
        assert made[0]["path"] == str(backups / "b0") and made[0]["tables"] == len(rows_of(backups / "b0"))
        # What was acknowledged later is not in it, and the server has it.
        assert count(client, "log") == len(work.sent) > rows_of(backups / "b0")[("main", "log")] >= len(before)
    assert partial(backups) == []

    assert "is whole" in merganser("restore", backups / "b2", "--verify-only")
    merganser("restore", backups / "b2", tmp_path / "restored.duckdb")
    with server_factory(tmp_path / "restored.duckdb").flight() as client:
        stored = query(client, "SELECT insert_id FROM log").column(0).to_pylist()
        assert before <= set(stored) <= set(work.sent) and len(stored) == len(set(stored))
        assert len(stored) == rows_of(backups / "b2")[("main", "log")]
        assert len(stored) == ROWS_OF_AN_APPEND * len({row.rsplit("_", 1)[0] for row in stored}), "whole appends only"
        assert action(client, "get_metadata", table="log")[0]["row_count"] == len(stored)
        # The keys are known, and the ids of ingests.
        assert put(client, ingest("kept", mode="append"), events)[-1]["rows_inserted"] == 0
        again = ingest("by_id", kind="events", mode="create_append", ingest_id="6f6a2c0e-9b1d-4f5c-8f43-0d3f2b8f8a12")
        assert put(client, again, some_events(["a", "b"]))[-1]["rows_inserted"] == 1
        assert count(client, "by_id") == 1


EVERYTHING = [
    "CREATE SEQUENCE numbers START 5",
    "CREATE SCHEMA other",
    "CREATE TABLE parent (id INTEGER PRIMARY KEY, code VARCHAR UNIQUE, CHECK (id > 0))",
    "CREATE TABLE child (id INTEGER REFERENCES parent (id), n BIGINT DEFAULT nextval('numbers'), "
    "twice INTEGER GENERATED ALWAYS AS (id * 2), dice DOUBLE GENERATED ALWAYS AS (random()), must VARCHAR NOT NULL DEFAULT 'x')",
    "INSERT INTO parent VALUES (1, 'a'), (2, 'b')",
    "INSERT INTO child (id) VALUES (1), (2), (2)",
    "CREATE INDEX child_id ON child (must)",
    "CREATE TABLE other.types AS SELECT 1::VARIANT AS v, '{\"a\":1}'::JSON AS j, 'nan'::DOUBLE AS d, [1, NULL] AS l, "
    "MAP {'k': 1} AS m, '101'::BIT AS b, INTERVAL 3 DAY AS i, TIMESTAMPTZ '2024-01-01 12:00:00Z' AS t, 7::UHUGEINT AS u",
    "CREATE TABLE \"odd \"\"name\" (\"a b\" INTEGER, \"select\" INTEGER)",
    "CREATE VIEW z_first AS SELECT id, twice FROM child",
    "CREATE VIEW a_second AS FROM z_first WHERE id = 1",
    "CREATE TABLE gone (x INTEGER)",
    "CREATE VIEW broken AS FROM gone",
    "DROP TABLE gone",
    "COMMENT ON TABLE child IS 'a table'",
    "COMMENT ON COLUMN child.must IS 'a column'",
]


def test_a_backup_has_everything(serve, server_factory, backups, tmp_path):
    server = serve()
    with server.adbc() as connection, connection.cursor() as cursor:
        for sql in EVERYTHING:
            cursor.execute(sql)
        # What a client may not make (yet), it need not find.
        optional = [
            "CREATE MACRO plus(a, b := 1) AS a + b",
            "CREATE TYPE mood AS ENUM ('good', 'bad')",
            "CREATE TABLE written (x INTEGER)",
            "CREATE TRIGGER note AFTER INSERT ON parent FOR EACH STATEMENT INSERT INTO written VALUES (1)",
        ]
        made = []
        for sql in optional:
            try:
                cursor.execute(sql)
                made.append(sql)
            except Exception:  # noqa: BLE001
                pass
    with server.flight() as client:
        action(client, "backup", name="all")
    # A backup is a plain DuckDB file.
    with duckdb.connect(str(backups / "all" / "data.duckdb"), read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM child").fetchall() == [(3,)]
    merganser("restore", backups / "all", tmp_path / "b.duckdb")
    with server_factory(tmp_path / "b.duckdb").adbc() as connection, connection.cursor() as cursor:

        def fetch(sql):
            cursor.execute(sql)
            return cursor.fetchall()

        assert fetch("FROM a_second") == [(1, 2)]
        assert fetch("SELECT n FROM child ORDER BY n") == [(5,), (6,), (7,)]
        assert fetch("SELECT nextval('numbers')") == [(8,)]
        assert fetch("SELECT comment FROM duckdb_tables() WHERE table_name = 'child'") == [("a table",)]
        assert fetch("SELECT comment FROM duckdb_columns() WHERE column_name = 'must'") == [("a column",)]
        assert fetch("SELECT index_name FROM duckdb_indexes()") == [("child_id",)]
        assert fetch("SELECT count(*) FROM duckdb_views() WHERE view_name = 'broken'") == [(1,)]
        for wrong in ("INSERT INTO child (id) VALUES (9)", "INSERT INTO parent VALUES (1, 'c')", "INSERT INTO parent VALUES (-1, 'c')"):
            with pytest.raises(Exception, match="onstraint"):
                cursor.execute(wrong)
        if len(made) == len(optional):
            cursor.execute("INSERT INTO parent VALUES (3, 'c')")
            assert fetch("SELECT count(*) FROM written") == [(1,)]
            assert fetch("SELECT plus(1)") == [(2,)]


def test_what_is_not_offered_is_refused(server, serve, backups):
    with server.flight() as client, refused("FAILED_PRECONDITION", "backup.directory"):
        action(client, "backup")
    server = serve()
    with server.flight() as client:
        for name in ("../out", "a/b", ".hidden", "..", "-x", "a b", "é", "x" * 129):
            with refused("INVALID_ARGUMENT", "invalid name of a backup"):
                action(client, "backup", name=name)
        action(client, "backup", name="once")
        with refused("ALREADY_EXISTS", "once"):
            action(client, "backup", name="once")
        [unnamed] = action(client, "backup")
        assert unnamed["name"].startswith("20") and (backups / unnamed["name"] / "SHA256SUMS").exists()
        with (backups / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with refused("FAILED_PRECONDITION", "a backup is being made already"):
                action(client, "backup", name="second")
    assert sorted(os.listdir(backups)) == sorted([".lock", "once", unnamed["name"]])


def test_a_backup_that_is_broken_off_leaves_nothing(serve, backups):
    server = serve()
    with server.adbc() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE large AS SELECT hash(range) AS h, range::VARCHAR AS s FROM range(4000000)")

    def start():
        """A client process that asks for a backup, in the middle of it."""
        client = subprocess.Popen([os.environ["MERGANSER_BIN"], "backup", "x", "--server", server.uri])
        deadline = time.monotonic() + 30
        while not partial(backups):
            assert time.monotonic() < deadline and client.poll() is None
            time.sleep(0.01)
        return client

    client = start()
    client.kill()
    client.wait()
    deadline = time.monotonic() + 30
    while partial(backups):
        assert time.monotonic() < deadline, "the server goes on with a backup that nobody waits for"
        time.sleep(0.05)
    assert not (backups / "x").exists()

    client = start()
    server.kill9()
    client.wait()
    assert len(partial(backups)) == 1 and not (backups / "x").exists()
    server = serve()
    assert partial(backups) == [], "the next start clears up"
    with server.flight() as client:
        [made] = action(client, "backup", name="x")
        assert made["rows"] >= 4_000_000


def damage_byte(file, at):
    with file.open("r+b") as opened:
        opened.seek(at)
        [byte] = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte ^ 0x10]))


DAMAGES = {
    "a byte of the data": lambda backup: damage_byte(backup / "data.duckdb", 300_000),
    "the end of the data": lambda backup: os.truncate(backup / "data.duckdb", (backup / "data.duckdb").stat().st_size - 4096),
    "no data": lambda backup: (backup / "data.duckdb").unlink(),
    "a byte of the manifest": lambda backup: damage_byte(backup / "manifest.json", 100),
    "no manifest": lambda backup: (backup / "manifest.json").unlink(),
    "no sums": lambda backup: (backup / "SHA256SUMS").unlink(),
    "a byte of the sums": lambda backup: damage_byte(backup / "SHA256SUMS", 3),
}


def test_a_damaged_backup_is_refused(serve, backups, tmp_path, events):
    with serve().flight() as client:
        put(client, path("events", "kept"), events)
        action(client, "backup", name="good")
    for damage, do in DAMAGES.items():
        shutil.copytree(backups / "good", tmp_path / "bad")
        do(tmp_path / "bad")
        for arguments in (["--verify-only"], [tmp_path / "restored.duckdb"]):
            said = merganser("restore", tmp_path / "bad", *arguments, check=False)
            assert len(said.splitlines()) == 1 and ("damaged" in said or "No such file" in said), (damage, said)
        shutil.rmtree(tmp_path / "bad")
    assert not list(tmp_path.glob("restored*"))
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=backups / "good", check=True)
    merganser("restore", backups / "good", "--verify-only")


def test_a_restore_replaces_what_nobody_uses(serve, server_factory, backups, tmp_path):
    server = serve()
    file = tmp_path / "a.duckdb"
    with server.flight() as client:
        put(client, path("events", "log"), some_events(["a"]))
        said = merganser("backup", "one", "--server", server.uri)
        assert said.startswith("backup one: ") and str(backups / "one") in said
        assert "one" in merganser("backup", "--list", "--server", server.uri)
        put(client, ingest("log", mode="append"), some_events(["b"]))
        said = merganser("restore", backups / "one", file, "--replace", check=False)
        assert "is in use by process" in said
        assert count(client, "log") == 2
    server.kill9()
    assert "--replace" in merganser("restore", backups / "one", file, check=False)
    said = merganser("restore", backups / "one", file, "--replace")
    assert str(tmp_path / "a.duckdb.before-restore") in said
    with serve().flight() as client:
        assert query(client, "SELECT insert_id FROM log").column(0).to_pylist() == ["a"]
    # What was acknowledged before the crash is in the old file.
    with server_factory(tmp_path / "a.duckdb.before-restore").flight() as client:
        assert count(client, "log") == 2


def test_a_file_that_cannot_be_read_is_replaced(serve, backups, tmp_path):
    server = serve()
    with server.flight() as client:
        put(client, path("events", "log"), some_events(["a"]))
        action(client, "backup", name="one")
    server.stop()
    (tmp_path / "a.duckdb").write_bytes(b"garbage" * 10_000)
    (tmp_path / "a.duckdb.wal").write_bytes(b"garbage")
    merganser("restore", backups / "one", tmp_path / "a.duckdb", "--replace")
    assert (tmp_path / "a.duckdb.before-restore.wal").read_bytes() == b"garbage"
    with serve().flight() as client:
        assert scalar(client, "SELECT count(*) FROM log") == 1


def test_a_database_in_memory_can_be_backed_up(server_factory, backups, tmp_path):
    server = server_factory("--memory", "--set", f"backup.directory={backups}")
    with server.flight() as client:
        put(client, path("events", "log"), some_events(["a", "b"]))
        action(client, "backup", name="one")
    merganser("restore", backups / "one", XDG_DATA_HOME=str(tmp_path / "home"))
    file = tmp_path / "home" / "merganser" / "merganser.duckdb"
    with server_factory(file).flight() as client:
        assert put(client, ingest("log", mode="append"), some_events(["a", "c"]))[-1]["rows_inserted"] == 1
