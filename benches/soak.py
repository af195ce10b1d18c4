#!/usr/bin/env python3
"""Many clients for a long time: what the server holds, and how long its answers take, minute by minute.

    python benches/soak.py target/release/merganser --load LOAD [--minutes 30] [--clients 256]

A quarter of the clients each append single events, insert rows by SQL, run a dashboard query and look a few rows up, every one on a
connection of its own. They are new ones each minute, and so are the tables that they fill; the last minute's are dropped while the
new ones work. LOAD is the load generator: `cargo bench --bench load --no-run` builds it and prints where it is. A line a minute, then the
last third against the first one of those after warming up: resident memory, file descriptors, threads, and the 50th and 99th percentile of
each kind. Standard library only.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import servers

EVENTS = 200_000
DASHBOARD = (
    "SELECT event_name, count(*) AS n, count(DISTINCT distinct_id) AS users FROM seen "
    "WHERE event_time >= TIMESTAMP '2024-01-03' GROUP BY event_name ORDER BY n DESC"
)
LOOKUP = "SELECT * FROM seen WHERE distinct_id = 'user-42' LIMIT 100"
SEEN = (
    "CREATE TABLE seen AS SELECT 'event-' || i % 20 AS event_name, TIMESTAMP '2024-01-01' + INTERVAL 1 SECOND * i AS event_time, "
    f"'user-' || i % 5000 AS distinct_id, i AS number FROM range({EVENTS}) r(i)"
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server", help="the merganser binary")
    parser.add_argument("--load", required=True, help="the load generator")
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seconds", type=int, default=60, help="the length of a minute, for a quick look")
    return parser.parse_args()


class Soak:
    def __init__(self, options, server):
        self.options, self.server = options, server
        self.process = pathlib.Path(f"/proc/{server.process.pid}")

    def merganser(self, *words):
        command = [self.options.server, *words, "--server", self.server.uri]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def kinds(self, minute):
        return {
            "put": ["put", "--table", f"events_{minute}"],
            "insert": ["insert", "--table", f"rows_{minute}"],
            "dashboard": ["query", "--sql", DASHBOARD],
            "lookup": ["query", "--sql", LOOKUP],
        }

    def held(self):
        status = (self.process / "status").read_text()
        threads = int(status.split("Threads:")[1].split()[0])
        descriptors = len(list((self.process / "fd").iterdir()))
        return {"MB": round(self.server.status_mb("VmRSS")), "threads": threads, "descriptors": descriptors}

    def minute(self, minute):
        """One minute of everything; what the server holds in the middle of it, and what each kind of client reports."""
        seconds, each = self.options.seconds, self.options.clients // 4
        common = ["--server", self.server.uri, "--clients", str(each), "--seconds", str(seconds - 1), "--warmup", "1"]
        running = {
            kind: subprocess.Popen([self.options.load, *common, *words], stdout=subprocess.PIPE, text=True)
            for kind, words in self.kinds(minute).items()
        }
        try:
            running["put"].wait(timeout=seconds / 2)
        except subprocess.TimeoutExpired:
            pass
        # While all of them are there: the statements below wait for their turn.
        held, reports = self.held(), {}
        for kind in ("events", "rows") if minute else ():
            self.merganser("query", f"DROP TABLE {kind}_{minute - 1}")
        for kind, process in running.items():
            reports[kind] = json.loads(process.communicate()[0])
            if process.returncode:
                raise RuntimeError(f"{kind}: {reports[kind]}")
        return held, reports


def line(minute, held, reports):
    shown = " ".join(f"{value} {name}" for name, value in held.items())
    for kind, report in reports.items():
        shown += f" | {kind} {report['rate']:.0f}/s {report['p50_ms']:.1f} {report['p99_ms']:.1f} ms"
    return f"{minute:3}: {shown}"


def compare(minutes):
    """The last third of the minutes against the first third of those after the first, as medians."""
    minutes = minutes[1:]
    third = max(len(minutes) // 3, 1)
    first, last = minutes[:third], minutes[-third:]

    def tell(name, value):
        before, after = (statistics.median(value(*minute) for minute in part) for part in (first, last))
        print(f"{name:24} {before:10.1f} {after:10.1f}   x{after / before:.2f}")

    print(f"{'':24} {'first':>10} {'last':>10}")
    for name in first[0][0]:
        tell(name, lambda held, _, name=name: held[name])
    for kind in first[0][1]:
        for figure in ("rate", "p50_ms", "p99_ms"):
            tell(f"{kind} {figure}", lambda _, reports, kind=kind, figure=figure: reports[kind][figure])


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as directory:
        settings = {"engine.statements_queue_max": options.clients * 2, "engine.user_queue_max": options.clients * 2}
        settings["ingest.streams_max"] = options.clients
        with servers.Merganser(options.server, directory, **settings) as server:
            soak, minutes = Soak(options, server), []
            soak.merganser("query", SEEN)
            for minute in range(options.minutes):
                minutes.append(soak.minute(minute))
                print(line(minute, *minutes[-1]), flush=True)
            errors = sum(report["errors"] for _, reports in minutes for report in reports.values())
            operations = sum(report["operations"] for _, reports in minutes for report in reports.values())
            print(f"{options.clients} clients, {len(minutes)} minutes, {operations} operations, {errors} errors")
            compare(minutes)


if __name__ == "__main__":
    main()
