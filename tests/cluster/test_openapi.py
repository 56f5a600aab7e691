"""What `/openapi.json` promises, held against running processes by schemathesis, which makes up requests from the document.

For more than the sample that runs here: GKV_SCHEMA_EXAMPLES=1000 (of each operation), and another seed with GKV_SEED.
"""

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Program, System

SAMPLE = "2"
EXAMPLES = os.environ.get("GKV_SCHEMA_EXAMPLES", SAMPLE)
RUNS = [("proxy", "positive"), ("proxy", "negative"), ("node", "positive")]
if EXAMPLES != SAMPLE:
    RUNS.append(("node", "negative"))
SEED = os.environ.get("GKV_SEED", "")
SETTINGS = """
# All checks are on. What an answer may be is narrower than schemathesis' own idea of it, but for 413: gkv says so of what is
# longer than it may be.
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 413, 415, 422]

[checks.positive_data_acceptance]
expected-statuses = [200, 201, 204, 304, 404, 412]

# No schema can say that a cursor has a checksum, nor that a page with values is shorter than one without.
[[operations]]
include-path = "/v1/kv"
checks.positive_data_acceptance.expected-statuses = [200, 422]

# Nor that a call takes one of two parameters, nor what is there already.
[[operations]]
include-name = "POST /v1/kv/{key}"
checks.positive_data_acceptance.expected-statuses = [200, 204, 400, 404, 409]

# Nor that a node can enlist only itself, and under no address or name of another one.
[[operations]]
include-path = "/v1/cluster/nodes"
checks.positive_data_acceptance.expected-statuses = [200, 409, 422, 503]

# Nor what the ring can become.
[[operations]]
include-name = [
    "DELETE /v1/cluster/nodes/{id}", "PATCH /v1/cluster/nodes/{id}", "PATCH /v1/cluster", "DELETE /v1/cluster/change",
    "PATCH /v1/cluster/change", "POST /v1/cluster/replace",
]
checks.positive_data_acceptance.expected-statuses = [200, 202, 404, 409, 422]

# Nor whether there is a loss to accept.
[[operations]]
include-path = "/v1/cluster/accept-loss"
checks.positive_data_acceptance.expected-statuses = [200, 202, 409]
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Program]]:
    """Give a proxy and one of its two nodes."""
    system = System(tmp_path_factory.mktemp("system"))
    proxy, nodes = system.cluster(2)
    yield {"proxy": proxy, "node": nodes[0]}
    system.end(all_run=True)


# Both modes in one run make a case of each kind from parts of the other: a header that must be refused in a good request.
@pytest.mark.parametrize(("role", "mode"), RUNS)
def test_schemathesis_finds_nothing(programs: dict[str, Program], tmp_path: Path, role: str, mode: str) -> None:
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(SETTINGS)
    command = [Path(sysconfig.get_path("scripts")) / "schemathesis", "--config-file", settings, "run"]
    options = ["--mode", mode, "--max-examples", EXAMPLES, "--continue-on-failure", "--no-color", "--warnings", "off"]
    options += ["--seed", SEED] if SEED else ["--generation-deterministic"]
    if role == "node" and EXAMPLES == SAMPLE:  # most of it is what the proxy has answered already
        options += ["--exclude-method", "HEAD", "--phases", "examples,coverage"]
    url = f"http://127.0.0.1:{programs[role].port}/openapi.json"
    run = subprocess.run([*command, url, *options], capture_output=True, text=True, cwd=tmp_path, timeout=1_800)
    shown = "\n".join(line[:300] for line in run.stdout.splitlines())
    assert run.returncode == 0, shown
    assert "No issues found" in run.stdout, shown


def test_document_is_served_everywhere_with_its_own_limits(system: System) -> None:
    proxy = system.proxy("--max-body", "1MiB")
    node = system.node(proxy, "--max-body", "2MiB")
    for program, size in ((proxy, 1 << 20), (node, 2 << 20)):
        answer = program.call("GET", "/openapi.json")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.json["openapi"].startswith("3.1.")
        limit = answer.json["paths"]["/get"]["post"]["requestBody"]["description"]
        assert limit == f"at most {size} bytes"
        assert program.call("GET", "/openapi.json").body == answer.body
        assert program.call("HEAD", "/openapi.json").status == 200
        assert program.call("GET", "/openapi.json?pretty").status == 400
        assert "/internal/frames" not in answer.json["paths"]
        assert ("/v1/snapshot" in answer.json["paths"]) == (program is node)
        assert ("/v1/cluster" in answer.json["paths"]) == (program is proxy)
