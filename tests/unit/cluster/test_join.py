"""A join at every possible moment of somebody else's write: no acknowledged write may end up where nobody looks for it.

The real authority, services and coordinators in one process; only the way between them is direct, not a socket, so that a
write can be put before and after each step of the protocol.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gkv.cluster.authority import Authority
from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator import Channels, Coordinator
from gkv.engine import Commits, MemoryEngine
from gkv.errors import MemberConflict, Unavailable
from gkv.model import Node, Op, Outcome
from gkv.net.call import Call
from gkv.node.due_clock import DueClock, wall_ms
from gkv.node.order import Order
from gkv.node.service import Service
from gkv.ring import tokens

NODES = [Node(f"n{i}", f"http://127.0.0.1:{9000 + i}") for i in range(3)]
KEYS = [f"key{i}" for i in range(40)]
"""Enough that each of three nodes owns some of them."""
TTL = 86_400_000


class Cluster(Channels):
    """Nodes in this process, each with a view, an engine and a coordinator of its own; and a hook around every step."""

    def __init__(self) -> None:
        super().__init__(deadline=0.05)
        self.engines = {node.id: MemoryEngine(tokens) for node in NODES}
        self.views = {node.id: View() for node in NODES}
        self.commits = {node.id: Commits(self.engines[node.id], tombstone_ttl=TTL) for node in NODES}
        self.services = {
            node.id: Service(
                node.id,
                self.views[node.id],
                self.engines[node.id],
                self.commits[node.id],
                Order(self.views[node.id], self.engines[node.id], self.commits[node.id], DueClock()),
            )
            for node in NODES
        }
        self.silent: set[str] = set()
        self.step: Callable[[], None] = lambda: None

    def to(self, node: Node) -> "Way":
        return Way(self, node.id)

    def records(self, nodes: Sequence[Node]) -> list[int | None]:
        self.step()
        counts = super().records(nodes)
        self.step()
        return counts

    def adopt(self, document: Document, nodes: Sequence[Node]) -> list[int | None]:
        self.step()
        counts: list[int | None] = []
        for node in nodes:  # one after the other, with a step between: the slowest network there can be
            counts += super().adopt(document, [node])
            self.step()
        return counts

    def end(self) -> None:
        """End the greenlets behind the engines, and look at what these hold."""
        for commits in self.commits.values():
            commits.close()
        for engine in self.engines.values():
            assert engine.check() == []

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Leave out the hook: what a coordinator does in the hook must not call the hook."""
        step, self.step = self.step, lambda: None
        try:
            yield
        finally:
            self.step = step


class Way:
    """The way to one node, without a socket."""

    def __init__(self, cluster: Cluster, node_id: str) -> None:
        self._cluster, self._id = cluster, node_id

    def submit(self, call: Call) -> None:
        if self._id in self._cluster.silent:
            call.finish(Outcome.UNREACHABLE)
        else:
            self._cluster.services[self._id].submit(call)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Give nodes that have no cluster yet."""
    cluster = Cluster()
    yield cluster
    cluster.end()


def open_authority(directory: Path, cluster: Cluster) -> tuple[Authority, View]:
    view = View()
    return Authority(directory, view, cluster), view


def two_members(directory: Path, cluster: Cluster) -> tuple[Authority, View]:
    authority, view = open_authority(directory, cluster)
    for node in NODES[:2]:
        authority.join(node, None)
    return authority, view


def coordinator_of(view: View, cluster: Cluster) -> Coordinator:
    return Coordinator(view, cluster, 0.05)


def write(coordinator: Coordinator, keys: Sequence[str]) -> list[str]:
    """Set these keys and return those that were acknowledged."""
    body = json.dumps([{"key": key, "value": 1} for key in keys]).encode()
    written = coordinator.write(coordinator.router().read(Op.SET, body))
    assert written.keys == len(keys) - len(written.failed)
    return [key for key in keys if key not in written.failed]


def missing(coordinator: Coordinator, keys: Sequence[str]) -> list[str]:
    """Return those of the keys that are said not to exist."""
    batch = coordinator.router().of_keys(Op.GET, keys)
    answer, _ = batch.render_get(coordinator.read(batch))
    return [row["key"] for row in json.loads(answer).get("notExistedKey", [])]


STEPS = 10
"""More than a join of one node to two has; the test below checks that."""


@pytest.mark.promise("I6")
@pytest.mark.parametrize("writer", ["proxy", "n0", "n1"])
@pytest.mark.parametrize("moment", range(STEPS))
def test_write_at_any_moment_of_a_join_is_found_afterwards(moment: int, writer: str, tmp_path: Path, cluster: Cluster) -> None:
    authority, view = two_members(tmp_path, cluster)
    coordinators = {"proxy": coordinator_of(view, cluster)}
    coordinators |= {node_id: coordinator_of(cluster.views[node_id], cluster) for node_id in ("n0", "n1")}
    steps = 0
    acknowledged: list[str] = []

    def write_at_moment() -> None:
        nonlocal steps
        steps += 1
        if steps == moment + 1:
            with cluster.quiet():
                acknowledged.extend(write(coordinators[writer], KEYS))

    cluster.step = write_at_moment
    try:
        authority.join(NODES[2], None)
        joined = True
    except (MemberConflict, Unavailable):
        joined = False
    cluster.step = lambda: None

    assert view.document is not None
    assert view.document.joining is None
    assert (view.document.member("n2") is not None) == joined
    for reader in coordinators.values():
        assert set(missing(reader, KEYS)).isdisjoint(acknowledged)
        assert write(reader, ["afterwards"]) == ["afterwards"]


def test_moments_cover_every_step_of_a_join(tmp_path: Path, cluster: Cluster) -> None:
    authority, _ = two_members(tmp_path, cluster)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    cluster.step = count
    authority.join(NODES[2], None)
    assert 6 < steps <= STEPS + 4


@pytest.mark.promise("I6")
def test_write_under_the_old_epoch_is_refused_once_a_member_has_the_new_one(tmp_path: Path, cluster: Cluster) -> None:
    authority, _ = two_members(tmp_path, cluster)
    old = View()
    old.adopt(authority.document)
    authority.join(NODES[2], None)
    coordinator = coordinator_of(old, cluster)
    assert write(coordinator, KEYS) == KEYS
    assert old.document == authority.document, "the refusal brought the new document"
    ring = old.placement.ring
    assert ring is not None
    for node, _, keys in ring.split(KEYS):
        assert cluster.engines[node.id].read(keys, wall_ms()) == [b"1"] * len(keys)


def test_join_refused_in_its_second_phase_leaves_nobody_waiting(tmp_path: Path, cluster: Cluster) -> None:
    authority, view = two_members(tmp_path, cluster)
    steps = 0

    def die_in_second_phase() -> None:
        nonlocal steps
        steps += 1
        if view.document is not None and view.document.joining is not None:
            cluster.silent.add("n1")

    cluster.step = die_in_second_phase
    with pytest.raises(Unavailable, match="n1 does not answer"):
        authority.join(NODES[2], None)
    cluster.step = lambda: None
    cluster.silent.clear()
    coordinator = coordinator_of(view, cluster)
    assert write(coordinator, KEYS) == KEYS
    assert view.document is not None
    assert view.document.member("n2") is None


def test_crash_at_any_step_of_a_join_is_taken_back_or_complete(tmp_path: Path, cluster: Cluster) -> None:
    class Crash(BaseException):
        """Ends the authority on the spot, as a power cut would: nothing after it runs."""

    for moment in range(STEPS):
        directory = tmp_path / str(moment)
        fresh = Cluster()
        authority, _ = two_members(directory, fresh)
        before = authority.document.epoch
        steps = 0

        def crash(moment: int = moment, authority: Authority = authority) -> None:
            nonlocal steps
            steps += 1
            if steps > moment:
                authority._commit = lambda _document: None  # type: ignore[method-assign]  # a dead process writes nothing
                raise Crash

        fresh.step = crash
        with pytest.raises(Crash):
            authority.join(NODES[2], None)
        authority.close()
        fresh.step = lambda: None
        again, view = open_authority(directory, fresh)
        assert again.document.joining is None
        assert again.document.epoch >= before
        assert write(coordinator_of(view, fresh), KEYS) == KEYS, f"stuck after step {moment}"
        again.close()
        fresh.end()


def test_view_without_a_member_refuses_at_once(cluster: Cluster) -> None:
    with pytest.raises(Unavailable):
        Coordinator(View(), cluster, 60).router()


def test_member_that_begins_to_speak_tls_keeps_its_keys(tmp_path: Path, cluster: Cluster) -> None:
    authority, view = two_members(tmp_path, cluster)
    written = write(coordinator_of(view, cluster), KEYS)
    assert len(written) == len(KEYS)
    before = authority.document.epoch
    with_tls = [replace(node, url=node.url.replace("http:", "https:")) for node in NODES[:2]]
    for node in with_tls:
        document = authority.join(node, authority.document.cluster)
    assert list(document.members) == with_tls
    assert document.epoch > before
    assert document.joining is None
    cluster.adopt(document, with_tls)
    assert missing(coordinator_of(view, cluster), KEYS) == []
    with pytest.raises(MemberConflict):  # and not back: a stranger could take its place then
        authority.join(NODES[0], None)
    with pytest.raises(MemberConflict):
        authority.join(replace(NODES[0], url="https://127.0.0.1:9999"), None)
    authority.close()
