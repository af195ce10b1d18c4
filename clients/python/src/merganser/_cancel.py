"""Cancelling what another thread does: the async engine's way to end a statement or an ingest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from contextvars import ContextVar

from merganser.errors import QueryCancelled


class Cancellation:
    """Asks the work of one call to end. It may be asked again: a statement that has not begun does not hear the first time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._ends: list[Callable[[], object]] = []

    def ask(self) -> None:
        """Ends what runs, and what would begin."""
        with self._lock:
            self._asked = True
            ends = list(self._ends)
        for end in ends:
            with contextlib.suppress(Exception):
                # It may just have ended by itself.
                end()

    def check(self) -> None:
        """Raises if it was asked."""
        if self._asked:
            raise QueryCancelled("the call was cancelled", {"code": "CANCELLED"})

    @contextlib.contextmanager
    def calling(self, end: Callable[[], object]) -> Generator[None]:
        """While the block runs, ``end`` is what ends it."""
        with self._lock:
            self._ends.append(end)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._ends.remove(end)


current: ContextVar[Cancellation | None] = ContextVar("merganser_cancellation", default=None)


def check() -> None:
    """Raises if the current call is to end."""
    if (cancellation := current.get()) is not None:
        cancellation.check()


def calling(end: Callable[[], object]) -> contextlib.AbstractContextManager[None]:
    """While the block runs, ``end`` is what ends it if the current call is to end."""
    cancellation = current.get()
    return cancellation.calling(end) if cancellation is not None else contextlib.nullcontext()
