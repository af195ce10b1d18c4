"""Many ADBC connections at once, each with its own temporary table and transactions, with queries, changes and cancels.

    MERGANSER_BIN=target/release/merganser python tests/clients/stress.py 60        # seconds, in a Python with requirements.txt

No connection may see what another did not commit, and afterwards the server holds what it held before: sessions, statements,
threads and memory. test_stress.py runs it for some seconds.
"""

import pathlib
import random
import sys
import tempfile
import threading
import time

import adbc_driver_manager
import pyarrow as pa

from adbc_support import connect, open_on, rows, run, scalar
from support import Server

# Hours of work that the engine can interrupt at any moment.
ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
# Allocators keep some of what they had.
MEMORY_KEPT_MIB = 256
PATIENCE_SECONDS = 60


def held(server):
    """Sessions, statements, threads and resident MiB of the server."""
    status = pathlib.Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return *open_on(server), int(fields["Threads"]), int(fields["VmRSS"].split()[0]) // 1024


class Worker:
    """One user, who connects again and again; `kept` is how many rows of the shared table are its own."""

    def __init__(self, server, number):
        self.server, self.number, self.kept = server, number, 0
        self.turns = self.cancels = 0
        self.random = random.Random(number)

    def work(self, until):
        while time.monotonic() < until:
            with connect(self.server, autocommit=self.random.random() < 0.2) as connection:
                transactional = not connection._autocommit
                run(connection, f"CREATE TEMP TABLE own AS SELECT {self.number} AS owner, 0 AS turn")
                if transactional:
                    connection.commit()
                for turn in range(1, 6):
                    self.turn(connection, turn, transactional)

    def turn(self, connection, turn, transactional):
        self.turns += 1
        added = self.random.randint(1, 20)
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO shared VALUES (?, ?)", [(self.number, n) for n in range(added)])
            assert cursor.rowcount == added
            if self.random.random() < 0.3:
                data = pa.table({"owner": [self.number] * 3, "n": [1, None, 3]})
                assert cursor.adbc_ingest("shared", data, mode="append") == 3
                added += 3
        mine = "SELECT count(*) FROM shared WHERE owner = ?::BIGINT"
        assert scalar(connection, mine, (self.number,)) == self.kept + added
        if transactional and self.random.random() < 0.5:
            connection.rollback()
            added = 0
        elif transactional:
            connection.commit()
        self.kept += added
        assert scalar(connection, mine, (self.number,)) == self.kept
        run(connection, "INSERT INTO own VALUES (?, ?)", (self.number, turn))
        assert rows(connection, "SELECT DISTINCT owner FROM own") == [(self.number,)], "a table of somebody else"
        if transactional:
            connection.commit()
        kind = self.random.random()
        if kind < 0.15:
            self.cancel(connection, transactional)
        elif kind < 0.3:
            # A result that is left in the middle.
            with connection.cursor() as cursor:
                cursor.execute("SELECT range AS n FROM range(1000000)")
                assert len(cursor.fetchmany(10)) == 10
        else:
            assert scalar(connection, "SELECT sum(range) FROM range(100000)") == 4_999_950_000
        if transactional:
            connection.rollback()

    def cancel(self, connection, transactional):
        with connection.cursor() as cursor:
            timer = threading.Timer(self.random.random() * 0.1, cursor.adbc_cancel)
            timer.start()
            try:
                cursor.execute(ENDLESS).fetchall()
                raise AssertionError("it has no end")
            except adbc_driver_manager.Error as error:
                assert error.status_code == adbc_driver_manager.AdbcStatusCode.CANCELLED, error
            timer.join()
        self.cancels += 1
        if transactional:
            connection.rollback()


def stress(server, seconds, connections=50):
    """Runs it; returns a line that tells what was done."""
    with connect(server) as connection:
        run(connection, "CREATE TABLE shared (owner BIGINT, n BIGINT)")
    # What the server needs once for so many clients, it may keep.
    rounds = [run_workers([Worker(server, number) for number in range(connections)], 1)]
    with connect(server) as connection:
        run(connection, "DELETE FROM shared")
    before = held(server)
    rounds.append(run_workers([Worker(server, number) for number in range(connections)], seconds))
    with connect(server) as connection:
        found = dict(rows(connection, "SELECT owner, count(*) FROM shared GROUP BY owner"))
    wanted = {worker.number: worker.kept for worker in rounds[1] if worker.kept}
    assert found == wanted, "what is stored is not what was committed"
    after = wait_for(server, before)
    turns, cancels = (sum(getattr(worker, what) for worker in rounds[1]) for what in ("turns", "cancels"))
    return f"{connections} connections, {turns} turns, {cancels} cancels; held before {before}, after {after}"


def run_workers(workers, seconds):
    failures = []

    def work(worker, until):
        try:
            worker.work(until)
        except BaseException as error:
            failures.append((worker.number, error))

    until = time.monotonic() + seconds
    threads = [threading.Thread(target=work, args=(worker, until)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return workers


def wait_for(server, before):
    """Waits until the server holds no more than before."""
    limits = (before[0], before[1], before[2] + 8, before[3] + MEMORY_KEPT_MIB)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        after = held(server)
        if all(now <= limit for now, limit in zip(after, limits, strict=True)):
            return after
        assert time.monotonic() < deadline, f"sessions, statements, threads, MiB: {before} before, {after} after"
        time.sleep(0.1)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as directory:
        server = Server(["--memory"], pathlib.Path(directory), "stress").wait_until_ready()
        try:
            print(stress(server, seconds))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
