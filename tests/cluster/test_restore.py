"""Snapshots that become a new cluster, and directories that come back: each is filled or refused, and nothing is resurrected.

With `--all-faults` a hundred members are away while keys are deleted.
"""

import re
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from typing import Any

import lmdb
import pytest

from gkv.engine import LmdbEngine, record
from gkv.engine.merge import TOKEN
from gkv.model import Record
from gkv.ring import tokens
from tests.cluster.conftest import Answer, Program, System, free_ports, wait_for

KEYS = [f"key-{number}" for number in range(40)]
JSON = {"Content_Type": "application/json"}


def records(directory: Path) -> dict[str, Record]:
    """Return the live records of a store, whether or not a node uses it."""
    with lmdb.open(str(directory), readonly=True, max_dbs=1) as env, env.begin() as txn:
        stored = txn.cursor(env.open_db(b"records", txn=txn, create=False))
        rows = [(address, record.unpack(address, data)) for address, data in stored]
    found = {address[TOKEN:].decode(): item for address, item in rows if isinstance(item, Record)}
    assert len(found) == len(rows)
    return {key: item for key, item in found.items() if item.value is not None}


def forget(directory: Path, name: str) -> None:
    """Drop the tombstones of a store that nobody uses now, as if their time had come."""
    store = LmdbEngine(directory, name, tokens)
    try:
        assert store.tombstones
        store.forget(1 << 62, 100_000)
        assert not store.tombstones
    finally:
        store.close()


@dataclass
class Cluster:
    """A proxy and named nodes, each with a directory of its own below `data`, at addresses that stay."""

    system: System
    names: Sequence[str]
    ports: Mapping[str, int]
    data: Path
    arguments: Sequence[str]
    programs: dict[str, Program] = field(default_factory=dict)

    @classmethod
    def of(cls, system: System, data: str, *arguments: str, nodes: int = 3) -> "Cluster":
        names = [f"n{number}" for number in range(1, nodes + 1)]
        first = free_ports(nodes + 1)
        ports = {name: first + place for place, name in enumerate(["proxy", *names])}
        return cls(system, names, ports, system.directory / data, arguments)

    def begin(self, *names: str, proxy: "Program | None" = None) -> list[Program]:
        """Start programs, all if none is named, and wait until they listen. Nodes call in at `proxy` if that is given."""
        started = []
        for name in names or ("proxy", *self.names):
            port, at = str(self.ports[name]), str(self.data / name)
            url = f"http://127.0.0.1:{self.ports['proxy'] if proxy is None else proxy.port}"
            if name == "proxy":
                program = self.system.start("proxy", "--port", port, "--data", at, *self.arguments)
            else:
                program = self.system.start("node", port, "--name", name, "--data", at, "--proxy", url)
            program.port = self.ports[name]
            program.wait_line("Listening on port")
            self.programs[name] = program
            started.append(program)
        return started

    def end(self, *names: str, number: int = signal.SIGTERM) -> None:
        """End programs, all if none is named, the proxy last."""
        for name in names or (*self.names, "proxy"):
            if self.programs[name].process.poll() is None:
                self.programs[name].signal(number)
                self.programs[name].ended()

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        return self.programs["proxy"].call(method, path, body, **JSON)

    def lines(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.call("GET", "/v1/cluster").json["members"]}

    def wait_up(self, *names: str) -> None:
        """Wait until these members of the ring are up, all if none is named."""

        def are_up() -> bool:
            lines = {name: line for name, line in self.lines().items() if line["weight"]}
            return all(name in lines and lines[name]["state"] == "up" for name in names or self.names)

        wait_for("members that are up", are_up)

    def wait_down(self, name: str) -> None:
        wait_for(f"{name} is down", lambda: self.lines()[name]["state"] == "down")

    def set(self, keys: Sequence[str], value: object) -> None:
        answer = self.call("POST", "/set", [{"key": key, "value": value} for key in keys])
        assert answer.status == 200, answer.body

    def delete(self, keys: Sequence[str]) -> None:
        answer = self.call("POST", "/delete", [{"key": key} for key in keys])
        assert answer.json == {"deleted": len(keys)}

    def found(self) -> dict[str, Any]:
        """Return what KEYS have; "failed" stands for all that has no definite answer."""
        answer = self.call("POST", "/get", [{"key": key} for key in KEYS]).json
        failed = {row["key"]: row["code"] for row in answer.get("failedKey", [])}
        return failed | {row["key"]: row["value"] for row in answer.get("existedKey", [])}

    def wait_found(self, wanted: Mapping[str, Any]) -> None:
        wait_for("the records", lambda: self.found() == wanted)

    def snapshot(self, name: str, to: Path) -> None:
        """Put a snapshot of a node into the directory that it would have below another place."""
        answer = self.programs[name].call("GET", "/v1/snapshot")
        assert answer.status == 200, answer.body
        (to / name).mkdir(parents=True)
        (to / name / "data.mdb").write_bytes(answer.body)

    def copy_member_list(self, to: Path) -> None:
        (to / "proxy").mkdir(parents=True)
        shutil.copy(self.data / "proxy" / "cluster.json", to / "proxy")

    def restored(self, data: Path, *, elsewhere: bool = False) -> "Cluster":
        """Return the cluster that is to be restored in another place, at these addresses or others."""
        ports: Mapping[str, int] = self.ports
        if elsewhere:
            first = free_ports(len(ports))
            ports = {name: first + place for place, name in enumerate(ports)}
        return Cluster(self.system, self.names, ports, data, self.arguments)

    def restore(self, *names: str) -> Program:
        """Restore, from snapshots of all nodes if none is named; return the command after its end."""
        directories = ",".join(str(self.data / name) for name in names or self.names)
        program = self.system.start("proxy", "--data", str(self.data / "proxy"), "--restore", directories)
        program.ended()
        return program

    def dumps(self) -> list[dict[str, Record]]:
        """Return the live records of each node."""
        return [records(self.data / name) for name in self.names]


def backup(cluster: Cluster, to: Path) -> Cluster:
    """Take a snapshot of each node, and the member list last; return the cluster that is to be made of them."""
    for name in cluster.names:
        cluster.snapshot(name, to)
    cluster.copy_member_list(to)
    return cluster.restored(to)


@pytest.mark.promise("I2")
@pytest.mark.parametrize("durability", ["sync", "async"])
def test_newest_of_three_snapshots_acts_and_the_others_are_filled_from_it(system: System, durability: str) -> None:
    old = Cluster.of(system, "old", "--replicas", "3", "--durability", durability)
    old.begin()
    old.wait_up()
    new = old.restored(system.directory / "new")
    old.set(KEYS, "first")
    old.snapshot("n2", new.data)
    old.delete(KEYS[:10])
    old.set(KEYS[10:20], "second")
    old.snapshot("n3", new.data)
    old.set(KEYS[20:30], "third")
    old.delete(KEYS[30:35])
    old.snapshot("n1", new.data)
    old.copy_member_list(new.data)
    wanted = old.found()
    old.set(KEYS, "later than all snapshots")
    before = old.call("GET", "/v1/cluster").json
    old.end(number=signal.SIGKILL)

    said = new.restore()
    assert said.process.returncode == 0, said.stderr
    assert [line.partition(":")[0] for line in said.stdout.splitlines()] == ["Restored", "n1", "n3", "n2"]
    new.begin("proxy", "n2", "n3")  # the older ones first: they do not act for themselves
    wait_for("two that wait", lambda: {new.lines()[name]["state"] for name in ("n2", "n3")} == {"filling"})
    assert set(new.found().values()) == {"no-primary"}
    part = new.programs["n2"].call("GET", "/v1/snapshot")  # it may be about to be filled
    assert (part.status, "would not be whole" in part.json["detail"]) == (503, True)
    new.begin("n1")
    new.wait_up()
    new.wait_found(wanted)
    after = new.call("GET", "/v1/cluster").json
    assert after["cluster"] != before["cluster"]
    new.set(KEYS[:3], "new")  # later than all records, or it would lose against them
    new.wait_found(wanted | dict.fromkeys(KEYS[:3], "new"))
    new.end()
    first, second, third = new.dumps()
    assert first == second == third
    assert first.keys() == wanted.keys() | set(KEYS[:3])


def test_members_without_a_snapshot_are_filled_or_wait_until_their_loss_is_accepted(system: System) -> None:
    old = Cluster.of(system, "old", "--replicas", "2", nodes=4)
    old.begin()
    old.wait_up()
    old.set(KEYS, 1)
    new = backup(old, system.directory / "new")
    old.end()
    for name in ("n3", "n4"):
        shutil.rmtree(new.data / name)
    run = new.restore("n1", "n2")
    assert run.process.returncode == 0
    assert "Keys of which all copies were at members without a snapshot are not here" in run.stdout
    new.begin()
    new.wait_up("n1", "n2")
    # Keys of which no snapshot has a copy have no answer, the others theirs.
    wait_for("two that are back", lambda: {new.lines()[name]["state"] for name in ("n3", "n4")} == {"filling"})
    wait_for("definite answers", lambda: set(new.found().values()) <= {1, "no-primary"})
    found = new.found()
    assert set(found) == set(KEYS)
    assert set(found.values()) == {1, "no-primary"}
    kept = {key: value for key, value in found.items() if value == 1}
    for name in ("n3", "n4"):
        assert new.call("POST", "/v1/cluster/accept-loss", {"node": name}).status == 202
    new.wait_up()
    new.wait_found(kept)
    new.end()
    assert set().union(*new.dumps()) == set(kept)


def contents(directory: Path) -> dict[str, bytes]:
    """Return the files of a directory that say something."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in ("owner.lock", "lock")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("another cluster", "is of cluster"),
        ("another node", "is of node n9, which the member list does not name"),
        ("empty", r"there is no .*n2/data\.mdb"),
        ("a node's own", "a node has run in"),
        ("a node's own with a snapshot in it", "has the document of a cluster"),
        ("cut off", "is cut off"),
        ("twice", "are both of node n1"),
        ("no member list", "put the member list of the backup there"),
        ("not joined", "had not joined a cluster"),
        ("in use", "in use by another gkv process"),
        ("proxy in use", "another gkv-proxy uses"),
    ],
)
def test_directory_that_is_no_snapshot_of_the_cluster_is_refused_and_nothing_is_changed(
    system: System, case: str, message: str
) -> None:
    old = Cluster.of(system, "old", nodes=2)
    old.begin()
    old.wait_up()
    old.set(KEYS, 1)
    new = backup(old, system.directory / "new")
    names = list(old.names)
    second = new.data / "n2"
    if case in ("another cluster", "another node", "not joined"):
        shutil.rmtree(second)
        other = Cluster.of(system, "other", nodes=2) if case == "another cluster" else old
        if case == "another cluster":
            other.begin("proxy", "n2")
            other.wait_up("n2")
            other.snapshot("n2", new.data)
            other.end("n2", "proxy")
        else:
            name = "n9" if case == "another node" else "n2"
            # A node that calls in nowhere, or has been a member of this very cluster under another name.
            stray = LmdbEngine(system.directory / "stray", name, tokens)
            if case == "another node":
                stray.join(old.call("GET", "/v1/cluster").json["cluster"])
            stray.close()
            copied = LmdbEngine(system.directory / "stray", name, tokens)
            second.mkdir()
            with (second / "data.mdb").open("wb") as file:
                copied.copy_snapshot(file.fileno())
            copied.close()
    elif case == "empty":
        (second / "data.mdb").unlink()
    elif case == "a node's own":
        old.end()
        shutil.rmtree(second)
        shutil.copytree(old.data / "n2", second)
    elif case == "a node's own with a snapshot in it":
        old.end()
        shutil.copy(old.data / "n2" / "document", second)
    elif case == "cut off":
        content = (second / "data.mdb").read_bytes()
        (second / "data.mdb").write_bytes(content[: len(content) // 2])
    elif case == "twice":
        names = ["n1", "again"]
        shutil.copytree(new.data / "n1", new.data / "again")
    elif case == "no member list":
        (new.data / "proxy" / "cluster.json").unlink()
    elif case == "in use":
        names = ["n1", "../old/n2"]
    elif case == "proxy in use":
        shutil.rmtree(new.data / "proxy")
        (new.data / "proxy").symlink_to(old.data / "proxy")
    before = contents(new.data)
    said = new.restore(*names)
    assert said.process.returncode in (1, 78)
    assert re.search(message, said.stderr), said.stderr
    assert contents(new.data) == before


@pytest.mark.promise("I2", "I3")
def test_directory_counts_once_and_every_other_one_is_refused_or_filled(system: System) -> None:
    old = Cluster.of(system, "old", "--replicas", "3")
    old.begin()
    old.wait_up()
    old.set(KEYS, 1)
    new = backup(old, system.directory / "new")
    old.set(KEYS[:5], 2)
    old.end()
    assert new.restore().process.returncode == 0
    shutil.copytree(new.data / "n1", system.directory / "second")
    assert "it was restored before" in new.restore().stderr
    # A restored directory is none of the old cluster's, an old one none of the new cluster's.
    live = old.begin("proxy", "n2", "n3")[0]
    old.wait_up("n2", "n3")
    [stray] = new.begin("n1", proxy=live)
    assert stray.ended() == 1
    assert "holds records of cluster" in stray.stderr
    old.end()
    new.begin("proxy")
    [stray] = old.begin("n1", proxy=new.programs["proxy"])
    assert stray.ended() == 1
    assert "holds records of cluster" in stray.stderr
    new.begin("n1", "n2", "n3")
    new.wait_up()
    new.delete(KEYS[5:10])
    # The same directory once more is an older one, and so is an empty one: both are filled.
    for kind in ("restored before", "empty"):
        new.end("n1")
        new.wait_down("n1")
        shutil.rmtree(new.data / "n1")
        if kind == "restored before":
            shutil.copytree(system.directory / "second", new.data / "n1")
        new.begin("n1")
        new.wait_up()
        new.wait_found(dict.fromkeys([*KEYS[:5], *KEYS[10:]], 1))
    new.end()
    first, *others = new.dumps()
    assert [first, first] == others
    assert first.keys() == set(KEYS) - set(KEYS[5:10])


def test_restored_cluster_elsewhere_never_calls_at_the_addresses_of_the_old_one(system: System) -> None:
    old = Cluster.of(system, "old", "--replicas", "2", nodes=3)
    old.begin()
    old.wait_up()
    old.set(KEYS, 1)
    new = backup(old, system.directory / "new").restored(system.directory / "new", elsewhere=True)
    old.end()
    with ExitStack() as opened:
        there = [opened.enter_context(socket.create_server(("127.0.0.1", port))) for port in old.ports.values()]
        shutil.rmtree(new.data / "n3")
        assert new.restore("n1", "n2").process.returncode == 0
        new.begin()
        new.wait_up()
        new.wait_found(dict.fromkeys(KEYS, 1))
        new.set(KEYS, 2)
        new.end("n2", number=signal.SIGKILL)
        new.wait_down("n2")
        new.begin("n2")
        new.wait_up()
        assert select(there, [], [], 0)[0] == []
    new.end()


def test_restored_cluster_beside_the_live_one_leaves_it_alone(system: System) -> None:
    live = Cluster.of(system, "live", "--replicas", "3")
    live.begin()
    live.wait_up()
    live.set(KEYS, 1)
    new = backup(live, system.directory / "new").restored(system.directory / "new", elsewhere=True)
    before = live.call("GET", "/v1/cluster").json["epoch"]
    assert new.restore().process.returncode == 0
    new.begin()
    new.wait_up()
    new.wait_found(dict.fromkeys(KEYS, 1))
    new.set(KEYS, "new")
    live.set(KEYS[:20], "live")
    assert new.found() == dict.fromkeys(KEYS, "new")
    assert live.found() == dict.fromkeys(KEYS, 1) | dict.fromkeys(KEYS[:20], "live")
    assert live.call("GET", "/v1/cluster").json["epoch"] == before
    ids = [cluster.call("GET", "/v1/cluster").json["cluster"] for cluster in (live, new)]
    assert ids[0] != ids[1]


@pytest.mark.promise("I3")
def test_one_node_of_a_living_cluster_is_filled_over_an_older_snapshot(system: System) -> None:
    cluster = Cluster.of(system, "data", "--replicas", "3")
    cluster.begin()
    cluster.wait_up()
    cluster.set(KEYS, 1)
    cluster.snapshot("n2", system.directory / "older")
    cluster.delete(KEYS[:10])
    cluster.set(KEYS[10:20], 2)
    cluster.end("n2", number=signal.SIGKILL)
    cluster.wait_down("n2")
    shutil.rmtree(cluster.data / "n2")
    shutil.copytree(system.directory / "older" / "n2", cluster.data / "n2")
    cluster.begin("n2")
    cluster.wait_up()
    cluster.end()
    first, second, third = cluster.dumps()
    assert first == second == third
    assert first.keys() == set(KEYS[10:])


@pytest.mark.promise("I3")
def test_nothing_that_was_deleted_while_a_node_was_away_comes_back_with_it(
    system: System, request: pytest.FixtureRequest
) -> None:
    """The others forget the tombstones meanwhile, so that nothing but the filling can stand against the node's records."""
    rounds = 100 if request.config.getoption("--all-faults") else 2
    cluster = Cluster.of(system, "data", "--replicas", "3")
    cluster.begin()
    cluster.wait_up()
    for turn in range(rounds):
        away, *others = [*cluster.names[turn % 3 :], *cluster.names[: turn % 3]]
        left = set(KEYS[10 + turn % 20 :])
        cluster.set(KEYS, turn)
        cluster.end(away, number=signal.SIGKILL if turn % 2 else signal.SIGTERM)
        cluster.wait_down(away)
        cluster.delete(KEYS[: 10 + turn % 20])
        cluster.end(*others)
        for other in others:
            forget(cluster.data / other, other)
        cluster.begin(away, *others)
        cluster.wait_up()
        cluster.wait_found(dict.fromkeys(left, turn))
        first, *rest = cluster.dumps()
        assert (rest, first.keys()) == ([first, first], left), turn
