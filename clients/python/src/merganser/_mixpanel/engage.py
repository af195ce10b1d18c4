"""The engage API: profiles, in pages of one query."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from merganser._mixpanel.api import Api, shown
from merganser._mixpanel.attempt import BrokenError
from merganser._mixpanel.body import pieces_of
from merganser._mixpanel.handover import Handover
from merganser._mixpanel.limits import ENGAGE_CONCURRENCY, PAGE_BYTES_MAX
from merganser._mixpanel.members import LineError
from merganser._mixpanel.parallel import for_each
from merganser._mixpanel.rows import PROFILES, ProfileRows
from merganser._mixpanel.spool import Spool


class _Page(msgspec.Struct):
    """A page; only the first one needs to tell of the whole query."""

    results: list[msgspec.Raw]
    page: int
    page_size: int = 0
    session_id: str | None = None
    total: int | None = None


_decode_page = msgspec.json.Decoder(_Page).decode


@dataclass(frozen=True)
class _Query:
    """What the first page says of the query."""

    session_id: str
    page_size: int
    pages: int


@dataclass(frozen=True)
class Engage:
    """The profiles that fit."""

    where: str | None
    cohort_id: int | None
    output_properties: Sequence[str] | None

    schema = PROFILES

    async def run(self, api: Api, handover: Handover) -> None:
        """Gets the first page, which says how many there are, then the others, and hands each over."""
        await handover.place()
        first, spool = await api.get("page 0", lambda: self._download(api, handover, None, 0))
        query = _query_of(first)
        api.tally.expect(query.pages)
        handover.give(spool)

        async def work(page: int) -> None:
            await handover.place()
            _, spool = await api.get(f"page {page}", lambda: self._download(api, handover, query, page))
            handover.give(spool)

        concurrency = min(api.limits.concurrency, ENGAGE_CONCURRENCY)
        await for_each(range(1, query.pages), concurrency, work)

    def _form(self, query: _Query | None, page: int) -> dict[str, str]:
        form: dict[str, str] = {}
        if self.where:
            form["where"] = self.where
        if self.cohort_id is not None:
            form["filter_by_cohort"] = json.dumps({"id": self.cohort_id})
        if self.output_properties:
            form["output_properties"] = json.dumps(list(self.output_properties))
        if query is not None:
            form |= {"session_id": query.session_id, "page": str(page)}
        return form

    async def _download(self, api: Api, handover: Handover, query: _Query | None, page: int) -> tuple[_Page, Spool]:
        body = bytearray()
        account = api.account
        request = {"params": {"project_id": account.project_id}, "data": self._form(query, page)}
        answer = api.answer("POST", account.hosts.engage, **request)
        async with answer as response, aclosing(pieces_of(response)) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > PAGE_BYTES_MAX:
                    raise BrokenError(f"the page is bigger than {PAGE_BYTES_MAX >> 20} MiB")
            size = response.num_bytes_downloaded
        found = _read(bytes(body), query, page)
        rows = ProfileRows()
        for number, profile in enumerate(found.results, 1):
            try:
                rows.push(bytes(profile))
            except LineError as error:
                raise BrokenError(f"result {number} is no profile: {error}") from None
        spool = handover.spool(rows)
        try:
            await spool.finish()
        except BaseException:
            spool.close()
            raise
        api.tally.downloaded(spool.rows, size)
        return found, spool


def _read(body: bytes, query: _Query | None, page: int) -> _Page:
    """The page that was asked for; each but the last one is full."""
    try:
        found = _decode_page(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise BrokenError(f"the answer is no page of profiles: {shown(body[:4096])}") from None
    if found.page != page:
        raise BrokenError(f"the answer is page {found.page}, and not {page}")
    query = query or _query_of(found)
    if page < query.pages - 1 and len(found.results) < query.page_size:
        raise BrokenError(f"the page has {len(found.results):,} of {query.page_size:,} profiles")
    return found


def _query_of(first: _Page) -> _Query:
    if first.total is None:
        raise BrokenError("the first page does not say how many profiles there are")
    pages = max(1, -(-first.total // max(first.page_size, 1)))
    if pages > 1 and not (first.session_id and first.page_size > 0):
        raise BrokenError("the first page does not say how to ask for the next one")
    return _Query(first.session_id or "", first.page_size, pages)
