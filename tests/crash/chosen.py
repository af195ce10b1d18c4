"""Chosen moments: one client does a fixed series of operations, and the server is killed at each of its calls in turn;
or the power fails right after each of its acknowledgements."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterable

import power
from client import Client
from model import State
from operations import Operation
from rounds import FindingError, Plan, Run
from support import Server

SETTINGS = ["--set", "engine.checkpoint_threshold=1MiB"]
# Longer than it takes an answer to reach the client.
SLOW_MICROSECONDS = 20_000


class Scripted(Client):
    """A client that does the script, once."""

    def next(self, state: State) -> Operation | None:
        planner, chance = self.planner, self.planner.chance

        def stream(table: str, mode: str, large: float = 0.0) -> Callable[[State], Operation]:
            return lambda state: planner._ingest(state, table, mode, large)

        def found(make: Callable[[State], Operation], part: str) -> Callable[[State], Operation]:
            """The first that the dice give with this in it."""

            def first(state: State) -> Operation:
                while True:
                    operation = make(state)
                    if part in operation.what and operation.refusal is None:
                        return operation

            return first

        script = [
            stream("ev_0_a", "create"),
            stream("shared_events", "append"),
            stream("ev_0_a", "replace", 1.0),
            stream("ev_0_a", "append", 1.0),
            stream("ev_0_a", "append"),
            found(stream("pr_0", "create_append"), "replace"),
            found(planner.delete, "ev_0_a"),
            found(planner.create_as, "FROM ev_0_a"),
            planner.update,
            planner.indexed,
            found(planner.indexed, "OR REPLACE"),
            found(planner.transaction, "(commit): INSERT"),
            stream("ev_0_a", "replace", 1.0),
            stream("ev_0_a", "append", 1.0),
            found(planner.drop, "ev_0_a"),
            stream("ev_0_b", "create", 1.0),
            found(planner.transaction, "(rollback)"),
            stream("ev_0_b", "append"),
        ]
        if self.done == len(script):
            self.stopping.set()
            return None
        chance.seed(f"script/{self.done}")
        return script[self.done](state)

    def work(self) -> None:
        while (operation := self.next(self.history.state)) is not None:
            self.turn(operation)


class Chosen(Run):
    """Runs the script with one client, each time on an empty database."""

    def __init__(self, directory: object, seed: int) -> None:
        super().__init__(directory, seed, clients=1)  # type: ignore[arg-type]

    def run_script(self, plan: Plan) -> bool:
        """Whether the script came to its end."""
        self.anew()
        self.log.unlink(missing_ok=True)
        self.plan = plan
        self.chance = random.Random(self.seed)
        server = self.server = self.start(Plan("kill", 0, SETTINGS)).wait_until_ready()
        self.begin(str(server.uri))
        server.kill9()
        server = self.server = self.start(plan)
        try:
            server.wait_until_ready()
        except AssertionError:
            if server.process.poll() != -signal.SIGKILL:
                raise
            return False
        self.planners[0].chance = random.Random(self.seed)
        client = Scripted(self.planners[0], self.histories[0], str(server.uri), self.position, self.is_dead)
        client.start()
        self.join([client])
        ended = server.process.poll() is None
        if not ended and server.process.returncode != -signal.SIGKILL:
            raise FindingError(f"the server ended by itself, with {server.process.returncode}")
        if ended:
            server.kill9()
        return ended

    def sweep(self, kinds: str, when: str, numbers: Iterable[int]) -> int:
        """Kills the server at these calls, one after the other, until there are no more; answers how many there were."""
        for number in numbers:
            ended = self.run_script(Plan("call", 0, SETTINGS, f"{kinds}:{number}:{when}"))
            server = Server([self.database, *SETTINGS], self.directory, "after")
            try:
                self.verify(str(server.wait_until_ready().uri))
            except (AssertionError, FindingError) as error:
                where = f"killed {when} call {number} of {kinds}, see {self.database.parent}"
                raise FindingError(f"{where}: {error}") from error
            finally:
                server.kill9()
            self.counts[f"killed {when} {kinds}"] += not ended
            if ended:
                return number
        return number

    def power_loss_at_each_acknowledgement(self, fates: Iterable[str]) -> int:
        """Answers how many there were. An answer that does not wait for the sync comes before it is in the log."""
        self.run_until_the_power_fails()
        moments = [one.end for one in self.histories[0].attempts if one.end is not None]
        return self.lose_power_at(moments, fates)

    def power_loss_in_each_sync(self, fates: Iterable[str], step: int = 1) -> int:
        """Right after a sync has begun, where the most is not on the disk yet; answers how many there were."""
        self.run_until_the_power_fails()
        moments = [one.end for one in power.records(self.log) if one.kind == "s" and one.end > self.begun_at]
        return self.lose_power_at(moments[::step], fates)

    def run_until_the_power_fails(self) -> None:
        if not self.run_script(Plan("power", 0, SETTINGS, slow=SLOW_MICROSECONDS)):
            raise FindingError("the server died")

    def lose_power_at(self, moments: list[int], fates: Iterable[str]) -> int:
        written = power.records(self.log)
        for moment in moments:
            for fate in fates:
                disk = power.Disk(self.base)
                for record in written:
                    if record.end <= moment:
                        disk.take(record)
                self.open_rebuilt(disk.after_power_loss(self.chance, fate), moment, fate)
        return len(moments)
