"""What the tests of the ADBC driver share: errors by status code, two ways to connect, a second look from outside."""

import contextlib
import time

import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import pytest

from support import action

STATUS = adbc_driver_manager.AdbcStatusCode
PATIENCE_SECONDS = 20


@contextlib.contextmanager
def refused(*codes, part=""):
    """Expects an error of one of these ADBC status codes whose message contains `part`."""
    with pytest.raises(adbc_driver_manager.Error) as caught:
        yield caught
    assert caught.value.status_code in codes, caught.value
    assert part in str(caught.value)


def connect(server, autocommit=True, **options):
    """A connection of its own; transactions begin by themselves unless `autocommit`."""
    return adbc_driver_flightsql.dbapi.connect(server.uri, autocommit=autocommit, **options)


def rows(connection, sql, parameters=None):
    """The rows of one query on a cursor of its own."""
    with connection.cursor() as cursor:
        return cursor.execute(sql, parameters).fetchall()


def scalar(connection, sql, parameters=None):
    [[value]] = rows(connection, sql, parameters)
    return value


def run(connection, sql, parameters=None):
    """The row count of one statement on a cursor of its own."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.rowcount


def open_on(server):
    """What the server holds for its clients: sessions and prepared statements."""
    with server.flight() as client:
        [info] = action(client, "server_info")
    return info["sessions"], info["statements"]


def eventually(what, look):
    """Waits until `look` returns something true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)
    return found
