"""Writes by coordinators whose clocks differ: who wins, what is refused, and what is said about it.

Real coordinators, services and engines in one process; only the way between them is direct, not a socket, and each process has
a wall clock of its own, which stands still until it is moved.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator import Channels, Clock, Coordinator, Written
from gkv.engine import Commits, MemoryEngine
from gkv.errors import EngineFailed, EngineFull, GkvError, SnapshotRunning, TooLarge, Unavailable
from gkv.model import Effect, KeyFailure, Node, NodeRefusal, Op, Outcome, Version
from gkv.net.call import Call
from gkv.net.retries import Retries
from gkv.node.service import Service
from gkv.ring import NO_PLACE, tokens
from gkv.wire.ops import Effects, KeyRequest, Refused, read_request
from tests.documents import document

START = 1_800_000_000_000
TTL = 60_000
NODES = [Node(f"n{i}", f"http://127.0.0.1:{9000 + i}") for i in range(2)]
KEYS = [f"key{i}" for i in range(12)]
"""Enough that each of the two nodes owns some of them."""


class Home:
    """A node: `now` is what its wall clock shows. `frames` counts what it was asked by op."""

    def __init__(self, node: Node, document: Document) -> None:
        self.now = START
        self.engine = MemoryEngine(tokens)
        self.commits = Commits(self.engine, tombstone_ttl=TTL, now=lambda: self.now)
        self.clock = Clock(None, wall=lambda: self.now)
        view = View()
        view.adopt(document)
        self.service = Service(node.id, view, self.engine, self.commits, self.clock, TTL)
        self._id, self._view = node.id, view
        self.frames: list[str] = []
        self.instead: Callable[[Any], bytes] | None = None
        """What answers in place of the service, with a frame."""

    def fail(self, error: GkvError) -> None:
        """Write nothing from now on."""
        self.commits = Commits(Refusing(error), tombstone_ttl=TTL)
        self.service = Service(self._id, self._view, self.engine, self.commits, self.clock, TTL)

    def submit(self, call: Call) -> None:
        request = read_request(call.frame)
        self.frames.append(request.op)
        if self.instead is None:
            self.service.submit(call)
        else:
            call.sent = True
            call.finish(Outcome.ANSWERED, self.instead(request))


class Cluster(Channels):
    """Two nodes, and coordinators of any clock."""

    def __init__(self) -> None:
        super().__init__(deadline=1)
        self.document = document(NODES)
        self.homes = {node.id: Home(node, self.document) for node in NODES}

    def to(self, node: Node) -> Home:
        return self.homes[node.id]

    def coordinator(self, ahead: int = 0) -> Coordinator:
        """Return one whose clock is so many milliseconds ahead of the nodes'."""
        view = View()
        view.adopt(self.document)
        return Coordinator(view, self, Clock(None, wall=lambda: START + ahead), 1)

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
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr("gkv.node.reads.wall_ms", lambda: START)
    monkeypatch.setattr("gkv.node.writes.wall_ms", lambda: START)
    cluster = Cluster()
    yield cluster
    for home in cluster.homes.values():
        home.commits.close()
        assert home.engine.check() == []


def put(coordinator: Coordinator, keys: list[str], value: object) -> Written:
    body = json.dumps([{"key": key, "value": value} for key in keys]).encode()
    return coordinator.write(coordinator.router().read(Op.SET, body, coordinator.version()))


def delete(coordinator: Coordinator, keys: list[str]) -> Written:
    body = json.dumps([{"key": key} for key in keys]).encode()
    return coordinator.write(coordinator.router().read(Op.DELETE, body, coordinator.version()))


def get(coordinator: Coordinator, keys: list[str]) -> dict[str, object]:
    """Return the values that are found; no key may have failed."""
    batch = coordinator.router().of_keys(Op.GET, keys)
    answer, failed = batch.render_get(coordinator.read(batch))
    assert failed == 0
    return {row["key"]: row["value"] for row in json.loads(answer)["existedKey"]}


# -- clocks that differ by less than is allowed


@pytest.mark.parametrize("ahead", [1, 400, 500])
def test_later_write_by_the_coordinator_that_is_behind_wins_with_a_later_version(cluster: Cluster, ahead: int) -> None:
    fast, slow = cluster.coordinator(ahead), cluster.coordinator()
    first = put(fast, KEYS, "first")
    assert (first.keys, first.nodes, first.failed) == (12, 2, {})
    second = put(slow, KEYS, "second")
    assert (second.keys, second.nodes, second.failed) == (12, 2, {})
    assert first.version is not None
    assert second.version is not None
    assert second.version > first.version
    assert get(fast, KEYS) == get(slow, KEYS) == dict.fromkeys(KEYS, "second")


def test_later_delete_by_the_coordinator_that_is_behind_deletes(cluster: Cluster) -> None:
    fast, slow = cluster.coordinator(400), cluster.coordinator()
    put(fast, KEYS, 1)
    deleted = delete(slow, KEYS)
    assert (deleted.existed, deleted.nodes, deleted.failed) == (12, 2, {})
    assert get(fast, KEYS) == {}


def test_earlier_write_stays_beaten_by_the_later_one_of_whoever_is_ahead(cluster: Cluster) -> None:
    fast, slow = cluster.coordinator(400), cluster.coordinator()
    put(slow, KEYS, 1)
    put(fast, KEYS, 2)
    assert cluster.asked("set") == 4  # nobody had to ask again
    assert get(slow, KEYS) == dict.fromkeys(KEYS, 2)


def test_write_that_loses_with_one_key_takes_the_others_of_its_node_along(cluster: Cluster) -> None:
    fast, slow = cluster.coordinator(400), cluster.coordinator()
    put(fast, KEYS[:1], "first")
    written = put(slow, KEYS, "second")
    assert (written.keys, written.nodes, written.failed) == (12, 2, {})
    assert cluster.asked("set") == 1 + 2 + 1
    assert get(fast, KEYS) == dict.fromkeys(KEYS, "second")
    [(_, owner_of_the_first)] = [
        (key, node.id) for node, _, found in fast._view.placement.split(KEYS) for key in found if key == KEYS[0]
    ]  # type: ignore[union-attr]
    later = {key for key, (version, _) in cluster.records().items() if version == written.version}
    assert later == {key for key in KEYS if fast._view.placement.primary(key).id == owner_of_the_first}  # type: ignore[union-attr]


def test_coordinator_that_has_lost_once_is_ahead_from_then_on(cluster: Cluster) -> None:
    fast, slow = cluster.coordinator(400), cluster.coordinator()
    put(fast, KEYS, 1)
    put(slow, KEYS, 2)
    before = cluster.asked("set")
    put(slow, KEYS, 3)
    assert cluster.asked("set") == before + 2
    assert get(fast, KEYS) == dict.fromkeys(KEYS, 3)


def test_coordinators_that_take_turns_each_win_with_the_last_write(cluster: Cluster) -> None:
    turns = [cluster.coordinator(ahead) for ahead in (400, 0, 250, -90)]
    versions = []
    for turn in range(40):
        coordinator = turns[turn * 7 % 4]
        written = put(coordinator, KEYS, turn)
        assert written.failed == {}
        versions.append(written.version)
        assert get(turns[turn % 4], KEYS) == dict.fromkeys(KEYS, turn)
    assert versions == sorted(set(versions), key=str)


# -- counting over a retry


def test_delete_that_loses_with_some_keys_counts_each_existing_key_once(cluster: Cluster) -> None:
    fast, slow = cluster.coordinator(400), cluster.coordinator()
    put(slow, KEYS[:8], "old")
    put(fast, KEYS[3:5], "later")
    deleted = delete(slow, KEYS)
    assert (deleted.existed, deleted.nodes, deleted.failed) == (8, 2, {})
    assert cluster.asked("delete") > 2, "nothing was lost against"
    assert get(fast, KEYS) == {}
    assert delete(slow, KEYS).existed == 0


def test_set_that_loses_with_some_keys_counts_each_key_once(cluster: Cluster) -> None:
    fast, slow = cluster.coordinator(400), cluster.coordinator()
    put(fast, KEYS[::2], 1)
    written = put(slow, KEYS, 2)
    assert (written.keys, written.nodes, written.failed) == (12, 2, {})


# -- clocks that differ by more


def test_version_too_far_ahead_of_the_nodes_is_refused_and_nothing_changes(cluster: Cluster) -> None:
    coordinator = cluster.coordinator()
    put(coordinator, KEYS, 1)
    before = cluster.records()
    far = cluster.coordinator(501)
    for written in (put(far, KEYS, 2), delete(far, KEYS)):
        assert (written.keys, written.nodes) == (0, 0)
        assert written.failed == dict.fromkeys(KEYS, KeyFailure("clock-ahead"))
    assert cluster.records() == before
    assert all(home.clock.now().millis <= START for home in cluster.homes.values()), "what is refused is not adopted either"


def test_node_that_is_ahead_by_too_much_does_not_drag_a_coordinator_along(cluster: Cluster) -> None:
    fast, slow = cluster.coordinator(400), cluster.coordinator(-400)  # each may write; 800 ms lie between them
    first = put(fast, KEYS, "first")
    lost = put(slow, KEYS, "second")
    assert lost.keys == 0
    assert lost.failed == dict.fromkeys(KEYS, KeyFailure("indeterminate"))
    assert cluster.asked("set") == 2 + 2, "it asks again for what cannot be had"
    assert {version for version, _ in cluster.records().values()} == {first.version}
    assert slow.version().millis == START - 400


@pytest.mark.parametrize("op", [put, delete])
def test_version_older_than_half_of_what_tombstones_live_is_refused_and_nothing_changes(
    cluster: Cluster, op: Callable[..., Written]
) -> None:
    arguments = (KEYS, 2) if op is put else (KEYS,)
    written = op(cluster.coordinator(-TTL // 2 - 1), *arguments)
    assert (written.keys, written.nodes) == (0, 0)
    assert written.failed == dict.fromkeys(KEYS, KeyFailure("refused", retryable=False))
    assert cluster.records() == {}
    assert op(cluster.coordinator(-TTL // 2), *arguments).failed == {}
    assert set(cluster.records()) == set(KEYS)


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


def test_write_that_is_beaten_again_and_again_is_concurrent_and_done(cluster: Cluster) -> None:
    coordinator = cluster.coordinator()
    stamp = (START + 100) << 16

    def beaten(request: KeyRequest) -> bytes:
        nonlocal stamp
        stamp += 1 << 16
        return Effects("u" * len(request.keys), stamp).write()

    cluster.homes["n1"].instead = beaten
    written = put(coordinator, KEYS, 1)
    assert (written.failed, written.nodes) == ({}, 2)
    effects = list(written.effects().values())
    assert 0 < effects.count(Effect.CREATED) < len(KEYS)
    assert effects.count(Effect.CREATED) + effects.count(Effect.UNCHANGED) == written.keys == len(KEYS)
    assert cluster.homes["n1"].frames == ["set"] * 2


def test_overlapping_writes_of_one_coordinator_are_each_done_at_once(cluster: Cluster) -> None:
    coordinator = cluster.coordinator()
    body = json.dumps([{"key": key, "value": "early"} for key in KEYS]).encode()
    early = coordinator.router().read(Op.SET, body, coordinator.version())
    put(coordinator, KEYS, "late")  # has a greater version, and comes first
    before = [len(home.frames) for home in cluster.homes.values()]
    assert coordinator.write(early).failed == {}
    assert [len(home.frames) for home in cluster.homes.values()] == [count + 1 for count in before]
    assert get(coordinator, KEYS) == dict.fromkeys(KEYS, "late")


def test_write_that_stays_behind_every_clock_ends_as_indeterminate(cluster: Cluster) -> None:
    coordinator = cluster.coordinator()
    beaten = (START + 10_000) << 16  # further than clocks may differ
    cluster.homes["n1"].instead = lambda request: Effects("u" * len(request.keys), beaten).write()
    written = put(coordinator, KEYS, 1)
    kept = set(cluster.records())
    assert written.keys == len(kept) > 0
    assert written.failed == dict.fromkeys(set(KEYS) - kept, KeyFailure("indeterminate"))


@pytest.mark.parametrize("refused", ["no such op", "bad frame: x", "Stale", " full"])
def test_refusal_that_nobody_knows_is_not_retryable(cluster: Cluster, refused: str) -> None:
    cluster.homes["n0"].instead = cluster.homes["n1"].instead = lambda _request: b'{"refused":"%b"}\n' % refused.encode()
    assert put(cluster.coordinator(), KEYS, 1).failed == dict.fromkeys(KEYS, KeyFailure("refused", retryable=False))


def test_write_that_a_snapshot_leaves_no_room_for_is_refused_by_a_code_of_its_own(cluster: Cluster) -> None:
    for home in cluster.homes.values():
        home.fail(SnapshotRunning("no room"))
    assert put(cluster.coordinator(), KEYS, 1).failed == dict.fromkeys(KEYS, KeyFailure("snapshot-running"))


@pytest.mark.parametrize("reason", NodeRefusal)
def test_read_is_never_told_of_a_write(cluster: Cluster, reason: NodeRefusal) -> None:
    for home in cluster.homes.values():
        home.instead = lambda _request: Refused(reason).write()
    coordinator = cluster.coordinator()
    of_a_write = {"indeterminate", "not-applied", "disk-full", "snapshot-running", "clock-ahead"}
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


def test_effect_of_a_write_that_was_made_again_is_that_of_all_its_attempts(cluster: Cluster) -> None:
    fast, slow = cluster.coordinator(400), cluster.coordinator()
    put(slow, KEYS[:6], "old")
    put(fast, KEYS[3:5], "later")
    effects = put(slow, KEYS, "new").effects()
    assert cluster.asked("set") > 6, "nothing was lost against"
    assert [effects[place] for place in range(12)] == [Effect.REPLACED] * 6 + [Effect.CREATED] * 6


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


def test_refusals_that_may_be_overcome_are_given_up_when_the_budget_of_retries_is_used_up(cluster: Cluster) -> None:
    for home in cluster.homes.values():
        home.instead = lambda _request: Refused(NodeRefusal.CHANGING).write()
    cluster.retries = Retries(capacity=3)
    coordinator = cluster.coordinator()
    written = put(coordinator, KEYS, "v")
    assert set(written.failed.values()) == {KeyFailure("epoch")}
    assert cluster.asked("set") == 2 + 3  # of two parts, each would have been asked three times
    put(coordinator, KEYS, "v")
    assert cluster.asked("set") == 2 + 3 + 2  # nothing is asked again


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
