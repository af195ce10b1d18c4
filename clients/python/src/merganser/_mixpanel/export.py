"""The raw export: the events of a range of days, as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, timedelta

from merganser._mixpanel.api import Api, shown
from merganser._mixpanel.attempt import BrokenError
from merganser._mixpanel.body import lines_of
from merganser._mixpanel.handover import Handover
from merganser._mixpanel.members import LineError
from merganser._mixpanel.parallel import for_each
from merganser._mixpanel.rows import EVENTS, EventRows
from merganser._mixpanel.spool import Spool


@dataclass(frozen=True)
class Span:
    """Days that one request is for, the last one included."""

    first: date
    last: date

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def spans(first: date, last: date, requests: int) -> list[Span]:
    """The days from ``first`` to ``last``, each a span, or, if they are more than ``requests``, in that many spans at most."""
    days = (last - first).days + 1
    length = -(-days // requests)
    starts = (first + timedelta(days=offset) for offset in range(0, days, length))
    return [Span(start, min(start + timedelta(days=length - 1), last)) for start in starts]


@dataclass(frozen=True)
class Export:
    """The events from ``first`` to ``last``, as the project's time zone has the days."""

    first: date
    last: date
    events: Sequence[str] | None
    where: str | None

    schema = EVENTS

    async def run(self, api: Api, handover: Handover) -> None:
        """Gets all of them, several days at a time, and hands each over when it is whole."""
        parts = spans(self.first, self.last, api.limits.requests)
        api.tally.expect(len(parts))

        async def work(span: Span) -> None:
            await handover.place()
            handover.give(await api.get(str(span), lambda: self._download(api, handover, span)))

        await for_each(parts, min(api.limits.concurrency, len(parts)), work)

    def _query(self, api: Api, span: Span) -> dict[str, str]:
        query = {"project_id": api.account.project_id, "from_date": str(span.first), "to_date": str(span.last)}
        if self.events:
            query["event"] = json.dumps(list(self.events))
        if self.where:
            query["where"] = self.where
        return query

    async def _download(self, api: Api, handover: Handover, span: Span) -> Spool:
        rows = EventRows()
        spool = handover.spool(rows)
        try:
            url = api.account.hosts.export
            number = 0
            request = api.answer("GET", url, params=self._query(api, span))
            async with request as response, aclosing(lines_of(response)) as blocks:
                async for lines in blocks:
                    for line in lines:
                        number += 1
                        if line and not line.isspace():
                            _push(rows, line, number)
                    await spool.write_if_full()
                size = response.num_bytes_downloaded
            await spool.finish()
        except BaseException:
            spool.close()
            raise
        api.tally.downloaded(spool.rows, size)
        return spool


def _push(rows: EventRows, line: bytes, number: int) -> None:
    try:
        rows.push(line)
    except LineError as error:
        # The export has no other way to say that it cannot go on: it says so in the place of an event.
        is_said = not line.lstrip().startswith(b"{") or b'"error"' in line[:200]
        reason = f"Mixpanel says {shown(line)}" if is_said else str(error)
        raise BrokenError(f"line {number} is no event: {reason}") from None
