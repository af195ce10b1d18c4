"""A fetch: a thread with an event loop downloads, and the thread of the ingest takes what is whole."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from merganser import _cancel
from merganser._mixpanel.api import Api
from merganser._mixpanel.credentials import Account
from merganser._mixpanel.handover import Handover
from merganser._mixpanel.limits import FetchLimits
from merganser._mixpanel.room import Room
from merganser._mixpanel.tally import Tally
from merganser.errors import QueryCancelled


class Source(Protocol):
    """What is fetched."""

    @property
    def schema(self) -> pa.Schema:
        """Its rows' columns."""
        ...

    async def run(self, api: Api, handover: Handover) -> None:
        """Gets all of it, and hands it over part by part."""
        ...


class Fetch:
    """The rows of ``source``. Nothing is asked for before the first batch is."""

    def __init__(self, source: Source, account: Account, limits: FetchLimits, tally: Tally) -> None:
        self._source = source
        self._account = account
        self._limits = limits
        self._tally = tally
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._handover: Handover | None = None

    def reader(self) -> pa.RecordBatchReader:
        """The rows as Arrow's libraries want them."""
        return pa.RecordBatchReader.from_batches(self._source.schema, self._batches())

    def close(self) -> None:
        """Ends the downloads at once, and frees the disk."""
        if self._thread is None:
            return
        self._cancel()
        self._thread.join()
        if self._handover is not None:
            self._handover.drop()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        self._thread = threading.Thread(target=self._run, name="merganser-fetch", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._handover is not None:
            with _cancel.calling(self._cancel):
                yield from self._handover.batches(self._source.schema)

    def _cancel(self) -> None:
        self._started.wait()
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):
                # The loop may be over.
                self._loop.call_soon_threadsafe(self._task.cancel)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._download())
        except asyncio.CancelledError:
            error = QueryCancelled("the fetch was cancelled", {"code": "CANCELLED"})
        except BaseException as caught:
            error = caught
        if self._handover is not None:
            self._handover.end(error)

    async def _download(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._handover = Handover(Room(self._limits.concurrency, self._limits.disk_bytes), self._tally)
        self._started.set()
        async with Api(self._account, self._limits, self._tally) as api:
            await self._source.run(api, self._handover)
