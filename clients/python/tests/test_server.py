"""The private server: found, started, private, stopped, and gone with its parent. And servers that run by themselves."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from pyarrow import flight
from support import Server, event

from merganser import (
    AuthError,
    ClosedError,
    DatabaseLockedError,
    DatabaseNotFoundError,
    InvalidDataError,
    QueryCancelled,
    QueryError,
    ResourceError,
    ServerStartError,
    StorageEngine,
    UnavailableError,
    _server,
)

SECONDS = 30


def wait_until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.01)


def is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def run_python(code, *arguments, **options):
    """A Python of its own, which prints a line and then waits, is killed, or ends."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    source = str(Path(__file__).parents[1] / "src")
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": source}, **options)


def test_a_file(tmp_path):
    path = tmp_path / "new" / "a.db"
    with StorageEngine(path) as engine:
        assert (engine.path, engine.read_only) == (path, False)
        engine.create_events_table("ev", [event(1)])
        pid = engine._server.pid
    assert is_gone(pid)
    assert path.exists()
    assert not path.with_name("a.db.wal").exists()
    with StorageEngine(str(path)) as engine:
        assert engine.execute_scalar("SELECT count(*) FROM ev") == 1


def test_temporary_databases(tmp_path):
    with StorageEngine.ephemeral() as engine, StorageEngine.ephemeral() as other, StorageEngine.memory() as memory:
        assert engine.path.exists()
        assert tmp_path in engine.path.parents
        assert engine.path != other.path
        assert memory.path is None
        memory.execute("CREATE TABLE t (n INTEGER)")
        assert not other.table_exists("t")
    assert list(tmp_path.iterdir()) == []
    with contextlib.suppress(ZeroDivisionError), StorageEngine.ephemeral():
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_reading_only(tmp_path):
    path = tmp_path / "a.db"
    with pytest.raises(DatabaseNotFoundError):
        StorageEngine(path, read_only=True)
    with pytest.raises(FileNotFoundError, match=r"Database file not found: .*a\.db"):
        StorageEngine.open_existing(path)
    assert not path.exists()
    with StorageEngine(path) as engine:
        engine.create_events_table("ev", [event(1)])
    with StorageEngine.open_existing(path) as first, StorageEngine(path, read_only=True) as second:
        assert first.read_only
        assert second.execute_scalar("SELECT count(*) FROM ev") == 1
        for write in (
            lambda: first.append_events_table("ev", [event(2)]),
            lambda: first.drop_table("ev"),
            lambda: first.execute("CREATE TABLE t (n INTEGER)"),
        ):
            with pytest.raises(QueryError) as caught:
                write()
            assert caught.value.details["code"] == "FAILED_PRECONDITION"
    with StorageEngine.open_existing(path, read_only=False) as engine:
        assert engine.append_events_table("ev", [event(2)]) == 1


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"Use StorageEngine\.ephemeral\(\) or StorageEngine\.memory\(\)"):
        StorageEngine()
    with pytest.raises(OSError, match="is a directory"):
        StorageEngine(tmp_path)
    (tmp_path / "junk.db").write_text("no database" * 1000)
    with pytest.raises(ServerStartError, match="cannot open database file"):
        StorageEngine(tmp_path / "junk.db")
    with pytest.raises(InvalidDataError, match="not both"):
        StorageEngine.connect("grpc://127.0.0.1:1", user="a", token="b")


def test_after_close(tmp_path):
    engine = StorageEngine.memory()
    engine.close()
    engine.cleanup()
    for call in (engine.list_tables, lambda: engine.execute("SELECT 1"), lambda: engine.connection):
        with pytest.raises(RuntimeError, match="^Database connection has been closed") as caught:
            call()
        assert isinstance(caught.value, ClosedError)
    engine = StorageEngine(tmp_path / "a.db")
    engine.close()
    assert engine.path == tmp_path / "a.db"


def test_two_engines_of_one_process_share_a_file(tmp_path):
    """As in a notebook whose cell is run again."""
    first = StorageEngine(tmp_path / "a.db")
    second = StorageEngine(tmp_path / "a.db")
    first.execute("CREATE TABLE t AS SELECT 1 AS n")
    assert second.execute_scalar("SELECT n FROM t") == 1
    first.close()
    assert second.execute_scalar("SELECT n FROM t") == 1
    with pytest.raises(DatabaseLockedError):
        StorageEngine(tmp_path / "a.db", read_only=True)
    pid = second._server.pid
    del second
    gc.collect()
    assert is_gone(pid)


def test_two_processes_on_a_file(tmp_path):
    code = """
        import sys
        from merganser import StorageEngine
        engine = StorageEngine(sys.argv[1])
        print(engine._server.pid, flush=True)
        sys.stdin.read()
    """
    holder = run_python(code, tmp_path / "a.db", stdin=subprocess.PIPE)
    pid = int(holder.stdout.readline())
    for open_file in (StorageEngine, StorageEngine.open_existing):
        with pytest.raises(DatabaseLockedError, match=f"in use by process {pid} \\(merganser\\)") as caught:
            open_file(tmp_path / "a.db")
        assert (caught.value.holding_pid, caught.value.db_path) == (pid, str(tmp_path / "a.db"))
    holder.communicate("")
    StorageEngine(tmp_path / "a.db").close()


@pytest.mark.parametrize("end", ["return", "raise", "exit", "terminate", "kill"])
def test_the_server_ends_with_its_parent(tmp_path, end):
    code = """
        import os, signal, sys
        from merganser import StorageEngine
        engine = StorageEngine.ephemeral()
        print(engine._server.pid, engine.path, flush=True)
        match sys.argv[1]:
            case "raise": raise SystemExit("an exception")
            case "exit": os._exit(3)
            case "terminate": os.kill(os.getpid(), signal.SIGTERM)
            case "kill": os.kill(os.getpid(), signal.SIGKILL)
    """
    parent = run_python(code, end, stderr=subprocess.DEVNULL)
    pid, path = parent.stdout.readline().split()
    parent.communicate()
    wait_until(lambda: is_gone(int(pid)))
    assert not Path(path).parent.exists()


def test_what_a_killed_server_has_left_is_removed_by_the_next(tmp_path):
    engine = StorageEngine.ephemeral()
    path = engine.path
    os.kill(engine._server.pid, signal.SIGKILL)
    wait_until(lambda: not engine._server.is_running())
    assert path.exists()
    with pytest.raises(UnavailableError, match=r"the private server has ended \(exit code -9\)") as caught:
        engine.execute_scalar("SELECT 1")
    assert caught.value.retryable
    engine.close()
    with StorageEngine.ephemeral():
        assert not path.exists()


def test_a_server_that_is_killed_while_it_works(tmp_path):
    engine = StorageEngine(tmp_path / "a.db")
    engine.create_events_table("ev", [event(1)])
    pid = engine._server.pid

    def source():
        yield from map(event, range(100_000))
        os.kill(pid, signal.SIGKILL)
        yield from map(event, range(100_000, 1_000_000))

    with pytest.raises(UnavailableError):
        engine.append_events_table("ev", source(), batch_size=10_000)
    engine.close()
    with StorageEngine(tmp_path / "a.db") as engine:
        assert engine.execute_scalar("SELECT count(*) FROM ev") == 1
        threading.Timer(0.3, os.kill, (engine._server.pid, signal.SIGKILL)).start()
        with pytest.raises(UnavailableError):
            engine.execute_scalar("SELECT count(*) FROM range(1000000000000)")


def test_the_server_is_private():
    with StorageEngine.memory() as engine:
        assert engine.uri.startswith("grpc://127.0.0.1:")
        with pytest.raises(AuthError):
            StorageEngine.connect(engine.uri)
        with pytest.raises(AuthError):
            StorageEngine.connect(engine.uri, user="private", password="guessed")
        with flight.connect(engine.uri) as stranger, pytest.raises(flight.FlightUnauthenticatedError):
            stranger.do_get(flight.Ticket(b"SELECT 1")).read_all()
        # Not on the command line, which everybody can read; the environment is its owner's.
        process = psutil.Process(engine._server.pid)
        assert engine._server.password not in " ".join(process.cmdline())
        assert Path(f"/proc/{process.pid}/environ").stat().st_mode & 0o077 == 0


def test_the_users_own_configuration_is_not_for_it(tmp_path, monkeypatch):
    configuration = tmp_path / "config" / "merganser"
    configuration.mkdir(parents=True)
    (configuration / "merganser.toml").write_text('[server]\nlisten = "127.0.0.1:1"\n[engine]\nthreads = 1\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(configuration.parent))
    monkeypatch.setenv("MERGANSER_SERVER_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("MERGANSER_AUTH_PASSWORD", "known")
    monkeypatch.setenv("MERGANSER_QUERY_RESULT_ROWS_MAX", "5")
    with StorageEngine.memory() as engine:
        assert not engine.uri.endswith((":1", ":2"))
        assert engine.execute_scalar("SELECT current_setting('threads')") == os.cpu_count()
        # How much it may take is said in the environment.
        with pytest.raises(ResourceError, match="query.result_rows_max"):
            engine.execute_rows("FROM range(100)")


def test_where_the_binary_is(tmp_path, monkeypatch):
    binary = os.environ["MERGANSER_BIN"]
    assert _server.find_binary() == binary
    monkeypatch.setenv("MERGANSER_BIN", str(tmp_path / "none"))
    with pytest.raises(ServerStartError, match="there is no such file"):
        StorageEngine.memory()
    monkeypatch.delenv("MERGANSER_BIN")
    monkeypatch.setattr(_server.sysconfig, "get_path", lambda _name, _scheme: str(tmp_path / "scripts"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(ServerStartError, match="comes with the wheel"):
        _server.find_binary()
    for directory in ("path", "scripts"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "merganser").symlink_to(binary)
        assert _server.find_binary() == str(tmp_path / directory / "merganser")


def test_a_fork():
    engine = StorageEngine.memory()
    engine.execute("CREATE TABLE t AS SELECT 1 AS n")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"nothing"
        try:
            engine.execute_scalar("SELECT n FROM t")
        except ClosedError as error:
            said = str(error).encode()
        engine.close()
        os.write(write, said)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        assert "belongs to the process that made it" in lines.read()
    os.waitpid(child, 0)
    # Neither the child's close nor its end has touched what is its parent's.
    assert engine.execute_scalar("SELECT n FROM t") == 1
    engine.close()


def test_the_server_ends_with_its_parent_though_a_forked_child_lives():
    code = """
        import os, signal, time
        from merganser import StorageEngine
        engine = StorageEngine.memory()
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        print(engine._server.pid, child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    parent = run_python(code)
    pid, child = map(int, parent.stdout.readline().split())
    parent.wait()
    try:
        wait_until(lambda: is_gone(pid))
        assert not is_gone(child)
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def test_ctrl_c_is_for_the_statement():
    code = """
        import os, signal, threading
        from merganser import QueryCancelled, StorageEngine
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with StorageEngine.memory() as engine:
            threading.Timer(0.5, os.killpg, (0, signal.SIGINT)).start()
            try:
                engine.execute_scalar("SELECT count(*) FROM range(1000000000000)")
            except (KeyboardInterrupt, QueryCancelled):
                print("cancelled", engine.execute_scalar("SELECT 42"), flush=True)
    """
    parent = run_python(code, start_new_session=True)
    assert parent.communicate(timeout=SECONDS)[0] == "cancelled 42\n"


# --- a server that runs by itself ---


def test_a_running_server(tmp_path):
    with Server(tmp_path, "--memory") as server:
        with StorageEngine.connect(server.uri) as engine:
            engine.create_events_table("ev", [event(1)])
            assert (engine.path, engine.read_only, engine.uri) == (None, False, server.uri)
        with StorageEngine.connect(server.uri) as engine:
            assert engine.execute_scalar("SELECT count(*) FROM ev") == 1
        assert server.process.poll() is None


def test_credentials(tmp_path):
    with Server(tmp_path, "--memory", MERGANSER_AUTH_USER="ann", MERGANSER_AUTH_PASSWORD="s:e=cret") as server:
        for wrong in ({}, {"user": "ann", "password": "wrong"}, {"user": "bob", "password": "s:e=cret"}, {"token": "mgt_x"}):
            with pytest.raises(AuthError) as caught:
                StorageEngine.connect(server.uri, **wrong)
            assert caught.value.details["code"] == "UNAUTHENTICATED"
        with StorageEngine.connect(server.uri, user="ann", password="s:e=cret") as engine:
            assert engine.create_events_table("ev", [event(1)]) == 1
            assert engine.execute_scalar("SELECT count(*) FROM ev") == 1


def test_tls_and_tokens(tmp_path):
    binary, users = os.environ["MERGANSER_BIN"], tmp_path / "users.toml"
    file = ["--users-file", str(users)]
    password = {"input": "secret", "text": True}
    subprocess.run([binary, "user", "add", "ann", "--role", "reader", "--password-stdin", *file], check=True, **password)
    made = subprocess.run([binary, "token", "create", "--user", "ann", *file], check=True, capture_output=True, text=True)
    arguments = ["--tls-self-signed", "--set", f"auth.users_file={users}"]
    with Server(tmp_path, str(tmp_path / "a.db"), *arguments) as server:
        assert server.uri.startswith("grpc+tls://")
        [certificate] = [path for path in tmp_path.glob("*.pem") if "PRIVATE" not in path.read_text()]
        token = made.stdout.split()[-1]
        for pem in (certificate, str(certificate), certificate.read_text(), certificate.read_bytes()):
            with StorageEngine.connect(server.uri, token=token, tls_root_certs=pem) as engine:
                assert engine.execute_scalar("SELECT 42") == 42
                with pytest.raises(AuthError) as caught:
                    engine.create_events_table("ev", [event(1)])
                assert caught.value.details["code"] == "PERMISSION_DENIED"
        with pytest.raises(UnavailableError):
            StorageEngine.connect(server.uri, token=token)


def test_nobody_is_there():
    with pytest.raises(UnavailableError):
        StorageEngine.connect("grpc://127.0.0.1:1")
    with pytest.raises(InvalidDataError, match="'nonsense' is no address of a server"):
        StorageEngine.connect("nonsense")


def test_a_server_that_stops(tmp_path):
    with Server(tmp_path, "--memory") as server:
        engine = StorageEngine.connect(server.uri)
        server.process.terminate()
        server.process.wait(60)
        with pytest.raises(UnavailableError):
            engine.list_tables()
        with pytest.raises(UnavailableError):
            engine.execute_rows("SELECT 1")
        engine.close()


def test_a_full_queue(tmp_path):
    limits = ["--set", "engine.statements_max=1", "--set", "engine.statements_queue_max=0", "--set", "ingest.streams_max=1"]
    with Server(tmp_path, "--memory", *limits) as server, StorageEngine.connect(server.uri) as engine:
        busy = threading.Thread(target=_busy, args=(engine,))
        busy.start()
        deadline = time.monotonic() + SECONDS
        # Two that ask at the same time may refuse one another again and again.
        while not engine._client.action("list_queries") and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(ResourceError) as caught:
            while time.monotonic() < deadline:
                engine.execute_scalar("SELECT 1")
        assert caught.value.details["code"] == "RESOURCE_EXHAUSTED"
        assert "engine." in caught.value.message
        for query in engine._client.action("list_queries"):
            engine._client.action("cancel_query", id=query["id"])
        busy.join()

        def source():
            yield event(1)
            with pytest.raises(ResourceError, match=r"ingest\.streams_max"):
                engine.create_events_table("other", [event(1)])
            yield event(2)

        assert engine.create_events_table("ev", source()) == 2


def _busy(engine):
    """Runs a query without end, once the others leave it the place of the one statement."""
    with contextlib.suppress(QueryCancelled):
        while True:
            with contextlib.suppress(ResourceError):
                engine.execute_scalar("SELECT count(*) FROM range(1000000000000)")


def test_memory_stays_bounded(tmp_path):
    """Rows with large properties: 400 MB go through a client that may not hold a quarter of it."""
    code = """
        import resource, sys
        sys.path.insert(0, sys.argv[1])
        from support import event
        from merganser import StorageEngine
        text = "x" * 100_000
        rows = lambda: (event(number, properties={"text": text, "n": number}) for number in range(4000))
        with StorageEngine.ephemeral() as engine:
            engine.create_events_table("warm", [event(1)])
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert engine.create_events_table("ev", rows()) == 4000
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    said, _ = run_python(code, Path(__file__).parent).communicate()
    assert int(said) < 100


def test_arrow_data_of_any_size_streams():
    schema = pa.schema([("distinct_id", pa.string()), ("properties", pa.string())])

    def batches():
        for first in range(0, 300_000, 50_000):
            ids = [str(number) for number in range(first, first + 50_000)]
            yield pa.RecordBatch.from_pydict({"distinct_id": ids, "properties": ["{}"] * 50_000}, schema)

    with StorageEngine.memory() as engine:
        assert engine.create_profiles_table("pr", pa.RecordBatchReader.from_batches(schema, batches())) == 300_000
