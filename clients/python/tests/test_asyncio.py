"""The asynchronous engine: the same answers, side by side, and cancellation that holds."""

import asyncio
import time

import pytest
from support import event

from merganser import QueryError
from merganser.asyncio import AsyncStorageEngine

ENDLESS = "SELECT count(*) FROM range(1000000000000)"


def run(work):
    async def main():
        async with await AsyncStorageEngine.memory() as engine:
            await work(engine)

    asyncio.run(main())


def test_calls():
    async def work(engine):
        assert await engine.create_events_table("ev", [event(1), event(2)]) == 2
        assert await engine.append_events_table("ev", [event(2), event(3)]) == 1
        assert await engine.append_events_table("ev", [event(2)], on_duplicate="replace") == 1
        assert await engine.execute_scalar("SELECT count(*) FROM ev WHERE insert_id <> ?", ["evt_1"]) == 2
        relation = (await engine.execute("FROM ev")).filter("insert_id <> 'evt_1'").project("insert_id").order("1 DESC")
        assert await relation.fetchall() == [("evt_3",), ("evt_2",)]
        assert (await relation.limit(1).df())["insert_id"].tolist() == ["evt_3"]
        assert (await relation.arrow()).num_rows == (await relation.pl()).height == 2
        assert await (await engine.execute("FROM ev")).aggregate("count(*)").fetchone() == (3,)
        assert [row async for row in _each(await engine.execute_rows("SELECT 1 AS a"))] == [(1,)]
        assert [table.name for table in await engine.list_tables()] == ["ev"]
        assert (await engine.get_metadata("ev")).row_count == 3
        assert (await engine.get_schema("ev")).kind == "events"
        await engine.drop_table("ev")
        assert not await engine.table_exists("ev")
        with pytest.raises(QueryError):
            await engine.execute_df("SELEC 1")

    run(work)


async def _each(rows):
    for row in rows:
        yield row


def test_an_asynchronous_source():
    async def source(rows, end=None):
        for number in range(rows):
            if number % 100 == 0:
                await asyncio.sleep(0)
            yield event(number)
        if end:
            raise end

    async def work(engine):
        told = []
        assert await engine.create_events_table("ev", source(2500), progress_callback=told.append) == 2500
        assert told == [1000, 2000, 2500]
        with pytest.raises(ConnectionError):
            await engine.create_events_table("other", source(2500, ConnectionError()))
        assert not await engine.table_exists("other")

    run(work)


def test_calls_run_side_by_side():
    async def work(engine):
        endless = asyncio.ensure_future(engine.execute_scalar(ENDLESS))
        answers = await asyncio.gather(*(engine.execute_scalar("SELECT ?", [number]) for number in range(20)))
        assert answers == list(range(20))
        assert not endless.done()
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless

    run(work)


async def running(engine):
    return [query for query in engine.engine._client.action("list_queries") if "range" in query.get("text", "")]


async def nothing_runs(engine):
    """The server hears of a cancel, and ends the query, soon after the client has."""
    deadline = time.monotonic() + 10
    while await running(engine) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return await running(engine) == []


def test_who_cancels_a_query_cancels_it_at_the_server():
    async def work(engine):
        started = time.monotonic()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(engine.execute_scalar(ENDLESS), 0.5)
        assert await nothing_runs(engine)
        task = asyncio.ensure_future((await engine.execute(ENDLESS)).arrow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await nothing_runs(engine)
        assert time.monotonic() - started < 30

    run(work)


def test_who_cancels_an_ingest_stores_nothing():
    async def endless():
        number = 0
        while True:
            await asyncio.sleep(0)
            yield event(number)
            number += 1

    def rows():
        number = 0
        while True:
            yield event(number)
            number += 1

    async def work(engine):
        for source in (endless(), rows()):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(engine.create_events_table("ev", source, batch_size=1000), 0.5)
            assert not await engine.table_exists("ev")
        assert await engine.create_events_table("ev", [event(1)]) == 1

    run(work)
