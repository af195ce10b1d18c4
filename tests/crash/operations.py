"""What the clients do: random operations, each with what it must make of the client's tables, and what the server must
answer."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import model
from model import Counts, Provenance, State, Stream, Table

# The tables that every client has for itself, `{}` is its number; and those that all share, each with keys of its own.
OWN = {"ev_{}_a": "events", "ev_{}_b": "events", "pr_{}": "profiles", "pl_{}_a": "table", "pl_{}_b": "table"}
SHARED = {"shared_events": "events", "shared_profiles": "profiles", "shared_plain": "table"}
# A plain table with an index, which DuckDB logs and replays in its own way.
INDEXED = "pk_{}"
# Small appends join others in a group commit, large ones have a writer; a row group is 122,880 rows.
LARGE_SHARE = 0.06


@dataclass
class Ingest:
    """A stream over Flight."""

    table: str
    kind: str
    stream: Stream
    settings: dict[str, object]
    batch_rows: int | None = None
    marker: bool = False


@dataclass
class Operation:
    """One step of a client."""

    what: str
    after: State
    # The gRPC code of the answer, if it must be refused.
    refusal: str | None = None
    # Either a stream, or SQL, or the name of an action on a table.
    ingest: Ingest | None = None
    sql: str | None = None
    drop: str | None = None
    # An ingest over ADBC: table, mode, kind and rows.
    adbc: tuple[str, str, str, Stream] | None = None
    # What the server must answer; None: not looked at.
    counts: Counts | None = None
    changed: int | None = None
    # The statements of a transaction, and whether it is committed.
    steps: list[Operation] | None = None
    commits: bool = True
    # A stream that its client leaves: "unmarked" ends without its commit, "reset" loses its connection.
    leaves: str | None = None


class Planner:
    """Chooses one client's operations, from its tables as they are."""

    def __init__(self, client: int, chance: random.Random) -> None:
        self.client, self.chance = client, chance
        self.version = 0
        # Streams with an id that were acknowledged: what must be answered when they come again.
        self.known: list[Operation] = []
        # Streams with an id whose end the client does not know: it sends them again.
        self.unknown: list[Operation] = []

    def next(self, state: State) -> Operation:
        if self.unknown:
            again = self.unknown.pop()
            return replace(again, what=f"again, after a crash: {again.what}")
        kinds: list[tuple[int, Callable[[State], Operation]]] = [
            (30, self.ingest),
            (30, self.append_shared),
            (8, self.adbc_ingest),
            (10, self.insert),
            (10, self.delete),
            (5, self.drop),
            (8, self.create_as),
            (6, self.update),
            (5, self.indexed),
            (14, self.transaction),
            (3, self.leave),
            (3, self.bad_row),
            (4, self.repeat),
            (4, self.look),
        ]
        weights, makers = zip(*kinds, strict=True)
        [make] = self.chance.choices(makers, weights)
        return make(state)

    # --- rows ---

    def names(self, *kinds: str) -> list[str]:
        return [name.format(self.client) for name, kind in OWN.items() if kind in kinds]

    def kind(self, table: str) -> str:
        own = {name.format(self.client): kind for name, kind in OWN.items()}
        return (own | SHARED)[table]

    def stream(self, kind: str, large: float = LARGE_SHARE, state: State | None = None, table: str = "") -> Stream:
        """Keys that may be known, or twice in the stream; unique ones where nothing keeps them so."""
        self.version += 1
        draw = self.chance.random()
        if draw < large:
            size = self.chance.randint(4_000, 16_000)
        elif draw < 0.25:
            size = self.chance.randint(100, 2_500)
        else:
            size = self.chance.randint(1, 12)
        numbers = range(size)
        if kind == "table" or draw < large / 2:
            return [(f"{self.client}_{self.version}_{number}", self.version) for number in numbers]
        return [(f"{self.client}_{self.chance.randrange(3 * size + 40)}", self.version) for _ in numbers]

    def provenance(self) -> Provenance:
        first = self.chance.randint(1, 28)
        return Provenance(
            f"2024-{self.chance.randint(1, 12):02}-{first:02}",
            f"2025-{self.chance.randint(1, 12):02}-{self.chance.randint(1, 28):02}",
            f"2026-01-{first:02}T00:00:{self.version % 60:02}Z",
        )

    def outcome(
        self, state: State, table: str, kind: str, stream: Stream, mode: str, on_duplicate: str, provenance: Provenance
    ) -> tuple[State, str | None, Counts | None]:
        """The tables after an ingest, the code of its refusal, and its counts."""
        old = state.get(table)
        if mode == "create" and old is not None:
            return state, "ALREADY_EXISTS", None
        if mode == "append" and old is None:
            return state, "NOT_FOUND", None
        is_new = old is None or mode == "replace"
        base = Table(kind) if is_new or old is None else old
        if kind == "table":
            on_duplicate = "skip"
        try:
            rows, counts = model.merge(base.rows, stream, on_duplicate, is_new)
        except model.DuplicateError:
            return state, "ALREADY_EXISTS", None
        if kind != "table":
            provenance = provenance if is_new else base.provenance.then(provenance)
        else:
            provenance = Provenance()
        return model.with_table(state, table, replace(base, rows=rows, provenance=provenance)), None, counts

    # --- streams ---

    def ingest(self, state: State) -> Operation:
        table = self.chance.choice(self.names("events", "profiles", "table"))
        modes = ["create", "append", "create_append", "replace"]
        [mode] = self.chance.choices(modes, [2, 8, 5, 4] if table in state else [6, 1, 6, 3])
        return self._ingest(state, table, mode)

    def append_shared(self, state: State) -> Operation:
        [table] = self.chance.choices(list(SHARED), [5, 3, 2])
        return self._ingest(state, table, "append", large=0.02)

    def _ingest(self, state: State, table: str, mode: str, large: float = LARGE_SHARE) -> Operation:
        kind, provenance = self.kind(table), self.provenance()
        stream = self.stream(kind, large)
        on_duplicate = self.chance.choices(["skip", "replace", "error"], [5, 4, 1 if len(stream) > 12 else 3])[0]
        settings: dict[str, object] = {"kind": kind, "mode": mode}
        if kind != "table":
            settings |= {"on_duplicate": on_duplicate}
            settings["metadata"] = {
                "from_date": provenance.from_date,
                "to_date": provenance.to_date,
                "fetched_at": provenance.fetched,
            }
        if self.chance.random() < 0.3:
            settings["ingest_id"] = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        if self.chance.random() < 0.15:
            settings["progress"] = "every_batch"
        marker = self.chance.random() < 0.2
        if marker:
            settings["commit"] = "explicit"
        batch_rows = self.chance.choice([None, None, max(1, len(stream) // 3)])
        after, refusal, counts = self.outcome(state, table, kind, stream, mode, on_duplicate, provenance)
        what = f"ingest of {len(stream)} rows (version {self.version}) into {table}: {settings}"
        return Operation(
            what, after, refusal, Ingest(table, kind, stream, settings, batch_rows, marker), counts=counts
        )

    def leave(self, state: State) -> Operation:
        """A stream that its client does not end; nothing of it may be stored."""
        made = self._ingest(state, self.chance.choice(self.names("events", "profiles")), "replace", large=0.2)
        assert made.ingest is not None
        leaves = self.chance.choice(["unmarked", "reset"])
        settings = {key: value for key, value in made.ingest.settings.items() if key != "ingest_id"}
        settings |= {"commit": "explicit", "progress": "every_batch", "on_duplicate": "skip"}
        ingest = replace(made.ingest, settings=settings, marker=False)
        return Operation(f"left ({leaves}): {made.what}", state, "CANCELLED", ingest, leaves=leaves)

    def bad_row(self, state: State) -> Operation:
        """A stream whose last row is refused."""
        made = self._ingest(state, self.chance.choice(self.names("events")), "create_append")
        assert made.ingest is not None
        settings = {key: value for key, value in made.ingest.settings.items() if key not in ("ingest_id", "progress")}
        ingest = replace(made.ingest, settings=settings, stream=[*made.ingest.stream, ("", -1)])
        return Operation(f"with a bad row: {made.what}", state, "INVALID_ARGUMENT", ingest)

    def repeat(self, state: State) -> Operation:
        known = [one for one in self.known[-50:] if one.ingest and one.ingest.table in state]
        if not known:
            return self.look(state)
        one = self.chance.choice(known)
        assert one.ingest is not None
        # Other rows under the same id: they must not be stored.
        ingest = replace(one.ingest, stream=one.ingest.stream[:1] * 2)
        return Operation(f"repeated: {one.what}", state, None, ingest, counts=one.counts)

    def adbc_ingest(self, state: State) -> Operation:
        table = self.chance.choice([*self.names("events", "profiles", "table"), "shared_events"])
        mode = "append" if table in SHARED else self.chance.choice(["create", "append", "create_append", "replace"])
        kind = self.kind(table)
        stream = self.stream(kind)
        after, refusal, counts = self.outcome(state, table, kind, stream, mode, "skip", Provenance())
        changed = counts.inserted if counts else None
        what = f"ADBC ingest of {len(stream)} rows (version {self.version}), {mode}, into {table}"
        return Operation(what, after, refusal, adbc=(table, mode, kind, stream), changed=changed)

    # --- SQL ---

    def insert(self, state: State) -> Operation:
        table = self.chance.choice([*self.names("events", "profiles", "table"), *SHARED])
        kind = self.kind(table)
        stream = self.stream(kind, large=0)[:300]
        on_duplicate = self.chance.choice(["skip", "replace"]) if kind != "table" else "skip"
        after, refusal, counts = self.outcome(state, table, kind, stream, "append", on_duplicate, Provenance())
        verb = "INSERT OR REPLACE INTO" if on_duplicate == "replace" else "INSERT INTO"
        sql = f"{verb} {table} VALUES {', '.join(model.literal(kind, *one) for one in stream)}"
        changed = counts.inserted + counts.replaced if counts else None
        what = f"{verb} {table}: {len(stream)} rows (version {self.version})"
        return Operation(what, after, refusal, sql=sql, changed=changed)

    def delete(self, state: State) -> Operation:
        table = self.chance.choice([*self.names("events", "profiles", "table"), *SHARED])
        if table not in state:
            return Operation(f"DELETE FROM {table}", state, "NOT_FOUND", sql=f"DELETE FROM {table}")
        key, old = model.KEYS[self.kind(table)], state[table]
        draw = self.chance.random()
        if draw < 0.15 and table not in SHARED:
            gone, sql = list(old.rows), self.chance.choice([f"DELETE FROM {table}", f"TRUNCATE {table}"])
        elif draw < 0.5:
            prefix = f"{self.client}_{self.chance.randrange(10)}"
            gone = [one for one in old.rows if one.startswith(prefix)]
            sql = f"DELETE FROM {table} WHERE starts_with({key}, '{prefix}')"
        else:
            gone = self.chance.sample(sorted(old.rows), min(len(old.rows), self.chance.randint(1, 20)))
            keys = ", ".join(f"'{one}'" for one in [*gone, "none"])
            sql = f"DELETE FROM {table} WHERE {key} IN ({keys})"
        after = model.with_table(state, table, model.without_keys(old, gone))
        changed = None if sql.startswith("TRUNCATE") else len(gone)
        return Operation(f"{sql[:80]} ({len(gone)} rows)", after, sql=sql, changed=changed)

    def drop(self, state: State) -> Operation:
        table = self.chance.choice(self.names("events", "profiles", "table"))
        after, refusal = model.with_table(state, table, None), None if table in state else "NOT_FOUND"
        if self.chance.random() < 0.5:
            return Operation(f"drop_table {table}", after, refusal, drop=table)
        return Operation(f"DROP TABLE {table}", after, refusal, sql=f"DROP TABLE {table}")

    def create_as(self, state: State) -> Operation:
        table = self.chance.choice(self.names("table"))
        sources = [name for name in state if name not in SHARED and name != table and "pk" not in name]
        if not sources:
            return self.ingest(state)
        source = self.chance.choice(sources)
        old = state[source]
        verb = self.chance.choice(["CREATE TABLE", "CREATE OR REPLACE TABLE"])
        columns = "k, v, p"
        if old.kind != "table":
            columns = f"{model.KEYS[old.kind]} AS k, (properties->>'$.v')::BIGINT AS v, properties::VARCHAR AS p"
        sql = f"{verb} {table} AS SELECT {columns} FROM {source}"
        if verb == "CREATE TABLE" and table in state:
            return Operation(sql, state, "ALREADY_EXISTS", sql=sql)
        return Operation(sql, model.with_table(state, table, Table("table", dict(old.rows))), sql=sql)

    def update(self, state: State) -> Operation:
        tables = [name for name in state if state[name].kind == "table" and state[name].rows]
        if not tables:
            return self.create_as(state)
        table = self.chance.choice(tables)
        self.version += 1
        key = self.chance.choice(sorted(state[table].rows))
        text = model.properties(key, self.version).replace("'", "''")
        sql = f"UPDATE {table} SET v = {self.version}, p = '{text}' WHERE k = '{key}'"
        after = replace(state[table], rows={**state[table].rows, key: self.version})
        return Operation(sql[:80], model.with_table(state, table, after), sql=sql, changed=1)

    def indexed(self, state: State) -> Operation:
        """A plain table with a PRIMARY KEY, which DuckDB keeps."""
        table = INDEXED.format(self.client)
        if table not in state:
            sql = f"CREATE TABLE {table} (k VARCHAR PRIMARY KEY, v BIGINT, p VARCHAR)"
            return Operation(sql, model.with_table(state, table, Table("table")), sql=sql)
        draw, old = self.chance.random(), state[table]
        if draw < 0.1:
            return Operation(f"DROP TABLE {table}", model.with_table(state, table, None), sql=f"DROP TABLE {table}")
        self.version += 1
        keys = self.chance.sample(range(2_000), self.chance.choice([1, 5, 400]))
        if draw < 0.3:
            known = [f"{self.client}_{key}" for key in keys]
            listed = ", ".join(f"'{key}'" for key in known)
            sql = f"DELETE FROM {table} WHERE k IN ({listed})"
            changed = sum(key in old.rows for key in known)
            after = model.without_keys(old, known)
        else:
            stream = [(f"{self.client}_{key}", self.version) for key in keys]
            verb = self.chance.choice(["INSERT OR REPLACE", "INSERT OR IGNORE"])
            rows, _ = model.merge(old.rows, stream, "replace" if verb == "INSERT OR REPLACE" else "skip")
            after, changed = replace(old, rows=rows), None
            sql = f"{verb} INTO {table} VALUES {', '.join(model.literal('table', *one) for one in stream)}"
        what = f"{sql[:40]}… ({len(keys)} keys, version {self.version})"
        return Operation(what, model.with_table(state, table, after), sql=sql, changed=changed)

    def look(self, state: State) -> Operation:
        table = self.chance.choice(list(state))
        key = model.KEYS[state[table].kind]
        sql = f"SELECT count(*) FROM {table} WHERE starts_with({key}, '{self.client}_')"
        return Operation(sql, state, sql=sql, changed=len(state[table].rows))

    # --- transactions ---

    def transaction(self, state: State) -> Operation:
        """Several statements, committed or rolled back; a refused one would leave nothing but a rollback."""
        steps: list[Operation] = []
        after, shared = state, False
        makers = [self.insert, self.insert, self.delete, self.delete, self.create_as, self.update, self.drop]
        makers += [self.adbc_ingest, self.adbc_ingest, self.indexed]
        for make in self.chance.choices(makers, k=self.chance.randint(2, 6)):
            step = make(after)
            touches = any(name in SHARED and step.after.get(name) is not after.get(name) for name in after)
            # Two shared tables in one transaction might wait for each other's locks.
            if step.refusal or step.drop or step.ingest or (touches and shared):
                continue
            shared = shared or touches
            steps.append(step)
            after = step.after
        commits = self.chance.random() < 0.75
        what = f"transaction ({'commit' if commits else 'rollback'}): " + "; ".join(step.what for step in steps)
        return Operation(what, after if commits else state, steps=steps, commits=commits)
