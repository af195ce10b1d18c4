"""docs/clients.md is true: the tests that it names exist, and the versions are those that are installed."""

import re

import pages

PAGE = pages.read("docs/clients.md")


def test_the_named_tests_exist():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (pages.ROOT / "tests" / "clients").glob("test_*.py"))
    rules = re.findall(r"^\| (\d+) \|(.*)$", PAGE, re.M)
    assert [int(number) for number, _ in rules] == list(range(1, 21))
    for number, row in rules:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, f"rule {number} has no test"
        for name in named:
            assert f"def {name}(" in tests, f"rule {number} names {name}, which is not there"


def test_versions_are_those_that_are_installed():
    """Each version in the table is the one that a list of clients pins."""
    lists = [*(pages.ROOT / "tests" / "clients").glob("requirements*.txt"), pages.ROOT / "tests" / "clients" / "npm" / "package.json"]
    pins = "\n".join(path.read_text(encoding="utf-8") for path in lists) + (pages.ROOT / "tests/support/tools.rs").read_text()
    table = PAGE[: PAGE.index("Not run here")]
    versions = re.findall(r"^\| .*?\| (\d+\.\d+\.\d+) \|", table, re.M)
    assert len(versions) >= 11
    for version in versions:
        assert version in pins, version
