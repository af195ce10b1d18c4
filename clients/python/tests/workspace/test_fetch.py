"""Downloads from the stand-in: whole or failed, whatever it does. No server of ours takes part."""

import gc
import threading
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from merganser import QueryCancelled, _cancel
from merganser._mixpanel.credentials import Credentials
from merganser._mixpanel.errors import FetchAuthError, FetchError
from merganser._mixpanel.export import spans
from merganser._mixpanel.fetch import Fetch
from merganser._mixpanel.limits import FetchLimits
from merganser._mixpanel.tally import Tally
from workspace import stand_in as mixpanel
from workspace.stand_in import StandIn
from workspace.support import ACCOUNT, LIMITS, download, engage, export, hosts_of, rows_of

SECOND_DAY = "2024-01-02"


def patience(fault):
    """Limits that wait long for what comes, and not long for what does not."""
    stall = 1 if fault.startswith("stall") else 30
    return FetchLimits(concurrency=4, attempts=3, per_second=10_000, backoff=0.01, stall=stall)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_all_events_of_all_days():
    with StandIn() as server:
        table, tally = download(server, export(server))
        assert table.sort_by("insert_id").equals(rows_of(server))
        assert (tally.rows, tally.parts, tally.parts_done, tally.retries) == (5000, 5, 5, 0)
        assert tally.bytes < 5000 * 60
        [query] = {(request["project_id"], request.get("event"), request.get("where")) for request in server.requests}
        assert query == (mixpanel.PROJECT, None, None)
        assert sorted(request["from_date"] for request in server.requests) == [f"2024-01-0{day}" for day in range(1, 6)]


@pytest.mark.parametrize("fault", mixpanel.EXPORT_FAULTS)
def test_a_day_that_fails_is_tried_again(fault):
    with StandIn(events=1800, days=3, script={SECOND_DAY: [fault, fault]}) as server:
        table, tally = download(server, export(server), patience(fault))
        assert table.sort_by("insert_id").equals(rows_of(server))
        assert tally.retries == 2
        assert tally.rows == 1800
        assert server.faults == {fault: 2}


@pytest.mark.parametrize("fault", mixpanel.HARMLESS)
def test_what_is_odd_and_whole_is_taken(fault):
    with StandIn(events=1500, days=3, script={SECOND_DAY: [fault]}) as server:
        table, tally = download(server, export(server))
        assert tally.retries == 0
        assert server.faults == {fault: 1}
        ids = table["insert_id"].to_pylist()
        assert len(ids) == (2000 if fault == "events twice" else 1500)
        assert set(ids) == set(rows_of(server)["insert_id"].to_pylist())


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("429 with seconds", 429, "Mixpanel answered 429 Too Many Requests: Query rate limit exceeded"),
        ("500", 500, "Mixpanel answered 500 Internal Server Error: Internal error"),
        ("502 in HTML", 502, "Mixpanel answered 502 Bad Gateway: <html> <h1>Bad Gateway</h1></html>"),
        ("closed before", None, "the connection broke: Server disconnected without sending a response."),
        ("reset half-way", None, "the connection broke: [Errno 104] Connection reset by peer"),
        ("stall before", None, "nothing has come for 1 s"),
        ("stall half-way", None, "nothing has come for 1 s"),
        ("not HTTP", None, "the connection broke: "),
        ("200 with an error text", None, "line 1 is no event: Mixpanel says terminated early: too many rows"),
        ("200 with an error object", None, "line 1 is no event: Mixpanel says Unable to export"),
        ("truncated gzip", None, "the compressed answer ends too early"),
        ("damaged gzip", None, "the compressed answer is damaged"),
        ("no length", None, "the answer does not say where it ends"),
        ("cut within a line", None, "not JSON: Input data was truncated"),
        ("malformed line", None, "line 251 is no event: not JSON: "),
        ("error in the place of a line", None, "line 2 is no event: Mixpanel says terminated early: the query took"),
    ],
)
def test_a_day_that_always_fails_is_named_with_its_reason(fault, status, reason):
    with StandIn(events=1000, days=2, script={SECOND_DAY: [fault] * 3}) as server:
        with pytest.raises(FetchError) as caught:
            download(server, export(server), patience(fault))
        error = caught.value
        assert error.part == SECOND_DAY
        assert reason in error.reason
        assert (error.attempts, error.status) == (3, status)
        assert f"The fetch of {SECOND_DAY} failed, and nothing is stored: " in str(error)
        assert str(error).endswith(" (3 attempts).")
        assert server.faults == {fault: 3}


def test_a_server_that_is_not_there():
    with StandIn() as server:
        pass
    with pytest.raises(FetchError, match="cannot connect: "):
        download(server, export(server), FetchLimits(attempts=2, per_second=10_000, backoff=0.01))


@pytest.mark.parametrize(
    ("account", "status", "reason"),
    [({"secret": "wrong-secret"}, 401, "401 Unauthorized"), ({"project_id": 1}, 403, "may not read the project")],
)
def test_who_may_not_is_told_at_once_and_nothing_is_repeated(account, status, reason):
    with StandIn(days=1) as server:
        with pytest.raises(FetchAuthError, match=reason) as caught:
            download(server, export(server), **account)
        assert caught.value.status == status
        shown = f"{caught.value} {caught.value!r} {caught.value.details} {caught.value.__cause__!r}"
        assert "wrong-secret" not in shown
        assert mixpanel.SECRET not in shown
        assert mixpanel.USERNAME not in shown


def test_a_bad_request_is_not_repeated():
    with StandIn(days=1) as server:
        with pytest.raises(FetchError, match="Mixpanel answered 400 Bad Request: Invalid expression in where"):
            download(server, export(server, where="bad"))
        assert len(server.requests) == 0


def test_filters_are_sent():
    with StandIn() as server:
        table, _ = download(server, export(server, events=["checkout", "café ☕"], where='properties["plan"] == "paid"'))
        assert set(table["event_name"].to_pylist()) == {"checkout", "café ☕"}
        assert table.num_rows == 2000
        assert {request["where"] for request in server.requests} == {'properties["plan"] == "paid"'}


def test_the_api_is_left_alone_while_it_asks_for_that():
    with StandIn(days=8, script={"2024-01-01": ["429 with seconds"]}, retry_after=1) as server:
        began = time.monotonic()
        _, tally = download(server, export(server), FetchLimits(concurrency=1, per_second=10_000))
        assert 1 <= time.monotonic() - began < 30
        assert tally.last_retry.startswith("2024-01-01: Mixpanel answered 429")


def test_a_time_to_wait_until_is_understood():
    with StandIn(days=1, script={"2024-01-01": ["429 with a date"]}, retry_after=2) as server:
        began = time.monotonic()
        download(server, export(server))
        # It has whole seconds only.
        assert 0.9 <= time.monotonic() - began < 30


def test_a_wait_beyond_the_limit_fails_and_names_it():
    with StandIn(days=1, script={"2024-01-01": ["503"]}, retry_after=3600) as server:
        with pytest.raises(FetchError, match="to wait 3,600 s is asked for, and the limit `wait` is 300 s") as caught:
            download(server, export(server))
        assert caught.value.attempts == 1


def test_requests_begin_one_after_the_other():
    with StandIn(events=100, days=5) as server:
        began = time.monotonic()
        download(server, export(server), FetchLimits(per_second=10))
        assert time.monotonic() - began >= 0.4


def test_many_days_are_cut_into_few_requests():
    first = date(2024, 1, 1)
    assert [str(span) for span in spans(first, first, 48)] == ["2024-01-01"]
    for days in (1, 47, 48, 49, 96, 97, 366, 5000):
        last = first + timedelta(days=days - 1)
        cut = spans(first, last, 48)
        assert len(cut) <= 48
        assert [span.first for span in cut[1:]] == [span.last + timedelta(days=1) for span in cut[:-1]]
        assert (cut[0].first, cut[-1].last) == (first, last)
    with StandIn(events=1000, days=10) as server:
        table, tally = download(server, export(server), FetchLimits(requests=4, per_second=10_000))
        assert (table.num_rows, tally.parts) == (1000, 4)
        assert min(request["part"] for request in server.requests) == "2024-01-01 to 2024-01-03"


def test_days_without_events():
    with StandIn(events=3, days=5) as server:
        table, tally = download(server, export(server))
        assert (table.num_rows, tally.parts_done) == (3, 5)
    with StandIn(events=0, days=2) as server:
        assert download(server, export(server))[0].num_rows == 0


def test_at_most_so_many_days_are_on_the_disk():
    with StandIn(events=4000, days=20) as server, hosts_of(server):
        account = Credentials(**ACCOUNT).resolve({})
        fetch = Fetch(export(server), account, FetchLimits(concurrency=3, per_second=10_000), Tally())
        reader = fetch.reader()
        assert reader.read_next_batch().num_rows == 200
        time.sleep(0.5)
        assert len(server.requests) == 3
        fetch.close()


def test_what_nobody_reads_is_dropped_at_once():
    gc.collect()
    before, threads = open_files(), threading.active_count()
    with StandIn(script={SECOND_DAY: ["stall half-way"]}) as server, hosts_of(server):
        fetch = Fetch(export(server), Credentials(**ACCOUNT).resolve({}), FetchLimits(), Tally())
        reader = fetch.reader()
        reader.read_next_batch()
        began = time.monotonic()
        fetch.close()
        assert time.monotonic() - began < 15
        del reader
    gc.collect()
    deadline = time.monotonic() + 5
    while (open_files() > before or threading.active_count() > threads) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_files() <= before
    assert threading.active_count() <= threads


def test_a_fetch_whose_call_is_cancelled_ends():
    cancellation = _cancel.Cancellation()
    before = _cancel.current.set(cancellation)
    timer = threading.Timer(0.5, cancellation.ask)
    try:
        with StandIn(days=1, script={"2024-01-01": ["stall before"]}) as server, hosts_of(server):
            fetch = Fetch(export(server), Credentials(**ACCOUNT).resolve({}), FetchLimits(), Tally())
            timer.start()
            with pytest.raises(QueryCancelled):
                fetch.reader().read_all()
            fetch.close()
    finally:
        timer.cancel()
        _cancel.current.reset(before)


def test_nothing_is_asked_for_before_the_first_batch_is():
    with StandIn() as server, hosts_of(server):
        fetch = Fetch(export(server), Credentials(**ACCOUNT).resolve({}), LIMITS, Tally())
        fetch.reader()
        fetch.close()
        assert server.requests == []


def test_a_silent_api_does_not_make_the_stream_silent(monkeypatch):
    monkeypatch.setattr("merganser._mixpanel.handover.KEEP_ALIVE_SECONDS", 0.05)
    with StandIn(events=500, days=1, script={"2024-01-01": ["stall before"]}) as server, hosts_of(server):
        fetch = Fetch(export(server), Credentials(**ACCOUNT).resolve({}), FetchLimits(stall=2, backoff=0.01), Tally())
        rows = [batch.num_rows for batch in fetch.reader()]
        assert rows.count(0) >= 3
        assert sum(rows) == 500
        fetch.close()


def test_all_profiles_of_all_pages():
    with StandIn() as server:
        table, tally = download(server, engage(where='properties["a"]', cohort_id=7, output_properties=["$name"]))
        assert table.num_rows == 2500
        assert set(table["distinct_id"].to_pylist()) == {f"user-{number}" for number in range(2500)}
        first = table.sort_by("distinct_id").slice(0, 1).to_pylist()[0]
        assert first["properties"] == '{"$name": "N0","score": 0.10}'
        assert str(first["last_seen"]) == "2024-01-01 00:00:00+00:00"
        assert (tally.parts, tally.parts_done) == (3, 3)
        for request in server.requests:
            assert request["filter_by_cohort"] == '{"id": 7}'
            assert request["output_properties"] == '["$name"]'
            assert request["where"] == 'properties["a"]'


@pytest.mark.parametrize("profiles", [0, 1, 1000, 1001, 2000])
def test_pages_end_where_the_profiles_do(profiles):
    with StandIn(profiles=profiles) as server:
        table, tally = download(server, engage())
        assert table.num_rows == profiles
        assert tally.parts == max(1, -(-profiles // 1000))


@pytest.mark.parametrize("page", ["page 0", "page 1"])
@pytest.mark.parametrize("fault", mixpanel.ENGAGE_FAULTS)
def test_a_page_that_fails_is_tried_again(page, fault):
    with StandIn(profiles=120, page_size=50, script={page: [fault]}) as server:
        table, tally = download(server, engage(), patience(fault))
        assert sorted(table["distinct_id"].to_pylist()) == sorted(f"user-{number}" for number in range(120))
        assert tally.retries == 1
        assert server.faults == {fault: 1}


def test_events_without_an_id_get_the_same_one_each_time():
    with StandIn(events=1000, have_ids=False) as server:
        tables = [download(server, export(server))[0] for _ in range(2)]
        first, second = (sorted(table["insert_id"].to_pylist()) for table in tables)
        assert first == second
        assert len(set(first)) == 1000


def test_many_faults_at_a_time():
    limits = FetchLimits(attempts=30, per_second=10_000, backoff=0.01, stall=2)
    with StandIn(events=8_000, days=40, fault_rate=0.5, seed=3) as server:
        table, tally = download(server, export(server), limits)
        assert table.sort_by("insert_id").equals(rows_of(server))
        # A busy machine may add some of its own.
        assert tally.retries >= sum(server.faults.values())
        assert len(server.faults) >= 12
