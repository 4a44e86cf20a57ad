"""The files in ``deploy`` and ``compose.yaml``, checked by the programs that they are for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from django.core.management import get_commands

from devtools.attack import certificates
from devtools.processes import ROOT
from telephony.engine.plan import LONGEST_CALL_S

DEPLOY = ROOT / "deploy"
SYSTEMD = DEPLOY / "systemd"
KUBERNETES = DEPLOY / "kubernetes"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
#: The seconds for which an engine waits for its calls (config/gunicorn.conf.py).
LONGEST_DRAIN_S = 4 * 3600


def test_a_call_may_last_as_long_as_it_likes() -> None:
    conf = (ROOT / "config" / "gunicorn.conf.py").read_text()
    (hours,) = re.findall(r"graceful_timeout = .* else (\d+) \* 3600\n", conf)
    assert LONGEST_CALL_S < int(hours) * 3600 == LONGEST_DRAIN_S


def program(name: str) -> str:
    if found := shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin"):
        return found
    pytest.skip(f"{name} is not installed (Debian: apt-get install {PACKAGES.get(name, name)})")


PACKAGES = {"systemd-analyze": "systemd"}


def succeeds(*command: str | Path, **environment: str) -> str:
    ended = subprocess.run(
        command,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def seconds(duration: str) -> int:
    """Return the length of ``61m``, ``75s``, ``2h`` or ``61min``."""
    number, unit = re.fullmatch(r"(\d+)(s|m|min|h)", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "min": 60, "h": 3600}[unit]


def repeated_keys(node: yaml.Node) -> Iterator[str]:
    """Yield where a mapping has a key again."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield f"{key.value}, line {key.start_mark.line + 1}"
            seen.add(key.value)
            yield from repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from repeated_keys(item)


def test_no_mapping_has_a_key_twice() -> None:
    """Compose, Kubernetes and Prometheus refuse such a file; PyYAML takes the last one."""
    files = [ROOT / "compose.yaml", *DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")]
    assert len(files) > 15
    found = [
        f"{path.relative_to(ROOT)}: {key}"
        for path in files
        for document in yaml.compose_all(path.read_text(), yaml.SafeLoader)
        for key in repeated_keys(document)
    ]
    assert found == []


class TestCompose:
    def test_it_follows_the_schema(self) -> None:
        schema = json.loads((ROOT / "devtools/schemas/compose-spec.json").read_text())
        jsonschema.Draft7Validator(schema).validate(COMPOSE)

    @pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
    def test_each_service_is_hardened_and_limited(self, name: str) -> None:
        service = COMPOSE["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"]["options"]["max-size"]
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
        assert not re.search(r":latest$|^[^:$]*$", service["image"]), "pin a version"

    def test_every_process_runs_from_the_image(self) -> None:
        ours = {
            name: service["command"]
            for name, service in COMPOSE["services"].items()
            if service.get("build")
        }
        assert ours == {
            "migrate": ["migrate"],
            "web": ["web"],
            "engine-1": ["engine"],
            "engine-2": ["engine"],
            "worker": ["worker"],
        }

    @pytest.mark.parametrize("name", ["engine-1", "engine-2"])
    def test_calls_may_end(self, name: str) -> None:
        assert seconds(COMPOSE["services"][name]["stop_grace_period"]) > LONGEST_DRAIN_S

    def test_what_it_mounts_exists(self) -> None:
        mounted = [
            volume.split(":")[0]
            for service in COMPOSE["services"].values()
            for volume in service.get("volumes", [])
        ]
        assert {name for name in mounted if "/" not in name} == COMPOSE["volumes"].keys()
        assert [path for path in mounted if "/" in path and not (ROOT / path).exists()] == []

    def test_no_password_is_empty_or_a_default(self) -> None:
        given = {
            variable: value
            for service in COMPOSE["services"].values()
            for variable, value in service.get("environment", {}).items()
            if variable.endswith("PASSWORD")
        }
        assert len(given) == 2
        assert [name for name, value in given.items() if ":?" not in value] == []

    def test_nothing_but_caddy_is_reached_from_outside(self) -> None:
        published = {
            name: [port for port in service["ports"] if not port.startswith("127.0.0.1:")]
            for name, service in COMPOSE["services"].items()
            if "ports" in service
        }
        assert {name for name, ports in published.items() if ports} == {"caddy"}
        assert COMPOSE["networks"]["database"]["internal"]
        assert COMPOSE["services"]["postgres"]["networks"] == ["database"]


class TestCaddy:
    @pytest.mark.parametrize("environment", [{}, COMPOSE["services"]["caddy"]["environment"]])
    def test_it_is_valid(self, environment: dict[str, str], tmp_path: Path) -> None:
        # Debian's Caddy does not know these options, which are for newer ones.
        known = {name: text for name, text in environment.items() if "OPTIONS" not in name}
        known |= {"PUBLIC_URL": "https://calls.company.com", "HOME": str(tmp_path)}
        path = DEPLOY / "Caddyfile"
        succeeds(program("caddy"), "validate", "--config", path, "--adapter", "caddyfile", **known)

    def test_calls_outlast_a_reload(self) -> None:
        options = COMPOSE["services"]["caddy"]["environment"]["MEDIA_OPTIONS"]
        name, delay = options.split()
        assert name == "stream_close_delay"
        assert seconds(delay) >= LONGEST_DRAIN_S


class TestNginx:
    def test_it_is_valid(self, tmp_path: Path) -> None:
        certificates.make(tmp_path)
        site = re.sub(
            r"/etc/letsencrypt/live/\S+\.pem",
            str(tmp_path / "server.pem"),
            (DEPLOY / "nginx.conf").read_text(),
        )
        site = re.sub(r"\b(listen\s+(?:\[::\]:)?)(80|443)\b", r"\g<1>2\2", site)
        (tmp_path / "nginx.conf").write_text(
            f"pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\nhttp {{ {site} }}\n"
        )
        succeeds(program("nginx"), "-t", "-q", "-p", tmp_path, "-c", tmp_path / "nginx.conf")


UNITS = (
    "switchhook-web.service",
    "switchhook-engine@8010.service",
    "switchhook-worker.service",
    "switchhook-migrate.service",
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a machine with our units and the system's."""
    root = tmp_path_factory.mktemp("machine")
    if not Path("/lib/systemd/system/sysinit.target").exists():
        pytest.skip("there is no systemd")
    shutil.copytree("/lib/systemd/system", root / "lib/systemd/system", symlinks=True)
    shutil.copytree(SYSTEMD, root / "etc/systemd/system")
    (root / "opt/switchhook/current/deploy").mkdir(parents=True)
    shutil.copy(DEPLOY / "run", root / "opt/switchhook/current/deploy/run")
    return root


class TestSystemd:
    def test_the_units_are_valid(self, machine: Path) -> None:
        analyze = program("systemd-analyze")
        found = succeeds(analyze, "verify", "--man=no", f"--root={machine}", *UNITS)
        assert [line for line in found.splitlines() if "switchhook" in line] == []

    @pytest.mark.parametrize("unit", UNITS)
    def test_they_are_hardened(self, machine: Path, unit: str) -> None:
        analyze = program("systemd-analyze")
        options = ("--offline=true", f"--root={machine}", "--threshold=20")
        succeeds(analyze, "security", *options, unit)

    @pytest.mark.parametrize("unit", ["switchhook-web", "switchhook-engine@"])
    def test_a_start_waits_until_requests_are_served(self, unit: str) -> None:
        text = (SYSTEMD / f"{unit}.service").read_text()
        assert "deploy/health.py --until-ready" in text

    def test_calls_may_end(self) -> None:
        text = (SYSTEMD / "switchhook-engine@.service").read_text()
        assert seconds(re.search(r"^TimeoutStopSec=(.+)$", text, re.M)[1]) > LONGEST_DRAIN_S  # type: ignore[index]
        shared = (SYSTEMD / "switchhook-.service.d/hardened.conf").read_text()
        assert "\nKillMode=mixed\n" in shared  # gunicorn tells its workers itself, once


class TestGuide:
    TEXT = (ROOT / "docs/production.md").read_text()

    def test_its_commands_exist(self) -> None:
        named = re.findall(r"(?:deploy/run|^ *switchhook) (\w+)", self.TEXT, re.MULTILINE)
        named += re.findall(r"docker compose run --rm (\w+)", self.TEXT)
        assert len(named) > 8
        assert set(named) <= {"web", "engine", "worker", "migrate", *get_commands()}

    def test_its_units_and_services_exist(self) -> None:
        units = set(re.findall(r"\bswitchhook-([a-z]\w*@?)", self.TEXT))
        assert units >= {"web", "engine@", "worker", "migrate"}
        for unit in units:
            assert (SYSTEMD / f"switchhook-{unit}.service").exists(), unit
        started = re.findall(r"up --detach --no-deps --wait (.+)", self.TEXT)
        assert {name for line in started for name in line.split()} <= COMPOSE["services"].keys()

    def test_a_new_version_brings_its_units_before_it_is_the_current_one(self) -> None:
        (step,) = re.findall(r"\n   version=(.+?)```", self.TEXT, re.DOTALL)
        lines = [line.strip() for line in step.strip().splitlines()]
        units = lines.index("cp --recursive deploy/systemd/switchhook[-.]* /etc/systemd/system/")
        assert lines.index("systemctl daemon-reload") > units
        assert lines[-1].startswith("ln ")
        assert lines[-1].endswith(" $version /opt/switchhook/current")
        assert not re.search(r"\d\.\d", " ".join(lines[1:])), "the version is set once"


def resources() -> Iterator[dict[str, Any]]:
    for path in sorted(KUBERNETES.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from yaml.safe_load_all(path.read_text())


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for resource in resources():
        if resource["kind"] in ("Deployment", "Job"):
            yield resource["metadata"]["name"], resource["spec"]["template"]["spec"]


class TestKubernetes:
    def test_the_resources_are_valid(self) -> None:
        version = kubernetes_validate.latest_version()
        for resource in resources():
            kubernetes_validate.validate(resource, version, strict=True)

    def test_kustomize_knows_every_file(self) -> None:
        listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
        files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
        assert set(listed) == files

    def test_pods_are_restricted(self) -> None:
        assert {name for name, _ in pods()} == {"web", "engine", "worker", "migrate"}
        for _, spec in pods():
            assert spec["securityContext"]["runAsNonRoot"]
            assert spec["automountServiceAccountToken"] is False
            (container,) = spec["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }

    def test_calls_may_end(self) -> None:
        engine = dict(pods())["engine"]
        assert engine["terminationGracePeriodSeconds"] > LONGEST_DRAIN_S
        (container,) = engine["containers"]
        assert container["lifecycle"]["preStop"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"

    def test_only_requests_to_engines_are_repeated(self) -> None:
        repeated = {
            path["backend"]["service"]["name"]
            for ingress in resources()
            if ingress["kind"] == "Ingress"
            if any("next-upstream" in name for name in ingress["metadata"]["annotations"])
            for rule in ingress["spec"]["rules"]
            for path in rule["http"]["paths"]
        }
        assert repeated == {"engine", "engine-media"}

    def test_engines_scale_with_their_calls(self) -> None:
        (scaler,) = (each for each in resources() if each["kind"] == "HorizontalPodAutoscaler")
        (metric,) = scaler["spec"]["metrics"]
        assert metric["pods"]["metric"]["name"] == "switchhook_calls_in_progress"
