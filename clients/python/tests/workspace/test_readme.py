"""What the README shows of Mixpanel is true: it runs against the stand-in, and prints what the boxes show."""

import contextlib
import io
import re
from pathlib import Path

from workspace import stand_in as mixpanel
from workspace.stand_in import StandIn
from workspace.support import hosts_of

README = Path(__file__).parents[2] / "README.md"


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MP_USERNAME", mixpanel.USERNAME)
    monkeypatch.setenv("MP_SECRET", mixpanel.SECRET)
    monkeypatch.setenv("MP_PROJECT_ID", mixpanel.PROJECT)
    blocks = re.findall(r"```py\n(.*?)```\n```text\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == README.read_text().count("```py\n") == 2
    with StandIn() as server, hosts_of(server):
        for code, expected in blocks:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, README.name, "exec"), {})
            assert printed.getvalue() == expected
