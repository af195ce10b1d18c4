"""Runs what a page shows, from top to bottom, and holds what it prints against what the page says that it prints.

A fenced block is run by its language:

* `python`: in one program for the whole page; one that begins with `# in a Python of its own` in another environment;
* `sql`: by `merganser query`;
* `console`: each line that begins with `$ ` is a command, and what follows it up to the next one is what it prints, errors included.
  `merganser serve` stays, until the next one or the end of the page;
* `sh`: a script; `js`: under node;
* `toml`: a configuration file, which the server must accept.

A `text` block right after a piece is its box: what it prints. `...` stands for anything in a line and, alone in a line, for any
lines. A block below a line `*Not run by the tests: why.*` is not run. A page that does not begin with `merganser serve` finds a server
with an empty database in memory. Its home is `/home/ann` on the page, its files are there, and the ports 8815 and 8816 are free ones here.

With `UPDATE_DOCS=1` the boxes that are not true any more are written anew.
"""

import contextlib
import io
import os
import pathlib
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass

import pytest

import support

ROOT = pathlib.Path(__file__).parents[2]
HOME = "/home/ann"
PORTS = ("8815", "8816")
OWN_PYTHON = "# in a Python of its own\n"
UPDATE = os.environ.get("UPDATE_DOCS") == "1"

PIECE = re.compile(
    r"(?:^\*Not run by the tests: (?P<why>[^\n]+)\.\*\n+)?"
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```\n"
    r"(?:```text\n(?P<box>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
# What no two runs have in common.
VOLATILE = [
    (re.compile(r"in \d+\.\d s \([\d,]+ rows/s\)"), "in 0.0 s (0 rows/s)"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
]


@dataclass(frozen=True)
class Piece:
    """A fenced block, and the box below it."""

    language: str
    code: str
    # What it prints; None: there is no box.
    box: str | None
    # Why it is not run; None: it is.
    why: str | None
    # The line before its first one.
    line: int
    # Where its code and its box stand in the page.
    code_span: tuple[int, int]
    box_span: tuple[int, int]


def names():
    """The pages: the README, and what is in docs."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def pieces(text):
    return [
        Piece(
            language=match["language"],
            code=match["code"],
            box=match["box"],
            why=match["why"],
            line=text.count("\n", 0, match.start("code")),
            code_span=match.span("code"),
            box_span=match.span("box"),
        )
        for match in PIECE.finditer(text)
    ]


def commands(code):
    """The commands of a console, each with what it prints. A backslash at the end of a line goes on in the next one."""
    found = []
    for line in code.splitlines(keepends=True):
        if found and not found[-1][1] and found[-1][0].endswith("\\\n"):
            found[-1][0] += line
        elif line.startswith("$ "):
            found.append([line[2:], ""])
        else:
            assert found, f"a console begins with `$ `, not with {line!r}"
            found[-1][1] += line
    return found


def is_same(printed, shown):
    """Whether it is what is shown, but for what no two runs have in common."""
    for pattern, word in VOLATILE:
        printed, shown = pattern.sub(word, printed), pattern.sub(word, shown)
    lines = [re.escape(line).replace(r"\.\.\.", "[^\n]*") for line in shown.splitlines(keepends=True)]
    wanted = "".join(r"(?:[^\n]*\n)*" if line == "[^\n]*\\\n" else line for line in lines)
    return re.fullmatch(wanted, printed) is not None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


class Served(support.Server):
    """`merganser serve`, as the page types it."""

    def __init__(self, command, directory, name, environment):
        self.stdout_path, self.log_path = directory / f"{name}.stdout", directory / f"{name}.log"
        with self.stdout_path.open("wb") as stdout, self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=directory, env=environment, stdout=stdout, stderr=log
            )
        self.uri = self.port = None

    def says(self):
        """What it prints until it is ready; what it says of why it does not start."""
        try:
            self.wait_until_ready()
        except AssertionError:
            if self.process.poll() is None:
                raise
            return self.stdout_path.read_text() + self.log()
        return self.stdout_path.read_text()


class Page:
    """A page while it is run."""

    def __init__(self, name, directory):
        self.name, self.text, self.directory = name, read(name), directory
        self.names = {"__name__": "page"}
        self.ports = {shown: free_port() for shown in PORTS}
        self.server = None
        self.edits = []
        (directory / "bin").mkdir()
        (directory / "bin" / "merganser").symlink_to(pathlib.Path(os.environ["MERGANSER_BIN"]).resolve())
        (directory / "tests").symlink_to(ROOT / "tests")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MERGANSER_", "XDG_"))}
        listen = f"127.0.0.1:{self.ports['8815']}"
        self.environment = kept | {
            "PATH": f"{directory / 'bin'}:{kept['PATH']}",
            "HOME": str(directory),
            "TMPDIR": str(directory),
            "MERGANSER_SERVER": f"grpc://{listen}",
            "MERGANSER_SERVER_LISTEN": listen,
        }

    # --- what stands on the page, and what it is here ---

    def here(self, text):
        for shown, port in self.ports.items():
            text = re.sub(rf"\b{shown}\b", port, text)
        return text.replace(HOME, str(self.directory))

    def on_the_page(self, text):
        for shown, port in self.ports.items():
            text = text.replace(f":{port}", f":{shown}")
        return text.replace(str(self.directory), HOME)

    # --- running ---

    def run(self):
        """Runs all pieces. Where a client is not installed, its pieces are left out, and in the end the page counts as skipped."""
        found = [piece for piece in pieces(self.text) if piece.why is None]
        if not any(piece.code.startswith("$ merganser serve") for piece in found[:1]):
            self.serve("merganser serve --memory")
        missing = set()
        try:
            for piece in found:
                try:
                    self.run_piece(piece)
                except MissingToolError as error:
                    missing.add(str(error))
        finally:
            self.stop()
            if UPDATE:
                self.write()
        if missing:
            pytest.skip(", ".join(sorted(missing)))

    def run_piece(self, piece):
        if piece.language == "console":
            return self.console(piece)
        runners = {"python": self.python, "sql": self.sql, "sh": self.script, "js": self.javascript, "toml": self.settings}
        # A text alone is no program.
        assert piece.language in runners, f"{self.name}:{piece.line} is neither run nor said not to be run"
        printed = self.on_the_page(runners[piece.language](self.here(piece.code), piece.line))
        if piece.language == "sh" and piece.box is None:
            return None
        shown = piece.box or ""
        if not is_same(printed, shown):
            self.differs(piece.line, piece.box_span, piece.code_span, printed, shown)
        return None

    def console(self, piece):
        told = []
        for command, shown in commands(piece.code):
            printed = self.on_the_page(self.command(self.here(command)))
            told.append((command, shown if is_same(printed, shown) else printed))
        now = "".join(f"$ {command}{printed}" for command, printed in told)
        if now != piece.code:
            self.differs(piece.line, piece.code_span, piece.code_span, now, piece.code)

    def differs(self, line, span, code_span, printed, shown):
        assert UPDATE, f"{self.name}:{line + 1} prints\n{printed}and not, as it shows,\n{shown}"
        if span == (-1, -1):
            # A box that is not there yet comes after the code and its fence.
            at = code_span[1] + len("```\n")
            self.edits.append((at, at, f"```text\n{printed}```\n"))
        else:
            self.edits.append((*span, printed))

    def write(self):
        for start, end, text in sorted(self.edits, reverse=True):
            self.text = self.text[:start] + text + self.text[end:]
        (ROOT / self.name).write_text(self.text, encoding="utf-8")

    # --- servers ---

    def serve(self, command):
        self.stop()
        self.server = Served(command, self.directory, "server", self.environment)
        return self.server.says()

    def stop(self):
        if self.server is not None:
            self.server.stop()
            self.server = None

    # --- languages ---

    def python(self, code, line):
        if code.startswith(OWN_PYTHON):
            return self.finish([tool("MERGANSER_TEST_DBAPI_PYTHON"), "-c", code], line)
        # The empty lines give a traceback the page's own line numbers.
        program = compile("\n" * line + code, ROOT / self.name, "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.chdir(self.directory):
            exec(program, self.names)
        return printed.getvalue()

    def sql(self, code, line):
        return self.finish(["merganser", "query", code], line)

    def script(self, code, line):
        if "flight_sql_client" in code:
            code = code.replace("flight_sql_client", shutil.which(tool("MERGANSER_TEST_FLIGHT_SQL_CLIENT")))
        return self.finish(["bash", "-euo", "pipefail", "-c", code], line)

    def javascript(self, code, line):
        script, modules = self.directory / "page.cjs", self.directory / "node_modules"
        script.write_text(code, encoding="utf-8")
        if not modules.exists():
            modules.symlink_to(tool("MERGANSER_TEST_NODE_MODULES"))
        return self.finish(["node", script], line)

    def settings(self, code, line):
        file = self.directory / "page.toml"
        file.write_text(code, encoding="utf-8")
        self.finish(["merganser", "serve", "--config", file, "--print-config"], line)
        return ""

    def command(self, command):
        if command.startswith("merganser serve"):
            return self.serve(command)
        done = subprocess.run(
            ["bash", "-uo", "pipefail", "-c", command],
            check=False,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.stdout

    def finish(self, command, line):
        """What a program prints that must succeed."""
        done = subprocess.run(
            command, check=False, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{self.name}:{line + 1}: {done.stderr}"
        return done.stdout


class MissingToolError(Exception):
    """A client is not installed."""


def tool(variable):
    """A client that tests/clients.rs installs."""
    if path := os.environ.get(variable):
        return path
    raise MissingToolError(f"{variable} is not set")
