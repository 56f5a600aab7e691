"""Records whose bytes change on the disks of three copies, or of one: found by the look at all of them, and mended."""

import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from gkv.engine import LmdbEngine
from gkv.model import Damage, Record
from gkv.ring import tokens
from tests.cluster.conftest import Program, System, Worker, call, wait_for
from tests.cluster.rot import rot

SCRUB = ("--scrub-rate", "100000")
KEYS = [f"key-{number:03}" for number in range(120)]
LOST = "key-lost"
"""The key whose copies are all damaged."""


def value_of(key: str) -> str:
    return f"the value of {key}"


class Cluster:
    """A proxy and three nodes with three copies, on each of whose disks something may change."""

    def __init__(self, system: System, copies: int = 3) -> None:
        self._system = system
        self.proxy = system.proxy("--replicas", str(copies))
        self.nodes = [system.node(self.proxy, *SCRUB) for _ in range(copies)]
        self.wait_whole()
        answer = self.proxy.call("POST", "/set", [{"key": key, "value": value_of(key)} for key in (*KEYS, LOST)])
        assert answer.status == 200, answer

    def wait_whole(self) -> None:
        wait_for("members that are all up", lambda: self.states() == ["up"] * len(self.nodes))

    def states(self) -> list[str]:
        return [one["state"] for one in self.proxy.call("GET", "/v1/cluster").json["members"]]

    def file(self, node: Program) -> Path:
        return self._system.directory / "gkv-data" / str(node.port) / "data.mdb"

    def damage(self, node: Program, *keys: str) -> None:
        rot(self.file(node), *[value_of(key).encode() for key in keys])

    def damage_running(self, damaged: Mapping[int, Sequence[str]]) -> None:
        """Damage records of nodes, by port, all at the same moment."""
        for node in self.nodes:
            node.signal(signal.SIGSTOP)
        for node in self.nodes:
            self.damage(node, *damaged[node.port])
        for node in self.nodes:
            node.signal(signal.SIGCONT)

    def primaries(self) -> dict[str, str]:
        rows = self.proxy.call("POST", "/locate", [{"key": key} for key in KEYS]).json["keys"]
        return {row["key"]: row["primary"] for row in rows}

    def stop(self, node: Program) -> None:
        node.signal(signal.SIGTERM)
        assert node.ended() == 0

    def start_again(self, node: Program, *arguments: str, usual: Sequence[str] = SCRUB) -> Program:
        """Start a node that has been stopped; return its process."""
        again = self._system.node(self.proxy, *usual, *arguments, port=node.port)
        self.nodes[self.nodes.index(node)] = again
        return again

    def dumped(self) -> list[dict[str, Record | Damage | None]]:
        """End all nodes; return what each has on its disk. What is not known to be settled would be written anew meanwhile."""
        wait_for("settled keys", lambda: not any(figure(node, "gkv_unsettled_keys_copied") for node in self.nodes))
        for node in self.nodes:
            node.signal(signal.SIGTERM)
        found = []
        for node in self.nodes:
            assert node.ended() == 0
            engine = LmdbEngine(self.file(node).parent, f"127.0.0.1:{node.port}", tokens)
            found.append(dict(zip((*KEYS, LOST), engine.records_of([*KEYS, LOST]), strict=True)))
            engine.close()
        return found


class Reader(Worker):
    """Reads all keys again and again, and notes each answer that is not the value."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.wrong: list[object] = []
        self.rounds = 0
        super().__init__()

    def _run(self) -> None:
        asked = [{"key": key} for key in KEYS]
        expected = {"existedKey": [{"key": key, "value": value_of(key)} for key in KEYS]}
        while not self._stop.is_set():
            found = call(self.port, "POST", "/get", asked).json
            if found != expected:
                self.wrong.append(found)
            self.rounds += 1


@pytest.fixture
def cluster(system: System) -> Iterator[Cluster]:
    found = Cluster(system)
    yield found
    assert all("internal error" not in program.stderr for program in (found.proxy, *found.nodes))


def figure(node: Program, name: str) -> int:
    found = re.search(rf"^{name} (\d+)", node.call("GET", "/metrics").body.decode(), re.MULTILINE)
    assert found, name
    return int(found[1])


def wait_mended(node: Program, mended: int, left: int = 0) -> None:
    """Wait until a look has found so many damaged records at least that are mended since, and so many are left."""

    def is_mended() -> bool:
        return (
            figure(node, "gkv_scrub_mended_total") >= mended
            and figure(node, "gkv_scrub_damaged_total") == figure(node, "gkv_scrub_mended_total") + left
            and figure(node, "gkv_engine_damaged_records") == left
        )

    wait_for(f"{mended} mended records at {node.port}, and {left} that are not", is_mended, 60)


def assert_same(dumps: list[dict[str, Record | Damage | None]]) -> None:
    """All copies are equal, and what was written."""
    for key in KEYS:
        [*records] = {dump[key] for dump in dumps}
        assert len(records) == 1, (key, records)
        assert isinstance(records[0], Record)
        assert records[0].value == b'"%b"' % value_of(key).encode()


@pytest.mark.promise("I14")
def test_records_damaged_under_running_nodes_are_mended_and_reads_are_right_all_the_time(cluster: Cluster) -> None:
    reader = Reader(cluster.proxy.port)
    parts = {node.port: KEYS[place::3] for place, node in enumerate(cluster.nodes)}
    primaries = cluster.primaries()
    owned = {
        node.port: [key for key in parts[node.port] if primaries[key] == f"127.0.0.1:{node.port}"] for node in cluster.nodes
    }
    assert all(0 < len(owned[port]) < len(keys) for port, keys in parts.items())  # at primaries and at backups
    cluster.damage_running({port: [LOST, *keys] for port, keys in parts.items()})
    for node in cluster.nodes:
        wait_mended(node, len(parts[node.port]), 1)
    wait_for("another round", lambda: reader.rounds > 5)
    reader.stop()
    assert reader.wrong == []
    assert reader.rounds
    answer = cluster.proxy.call("GET", f"/v1/kv/{LOST}")
    assert (answer.status, b"damaged" in answer.body) == (500, True)
    for node in cluster.nodes:
        assert node.stderr.count(f"damaged: '{LOST}' is damaged") <= 1
        assert "the value of" not in node.stderr
    dumps = cluster.dumped()
    assert_same(dumps)
    assert [dump[LOST] for dump in dumps] == [Damage.DAMAGED] * 3


@pytest.mark.promise("I14")
def test_record_whose_key_is_not_what_was_written_is_recovered_before_it_is_answered(cluster: Cluster) -> None:
    primaries = cluster.primaries()
    for node in cluster.nodes:
        node.signal(signal.SIGSTOP)
    for node in cluster.nodes:
        mine = [key for key in KEYS if primaries[key] == f"127.0.0.1:{node.port}"][:5]
        rot(cluster.file(node), *[tokens([key]) + key.encode() for key in mine])
    for node in cluster.nodes:
        node.signal(signal.SIGCONT)
    found = cluster.proxy.call("POST", "/get", [{"key": key} for key in KEYS]).json
    assert found == {"existedKey": [{"key": key, "value": value_of(key)} for key in KEYS]}
    # A delete leaves nothing in listings.
    assert cluster.proxy.call("POST", "/delete", [{"key": key} for key in KEYS]).json == {"deleted": len(KEYS)}
    assert cluster.proxy.call("GET", "/v1/kv").json["keys"] == [LOST]


@pytest.mark.promise("I14")
def test_records_damaged_while_their_node_is_away_are_mended_when_it_is_back(cluster: Cluster) -> None:
    reader = Reader(cluster.proxy.port)
    for node in list(cluster.nodes):
        cluster.stop(node)
        cluster.damage(node, *KEYS[::4])
        again = cluster.start_again(node)
        cluster.wait_whole()
        wait_for("a look at all records", lambda again=again: figure(again, "gkv_scrub_rounds_total"), 60)
        wait_for("no damage", lambda again=again: not figure(again, "gkv_engine_damaged_records"), 60)
    reader.stop()
    assert reader.wrong == []
    assert_same(cluster.dumped())


def test_damaged_key_is_served_again_once_it_is_set(cluster: Cluster) -> None:
    cluster.damage_running({node.port: [LOST] for node in cluster.nodes})
    for node in cluster.nodes:
        wait_for("the damage", lambda node=node: figure(node, "gkv_engine_damaged_records") == 1, 60)
    assert cluster.proxy.call("GET", f"/v1/kv/{LOST}").status == 500
    assert cluster.proxy.call("POST", "/set", [{"key": LOST, "value": "new"}]).status == 200
    assert cluster.proxy.call("GET", f"/get?key={LOST}").json == {"existedKey": [{"key": LOST, "value": "new"}]}
    for node in cluster.nodes:
        wait_mended(node, 1)
    assert {dump[LOST].value for dump in cluster.dumped()} == {b'"new"'}


class Two:
    """Two nodes with two copies, of which the first one's is damaged while the second one is away."""

    def __init__(self, system: System, *, emptied: bool, second_with: Sequence[str] = ()) -> None:
        self.cluster = Cluster(system, copies=2)
        self.first, second = self.cluster.nodes
        self.cluster.stop(second)
        newest = f"newest {value_of(LOST)}"
        wait_for("a write that one node takes", lambda: self.set_lost(newest) == 200)
        rot(self.cluster.file(self.first), newest.encode())
        if emptied:
            shutil.rmtree(self.cluster.file(second).parent)
        self.second = self.cluster.start_again(second, *second_with)
        self.cluster.wait_whole()

    def kill_first(self) -> None:
        self.first.signal(signal.SIGKILL)
        self.first.ended()
        wait_for("the second node alone", lambda: sorted(self.cluster.states()) == ["down", "up"])

    def set_lost(self, value: str) -> int:
        return self.cluster.proxy.call("POST", "/set", [{"key": LOST, "value": value}]).status

    def told(self) -> tuple[int, bool]:
        """Return how the damaged key is answered, and whether all others are right and all are listed."""
        proxy = self.cluster.proxy
        answer = proxy.call("GET", f"/v1/kv/{LOST}")
        found = proxy.call("POST", "/get", [{"key": key} for key in KEYS]).json
        right = found == {"existedKey": [{"key": key, "value": value_of(key)} for key in KEYS]}
        listed = proxy.call("GET", "/v1/kv?limit=1000").json["keys"] == sorted([*KEYS, LOST])
        return answer.status if answer.status != 500 or b"damaged" in answer.body else 0, right and listed


@pytest.mark.promise("I14", "I2", "I3")
@pytest.mark.parametrize("emptied", [True, False], ids=["empty", "with an older value"])
def test_record_that_nobody_can_read_keeps_no_node_away_and_is_damaged_everywhere(system: System, emptied: bool) -> None:
    two = Two(system, emptied=emptied)
    cluster = two.cluster
    assert two.told() == (500, True)
    for node in cluster.nodes:
        wait_for("the damage", lambda node=node: figure(node, "gkv_engine_damaged_records") == 1, 60)
    two.kill_first()
    assert two.told() == (500, True)
    assert two.second.call("GET", f"/v1/kv/{LOST}").status == 500
    cluster.start_again(two.first)
    cluster.wait_whole()
    assert two.told() == (500, True)
    assert two.set_lost("new") == 200
    assert two.told() == (200, True)
    for node in cluster.nodes:
        wait_for("no damage", lambda node=node: figure(node, "gkv_engine_damaged_records") == 0, 60)
    dumps = cluster.dumped()
    assert_same(dumps)
    assert {dump[LOST].value for dump in dumps} == {b'"new"'}
    assert all("internal error" not in program.stderr for program in (cluster.proxy, *cluster.nodes))


def test_record_that_nobody_can_read_is_damaged_at_a_node_that_keeps_its_records_in_memory(system: System) -> None:
    two = Two(system, emptied=True, second_with=("--engine", "memory"))
    assert two.told() == (500, True)
    two.kill_first()
    assert two.told() == (500, True)
    two.cluster.start_again(two.first)
    two.cluster.wait_whole()
    assert two.told() == (500, True)
    assert two.set_lost("new") == 200
    assert two.told() == (200, True)


def test_with_one_copy_damage_is_counted_and_named_and_other_keys_are_served(system: System) -> None:
    cluster = Cluster(system, copies=1)
    [node] = cluster.nodes
    cluster.damage(node, LOST)
    wait_for("the damage", lambda: figure(node, "gkv_engine_damaged_records") == 1, 60)
    assert f"damaged: '{LOST}' is damaged" in node.stderr
    assert cluster.proxy.call("GET", f"/v1/kv/{LOST}").status == 500
    found = cluster.proxy.call("POST", "/get", [{"key": key} for key in KEYS]).json
    assert found == {"existedKey": [{"key": key, "value": value_of(key)} for key in KEYS]}
    assert figure(node, "gkv_scrub_mended_total") == 0


def test_damage_that_a_read_meets_is_counted_and_named_without_a_look(system: System) -> None:
    cluster = Cluster(system, copies=1)
    [node] = cluster.nodes
    cluster.stop(node)
    cluster.damage(node, LOST)
    node = cluster.start_again(node, usual=("--scrub-rate", "0"))
    assert figure(node, "gkv_engine_damaged_records") == 0
    assert cluster.proxy.call("GET", f"/v1/kv/{LOST}").status == 500
    wait_for("the damage", lambda: figure(node, "gkv_engine_damaged_records") == 1)
    assert node.stderr.count(f"damaged: '{LOST}' is damaged") == 1
    assert cluster.proxy.call("PUT", f"/v1/kv/{LOST}", "new", Content_Type="application/json").status == 201
    wait_mended(node, 1)
    node.wait_line(f"mended: '{LOST}' was written anew")
