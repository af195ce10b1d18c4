"""Fixtures: engines on servers of the real binary, and the sample data."""

import os

import pytest
from support import raw_events, raw_profiles

from merganser import StorageEngine


@pytest.fixture(autouse=True)
def _own_directories(tmp_path, monkeypatch):
    """Nothing of the caller's own configuration, and temporary files where the test can see them."""
    for name in list(os.environ):
        if name.startswith("MERGANSER_") and name not in ("MERGANSER_BIN", "MERGANSER_LOG", "MERGANSER_QUICKSTART"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(scope="module")
def shared_engine():
    """A database in memory that the tests of one file share."""
    with StorageEngine.memory() as engine:
        yield engine


@pytest.fixture
def engine(shared_engine):
    """The shared database, empty."""
    yield shared_engine
    for table in shared_engine.list_tables("all"):
        if table.type == "view":
            shared_engine.execute(f'DROP VIEW "{table.name}"')
        else:
            shared_engine.drop_table(table.name)


@pytest.fixture(scope="session")
def events():
    """2,000 events as Mixpanel exports them, as rows."""
    return raw_events()


@pytest.fixture(scope="session")
def profiles():
    """200 profiles."""
    return raw_profiles()
