"""The rounds: a server starts, is checked, works, and is killed; the next one starts on what it has left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import check
import power
from client import CLIENT_ERRORS, Client, FindingError
from model import History, Table
from operations import SHARED, Planner
from pyarrow import flight
from support import Server, ingest, put

import model

HERE = Path(__file__).parent
CLIENTS = 4
# Kinds of calls at which the shim may end the server: any, syncs, writes, and what a checkpoint ends with.
KINDS = ["wstur", "s", "w", "tur"]
# How rounds end, and how often.
ENDS = {"kill": 5, "call": 7, "term": 2, "power": 3, "stop": 1}
# Chances to start on an empty database, and to be killed again while starting.
ANEW, AGAIN = 0.05, 0.3
# Chance that client processes are killed in the middle of a stream, beside the others.
VANISH = 0.06
WORK_SECONDS_MAX = 1.6
PATIENCE_SECONDS = 180


def build_shim(directory: Path) -> Path:
    """Compiles the shim."""
    library = directory / "shim.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, HERE / "shim.c", "-ldl"], check=True)
    return library


@dataclass
class Plan:
    """How a round's server runs and ends; decided before it starts."""

    end: str
    seconds: float
    settings: list[str]
    # What the shim is told.
    call: str | None = None
    slow: int = 0

    @classmethod
    def draw(cls, chance: random.Random, ends: dict[str, int]) -> Plan:
        [end] = chance.choices(list(ends), list(ends.values()))
        threshold = chance.choice(["1MiB", "1MiB", "16MiB", "256MiB"])
        settings = ["--set", f"engine.checkpoint_threshold={threshold}", "--set", "server.shutdown_grace=1s"]
        plan = cls(end, WORK_SECONDS_MAX * chance.random() ** 1.5 + 0.02, settings)
        if end == "call":
            number = int(2 ** (chance.random() * 8))
            kinds, when = chance.choice(KINDS), chance.choice(["before", "after", "torn"])
            plan.call = f"{kinds}:{max(1, number // 8) if kinds == 'tur' else number}:{when}"
            plan.seconds = 1.5
        if end == "power":
            plan.slow = chance.choice([0, 0, 3_000, 30_000])
        return plan


class Run:
    """A run of rounds in one directory, from one seed."""

    def __init__(self, directory: Path, seed: int, ends: dict[str, int] | None = None, clients: int = CLIENTS) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.seed = directory, seed
        self.ends, self.clients = ends or ENDS, clients
        self.shim = build_shim(directory)
        # The ADBC driver's cursors complain when their server has died.
        sys.unraisablehook = lambda _: None
        self.database = directory / "data" / "crash.duckdb"
        self.log = directory / "calls.log"
        self.planners: list[Planner] = []
        self.histories: list[History] = []
        self.counts: Counter[str] = Counter()
        self.round = 0
        self.slowest_start = 0.0
        self.plan: Plan | None = None
        self.server: Server | None = None
        self.chance = random.Random(seed)
        # The database's files as the server found them, in a round whose disk is rebuilt.
        self.base: dict[str, bytes] = {}
        # From where in the shim's log on the clients know what there is.
        self.begun_at = 0
        self.anew()

    # --- the database ---

    def anew(self) -> None:
        """An empty database, and clients that know of nothing."""
        shutil.rmtree(self.database.parent, ignore_errors=True)
        self.database.parent.mkdir()
        self.planners = [Planner(number, random.Random()) for number in range(self.clients)]
        self.histories = []
        self.counts["databases"] += 1

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.database.parent.iterdir()) if path.is_file()}

    def put_files(self, files: dict[str, bytes], database: Path) -> None:
        """Makes these the files of a database, by the names that they have beside this run's."""
        shutil.rmtree(database.parent, ignore_errors=True)
        database.parent.mkdir(parents=True)
        for name, content in files.items():
            (database.parent / Path(name).name).write_bytes(content)

    # --- servers ---

    def start(self, plan: Plan, database: Path | None = None) -> Server:
        environment = {}
        if plan.call or plan.end == "power":
            self.log.unlink(missing_ok=True)
            environment = {"LD_PRELOAD": str(self.shim), "CRASH_FILES": str(self.database)}
            if plan.call:
                environment["CRASH_KILL"] = plan.call
            else:
                environment |= {"CRASH_LOG": str(self.log), "CRASH_DATA": "1", "CRASH_SLOW": str(plan.slow)}
                self.base = self.files()
        arguments = [database or self.database, *plan.settings]
        return Server(arguments, self.directory, "server", environment)

    def start_for_good(self, plan: Plan) -> Server:
        """Starts a server that lives until the round's end; a few die before, as the dice want it."""
        while self.chance.random() < AGAIN:
            if self.chance.random() < 0.5:
                kinds, when = self.chance.choice(KINDS[:3]), self.chance.choice(["before", "after", "torn"])
                early = Plan("call", 0.4, plan.settings, f"{kinds}:{self.chance.randint(1, 12)}:{when}")
            else:
                early = Plan("kill", self.chance.random() * 0.3, plan.settings)
            server = self.start(early)
            time.sleep(early.seconds)
            server.kill9()
            self.counts["killed while starting"] += 1
        server, started = self.start(plan), time.monotonic()
        try:
            server.wait_until_ready()
            self.slowest_start = max(self.slowest_start, time.monotonic() - started)
            return server
        except AssertionError as error:
            server.kill9()
            if plan.call and server.process.poll() == -signal.SIGKILL:
                # It was to die at a call, and that came early.
                self.counts["killed while starting"] += 1
            else:
                raise FindingError(f"the server does not start: {error}") from error
            return self.start_for_good(Plan("kill", plan.seconds, plan.settings))

    def is_dead(self) -> bool:
        """Whether the server has died; it may need a moment for it."""
        assert self.server is not None
        until = time.monotonic() + 2
        while self.server.process.poll() is None and self.plan and self.plan.call and time.monotonic() < until:
            time.sleep(0.01)
        return self.server.process.poll() is not None

    # --- checks ---

    def verify(self, uri: str, position: int | None = None) -> list[model.State]:
        """Compares a server's database with what the clients know; answers the states that it is in."""
        with flight.connect(uri) as client:
            chosen = check.compare(check.observe(client), self.histories, position)
        self.counts["in flight"] += sum(len(history.candidates()) > 1 for history in self.histories)
        stored = sum(attempt is not None and attempt.after is state for state, attempt in chosen)
        self.counts["in flight, stored"] += stored
        return [state for state, _ in chosen]

    def begin(self, uri: str) -> None:
        """The tables that all clients share, in an empty database."""
        with flight.connect(uri) as client:
            for name, kind in SHARED.items():
                put(client, ingest(name, kind=kind), model.arrow(kind, []))
        # Before this, the clients' tables were not all there.
        self.begun_at = self.position()
        shared = {name: Table(kind) for name, kind in SHARED.items()}
        self.histories = [History(planner.client, dict(shared)) for planner in self.planners]

    # --- one round ---

    def one_round(self) -> None:
        self.round += 1
        self.chance = random.Random(f"{self.seed}/{self.round}")
        if self.chance.random() < ANEW and self.histories:
            self.anew()
        self.plan = Plan.draw(self.chance, self.ends)
        self.begun_at = 0
        server = self.server = self.start_for_good(self.plan)
        try:
            self.open_and_work(server)
        finally:
            if server.process.poll() is None:
                server.kill9()
        if self.plan.end == "power" and self.histories:
            self.lose_power()

    def open_and_work(self, server: Server) -> None:
        assert self.plan is not None and server.uri is not None
        ending = False

        def is_ending() -> bool:
            return ending or self.is_dead()

        try:
            if self.histories:
                for history, state in zip(self.histories, self.verify(server.uri), strict=True):
                    history.state, history.attempts = state, []
            else:
                self.begin(server.uri)
        except CLIENT_ERRORS as error:
            if self.plan.call and self.is_dead():
                # The work before is checked after the next start. A database that is not yet begun starts anew.
                if not self.histories:
                    self.anew()
                return
            raise FindingError(f"the server cannot be looked at: {error!r}") from error
        clients = []
        for planner, history in zip(self.planners, self.histories, strict=True):
            planner.chance = random.Random(f"{self.seed}/{self.round}/{planner.client}")
            clients.append(Client(planner, history, server.uri, self.position, is_ending))
        for client in clients:
            client.start()
        if self.chance.random() < VANISH:
            self.vanish(server)
        until = time.monotonic() + self.plan.seconds
        while time.monotonic() < until and server.process.poll() is None and not any(one.failure for one in clients):
            time.sleep(0.005)
        ending = True
        self.end(server)
        self.join(clients)

    def vanish(self, server: Server) -> None:
        """Clients in processes of their own, killed in the middle of their streams: one that makes a table, one that appends
        to a table of others."""
        senders = []
        for table, mode in [("vanished", "create"), ("shared_events", "append")]:
            command = [sys.executable, HERE / "vanish.py", str(server.uri), table, mode]
            senders.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        for sender in senders:
            assert sender.stdout is not None
            # Nothing comes when the server has died before.
            self.counts["vanished clients"] += bool(sender.stdout.readline())
        time.sleep(self.chance.random() * 0.2)
        for sender in senders:
            sender.kill()
            sender.wait()
            assert sender.stdout is not None
            sender.stdout.close()

    def end(self, server: Server) -> None:
        assert self.plan is not None
        if self.plan.end == "stop" and (code := server.stop()) != 0:
            raise FindingError(f"the server did not stop well: it ended with {code}")
        if self.plan.end == "term":
            server.process.send_signal(signal.SIGTERM)
            time.sleep(self.chance.random() * 1.4)
        died = server.process.poll() == -signal.SIGKILL
        if server.process.poll() is None:
            server.kill9()
        elif server.process.returncode not in (0, -signal.SIGKILL):
            raise FindingError(f"the server ended by itself, with {server.process.returncode}")
        self.counts[f"ends: {self.plan.end}"] += 1
        if self.plan.call and died:
            kinds, _, when = self.plan.call.split(":")
            self.counts[f"at calls {kinds} {when}"] += 1

    def join(self, clients: list[Client]) -> None:
        for client in clients:
            client.stopping.set()
        until = time.monotonic() + PATIENCE_SECONDS
        for client in clients:
            client.join(max(0.0, until - time.monotonic()))
            if client.is_alive():
                raise FindingError(f"{client.name} does not end: {client.history.attempts[-1].what}")
        for client in clients:
            self.counts["operations"] += client.done
            self.counts["conflicts"] += client.conflicts
        for client in clients:
            if client.failure:
                raise client.failure

    def position(self) -> int:
        """How long the shim's log is."""
        if self.plan is None or self.plan.end != "power" or not self.log.exists():
            return 0
        return os.stat(self.log).st_size

    # --- power ---

    def lose_power(self) -> None:
        """Rebuilds the disk as power losses at some moments would have left it, and opens each."""
        written = power.records(self.log)
        known = [record.end for record in written if record.end >= self.begun_at]
        if not known:
            return
        acknowledged = [one.end for history in self.histories for one in history.attempts if one.end]
        moments = self.chance.sample(acknowledged, min(2, len(acknowledged)))
        moments += [self.chance.choice(known), os.stat(self.log).st_size]
        for moment in sorted(moments):
            fate = self.chance.choice(power.FATES)
            disk = power.Disk(self.base)
            for record in written:
                if record.end <= moment:
                    disk.take(record)
            self.counts["power losses"] += 1
            self.counts["power losses with unsynced writes"] += bool(power.unsynced_names(disk))
            self.open_rebuilt(disk.after_power_loss(self.chance, fate), moment, fate)

    def open_rebuilt(self, files: dict[str, bytes], moment: int, fate: str) -> None:
        database = self.directory / "rebuilt" / self.database.name
        self.put_files(files, database)
        server = Server([database], self.directory, "rebuilt")
        try:
            server.wait_until_ready()
            self.verify(str(server.uri), moment)
            self.counts["torn logs mended"] += "the end of the log was damaged" in server.log()
        except (AssertionError, FindingError, *CLIENT_ERRORS) as error:
            self.put_files(files, self.directory / "rebuilt-as-it-was" / self.database.name)
            raise FindingError(f"after a power loss at {moment} of the log, unsynced pages {fate}: {error}") from error
        finally:
            server.kill9()
        if moment == os.stat(self.log).st_size and self.chance.random() < 0.5:
            # The database goes on from there.
            self.put_files(files, self.database)

    # --- running ---

    def go(self, rounds: int, until: float | None = None, progress: int = 0) -> None:
        """Runs rounds.

        # Raises
        `FindingError`, with what to know about it.
        """
        for _ in range(rounds):
            if until is not None and time.monotonic() >= until:
                break
            before = self.files()
            try:
                self.one_round()
            except FindingError as error:
                self.put_files(before, self.directory / "before" / self.database.name)
                raise FindingError(self.explain(error)) from error
            if progress and self.round % progress == 0:
                print(f"{self.summary()}", flush=True)

    def explain(self, error: FindingError) -> str:
        lines = [
            f"seed {self.seed}, round {self.round}: {error}",
            f"  the round was to be: {self.plan}",
            f"  the database is in {self.database.parent}, as it was before the round in {self.directory / 'before'}",
        ]
        for history in self.histories:
            open_ones = [one.what for one in history.attempts if one.end is None]
            lines.append(f"  client {history.client}: {len(history.attempts)} operations, in flight: {open_ones}")
        if self.server:
            lines.append(f"  the server's log ends: {self.server.log()[-1500:]}")
        return "\n".join(lines)

    def summary(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return f"{self.round} rounds of seed {self.seed}: {counts}, slowest start {self.slowest_start:.1f} s"
