"""What the client tests share: the server's process, the sample data, and how an ingest and an error look from pyarrow."""

import contextlib
import gzip
import json
import os
import pathlib
import re
import signal
import subprocess
import time
from datetime import UTC, datetime

import adbc_driver_flightsql.dbapi
import pyarrow as pa
import pytest
from pyarrow import flight

DATA = pathlib.Path(__file__).parent.parent / "data"
READY_SECONDS = 30

EVENTS_SCHEMA = pa.schema(
    [
        ("event_name", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("distinct_id", pa.string()),
        ("insert_id", pa.string()),
        ("properties", pa.string()),
    ]
)
PROFILES_SCHEMA = pa.schema(
    [("distinct_id", pa.string()), ("properties", pa.string()), ("last_seen", pa.timestamp("us", tz="UTC"))]
)


class Server:
    """One `merganser serve` process."""

    def __init__(self, arguments, directory, name, environment=(), listen="127.0.0.1:0"):
        """`environment` is added to that of the server."""
        self.stdout_path = directory / f"{name}.stdout"
        self.log_path = directory / f"{name}.log"
        command = [os.environ["MERGANSER_BIN"], "serve", "--listen", listen, *map(str, arguments)]
        # Nothing of the caller's own configuration, and temporary files where the test can see them.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MERGANSER_")}
        environment = inherited | dict(environment)
        environment |= {"TMPDIR": str(directory), "XDG_CONFIG_HOME": str(directory), "XDG_DATA_HOME": str(directory)}
        environment["MERGANSER_LOG"] = os.environ.get("MERGANSER_LOG", "info")
        with self.stdout_path.open("wb") as stdout, self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=stdout, stderr=log, env=environment)
        self.uri = None
        self.port = None

    def wait_until_ready(self):
        """Reads the first line on stdout, which comes when the server is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            lines = self.stdout_path.read_text().splitlines(keepends=True)
            if lines and lines[0].endswith("\n"):
                ready = re.fullmatch(r"listening on (grpc(?:\+tls)?://127\.0\.0\.1:(\d+))\n", lines[0])
                assert ready, f"first line on stdout: {lines[0]!r}"
                self.uri, self.port = ready[1], int(ready[2])
                return self
            assert self.process.poll() is None, f"the server has ended: {self.log()}"
            time.sleep(0.005)
        raise AssertionError(f"not ready in {READY_SECONDS} s: {self.log()}")

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def stop(self):
        """Asks the server to end, as an operator does, and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise

    def kill9(self):
        """Ends the server as a crash does."""
        self.process.kill()
        self.process.wait()

    def flight(self):
        return flight.connect(self.uri)

    def adbc(self, **options):
        return adbc_driver_flightsql.dbapi.connect(self.uri, autocommit=True, **options)


# --- the sample: events and profiles as Mixpanel exports them ---


def raw(name, directory=DATA):
    """The lines of <name>.ndjson.gz."""
    with gzip.open(directory / f"{name}.ndjson.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def event_row(event):
    """One exported event as a row of an events table: what is not a column stays in the properties."""
    properties = dict(event["properties"])
    return {
        "event_name": event["event"],
        "event_time": datetime.fromtimestamp(properties.pop("time"), UTC),
        "distinct_id": properties.pop("distinct_id"),
        "insert_id": properties.pop("$insert_id"),
        "properties": json.dumps(properties),
    }


def profile_row(profile):
    """One exported profile as a row of a profiles table."""
    properties = dict(profile["$properties"])
    last_seen = datetime.fromisoformat(properties.pop("$last_seen")).replace(tzinfo=UTC)
    return {"distinct_id": profile["$distinct_id"], "properties": json.dumps(properties), "last_seen": last_seen}


def events_table(directory=DATA):
    """The exported events as rows of an events table."""
    return pa.Table.from_pylist([event_row(event) for event in raw("events", directory)], EVENTS_SCHEMA)


def profiles_table(directory=DATA):
    """The exported profiles as rows of a profiles table."""
    return pa.Table.from_pylist([profile_row(row) for row in raw("profiles", directory)], PROFILES_SCHEMA)


def some_events(ids, **columns):
    """Small events with the given insert_ids; `columns` replace the values of all rows."""
    rows = [
        {
            "event_name": "Purchase",
            "event_time": datetime(2024, 1, 1 + index % 28, 12, tzinfo=UTC),
            "distinct_id": f"user_{index % 7}",
            "insert_id": insert_id,
            "properties": json.dumps({"amount": index, "country": "NO" if index % 2 else "SE"}),
        }
        | columns
        for index, insert_id in enumerate(ids)
    ]
    return pa.Table.from_pylist(rows, EVENTS_SCHEMA)


# --- Flight, as a program would use it ---


def path(*parts):
    return flight.FlightDescriptor.for_path(*parts)


def ingest(table, **settings):
    """The JSON command of a DoPut."""
    return flight.FlightDescriptor.for_command(json.dumps({"table": table} | settings).encode())


def put(client, descriptor, data, batch_rows=None, commit=None):
    """Sends one ingest. Returns what the server answered, in order: the last one is the result, the others progress.

    `commit` is the marker of `"commit": "explicit"`, like `{"rows": 3}`; `{}` is one, too.
    """
    table = data if isinstance(data, pa.Table) else pa.Table.from_batches([data])
    writer, reader = client.do_put(descriptor, table.schema)
    # Only close() tells for certain what the server said; what breaks before it is a consequence.
    with contextlib.suppress(pa.ArrowException, flight.FlightError):
        for batch in table.to_batches(max_chunksize=batch_rows):
            writer.write_batch(batch)
        if commit is not None:
            writer.write_metadata(json.dumps(commit).encode())
        writer.done_writing()
    answers = []
    with contextlib.suppress(pa.ArrowException, flight.FlightError):
        while (answer := reader.read()) is not None:
            answers.append(json.loads(answer.to_pybytes()))
    writer.close()
    return answers


def query(client, sql):
    """One round trip: a ticket that holds SQL."""
    return client.do_get(flight.Ticket(sql.encode())).read_all()


def scalar(client, sql):
    [[value]] = [list(row.values()) for row in query(client, sql).to_pylist()]
    return value


def count(client, table):
    return scalar(client, f'SELECT count(*) FROM "{table}"')


def action(client, name, /, **request):
    """The JSON answers of one action."""
    results = client.do_action(flight.Action(name, json.dumps(request).encode()))
    return [json.loads(result.body.to_pybytes()) for result in results]


def table_exists(client, table):
    [answer] = action(client, "table_exists", table=table)
    return answer["exists"]


# How pyarrow shows gRPC's codes. Several share one class, but each has a text of its own.
SHOWN = {
    "NOT_FOUND": (KeyError, "Flight returned not found error"),
    "ALREADY_EXISTS": (pa.ArrowException, "Flight returned already exists error"),
    "INVALID_ARGUMENT": (pa.ArrowInvalid, "Flight returned invalid argument error"),
    "FAILED_PRECONDITION": (pa.ArrowInvalid, "gRPC returned precondition failed error"),
    "RESOURCE_EXHAUSTED": (pa.ArrowInvalid, "gRPC returned resource exhausted error"),
    "CANCELLED": (flight.FlightCancelledError, "Flight cancelled call"),
    "DEADLINE_EXCEEDED": (flight.FlightTimedOutError, "Flight returned timeout error"),
    "UNAVAILABLE": (flight.FlightUnavailableError, "Flight returned unavailable error"),
    "PERMISSION_DENIED": (flight.FlightUnauthorizedError, "Flight returned unauthorized error"),
    "UNIMPLEMENTED": (NotImplementedError, "Flight returned unimplemented error"),
}


@contextlib.contextmanager
def refused(code, *parts):
    """Expects the gRPC `code` and a message that contains all `parts`."""
    shown, text = SHOWN[code]
    with pytest.raises(shown) as caught:
        yield caught
    message = str(caught.value)
    assert text in message, message
    for part in parts:
        assert part in message, message
