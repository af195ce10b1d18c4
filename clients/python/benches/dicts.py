"""Events as dicts: `create_events_table`, beside what the replaced engine did, in one run.

    MERGANSER_BIN=... python benches/dicts.py [--rows 1000000] [--reference-rows 20000]

Each part runs in a process of its own, whose peak memory is told. The reference is `executemany` of `INSERT OR IGNORE` with
1,000 rows a batch into a table with a PRIMARY KEY, in-process in PyPI's duckdb.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
PAGES = [f"/page/{number}" for number in range(50)]


def events(rows):
    """Events with six properties, as a fetch gives them."""
    for number in range(rows):
        yield {
            "event_name": "Page view" if number % 3 else "Purchase",
            "event_time": START + timedelta(seconds=number),
            "distinct_id": f"user_{number % 10_000}",
            "insert_id": f"evt_{number * 2_654_435_761 % 4_294_967_296:08x}_{number}",
            "properties": {
                "page": PAGES[number % 50],
                "amount": number % 1000 / 10,
                "country": "NO" if number % 2 else "SE",
                "plan": "pro",
                "count": number % 17,
                "new": number % 5 == 0,
            },
        }


def source_alone(rows):
    """What the generator itself takes."""
    started = time.perf_counter()
    for _ in events(rows):
        pass
    return {"seconds": time.perf_counter() - started}


def merganser(rows, progress=False):
    """Our way, on a file."""
    import psutil

    from merganser import StorageEngine

    told = []
    with tempfile.TemporaryDirectory() as directory, StorageEngine(Path(directory) / "a.db") as engine:
        callback = told.append if progress else None
        server = psutil.Process(engine._server.pid)
        started, processor = time.perf_counter(), time.process_time()
        stored = engine.create_events_table("ev", events(rows), progress_callback=callback)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        assert stored == rows
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        used = server.cpu_times()
    return {"seconds": seconds, "client_cpu": processor, "server_cpu": used.user + used.system, "server_peak": peak}


def conversion(rows):
    """Dicts to Arrow, without a server."""
    from merganser._rows import batches_of

    started = time.perf_counter()
    assert sum(batch.num_rows for batch in batches_of("events", events(rows), 65_536)) == rows
    return {"seconds": time.perf_counter() - started}


def replaced_engine(rows):
    """The replaced engine's way."""
    import duckdb

    with tempfile.TemporaryDirectory() as directory, duckdb.connect(str(Path(directory) / "a.db")) as connection:
        connection.execute(
            "CREATE TABLE ev (event_name VARCHAR NOT NULL, event_time TIMESTAMP NOT NULL, distinct_id VARCHAR NOT NULL,"
            " insert_id VARCHAR PRIMARY KEY, properties JSON)"
        )
        started, batch = time.perf_counter(), []
        connection.begin()
        for event in events(rows):
            batch.append((*list(event.values())[:4], json.dumps(event["properties"])))
            if len(batch) == 1000:
                connection.executemany("INSERT OR IGNORE INTO ev VALUES (?, ?, ?, ?, ?)", batch)
                connection.commit()
                connection.begin()
                batch = []
        connection.commit()
        seconds = time.perf_counter() - started
        assert connection.execute("SELECT count(*) FROM ev").fetchone() == (rows,)
    return {"seconds": seconds}


def _child(pipe, part, rows, options):
    result = part(rows, **options)
    pipe.send(result | {"rows": rows, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})


def measure(part, rows, **options):
    """Runs a part in a new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, part, rows, options))
    process.start()
    result = ours.recv()
    process.join()
    return result


def show(name, result):
    """One line of the table."""
    rate = result["rows"] / result["seconds"]
    line = f"{name:30} {result['rows']:>9,} rows {result['seconds']:7.2f} s {rate:>9,.0f} rows/s"
    line += f"   client {result['peak'] >> 20} MiB"
    if "server_peak" in result:
        line += f", server {result['server_peak'] >> 20} MiB"
        line += f"; CPU {result['client_cpu']:.1f} s + {result['server_cpu']:.1f} s"
    print(line, flush=True)
    return rate


def main():
    """Runs all parts and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--reference-rows", type=int, default=20_000)
    arguments = parser.parse_args()
    show("the generator alone", measure(source_alone, arguments.rows))
    show("dicts to Arrow, no server", measure(conversion, arguments.rows))
    ours = show("create_events_table", measure(merganser, arguments.rows))
    told = show("  with a progress_callback", measure(merganser, arguments.rows, progress=True))
    few = show("  the rows of the reference", measure(merganser, arguments.reference_rows))
    theirs = show("executemany, the replaced way", measure(replaced_engine, arguments.reference_rows))
    print(f"ratios: {ours / theirs:.0f}x, {told / theirs:.0f}x with a callback, {few / theirs:.0f}x on the same few rows")


if __name__ == "__main__":
    main()
