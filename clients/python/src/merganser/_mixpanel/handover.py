"""From the loop that downloads to the thread that sends: whole parts, and not more of them than have a place."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator

import pyarrow as pa

from merganser._mixpanel.limits import KEEP_ALIVE_SECONDS
from merganser._mixpanel.room import Room
from merganser._mixpanel.rows import Rows
from merganser._mixpanel.spool import Spool
from merganser._mixpanel.tally import Tally


class Handover:
    """Parts on their way to the server. A part has a place from before it is downloaded until its rows are sent."""

    def __init__(self, room: Room, tally: Tally) -> None:
        self._room = room
        # It has at most as many items as there are places, and the end.
        self._ready: queue.SimpleQueue[Spool | BaseException | None] = queue.SimpleQueue()
        self._tally = tally

    async def place(self) -> None:
        """Waits for a place for one more part."""
        await self._room.place()

    def spool(self, rows: Rows) -> Spool:
        """The disk for a part that has a place."""
        return Spool(rows, self._room)

    def give(self, spool: Spool) -> None:
        """Hands a whole part over."""
        self._ready.put(spool)

    def end(self, error: BaseException | None = None) -> None:
        """There are no more parts, or there is an error."""
        self._ready.put(error)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of all parts as they come, in the thread that sends them; empty batches while there are none."""
        empty = pa.RecordBatch.from_pylist([], schema=schema)
        while True:
            try:
                part = self._ready.get(timeout=KEEP_ALIVE_SECONDS)
            except queue.Empty:
                yield empty
                continue
            if part is None:
                return
            if isinstance(part, BaseException):
                raise part
            with part:
                yield from part.batches()
            self._tally.done()
            self._room.leave()

    def drop(self) -> None:
        """Frees what nobody will read."""
        with contextlib.suppress(queue.Empty):
            while True:
                part = self._ready.get_nowait()
                if isinstance(part, Spool):
                    part.close()
