"""A node's part in its cluster: going over to another cluster's document, with a real store."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest

from gkv.api.data import Check
from gkv.api.http import TEXT
from gkv.api.operations import READYZ
from gkv.cluster.callin import FillProgress
from gkv.cluster.document import Document, Member, State
from gkv.cluster.kept import Kept
from gkv.cluster.view import View
from gkv.engine import Commits, LmdbEngine
from gkv.errors import EngineFull, Unavailable
from gkv.model import Node, NodeRefusal, Version, Write, era_of
from gkv.node.due_clock import DueClock
from gkv.node.membership import Membership, why_idle
from gkv.node.order import Order
from gkv.node.outdated import Outdated
from gkv.node.service import Service
from gkv.ring import tokens
from gkv.wire.ops import Effects, Get, NodeAnswer, NodeRequest, Refused, Set, Values
from tests.documents import with_copies
from tests.frames import answer_to

ME = Node("n1", "http://127.0.0.1:9000")
LINE = Member(ME.id, ME.url, incarnation=2, directory=2)
MINE, OTHERS = Document("a" * 32, 3, (LINE,), 16), Document("b" * 32, 3, (LINE,), 16)


class SlowKept(Kept):
    """What a directory has, whose next document the test holds, or makes fail."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.begun = threading.Event()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.error: OSError | None = None

    def keep(self, document: Document) -> None:
        self.begun.set()
        assert self.goes_on.wait(20)
        if self.error is not None:
            raise self.error
        super().keep(document)


class SlowStore(LmdbEngine):
    """A store whose commits the test holds."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ME.id, tokens, cache=1 << 20)
        self.goes_on = threading.Event()
        self.goes_on.set()

    def write(self, *arguments: object) -> object:  # type: ignore[override]
        assert self.goes_on.wait(20)
        return super().write(*arguments)  # type: ignore[arg-type]


class Home:
    """A member of the cluster of `MINE`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.engine = SlowStore(directory)
        self.kept = SlowKept(directory)
        self.view = View()
        Outdated(ME.id, self.view)
        self.commits = Commits(self.engine, tombstone_ttl=600_000)
        self.member = Membership(ME, self.view, self.engine, self.commits, incarnation=2, kept=self.kept)
        order = Order(self.view, self.engine, self.commits, DueClock())
        self.service = Service(ME.id, self.view, self.engine, self.commits, order, membership=self.member)
        assert self.member.adopt(MINE)

    def ask(self, request: NodeRequest) -> NodeAnswer:
        return answer_to(request, self.service.answer([request.write()])[0])

    def put(self, document: Document) -> NodeAnswer:
        return self.ask(Set(document.cluster, document.era, ["k"], [b"1"]))

    def found(self, document: Document) -> NodeAnswer:
        return self.ask(Get(document.cluster, document.era, ["k"]))

    def close(self) -> None:
        self.member.close()
        self.commits.close()
        self.engine.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.kept.goes_on.set()
    home.engine.goes_on.set()
    home.close()


def until(holds: Callable[[], object]) -> None:
    with gevent.Timeout(10):
        while not holds():
            gevent.sleep(0.001)


def test_write_while_the_document_of_another_cluster_comes_to_the_disk_is_refused(home: Home) -> None:
    home.kept.goes_on.clear()
    home.kept.begun.clear()
    adopted = gevent.spawn(home.member.adopt, OTHERS)
    until(home.kept.begun.is_set)
    answer = home.put(MINE)
    assert isinstance(answer, Refused)
    assert answer.reason is NodeRefusal.CHANGING
    assert home.engine.cluster == MINE.cluster
    home.kept.goes_on.set()
    assert adopted.get(timeout=10)
    assert home.engine.cluster == OTHERS.cluster
    assert home.found(OTHERS) == Values([None])
    assert isinstance(home.put(OTHERS), Effects)


def test_write_that_has_been_admitted_keeps_the_node_in_its_cluster(home: Home) -> None:
    home.engine.goes_on.clear()
    written = gevent.spawn(home.put, MINE)
    until(lambda: home.commits.figures().waiting)
    adopted = gevent.spawn(home.member.adopt, OTHERS)
    gevent.sleep(0)  # lets it begin
    home.engine.goes_on.set()
    assert adopted.get(timeout=10) is False
    assert isinstance(written.get(timeout=10), Effects)
    assert home.found(MINE) == Values([b"1"])
    assert isinstance(home.put(MINE), Effects)


def test_process_whose_records_are_later_than_the_document_says_once_that_it_serves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = LmdbEngine(tmp_path, ME.id, tokens, cache=1 << 20)
    engine.join(MINE.cluster)
    engine.write([Write(Version(era_of(1, 9), 1), ["k"], [b"1"])], 0)
    engine.close()
    home = Home(tmp_path)
    assert home.member.adopt(replace(MINE, epoch=4))
    assert home.view.outdated
    said = capfd.readouterr().err
    assert said.count("it serves nothing") == 1
    assert "(generation 1, epoch 3) is not later than its records (generation 1, epoch 9)" in said
    assert isinstance(home.put(replace(MINE, epoch=4)), Refused)
    assert home.member.adopt(replace(MINE, epoch=10))
    assert not home.view.outdated
    assert isinstance(home.put(replace(MINE, epoch=10)), Effects)
    home.close()


def test_document_of_another_cluster_that_cannot_be_kept_changes_nothing(home: Home) -> None:
    home.kept.error = OSError(5, "I/O error")
    with pytest.raises(Unavailable):
        home.member.adopt(OTHERS)
    assert (home.engine.cluster, home.view.document) == (MINE.cluster, MINE)
    assert isinstance(home.put(MINE), Effects)
    home.close()
    again = LmdbEngine(home.directory, ME.id, tokens, cache=1 << 20)
    kept = Kept(home.directory)
    assert (again.cluster, kept.document) == (MINE.cluster, MINE)
    again.close()


def test_records_that_cannot_be_given_another_cluster_leave_the_document_as_it_was(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_cluster: str) -> None:
        raise EngineFull("the disk is full")

    monkeypatch.setattr(home.engine, "join", full)
    with pytest.raises(EngineFull):
        home.member.adopt(OTHERS)
    assert Kept(home.directory).document == MINE
    assert isinstance(home.put(MINE), Effects)


WITHOUT: dict[str, Any] = {"state": State.FILLING, "left": 6, "empty": True}


@pytest.mark.parametrize(
    ("document", "era", "share", "why"),
    [
        (None, 0, None, "it has not joined yet"),
        (with_copies(ids="bcd"), 0, None, "it has not joined yet"),
        (with_copies({"a": {"incarnation": 1}}), 0, None, "it has not joined yet"),
        (with_copies(), 0, None, ""),
        (with_copies(), era_of(1, 7), None, "the document in force is not later than its records"),
        (with_copies({"a": {"state": State.DOWN, "left": 6}}), 0, None, "it is down by the document"),
        (with_copies({"a": WITHOUT}), 0, 0.419, "it is being filled (41 %)"),
        (with_copies({"a": WITHOUT}), 0, 0.9999, "it is being filled (99 %)"),
        (with_copies({"a": WITHOUT}), 0, None, "it is being filled"),
        (
            with_copies({"a": WITHOUT, "b": WITHOUT, "c": {"state": State.DOWN, "left": 7}}),
            0,
            None,
            "it has come back empty, and keys of its wait for c",
        ),
        (
            with_copies({"a": WITHOUT}, replicas=1, min_in_sync=1),
            0,
            None,
            "it waits for accept-loss: its directory is not the one that it had",
        ),
    ],
)
def test_member_that_answers_for_no_keys_says_why(document: Document | None, era: int, share: float | None, why: str) -> None:
    view = View()
    view.act_as("a", ord("a"), era)
    if document is not None:
        view.adopt(document)
    assert why_idle(view, None if share is None else FillProgress(8, 3, share, 10, 0)) == why
    shown = Check("member", view.acts, why).line
    assert re.fullmatch(READYZ.answers[503].content[TEXT].schema["pattern"], f"{shown}not ready\n")
