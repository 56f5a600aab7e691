"""The files for containers: commands, settings and names in them exist and fit each other. None of them is started here."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gkv.config import Settings
from gkv.sources import parse

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ROLES = ("reader", "client", "admin", "peer")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Return a directory with a token for each role."""
    for role in ROLES:
        file = tmp_path / f"{role}.token"
        file.write_text(role * 8)
        file.chmod(0o600)
    return tmp_path


def settings_of(arguments: list[str], environment: dict[str, str], secrets: Path) -> Settings:
    """Return the settings of a container's process, which have to fit each other."""
    own = {name: text for name, text in environment.items() if name.startswith("GKV_")}
    assert {name for name in own if name.endswith("_FILE")} == {f"GKV_{role.upper()}_TOKENS_FILE" for role in ROLES}
    here = {name: str(secrets / Path(text).name) if name.endswith("_FILE") else text for name, text in own.items()}
    settings = parse(arguments[0], arguments[1:], here)
    settings.check()
    assert set(settings.tokens.values()) == {(role * 8,) for role in ROLES}
    return settings


def containerfile() -> list[str]:
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


# -- the image


def test_image_has_a_pinned_base_and_runs_a_command_that_takes_the_name_of_a_program() -> None:
    lines = containerfile()
    [base] = [line for line in lines if line.startswith("ARG BASE=")]
    assert re.fullmatch(r"ARG BASE=docker\.io/library/python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert [line.split()[1] for line in lines if line.startswith("FROM ")] == ["${BASE}", "${BASE}"]
    [entry] = [yaml.safe_load(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT ")]
    [usual] = [yaml.safe_load(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD ")]
    assert (entry[0], usual) == ("/opt/gkv/bin/python", ["proxy"])
    for words, code, says in (
        (["proxy", "--version"], 0, "gkv "),
        (["node", "--version"], 0, "gkv "),
        (["prxoy"], 2, "'prxoy' is no program; it takes proxy or node: did you mean proxy?"),
        ([], 2, "'' is no program; it takes proxy or node"),
    ):
        ended = subprocess.run([sys.executable, *entry[1:], *words], capture_output=True, text=True)
        assert (ended.returncode, len((ended.stdout + ended.stderr).splitlines())) == (code, 1)
        assert says in ended.stdout + ended.stderr


def test_what_the_image_is_built_from_is_not_ignored() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    taken = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copies = [shlex.split(line)[1:-1] for line in containerfile() if line.startswith("COPY ") and "--from" not in line]
    assert rules[0] == "*"
    assert {name for names in copies for name in names} == taken


# -- compose


def test_compose_has_a_proxy_and_nodes_that_find_each_other(secrets: Path) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services: dict[str, Any] = compose["services"]
    found = {name: settings_of(one["command"], one["environment"], secrets) for name, one in services.items()}
    assert sorted(found) == ["node1", "node2", "node3", "proxy"]
    assert found["proxy"].replicas == 3
    for name, one in services.items():
        settings = found[name]
        port = 8080 if name == "proxy" else 9000
        assert one["command"][one["command"].index("--advertise") + 1] == f"{name}:{port}"
        assert (settings.host, settings.port) == ("0.0.0.0", port)
        assert one["environment"]["HEALTH_URL"] == f"http://127.0.0.1:{port}/readyz"
        assert one["healthcheck"]["test"][0] == "CMD"
        assert one["volumes"] == [f"{name}:/data"]
        assert {compose["secrets"][secret]["file"] for secret in one["secrets"]} == {
            f"./secrets/{role}.token" for role in ROLES
        }
        if name != "proxy":
            assert (settings.name, one["environment"]["GKV_PROXY"]) == (name, "http://proxy:8080")
    assert sorted(compose["volumes"]) == sorted(services)
    assert all(port.startswith("127.0.0.1:") for one in services.values() for port in one.get("ports", []))


# -- Kubernetes


def kubernetes() -> dict[tuple[str, str], Any]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


@pytest.mark.parametrize(("name", "service", "port"), [("gkv-proxy", "gkv-proxy", 8080), ("gkv-node", "gkv-nodes", 9000)])
def test_pods_are_called_as_their_headless_service_names_them(name: str, service: str, port: int, secrets: Path) -> None:
    objects = kubernetes()
    spec = objects["StatefulSet", name]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    environment = objects["ConfigMap", "gkv"]["data"] | {one["name"]: one.get("value", "") for one in container.get("env", [])}
    arguments = [word.replace("$(POD_NAME)", f"{name}-0") for word in container["args"]]
    settings = settings_of(arguments, environment, secrets)
    assert arguments[arguments.index("--advertise") + 1] == f"{name}-0.{service}:{port}"
    assert (settings.host, settings.port) == ("0.0.0.0", port)
    if name == "gkv-node":
        assert (settings.name, environment["GKV_PROXY"]) == ("gkv-node-0", "http://gkv-proxy-0.gkv-proxy:8080")
        assert spec["replicas"] >= 3


@pytest.mark.parametrize(("name", "service"), [("gkv-proxy", "gkv-proxy"), ("gkv-node", "gkv-nodes")])
def test_members_reach_each_other_before_they_are_ready_and_end_in_time(name: str, service: str) -> None:
    objects = kubernetes()
    spec = objects["StatefulSet", name]["spec"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    headless = objects["Service", service]["spec"]
    assert (headless["clusterIP"], headless["publishNotReadyAddresses"]) == ("None", True)
    assert spec["serviceName"] == service
    assert headless["selector"] == spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert pod["enableServiceLinks"] is False  # else there are variables GKV_*
    assert pod["terminationGracePeriodSeconds"] >= 30
    assert {one["name"] for one in container["volumeMounts"]} == {"data", "tokens"}
    assert [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")] == [
        "/livez",
        "/livez",
        "/readyz",
    ]


def test_nodes_lie_on_different_machines_and_are_disturbed_one_at_a_time() -> None:
    objects = kubernetes()
    labels = objects["StatefulSet", "gkv-node"]["spec"]["selector"]["matchLabels"]
    budget = objects["PodDisruptionBudget", "gkv-nodes"]["spec"]
    [rule] = objects["StatefulSet", "gkv-node"]["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, labels)
    assert (rule["topologyKey"], rule["labelSelector"]["matchLabels"]) == ("kubernetes.io/hostname", labels)
    assert (
        objects["Service", "gkv"]["spec"]["selector"] == objects["StatefulSet", "gkv-proxy"]["spec"]["selector"]["matchLabels"]
    )
