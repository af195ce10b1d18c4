"""A stand-in for Mixpanel: speaks its export and engage APIs on 127.0.0.1, and fails in the ways that they do.

Events and profiles are made up from their number, so that it is known which ones a day or a page has. What a request gets in the
place of a good answer is said by a script (per day or page, one fault an attempt) or drawn, at a rate, from all faults.

    python stand_in.py --events 2000000 --days 30 --fault-rate 0.1

prints its address, serves until its input ends, and tells at `/stats` what it has done.
"""

from __future__ import annotations

import argparse
import base64
import collections
import json
import random
import socket
import struct
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FIRST = date(2024, 1, 1)
NAMES = ("sign up", "view item", "save item", "checkout", "café ☕")
USERNAME, SECRET, PROJECT = "service.account", "s3cret-Of-Many-Letters", "2718281"
BLOCK = 500

# What a request may get in the place of a good answer, or around it.
STATUSES = {
    "429 with seconds": (429, {"Retry-After": "0"}, '{"error": "Query rate limit exceeded"}'),
    "429 with a date": (429, None, '{"error": "Query rate limit exceeded"}'),
    "429 without a hint": (429, {}, "slow down"),
    "408": (408, {}, ""),
    "500": (500, {}, '{"error": "Internal error"}'),
    "502 in HTML": (502, {"Content-Type": "text/html"}, "<html>\n<h1>Bad Gateway</h1></html>"),
    "503": (503, {"Retry-After": "0"}, ""),
    "504": (504, {}, "upstream request timeout"),
}
BEFORE = ("closed before", "reset before", "stall before", "not HTTP")
WHOLE = {
    "200 with an error text": "terminated early: too many rows\n",
    "200 with an error object": '{"error": "Unable to export", "status": "error"}\n',
    "200 with HTML": "<!doctype html><html>Maintenance</html>\n",
}
HALF = (
    "closed half-way",
    "reset half-way",
    "stall half-way",
    "truncated gzip",
    "damaged gzip",
    "shorter than its length",
    "no length",
    "cut within a line",
)
EXPORT_ONLY = ("malformed line", "error in the place of a line")
ENGAGE_ONLY = ("another page", "a page that is not full", "half of the JSON")
HARMLESS = ("events twice", "tiny pieces", "blank lines", "two gzip members", "no gzip")
COMMON = (*STATUSES, *BEFORE, *WHOLE, *HALF)
EXPORT_FAULTS = (*COMMON, *EXPORT_ONLY)
ENGAGE_FAULTS = (*COMMON, *ENGAGE_ONLY)


def event_line(number: int, day: date, *, has_id: bool = True) -> str:
    """The event of that number, as the export has it."""
    seconds = (day - date(1970, 1, 1)).days * 86_400 + number * 7919 % 86_400
    insert_id = f',"$insert_id":"{number:08x}-{number * 2654435761 % 2**32:08x}"' if has_id else ""
    return (
        f'{{"event":"{NAMES[number % 5]}","properties":{{"time":{seconds},"distinct_id":"user-{number * 31 % 5000}"{insert_id},'
        f'"$city":"Zürich","amount":{number % 1000}.50,"big":{number + 2**60},"device":{{"os":"macOS","time":{number % 9}}},'
        f'"note":"a \\"{number % 7}\\" \\u00e9","plan":"{("free", "paid")[number % 2]}"}}}}'
    )


def profile_text(number: int) -> str:
    """The profile of that number, as the engage API has it."""
    return (
        f'{{"$distinct_id": "user-{number}", "$properties": {{"$name": "N{number}", "$last_seen": "2024-01-{number % 28 + 1:02}'
        f'T00:00:00", "score": {number}.10}}}}'
    )


@dataclass
class StandIn:
    """What there is to fetch, what goes wrong, and what was asked for."""

    events: int = 5_000
    days: int = 5
    profiles: int = 2_500
    page_size: int = 1_000
    have_ids: bool = True
    lines: dict[str, list[str]] = field(default_factory=dict)
    """Lines of a day, in the place of those that are made up."""
    script: dict[str, list[str]] = field(default_factory=dict)
    """The faults of a day or page, one an attempt."""
    fault_rate: float = 0.0
    seed: int = 1
    stall: float = 30.0
    retry_after: float = 0.0
    requests: list[dict[str, str]] = field(default_factory=list)
    faults: collections.Counter[str] = field(default_factory=collections.Counter)

    def __post_init__(self) -> None:
        self.stopping = threading.Event()
        self._attempts: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stand_in = self

    def __enter__(self) -> StandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def last_day(self) -> date:
        return FIRST + timedelta(days=self.days - 1)

    def numbers(self, day: date) -> range:
        """The events of a day."""
        index = (day - FIRST).days
        if not 0 <= index < self.days:
            return range(0)
        return range(self.events * index // self.days, self.events * (index + 1) // self.days)

    def blocks(self, days: Iterable[date], names: set[str] | None) -> Iterator[str]:
        """The lines of days, a block at a time."""
        for day in days:
            if (lines := self.lines.get(str(day))) is not None:
                yield "".join(f"{line}\n" for line in lines)
                continue
            numbers = [n for n in self.numbers(day) if names is None or NAMES[n % 5] in names]
            for start in range(0, len(numbers), BLOCK):
                block = numbers[start : start + BLOCK]
                yield "".join(f"{event_line(n, day, has_id=self.have_ids)}\n" for n in block)

    def fault(self, part: str, request: dict[str, str], kinds: tuple[str, ...]) -> str:
        """What the next attempt of a part gets, and a note of it."""
        with self._lock:
            attempt = self._attempts[part]
            self._attempts[part] += 1
            if part in self.script:
                kind = self.script[part][attempt] if attempt < len(self.script[part]) else ""
            else:
                # Of the part and attempt, and not of the order of requests: so it is the same each time.
                source = random.Random(f"{self.seed} {part} {attempt}")
                kind = source.choice(kinds) if source.random() < self.fault_rate else ""
            self.requests.append(request | {"part": part, "fault": kind})
            if kind:
                self.faults[kind] += 1
            return kind

    def stats(self) -> dict[str, object]:
        return {"requests": len(self.requests), "failed": sum(self.faults.values()), "faults": dict(self.faults)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    stand_in: StandIn

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/stats":
            self._short(200, {}, json.dumps(self.server.stand_in.stats()))
        elif url.path == "/api/2.0/export":
            self._export({name: values[0] for name, values in parse_qs(url.query).items()})
        else:
            self._short(404, {}, "no such page")

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        if url.path == "/api/query/engage":
            self._engage({name: values[0] for name, values in (parse_qs(url.query) | parse_qs(body)).items()})
        else:
            self._short(404, {}, "no such page")

    # --- the two APIs ---

    def _export(self, query: dict[str, str]) -> None:
        if not self._is_known(query):
            return
        try:
            first, last = date.fromisoformat(query["from_date"]), date.fromisoformat(query["to_date"])
        except (KeyError, ValueError):
            self._short(400, {}, '{"error": "from_date and to_date must be YYYY-MM-DD"}')
            return
        if query.get("where") == "bad":
            self._short(400, {}, '{"error": "Invalid expression in where"}')
            return
        stand_in = self.server.stand_in
        names = set(json.loads(query["event"])) if "event" in query else None
        part = str(first) if first == last else f"{first} to {last}"
        fault = stand_in.fault(part, query, EXPORT_FAULTS)
        days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
        self._answer(fault, stand_in.blocks(days, names))

    def _engage(self, form: dict[str, str]) -> None:
        if not self._is_known(form):
            return
        stand_in = self.server.stand_in
        page = int(form.get("page", "0"))
        if page and form.get("session_id") != "1234-EXAMPLE":
            self._short(400, {}, '{"error": "request for page in uncached query for params"}')
            return
        fault = stand_in.fault(f"page {page}", form, ENGAGE_FAULTS)
        numbers = range(page * stand_in.page_size, min((page + 1) * stand_in.page_size, stand_in.profiles))
        if fault == "a page that is not full":
            numbers = numbers[: len(numbers) // 2]
        results = ",".join(map(profile_text, numbers))
        # The later pages do not repeat what the first one says.
        whole = f'"session_id": "1234-EXAMPLE", "total": {stand_in.profiles}, ' if not page else ""
        text = (
            f'{{"page": {page + (fault == "another page")}, "page_size": {stand_in.page_size}, {whole}"status": "ok", '
            f'"results": [{results}]}}'
        )
        middle = len(text) // 2
        self._answer(fault, [text[:middle]] if fault == "half of the JSON" else [text[:middle], text[middle:]])

    def _is_known(self, query: dict[str, str]) -> bool:
        wanted = "Basic " + base64.b64encode(f"{USERNAME}:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            # It should not, and some do: repeat what they were sent.
            self._short(401, {}, json.dumps({"error": f"Unauthorized: {self.headers.get('Authorization')} {USERNAME}"}))
        elif query.get("project_id") != PROJECT:
            self._short(403, {}, '{"error": "This account may not read the project"}')
        else:
            return True
        return False

    # --- answers, good ones and others ---

    def _answer(self, fault: str, blocks: Iterable[str]) -> None:
        if fault in STATUSES:
            status, headers, text = STATUSES[fault]
            self._short(status, self._hints(fault, headers), text)
        elif fault in BEFORE:
            self._fail(fault)
        elif fault in WHOLE:
            self._short(200, {}, WHOLE[fault])
        elif fault in ("no gzip", "shorter than its length", "no length", "cut within a line"):
            self._plain(fault, "".join(blocks).encode())
        else:
            self._gzip(fault, blocks)

    def _hints(self, fault: str, headers: dict[str, str] | None) -> dict[str, str]:
        seconds = self.server.stand_in.retry_after
        if headers is None:
            return {"Retry-After": format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)}
        return {name: str(int(seconds)) for name in headers} if fault != "502 in HTML" else headers

    def _fail(self, fault: str) -> None:
        kind = fault.split()[0]
        if kind == "stall":
            self.server.stand_in.stopping.wait(self.server.stand_in.stall)
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Two names of one socket: both must go for the reset to be sent.
            self.rfile.close()
        elif kind == "not":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.close_connection = True
        if kind == "reset":
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def _short(self, status: int, headers: dict[str, str], text: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _plain(self, fault: str, body: bytes) -> None:
        self.send_response(200)
        middle = len(body) // 2 + 1
        if fault == "shorter than its length":
            self.send_header("Content-Length", str(len(body)))
            body = body[:middle]
        elif fault == "cut within a line":
            while body[middle - 1 : middle] in b"}\n":
                middle += 1
            body = body[:middle]
        if fault != "shorter than its length" and fault != "no length":
            self.send_header("Content-Length", str(len(body)))
        if fault == "no length":
            self.send_header("Connection", "close")
            body = body[: body.rfind(b"\n", 0, middle) + 1]
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = fault != "no gzip"

    def _gzip(self, fault: str, blocks: Iterable[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        deflater = zlib.compressobj(1, wbits=31)
        pieces = list(_with_faults(fault, blocks)) if fault else _with_faults(fault, blocks)
        half = len(pieces) // 2 if isinstance(pieces, list) else -1
        for index, block in enumerate(pieces):
            data = deflater.compress(block)
            if index == half:
                if fault == "two gzip members":
                    data += deflater.flush()
                    deflater = zlib.compressobj(1, wbits=31)
                elif fault in HALF and fault != "damaged gzip":
                    data += deflater.flush(zlib.Z_SYNC_FLUSH)
                    self._break(fault, data)
                    return
            self._chunks(data, tiny=fault == "tiny pieces")
        end = deflater.flush()
        # Its last bytes are the checksum and the length.
        self._chunks(end[:-8] + bytes(8) if fault == "damaged gzip" else end, tiny=False)
        self.wfile.write(b"0\r\n\r\n")

    def _break(self, fault: str, data: bytes) -> None:
        self._chunks(data, tiny=False)
        if fault == "truncated gzip":
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._fail(fault)

    def _chunks(self, data: bytes, *, tiny: bool) -> None:
        size = 7 if tiny else max(len(data), 1)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))


def _with_faults(fault: str, blocks: Iterable[str]) -> Iterator[bytes]:
    for index, block in enumerate(blocks):
        text = block
        if fault == "events twice":
            text += block
        elif fault == "blank lines":
            text = text.replace("\n", "\r\n\r\n")
        elif fault == "malformed line" and not index:
            lines = text.splitlines(keepends=True)
            lines[len(lines) // 2] = lines[len(lines) // 2].replace(":", ";", 1)
            text = "".join(lines)
        elif fault == "error in the place of a line" and not index:
            text = text[: text.find("\n") + 1] + "terminated early: the query took too long\n"
        yield text.encode()
        if fault == "error in the place of a line":
            return


def main() -> None:
    arguments = argparse.ArgumentParser(description="A stand-in for Mixpanel's export and engage APIs")
    arguments.add_argument("--events", type=int, default=100_000)
    arguments.add_argument("--days", type=int, default=30)
    arguments.add_argument("--fault-rate", type=float, default=0.0)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--stall", type=float, default=30.0)
    given = arguments.parse_args()
    with StandIn(given.events, given.days, fault_rate=given.fault_rate, seed=given.seed, stall=given.stall) as stand_in:
        print(stand_in.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
