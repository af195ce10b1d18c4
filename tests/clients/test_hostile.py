"""The hostile statements of tests/hostile, each by every way over the wire and in every role: the verdict is the one of the
list, the server still serves, nothing outside and nothing of the data is harmed, and nothing is told that must not be.
"""

import shutil

import duckdb
import pytest

import hostile
from hostile import CODES, FILE_CANARY, MUST_CHANGE_NOTHING, ROLES, TABLE_CANARY, WAYS, Arena

GROUPS = hostile.groups()


def names(group):
    return f"{group.file}: {group.name}"


@pytest.fixture(scope="module")
def arenas(tmp_path_factory):
    """Arenas without users and with all of them, with an export directory and without; made when first asked for."""
    made = {}

    def arena(with_users, with_exports=False):
        if (with_users, with_exports) not in made:
            root = tmp_path_factory.mktemp("arena") / "root"
            made[with_users, with_exports] = Arena(root, with_users, with_exports)
        return made[with_users, with_exports]

    yield arena
    for arena in made.values():
        assert arena.stop() == []


def leaks(arena, role, said, answers, hides=(), paths_are_secret=False):
    """What the client was told and must not be; what it has said itself is no secret."""
    secrets = [FILE_CANARY.encode(), arena.magic]
    if not (paths_are_secret and role in hostile.ADMINS):
        secrets += [str(arena.data).encode(), str(arena.users).encode(), b"/.duckdb"]
    if role == "restricted":
        secrets += [TABLE_CANARY.encode(), *(word.encode() for word in hides)]
    told = b"\n".join(answer for answer in answers if answer)
    return [f"tells {secret!r}" for secret in secrets if secret in told and secret not in said.encode()]


def unlike(verdict, code, answers):
    """What to say of an answer that the list has not expected."""
    return f"OK, not {verdict}" if code == "OK" else f"{code}, not {verdict}: {answers[0][:200]!r}"


def told_by(arena, group, role, way, sql, verdict):
    """Runs one statement one way; returns what is wrong with the answer."""
    refused = verdict in MUST_CHANGE_NOTHING
    client = hostile.in_session(arena.client(role), new=bool(group.before) or not refused)
    # What is undone leaves the arena as it was; closing the session does it.
    for before in group.before + (("BEGIN",) if group.undo and not refused else ()):
        hostile.outcome(hostile.by_ticket, client, arena.expand(before))
    code, answers = hostile.outcome(WAYS[way], client, sql)
    wrong = [] if code in CODES[verdict] else [unlike(verdict, code, answers)]
    wrong += leaks(arena, role, sql, answers, group.hides, group.paths_are_secret)
    if not refused:
        hostile.in_session(client)
    return wrong


def done_to(arena, may_change, last):
    """What was done to the files and the data; after any change the arena is as new.

    The data is looked at after each statement that may change it, and after the `last` of those that may not.
    """
    damage = arena.damage()
    change = arena.change() if not damage and (may_change or last) else ""
    if change and not may_change:
        damage.append(f"{change}, by this one or one before")
    elif change and not arena.counts_agree():
        damage.append("_metadata tells other numbers of rows than there are")
    return damage + arena.reset() if damage or change else damage


@pytest.mark.parametrize("group", GROUPS, ids=names)
@pytest.mark.parametrize("role", ROLES)
def test_hostile_statements(arenas, role, group):
    arena = arenas(role != "open", group.exports)
    wrong = []
    cases = list(group.cases(role))
    for number, (text, verdict) in enumerate(cases):
        sql = arena.expand(text)
        # What works would work twice only by luck: it takes one of the two ways that run everything.
        ways = ["ticket", "info"][number % 2 :][:1] if verdict == "works" else WAYS
        found = {}
        for way in ways:
            for what in told_by(arena, group, role, way, sql, verdict):
                found.setdefault(what, []).append(way)
        found = [f"by {', '.join(ways)}: {what}" for what, ways in found.items()]
        wrong += [f"{text!r}: {what}" for what in found + done_to(arena, not group.changes_nothing(verdict), number + 1 == len(cases))]
    assert not wrong, "\n".join([f"{len(wrong)} wrong:", *wrong])


def name_of_call(entry):
    return f"{entry['do']}: {entry['why']}"


@pytest.mark.parametrize("call", hostile.calls(), ids=name_of_call)
@pytest.mark.parametrize("role", ROLES)
def test_hostile_calls(arenas, role, call):
    """What is no SQL text: names, paths, options, patterns, parameters, tickets."""
    arena = arenas(role != "open")
    verdict = hostile.verdict_of(call["verdict"], role)
    wrong = []
    for number, told in enumerate(call["each"]):
        one = hostile.expanded(arena, told)
        client = hostile.in_session(arena.client(role))
        code, answers = hostile.outcome(hostile.DO[call["do"]], client, one)
        found = [] if code in CODES[verdict] else [unlike(verdict, code, answers)]
        if code == "OK" and "rows" in call and (rows := hostile.rows_of(call["do"], answers)) != call["rows"]:
            found.append(f"{rows} rows")
        found += leaks(arena, role, str(one), answers, call.get("hides", ()))
        may_change = verdict not in MUST_CHANGE_NOTHING
        wrong += [f"{told!r}: {what}" for what in found + done_to(arena, may_change, number + 1 == len(call["each"]))]
    assert not wrong, "\n".join([f"{len(wrong)} wrong:", *wrong])


# --- the list itself ---


def test_the_list_is_long_enough_and_says_everything_once():
    statements = [sql for group in GROUPS for sql, _ in group.cases("reader")]
    assert len(statements) >= 300
    keys = [(group.exports, group.before, sql) for group in GROUPS for sql, _ in group.cases("reader")]
    assert len(set(keys)) == len(keys), sorted({key for key in keys if keys.count(key) > 1})
    assert {verdict for group in GROUPS for role in ROLES for _, verdict in group.cases(role)} <= set(CODES)


@pytest.mark.parametrize("group", [group for group in GROUPS if group.checked != "server"], ids=names)
def test_each_statement_is_a_real_attack(arenas, tmp_path, group):
    """In DuckDB without any lock-down each does what the list says: a typo would prove nothing."""
    arena = arenas(False)
    wrong = []
    for text, expected in group.checks():
        sql = arena.expand(text).replace(str(arena.root), str(tmp_path / "root"))
        shutil.rmtree(tmp_path / "root", ignore_errors=True)
        shutil.copytree(arena.outside, tmp_path / "root" / "outside", symlinks=True)
        (tmp_path / "root" / "outside" / "link_to_database").unlink()
        (tmp_path / "root" / "outside" / "link_to_database").symlink_to(tmp_path / "root" / "data" / "main.duckdb")
        (tmp_path / "root" / "data").mkdir()
        (tmp_path / "root" / "exports").mkdir()
        shutil.copyfile(arena.template, tmp_path / "root" / "data" / "main.duckdb")
        before = [arena.expand(one).replace(str(arena.root), str(tmp_path / "root")) for one in group.before]
        found = unlocked(tmp_path / "root" / "data" / "main.duckdb", before, sql, expected)
        if found != expected:
            wrong.append(f"{text!r}: {found}, not {expected}")
    assert not wrong, "\n".join([f"{len(wrong)} wrong:", *wrong])


def unlocked(database, before, sql, expected):
    """`runs`, `parses` or `refused`, and why."""
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        try:
            parsed = connection.extract_statements(sql)
        except (duckdb.Error, UnicodeError) as error:
            return "refused" if expected == "refused" else f"refused: {str(error).splitlines()[0]}"
        if expected == "parses":
            return "parses"
        connection.execute(f"ATTACH '{database}' AS merganser; USE merganser")
        try:
            for one in before:
                connection.execute(one)
            assert parsed, "no statement"
            connection.execute(sql).to_arrow_table()
        except (duckdb.Error, AssertionError) as error:
            return "refused" if expected == "refused" else f"refused: {str(error).splitlines()[0]}"
    return "runs"
