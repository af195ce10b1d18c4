"""flightsql-dbapi 0.2.2 and its SQLAlchemy dialect, Superset's way to a Flight SQL server, in their own environment."""

import os
import pathlib
import subprocess

import pytest

PYTHON = "MERGANSER_TEST_DBAPI_PYTHON"


@pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} is not set to a Python with requirements-dbapi.txt")
def test_flightsql_dbapi(server):
    script = pathlib.Path(__file__).parent / "dbapi" / "run.py"
    command = [os.environ[PYTHON], script, server.uri]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"it got as far as:\n{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines()[-1] == "sessions"
