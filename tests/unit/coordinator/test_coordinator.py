"""Writes by several coordinators: who wins, what is refused, and what is said about it.

Real coordinators, services and engines in one process; only the way between them is direct, not a socket.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator import Channels, Coordinator, Written
from gkv.engine import Commits, MemoryEngine
from gkv.errors import EngineFailed, EngineFull, GkvError, SnapshotRunning, TooLarge, Unavailable
from gkv.model import Effect, KeyFailure, Node, NodeRefusal, Op, Outcome, Version
from gkv.net.call import Call
from gkv.net.retries import Retries
from gkv.node.due_clock import DueClock
from gkv.node.order import Order
from gkv.node.service import Service
from gkv.ring import NO_PLACE, tokens
from gkv.wire.ops import Effects, Refused, read_request
from tests.documents import document

TTL = 60_000
NODES = [Node(f"n{i}", f"http://127.0.0.1:{9000 + i}") for i in range(2)]
KEYS = [f"key{i}" for i in range(12)]
"""Enough that each of the two nodes owns some of them."""


class Home:
    """A node. `frames` counts what it was asked by op."""

    def __init__(self, node: Node, document: Document) -> None:
        self.engine = MemoryEngine(tokens)
        self.commits = Commits(self.engine, tombstone_ttl=TTL)
        view = View()
        view.adopt(document)
        self.service = Service(node.id, view, self.engine, self.commits, Order(view, self.engine, self.commits, DueClock()))
        self._id, self._view = node.id, view
        self.frames: list[str] = []
        self.instead: Callable[[Any], bytes] | None = None
        """What answers in place of the service, with a frame."""

    def fail(self, error: GkvError) -> None:
        """Write nothing from now on."""
        self.commits = Commits(Refusing(error), tombstone_ttl=TTL)
        order = Order(self._view, self.engine, self.commits, DueClock())
        self.service = Service(self._id, self._view, self.engine, self.commits, order)

    def submit(self, call: Call) -> None:
        request = read_request(call.frame)
        self.frames.append(request.op)
        if self.instead is None:
            self.service.submit(call)
        else:
            call.sent = True
            call.finish(Outcome.ANSWERED, self.instead(request))


class Cluster(Channels):
    """Two nodes, and any number of coordinators."""

    def __init__(self) -> None:
        super().__init__(deadline=1)
        self.document = document(NODES)
        self.homes = {node.id: Home(node, self.document) for node in NODES}

    def to(self, node: Node) -> Home:
        return self.homes[node.id]

    def coordinator(self) -> Coordinator:
        view = View()
        view.adopt(self.document)
        return Coordinator(view, self, 1)

    def asked(self, op: str) -> int:
        """Return how many frames with this op were sent."""
        return sum(home.frames.count(op) for home in self.homes.values())

    def records(self) -> dict[str, tuple[Version, bytes | None]]:
        """Return all records, tombstones included."""
        found = {}
        for home in self.homes.values():
            for key, record in home.engine.arc(0, 2**64 - 1, None, 1_000):
                assert not isinstance(record, str)
                found[key] = (record.version, record.value)
        return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    for home in cluster.homes.values():
        home.commits.close()
        assert home.engine.check() == []


def put(coordinator: Coordinator, keys: list[str], value: object) -> Written:
    body = json.dumps([{"key": key, "value": value} for key in keys]).encode()
    return coordinator.write(coordinator.router().read(Op.SET, body))


def delete(coordinator: Coordinator, keys: list[str]) -> Written:
    body = json.dumps([{"key": key} for key in keys]).encode()
    return coordinator.write(coordinator.router().read(Op.DELETE, body))


def get(coordinator: Coordinator, keys: list[str]) -> dict[str, object]:
    """Return the values that are found; no key may have failed."""
    batch = coordinator.router().of_keys(Op.GET, keys)
    answer, failed = batch.render_get(coordinator.read(batch))
    assert failed == 0
    return {row["key"]: row["value"] for row in json.loads(answer)["existedKey"]}


# -- versions


def test_later_write_wins_with_a_later_version_whoever_coordinates_it(cluster: Cluster) -> None:
    turns = [cluster.coordinator() for _ in range(4)]
    versions = []
    for turn in range(40):
        written = put(turns[turn * 7 % 4], KEYS, turn)
        assert (written.keys, written.nodes, written.failed) == (12, 2, {})
        versions.append(written.version)
        assert get(turns[turn % 4], KEYS) == dict.fromkeys(KEYS, turn)
    assert versions == sorted(set(versions), key=str)
    assert cluster.asked("set") == 80, "nobody has to ask again"


def test_version_of_a_write_is_the_greatest_of_its_parts(cluster: Cluster) -> None:
    """Each primary gives one for its part."""
    coordinator = cluster.coordinator()
    owned = {key for key in KEYS if coordinator._view.placement.primary(key).id == "n0"}  # type: ignore[union-attr]
    put(coordinator, sorted(owned), 0)  # so that the counters differ
    written = put(coordinator, KEYS, 1)
    records = cluster.records()
    assert {key for key, (version, _) in records.items() if version == written.version} == owned
    assert len({version for version, _ in records.values()}) == 2
    assert written.version == max(version for version, _ in records.values())
    assert {version.era for version, _ in records.values()} == {cluster.document.era}


def test_write_that_was_not_done_has_no_version(cluster: Cluster) -> None:
    cluster.homes["n0"].instead = cluster.homes["n1"].instead = lambda _request: Refused(NodeRefusal.BUSY).write()
    assert put(cluster.coordinator(), KEYS, 1).version is None


def test_order_is_that_of_the_primary_not_that_in_which_requests_were_read(cluster: Cluster) -> None:
    coordinator = cluster.coordinator()
    body = json.dumps([{"key": key, "value": "first read"} for key in KEYS]).encode()
    batch = coordinator.router().read(Op.SET, body)
    put(coordinator, KEYS, "second read")
    assert coordinator.write(batch).failed == {}
    assert get(coordinator, KEYS) == dict.fromkeys(KEYS, "first read")


# -- what a node says


class Refusing(MemoryEngine):
    """Writes nothing."""

    def __init__(self, error: GkvError) -> None:
        super().__init__(tokens)
        self.error = error

    def write(self, *_: object, **__: object) -> list[object]:  # type: ignore[override]
        raise self.error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (EngineFull("full"), KeyFailure("disk-full")),
        (Unavailable("too much waits"), KeyFailure("overloaded")),
        (EngineFailed("a broken disk"), KeyFailure("indeterminate")),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
def test_write_that_the_engine_refuses_says_why(cluster: Cluster, error: GkvError, failure: KeyFailure) -> None:
    for home in cluster.homes.values():
        home.fail(error)
    for written in (put(cluster.coordinator(), KEYS, 1), delete(cluster.coordinator(), KEYS)):
        assert (written.keys, written.nodes) == (0, 0)
        assert written.failed == dict.fromkeys(KEYS, failure)


@pytest.mark.parametrize("refused", ["no such op", "bad frame: x", "Stale", " full"])
def test_refusal_that_nobody_knows_leaves_a_write_open_and_fails_a_read(cluster: Cluster, refused: str) -> None:
    cluster.homes["n0"].instead = cluster.homes["n1"].instead = lambda _request: b'{"refused":"%b"}\n' % refused.encode()
    assert put(cluster.coordinator(), KEYS, 1).failed == dict.fromkeys(KEYS, KeyFailure("indeterminate"))
    coordinator = cluster.coordinator()
    batch = coordinator.router().of_keys(Op.GET, KEYS)
    assert batch.answers(coordinator.read(batch)) == [KeyFailure("refused", retryable=False)] * len(KEYS)


def test_write_that_a_snapshot_leaves_no_room_for_is_refused_by_a_code_of_its_own(cluster: Cluster) -> None:
    for home in cluster.homes.values():
        home.fail(SnapshotRunning("no room"))
    assert put(cluster.coordinator(), KEYS, 1).failed == dict.fromkeys(KEYS, KeyFailure("snapshot-running"))


@pytest.mark.parametrize("reason", NodeRefusal)
def test_read_is_never_told_of_a_write(cluster: Cluster, reason: NodeRefusal) -> None:
    for home in cluster.homes.values():
        home.instead = lambda _request: Refused(reason).write()
    coordinator = cluster.coordinator()
    of_a_write = {"indeterminate", "not-applied", "disk-full", "snapshot-running"}
    found = coordinator.fetch(KEYS[0])
    assert isinstance(found, KeyFailure)
    assert found.code not in of_a_write
    batch = coordinator.router().of_keys(Op.GET, KEYS)
    if reason is NodeRefusal.LARGE:
        with pytest.raises(TooLarge):
            coordinator.read(batch)
        return
    codes = {answer.code for answer in batch.answers(coordinator.read(batch)) if isinstance(answer, KeyFailure)}
    assert codes == {found.code}


def test_read_at_a_node_whose_engine_has_failed_is_unreachable(cluster: Cluster) -> None:
    for home in cluster.homes.values():
        home.instead = lambda _request: Refused(NodeRefusal.FAILED).write()
    coordinator = cluster.coordinator()
    assert coordinator.fetch(KEYS[0]) == KeyFailure("unreachable")
    assert set(put(coordinator, KEYS, 1).failed.values()) == {KeyFailure("indeterminate")}


# -- what a write did to each key


def test_effects_are_told_key_by_key_in_the_order_of_the_request(cluster: Cluster) -> None:
    coordinator = cluster.coordinator()
    put(coordinator, KEYS[::2], 1)
    set_all = put(coordinator, KEYS, 2).effects()
    assert [set_all[place] for place in range(12)] == [Effect.REPLACED, Effect.CREATED] * 6
    delete(coordinator, KEYS[:3])
    deleted = delete(coordinator, KEYS).effects()
    assert [deleted[place] for place in range(12)] == [Effect.UNCHANGED] * 3 + [Effect.REPLACED] * 9


def test_key_that_stands_twice_is_written_and_counted_once(cluster: Cluster) -> None:
    coordinator = cluster.coordinator()
    written = put(coordinator, [*KEYS, *KEYS[:5]], 1)
    effects = written.effects()
    assert [effects[place] for place in range(17)] == [Effect.SUPERSEDED] * 5 + [Effect.CREATED] * 12
    assert written.keys == 12
    deleted = delete(coordinator, [*KEYS, *KEYS])
    assert (deleted.keys, deleted.existed) == (12, 12)


@pytest.mark.parametrize("letters", ["", "c" * 13, "?"], ids=["none", "too many", "unknown"])
def test_answer_to_a_write_with_other_effects_than_keys_leaves_it_open(cluster: Cluster, letters: str) -> None:
    for home in cluster.homes.values():
        home.instead = lambda _request: Effects(letters).write()
    assert put(cluster.coordinator(), KEYS, 1).failed == dict.fromkeys(KEYS, KeyFailure("indeterminate"))


def test_key_that_nobody_answers_for_fails_and_the_others_do_not(cluster: Cluster) -> None:
    coordinator = cluster.coordinator()
    view = coordinator._view
    ring = view.placement.ring  # type: ignore[union-attr]
    view.placement = replace(view.placement, primaries=ring.places([place or NO_PLACE for place in ring.owners]))
    lost = {key for key in KEYS if ring.owner(key) == NODES[0]}
    kept = set(KEYS) - lost
    assert lost
    assert kept
    no_primary = KeyFailure("no-primary")
    written = put(coordinator, KEYS, 1)
    assert (written.failed, written.keys) == (dict.fromkeys(lost, no_primary), len(kept))
    assert set(cluster.records()) == kept
    batch = coordinator.router().read(Op.GET, json.dumps([{"key": key} for key in KEYS]).encode())
    answers = dict(zip(KEYS, batch.answers(coordinator.read(batch)), strict=True))
    assert answers == dict.fromkeys(lost, no_primary) | dict.fromkeys(kept, b"1")
    body, failed = batch.render_get(coordinator.read(batch))
    assert failed == len(lost)
    assert "notExistedKey" not in json.loads(body)
    assert {row["key"] for row in json.loads(body)["failedKey"]} == lost
    for key in KEYS[:4]:
        assert (coordinator.fetch(key) == no_primary) == (key in lost)
        assert (coordinator.delete(key).failed == {key: no_primary}) == (key in lost)


# -- bounds


def test_refusals_that_may_be_overcome_are_asked_again_with_pauses_when_the_budget_of_retries_is_used_up(cluster: Cluster) -> None:
    for home in cluster.homes.values():
        home.instead = lambda _request: Refused(NodeRefusal.CHANGING).write()
    cluster.retries = Retries(capacity=3)
    coordinator = cluster.coordinator()
    written = put(coordinator, KEYS, "v")
    assert set(written.failed.values()) == {KeyFailure("epoch")}
    asked = cluster.asked("set")
    assert 2 + 2 * 3 < asked < 60  # of two parts, three times at once, and then every quarter of a second at most


def test_answer_over_its_bound_is_refused_whether_nodes_or_the_coordinator_find_out(cluster: Cluster) -> None:
    coordinator = cluster.coordinator()
    assert put(coordinator, KEYS, "x" * 1_000).failed == {}
    coordinator.max_answer = 11 * 1_000
    with pytest.raises(TooLarge, match="ask for fewer keys"):
        get(coordinator, KEYS)
    assert len(get(coordinator, KEYS[:5])) == 5
    for home in cluster.homes.values():
        home.instead = lambda _request: Refused(NodeRefusal.LARGE).write()
    with pytest.raises(TooLarge, match="ask for fewer keys"):
        get(coordinator, KEYS[:5])


def test_write_whose_answer_there_was_no_memory_for_is_indeterminate(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for home in cluster.homes.values():
        monkeypatch.setattr(home, "submit", lambda call: (setattr(call, "sent", True), call.finish(Outcome.OVERLOADED)))
    assert set(put(cluster.coordinator(), KEYS, 1).failed.values()) == {KeyFailure("indeterminate")}
    for home in cluster.homes.values():
        monkeypatch.setattr(home, "submit", lambda call: call.finish(Outcome.OVERLOADED))
    assert set(put(cluster.coordinator(), KEYS, 1).failed.values()) == {KeyFailure("overloaded")}
