"""What the tests share: rows, the sample data, and a server of their own."""

import gzip
import json
import os
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path

DATA = Path(__file__).parents[3] / "tests" / "data"
NOW = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


def event(number, **fields):
    """A small event."""
    return {
        "event_name": "Purchase",
        "event_time": NOW,
        "distinct_id": f"user_{number % 7}",
        "insert_id": f"evt_{number}",
        "properties": {"amount": number, "country": "NO" if number % 2 else "SE"},
    } | fields


def profile(number, **fields):
    """A small profile."""
    return {"distinct_id": f"user_{number}", "properties": {"plan": "pro"}, "last_seen": NOW} | fields


def _lines(name):
    with gzip.open(DATA / f"{name}.ndjson.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def raw_events():
    """The exported events as rows."""
    rows = []
    for line in _lines("events"):
        properties = line["properties"]
        rows.append(
            {
                "event_name": line["event"],
                "event_time": datetime.fromtimestamp(properties.pop("time"), timezone.utc),
                "distinct_id": properties.pop("distinct_id"),
                "insert_id": properties.pop("$insert_id"),
                "properties": properties,
            }
        )
    return rows


def raw_profiles():
    """The exported profiles as rows."""
    rows = []
    for line in _lines("profiles"):
        properties = line["$properties"]
        last_seen = properties.pop("$last_seen")
        rows.append({"distinct_id": line["$distinct_id"], "properties": properties, "last_seen": last_seen})
    return rows


class Server:
    """A server that runs by itself, as an operator's does."""

    def __init__(self, directory, *arguments, **environment):
        binary = os.environ["MERGANSER_BIN"]
        own = {"XDG_CONFIG_HOME": str(directory), "XDG_DATA_HOME": str(directory)}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MERGANSER_")}
        self.log = directory / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary, "serve", "--listen", "127.0.0.1:0", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                env=inherited | own | environment,
            )
        line = self.process.stdout.readline().decode()
        ready = re.fullmatch(r"listening on (grpc(?:\+tls)?://127\.0\.0\.1:\d+)\n", line)
        assert ready, self.log.read_text()
        self.uri = ready[1]

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()
