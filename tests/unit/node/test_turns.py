"""Large reads are made in steps, between which others have their turn; what they find is answered under one document."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gevent
import pytest

from gkv.cluster.view import View
from gkv.engine import ENGINES, Commits, Engine, open_engine
from gkv.model import Node, NodeRefusal, Version, Write
from gkv.net import turn
from gkv.node.due_clock import DueClock, wall_ms
from gkv.node.handler import Waiting
from gkv.node.order import Order
from gkv.node.reads import Reads
from gkv.node.service import Service
from gkv.ring import tokens
from gkv.wire.ops import Fetch, FetchItems, Get, ListKeys, NodeAnswer, NodeRequest, Page, Refused, Values
from tests.documents import document
from tests.frames import answer_to

DOCUMENT = document([Node("n1", "http://127.0.0.1:9000")])
ABOUT = (DOCUMENT.cluster, DOCUMENT.era)
TTL = 86_400_000
ITEMS = {f"k{i:04}": b"%d" % i for i in range(1_200)}
LARGE = {f"l{i}": b"%d" % i * (1 << 20) for i in range(8)}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(request.param, tmp_path / "n1", "n1", tokens)
    version = Version(1, 7)
    engine.write([Write(version, list(items), list(items.values())) for items in (ITEMS, LARGE)], wall_ms())
    yield engine
    engine.close()


@pytest.fixture
def commits(engine: Engine) -> Iterator[Commits]:
    commits = Commits(engine, tombstone_ttl=TTL)
    yield commits
    commits.close()


class Steps:
    """Reads from an engine, and counts how often they give way."""

    def __init__(self, engine: Engine, commits: Commits, max_answer: int = 64 << 20) -> None:
        self.given = 0
        self.reads = Reads(engine, Order(View(), engine, commits, DueClock()), max_answer, self._note)

    def _note(self) -> None:
        self.given += 1

    def get(self, *keys: list[str]) -> list[NodeAnswer]:
        return [done(begun) for begun in self.reads.values_of([Get(*ABOUT, some) for some in keys])]


def done(begun: NodeAnswer | Waiting) -> NodeAnswer:
    return begun if isinstance(begun, NodeAnswer) else begun()


def test_gets_of_few_keys_and_bytes_are_read_at_once(engine: Engine, commits: Commits) -> None:
    steps = Steps(engine, commits)
    assert steps.get(["k0001", "x"], ["k0002"]) == [Values([b"1", None]), Values([b"2"])]
    assert steps.given == 0


def test_get_of_many_keys_gives_way(engine: Engine, commits: Commits) -> None:
    steps = Steps(engine, commits)
    assert steps.get([*ITEMS, "x"], ["k0007"]) == [Values([*ITEMS.values(), None]), Values([b"7"])]
    assert steps.given >= 3


def test_gets_of_many_keys_together_take_a_call_of_the_engine_for_some_hundred_keys_not_for_each(
    engine: Engine, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    read = engine.read
    monkeypatch.setattr(engine, "read", lambda keys, *rest: calls.append(len(keys)) or read(keys, *rest))
    steps = Steps(engine, commits)
    parts = [list(ITEMS)[start : start + 100] for start in range(0, 1_200, 100)]
    assert steps.get(*parts) == [Values([ITEMS[key] for key in part]) for part in parts]
    assert calls == [500, 500, 200]
    assert steps.given == 2


def test_gets_whose_values_are_too_many_bytes_together_are_read_one_by_one(engine: Engine, commits: Commits) -> None:
    steps = Steps(engine, commits)
    parts = [[*list(ITEMS)[:499], "l1"], [*list(ITEMS)[:499], "l2"], ["k0001"]]
    assert steps.get(*parts) == [Values([*list(ITEMS.values())[:499], LARGE[part[-1]]]) for part in parts[:2]] + [
        Values([b"1"])
    ]


def test_get_of_many_bytes_gives_way_where_they_are_copied(engine: Engine, commits: Commits) -> None:
    steps = Steps(engine, commits)
    assert steps.get([*LARGE, "x"]) == [Values([*LARGE.values(), None])]
    assert steps.given >= 4 * engine.durable


@pytest.mark.parametrize(
    ("engine", "room", "fits"), [("lmdb", 8 << 20, True), ("lmdb", (8 << 20) - 1, False)], indirect=["engine"]
)
def test_get_of_more_bytes_than_an_answer_may_have_is_refused(engine: Engine, commits: Commits, room: int, fits: bool) -> None:
    [answer] = Steps(engine, commits, room).get(list(LARGE))
    assert answer == (Values(list(LARGE.values())) if fits else Refused(NodeRefusal.LARGE))


@pytest.mark.parametrize(
    ("begin", "limit", "found"),
    [("", 10_000, 1_200), ("k0100", 1_000, 1_000), ("k0200", 1_000, 1_000), ("", 1, 1), ("k1200", 9, 0)],
)
def test_listing_of_many_keys_gives_way(engine: Engine, commits: Commits, begin: str, limit: int, found: int) -> None:
    steps = Steps(engine, commits)
    page = done(steps.reads.list_keys(ListKeys(*ABOUT, "k", begin, limit)))
    expected = [key for key in ITEMS if key >= begin][:limit]
    assert page == Page(expected, expected[-1] + "\0" if len(expected) == limit else None)
    assert len(page.keys) == found  # type: ignore[attr-defined]
    assert (steps.given > 0) == (found >= 1_000)


@pytest.fixture
def service(engine: Engine, commits: Commits, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Give a node that gives way at every opportunity."""
    monkeypatch.setattr(turn, "SLICE", 0.0)
    view = View()
    service = Service("n1", view, engine, commits, Order(view, engine, commits, DueClock()))
    assert service.adopt(DOCUMENT)
    return service


REQUESTS = {
    "get": Get(*ABOUT, list(ITEMS)),
    "fetch": Fetch(*ABOUT, list(ITEMS)),
    "fetch of items": FetchItems(*ABOUT, list(ITEMS)),
    "fetch of large items": FetchItems(*ABOUT, list(LARGE)),
    "list": ListKeys(*ABOUT, "k", "", 10_000),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_read_that_gave_way_to_another_document_is_refused(service: Service, request_: NodeRequest, engine: Engine) -> None:
    if "l0" in getattr(request_, "keys", ()) and not engine.durable:
        return  # values that are in memory are not copied, so it does not give way
    newer = replace(DOCUMENT, epoch=DOCUMENT.epoch + 1)
    adopting = gevent.spawn(service.adopt, newer)
    [frame] = service.answer([request_.write()])
    assert adopting.get()
    assert answer_to(request_, frame) == Refused(NodeRefusal.STALE, newer.to_json())


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_others_have_their_turn_while_much_is_read(service: Service, request_: NodeRequest) -> None:
    small = gevent.spawn(service.answer, [Get(*ABOUT, ["k0001"]).write()])
    [frame] = service.answer([request_.write()])
    assert small.ready()
    assert answer_to(request_, frame).is_read


def test_what_is_read_in_steps_is_not_begun_with_others(service: Service, engine: Engine) -> None:
    """Others of the same call would wait behind it, and its bytes would be counted nowhere."""
    if not engine.durable:
        return  # likewise
    turns: list[int] = []
    gevent.spawn(turns.append, 1)
    assert not isinstance(service._begin(FetchItems(*ABOUT, list(LARGE)).write()), NodeAnswer)
    assert not turns
