import gzip
from pathlib import Path

import pytest

DATA = Path(__file__).parents[4] / "tests" / "data"


@pytest.fixture(scope="session")
def sample_events():
    """The lines of the sample events."""
    return gzip.decompress((DATA / "events.ndjson.gz").read_bytes()).splitlines()
