"""The Python environments of the benchmarks: one for everything with DuckDB 2.0, one for Quack's DuckDB 1.5.5.

They are made when they are missing or when their requirements have changed, and kept. Standard library only: this runs before
there is any environment.
"""

import os
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent


def make(directory, requirements):
    """The environment in `directory` with exactly what the file `requirements` pins; returns its Python."""
    python, made = directory / "bin" / "python", directory / "made-from.txt"
    wanted = requirements.read_text()
    if not made.exists() or made.read_text() != wanted:
        print(f"making the environment {directory}", file=sys.stderr)
        venv.create(directory, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True, stdout=sys.stderr)
        made.write_text(wanted)
    return python


def main_python(venvs):
    return make(venvs / "duckdb2", HERE / "requirements.txt")


def quack_python(venvs):
    return make(venvs / "quack", HERE / "requirements-quack.txt")


def run_inside(venvs):
    """Runs this program again with the main environment's Python, unless that is the one that runs it."""
    python = main_python(venvs)
    if pathlib.Path(sys.prefix) != venvs / "duckdb2":
        os.execv(python, [str(python), *sys.argv])
