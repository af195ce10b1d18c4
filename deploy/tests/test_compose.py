"""compose.yaml: it was never run here, so its schema and a linter read it, and the binary its settings."""

import compose_spec
import yaml
from conftest import DEPLOY, is_below, succeed
from test_docker import environment

FILE = DEPLOY / "compose.yaml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]


def test_it_is_what_the_specification_asks_for():
    options = compose_spec.PyOptions()
    options.apply_merge = True
    compose = options.from_yaml(FILE.read_text())
    compose.validate()
    assert sorted(compose.service_names()) == sorted(SERVICES)


def test_the_linter_finds_nothing_grave():
    """What it finds besides are the open port, and that there is no limit of cores."""
    succeed("compose-lint", "check", "--fail-on", "high", FILE)


def test_its_settings_exist_and_leave_room(settings):
    server = SERVICES["server"]
    found = settings(server.get("command", ["serve"]), environment() | server["environment"])
    assert found["tls.self_signed"] == ("true", "MERGANSER_TLS_SELF_SIGNED")
    assert is_below(found["engine.process_memory_max"][0], server["mem_limit"])
    assert is_below(found["engine.memory_limit"][0], found["engine.process_memory_max"][0])


def test_what_is_written_is_a_volume(settings):
    server = SERVICES["server"]
    found = settings(["serve"], environment() | server["environment"])
    targets = {volume.split(":")[1]: volume for volume in server["volumes"]}
    assert found["backup.directory"][0] in targets
    # Where the image's variables put the database and the configuration.
    variables = environment()
    assert f"{variables['XDG_DATA_HOME']}/merganser" in targets
    assert targets[f"{variables['XDG_CONFIG_HOME']}/merganser"].endswith(":ro")
    assert server["read_only"] and SERVICES["admin"]["read_only"]


def test_the_port_is_the_clients_alone():
    assert [port.split(":")[-1] for port in SERVICES["server"]["ports"]] == ["8815"]


def test_the_commands_at_its_head_are_commands(binary):
    head = [line[1:].strip() for line in FILE.read_text().split("name:")[0].splitlines()]
    [added] = [line for line in head if " run " in line]
    arguments = added.split(" admin ")[1].split()
    assert "--role" in succeed(binary, *arguments[:2], "--help")
