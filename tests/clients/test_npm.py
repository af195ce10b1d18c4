"""The four clients of Flight SQL for JavaScript, each by a script of its own that asserts, under node."""

import os
import pathlib
import shutil
import subprocess

import pytest

MODULES = "MERGANSER_TEST_NODE_MODULES"
CLIENTS = ["firetiger", "gizmosql", "lakehouse", "lancedb"]

pytestmark = pytest.mark.skipif(MODULES not in os.environ, reason=f"{MODULES} is not set to an installed node_modules")


def run(server, client, directory, *credentials):
    # Where node looks for modules: beside the script.
    script = directory / f"{client}.cjs"
    shutil.copy(pathlib.Path(__file__).parent / "npm" / script.name, script)
    (directory / "node_modules").symlink_to(os.environ[MODULES])
    command = ["node", script, "127.0.0.1", str(server.port), *credentials]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"it got as far as:\n{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines()[-1] == "done"


@pytest.mark.parametrize("client", CLIENTS)
def test_without_users(server, client, tmp_path):
    """The server has no users: any user and any password will do."""
    run(server, client, tmp_path, "user", "password")


@pytest.mark.parametrize("client", CLIENTS)
def test_with_a_user(server_factory, client, tmp_path):
    server = server_factory("--memory", "--set", "auth.user=alice", "--set", "auth.password=secret")
    run(server, client, tmp_path, "alice", "secret")
