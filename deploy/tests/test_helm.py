"""The chart: helm renders it with each file of its ci/, Kubernetes' schemas and the binary read what comes out. No cluster has run it."""

import json
import tomllib

import kubernetes_validate
import pytest
import yaml
from conftest import DEPLOY, ROOT, is_below, run, succeed
from test_docker import environment, last

CHART = DEPLOY / "helm/merganser"
CASES = sorted((CHART / "ci").glob("*.yaml"))
# The oldest that Chart.yaml admits and the package has, and the newest.
KUBERNETES = ("1.25", "1.37")


def render(*arguments):
    """What helm makes of the chart: the objects, by kind and name."""
    output = succeed("helm", "template", "release", CHART, "--namespace=there", *arguments)
    objects = [entry for entry in yaml.safe_load_all(output) if entry]
    return {(entry["kind"], entry["metadata"]["name"]): entry for entry in objects}


@pytest.fixture(params=CASES, ids=lambda case: case.stem)
def values_file(request):
    return request.param


@pytest.fixture
def objects(values_file):
    return render("--values", values_file)


@pytest.fixture
def pod(objects):
    return objects["StatefulSet", "release-merganser"]["spec"]["template"]["spec"]


@pytest.fixture
def container(pod):
    [container] = pod["containers"]
    return container


def test_helm_finds_nothing(values_file):
    succeed("helm", "lint", "--strict", "--quiet", CHART, "--values", values_file)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_would_take_it(objects, version):
    for entry in objects.values():
        kubernetes_validate.validate(entry, version, strict=True)


def test_the_version_is_that_of_the_binary():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


def test_its_settings_exist_and_leave_room(objects, container, settings, tmp_path):
    config = objects["ConfigMap", "release-merganser"]["data"]["merganser.toml"]
    file = tmp_path / "merganser.toml"
    file.write_text(config)
    arguments = [str(file) if part == "/etc/merganser/merganser.toml" else part for part in container["args"]]
    assert str(file) in arguments
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    found = settings(arguments, environment() | variables)
    given = tomllib.loads(config)
    assert given, "the file has settings"
    for section, pairs in given.items():
        for key, value in pairs.items():
            # What the chart sets is stronger than the file.
            assert found[f"{section}.{key}"][1] == str(file), (section, key, value)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert found["server.listen"][0] == f"0.0.0.0:{ports['grpc']}"
    assert found["ops.listen"][0] == f"0.0.0.0:{ports['operations']}"
    assert is_below(found["engine.process_memory_max"][0], container["resources"]["limits"]["memory"])


def test_text_and_numbers_arrive_as_they_are():
    everything = CHART / "ci/everything.yaml"
    config = render("--values", everything)["ConfigMap", "release-merganser"]["data"]["merganser.toml"]
    for section, pairs in yaml.safe_load(everything.read_text())["config"].items():
        for key, value in pairs.items():
            arrived = tomllib.loads(config)[section][key]
            assert (arrived, type(arrived)) == (value, type(value))


def test_the_chart_s_own_settings_are_the_stronger(container, settings, tmp_path):
    config = tmp_path / "merganser.toml"
    config.write_text('[server]\nlisten = "127.0.0.1:1"\n[database]\nmode = "memory"\n[auth]\nusers_file = "/none"\n')
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    found = settings(["serve", "--config", str(config)], variables)
    for key, value in (("server.listen", "0.0.0.0:8815"), ("database.mode", "persistent"), ("auth.users_file", "/etc/merganser/users.toml")):
        assert found[key][0] == value


def test_files_that_settings_name_are_mounted(pod, container, settings):
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    found = settings(["serve"], variables)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    [projected] = [volume["projected"] for volume in pod["volumes"] if volume["name"] == "configuration"]
    paths = {item["path"] for source in projected["sources"] for item in source.get("secret", {}).get("items", [])}
    for key in ("auth.users_file", "tls.certificate", "tls.key"):
        directory, name = found[key][0].rsplit("/", 1)
        assert mounts[directory]["readOnly"] and name in paths, key
    assert found["database.path"][0].rsplit("/", 1)[0] in mounts
    assert ("/var/backups/merganser" in mounts) == bool(found["backup.directory"][0])


def test_pods_keep_the_restricted_standard(objects):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and a root file system that nobody writes to."""
    pods = [entry["spec"] for (kind, _), entry in objects.items() if kind == "Pod"]
    pods += [entry["spec"]["template"]["spec"] for (kind, _), entry in objects.items() if kind == "StatefulSet"]
    assert len(pods) == 2
    image_user = last("USER").split(":")
    for spec in pods:
        security = spec["securityContext"]
        assert security["runAsNonRoot"] and security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert [str(security["runAsUser"]), str(security["runAsGroup"])] == image_user
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]


def test_services_find_the_pod(objects):
    stateful = objects["StatefulSet", "release-merganser"]["spec"]
    labels = stateful["template"]["metadata"]["labels"].items()
    services = [entry for (kind, _), entry in objects.items() if kind == "Service"]
    assert {service["metadata"]["name"] for service in services} >= {stateful["serviceName"]}
    for selector in [stateful["selector"]["matchLabels"], *(service["spec"]["selector"] for service in services)]:
        assert selector.items() <= labels
    test_labels = objects["Pod", "release-merganser-health"]["metadata"]["labels"].items()
    assert not any(service["spec"]["selector"].items() <= test_labels for service in services)
    for service in services:
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in {port["name"] for port in stateful["template"]["spec"]["containers"][0]["ports"]}


def test_the_commands_of_pods_are_commands(objects, binary):
    arguments = objects["Pod", "release-merganser-health"]["spec"]["containers"][0]["args"]
    assert "--ready" in succeed(binary, *arguments, "--help")
    host, port = arguments[-1].split(":")
    assert port in {str(port["port"]) for port in objects["Service", host]["spec"]["ports"]}


def test_another_config_starts_another_pod():
    def checksum(*arguments):
        stateful = render("--values", CASES[0], *arguments)["StatefulSet", "release-merganser"]
        return stateful["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum() != checksum("--set", "config.engine.threads=3")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "'/usersSecret'"),
        ([], "'/tlsSecret'"),
        (["--set", "replicaCount=2"], "replicaCount"),
        (["--set", "config.engine=4"], "'/config/engine'"),
        (["--set", "config.engine.threads=null,config.engine.a-b=1"], "a-b"),
        (["--set", "persistence.size=much"], "'/persistence/size'"),
        (["--set-string", "service.port=8815"], "'/service/port'"),
    ],
)
def test_values_that_are_wrong_are_refused_by_name(arguments, says):
    given = [] if not arguments else ["--values", CHART / "ci/minimal.yaml"]
    code, output = run("helm", "template", "release", CHART, *given, *arguments)
    assert code != 0 and says in output


def test_policies_are_off_until_they_are_wanted():
    minimal = ["--values", CHART / "ci/minimal.yaml"]
    assert ("NetworkPolicy", "release-merganser") not in render(*minimal)
    policy = render(*minimal, "--set", "networkPolicy.enabled=true")["NetworkPolicy", "release-merganser"]["spec"]
    assert policy["egress"] == [], "nowhere"
    assert json.dumps(policy["ingress"]) == '[{"ports": [{"port": "grpc"}]}, {"ports": [{"port": "operations"}]}]'
