"""The quickstart of the replaced engine, block by block, with nothing changed but the imports.

It is no part of this repository: MERGANSER_QUICKSTART names the file. `python tests/test_quickstart.py` prints the table of
what ran. Without the file, the workflows are tested by the other files.
"""

import contextlib
import csv
import io
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from adbc_driver_manager import ProgrammingError
from support import NOW, event

from merganser import FetchAuthError, StorageEngine, TableExistsError, TableMetadata

IMPORTS = {
    "from mixpanel_data._internal.storage import": "from merganser import",
    "from mixpanel_data.types import": "from merganser import",
    "from mixpanel_data.exceptions import": "from merganser import",
    "from mixpanel_data import": "from merganser import",
}
METADATA = TableMetadata(type="events", fetched_at=NOW, from_date="2024-01-01", to_date="2024-01-31")
EVENTS = [event(number, properties={"country": "NO", "amount": number * 50, "user": {"plan": "pro"}}) for number in range(10)]


class Filled(StorageEngine):
    """An engine that has the table which a block takes as given."""

    @classmethod
    def ephemeral(cls):
        engine = super().ephemeral()
        engine.create_events_table("events", EVENTS, METADATA)
        return engine


@dataclass(frozen=True)
class Block:
    """A block by the heading that it is under, and what is different: an exception that it ends with, and why."""

    heading: str
    differs: type[Exception] | None = None
    why: str = ""
    # Whether the block takes a table `events`, and an open engine `storage`, as given.
    given: bool = False


SERVER_SETTINGS = (
    "settings are the server's (MERGANSER_ENGINE_THREADS=4, MERGANSER_ENGINE_MEMORY_LIMIT=2GiB in the environment), and it writes"
    " no files for SQL: the rows of a query go into a file on the client's side"
)
BLOCKS = [
    Block("Persistent Storage"),
    Block("Ephemeral Analysis"),
    Block("1. Streaming Large Datasets"),
    Block("2. Querying with Different Formats", given=True),
    Block("3. JSON Property Queries", given=True),
    Block("4. Introspection", given=True),
    Block("5. Error Handling"),
    Block("6. Table Replacement"),
    Block("Direct DuckDB Access", ProgrammingError, SERVER_SETTINGS, given=True),
    Block("Custom Batch Size"),
    Block(
        "With Workspace Facade",
        FetchAuthError,
        "there are no credentials of Mixpanel here; tests/workspace fetches from a stand-in",
    ),
    Block("With Custom Iterators"),
    Block("Common Pitfalls", given=True),
    Block("Common Pitfalls", given=True),
    Block("Common Pitfalls", TableExistsError, "the block says so itself", given=True),
    Block("Common Pitfalls", given=True),
    Block("Common Pitfalls"),
    Block("Common Pitfalls", IndentationError, "the block is no Python: its `with` has a comment in it, and no statement"),
]


def blocks_of(text: str) -> list[tuple[str, str]]:
    """Heading and code of each block of Python."""
    found, heading = [], ""
    for part in re.finditer(r"^#{2,3} (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if part["heading"]:
            heading = part["heading"]
        else:
            found.append((heading, part["code"]))
    return found


def with_our_imports(code: str) -> str:
    for theirs, ours in IMPORTS.items():
        code = code.replace(theirs, ours)
    return code


def run(block: Block, code: str, storage: StorageEngine) -> None:
    """Runs a block among the names that it takes as given."""
    namespace: dict[str, Any] = {
        "datetime": datetime,
        "timezone": timezone,
        "Path": Path,
        "StorageEngine": Filled if block.given else StorageEngine,
        "TableMetadata": TableMetadata,
        "metadata": METADATA,
        "storage": storage,
        "data": EVENTS,
        "data_iter": EVENTS,
        "new_data_iter": EVENTS,
        "fetch_events": lambda: iter(EVENTS),
    }
    exec(compile(with_our_imports(code), block.heading, "exec"), namespace)


def prepare(directory: Path) -> None:
    with (directory / "data.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["event", "timestamp", "user_id", "id"])
        rows.writerow(["Purchase", "2024-01-02T03:04:05Z", "ada", "e1"])


def run_all(text: str, directory: Path, report: Callable[[Block, BaseException | None], None]) -> None:
    found = blocks_of(text)
    assert [heading for heading, _ in found] == [block.heading for block in BLOCKS]
    prepare(directory)
    for block, (_, code) in zip(BLOCKS, found, strict=True):
        with StorageEngine.ephemeral() as storage:
            if block.given and "if storage.table_exists" not in code:
                storage.create_events_table("events", EVENTS, METADATA)
            if "events_list" in code or "streams" in code:
                storage.drop_table("events", if_exists=True)
            try:
                run(block, code, storage)
            except Exception as error:
                report(block, error)
            else:
                report(block, None)


@pytest.mark.skipif("MERGANSER_QUICKSTART" not in os.environ, reason="MERGANSER_QUICKSTART names no file")
def test_quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MP_USERNAME", "MP_SECRET", "MP_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    text = Path(os.environ["MERGANSER_QUICKSTART"]).read_text()

    def report(block, error):
        if block.differs is None:
            assert error is None, block.heading
        else:
            assert isinstance(error, block.differs), block.heading

    run_all(text, tmp_path, report)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        quickstart = Path(os.environ["MERGANSER_QUICKSTART"]).read_text()
        os.environ["HOME"] = scratch
        os.chdir(scratch)
        lines: list[str] = []

        def add(block: Block, error: BaseException | None) -> None:
            outcome = "runs" if error is None else f"{type(error).__name__}: {error}"
            lines.append(f"| {block.heading} | {outcome} | {block.why} |")

        with contextlib.redirect_stdout(io.StringIO()):
            run_all(quickstart, Path(scratch), add)
        sys.stdout.write("| block | outcome | why it differs |\n|---|---|---|\n" + "\n".join(lines) + "\n")
