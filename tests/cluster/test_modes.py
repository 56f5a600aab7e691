"""Copies by durability and engine: what is there after processes are killed and disks destroyed, and what each promises."""

import shutil
import signal
from collections.abc import Iterator, Sequence

import pytest

from tests.cluster.conftest import System, wait_for
from tests.cluster.copies import Copies
from tests.cluster.test_copies import set_all, told
from tests.linearizability.load import KEYS

SOON = ("--deadline", "500ms")
"""For which whoever is asked waits for somebody who answers."""
MEMORY = ("--engine", "memory")

pytestmark = pytest.mark.promise("I1", "I2")


@pytest.fixture
def clusters(system: System) -> Iterator[list[Copies]]:
    """Give a list of clusters, whose processes must not have met an internal error."""
    clusters: list[Copies] = []
    yield clusters
    assert all("internal error" not in one.program.stderr for cluster in clusters for one in cluster.victims)


def begin(clusters: list[Copies], system: System, *arguments: str, of_node: Sequence[str] = ()) -> Copies:
    """Start three nodes with three copies; what is not answered is soon known."""
    clusters.append(Copies.start(system, *SOON, *arguments, of_node=lambda _: (*SOON, *of_node)))
    return clusters[-1]


def all_say(cluster: Copies, text: str) -> bool:
    return all(set(told(one.program).values()) == {text} for one in cluster.victims)


def line(cluster: Copies, name: str) -> dict[str, object]:
    [row] = [row for row in cluster.document["members"] if row["id"] == name]
    return row


def test_acknowledged_write_is_there_while_one_of_the_disks_is_that_acknowledged_it(
    clusters: list[Copies], system: System
) -> None:
    """Two of three are up for a write, as `--min-in-sync` wants; one of their disks is destroyed, while all are down."""
    cluster = begin(clusters, system)
    proxy, (first, second, third) = cluster.proxy.program, cluster.nodes
    assert set_all(proxy, "older")
    cluster.end(first, signal.SIGKILL)
    cluster.wait_down(first)
    wait_for("writes with two copies", lambda: set_all(proxy, "newer"))
    cluster.end(second, signal.SIGKILL)
    cluster.end(third, signal.SIGKILL)
    shutil.rmtree(system.directory / "gkv-data" / str(second.program.port))
    for node in (first, second, third):
        cluster.start_again(node)
    cluster.wait_whole()
    assert all_say(cluster, "newer")


def test_fewer_disks_than_wanted_take_no_write(clusters: list[Copies], system: System) -> None:
    cluster = begin(clusters, system)
    proxy, (first, second, _) = cluster.proxy.program, cluster.nodes
    assert set_all(proxy, "kept")
    for node in (first, second):
        cluster.end(node, signal.SIGKILL)
        cluster.wait_down(node)
    wait_for("reads from the last one", lambda: set(told(proxy).values()) == {"kept"})
    refused = proxy.call("POST", "/set", [{"key": KEYS[0], "value": "lost"}], Accept="application/json")
    assert (refused.status, {row["code"] for row in refused.json["failedKey"]}) == (503, {"too-few-copies"})
    for node in (first, second):
        cluster.start_again(node)
    cluster.wait_whole()
    assert all_say(cluster, "kept")


@pytest.mark.parametrize(
    ("arguments", "of_node"), [((), MEMORY), (("--durability", "async"), ())], ids=["in memory", "durability async"]
)
def test_process_that_was_killed_comes_back_empty_and_is_filled(
    clusters: list[Copies], system: System, everything: bool, arguments: Sequence[str], of_node: Sequence[str]
) -> None:
    """It may have acknowledged what it has lost, so it acts for nothing before it is equal to those that have it."""
    cluster = begin(clusters, system, *arguments, of_node=of_node)
    proxy = cluster.proxy.program
    for turn, node in enumerate(cluster.nodes if everything else cluster.nodes[:1]):
        assert set_all(proxy, f"turn {turn}")
        cluster.end(node, signal.SIGKILL)
        cluster.wait_down(node)
        wait_for("its keys", lambda turn=turn: set(told(proxy).values()) == {f"turn {turn}"})
        cluster.start_again(node)
        proxy.wait_line(f"member {node.name} has come back empty")
        cluster.wait_whole()
        assert all_say(cluster, f"turn {turn}")
        assert not line(cluster, node.name)["empty"]


@pytest.mark.parametrize(
    ("arguments", "of_node"), [((), MEMORY), (("--durability", "async"), ())], ids=["in memory", "durability async"]
)
def test_nothing_is_called_missing_when_all_were_killed_at_once(
    clusters: list[Copies], system: System, arguments: Sequence[str], of_node: Sequence[str]
) -> None:
    cluster = begin(clusters, system, *arguments, of_node=of_node)
    proxy = cluster.proxy.program
    assert set_all(proxy, "perhaps")
    for node in cluster.nodes:
        cluster.end(node, signal.SIGKILL)
    for node in cluster.nodes:
        cluster.start_again(node)
    wait_for("empty members", lambda: all(row["empty"] for row in cluster.document["members"]))
    wait_for("answers", lambda: set(told(proxy).values()) == {"no-primary"})
    for node in cluster.nodes:
        accepted = proxy.call("POST", "/v1/cluster/accept-loss", {"node": node.name}, Content_Type="application/json")
        assert accepted.status in (202, 409), accepted
    cluster.wait_whole()
    assert len({frozenset(told(one.program).items()) for one in cluster.victims}) == 1  # what is left is told by all alike
    assert set_all(proxy, "again")
    assert all_say(cluster, "again")


def test_orderly_end_with_durability_async_loses_nothing(clusters: list[Copies], system: System, everything: bool) -> None:
    cluster = begin(clusters, system, "--durability", "async")
    proxy = cluster.proxy.program
    for turn, node in enumerate(cluster.nodes if everything else cluster.nodes[:1]):
        assert set_all(proxy, f"turn {turn}")
        cluster.end(node, signal.SIGTERM)
        assert node.program.process.poll() == 0
        cluster.wait_down(node)
        cluster.start_again(node)
        cluster.wait_whole()
        assert all_say(cluster, f"turn {turn}")
    assert "come back empty" not in proxy.stderr
