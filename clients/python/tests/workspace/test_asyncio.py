"""The asynchronous workspace: the same calls with the same answers, and cancellation that holds."""

import asyncio
import inspect
import threading
import time

import pytest
from support import Server

from merganser import FetchError, StorageEngine, TableExistsError, Workspace
from merganser._mixpanel.credentials import Credentials
from merganser._mixpanel.limits import FetchLimits
from merganser.asyncio import AsyncStorageEngine, AsyncWorkspace
from workspace.stand_in import StandIn
from workspace.support import ACCOUNT, LIMITS, hosts_of

DAYS = {"from_date": "2024-01-01", "to_date": "2024-01-05", "progress": False}
MIXPANEL = {"credentials": Credentials(**ACCOUNT), "limits": LIMITS}
ENDLESS = "SELECT count(*) FROM range(1000000000000)"


def run(work, **stand_in):
    async def main(server):
        async with await AsyncWorkspace.memory(**MIXPANEL) as ws:
            await work(ws, server)

    with StandIn(**({"events": 2000} | stand_in)) as server, hosts_of(server):
        asyncio.run(main(server))


@pytest.mark.parametrize(
    ("twin", "of", "without"),
    [
        (AsyncWorkspace, Workspace, set()),
        # The first is `open` there; the others are names that the replaced engine had.
        (AsyncStorageEngine, StorageEngine, {"open_existing", "cleanup", "execute_rows_params"}),
    ],
)
def test_a_twin_has_the_same_calls(twin, of, without):
    calls = {name: method for name, method in vars(of).items() if not name.startswith("_") and not isinstance(method, property)}
    missing = {name for name in calls if not hasattr(twin, name)}
    assert missing == without
    for name in calls.keys() - missing:
        theirs, ours = inspect.signature(getattr(twin, name)), inspect.signature(getattr(of, name))
        assert theirs.parameters == ours.parameters, name


def test_calls():
    async def work(ws, _server):
        fetched = await ws.fetch_events("e", **DAYS)
        assert (fetched.rows, fetched.requests) == (2000, 5)
        assert (await ws.fetch_events("e", **DAYS, append=True)).rows == 0
        assert (await ws.fetch_profiles("people", output_properties=["$name"], progress=False)).rows == 2500
        again = await ws.fetch_profiles("people", append=True, on_duplicate="replace", progress=False)
        assert again.rows == 2500
        with pytest.raises(TableExistsError):
            await ws.fetch_events("e", **DAYS)
        here = ws.workspace
        assert (await ws.sql("FROM e ORDER BY insert_id")).equals(here.sql("FROM e ORDER BY insert_id"))
        assert await ws.sql_scalar("SELECT count(*) FROM e WHERE event_name = ?", ["checkout"]) == 400
        assert (await ws.sql_rows("SELECT 1 AS a")).to_dicts() == [{"a": 1}]
        assert [table.name for table in await ws.tables()] == ["e", "people"]
        assert await ws.schema("e") == here.schema("e")
        assert len(await ws.sample("e", 3)) == 3
        assert await ws.summarize("people") == here.summarize("people")
        assert await ws.events("e") == here.events("e")
        assert await ws.property_keys("e", event="checkout") == here.property_keys("e")
        assert await ws.property_values("e", "amount", limit=2) == here.property_values("e", "amount", limit=2)
        assert await ws.column_stats("e", "distinct_id", top=2) == here.column_stats("e", "distinct_id", top=2)
        assert await ws.storage.table_exists("people")
        await ws.drop("e", "people")
        assert await ws.tables() == []

    run(work)


def test_a_workspace_of_ones_own(tmp_path):
    async def main(uri):
        makers = [
            AsyncWorkspace.ephemeral(),
            AsyncWorkspace.memory(),
            AsyncWorkspace.open(tmp_path / "w.duckdb"),
            AsyncWorkspace.open(tmp_path / "w.duckdb", read_only=True),
            AsyncWorkspace.connect(uri),
        ]
        for made in makers:
            async with await made as ws:
                assert (await ws.sql("SELECT 1 AS one"))["one"].tolist() == [1]

    with Server(tmp_path, "--memory") as server:
        asyncio.run(main(server.uri))


def test_queries_run_beside_a_fetch():
    async def work(ws, server):
        fetch = asyncio.ensure_future(ws.fetch_events("e", **DAYS))
        assert await asyncio.gather(*(ws.sql_scalar("SELECT ?", [number]) for number in range(40))) == list(range(40))
        assert not fetch.done()
        server.stopping.set()
        assert (await fetch).rows == 2000

    run(work, script={"2024-01-03": ["stall before"]})


def test_who_cancels_a_fetch_stores_nothing():
    async def work(ws, server):
        began = time.monotonic()
        fetch = asyncio.ensure_future(ws.fetch_events("e", **DAYS))
        while len(server.requests) < 5:
            await asyncio.sleep(0.01)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        assert time.monotonic() - began < 20
        assert "merganser-fetch" not in [thread.name for thread in threading.enumerate()]
        assert not await ws.storage.table_exists("e")

    run(work, script={"2024-01-03": ["stall before"]})


def test_who_cancels_a_query_cancels_it_at_the_server():
    async def work(ws, _server):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ws.sql_scalar(ENDLESS), 0.5)
        client = ws.storage.engine._client
        # It is told to end, and does so when it hears of it.
        deadline = time.monotonic() + 20
        while [query for query in client.action("list_queries") if "range" in query.get("text", "")]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    run(work)


def test_a_fetch_that_fails_is_told():
    async def work(ws, _server):
        limits = FetchLimits(attempts=2, per_second=10_000, backoff=0.01)
        other = AsyncWorkspace(Workspace(ws.workspace.storage, credentials=Credentials(**ACCOUNT), limits=limits))
        with pytest.raises(FetchError) as caught:
            await other.fetch_events("e", **DAYS)
        assert (caught.value.part, caught.value.attempts) == ("2024-01-02", 2)
        assert await other.tables() == []

    run(work, script={"2024-01-02": ["500"] * 2})
