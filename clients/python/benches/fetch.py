"""A fetch of 2 million events from the stand-in for Mixpanel, with one answer of ten failing: each once, how fast, how big.

    MERGANSER_BIN=target/release/merganser python benches/fetch.py [--events N] [--days N] [--fault-rate R]

The stand-in, the server and this client are processes of their own, and share the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import timedelta
from pathlib import Path

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE.parent / "tests")]

from workspace import stand_in  # noqa: E402 - its place is known only now
from workspace.support import ACCOUNT, hosts_of  # noqa: E402

from merganser._mixpanel.credentials import Credentials  # noqa: E402
from merganser._mixpanel.limits import FetchLimits  # noqa: E402
from merganser.workspace import Workspace  # noqa: E402


class Peak:
    """The biggest memory of processes, looked at ten times a second."""

    def __init__(self, **pids: int) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self.mib = dict.fromkeys(pids, 0)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def cpu(self, name: str) -> float:
        """Seconds of CPU that a process has used."""
        return sum(self._processes[name].cpu_times()[:2])

    def _look(self) -> None:
        while not self._end.wait(0.1):
            for name, process in self._processes.items():
                self.mib[name] = max(self.mib[name], process.memory_info().rss >> 20)


def check(ws: Workspace, events: int, days: int) -> None:
    """Every event is there once, on its day, with its own properties."""
    count, ids, lowest, highest = ws.sql_rows(
        "SELECT count(*), count(DISTINCT insert_id), min(number), max(number) FROM ("
        "SELECT insert_id, (properties->>'$.big')::BIGINT - 1152921504606846976 AS number FROM events)"
    )[0]
    assert (count, ids, lowest, highest) == (events, events, 0, events - 1), (count, ids, lowest, highest)
    for day, found in ws.sql_rows("SELECT (event_time::DATE - DATE '2024-01-01')::INTEGER, count(*) FROM events GROUP BY ALL"):
        wanted = events * (day + 1) // days - events * day // days
        assert found == wanted, (day, found, wanted)


def main() -> None:
    arguments = argparse.ArgumentParser(description="Fetch from a stand-in for Mixpanel that fails")
    arguments.add_argument("--events", type=int, default=2_000_000)
    arguments.add_argument("--days", type=int, default=200)
    arguments.add_argument("--fault-rate", type=float, default=0.1)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(HERE.parent / "tests" / "workspace" / "stand_in.py"), "--stall", "60"]
        for name in ("events", "days", "fault_rate", "seed"):
            command += [f"--{name.replace('_', '-')}", str(getattr(given, name))]
        api = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        serve = [os.environ["MERGANSER_BIN"], "serve", f"{directory}/fetch.duckdb", "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            url = api.stdout.readline().strip()
            uri = re.fullmatch(r"listening on (\S+)\n", server.stdout.readline())[1]
            run(given, url, uri, Peak(client=os.getpid(), server=server.pid))
        finally:
            api.stdin.close()
            server.terminate()
            api.wait()
            server.wait()


def run(given: argparse.Namespace, url: str, uri: str, peak: Peak) -> None:
    # A request for each day, as fast as the stand-in will have them.
    limits = FetchLimits(concurrency=4, requests=given.days, backoff=0.1, stall=30, per_second=1000)
    with hosts_of(Place(url)), Workspace.connect(uri, credentials=Credentials(**ACCOUNT), limits=limits) as ws:
        cpu = time.process_time()
        last = stand_in.FIRST + timedelta(days=given.days - 1)
        with peak:
            result = ws.fetch_events("events", from_date=stand_in.FIRST, to_date=last)
        cpu = time.process_time() - cpu
        server_cpu = peak.cpu("server")
        with urllib.request.urlopen(f"{url}/stats") as answer:
            stats = json.load(answer)
        check(ws, given.events, given.days)
    rate = result.rows / result.duration_seconds
    failed, ways = stats["failed"], len(stats["faults"])
    print(f"{result.rows:,} events, each once; {stats['requests']} requests, {failed} failed in {ways} ways")
    print(f"{result.duration_seconds:.1f} s, {rate:,.0f} events/s; {result.bytes >> 20} MiB compressed")
    for name, seconds in (("client", cpu), ("server", server_cpu)):
        print(f"{name}: {seconds:.1f} s of CPU, {seconds / result.rows * 1e6:.1f} us an event; peak memory {peak.mib[name]} MiB")


class Place:
    """Where the stand-in is."""

    def __init__(self, url: str) -> None:
        self.url = url


if __name__ == "__main__":
    main()
