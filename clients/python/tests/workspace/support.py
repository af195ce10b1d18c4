"""What the tests of fetching share."""

import contextlib
from datetime import date

import pyarrow as pa

from merganser._mixpanel import credentials
from merganser._mixpanel.engage import Engage
from merganser._mixpanel.export import Export
from merganser._mixpanel.fetch import Fetch
from merganser._mixpanel.limits import FetchLimits
from merganser._mixpanel.rows import EventRows
from merganser._mixpanel.tally import Tally
from workspace import stand_in as mixpanel

ACCOUNT = {"username": mixpanel.USERNAME, "secret": mixpanel.SECRET, "project_id": mixpanel.PROJECT}
LIMITS = FetchLimits(concurrency=4, per_second=10_000, backoff=0.01, stall=30)


@contextlib.contextmanager
def hosts_of(server, region="us"):
    """While the block runs, the region is the stand-in."""
    before = credentials.REGIONS[region]
    credentials.REGIONS[region] = credentials.Hosts(f"{server.url}/api/2.0/export", f"{server.url}/api/query/engage")
    try:
        yield
    finally:
        credentials.REGIONS[region] = before


def download(server, source, limits=LIMITS, **account):
    """All rows of the source, and the tally."""
    tally = Tally()
    with hosts_of(server):
        known = credentials.Credentials(**(ACCOUNT | account)).resolve({})
        fetch = Fetch(source, known, limits, tally)
        with contextlib.closing(fetch):
            return pa.Table.from_batches(fetch.reader(), source.schema), tally


def export(server, events=None, where=None):
    """All days of the stand-in."""
    return Export(mixpanel.FIRST, server.last_day, events, where)


def engage(where=None, cohort_id=None, output_properties=None):
    return Engage(where, cohort_id, output_properties)


def rows_of(server, days=None):
    """The rows that the days of the stand-in come to."""
    rows = EventRows()
    for day in days or [date.fromordinal(mixpanel.FIRST.toordinal() + index) for index in range(server.days)]:
        for block in server.blocks([day], None):
            for line in block.splitlines():
                rows.push(line.encode())
    return pa.Table.from_batches([rows.flush()]).sort_by("insert_id")
