"""Several tasks on the items of one list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")


async def for_each(items: Iterable[_T], concurrency: int, work: Callable[[_T], Awaitable[None]]) -> None:
    """Does ``work`` on each item, on so many at a time. The first error ends all that runs, and is raised."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    workers = [asyncio.create_task(worker()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
