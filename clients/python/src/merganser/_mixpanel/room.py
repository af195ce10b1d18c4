"""The disk that a fetch may have: so many parts, and so many bytes. What is not there is waited for.

A download that waits half-way keeps its connection, which the other side may end: that costs an attempt. So none begins that
would have to wait if it were as big as the ones before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class Share:
    """What one attempt to download a part has of the disk."""

    def __init__(self) -> None:
        self.bytes = 0
        self.is_whole = False


class Room:
    """The disk of one fetch. Its calls are the loop's, but for ``leave`` and ``free``, which any thread may call.

    It never holds more bytes than ``size`` and the batch that went over it, except for one part: when all are full, and none is
    whole so that sending it would help, the one that began first goes on.
    """

    def __init__(self, places: int, size: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._places = places
        self._size = size
        self._taken = 0
        # As they began.
        self._shares: list[Share] = []
        self._changed = asyncio.Event()
        # Of the parts that were whole, up to now.
        self._whole = 0
        self._whole_bytes = 0

    @property
    def bytes(self) -> int:
        """Those that are taken."""
        return sum(share.bytes for share in self._shares)

    async def place(self) -> None:
        """Waits for a place for one more part, and takes it."""
        await self._until(self._has_place)
        self._taken += 1

    def leave(self) -> None:
        """Gives a place back."""
        self._soon(self._leave)

    def share(self) -> Share:
        """The share of a download that begins."""
        share = Share()
        self._shares.append(share)
        return share

    async def more(self, share: Share) -> None:
        """Waits until a share may grow by a batch."""
        await self._until(lambda: self.bytes < self._size or self._goes_on(share))

    def whole(self, share: Share) -> None:
        """A share will not grow any more, and waits to be sent."""
        share.is_whole = True
        self._whole += 1
        self._whole_bytes += share.bytes
        self._changed.set()

    def free(self, share: Share) -> None:
        """Gives the bytes of a share back."""
        self._soon(self._free, share)

    def _has_place(self) -> bool:
        if not self._taken:
            return True
        waiting = [share.bytes for share in self._shares if share.is_whole]
        coming = self._taken - len(waiting) + 1
        usual = self._whole_bytes // max(self._whole, 1)
        is_room = self.bytes < self._size and sum(waiting) + coming * usual <= self._size
        return self._taken < self._places and is_room

    def _goes_on(self, share: Share) -> bool:
        return share is self._shares[0] and not any(other.is_whole for other in self._shares)

    def _leave(self) -> None:
        self._taken -= 1
        self._changed.set()

    def _free(self, share: Share) -> None:
        if share in self._shares:
            self._shares.remove(share)
            self._changed.set()

    def _soon(self, call: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):
            # The loop may be over.
            self._loop.call_soon_threadsafe(call, *arguments)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed.clear()
            await self._changed.wait()
