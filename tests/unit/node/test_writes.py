"""What a node says of a write that was acknowledged before anybody could know what it does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gkv.cluster.document import Durability
from gkv.cluster.view import View
from gkv.engine import Commits, LmdbEngine
from gkv.model import Node
from gkv.node.due_clock import DueClock
from gkv.node.order import Order
from gkv.node.service import Service
from gkv.ring import tokens
from gkv.wire.ops import Delete, Effects, NodeAnswer, Put, Set
from gkv.wire.ops.keyed import KeyRequest
from tests.documents import document
from tests.frames import answer_to

DOCUMENT = document([Node("n1", "http://127.0.0.1:9000")], durability=Durability.ASYNC)
ABOUT = (DOCUMENT.cluster, DOCUMENT.era)
TTL = 86_400_000


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Give a node with durability "async"."""
    engine = LmdbEngine(tmp_path / "n1", "n1", tokens)
    commits = Commits(engine, tombstone_ttl=TTL, durability="async")
    view = View()
    service = Service("n1", view, engine, commits, Order(view, engine, commits, DueClock()))
    assert service.adopt(DOCUMENT)
    yield service
    commits.close()
    assert engine.check() == []
    engine.close()


def send(service: Service, *requests: KeyRequest) -> list[NodeAnswer]:
    frames = service.answer([request.write() for request in requests])
    return [answer_to(request, frame) for request, frame in zip(requests, frames, strict=True)]


def letters(answers: list[NodeAnswer]) -> list[str]:
    found = []
    for answer in answers:
        assert isinstance(answer, Effects)
        assert answer.version is not None
        found.append(answer.letters)
    return found


def test_set_that_is_acknowledged_early_says_accepted_of_each_key(service: Service) -> None:
    values = [b"1", b"2", b"3"]
    assert letters(send(service, Set(*ABOUT, ["a", "b", "c"], values))) == ["aaa"]
    assert letters(send(service, Set(*ABOUT, ["a", "b", "a"], values))) == ["saa"]


def test_put_and_delete_wait_and_say_what_they_did(service: Service) -> None:
    answers = send(
        service,
        Set(*ABOUT, ["a", "b"], [b"1", b"2"]),
        Put(*ABOUT, ["a", "c"], [b"1", b"2"]),
        Delete(*ABOUT, ["b", "x", "b"]),
    )
    assert letters(answers) == ["aa", "rc", "sur"]


def test_versions_of_a_process_grow_in_the_order_of_admission(service: Service) -> None:
    frames = [Set(*ABOUT, ["a"], [b"1"]), Delete(*ABOUT, ["a"]), Put(*ABOUT, ["b"], [b"1"])] * 3
    versions = [answer.version for answer in send(service, *frames) if isinstance(answer, Effects)]
    assert versions == sorted(set(versions), key=str)
    assert len(versions) == 9
