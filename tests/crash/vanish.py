"""A client that is going to be killed: it sends one stream that does not end, and says so once its first batch is there.

    python vanish.py URI TABLE MODE
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyarrow import flight

sys.path.append(str(Path(__file__).parent.parent / "clients"))

import model  # noqa: E402
from support import ingest  # noqa: E402


def main() -> None:
    uri, table, mode = sys.argv[1:]
    client = flight.connect(uri)
    command = ingest(table, kind="events", mode=mode, progress="every_batch")
    writer, reader = client.do_put(command, model.SCHEMAS["events"])
    reader.read()
    version = 0
    while True:
        version += 1
        # Keys of nobody: whoever finds one has found half a stream.
        writer.write_table(model.arrow("events", [(f"vanished_{version}_{number}", version) for number in range(500)]))
        reader.read()
        if version == 1:
            print("sending", flush=True)


if __name__ == "__main__":
    main()
