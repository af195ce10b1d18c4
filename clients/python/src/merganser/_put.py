"""An ingest: one DoPut stream, which is committed only when its source has ended well."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pyarrow as pa
from pyarrow import flight

from merganser import _cancel
from merganser._status import WIRE_ERRORS, translated

ProgressCallback = Callable[[int], None]
"""Called with the number of rows stored so far."""


def put(
    client: flight.FlightClient,
    command: dict[str, Any],
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    progress: ProgressCallback | None,
) -> dict[str, Any]:
    """Sends the batches and commits them; answers the server's result. If anything raises, nothing is stored.

    The source is touched only when the server has accepted the stream.
    """
    stream = _Stream(client, command | {"commit": "explicit"}, schema, wants_all=progress is not None)
    try:
        for batch in batches:
            _cancel.check()
            stream.write(batch)
            for rows in stream.told():
                _call(progress, rows)
        for rows in stream.rest():
            _call(progress, rows)
        _cancel.check()
        return stream.commit()
    except BaseException:
        stream.abandon()
        raise


def _call(progress: ProgressCallback | None, rows: int) -> None:
    if progress is not None:
        progress(rows)


class _Stream:
    """A DoPut whose answers are read beside it: the server stops reading when nobody reads what it says."""

    def __init__(self, client: flight.FlightClient, command: dict[str, Any], schema: pa.Schema, *, wants_all: bool) -> None:
        self._table: str = command["table"]
        self._wants_all = wants_all
        self._rows = 0
        # Answers to batches that have not been told yet.
        self._waiting = 0
        self._broken = threading.Event()
        self._last: dict[str, Any] = {}
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        descriptor = flight.FlightDescriptor.for_command(
            orjson.dumps(command | {"progress": "every_batch" if wants_all else "interval"})
        )
        with self._translated():
            writer, reader = client.do_put(descriptor, schema)
            self._writer: Any = writer
            self._reader: Any = reader
            try:
                accepted = self._reader.read() is not None
            except WIRE_ERRORS:
                accepted = False
            if not accepted:
                # It tells for certain what the server said.
                self._writer.close()
        self._thread = threading.Thread(target=self._read, name="merganser-ingest", daemon=True)
        self._thread.start()

    def _translated(self) -> contextlib.AbstractContextManager[None]:
        return translated(table=self._table)

    def _read(self) -> None:
        try:
            while (answer := self._reader.read()) is not None:
                self._last = orjson.loads(answer.to_pybytes())
                if self._wants_all:
                    self._answers.put(self._last)
        except WIRE_ERRORS:
            # The end of the call tells for certain what the server said.
            pass
        finally:
            self._broken.set()
            self._answers.put(None)

    def write(self, batch: pa.RecordBatch) -> None:
        """Sends a batch; waits while the server is behind."""
        if self._broken.is_set():
            self._fail()
        with self._translated():
            try:
                self._writer.write_batch(batch)
            except WIRE_ERRORS:
                self._close()
                raise
        self._rows += batch.num_rows
        self._waiting += 1

    def told(self) -> Iterator[int]:
        """The numbers of stored rows that have come by now, if all are wanted."""
        with contextlib.suppress(queue.Empty):
            while self._wants_all and self._waiting:
                yield self._next(block=False)

    def rest(self) -> Iterator[int]:
        """Those that are still to come for what was sent."""
        while self._wants_all and self._waiting:
            yield self._next(block=True)

    def _next(self, *, block: bool) -> int:
        answer = self._answers.get(block=block)
        if answer is None:
            self._fail()
            raise AssertionError("a stream that was broken off closes without an error")
        self._waiting -= 1
        return answer["rows_written"]

    def commit(self) -> dict[str, Any]:
        """Makes it durable."""
        with self._translated():
            try:
                self._writer.write_metadata(orjson.dumps({"rows": self._rows}))
            finally:
                self._close()
        return self._last

    def abandon(self) -> None:
        """Ends the stream without its commit, so that nothing is stored."""
        with contextlib.suppress(*WIRE_ERRORS):
            self._close()

    def _fail(self) -> None:
        with self._translated():
            self._close()

    def _close(self) -> None:
        """Ends the stream, and raises what the server said if it was an error."""
        # Finishing the call takes turns with a read; half of the way there makes the server end what is read.
        with contextlib.suppress(*WIRE_ERRORS):
            self._writer.done_writing()
        self._thread.join()
        self._writer.close()
