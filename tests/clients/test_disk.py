"""A full disk: under the log, under the data file, under what does not fit in memory, under a checkpoint, under a backup. The client gets a
clear error, the server serves on, and what was acknowledged is there afterwards, and after a crash.

The disk is a small tmpfs, which takes root to mount.
"""

import os
import subprocess
import time

import adbc_driver_flightsql.dbapi
import pyarrow as pa
import pyarrow.flight as fl
import pytest

from support import action, count, ingest, path, put, query, refused, scalar, some_events, table_exists

MIB = 1 << 20

# The server writes until the disk is full, and not only until little is free.
ALL = ("--set", "engine.disk_free_min=0B")


class Disk:
    """A small file system, and a file that fills it."""

    def __init__(self, directory):
        self.directory = directory
        self.filler = directory / "filler"

    def free(self):
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize

    def fill(self, leave):
        """Fills it but for so many bytes."""
        with self.filler.open("ab") as filler:
            while (more := self.free() - leave) > 0:
                filler.write(b"\0" * min(more, MIB))
                filler.flush()

    def empty(self):
        self.filler.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path):
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "merganser-test", directory], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    yield Disk(directory)
    subprocess.run(["umount", "-l", directory], check=True)


def noise(ids):
    """Events that do not compress: about 1 KiB each."""
    table = some_events(ids)
    properties = [f'{{"x":"{os.urandom(512).hex()}"}}' for _ in ids]
    return table.set_column(4, "properties", pa.array(properties))


class Appender:
    """Appends until it is refused; knows what was acknowledged and what was sent."""

    def __init__(self, server):
        self.client = server.flight()
        self.turn, self.acknowledged, self.sent = 0, set(), set()

    def append(self, rows=100):
        ids = [f"{self.turn}_{index}" for index in range(rows)]
        self.turn += 1
        self.sent.update(ids)
        put(self.client, ingest("log", kind="events", mode="create_append"), noise(ids))
        self.acknowledged.update(ids)

    def until_refused(self, tries=2000):
        for _ in range(tries):
            try:
                self.append()
            except (pa.ArrowException, fl.FlightError) as error:
                return error
        raise AssertionError("the disk never fills")

    def until_stored(self, seconds=30):
        """Appends until one is acknowledged again."""
        until = time.monotonic() + seconds
        while True:
            try:
                return self.append()
            except (pa.ArrowException, fl.FlightError):
                assert time.monotonic() < until, "the server does not recover"
                time.sleep(0.05)

    def check(self, client):
        stored = query(client, "SELECT insert_id FROM log").column(0).to_pylist()
        assert len(stored) == len(set(stored))
        assert self.acknowledged <= set(stored) <= self.sent
        assert action(client, "get_metadata", table="log")[0]["row_count"] == len(stored)


def assert_says_full(error):
    message = str(error)
    assert "resource exhausted" in message or "unavailable" in message, message


def restart(server, server_factory, *arguments):
    server.kill9()
    return server_factory(*arguments)


@pytest.mark.parametrize("threshold", ["1GiB", "4MiB"], ids=["log", "checkpoint"])
def test_a_disk_that_appends_fill(disk, server_factory, threshold):
    """With a high threshold the log fills it; with a low one a checkpoint does, which invalidates the database."""
    arguments = (disk.directory / "a.duckdb", "--set", f"engine.checkpoint_threshold={threshold}", *ALL)
    server = server_factory(*arguments)
    appender = Appender(server)
    appender.append()
    # A log up to the threshold fits, what a checkpoint writes does not.
    disk.fill(leave=7 * MIB)
    assert_says_full(appender.until_refused())
    with server.flight() as client:
        deadline = time.monotonic() + 30
        while True:
            try:
                appender.check(client)
                break
            except (fl.FlightUnavailableError, pa.ArrowException) as error:
                assert time.monotonic() < deadline, error
                time.sleep(0.05)
        disk.empty()
        appender.until_stored()
        appender.check(client)
    if threshold == "4MiB":
        assert "invalidated" in server.log() and "the database is open again" in server.log()
    with restart(server, server_factory, *arguments).flight() as client:
        appender.check(client)


def test_an_open_transaction_does_not_keep_the_database_closed(disk, server_factory):
    """It ends with an error; the database is opened again without waiting for it. (One that has read holds checkpoints up.)"""
    server = server_factory(disk.directory / "a.duckdb", "--set", "engine.checkpoint_threshold=4MiB", *ALL)
    appender = Appender(server)
    appender.append()
    with adbc_driver_flightsql.dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
        disk.fill(leave=7 * MIB)
        assert_says_full(appender.until_refused())
        disk.empty()
        appender.until_stored()
        assert "the database is open again" in server.log()
        with pytest.raises(Exception, match="transaction has ended"):
            connection.commit()
    with server.flight() as client:
        appender.check(client)


def test_a_disk_that_a_table_fills(disk, server_factory):
    arguments = (disk.directory / "a.duckdb", *ALL)
    server = server_factory(*arguments)
    appender = Appender(server)
    appender.append()
    disk.fill(leave=8 * MIB)
    large = noise([f"id_{index}" for index in range(40_000)])
    with server.flight() as client:
        for turn in range(2):
            with pytest.raises((pa.ArrowException, fl.FlightError)) as caught:
                put(client, path("events", "large"), large, batch_rows=10_000)
            assert_says_full(caught.value)
        deadline = time.monotonic() + 30
        while True:
            try:
                assert not table_exists(client, "large")
                break
            except fl.FlightUnavailableError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        appender.check(client)
        disk.empty()
        appender.until_stored()
        put(client, path("events", "large"), large, batch_rows=10_000)
    with restart(server, server_factory, *arguments).flight() as client:
        appender.check(client)
        assert count(client, "large") == 40_000


def test_a_disk_that_a_query_fills(disk, server_factory, tmp_path):
    arguments = ("--set", f"engine.temp_directory={disk.directory}", "--memory-limit", "128MiB", *ALL)
    server = server_factory(tmp_path / "a.duckdb", *arguments)
    appender = Appender(server)
    appender.append()
    disk.fill(leave=4 * MIB)
    with server.flight() as client:
        sort = "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY hash(range)) AS n FROM range({}))"
        with refused("RESOURCE_EXHAUSTED"):
            scalar(client, sort.format(20_000_000))
        appender.append()
        disk.empty()
        assert scalar(client, sort.format(100_000)) == 100_000
        appender.check(client)
    with restart(server, server_factory, tmp_path / "a.duckdb", *arguments).flight() as client:
        appender.check(client)


def test_a_disk_that_a_backup_fills(disk, server_factory, tmp_path):
    backups = disk.directory / "backups"
    server = server_factory(tmp_path / "a.duckdb", "--set", f"backup.directory={backups}", *ALL)
    appender = Appender(server)
    for _ in range(40):
        appender.append(rows=200)
    with server.flight() as client:
        disk.fill(leave=2 * MIB)
        with refused("RESOURCE_EXHAUSTED", "backup.directory"):
            action(client, "backup", name="none")
        assert os.listdir(backups) == [".lock"]
        appender.append()
        disk.empty()
        action(client, "backup", name="one")
        appender.check(client)
    assert "invalidated" not in server.log()


def test_a_database_that_cannot_be_opened_again_ends_the_server(disk, server_factory, tmp_path):
    file = disk.directory / "a.duckdb"
    arguments = ("--set", "engine.checkpoint_threshold=4MiB", "--set", "engine.reopen_timeout=2s", *ALL)
    server = server_factory(file, *arguments)
    appender = Appender(server)
    appender.append()
    disk.fill(leave=7 * MIB)
    # The server keeps the file that it has open; under its name it will find another.
    os.rename(file, disk.directory / "kept.duckdb")
    file.write_bytes(b"this is no database" * 10)
    assert_says_full(appender.until_refused())
    assert server.process.wait(timeout=60) == 1
    assert "could not be opened again within 2s (engine.reopen_timeout)" in server.log()
    assert "start another" in server.log()

    disk.empty()
    os.rename(disk.directory / "kept.duckdb", file)
    with server_factory(file, *arguments).flight() as client:
        appender.check(client)
