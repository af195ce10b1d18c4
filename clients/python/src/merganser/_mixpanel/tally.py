"""How far a fetch is. The loop's thread counts; a bar shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Watcher(Protocol):
    """Shows how far a fetch is."""

    def update(self, tally: Tally) -> None:
        """Called when something was counted."""
        ...


@dataclass
class Tally:
    """How far a fetch is."""

    watcher: Watcher | None = None
    parts: int = 0
    """Days, or pages, that there are; 0 while it is not known."""
    parts_done: int = 0
    """Those whose rows the server has."""
    rows: int = 0
    """Rows downloaded, those of attempts that failed later not counted."""
    bytes: int = 0
    """Bytes of whole answers, as they came."""
    retries: int = 0
    last_retry: str = ""
    """What the last retry was for."""

    def expect(self, parts: int) -> None:
        """There are so many parts."""
        self.parts = parts
        self._changed()

    def downloaded(self, rows: int, size: int) -> None:
        """A part is on the disk."""
        self.rows += rows
        self.bytes += size
        self._changed()

    def done(self) -> None:
        """The server has the rows of a part."""
        self.parts_done += 1
        self._changed()

    def retry(self, part: str, reason: str, wait: float) -> None:
        """A part will be tried again."""
        self.retries += 1
        self.last_retry = f"{part}: {reason}; again in {wait:.0f} s"
        self._changed()

    def _changed(self) -> None:
        if self.watcher is not None:
            self.watcher.update(self)
