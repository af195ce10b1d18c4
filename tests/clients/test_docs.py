"""The README and docs are true: what they show runs and prints what they say, and their links lead somewhere."""

import re

import pytest

import pages

# What the pages show and nobody runs here: the page, the language, the first line. Each has a reason on its page.
NOT_RUN = [
    ("README.md", "console", "$ cargo run --release -- serve        # builds the server, and runs it on its default database"),
    ("README.md", "console", "$ merganser tail app_events --since 10m --where \"event_name = 'Purchase'\""),
    ("README.md", "text", "merganser> SELECT count(*) FROM app_event WHERE event_name = 'page view';"),
    ("docs/guide.md", "r", "library(adbcdrivermanager)"),
    ("docs/guide.md", "java", 'String url = "jdbc:arrow-flight-sql://127.0.0.1:8815/?useEncryption=false&user=any&password=thing";'),
    ("docs/guide.md", "ini", "Driver={Arrow Flight SQL ODBC Driver};Host=127.0.0.1;Port=8815;UseEncryption=false;UID=any;PWD=thing"),
]
LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
FENCE = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", pages.names())
def test_a_page_does_what_it_shows(name, tmp_path):
    pages.Page(name, tmp_path).run()


def test_what_is_not_run_is_known():
    found = [
        (name, piece.language, piece.code.splitlines()[0])
        for name in pages.names()
        for piece in pages.pieces(pages.read(name))
        if piece.why is not None
    ]
    assert found == NOT_RUN


def anchors(text):
    """The anchors that GitHub gives to the headings of a page."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        anchor = words
        while anchor in found:
            number += 1
            anchor = f"{words}-{number}"
        found.add(anchor)
    return found


def test_links_lead_somewhere():
    folders = ["", "docs", "benches", "clients/python", "deploy", "tests/crash", "tests/hostile"]
    files = [path for folder in folders for path in sorted((pages.ROOT / folder).glob("*.md"))]
    checked = 0
    for file in files:
        for link in LINK.finditer(FENCE.sub("", file.read_text(encoding="utf-8"))):
            target = (file.parent / link["path"]).resolve() if link["path"] else file
            assert target.exists(), f"{file.name}: {link[0]} leads nowhere"
            if link["anchor"]:
                assert link["anchor"] in anchors(target.read_text(encoding="utf-8")), f"{file.name}: {link[0]}: no such heading"
            checked += 1
    assert checked > 50, "the links are not found any more"


def test_the_index_lists_all_pages():
    index = pages.read("docs/README.md")
    for name in pages.names():
        page = name.removeprefix("docs/")
        assert name in ("README.md", "docs/README.md") or f"]({page})" in index, f"docs/README.md does not list {page}"


def test_the_runner_tells_the_true_from_the_false():
    """It would be no test if everything passed."""
    assert pages.is_same("a\nb\nc\n", "a\n...\nc\n") and not pages.is_same("a\nb\n", "a\n")
    assert pages.is_same("in 1.5 s (20 rows/s)\n", "in 0.1 s (3,000 rows/s)\n") and not pages.is_same("2 rows\n", "3 rows\n")
    assert pages.is_same("at 12:00 sharp\n", "at ... sharp\n") and not pages.is_same("at 12:00\nsharp\n", "at ... sharp\n")
    assert pages.commands("$ a \\\n  b\nx\n$ c\n") == [["a \\\n  b\n", "x\n"], ["c\n", ""]]
    [piece] = pages.pieces("*Not run by the tests: it needs R.*\n\n```r\nx\n```\n")
    assert (piece.why, piece.language, piece.code, piece.box, piece.line) == ("it needs R", "r", "x\n", None, 3)
