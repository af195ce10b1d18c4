"""docs/clients.md is true: its Python, JavaScript and commands run and print what it shows, and the tests that it names exist."""

import contextlib
import io
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
PORT = "8815"
# A piece of code, and the box right after it that shows what it prints.
PIECE = re.compile(r"^```(?P<language>python|js|sh)\n(?P<code>.*?)^```\n(?:```text\n(?P<shown>.*?)^```\n)?", re.M | re.S)
OWN_PYTHON = "# in a Python of its own\n"


def program(code, directory, environment):
    """What another program prints that runs `code`."""
    language, code = code
    if language == "js":
        script = directory / "page.cjs"
        script.write_text(code, encoding="utf-8")
        modules = directory / "node_modules"
        modules.symlink_to(environment("MERGANSER_TEST_NODE_MODULES"))
        command = ["node", script]
    elif language == "sh":
        client = shutil.which(environment("MERGANSER_TEST_FLIGHT_SQL_CLIENT"))
        command = ["bash", "-euc", code.replace("flight_sql_client", client)]
    else:
        command = [environment("MERGANSER_TEST_DBAPI_PYTHON"), "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_runs_from_top_to_bottom(server_factory, tmp_path):
    def environment(name):
        return os.environ.get(name) or pytest.skip(f"{name} is not set")

    server = server_factory("--memory")
    names, found = {"__name__": "clients"}, []
    for piece in PIECE.finditer(PAGE):
        line = PAGE.count("\n", 0, piece.start("code"))
        found.append(piece["language"])
        code = piece["code"].replace(PORT, str(server.port))
        if piece["language"] == "python" and not code.startswith(OWN_PYTHON):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile("\n" * line + code, "docs/clients.md", "exec"), names)
            printed = printed.getvalue()
        else:
            printed = program((piece["language"], code), tmp_path, environment)
        assert printed == (piece["shown"] or ""), f"docs/clients.md:{line + 1} prints something else than it shows"
    assert set(found) == {"python", "js", "sh"} and len(found) >= 6, "the pieces are not found any more"


def test_the_named_tests_and_files_exist():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "clients").glob("test_*.py"))
    rules = re.findall(r"^\| (\d+) \|(.*)$", PAGE, re.M)
    assert [int(number) for number, _ in rules] == list(range(1, 21))
    for number, row in rules:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, f"rule {number} has no test"
        for name in named:
            assert f"def {name}(" in tests, f"rule {number} names {name}, which is not there"
    for link in re.findall(r"\]\((\.\./[^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def test_versions_are_those_that_are_installed():
    """Each version in the table is the one that a list of clients pins."""
    lists = [*(ROOT / "tests" / "clients").glob("requirements*.txt"), ROOT / "tests" / "clients" / "npm" / "package.json"]
    pins = "\n".join(path.read_text(encoding="utf-8") for path in lists) + (ROOT / "tests/support/tools.rs").read_text()
    table = PAGE[: PAGE.index("Not run here")]
    versions = re.findall(r"^\| .*?\| (\d+\.\d+\.\d+) \|", table, re.M)
    assert len(versions) >= 11
    for version in versions:
        assert version in pins, version
