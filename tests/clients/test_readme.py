"""The README is true: its Python runs from top to bottom, its commands run, and they print what it shows."""

import contextlib
import io
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
DEFAULT_URI = "grpc://127.0.0.1:8815"
COMMANDS = "<!-- run by tests/clients/test_readme.py -->\n```sh"

# A piece of code, and the box right after it that shows what it prints.
PIECE = r"^{start}\n(?P<code>.*?)^```\n(?:```text\n(?P<shown>.*?)^```\n)?"


def pieces(start):
    """The pieces of the README that begin with `start`: the line where each begins, the code, what is shown of it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for match in re.finditer(PIECE.format(start=re.escape(start)), readme, re.MULTILINE | re.DOTALL):
        yield readme.count("\n", 0, match.start("code")), match["code"], match["shown"]


def check(line, printed, shown):
    """Whatever is printed is shown; a piece without a box may print what it likes."""
    if shown is not None:
        assert printed == shown, f"README.md:{line + 1} prints something else than it shows"


def test_python_runs_from_top_to_bottom(server_factory):
    server = server_factory("--memory")
    names = {"__name__": "readme"}
    found = list(pieces("```python"))
    for line, code, shown in found:
        # The empty lines give a traceback the README's own line numbers.
        program = compile("\n" * line + code.replace(DEFAULT_URI, server.uri), ROOT / "README.md", "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(program, names)
        check(line, printed.getvalue(), shown or "")
    assert len(found) >= 10, "the pieces are not found any more"


def test_commands_run_one_by_one(server_factory, tmp_path):
    server = server_factory("--memory")
    (tmp_path / "merganser").symlink_to(pathlib.Path(os.environ["MERGANSER_BIN"]).resolve())
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MERGANSER_SERVER": server.uri}
    found = list(pieces(COMMANDS))
    for line, code, shown in found:
        commands = ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(commands, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"README.md:{line + 1}: {done.stderr}"
        check(line, done.stdout, shown)
    assert len(found) >= 2, "the commands are not found any more"
