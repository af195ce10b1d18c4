"""`merganser shell`, as a person at a terminal has it, and as scripts do."""

import contextlib
import os
import pathlib
import socket
import subprocess
import threading

import grpc
import pytest
import raw
from support import Server, action, ingest, put
from terminal import Terminal

BIN = os.environ["MERGANSER_BIN"]
ENDLESS = "SELECT count(*) FROM range(1000000000000) a, range(1000) b"


@pytest.fixture(scope="module")
def shop(server, events, profiles):
    """The server with the sample in it."""
    with server.flight() as client:
        put(client, ingest("app_events", kind="events"), events)
        put(client, ingest("app_users", kind="profiles"), profiles)
    return server


def surroundings(server, directory):
    """The environment of a user whose home is this directory."""
    return {"HOME": str(directory), "XDG_STATE_HOME": str(directory / "state"), "MERGANSER_SERVER": server.uri}


@pytest.fixture
def terminal(shop, tmp_path):
    """`terminal(*arguments, **environment)` opens a shell in a terminal, and waits for its prompt."""
    opened = []

    def open_terminal(*arguments, lines=24, columns=100, server=shop, **environment):
        environment = surroundings(server, tmp_path) | {"PAGER": "cat"} | environment
        shell = Terminal([BIN, "shell", *arguments], environment, lines, columns, cwd=str(tmp_path))
        opened.append(shell)
        shell.see_line("merganser>")
        return shell

    yield open_terminal
    for shell in opened:
        shell.close()


def run(server, *arguments, text=None, directory=None):
    """Runs a shell without a terminal: its exit code, stdout and stderr."""
    environment = {"PATH": os.environ["PATH"]} | surroundings(server, directory or pathlib.Path("/nonexistent"))
    command = [BIN, "shell", *arguments]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=30, env=environment, cwd=directory
    )
    return done.returncode, done.stdout, done.stderr


# --- at a terminal ---


def test_tables_are_looked_at(terminal):
    shell = terminal()
    assert "DuckDB 2.0" in shell.text() and "\\? for help" in shell.text()
    listed = shell.ask("\\d")
    assert "app_events  events    2,000" in listed and "app_users   profiles    200" in listed
    described = shell.ask("\\d app_events")
    assert "insert_id    VARCHAR    no    key" in described and "row_count   2,000" in described
    assert shell.ask("\\d app_event") == 'error: table "app_event" not found; did you mean "app_events"?'
    assert "count_if" in shell.ask("\\df count%")
    assert "database    memory" in shell.ask("\\l")
    assert "\\copy TABLE FROM FILE" in shell.ask("\\?")
    assert "\\timing" in shell.ask("\\timng")
    assert shell.ask(".tables") == "commands begin with \\ here: .tables is \\d"
    shell.enter("exit")
    assert shell.end() == 0


def test_a_tab_completes(terminal):
    shell = terminal()
    shell.press("SELECT count(*) FROM app_e", "tab")
    shell.see_line("merganser> SELECT count(*) FROM app_events")
    shell.press(" WHERE event_n", "tab")
    shell.see_line("merganser> SELECT count(*) FROM app_events WHERE event_name")
    assert "2000" in shell.ask(" IS NOT NULL;").replace(",", "")

    shell.press("FROM app_events SELECT properties->>'$.dev", "tab", ".o", "tab")
    shell.see_line("merganser> FROM app_events SELECT properties->>'$.device.os")
    shell.press("' AS os, approx_count_d", "tab")
    shell.see_line("merganser> FROM app_events SELECT properties->>'$.device.os' AS os, approx_count_distinct(")
    assert "macOS" in shell.ask("distinct_id) GROUP BY ALL;")

    # What is new is known, and several candidates are listed.
    shell.ask("CREATE TABLE app_notes AS SELECT 1 AS remark;")
    shell.press("FROM app_", "tab")
    shell.see("app_events  app_notes   app_users")
    shell.press("n", "tab")
    shell.see_line("merganser> FROM app_notes")
    assert "remark" in shell.ask(";")
    shell.ask("DROP TABLE app_notes;")


def test_a_session_has_transactions_and_settings(terminal):
    shell = terminal()
    shell.ask("CREATE TEMP TABLE own AS SELECT 42 AS n;")
    assert "42" in shell.ask("FROM own;")
    assert shell.ask("BEGIN;", prompt="merganser*>") == "done"
    assert "1 row changed" in shell.ask("INSERT INTO own VALUES (43);", prompt="merganser*>")
    shell.ask("ROLLBACK;")
    assert "43" not in shell.ask("FROM own;")
    shell.ask("SET TimeZone = 'Europe/Oslo';")
    assert "14:00:00" in shell.ask("SELECT TIMESTAMPTZ '2024-07-01 12:00:00+00'::VARCHAR AS t;")


def test_statements_have_lines_and_forms(terminal):
    shell = terminal()
    shell.press("SELECT 1 AS a,", "enter", "  'x;", "enter", "y' AS b", "enter")
    assert "| 1 | x; y |" in shell.ask(";")
    assert "a line a value" in shell.ask("\\x")
    assert "-[ row 1 ]-\na | 1\nb | x" in shell.ask("SELECT 1 AS a, 'x' AS b;")
    shell.ask("\\x off")
    shell.ask("\\format csv")
    assert shell.ask("SELECT 1 AS a, 'x' AS b;") == "a,b\n1,x"
    shell.ask("\\format table")
    shell.ask("\\timing on")
    assert "Time: " in shell.ask("SELECT 1;")
    # ctrl-c gives up what is typed.
    shell.press("SELECT 'never", "enter", "ctrl-c")
    assert "| 2 |" in shell.ask("SELECT 2;")
    shell.press("ctrl-d")
    assert shell.end() == 0


def test_ctrl_c_cancels_at_the_server(terminal, shop):
    shell = terminal()
    shell.enter(f"{ENDLESS};")
    with shop.flight() as client:

        def states():
            return [found["state"] for found in action(client, "list_queries") if "range" in (found.get("text") or "")]

        shell.wait(lambda: "running" in states(), "a running statement")
        shell.press("ctrl-c")
        shell.see("error: cancelled")
        shell.see_line("merganser>")
        shell.wait(lambda: not states(), "its end")
        [last] = [found for found in action(client, "list_queries", all=True) if "range" in (found.get("text") or "")][:1]
        assert last["outcome"] == "cancelled"
    assert "| 1 |" in shell.ask("SELECT 1;")


def test_long_results_are_paged(terminal, tmp_path):
    paged = tmp_path / "paged"
    shell = terminal(PAGER=f"cat > {paged}", lines=20)
    shell.ask("SELECT range FROM range(5);")
    assert not paged.exists()
    shell.ask("SELECT range FROM range(50);")
    assert paged.read_text().splitlines()[-1] == "50 rows"
    shell.ask("SELECT range FROM range(5000);")
    assert "... and more: these are the first 1,000 (--max-rows)" in paged.read_text()
    # Who leaves the pager has seen enough.
    shell = terminal(PAGER="head -3", lines=20)
    assert shell.ask("SELECT range FROM range(900);").endswith("| range |\n+-------+")
    assert "| 1 |" in shell.ask("SELECT 1;")


def test_errors_show_the_place(terminal):
    shell = terminal()
    assert shell.ask("SELECT 1 FRM app_events;").splitlines()[1:] == [
        "SELECT 1 FRM app_events",
        "             ^",
    ]
    shown = shell.ask("SELECT count(*) FROM app_event;").splitlines()
    assert 'Did you mean "app_events"?' in shown[0]
    assert shown[1:] == ["SELECT count(*) FROM app_event", "                     ^"]
    shown = shell.ask("FROM app_events SELECT count(*) WHERE event_name = purchase;")
    assert "hint: text stands in single quotes: 'purchase'" in shown
    shown = shell.ask("SELECT 'x'::INT;")
    assert "Conversion Error" in shown and "          ^" in shown
    # A quote that was forgotten is noticed while it is typed.
    shell.press("SELECT 'a;", "enter")
    shell.see("(a string is not closed)")


def test_files_are_copied_both_ways(terminal, tmp_path):
    shell = terminal()
    assert "app.parquet: 2,000 rows" in shell.ask("\\copy app_events TO app.parquet")
    shell.ask("CREATE TEMP TABLE own AS SELECT 42 AS n;")
    shell.ask("\\copy (FROM own) TO 'own rows.csv'")
    assert (tmp_path / "own rows.csv").read_text() == "n\n42\n"
    shell.ask("\\copy app_again FROM app.parquet")
    assert "app_again   events    2,000" in shell.ask("\\d")
    assert "no such file" in shell.ask("\\copy app_again FROM nothing.csv")
    (tmp_path / "steps.sql").write_text("DROP TABLE app_again;\nSELECT 7 AS seven;\n\\nothing\nSELECT 8;\n")
    shell.ask("\\o rows.txt")
    shown = shell.ask("\\i steps.sql")
    assert "merganser: steps.sql:3: there is no command \\nothing" in shown
    shell.ask("\\o")
    assert "|     7 |" in (tmp_path / "rows.txt").read_text() and "app_again" not in shell.ask("\\d")


def test_history_is_kept_for_its_user_alone(terminal, tmp_path):
    shell = terminal()
    shell.ask("SELECT 12345;")
    shell.enter("\\q")
    assert shell.end() == 0
    history = tmp_path / "state" / "merganser" / "shell_history"
    assert history.stat().st_mode & 0o777 == 0o600 and "SELECT 12345;" in history.read_text()
    shell = terminal()
    shell.press("up", "up")
    shell.see_line("merganser> SELECT 12345;")


def test_a_server_that_is_started_again(terminal, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = f"127.0.0.1:{port}"
    first = Server(["--memory"], tmp_path, "first", listen=listen).wait_until_ready()
    second = None
    try:
        shell = terminal(server=first)
        shell.ask("BEGIN;", prompt="merganser*>")
        first.kill9()
        second = Server(["--memory"], tmp_path, "second", listen=listen).wait_until_ready()
        shown = shell.ask("SELECT 1;")
        assert f"error: lost the connection to {first.uri}" in shown
        assert "connected again, in a new session: temporary tables, settings and an open transaction are gone" in shown
        assert "| 1 |" in shell.ask("SELECT 1;")
        second.stop()
        shell.enter("SELECT 1;")
        shell.see("is the server running? start one with `merganser serve`")
        shell.press("ctrl-c")
        shell.see("not connected")
        shell.press("ctrl-d")
        assert shell.end() == 0
    finally:
        for server in filter(None, (first, second)):
            server.stop()


# --- without a terminal ---


def test_scripts_end_at_the_first_error(shop, tmp_path):
    script = (
        "CREATE TEMP TABLE own AS SELECT 1 AS n;\n-- a remark;\nFROM own;\n\\d app_users\nSELECT\n  nothing;\nSELECT 9;"
    )
    code, out, err = run(shop, text=script, directory=tmp_path)
    assert code == 1 and "| 1 |" in out and "distinct_id" in out and "| 9 |" not in out
    message, line, mark = err.splitlines()
    assert message.startswith('merganser: stdin:6: Binder Error: Referenced column "nothing" was not found')
    assert (line, mark) == ("  nothing", "  ^")

    code, out, _ = run(shop, "--format", "csv", text="SELECT 1 AS a; SELECT 2 AS b")
    assert (code, out) == (0, "a\n1\nb\n2\n")
    code, out, err = run(shop, text="SELECT 1;\n\nSELECT 'x;\n")
    assert code == 1 and err == "merganser: stdin:4: line 3: a string is not closed\n"


def test_commands_are_given_as_options(shop):
    code, out, _ = run(
        shop, "-c", "BEGIN; SELECT 1 AS a", "-c", "ROLLBACK", "-c", "\\d app_users", "--format", "ndjson"
    )
    assert code == 0 and out.startswith('{"a":1}\n') and "distinct_id" in out
    code, _, err = run(shop, "-c", "SELECT", "-c", "SELECT 1")
    assert code == 1 and err.startswith("merganser: Parser Error")
    code, _, err = run(shop, "--format", "parquet", "-c", "SELECT 1")
    assert code == 1 and "\\copy (QUERY) TO FILE" in err


def test_properties_of_sessions_are_the_server_s(shop):
    """Two shells do not see each other's temporary tables, and an ended shell leaves no session."""
    with shop.flight() as client:
        before = {session["id"] for session in action(client, "list_sessions")}
    code, _, _ = run(shop, text="CREATE TEMP TABLE own AS SELECT 1 AS n;\nFROM own;\n")
    assert code == 0
    code, _, err = run(shop, text="FROM own;\n")
    assert code == 1 and "own does not exist" in err
    with shop.flight() as client:
        assert {session["id"] for session in action(client, "list_sessions")} <= before


# --- what newcomers do ---


def error_of(*arguments, **environment):
    """What a command says that fails."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environment
    done = subprocess.run([BIN, *arguments], capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode in (1, 2) and done.stdout == ""
    return done.stderr.strip()


@pytest.mark.parametrize("command", [["query", "SELECT 1"], ["shell", "-c", "SELECT 1"], ["tables"]])
def test_no_server_and_other_servers(command):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer(text):
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(text)

        def answer_all(text):
            with contextlib.suppress(OSError):
                while True:
                    answer(text)

        uri = f"grpc://127.0.0.1:{port}"
        for text, told in [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it is a web server, and no Flight server: is the port right?"),
            (b"", f"does it want TLS (grpc+tls://127.0.0.1:{port}), or is it another port?"),
        ]:
            # The command calls, and then it looks who is there.
            thread = threading.Thread(target=answer_all, args=(text,), daemon=True)
            thread.start()
            message = error_of(*command, "--server", uri)
            listener.settimeout(0)
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
            thread.join(10)
            listener.settimeout(None)
            assert message.startswith(f"merganser: {uri} does not answer as a Flight server") and message.endswith(told)
    assert error_of(*command, "--server", uri) == (
        f"merganser: cannot reach {uri}: is the server running? start one with `merganser serve`"
    )


def test_tls_on_one_side_only(server_factory, shop, tmp_path):
    secure = server_factory("--memory", "--tls-self-signed")
    plain = secure.uri.replace("grpc+tls", "grpc")
    message = error_of("query", "SELECT 1", "--server", plain)
    assert message.startswith(f"merganser: {plain} does not answer as a Flight server") and secure.uri in message
    message = error_of("shell", "-c", "SELECT 1", "--server", shop.uri.replace("grpc", "grpc+tls"))
    assert message.endswith("is it a server without TLS, for grpc://?"), message
    message = error_of("shell", "-c", "SELECT 1", "--server", secure.uri)
    assert "--tls-fingerprint" in message


def test_passwords(server_factory, terminal, tmp_path):
    server = server_factory("--memory", "--set", "auth.user=ann", "--set", "auth.password=secret")
    wrong = error_of("shell", "-c", "SELECT 1", "--user", "ann", "--server", server.uri, MERGANSER_PASSWORD="no")
    assert wrong == "merganser: the user or the password is wrong"
    missing = error_of("query", "SELECT 1", "--user", "ann", "--server", server.uri)
    assert missing.endswith("the password is read from MERGANSER_PASSWORD, which is not set")
    nobody = error_of("tables", "--server", server.uri)
    assert "say --user NAME with the password in MERGANSER_PASSWORD" in nobody

    shell = Terminal([BIN, "shell", "--user", "ann"], surroundings(server, tmp_path), cwd=str(tmp_path))
    try:
        shell.see("password of ann:")
        shell.enter("secret")
        shell.see_line("merganser>")
        assert "user        ann" in shell.ask("\\conninfo")
        assert "secret" not in shell.text()
    finally:
        shell.close()


def test_words_that_a_shell_has_taken_apart():
    message = error_of("query", "SELECT", "1", "FROM", "t")
    assert "the SQL came as 4 words: put all of it in quotes" in message


def test_several_statements(shop):
    message = error_of("query", "SELECT 1; SELECT 2", "--server", shop.uri)
    assert message.endswith("send them one by one, or to `merganser shell`, which runs all")


def test_completions_and_manual_pages(tmp_path):
    script = subprocess.run([BIN, "completions", "bash"], capture_output=True, text=True, check=True).stdout
    ask = 'COMP_WORDS=(merganser ing) COMP_CWORD=1; _merganser merganser ing merganser; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "--norc", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ingest"
    subprocess.run([BIN, "man", str(tmp_path / "man1")], capture_output=True, check=True)
    page = (tmp_path / "man1" / "merganser-shell.1").read_text()
    assert "EXTRA" in page and "merganser shell" in page


def test_errors_tell_their_place(shop):
    """Every client that reads the metadata of an error finds the place there."""

    def place(sql):
        with grpc.insecure_channel(f"127.0.0.1:{shop.port}") as channel:
            call = channel.unary_stream(raw.SERVICE + "DoGet")
            with pytest.raises(grpc.RpcError) as caught:
                list(call(raw.encode({1: sql})))
        position = dict(caught.value.trailing_metadata()).get("merganser-error-position")
        return None if position is None else sql[int(position) :]

    assert place("SELEC 1") == "SELEC 1"
    assert place("SELECT 'é日本',\n nothing FROM app_events") == "nothing FROM app_events"
    assert place("SELECT (CASE WHEN range > 100000 THEN 'x' ELSE '1' END)::INT FROM range(200000)").startswith("::INT")
    assert place("CREATE TABLE x AS SELECT nothing") == "nothing"
    assert place("SELECT 1; SELECT 2") is None
