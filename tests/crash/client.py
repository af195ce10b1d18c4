"""Doing the operations: over Flight and over ADBC, and telling what their answers mean."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable

import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import pyarrow as pa
from pyarrow import flight

import model
from model import Attempt, History
from operations import Ingest, Operation, Planner
from proxy import Proxy
from support import SHOWN, action, ingest, put

# An operation that another one is in the way of, and which may be tried again.
BUSY = ("is being created by another ingest", "onflict")
TRIES = 100


class FindingError(Exception):
    """The server has done what it must not."""


class GoneError(Exception):
    """The server ended before it answered."""


# What a client library may raise; pyarrow has no one class.
CLIENT_ERRORS = (pa.ArrowException, flight.FlightError, adbc_driver_manager.Error, Warning, KeyError, OSError)
# A connection whose autocommit cannot be switched off is none that may be used.
warnings.filterwarnings("error", "Cannot disable autocommit")
ADBC_CODES = {
    "ALREADY_EXISTS": adbc_driver_manager.AdbcStatusCode.ALREADY_EXISTS,
    "NOT_FOUND": adbc_driver_manager.AdbcStatusCode.NOT_FOUND,
    "INVALID_ARGUMENT": adbc_driver_manager.AdbcStatusCode.INVALID_ARGUMENT,
}


def is_refusal(error: Exception, code: str) -> bool:
    if isinstance(error, adbc_driver_manager.Error):
        return error.status_code == ADBC_CODES.get(code)
    shown, text = SHOWN[code]
    return isinstance(error, shown) and text in str(error)


class Client(threading.Thread):
    """One client, from the start of a server to its end."""

    def __init__(
        self,
        planner: Planner,
        history: History,
        uri: str,
        position: Callable[[], int],
        is_ending: Callable[[], bool],
    ) -> None:
        super().__init__(name=f"client {planner.client}", daemon=True)
        self.planner, self.history, self.uri = planner, history, uri
        # How long the shim's log is, and whether the server is gone or being ended.
        self.position, self.is_ending = position, is_ending
        self.stopping = threading.Event()
        self.failure: Exception | None = None
        self.done = self.conflicts = 0

    def run(self) -> None:
        try:
            with (
                flight.connect(self.uri) as self.flight,
                adbc_driver_flightsql.dbapi.connect(self.uri, autocommit=True) as self.adbc,
                adbc_driver_flightsql.dbapi.connect(self.uri, autocommit=False) as self.transactional,
            ):
                self.work()
        except GoneError:
            pass
        except FindingError as error:
            self.failure = error
        except CLIENT_ERRORS as error:
            # Connecting, or closing after the server's end.
            if not self.is_ending():
                self.failure = error
        except Exception as error:
            self.failure = error

    def work(self) -> None:
        while not self.stopping.is_set():
            self.turn(self.planner.next(self.history.state))

    def turn(self, operation: Operation) -> None:
        attempt = Attempt(operation.what, self.history.state, operation.after, self.position())
        attempt.may_be_done = operation.steps is None and operation.leaves is None
        self.history.attempts.append(attempt)
        for _ in range(TRIES):
            try:
                self.perform(operation, attempt)
                break
            except CLIENT_ERRORS as error:
                if operation.refusal and is_refusal(error, operation.refusal):
                    if operation.refusal == "ALREADY_EXISTS" and BUSY[0] in str(error):
                        time.sleep(0.05)
                        continue
                    break
                if self.is_ending():
                    self.note_unknown(operation)
                    raise GoneError from error
                if any(reason in str(error) for reason in BUSY):
                    self.conflicts += 1
                    attempt.may_be_done = operation.steps is None and operation.leaves is None
                    with contextlib.suppress(*CLIENT_ERRORS):
                        self.transactional.rollback()
                    time.sleep(0.02)
                    continue
                raise FindingError(f"{operation.what}: refused: {error!r}") from error
        else:
            raise FindingError(f"{operation.what}: {TRIES} tries in vain")
        attempt.end = self.position()
        self.history.state = operation.after
        self.done += 1
        if operation.ingest and "ingest_id" in operation.ingest.settings and not operation.refusal:
            self.planner.known.append(operation)

    def note_unknown(self, operation: Operation) -> None:
        if operation.ingest and "ingest_id" in operation.ingest.settings and operation.refusal is None:
            self.planner.unknown.append(operation)

    # --- one operation ---

    def perform(self, operation: Operation, attempt: Attempt) -> None:
        if operation.leaves:
            self.leave(operation)
        elif operation.ingest:
            self.stream(operation.ingest, operation)
        elif operation.drop:
            action(self.flight, "drop_table", table=operation.drop)
        elif operation.adbc:
            self.adbc_step(self.adbc, operation)
        elif operation.steps is not None:
            self.transaction(operation, attempt)
        elif operation.sql:
            self.sql(self.adbc, operation)
        if operation.refusal and not operation.leaves:
            raise FindingError(f"{operation.what}: answered OK, and not {operation.refusal}")

    def stream(self, stream: Ingest, operation: Operation) -> None:
        rows = self.rows(stream)
        marker = {"rows": len(stream.stream)} if stream.marker else None
        answers = put(self.flight, ingest(stream.table, **stream.settings), rows, stream.batch_rows, marker)
        if not answers or "seconds" not in answers[-1]:
            raise flight.FlightUnavailableError("the stream ended without a result")
        found = model.Counts(*(answers[-1][f"rows_{what}"] for what in ("received", "inserted", "duplicate", "replaced")))
        if operation.counts not in (None, found):
            raise FindingError(f"{operation.what}: {found} was answered instead of {operation.counts}")

    @staticmethod
    def rows(stream: Ingest) -> pa.Table:
        bad = stream.stream[-1:] == [("", -1)]
        rows = model.arrow(stream.kind, stream.stream[:-1] if bad else stream.stream)
        if not bad:
            return rows
        last = model.arrow(stream.kind, [("bad", 1)])
        column = last.schema.get_field_index("properties")
        return pa.concat_tables([rows, last.set_column(column, last.schema.field(column), pa.array(["{"]))])

    def leave(self, operation: Operation) -> None:
        """Ends a stream as clients do that fail: nothing of it may be stored."""
        assert operation.ingest is not None
        stream = operation.ingest
        rows = self.rows(stream)
        if operation.leaves == "unmarked":
            put(self.flight, ingest(stream.table, **stream.settings), rows, stream.batch_rows)
            raise FindingError(f"{operation.what}: answered OK")
        proxy = Proxy(int(self.uri.rsplit(":", 1)[1]))
        try:
            with flight.connect(proxy.uri) as client:
                writer, reader = client.do_put(ingest(stream.table, **stream.settings), rows.schema)
                reader.read()
                writer.write_table(rows)
                reader.read()
                proxy.reset()
                with contextlib.suppress(*CLIENT_ERRORS):
                    writer.close()
        finally:
            proxy.reset()

    def sql(self, connection: adbc_driver_flightsql.dbapi.Connection, operation: Operation) -> None:
        assert operation.sql is not None
        with connection.cursor() as cursor:
            cursor.execute(operation.sql)
            if operation.sql.startswith("SELECT"):
                found = cursor.fetchall()[0][0]
            else:
                found = cursor.rowcount
        if operation.changed is not None and found != operation.changed:
            raise FindingError(f"{operation.what}: {found} rows, and not {operation.changed}")

    def adbc_step(self, connection: adbc_driver_flightsql.dbapi.Connection, operation: Operation) -> None:
        assert operation.adbc is not None
        table, mode, kind, stream = operation.adbc
        with connection.cursor() as cursor:
            found = cursor.adbc_ingest(table, model.arrow(kind, stream), mode=mode)
        if operation.changed is not None and found != operation.changed:
            raise FindingError(f"{operation.what}: {found} rows, and not {operation.changed}")

    def transaction(self, operation: Operation, attempt: Attempt) -> None:
        for step in operation.steps or []:
            if step.adbc:
                self.adbc_step(self.transactional, step)
            else:
                self.sql(self.transactional, step)
        if operation.commits:
            attempt.start, attempt.may_be_done = self.position(), True
            self.transactional.commit()
        else:
            self.transactional.rollback()
