"""Calls that run in threads, and what asynchronous sources give them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from merganser import _cancel
from merganser._client import CONNECTIONS_MAX

_T = TypeVar("_T")

ROWS_AT_ONCE = 512
"""Rows that are taken from an asynchronous source before the thread that sends them goes on."""
_ASK_SECONDS = 0.05


class Calls:
    """The threads that calls run in."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(CONNECTIONS_MAX, thread_name_prefix="merganser")

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    async def run(self, call: Callable[..., _T], /, *arguments: Any, **named: Any) -> _T:
        """Runs a call in a thread. Who cancels it waits until it has ended: nothing goes on behind one's back."""
        cancellation = _cancel.Cancellation()
        context = contextvars.copy_context()
        context.run(_cancel.current.set, cancellation)
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: context.run(call, *arguments, **named))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # Asked again until it ends: a statement that has not quite begun does not hear.
            while not future.done():
                cancellation.ask()
                await asyncio.wait([future], timeout=_ASK_SECONDS)
            if not future.cancelled():
                # Nobody is there to hear of it.
                future.exception()
            raise


def rows_of(source: AsyncIterable[Any], loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    """The rows of an asynchronous source, for a thread."""
    rows = source.__aiter__()

    async def some() -> tuple[Sequence[Any], bool]:
        taken: list[Any] = []
        while len(taken) < ROWS_AT_ONCE:
            try:
                taken.append(await rows.__anext__())
            except StopAsyncIteration:
                return taken, True
        return taken, False

    ended = False
    while not ended:
        future = asyncio.run_coroutine_threadsafe(some(), loop)
        with _cancel.calling(future.cancel):
            taken, ended = future.result()
        yield from taken
