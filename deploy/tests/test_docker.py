"""The Dockerfile: it was never built here, so a linter reads it, and the binary what it says of settings."""

import json
import re
import tomllib

from conftest import DEPLOY, ROOT, succeed

TEXT = (DEPLOY / "Dockerfile").read_text()
# The instructions, one a line.
INSTRUCTIONS = [
    tuple(line.split(None, 1))
    for line in re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    if line.strip()
]


def last(instruction):
    """What the last instruction of a name says."""
    return [rest for name, rest in INSTRUCTIONS if name == instruction][-1]


def environment():
    """The variables of the image."""
    return dict(pair.split("=", 1) for pair in last("ENV").split())


def test_the_linter_has_nothing_to_say():
    assert succeed("hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile") == ""


def test_its_settings_exist(settings):
    found = settings(json.loads(last("CMD")), environment())
    assert found["server.listen"] == ("0.0.0.0:8815", "MERGANSER_SERVER_LISTEN")
    assert found["ops.listen"] == ("0.0.0.0:8816", "MERGANSER_OPS_LISTEN")
    assert last("EXPOSE").split() == ["8815", "8816"]


def test_its_health_check_is_a_command(binary):
    check = json.loads(last("HEALTHCHECK").split("CMD", 1)[1])
    assert check[0] == json.loads(last("ENTRYPOINT"))[0] == "merganser"
    assert "MERGANSER_OPS_LISTEN" in succeed(binary, *check[1:], "--help")


def test_it_is_not_root():
    uid, gid = last("USER").split(":")
    assert uid.isdigit() and gid.isdigit(), "Kubernetes knows by numbers that it is not root"
    assert f"--uid {uid}" in TEXT and f"--gid {gid}" in TEXT


def test_it_has_the_toolchain_that_cargo_asks_for():
    wanted = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["rust-version"]
    assert f"FROM rust:{wanted}-" in TEXT


def test_the_build_has_what_cargo_needs(tmp_path):
    """Nothing but what Dockerfile.dockerignore lets through, and cargo takes it for a package with a lock that fits."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert listed[0] == "*" and all(line.startswith("!") for line in listed[1:])
    for name in (line[1:] for line in listed[1:]):
        assert (ROOT / name).exists(), name
        (tmp_path / name).symlink_to(ROOT / name)
    command = ["cargo", "metadata", "--offline", "--locked", "--no-deps", "--format-version=1"]
    found = json.loads(succeed(*command, cwd=tmp_path))
    [package] = found["packages"]
    needed = [target["src_path"] for target in package["targets"] if target["kind"][0] in ("bin", "lib", "custom-build")]
    assert len(needed) == 3
    for path in needed:
        assert (tmp_path / path).exists(), path
    for name in re.findall(r"^COPY (\w+) ", TEXT, flags=re.MULTILINE):
        assert f"!{name}" in listed, name
