"""The bound on what a fetch has on the disk: it is waited at, nothing stands still, and a day that is bigger goes through."""

import asyncio
import contextlib

import pytest

from merganser._mixpanel.credentials import Credentials
from merganser._mixpanel.fetch import Fetch
from merganser._mixpanel.limits import FetchLimits
from merganser._mixpanel.room import Room
from merganser._mixpanel.tally import Tally
from workspace.stand_in import StandIn
from workspace.support import ACCOUNT, download, engage, export, hosts_of, rows_of


async def is_done(waiting):
    """Whether it has what it waits for, once all that can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)
    return waiting.done()


def test_downloads_wait_for_what_is_whole():
    async def main():
        room = Room(8, 100)
        first, second = room.share(), room.share()
        first.bytes, second.bytes = 80, 20
        room.whole(first)
        more = asyncio.ensure_future(room.more(second))
        assert not await is_done(more)
        room.free(first)
        assert await is_done(more)
        assert room.bytes == 20

    asyncio.run(main())


def test_the_first_goes_on_while_none_is_whole():
    async def main():
        room = Room(8, 100)
        shares = [room.share() for _ in range(3)]
        for share in shares:
            share.bytes = 40
        waiting = [asyncio.ensure_future(room.more(share)) for share in shares]
        assert [await is_done(more) for more in waiting] == [True, False, False]
        # An attempt that breaks is no longer the first, and there is room now for the others.
        room.free(shares[0])
        assert [await is_done(more) for more in waiting] == [True, True, True]
        shares[1].bytes = 200
        assert [await is_done(asyncio.ensure_future(room.more(share))) for share in shares[1:]] == [True, False]
        room.whole(shares[1])
        third = asyncio.ensure_future(room.more(shares[2]))
        assert not await is_done(third)
        room.free(shares[1])
        assert await is_done(third)

    asyncio.run(main())


def test_a_download_that_would_have_to_wait_does_not_begin():
    async def main():
        room = Room(8, 100)
        for _ in range(2):
            await room.place()
        first = room.share()
        first.bytes = 40
        room.whole(first)
        third = asyncio.ensure_future(room.place())
        assert not await is_done(third)
        room.free(first)
        room.leave()
        assert await is_done(third)

    asyncio.run(main())


def test_parts_without_rows_have_places_only():
    async def main():
        room = Room(2, 1)
        for _ in range(2):
            await room.place()
            room.whole(room.share())
        third = asyncio.ensure_future(room.place())
        assert not await is_done(third)
        room.leave()
        assert await is_done(third)

    asyncio.run(main())


class Watched(Room):
    """Notes the most bytes that it had, and the most parts that were not empty."""

    peak = parts = biggest = 0

    def whole(self, share):
        Watched.biggest = max(Watched.biggest, share.bytes)
        super().whole(share)

    async def more(self, share):
        await super().more(share)
        Watched.peak = max(Watched.peak, self.bytes)
        Watched.parts = max(Watched.parts, sum(other.bytes > 0 for other in self._shares))


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr("merganser._mixpanel.fetch.Room", Watched)
    monkeypatch.setattr("merganser._mixpanel.rows.BATCH_ROWS", 100)
    Watched.peak = Watched.parts = Watched.biggest = 0
    return Watched


@pytest.mark.parametrize("days", [1, 2])
def test_the_limit_holds_for_all_days_but_one(watched, days):
    with StandIn(events=20_000, days=10) as server:
        download(server, export(server))
        day, watched.peak = watched.biggest, 0
        limit = day * days
        limits = FetchLimits(concurrency=8, per_second=10_000, disk_bytes=limit)
        table, tally = download(server, export(server), limits)
        assert table.sort_by("insert_id").equals(rows_of(server))
        assert (tally.parts_done, tally.retries) == (10, 0)
        # A batch may go over the limit, and then one day goes on.
        assert 0 < watched.peak <= limit + day * 1.5


def test_days_that_are_bigger_than_the_limit_come_one_after_the_other(watched):
    with StandIn(events=5000, days=5) as server:
        table, tally = download(server, export(server), FetchLimits(per_second=10_000, disk_bytes=1))
        assert table.sort_by("insert_id").equals(rows_of(server))
        assert (tally.parts_done, tally.retries) == (5, 0)
        # The first batch may be another one's, which waits while the first to begin goes on.
        assert watched.peak < watched.biggest * 2


def test_what_breaks_while_others_wait_is_tried_again(watched):
    script = {f"2024-01-0{day}": ["truncated gzip", "reset half-way"] for day in range(1, 6)}
    with StandIn(events=5000, days=5, script=script) as server:
        limits = FetchLimits(per_second=10_000, backoff=0.01, disk_bytes=1)
        table, tally = download(server, export(server), limits)
        assert table.sort_by("insert_id").equals(rows_of(server))
        assert tally.retries >= 10


def test_pages_of_profiles_wait_as_days_do(watched):
    with StandIn(profiles=500, page_size=50) as server:
        table, tally = download(server, engage(), FetchLimits(per_second=10_000, disk_bytes=1))
        assert (table.num_rows, tally.parts_done) == (500, 10)
        assert watched.parts <= 1


def test_nothing_more_is_asked_for_while_the_disk_is_full():
    with StandIn(events=4000, days=20) as server, hosts_of(server):
        fetch = Fetch(export(server), Credentials(**ACCOUNT).resolve({}), FetchLimits(per_second=50, disk_bytes=1), Tally())
        with contextlib.closing(fetch):
            reader = fetch.reader()
            assert reader.read_next_batch().num_rows == 200
            asked = len(server.requests)
            assert asked < 20
            reader.read_next_batch()
            # The first day was done only now; those that had begun beside it are the only ones.
            assert len(server.requests) <= asked + 8
            assert sum(batch.num_rows for batch in reader) == 3600


def test_a_fetch_that_waits_for_the_disk_ends_when_it_is_closed(tmp_path):
    with StandIn(events=4000, days=4) as server, hosts_of(server):
        fetch = Fetch(export(server), Credentials(**ACCOUNT).resolve({}), FetchLimits(per_second=10_000, disk_bytes=1), Tally())
        fetch.reader().read_next_batch()
        fetch.close()
        assert list(tmp_path.iterdir()) == []


def test_a_limit_is_more_than_nothing():
    with pytest.raises(ValueError, match="disk_bytes must be more than 0"):
        FetchLimits(disk_bytes=0)
