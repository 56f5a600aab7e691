"""What an operator has to do with running processes: settings, metrics, logs, reload, readiness; and the files in deploy/."""

import configparser
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gkv.config import KNOBS
from gkv.sources import parse
from tests.cluster.conftest import DEADLINE, Program, System, call, free_ports, wait_for

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROMTOOL = shutil.which("promtool")


def samples(program: Program) -> dict[tuple[str, ...], float]:
    """Return what /metrics says, by name and values of labels."""
    answer = program.call("GET", "/metrics")
    assert answer.status == 200
    families = text_string_to_metric_families(answer.body.decode())
    return {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}


def access_lines(program: Program, route: str) -> list[dict[str, Any]]:
    """Return the access lines about a route, of a program that logs JSON."""
    lines = [json.loads(line) for line in program.stderr.splitlines()]
    return [line for line in lines if line["log"] == "access" and line["route"] == route]


# -- settings


def test_check_config_ends_without_starting_anything(system: System) -> None:
    port = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        good = system.start("proxy", "--port", str(port), "--check-config")
        assert good.ended() == 0
    assert (good.stdout, good.stderr) == ("", "")
    assert not (system.directory / "gkv-data").exists()


@pytest.mark.parametrize(
    ("text", "environment", "says"),
    [
        ("colour = 1", {}, "no setting 'colour'"),
        ('host = "10.0.0.1"', {}, "--insecure"),
        ("", {"GKV_COLOUR": "1"}, "GKV_COLOUR"),
        ("", {"GKV_NATIVE": "maybe"}, "GKV_NATIVE"),
        ('tls_cert = "no.pem"\ntls_key = "no.key"\ntls_ca = "ca.pem"', {}, "no.key cannot be read"),
    ],
)
def test_check_config_of_wrong_settings_ends_with_78(system: System, text: str, environment: dict[str, str], says: str) -> None:
    (system.directory / "gkv.toml").write_text(text)
    for check in (["--check-config"], []):
        bad = system.start("proxy", "--port", "0", "--config", "gkv.toml", *check, **environment)
        assert bad.ended() == 78
        assert says in bad.stderr
        assert bad.stdout == ""


def test_print_config_shows_what_would_be_and_why(system: System) -> None:
    (system.directory / "gkv.toml").write_text('deadline = "3s"\n[node]\nweight = 2\n')
    shown = system.start("node", "9000", "--config", "gkv.toml", "--print-config", GKV_DURABILITY="async")
    assert shown.ended() == 0
    values = tomllib.loads(shown.stdout)
    assert (values["deadline"], values["weight"], values["durability"]) == ("3s", "2", "async")
    assert re.search(r'^weight = "2" +# gkv.toml \[node\]$', shown.stdout, re.MULTILINE)
    assert re.search(r'^durability = "async" +# GKV_DURABILITY$', shown.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", [["proxy"], ["node", "9000"]])
def test_printed_settings_can_be_given_to_config(system: System, command: list[str]) -> None:
    shown = system.start(*command, "--print-config")
    assert shown.ended() == 0
    file = system.directory / "gkv.toml"
    file.write_text(shown.stdout)
    file.chmod(0o644)  # there is no secret in it
    read = system.start(*command, "--config", "gkv.toml", "--check-config")
    assert (read.ended(), read.stderr) == (0, "")


def test_spawned_nodes_follow_the_settings_of_a_file(system: System) -> None:
    port = free_ports(1)
    lines = 'log_format = "json"\nmetrics = false\ndata = "elsewhere"\nnames = ["gkv.example"]\n'
    lines += f"[proxy]\nspawn = 1\nspawn_port = {port}\n"
    (system.directory / "gkv.toml").write_text(lines)
    proxy = system.proxy(GKV_CONFIG="gkv.toml")
    proxy.wait_line("Ready: ")
    proxy.wait_line("member of cluster")
    assert proxy.call("GET", "/metrics").status == 404
    assert call(port, "GET", "/metrics").status == 404
    assert call(port, "GET", "/livez", Host="gkv.example").status == 200
    assert (system.directory / "elsewhere" / "cluster.json").exists()
    assert (system.directory / "elsewhere" / str(port) / "data.mdb").exists()
    for line in proxy.stderr.splitlines():
        assert json.loads(line)["log"] == "gkv"


# -- metrics


@pytest.fixture
def used(system: System) -> tuple[Program, Program]:
    """Return a proxy and its one node, after some use of them."""
    proxy, [node] = system.cluster(1)
    assert proxy.call("POST", "/set", [{"key": f"key-{i}", "value": i} for i in range(10)]).status == 200
    assert proxy.call("POST", "/delete", [{"key": "key-0"}]).status == 200
    assert proxy.call("GET", "/get?key=key-1").status == 200
    assert proxy.call("POST", "/get", b"nonsense").status == 400
    assert proxy.call("GET", "/v1/nowhere").status == 404
    return proxy, node


def test_metrics_count_what_has_happened(used: tuple[Program, Program]) -> None:
    proxy, node = used
    seen, inside = samples(proxy), samples(node)
    assert seen["gkv_http_requests_total", "/set", "2xx", "POST"] == 1
    assert seen["gkv_http_requests_total", "/get", "4xx", "POST"] == 1
    assert seen["gkv_http_requests_total", "4xx", "GET", "other"] == 1
    assert seen["gkv_http_request_duration_seconds_count", "/get"] == 2
    node_id = f"127.0.0.1:{node.port}"
    assert seen["gkv_node_calls_total", node_id, "answered"] >= 3
    assert seen["gkv_node_calls_total", node_id, "unreachable"] == 0
    assert seen["gkv_node_connections", node_id] >= 1
    assert (seen["gkv_outbox_calls", node_id], seen["gkv_outbox_bytes", node_id]) == (0, 0)
    assert (seen["gkv_ring_members",], seen["gkv_ring_members_up",]) == (1, 1)
    assert seen["gkv_ring_epoch",] == inside["gkv_ring_epoch",] > 0
    assert seen["gkv_http_connections",] >= 1
    assert seen["process_cpu_seconds_total",] > 0
    assert (inside["gkv_engine_keys",], inside["gkv_engine_tombstones",]) == (9, 1)
    assert inside["gkv_engine_live_bytes",] == 9 * len("key-1") + 9
    assert inside["gkv_engine_records_total",] == 11
    assert inside["gkv_engine_commits_total",] >= 2
    assert inside["gkv_engine_commit_seconds_total",] > 0
    assert inside["gkv_engine_map_bytes",] >= inside["gkv_engine_file_bytes",] > 0
    assert inside["gkv_http_requests_total", "/internal/frames", "2xx", "POST"] >= 3


def test_metrics_never_show_a_key(used: tuple[Program, Program]) -> None:
    for program in used:
        program.call("GET", "/get?key=key-7")
        program.call("GET", "/v1/kv/key-7")
        program.call("GET", "/v1/kv?prefix=key-7")
        program.call("DELETE", "/key-7")
        assert "key-" not in program.call("GET", "/metrics").body.decode()


def test_metrics_of_a_node_that_is_gone(used: tuple[Program, Program]) -> None:
    proxy, node = used
    node_id = f"127.0.0.1:{node.port}"
    node.signal(signal.SIGKILL)
    node.ended()
    for _ in range(3):
        assert proxy.call("POST", "/get", [{"key": "key-1"}]).status == 503
    assert proxy.call("POST", "/set", [{"key": "key-1", "value": 1}]).status == 503
    seen = samples(proxy)
    assert seen["gkv_node_calls_total", node_id, "unreachable"] + seen["gkv_node_calls_total", node_id, "lost"] == 4
    assert seen["gkv_http_requests_total", "/get", "5xx", "POST"] == 3
    assert seen["gkv_node_connections", node_id] == 0
    wait_for("the proxy's notice", lambda: samples(proxy)["gkv_ring_members_up",] == 0)


def test_metrics_of_a_node_that_stands_still_are_timeouts(system: System) -> None:
    proxy = system.proxy("--deadline", "200ms")
    node = system.node(proxy)
    node.signal(signal.SIGSTOP)
    assert proxy.call("POST", "/get", [{"key": "hi"}]).status == 503
    node_id = f"127.0.0.1:{node.port}"
    wait_for("the count", lambda: samples(proxy)["gkv_node_calls_total", node_id, "timeout"] == 1)


def test_metrics_count_requests_that_cannot_be_read(used: tuple[Program, Program]) -> None:
    proxy, _ = used
    with socket.create_connection(("127.0.0.1", proxy.port), DEADLINE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert samples(proxy)["gkv_http_requests_total", "-", "4xx", "unread"] == 1


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing (Debian package prometheus)")
def test_metrics_pass_promtool(used: tuple[Program, Program]) -> None:
    assert PROMTOOL is not None
    for program in used:
        text = program.call("GET", "/metrics").body
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, timeout=DEADLINE)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_metrics_turned_off_are_not_found(system: System) -> None:
    proxy = system.proxy("--metrics", "0")
    assert proxy.call("GET", "/metrics").status == 404


# -- dashboard and documentation name what there is


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def alerts() -> list[str]:
    """Return the conditions of the alert rules, of one line or, behind `>-`, of several."""
    text = (DEPLOY / "prometheus" / "rules.yaml").read_text()
    return [
        " ".join(found.split())
        for found in re.findall(r"^ +expr: (?:>-\n)?((?:.|\n)+?)\n +(?:for|labels):", text, re.MULTILINE)
    ]


def test_dashboard_and_alerts_use_only_metrics_that_exist(system: System, used: tuple[Program, Program]) -> None:
    copying = system.node(system.proxy("--replicas", "2", "--data", "copies"))
    there = {key[0] for program in used for key in samples(program)}
    for program in (*used, copying):  # some have no samples as long as there is nothing to count, such as certificates
        there |= set(re.findall(r"^# TYPE (\w+)", program.call("GET", "/metrics").body.decode(), re.MULTILINE))
    shown = {name for text in expressions() for name in re.findall(r"\b(?:gkv|process)_\w+", text)}
    assert len(shown) > 20
    asked = [set(re.findall(r"\b(?:gkv|process)_\w+", text)) for text in alerts()]
    assert len(asked) > 20
    assert sum(not names for names in asked) == 1  # `up`, which is Prometheus' own
    assert shown.union(*asked) <= there
    assert {"gkv_copies_missing_ratio", "gkv_unsettled_writes", "gkv_takeovers_total", "gkv_copies_slow"} <= shown


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing (Debian package prometheus)")
def test_dashboard_has_expressions_that_prometheus_understands(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    rules = [{"record": f"r{i}", "expr": text.replace("$__rate_interval", "5m")} for i, text in enumerate(expressions())]
    path = tmp_path / "rules.json"  # YAML has JSON in it
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run([PROMTOOL, "check", "rules", str(path)], capture_output=True, text=True, timeout=DEADLINE)
    assert checked.returncode == 0, checked.stderr


def test_documentation_lists_every_metric_and_no_other(system: System, used: tuple[Program, Program]) -> None:
    def names(program: Program) -> set[str]:
        text = program.call("GET", "/metrics").body.decode()
        return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE gkv_")}

    copying = system.node(system.proxy("--replicas", "2", "--data", "copies"))
    there = set().union(*map(names, (*used, copying)))
    rows = re.findall(r"^\| (`gkv_[^|]+)", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(gkv_\w+)", row)]
    assert sorted(listed) == sorted(there)


def test_documentation_lists_every_setting_and_no_other() -> None:
    listed = re.findall(r"^\| `(--[a-z-]+)`", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(knob.flag for knob in KNOBS)


# -- logs


def test_ids_of_all_calls_that_go_to_nodes_go_with_them(system: System) -> None:
    proxy = system.proxy()
    node = system.node(proxy, "--access-log", "1", "--log-format", "json")
    calls = [
        ("POST", "/set", [{"key": "a", "value": 1}]),
        ("POST", "/get", [{"key": "a"}]),
        ("GET", "/get?key=a", None),
        ("POST", "/delete", [{"key": "a"}]),
        ("GET", "/v1/kv?prefix=a&values=1", None),
        ("PUT", "/v1/kv/a", b"1"),
        ("GET", "/v1/kv/a", None),
        ("DELETE", "/v1/kv/a", None),
    ]
    for i, (method, path, body) in enumerate(calls):
        assert proxy.call(method, path, body, X_Request_Id=f"call-{i}").status in (200, 201, 204)
    wanted = {f"call-{i}" for i in range(len(calls))}
    wait_for("every id on the node", lambda: wanted <= {line["id"] for line in access_lines(node, "/internal/frames")})


@pytest.mark.parametrize("given", ["mine-17", None])
def test_access_lines_carry_the_id_of_a_request_from_proxy_to_node(system: System, given: str | None) -> None:
    settings = ["--access-log", "1", "--log-format", "json"]
    proxy = system.proxy(*settings)
    node = system.node(proxy, *settings)
    named = {} if given is None else {"X_Request_Id": given}
    answer = proxy.call("POST", "/set", [{"key": "secret-key", "value": "secret-value"}], **named)
    request_id = answer.headers["X-Request-Id"]
    assert given in (None, request_id)
    [line] = wait_for("the proxy's line", lambda: access_lines(proxy, "/set"))
    assert (line["method"], line["status"], line["bytes"], line["id"]) == ("POST", 200, len(answer.body), request_id)
    assert 0 < line["ms"] < 10_000
    assert re.fullmatch(r"127\.0\.0\.1:\d+", line["peer"])

    def on_the_node() -> list[dict[str, Any]]:
        return [line for line in access_lines(node, "/internal/frames") if line["id"] == request_id]

    assert len(wait_for("the node's line", on_the_node)) == 1
    proxy.call("GET", "/get?key=secret-key")
    proxy.call("GET", "/secret-key")
    assert len(wait_for("the line of what is not there", lambda: access_lines(proxy, "other"))) == 1
    assert "secret" not in proxy.stderr + node.stderr


def test_access_lines_are_off_by_default_and_in_text_one_line_a_request(system: System) -> None:
    proxy = system.proxy()
    proxy.call("GET", "/v1/info")
    assert "/v1/info" not in proxy.stderr
    (system.directory / "other").mkdir()
    other = system.proxy("--access-log", "1", "--data", "other")
    other.call("HEAD", "/v1/info")
    other.call("GET", "/%0Aforged%1b[31m")
    other.wait_line(r"Z access 127\.0\.0\.1:\d+ HEAD /v1/info 200 0B \d+\.\d{3}ms \S+\n")
    other.wait_line(r"Z access 127\.0\.0\.1:\d+ GET other 404 ")
    assert "forged" not in other.stderr


def test_standard_error_that_nobody_reads_stops_nothing(system: System) -> None:
    proxy = system.proxy()
    port = free_ports(1)
    arguments = [str(port), "--access-log", "1", "--proxy", f"http://127.0.0.1:{proxy.port}"]
    process = system.start("node", *arguments, popen={"stderr": subprocess.PIPE}).process
    try:

        def ready() -> bool:
            try:
                return call(port, "GET", "/readyz", timeout=1).status == 200
            except OSError:
                return False

        wait_for("the node", ready)
        for _ in range(1_500):  # 100 bytes each fill a pipe of 64 KiB
            assert call(port, "GET", "/v1/info", timeout=2).status == 200
        seen = call(port, "GET", "/metrics").body.decode()
        assert float(re.search(r"^gkv_log_lines_dropped_total (\S+)$", seen, re.MULTILINE)[1]) > 0  # type: ignore[index]
    finally:
        process.kill()
        process.communicate()


# -- SIGHUP


def test_sighup_takes_over_what_can_change_and_keeps_connections(system: System) -> None:
    path = system.directory / "gkv.toml"
    path.write_text("access_log = false\n")
    proxy = system.proxy("--config", "gkv.toml")
    with socket.create_connection(("127.0.0.1", proxy.port), DEADLINE) as connection:

        def status(host: str) -> bytes:
            connection.sendall(f"GET /v1/info HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return connection.recv(65_536).split(b"\r\n")[0]

        assert status("localhost") == b"HTTP/1.1 200 OK"
        path.write_text('access_log = true\nlog_format = "json"\nnames = ["gkv.example"]\ndeadline = "9s"\n')
        proxy.signal(signal.SIGHUP)
        proxy.wait_line("the settings were read again; changed: names, log_format, access_log; .* next start: deadline")
        assert status("gkv.example") == b"HTTP/1.1 200 OK"
        assert len(wait_for("the line", lambda: re.findall(r'\{"time".*"route": "/v1/info"', proxy.stderr))) == 1

        path.write_text("")
        proxy.signal(signal.SIGHUP)
        wait_for("the second reading", lambda: proxy.stderr.count("the settings were read again") == 2)
        assert status("gkv.example").startswith(b"HTTP/1.1 421 ")  # though the head came again as it was


def test_sighup_with_wrong_settings_keeps_the_old_ones_and_says_so(system: System) -> None:
    path = system.directory / "gkv.toml"
    path.write_text("access_log = true\n")
    _, [node] = system.cluster(1)
    node = system.node(None, "--config", "gkv.toml", "--name", "other")
    for text in ("access_log = false\ncolour = 1\n", "access_log = [", 'access_log = false\nhost = "10.0.0.1"\n'):
        before = node.stderr.count("the old ones stay in force")
        path.write_text(text)
        node.signal(signal.SIGHUP)
        wait_for("the complaint", lambda before=before: node.stderr.count("the old ones stay in force") > before)
        lines = node.stderr.count("GET /v1/info")
        assert node.call("GET", "/v1/info").status == 200
        wait_for("the access line", lambda lines=lines: node.stderr.count("GET /v1/info") > lines)
    path.unlink()
    node.signal(signal.SIGHUP)
    node.wait_line("the old ones stay in force: .*cannot be read")
    node.signal(signal.SIGTERM)
    assert node.ended() == 0


def test_sighup_changes_the_rates_of_a_node_that_runs(system: System) -> None:
    path = system.directory / "gkv.toml"
    path.write_text("scrub_rate = 0\nfill_rate = 10\n")
    node = system.node(system.proxy(), "--config", "gkv.toml")
    path.write_text("scrub_rate = 5000\nfill_rate = 0\n")
    node.signal(signal.SIGHUP)
    node.wait_line("the settings were read again; changed: fill_rate, scrub_rate$")
    wait_for("a look at all records", lambda: samples(node)["gkv_scrub_rounds_total",])


# -- systemd


def test_manager_is_told_of_readiness_reload_and_end(system: System) -> None:
    path = system.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(DEADLINE)
        proxy = system.proxy(NOTIFY_SOCKET=str(path))
        assert manager.recv(100) == b"READY=1"
        proxy.signal(signal.SIGHUP)
        assert manager.recv(100).startswith(b"RELOADING=1\n")
        assert manager.recv(100) == b"READY=1"
        proxy.signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        assert proxy.ended() == 0
        system.node(None, NOTIFY_SOCKET=str(path)).signal(signal.SIGTERM)
        assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STOPPING=1"]


# -- the files in deploy/


def test_example_of_settings_can_be_used_as_it_stands_and_with_every_comment_taken_away(tmp_path: Path) -> None:
    text = (DEPLOY / "gkv.toml").read_text()
    whole = tmp_path / "gkv.toml"
    whole.write_text(re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE))
    for command, arguments in (("proxy", []), ("node", ["9000"])):
        parse(command, ["--config", str(DEPLOY / "gkv.toml"), *arguments], {}).check()
        defaults = parse(command, ["--log-format", "json", *arguments], {})
        assert parse(command, ["--config", str(whole), *arguments], {}) == defaults
    tables = tomllib.loads(whole.read_text())
    named = set(tables) | set(tables["proxy"]) | set(tables["node"])
    assert named - {"node"} == {knob.name for knob in KNOBS if not knob.secret}
    assert all(f"#   {knob.name}_file = " in text for knob in KNOBS if knob.secret)


@pytest.mark.parametrize("name", ["gkv-proxy.service", "gkv-node@.service"])
def test_unit_starts_its_command_with_flags_that_exist(name: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "systemd" / name)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["User"] != "root"
    for line in (service["ExecStartPre"], service["ExecStart"]):
        program, *arguments = shlex.split(line.replace("%i", "9000"))
        command = Path(program).name.removeprefix("gkv-")
        arguments[arguments.index("--config") + 1] = str(DEPLOY / "gkv.toml")
        settings = parse(command, arguments, {})
        assert Path(settings.data).parts[:4] == ("/", "var", "lib", service["StateDirectory"].split("/")[0])
    assert shlex.split(service["ExecReload"])[1] == "-HUP"
    assert service["RestartPreventExitStatus"].split() == ["2", "78"]
    assert (service["Restart"], unit["Unit"]["StartLimitIntervalSec"]) == ("on-failure", "0")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (Debian package systemd)")
@pytest.mark.parametrize("name", ["gkv-proxy.service", "gkv-node@.service"])
def test_unit_passes_systemds_own_checks(tmp_path: Path, name: str) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / name.replace("@", "@9000")
    unit.write_text(re.sub(r"/opt/gkv/bin/\S+", str(program), (DEPLOY / "systemd" / name).read_text()))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=DEADLINE
    )
    complaints = [line for line in checked.stderr.splitlines() if unit.name in line]
    assert (checked.returncode, complaints) == (0, []), checked.stderr
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    secured = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert secured.returncode == 0, secured.stdout[-300:] + secured.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (Debian package systemd)")
@pytest.mark.parametrize(("name", "command", "arguments"), [("gkv-proxy", "proxy", []), ("gkv-node@9000", "node", ["9000"])])
def test_socket_unit_is_what_systemd_takes_and_has_the_address_of_the_settings(
    tmp_path: Path, name: str, command: str, arguments: list[str]
) -> None:
    for kind in ("service", "socket"):
        text = (DEPLOY / "systemd" / f"{name.replace('9000', '')}.{kind}").read_text()
        (tmp_path / f"{name}.{kind}").write_text(re.sub(r"/opt/gkv/bin/\S+", "/bin/true", text))
    unit = tmp_path / f"{name}.socket"
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=DEADLINE
    )
    complaints = [line for line in checked.stderr.splitlines() if name in line]
    assert (checked.returncode, complaints) == (0, []), checked.stderr
    settings = parse(command, ["--config", str(DEPLOY / "gkv.toml"), *arguments], {})
    assert f"ListenStream={settings.host}:{settings.port}\n" in unit.read_text().replace("%i", "9000")


def test_container_is_built_in_stages_and_runs_as_nobody() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    stages = [line for line in lines if line.startswith("FROM ")]
    last = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert len(stages) == 2
    [user] = [line.split()[1] for line in last if line.startswith("USER ")]
    assert all(part.isdigit() and int(part) > 0 for part in user.split(":"))
    copied = [part for line in lines if line.startswith("COPY ") and "--from" not in line for part in line.split()[1:-1]]
    assert [part for part in copied if not (ROOT / part).exists()] == []
    variables = dict(re.findall(r"\b(GKV_\w+)=(\S+)", "\n".join(last)))
    assert parse("proxy", [], variables).log_format == "json"


def test_health_is_asked_of_the_process_beside_it(proxy: Program, system: System) -> None:
    def ended(url: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-I", DEPLOY / "healthcheck.py"]
        return subprocess.run(command, env={"HEALTH_URL": url}, capture_output=True, text=True, timeout=20)

    assert ended(f"http://127.0.0.1:{proxy.port}/livez").returncode == 0
    assert ended(f"http://127.0.0.1:{proxy.port}/readyz").returncode == 0
    alone = system.proxy()
    without_nodes = ended(f"http://127.0.0.1:{alone.port}/readyz")
    assert (without_nodes.returncode, without_nodes.stderr.count("status 503")) == (1, 1)
    nobody = ended("http://127.0.0.1:1/livez")
    assert (nobody.returncode, len(nobody.stderr.splitlines())) == (1, 1)
