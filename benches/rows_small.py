"""Rows e, f and g: many small operations: single events appended, INSERTs of one row, and short queries.

e appends events one by one, each durable and its key checked: Merganser by one DoPut each, Quack by an `INSERT` into a table with a
PRIMARY KEY. f is the same `INSERT` of one row for both, into a table without a key. g is `SELECT 1` and 100 rows of one user.
Merganser's clients are those of the load client, one process in Rust; Quack's are DuckDB 1.5.5, a process each; in-process has a
thread for each connection. Each client has a connection of its own. The tables grow from round to round, for both sides.
"""

import contextlib
import statistics

import latency
from data import EVENT_COLUMNS, read as read_arrow
from figures import Figures, compared, in_rounds, limited, skipped
from flight_client import connect, load, put_table

QUERIES = [
    ("`SELECT 1`", "SELECT 1", "rows"),
    ("100 rows", "SELECT * FROM events WHERE distinct_id = 'user_17' LIMIT 100", "arrow"),
]
WHAT = {"e": "single events appended", "f": "`INSERT` of one row", "g": "short queries"}
WORK = {"e": ("single", "put"), "f": ("plain_rows", "insert")}
BARS = {
    "e": {1: (1.5, None), 2: (2, None), 8: (4, None)},
    "f": {1: (1, 2), 2: (1, 2), 8: (1, 2)},
}
EVENTS_PER_SECOND_GOAL = 20_000
MILLISECONDS_OVER_INPROCESS = 0.2
WARMUP = 1


def measure(bench, selected):
    if bench.load is None:
        return [skipped(row, WHAT[row], "no --load") for row in selected]
    lines = []
    with contextlib.ExitStack() as stack:
        sides = Sides(bench, selected, stack)
        for row in selected:
            lines += queries(bench, sides) if row == "g" else inserts(bench, sides, row)
    return lines


class Sides:
    """The servers, the clients of Quack, and DuckDB in-process."""

    def __init__(self, bench, selected, stack):
        self.stack, self.bench = stack, bench
        directory = stack.enter_context(bench.directory())
        first, _ = bench.data.event_files()
        events = f"CREATE TABLE events ({EVENT_COLUMNS.format(key='NOT NULL')})"
        both = [events, "INSERT INTO events SELECT * FROM source"] if "g" in selected else []
        tables = [
            f"CREATE TABLE single ({EVENT_COLUMNS.format(key='PRIMARY KEY')})",
            f"INSERT INTO single SELECT * FROM source LIMIT {bench.single_rows}",
            "CREATE TABLE plain_rows (id BIGINT, name VARCHAR, value DOUBLE)",
        ]
        self.inprocess = stack.enter_context(bench.inprocess())
        self.inprocess.call("make", database=f"{directory}/inprocess.duckdb", statements=both, arrow=str(first))
        self.inprocess.call("attach", database=f"{directory}/inprocess.duckdb")
        self.quack_clients = [stack.enter_context(bench.quack_client())]
        made = {"database": f"{directory}/quack.duckdb", "statements": both + tables, "arrow": str(first)}
        self.quack_clients[0].call("make", **made)
        self.quack = stack.enter_context(bench.scripts.quack(directory, f"{directory}/quack.duckdb"))
        self.quack_clients[0].call("attach", uri=self.quack.uri)
        rows = read_arrow(first)
        with bench.merganser(directory) as loading, connect(loading.uri) as client:
            put_table(client, "single", "create", rows.slice(0, bench.single_rows))
            if "g" in selected:
                put_table(client, "events", "create", rows)
        # All three open a file that was made before: DuckDB does not filter on compressed data in what it wrote itself since.
        self.merganser = stack.enter_context(bench.merganser(directory))
        self.inserted = 0

    def of_quack(self, clients, seconds, command, warmup=WARMUP, **arguments):
        """The same command in so many clients at once, and what their times give."""
        while len(self.quack_clients) < clients:
            self.quack_clients.append(self.stack.enter_context(self.bench.quack_client()))
            self.quack_clients[-1].call("attach", uri=self.quack.uri)
        working = self.quack_clients[:clients]
        for client in working:
            if command == "insert":
                self.inserted += 1
                arguments["first"] = self.inserted << 32
            client.begin(command, seconds=seconds, warmup=warmup, **arguments)
        return latency.summary([took for client in working for took in client.end()], seconds)

    def of_merganser(self, work, clients, seconds, **options):
        found = load(self.bench.load, self.merganser.uri, work, clients, seconds, warmup=WARMUP, **options)
        assert found["errors"] == 0, f"{found['errors']} errors"
        return found


def faster_form(sides, table):
    """Which of the two ways to say an INSERT to Quack is faster: tried in turn, so that one slow second does not decide."""
    tried = {"query": [], "attached": []}
    for form in [*tried] * 3:
        tried[form].append(sides.of_quack(1, 1, "insert", table=table, form=form)["rate"])
    return max(tried, key=lambda form: statistics.median(tried[form]))


def inserts(bench, sides, row):
    table, work = WORK[row]
    figures, seconds = Figures(), bench.seconds(5)
    form = faster_form(sides, table)

    def ours(clients):
        figures.add(f"ours {clients}", sides.of_merganser(work, clients, seconds, table=table)["rate"])

    def quack(clients):
        figures.add(f"quack {clients}", sides.of_quack(clients, seconds, "insert", table=table, form=form)["rate"])

    steps = [lambda side=side, clients=clients: side(clients) for clients in BARS[row] for side in (ours, quack)]
    steps += [lambda: ours(64)] if row == "e" else []
    in_rounds(bench.rounds, steps, f"row {row}")

    spelled = {"query": "`FROM remote.query('INSERT ...')`", "attached": f"`INSERT INTO remote.{table}`"}[form]
    peer = f"Quack, {spelled}, the faster form"
    what = lambda clients: f"{WHAT[row]}, {clients} client{'s' if clients > 1 else ''}"
    lines = [
        compared(row, what(clients), figures, f"ours {clients}", f"quack {clients}", peer, "1/s", *bars)
        for clients, bars in BARS[row].items()
    ]
    if row == "e":
        lines.append(limited(row, what(64), figures["ours 64"], "1/s", goal=EVENTS_PER_SECOND_GOAL))
    return lines


def queries(bench, sides):
    figures, seconds = Figures(), bench.seconds(3)
    cases = [(*query, clients) for query in QUERIES for clients in (1, 32)]
    steps = []
    for name, sql, form, clients in cases:
        told = {"clients": clients, "seconds": seconds, "sql": sql}
        runs = {
            "ours": lambda told=told: sides.of_merganser("query", **told),
            "quack": lambda told=told, form=form: sides.of_quack(command="query", form=form, **told),
            "local": lambda told=told, form=form: sides.inprocess.call("query", form=form, warmup=WARMUP, **told),
        }
        for side, run in runs.items():

            def step(side=side, run=run, case=(name, clients)):
                found = run()
                for percent in ("p50_ms", "p99_ms"):
                    figures.add((side, percent, *case), found[percent])

            steps.append(step)
    in_rounds(bench.rounds, steps, "row g")

    lines = []
    for name, _, _, clients in cases:
        for percent in ("p50_ms", "p99_ms"):
            ours, quack, local = ((side, percent, name, clients) for side in ("ours", "quack", "local"))
            what = f"{name}, {percent[:3]}, {clients} connection{'s' if clients > 1 else ''}"
            lines.append(compared("g", what, figures, ours, quack, "Quack", "ms", 1, lower=True))
            over = [one - other for one, other in zip(figures[ours], figures[local], strict=True)]
            line = compared("g", what, figures, ours, local, "in-process DuckDB", "ms", lower=True)
            # Of many threads, Python's lock lets one run for long: what their times say is of the lock, and no goal.
            goal = MILLISECONDS_OVER_INPROCESS if clients == 1 else None
            difference = limited("g", what, over, "ms", goal=goal, lower=True)
            line.ratio, line.met = f"difference {difference.ours}", difference.met
            line.goal = difference.goal and f"difference {difference.goal}"
            lines.append(line)
    return lines
