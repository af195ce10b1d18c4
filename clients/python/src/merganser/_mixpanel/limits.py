"""What bounds a fetch."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class FetchLimits:
    """What bounds a fetch. The defaults fit Mixpanel's own limits: 60 requests an hour, 3 a second."""

    concurrency: int = 8
    """Days that are downloaded at a time, or are on the disk and wait for the server. Pages of profiles: at most 5."""
    disk_bytes: int = 4 << 30
    """Bytes of these days on the disk, compressed. At the limit, downloads wait until the server has taken some. When none of
    these days is whole then, the one that began first goes on alone, and so a single day may be bigger than the limit."""
    attempts: int = 8
    """How often a day or page is tried before the fetch fails."""
    requests: int = 48
    """Requests that a range of days is cut into: a range of more days has several days in each."""
    per_second: float = 3.0
    """Requests that begin in a second."""
    backoff: float = 1.0
    """Seconds before the second attempt; they double with each one more, and vary by a fifth."""
    wait: float = 300.0
    """The longest wait before an attempt, in seconds. When Mixpanel asks for a longer one, the fetch fails."""
    stall: float = 60.0
    """Seconds without a byte after which an attempt has failed; also those that connecting may take."""

    def __post_init__(self) -> None:
        """Refuses limits that are no numbers above 0."""
        for limit in fields(self):
            if not getattr(self, limit.name) > 0:
                raise ValueError(f"FetchLimits: {limit.name} must be more than 0, not {getattr(self, limit.name)!r}")


# Bounds that nobody needs to set.
BATCH_ROWS = 16_384
"""Rows in a batch, at most."""
BATCH_BYTES = 8 << 20
"""Bytes of lines in a batch, about."""
LINE_BYTES_MAX = 64 << 20
"""The longest line, as the program's own import has it."""
PAGE_BYTES_MAX = 256 << 20
"""The biggest page of profiles."""
INFLATE_BYTES = 1 << 20
"""What a piece of a compressed answer becomes at a time, at most."""
ENGAGE_CONCURRENCY = 5
"""Mixpanel answers no more queries for profiles at a time."""
KEEP_ALIVE_SECONDS = 20.0
"""How often the server gets an empty batch while there are no rows: it ends a stream that is silent for long."""
