"""What the checks of deploy/ share: where it is, how its programs are run, and what the binary makes of settings."""

import os
import pathlib
import subprocess

import pytest

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
ROOT = DEPLOY.parent
# What the image's and the services' users have, and a test's user need not.
PATIENCE_SECONDS = 60


def run(*command, **options):
    """Runs a program: its exit code, and what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        **options,
    )
    return done.returncode, done.stdout


def succeed(*command, **options):
    """What a program prints, which must succeed."""
    code, output = run(*command, **options)
    assert code == 0, output
    return output


@pytest.fixture(scope="session")
def binary():
    """The binary that the settings are for."""
    return pathlib.Path(os.environ["MERGANSER_BIN"])


@pytest.fixture
def settings(binary, tmp_path):
    """`settings(arguments, environment)`: the configuration that the binary makes of a command line and of nothing but these
    variables: the value of each setting, and where it comes from. It refuses names and values that there are not."""

    def of(arguments, environment=()):
        variables = {"HOME": str(tmp_path), **dict(environment)}
        printed = succeed(binary, *arguments, "--print-config", env=variables, cwd=tmp_path)
        found, section = {}, ""
        for line in printed.splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif " = " in line:
                key, rest = line.split(" = ", 1)
                value, origin = rest.rsplit("  # ", 1)
                found[f"{section}.{key}"] = (value.strip().strip('"'), origin)
        return found

    return of


def megabytes(text):
    """A size as Merganser, Docker, systemd and Kubernetes write it."""
    number = text.rstrip("GMiBgm")
    return int(number) * {"G": 1024, "M": 1}[text[len(number)].upper()]


def is_below(ceiling, limit):
    """Whether the ceiling of the process leaves the room below a limit that docs/security.md asks for: a fifth of it."""
    return megabytes(ceiling) <= megabytes(limit) * 0.8
