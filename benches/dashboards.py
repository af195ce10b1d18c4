"""Clients that run the queries of a dashboard, one after another, each with a thread and a connection. A worker, see workers.py."""

import threading
import time

from flight_client import connect, read
from workers import answer_commands

# The events of an ingest beside them come later, so that these queries have the same rows to read all the time.
OLD = "event_time < TIMESTAMP '2024-02-01'"
QUERIES = [
    f"SELECT event_name, date_trunc('day', event_time) AS day, count(*) AS n FROM events WHERE {OLD} GROUP BY ALL ORDER BY ALL",
    f"SELECT properties->>'$.country' AS country, count(*) AS n FROM events WHERE {OLD} GROUP BY ALL ORDER BY n DESC",
    f"SELECT properties->>'$.os' AS os, sum((properties->>'$.amount')::DOUBLE) AS amount FROM events"
    f" WHERE {OLD} AND event_time >= TIMESTAMP '2024-01-20' GROUP BY ALL ORDER BY amount DESC",
    f"SELECT date_trunc('week', event_time) AS week, count(DISTINCT distinct_id) AS users FROM events WHERE {OLD} GROUP BY ALL",
]


def run(uri, clients, seconds):
    """Queries that ended within the time, and what went wrong."""
    end, done, errors = time.perf_counter() + seconds, [0] * clients, []

    def work(number):
        try:
            with connect(uri) as client:
                turn = number
                while time.perf_counter() < end:
                    read(client, QUERIES[turn % len(QUERIES)])
                    turn += 1
                    done[number] += time.perf_counter() <= end
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"queries": sum(done), "errors": errors[:3], "error_count": len(errors)}


if __name__ == "__main__":
    answer_commands({"run": run})
