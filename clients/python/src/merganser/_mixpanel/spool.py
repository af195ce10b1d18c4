"""A part of a fetch on the disk, until it is whole and the server takes it: what breaks is dropped, and nobody has seen it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType

import pyarrow as pa
from pyarrow import ipc

from merganser._mixpanel.room import Room
from merganser._mixpanel.rows import Rows

_OPTIONS = ipc.IpcWriteOptions(compression="lz4")


class Spool:
    """Rows in a temporary file without a name, which is gone with the process, however that ends."""

    def __init__(self, rows: Rows, room: Room) -> None:
        self.rows = 0
        self._pending = rows
        self._room = room
        self._share = room.share()
        self._file = tempfile.TemporaryFile(prefix="merganser-")  # noqa: SIM115 - closed by close
        self._writer = ipc.new_stream(self._file, rows.schema, options=_OPTIONS)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    async def write_if_full(self) -> None:
        """Writes the pending rows if they are many, when there is room for them."""
        if self._pending.is_full():
            await self._write()

    async def finish(self) -> None:
        """Writes what is left; afterwards, the rows can be read."""
        await self._write()
        self._writer.close()
        self._room.whole(self._share)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, once."""
        self._file.seek(0)
        with ipc.open_stream(self._file) as reader:
            yield from reader

    def close(self) -> None:
        """Frees the disk."""
        self._file.close()
        self._room.free(self._share)

    async def _write(self) -> None:
        batch = self._pending.flush()
        if batch.num_rows:
            await self._room.more(self._share)
            self._writer.write_batch(batch)
            self._share.bytes = self._file.tell()
            self.rows += batch.num_rows
