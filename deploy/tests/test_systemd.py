"""The unit: systemd's own tools read it, and the binary its configuration."""

import os
import re
import shutil

import pytest
from conftest import DEPLOY, is_below, megabytes, run, succeed

SYSTEMD = DEPLOY / "systemd"
UNIT = SYSTEMD / "merganser.service"
# Of 10; the unit has 1.4.
EXPOSURE_MAX = 1.5


def values(path, key):
    """All values of a key in a unit file."""
    return re.findall(rf"^{key}=(.*)$", path.read_text(), flags=re.MULTILINE)


@pytest.fixture
def installed(binary, tmp_path):
    """The unit with its example of a drop-in, with the binary where it is."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/merganser", str(binary)))
    shutil.copytree(SYSTEMD / "merganser.service.d", tmp_path / "merganser.service.d")
    return unit


def test_systemd_understands_it(installed):
    output = succeed("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", installed)
    assert output == ""


def test_systemd_would_tell_a_mistake(installed):
    installed.write_text(installed.read_text().replace("ProtectHome=yes", "ProtectHouse=yes"))
    _, output = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", installed)
    assert "ProtectHouse" in output


def test_it_is_as_confined_as_it_can_be(installed):
    threshold = f"--threshold={round(EXPOSURE_MAX * 10)}"
    succeed("systemd-analyze", "security", "--offline=true", "--no-pager", threshold, installed)


def test_its_settings_exist_and_leave_room(settings):
    program, *arguments = values(UNIT, "ExecStart")[0].split()
    assert program == "/usr/bin/merganser"
    config = arguments.index("--config") + 1
    assert arguments[config] == "/etc/merganser/merganser.toml"
    arguments[config] = str(SYSTEMD / "merganser.toml")
    found = settings(arguments)
    assert is_below(found["engine.process_memory_max"][0], values(UNIT, "MemoryMax")[0])
    ports = {found[name][0].rsplit(":", 1)[1] for name in ("server.listen", "ops.listen")}
    assert ports == {allowed.removeprefix("tcp:") for allowed in values(UNIT, "SocketBindAllow")}
    assert found["database.path"][0].startswith("/var/lib/" + values(UNIT, "StateDirectory")[0] + "/")
    assert int(values(UNIT, "LimitNOFILE")[0]) > int(found["server.connections_max"][0])
    assert int(values(UNIT, "TasksMax")[0]) > int(found["engine.open_max"][0])


def test_the_example_of_a_drop_in_holds(settings, tmp_path):
    example = SYSTEMD / "merganser.service.d/local.conf"
    told = re.findall(r'([a-z]+\.[a-z_]+) = "([^"]+)"', example.read_text())
    assert len(told) == 3
    found = settings(["serve", *(f"--set={key}={value}" for key, value in told)])
    assert is_below(found["engine.process_memory_max"][0], values(example, "MemoryMax")[0])
    assert megabytes(values(example, "MemoryMax")[0]) > megabytes(values(UNIT, "MemoryMax")[0])
    assert found["backup.directory"][0] == values(example, "ReadWritePaths")[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of other users")
def test_its_user_and_directories_are_made(tmp_path):
    """In a root of their own, by the tools that a package would call."""
    for directory in ("etc", "var/lib", "var/backups"):
        (tmp_path / directory).mkdir(parents=True)
    for name in ("passwd", "group", "shadow", "gshadow"):
        (tmp_path / "etc" / name).touch()
    succeed("systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "merganser.sysusers")
    passwd = (tmp_path / "etc/passwd").read_text().split(":")
    assert passwd[0] == values(UNIT, "User")[0] and passwd[-1] == "/usr/sbin/nologin\n"
    group = int(passwd[3])
    (tmp_path / "etc/merganser").mkdir()
    (tmp_path / "etc/merganser/merganser.toml").write_text("")
    succeed("systemd-tmpfiles", "--create", f"--root={tmp_path}", SYSTEMD / "merganser.tmpfiles")
    for name, mode in (("", 0o750), ("users.toml", 0o640), ("merganser.toml", 0o640)):
        made = (tmp_path / "etc/merganser" / name).stat()
        assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (0, group, mode), name
    backups = (tmp_path / "var/backups/merganser").stat()
    assert (backups.st_uid, backups.st_mode & 0o777) == (int(passwd[2]), 0o700)


def test_the_users_file_that_is_made_can_be_filled(binary, tmp_path):
    users = tmp_path / "users.toml"
    users.touch(0o640)
    command = [binary, "user", "add", "ann", "--role", "admin", "--users-file", users, "--password-stdin"]
    succeed(*command, input="a long password\n")
    assert users.stat().st_mode & 0o777 == 0o640
    assert "argon2id" in users.read_text()
