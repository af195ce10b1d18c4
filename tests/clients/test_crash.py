"""Some rounds of the crash test (tests/crash), and its chosen moments; `python tests/crash` is the long run."""

import pathlib
import shutil
import signal
import sys
import time

import pyarrow as pa
import pytest

from support import Server, action, count, ingest, path, put, some_events

CRASH = pathlib.Path(__file__).parent.parent / "crash"
sys.path.append(str(CRASH))

import power  # noqa: E402
from chosen import SETTINGS, Chosen  # noqa: E402
from rounds import FindingError, Plan, Run, build_shim  # noqa: E402

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="the shim is for Linux, and wants a C compiler"
)
ROUNDS, SECONDS_MAX = 30, 45


def test_rounds(tmp_path):
    run = Run(tmp_path, seed=5)
    run.go(ROUNDS, until=time.monotonic() + SECONDS_MAX)
    print(run.summary())
    assert run.counts["operations"], "nothing was tried"


@pytest.mark.parametrize(
    ("kinds", "when", "numbers"),
    [("s", "after", range(3, 1000, 9)), ("w", "torn", range(2, 1000, 29)), ("tur", "before", range(1, 1000))],
)
def test_the_server_is_killed_at_a_call(tmp_path, kinds, when, numbers):
    chosen = Chosen(tmp_path, seed=7)
    chosen.sweep(kinds, when, numbers)
    assert chosen.counts[f"killed {when} {kinds}"], "it was never killed"


def test_the_power_fails_after_an_acknowledgement(tmp_path):
    assert Chosen(tmp_path, seed=7).power_loss_at_each_acknowledgement(["lost"]) > 10


def test_the_power_fails_in_a_sync(tmp_path):
    """Pages of what is not synced yet are missing, from the log and the file."""
    chosen = Chosen(tmp_path, seed=7)
    assert chosen.power_loss_in_each_sync(["torn"], step=2) > 10
    assert chosen.counts["torn logs mended"], "no log lacked a page"


def test_what_is_lost_is_found(tmp_path, monkeypatch):
    """The test itself: a disk on which no sync ever ends has lost something."""
    records = power.records
    monkeypatch.setattr(power, "records", lambda log: [one for one in records(log) if one.kind not in "sS"])
    with pytest.raises(FindingError, match="is missing|are missing|wait|cannot open|ended"):
        Chosen(tmp_path, seed=7).power_loss_at_each_acknowledgement(["lost"])


def test_a_lost_log_is_found(tmp_path):
    chosen = Chosen(tmp_path, seed=7)
    chosen.run_script(Plan("call", 0, SETTINGS, "s:2:after"))
    pathlib.Path(f"{chosen.database}.wal").unlink()
    server = Server([chosen.database], tmp_path, "without-its-log").wait_until_ready()
    try:
        with pytest.raises(FindingError):
            chosen.verify(server.uri)
    finally:
        server.kill9()


@pytest.mark.parametrize("call", ["w:1:before", "w:2:torn", "w:3:before"])
def test_a_file_whose_making_was_cut_off(tmp_path, call):
    database = tmp_path / "data" / "new.duckdb"
    database.parent.mkdir()
    environment = {"LD_PRELOAD": str(build_shim(tmp_path)), "CRASH_FILES": str(database), "CRASH_KILL": call}
    assert Server([database], tmp_path, "killed", environment).process.wait() == -signal.SIGKILL
    server = Server([database], tmp_path, "again")
    try:
        server.wait_until_ready()
    finally:
        server.kill9()


@pytest.mark.parametrize("hole", ["middle", "end"])
def test_a_log_whose_unsynced_end_lacks_a_page(tmp_path, hole):
    """After a power loss any page may be missing that no sync had reached; what came before them is acknowledged."""
    database = tmp_path / "torn.duckdb"
    log = tmp_path / "torn.duckdb.wal"
    server = Server([database], tmp_path, "first").wait_until_ready()
    with server.flight() as client:
        put(client, path("events", "kept"), some_events(["acknowledged"]))
        synced = log.stat().st_size
        # Stands for a commit that the power loss comes before the sync of.
        put(client, ingest("kept", mode="append"), some_events([f"in flight {number}" for number in range(500)]))
    server.kill9()
    content = log.read_bytes()
    start = (synced // power.PAGE + 1) * power.PAGE
    end = start + power.PAGE if hole == "middle" else len(content)
    assert end <= len(content)
    log.write_bytes(content[:start] + bytes(end - start) + content[end:])
    server = Server([database], tmp_path, "again")
    try:
        server.wait_until_ready()
        with server.flight() as client:
            assert count(client, "kept") == 1
    finally:
        server.kill9()


def test_what_every_batch_counts_as_replaced(flight, table):
    """`rows_replaced` are rows of the table, however often the stream has their key, and however it is told of progress."""
    answers = {}
    for progress in ("interval", "every_batch"):
        name = f"{table}_{progress}"
        put(flight, path("events", name), some_events(["old"]))
        command = ingest(name, kind="events", mode="append", on_duplicate="replace", progress=progress)
        rows = pa.concat_tables([some_events(["new", "old"]), some_events(["new", "old"])])
        result = put(flight, command, rows, batch_rows=2)[-1]
        answers[progress] = {what: result[f"rows_{what}"] for what in ("inserted", "duplicate", "replaced")}
        assert action(flight, "get_metadata", table=name)[0]["row_count"] == 2
    assert answers["every_batch"] == answers["interval"]
