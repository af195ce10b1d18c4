"""What pyproject.toml says that the package runs on is what it is checked for and tested with."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PROJECT = (TESTS.parent / "pyproject.toml").read_text()


def test_the_oldest_versions_are_tested():
    allowed = dict(re.findall(r'^\s*(?:\w+ = \[)?"([a-z-]+)>=([\d.]+)"', PROJECT, re.MULTILINE))
    tested = dict(re.findall(r"^([a-z-]+)==([\d.]+)$", (TESTS / "requirements-oldest.txt").read_text(), re.MULTILINE))
    assert {"pyarrow", "msgspec", "pandas", "polars"} <= allowed.keys() <= tested.keys()
    for name, version in allowed.items():
        assert re.fullmatch(rf"{re.escape(version)}(\.0)*", tested[name]), name


def test_the_linters_look_for_the_oldest_python():
    [oldest] = re.findall(r'^requires-python = ">=3\.(\d+)"$', PROJECT, re.MULTILINE)
    assert f'\npythonVersion = "3.{oldest}"\n' in PROJECT
    assert f'\ntarget-version = "py3{oldest}"\n' in PROJECT
