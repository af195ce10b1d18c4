"""A workspace on a real server, with the stand-in for Mixpanel."""

import io
import json
import os
import subprocess
import threading
from datetime import date, datetime, timezone

import pytest
from rich.console import Console
from support import Server, profile

from merganser import AuthError, InvalidDataError, MerganserError, TableExistsError, TableNotFoundError
from merganser._mixpanel.bar import Bar
from merganser._mixpanel.credentials import Credentials
from merganser._mixpanel.errors import FetchAuthError, FetchError
from merganser._mixpanel.limits import FetchLimits
from merganser._mixpanel.tally import Tally
from merganser.workspace import Workspace
from workspace import stand_in as mixpanel
from workspace.stand_in import StandIn
from workspace.support import ACCOUNT, LIMITS, hosts_of

DAYS = {"from_date": "2024-01-01", "to_date": "2024-01-05", "progress": False}


@pytest.fixture
def api():
    with StandIn(events=2000) as server, hosts_of(server):
        yield server


@pytest.fixture
def ws(engine):
    return Workspace(engine, credentials=Credentials(**ACCOUNT), limits=LIMITS)


def test_events_are_fetched_into_a_table(ws, api):
    before = datetime.now(timezone.utc)
    result = ws.fetch_events("clicks", **DAYS)
    assert (result.table, result.type, result.rows, result.fetched_rows, result.retries) == ("clicks", "events", 2000, 2000, 0)
    assert (result.requests, result.from_date, result.to_date) == (5, "2024-01-01", "2024-01-05")
    assert before <= result.fetched_at <= datetime.now(timezone.utc)
    assert json.loads(json.dumps(result.to_dict()))["fetched_at"] == result.fetched_at.isoformat()
    row = ws.sql_rows("SELECT *, properties::VARCHAR AS text FROM clicks ORDER BY insert_id LIMIT 1").to_dicts()[0]
    assert (row["event_name"], row["distinct_id"], row["event_time"]) == ("sign up", "user-0", datetime(2024, 1, 1))
    assert row["text"] == (
        '{"$city":"Zürich","amount":0.50,"big":1152921504606846976,"device":{"os":"macOS","time":0},'
        '"note":"a \\"0\\" \\u00e9","plan":"free"}'
    )
    metadata = ws.storage.get_metadata("clicks")
    assert (metadata.type, metadata.row_count, metadata.from_date, metadata.to_date) == (
        "events",
        2000,
        "2024-01-01",
        "2024-01-05",
    )
    assert metadata.filter_events is metadata.filter_where is None
    assert abs((metadata.fetched_at - result.fetched_at).total_seconds()) < 0.001


def test_filters_are_in_the_metadata(ws, api):
    where = 'properties["plan"] == "paid"'
    result = ws.fetch_events(from_date=date(2024, 1, 1), to_date=datetime(2024, 1, 2, 12), events="checkout", where=where)
    metadata = ws.storage.get_metadata("events")
    assert list(metadata.filter_events) == ["checkout"]
    assert metadata.filter_where == where
    assert (metadata.from_date, metadata.to_date, result.rows) == ("2024-01-01", "2024-01-02", 160)


def test_appending_adds_what_is_new(ws, api):
    ws.fetch_events("e", **DAYS | {"to_date": "2024-01-02"})
    result = ws.fetch_events("e", **DAYS, append=True)
    assert (result.rows, result.fetched_rows) == (1200, 2000)
    assert ws.sql_scalar("SELECT count(*) FROM e") == 2000
    assert ws.storage.get_metadata("e").to_date == "2024-01-05"
    with pytest.raises(TableNotFoundError):
        ws.fetch_events("nowhere", **DAYS, append=True)


def test_events_without_ids_are_added_once(ws):
    with StandIn(events=500, days=5, have_ids=False) as server, hosts_of(server):
        assert ws.fetch_events("e", **DAYS).rows == 500
        assert ws.fetch_events("e", **DAYS, append=True).rows == 0


def test_a_table_that_is_there_costs_no_request(ws, api):
    ws.fetch_events("e", **DAYS)
    api.requests.clear()
    with pytest.raises(TableExistsError):
        ws.fetch_events("e", **DAYS)
    assert api.requests == []


def test_faults_lose_nothing_and_add_nothing(ws):
    faults = ["reset half-way", "429 with seconds", "truncated gzip", "cut within a line", "503", "malformed line"]
    script = {f"2024-01-0{day}": faults[day % 6 :] for day in range(1, 6)} | {"2024-01-02": ["events twice"]}
    with StandIn(events=3000, script=script) as server, hosts_of(server):
        result = ws.fetch_events("e", **DAYS)
        assert (result.rows, result.fetched_rows) == (3000, 3600)
        assert result.retries == sum(server.faults.values()) - 1
        assert ws.sql_scalar("SELECT count(DISTINCT insert_id) FROM e") == 3000


def test_a_fetch_that_fails_stores_nothing(ws):
    script = {"2024-01-04": ["500"] * 20}
    limits = FetchLimits(concurrency=1, attempts=2, per_second=10_000, backoff=0.01)
    with StandIn(events=2000, script=script) as server, hosts_of(server):
        once = Workspace(ws.storage, credentials=Credentials(**ACCOUNT), limits=limits)
        with pytest.raises(FetchError) as caught:
            once.fetch_events("e", **DAYS)
        assert isinstance(caught.value, MerganserError)
        assert caught.value.part == "2024-01-04"
        assert not ws.storage.table_exists("e")
        once.fetch_events("e", **DAYS | {"to_date": "2024-01-02"})
        with pytest.raises(FetchError):
            once.fetch_events("e", **DAYS, append=True)
        assert ws.sql_scalar("SELECT count(*) FROM e") == 800
        assert ws.storage.get_metadata("e").to_date == "2024-01-02"


def test_who_may_not_is_an_auth_error(ws, api):
    other = Workspace(ws.storage, credentials=Credentials(**ACCOUNT | {"secret": "wrong"}), limits=LIMITS)
    with pytest.raises(AuthError) as caught:
        other.fetch_events("e", **DAYS)
    assert isinstance(caught.value, FetchAuthError)
    assert not ws.storage.table_exists("e")


def test_bad_arguments_are_told_before_anything_is_asked(ws, api, monkeypatch):
    for arguments, message in [
        ({"from_date": "2024-1-1x"}, "from_date must be a day like 2024-01-31, not '2024-1-1x'"),
        ({"to_date": "2023-12-31"}, "from_date 2024-01-01 is after to_date 2023-12-31"),
        ({"events": []}, "events is empty"),
    ]:
        with pytest.raises(InvalidDataError, match=message):
            ws.fetch_events("e", **DAYS | arguments)
    with pytest.raises(InvalidDataError, match="cannot start with underscore"):
        ws.fetch_events("_e", **DAYS)
    for name in ("MP_USERNAME", "MP_SECRET", "MP_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FetchAuthError, match="MP_USERNAME, MP_SECRET, MP_PROJECT_ID"):
        Workspace(ws.storage).fetch_events("e", **DAYS)
    assert api.requests == []


def test_profiles_are_fetched_into_a_table(ws, api):
    result = ws.fetch_profiles("people", where="w", progress=False)
    assert (result.type, result.rows, result.requests, result.from_date) == ("profiles", 2500, 3, None)
    assert ws.sql_scalar("SELECT last_seen FROM people WHERE distinct_id = 'user-3'") == datetime(2024, 1, 4)
    assert ws.sql_scalar("SELECT properties::VARCHAR FROM people WHERE distinct_id = 'user-3'") == '{"$name": "N3","score": 3.10}'
    assert ws.storage.get_metadata("people").filter_where == "w"
    assert ws.fetch_profiles("people", append=True, progress=False).rows == 0


def test_profiles_that_are_known_are_replaced_if_they_are_to(ws):
    name = "SELECT properties->>'$.\"$name\"' FROM people WHERE distinct_id = 'user-3'"
    with StandIn(profiles=30, page_size=7) as server, hosts_of(server):
        ws.storage.create_profiles_table("people", [profile(3, distinct_id="user-3", properties={"$name": "old"})])
        assert ws.fetch_profiles("people", append=True, progress=False).rows == 29
        assert ws.sql_scalar(name) == "old"
        result = ws.fetch_profiles("people", append=True, on_duplicate="replace", progress=False)
        assert (result.rows, result.fetched_rows) == (30, 30)
        assert ws.sql_scalar(name) == "N3"
        assert ws.sql_scalar("SELECT count(*) FROM people") == 30


def test_events_that_are_known_are_replaced_if_they_are_to(ws, api):
    ws.fetch_events("e", **DAYS)
    ws.sql_rows("INSERT OR REPLACE INTO e SELECT * REPLACE ('old' AS event_name) FROM e")
    assert ws.fetch_events("e", **DAYS, append=True, on_duplicate="replace").rows == 2000
    assert "old" not in [count.event for count in ws.events("e")]


def test_a_fetch_that_is_interrupted_stores_nothing(ws):
    with StandIn(script={"2024-01-03": ["stall before"]}) as server, hosts_of(server):

        def interrupt(self, tally):
            if tally.parts_done == 4:
                raise KeyboardInterrupt

        class Impatient(Bar):
            update = interrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("merganser._mixpanel.bar.Bar", Impatient)
            with pytest.raises(KeyboardInterrupt):
                ws.fetch_events("e", **DAYS | {"progress": True})
        assert not ws.storage.table_exists("e")
        assert "merganser-fetch" not in [thread.name for thread in threading.enumerate()]


NASTY = [
    '{"event":"a","properties":{ "x" : 1.50 , "time":1704067200 ,"distinct_id":"d", "y":[1, 2] }}',
    '{"properties":{"distinct_id":12345678901234567890,"time":"2024-01-01T02:00:00+02:00","$insert_id":1.50},"event":"b","n": 2}',
    '{"event":"c","properties":{"t\\u0069me":1704067200123,"x":{"time":5,"$insert_id":"q"},"big":123456789012345678901234567890}}',
    '{"event":"\\u00e9 \\"q\\" ☕","properties":{"time":17e8,"distinct_id":null,"$insert_id":"","u":"\\ud83d\\ude00"}}',
    '{"event":"d","properties":{"time":-1,"distinct_id":"ü","a":1e5,"b":-0.0,"c":"","":{},"d":[{}]}}',
    '{"event":"d","properties":{"time":5,"time":6,"distinct_id":"x"},"properties":{"z":1}}',
    '{"event":"e","properties":{"time":1704067200.123456,"a":" \\u003c"}}',
]


def test_the_rows_are_those_that_the_program_makes_of_the_same_file(tmp_path, sample_events, monkeypatch):
    file = tmp_path / "events.ndjson"
    lines = [line.decode() for line in sample_events] + NASTY
    file.write_text("".join(f"{line}\n" for line in lines))
    with (
        StandIn(days=1, lines={"2024-01-01": lines}) as api,
        hosts_of(api, "eu"),
        Server(tmp_path, "--memory") as server,
        Workspace.connect(server.uri, credentials=Credentials(**ACCOUNT, region="eu")) as ws,
    ):
        result = ws.fetch_events("fetched", from_date="2024-01-01", to_date="2024-01-01", progress=False)
        subprocess.run(
            [os.environ["MERGANSER_BIN"], "ingest", str(file), "--table", "imported", "--server", server.uri, "--quiet"],
            check=True,
            timeout=60,
        )
        assert result.rows == ws.sql_scalar("SELECT count(*) FROM imported") == len(lines)
        columns = "event_name, event_time, distinct_id, insert_id, properties::VARCHAR"
        for one, other in (("fetched", "imported"), ("imported", "fetched")):
            assert ws.sql_rows(f"SELECT {columns} FROM {one} EXCEPT SELECT {columns} FROM {other}").rows == ()


def test_profiles_are_those_that_the_program_makes_of_the_same_file(tmp_path):
    with StandIn(profiles=30, page_size=7) as api, hosts_of(api), Server(tmp_path, "--memory") as server:
        file = tmp_path / "profiles.ndjson"
        file.write_text("".join(f"{mixpanel.profile_text(number)}\n" for number in range(30)))
        with Workspace.connect(server.uri, credentials=Credentials(**ACCOUNT), limits=LIMITS) as ws:
            ws.fetch_profiles("fetched", progress=False)
            subprocess.run(
                [os.environ["MERGANSER_BIN"], "ingest", str(file), "--table", "imported", "--server", server.uri, "--quiet"],
                check=True,
                timeout=60,
            )
            columns = "distinct_id, properties::VARCHAR, last_seen"
            rows = [ws.sql_rows(f"SELECT {columns} FROM {name} ORDER BY 1").rows for name in ("fetched", "imported")]
            assert rows[0] == rows[1]
            assert len(rows[0]) == 30


def test_a_server_that_waits_for_rows_is_kept_awake(tmp_path, monkeypatch):
    monkeypatch.setattr("merganser._mixpanel.handover.KEEP_ALIVE_SECONDS", 0.3)
    limits = FetchLimits(stall=5, per_second=10_000, backoff=0.01)
    with (
        StandIn(events=10, days=1, script={"2024-01-01": ["stall before"]}) as api,
        hosts_of(api),
        Server(tmp_path, "--memory", MERGANSER_INGEST_IDLE_TIMEOUT="2s") as server,
        Workspace.connect(server.uri, credentials=Credentials(**ACCOUNT), limits=limits) as ws,
    ):
        result = ws.fetch_events("e", from_date="2024-01-01", to_date="2024-01-01", progress=False)
        assert (result.rows, result.retries) == (10, 1)
        assert result.duration_seconds > 2


def test_a_workspace_of_ones_own(tmp_path):
    for make in (Workspace.ephemeral, Workspace.memory, lambda: Workspace.open(tmp_path / "w.duckdb")):
        with make() as ws:
            assert ws.tables() == []
            assert ws.sql("SELECT 1 AS one")["one"].tolist() == [1]
    with Workspace.open(tmp_path / "w.duckdb", read_only=True) as ws:
        assert "w.duckdb" in repr(ws)


# --- a first look ---


@pytest.fixture
def clicks(ws, api):
    ws.fetch_events("clicks", **DAYS)
    return ws


def test_tables_and_schemas(clicks):
    assert [(table.name, table.type, table.row_count) for table in clicks.tables()] == [("clicks", "events", 2000)]
    columns = [column.name for column in clicks.schema("clicks").columns]
    assert columns == ["event_name", "event_time", "distinct_id", "insert_id", "properties"]
    with pytest.raises(TableNotFoundError):
        clicks.drop("clicks", "nowhere")
    assert clicks.storage.table_exists("clicks")
    clicks.drop("clicks")
    assert clicks.tables() == []


def test_counts_by_event(clicks):
    counts = clicks.events("clicks")
    assert [count.event for count in counts] == sorted(mixpanel.NAMES)
    assert {(count.count, count.users, count.share) for count in counts} == {(400, 400, 0.2)}
    assert counts[0].first_seen >= datetime(2024, 1, 1)
    assert counts[0].last_seen < datetime(2024, 1, 6)
    with pytest.raises(TableNotFoundError):
        clicks.events("nowhere")
    clicks.sql_rows("CREATE TABLE plain AS SELECT 1 AS distinct_id")
    with pytest.raises(InvalidDataError, match="table 'plain' has no column event_name and no event_time"):
        clicks.events("plain")


def test_properties(clicks):
    keys = ["$city", "amount", "big", "device", "note", "plan"]
    assert clicks.property_keys("clicks") == keys
    assert clicks.property_keys("clicks", event="checkout") == keys
    assert clicks.property_keys("clicks", event="none") == []
    values = clicks.property_values("clicks", "plan")
    assert [(value.value, value.count) for value in values] == [("free", 1000), ("paid", 1000)]
    assert clicks.property_values("clicks", "plan", event="none") == []
    assert clicks.property_values("clicks", "none") == []
    assert [(value.value, value.count) for value in clicks.property_values("clicks", "$city")] == [("Zürich", 2000)]
    assert len(clicks.property_values("clicks", "amount", limit=3)) == 3
    assert clicks.property_values("clicks", "device", event="checkout", limit=1)[0].value.startswith('{"os":"macOS"')
    with pytest.raises(InvalidDataError, match="limit must be at least 0, not -1"):
        clicks.property_values("clicks", "plan", limit=-1)


def test_odd_keys(ws):
    rows = [
        {"event_name": "e", "event_time": 1, "distinct_id": "d", "insert_id": str(n), "properties": properties}
        for n, properties in enumerate([{"a/b~c": 1}, {"a/b~c": None}, {'q"': 2}, {"a": {"b": 3}}, {"a.b": 4}, {"$x[0]": 5}])
    ]
    ws.storage.create_events_table("odd", rows)
    found = {key: [(value.value, value.count) for value in ws.property_values("odd", key)] for key in ws.property_keys("odd")}
    assert found == {
        "a/b~c": [("1", 1), (None, 1)],
        'q"': [("2", 1)],
        "a": [('{"b":3}', 1)],
        "a.b": [("4", 1)],
        "$x[0]": [("5", 1)],
    }


def test_samples(clicks):
    assert len(clicks.sample("clicks")) == 10
    assert len(clicks.sample("clicks", 0)) == 0
    assert len(clicks.sample("clicks", 5000)) == 2000
    with pytest.raises(InvalidDataError, match="n must be at least 0"):
        clicks.sample("clicks", -1)
    with pytest.raises(TableNotFoundError):
        clicks.sample("nowhere")


def test_summaries(ws):
    ws.sql_rows(
        "CREATE TABLE t AS SELECT i AS number, CASE WHEN i % 4 > 0 THEN 'x' || i END AS text, i::DECIMAL(18,3) AS price,"
        " TIMESTAMP '2024-01-01' + i * INTERVAL 1 DAY AS day FROM range(100) AS _(i)"
    )
    summary = ws.summarize("t")
    assert (summary.table, summary.row_count) == ("t", 100)
    number, text, price, day = summary.columns
    assert (number.name, number.type, number.min, number.max, number.count) == ("number", "BIGINT", "0", "99", 100)
    assert number.mean == price.mean == 49.5
    assert (text.count, text.null_share, text.mean, text.std, text.q50) == (75, 0.25, None, None, None)
    assert day.mean is None
    json.dumps(summary.to_dict(), allow_nan=False)


def test_column_stats(ws):
    ws.sql_rows(
        "CREATE TABLE t AS SELECT i AS number, CASE WHEN i % 4 > 0 THEN 'x' || i % 3 END AS text, i::DECIMAL(18,3) AS price,"
        " {'a': i}::JSON AS properties FROM range(100) AS _(i)"
    )
    stats = ws.column_stats("t", "NUMBER")
    assert (stats.type, stats.count, stats.null_count, stats.min, stats.max, stats.mean) == ("BIGINT", 100, 0, 0, 99, 49.5)
    assert len(stats.top_values) == 10
    text = ws.column_stats("t", "text", top=1)
    assert (text.type, text.count, text.null_count, text.null_share, text.mean) == ("VARCHAR", 75, 25, 0.25, None)
    assert [(top.value, top.count) for top in text.top_values] == [("x0", 25)]
    price = ws.column_stats("t", "price")
    assert (price.type, price.mean, price.std) == ("DECIMAL(18,3)", 49.5, pytest.approx(29.0115, abs=1e-3))
    assert ws.column_stats("t", "(properties->>'$.a')::INTEGER -- the end").max == 99
    json.dumps(price.to_dict())
    with pytest.raises(MerganserError):
        ws.column_stats("t", "number) FROM t; DROP TABLE t; --")
    assert ws.storage.table_exists("t")
    ws.sql_rows("CREATE TABLE empty (a INTEGER)")
    empty = ws.column_stats("empty", "a")
    assert (empty.count, empty.null_share, empty.min, empty.mean, empty.top_values) == (0, 0.0, None, None, ())


# --- the bar ---


def test_the_bar_shows_how_far_it_is_and_what_goes_wrong():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140)
    with Bar("Fetching e", "days", console) as bar:
        tally = Tally(bar)
        tally.expect(5)
        tally.downloaded(12_345, 1000)
        tally.done()
        tally.retry("2024-01-02", "Mixpanel answered 429 [slow down]", 2.0)
    text = screen.getvalue()
    assert "1/5" in text
    assert "12,345 rows" in text
    assert "1 retries; last: 2024-01-02: Mixpanel answered 429 [slow down]; again in 2 s" in " ".join(text.split())


def test_there_is_no_bar_where_nobody_looks():
    screen = io.StringIO()
    with Bar("Fetching e", "days", Console(file=screen)) as bar:
        Tally(bar).expect(5)
    assert screen.getvalue() == ""
