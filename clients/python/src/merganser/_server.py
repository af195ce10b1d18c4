"""The private server: a ``merganser serve`` process of our own, which ends with us.

It listens on the loopback interface with a random password that only its environment and this process know, so that other
users of the machine cannot use it. It ends when the pipe to its stdin closes: on ``stop``, and whatever else ends this process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import select
import shutil
import subprocess
import sysconfig
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from merganser.errors import DatabaseLockedError, DatabaseNotFoundError, ServerStartError

BINARY = "merganser"
USER = "private"
START_SECONDS = 600
"""A start takes a fraction of a second, but for a file whose write-ahead log has to be read first."""
STOP_SECONDS = 60
"""The server gives running calls 30 s (``server.shutdown_grace``) and writes its log back; then it is ended."""
LOG_LINES = 200
"""Lines of the server's log that are kept, for the message when it ends by itself."""

# What of the environment a private server hears: how much it may take, and what it logs. Not where it listens, who may sign in
# or which database it opens.
_SECTIONS = ("ENGINE", "INGEST", "LOG", "OTEL", "QUERIES", "QUERY", "SESSION")
_SETTINGS = re.compile(rf"MERGANSER_(?:{'|'.join(_SECTIONS)})(?:_|$)")
# A directory that is not there: the user's own configuration is for the user's own servers.
_NO_CONFIGURATION = Path(__file__).with_name("no-configuration")

# Its one user may go for lunch, and so may the source of an ingest.
_PATIENT = {
    "MERGANSER_INGEST_IDLE_TIMEOUT": "1day",
    "MERGANSER_SESSION_IDLE_TIMEOUT": "30days",
    "MERGANSER_AUTH_SESSION_TOKEN_EXPIRE": "365days",
    "MERGANSER_LOG": "warn",
}

_log = logging.getLogger("merganser.server")
_alive: weakref.WeakSet[PrivateServer] = weakref.WeakSet()


def find_binary() -> str:
    """The server's binary: ``MERGANSER_BIN``, else beside this Python's other scripts, else on the ``PATH``."""
    if chosen := os.environ.get("MERGANSER_BIN"):
        if not Path(chosen).is_file():
            raise ServerStartError(f"MERGANSER_BIN is {chosen}, and there is no such file")
        return chosen
    for scheme in (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")):
        candidate = Path(sysconfig.get_path("scripts", scheme)) / BINARY
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return str(candidate)
    if found := shutil.which(BINARY):
        return found
    raise ServerStartError(
        "the merganser binary is not there: it comes with the wheel; else put it on the PATH, or its path into MERGANSER_BIN"
    )


class PrivateServer:
    """One server process. ``location`` is its database: a path, ``--ephemeral`` or ``--memory``."""

    def __init__(self, location: Sequence[str], path: Path | None = None) -> None:
        self.path = path
        self.user = USER
        self.password = secrets.token_urlsafe(32)
        self._pid = os.getpid()
        self._stopping = threading.Lock()
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._start([find_binary(), "serve", *location, "--listen", "127.0.0.1:0", "--stop-with-stdin"])
        _alive.add(self)
        try:
            self.uri = self._read_uri()
        except BaseException:
            self.stop()
            raise

    def _start(self, command: list[str]) -> None:
        stdin, self._stdin = os.pipe()
        self._stdout, stdout = os.pipe()
        self._stderr, stderr = os.pipe()
        try:
            # A session of its own: ctrl-c in the terminal is for the statement, not for the server.
            self._process = subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=stderr, env=self._environment(), start_new_session=True
            )
        except OSError as error:
            self._close_pipes()
            os.close(self._stderr)
            raise ServerStartError(f"{command[0]} cannot be started: {error.strerror}") from error
        finally:
            for theirs in (stdin, stdout, stderr):
                os.close(theirs)
        self._reader = threading.Thread(target=self._read_log, name="merganser-log", daemon=True)
        self._reader.start()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if _is_heard(name)}
        own = {
            "MERGANSER_AUTH_USER": self.user,
            "MERGANSER_AUTH_PASSWORD": self.password,
            "XDG_CONFIG_HOME": str(_NO_CONFIGURATION),
        }
        return _PATIENT | kept | own

    def _read_log(self) -> None:
        with os.fdopen(self._stderr, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self._lines.append(line.rstrip())
                _log.info("%s", line.rstrip())

    def _read_uri(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise ServerStartError(f"the server was not ready in {START_SECONDS} s")
            letter = os.read(self._stdout, 1)
            if not letter:
                raise self._start_error()
            line += letter
        return line.decode().strip().removeprefix("listening on ")

    def _start_error(self) -> Exception:
        self._process.wait()
        self._reader.join()
        reason = (self._lines[-1] if self._lines else f"exit code {self._process.returncode}").removeprefix("error: ")
        if self.path is not None and "is in use by" in reason:
            holder = re.search(r"in use by process (\d+)", reason)
            return DatabaseLockedError(self.path, int(holder[1]) if holder else None, reason)
        if self.path is not None and "database file not found" in reason:
            return DatabaseNotFoundError(self.path)
        return ServerStartError(f"the server did not start: {reason}")

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def is_foreign(self) -> bool:
        """Whether another process has started it, of which this one is a fork."""
        return os.getpid() != self._pid

    def epitaph(self) -> str:
        """What is known of how the process ended."""
        last = f": {self._lines[-1]}" if self._lines else ""
        return f"the private server has ended (exit code {self._process.returncode}){last}"

    def stop(self) -> None:
        """Ends the process and waits for it. Only who has started it can."""
        if self.is_foreign():
            return
        with self._stopping:
            self._close_pipes()
            for end, seconds in ((lambda: None, STOP_SECONDS), (self._process.terminate, 5), (self._process.kill, 5)):
                end()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(seconds)
                    break
            self._reader.join(timeout=1)
            _alive.discard(self)

    def _close_pipes(self) -> None:
        for name in ("_stdin", "_stdout"):
            pipe = getattr(self, name)
            if pipe >= 0:
                setattr(self, name, -1)
                os.close(pipe)

    def leave_to_parent(self) -> None:
        """In a forked child: the pipe is the parent's alone, whose end is to be seen."""
        self._close_pipes()
        with contextlib.suppress(OSError):
            os.close(self._stderr)


def _is_heard(name: str) -> bool:
    return not name.startswith("MERGANSER_") or _SETTINGS.match(name) is not None


class _Shared:
    """The servers on files: engines of this process on one file share one, because only one process can have it open."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a forked child: they are the parent's, and so may be the lock."""
        self._lock = threading.Lock()
        self._servers: dict[tuple[Path, bool], tuple[PrivateServer, int]] = {}

    def acquire(self, path: Path, read_only: bool) -> PrivateServer:
        """The server on a file, started if there is none."""
        key = (path.resolve(), read_only)
        with self._lock:
            server, users = self._servers.get(key, (None, 0))
            if server is None or not server.is_running():
                location = ["--read-only", str(path)] if read_only else [str(path)]
                server, users = PrivateServer(location, path), 0
            self._servers[key] = (server, users + 1)
            return server

    def release(self, server: PrivateServer) -> None:
        """Gives it back; the last one stops it."""
        if server.is_foreign():
            return
        with self._lock:
            for key, (shared, users) in self._servers.items():
                if shared is server and users > 1:
                    self._servers[key] = (shared, users - 1)
                    return
                if shared is server:
                    del self._servers[key]
                    break
            # Within the lock: who opens the file next waits until it is free.
            server.stop()


shared = _Shared()


def _leave_to_parent() -> None:
    for server in list(_alive):
        server.leave_to_parent()
    _alive.clear()
    shared.forget()


os.register_at_fork(after_in_child=_leave_to_parent)
