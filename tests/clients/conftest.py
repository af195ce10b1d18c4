"""Fixtures: servers of the real binary, stock clients connected to them, and the sample data."""

import re

import pytest

import support

# The servers whose logs a failing test shows.
SERVERS = []


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a database in memory, shared by the tests of one file: each uses its own table."""
    server = support.Server(["--memory"], tmp_path_factory.mktemp("memory"), "server")
    SERVERS.append(server)
    try:
        yield server.wait_until_ready()
    finally:
        code = server.stop()
    assert code == 0, server.log()


@pytest.fixture
def server_factory(tmp_path):
    """`server_factory(*arguments)` starts another server; all are stopped at the end of the test."""
    started = []

    def start(*arguments):
        server = support.Server(arguments, tmp_path, f"server-{len(started)}")
        started.append(server)
        SERVERS.append(server)
        return server.wait_until_ready()

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def flight(server):
    with server.flight() as client:
        yield client


@pytest.fixture
def adbc(server):
    with server.adbc() as connection:
        yield connection


@pytest.fixture
def table(request):
    """A table name of the test's own."""
    return re.sub(r"\W+", "_", request.node.name).strip("_")


@pytest.fixture(scope="session")
def events():
    """2,000 real events."""
    return support.events_table()


@pytest.fixture(scope="session")
def profiles():
    """200 real profiles."""
    return support.profiles_table()


@pytest.fixture(autouse=True)
def _forget_stopped_servers():
    """So that a failure shows the logs of the servers that ran during the test, and no others."""
    SERVERS[:] = [server for server in SERVERS if server.process.poll() is None]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        report.sections += [(f"end of {server.log_path.name}", server.log()[-4000:]) for server in SERVERS]
    return report
