"""What a node says of a write that was acknowledged before anybody could know what it does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gkv.cluster.document import Durability
from gkv.cluster.view import View
from gkv.coordinator import Clock
from gkv.coordinator.clock import wall_ms
from gkv.engine import Commits, LmdbEngine
from gkv.model import Node, Version
from gkv.node.service import Service
from gkv.ring import tokens
from gkv.wire.ops import Delete, Effects, NodeAnswer, Put, Set
from gkv.wire.ops.keyed import KeyRequest
from tests.documents import document
from tests.frames import answer_to

DOCUMENT = document([Node("n1", "http://127.0.0.1:9000")], durability=Durability.ASYNC)
ABOUT = (DOCUMENT.cluster, DOCUMENT.epoch)
TTL = 86_400_000


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Give a node with durability "async"."""
    engine = LmdbEngine(tmp_path / "n1", "n1", tokens)
    commits = Commits(engine, tombstone_ttl=TTL, durability="async")
    service = Service("n1", View(), engine, commits, Clock(None), TTL)
    assert service.adopt(DOCUMENT)
    yield service
    commits.close()
    assert engine.check() == []
    engine.close()


def send(service: Service, *requests: KeyRequest) -> list[NodeAnswer]:
    frames = service.answer([request.write() for request in requests])
    return [answer_to(request, frame) for request, frame in zip(requests, frames, strict=True)]


def now() -> Version:
    return Version(wall_ms() << 16, 7)


def test_set_that_is_acknowledged_early_says_accepted_of_each_key(service: Service) -> None:
    values = [b"1", b"2", b"3"]
    assert send(service, Set(*ABOUT, ["a", "b", "c"], now(), values)) == [Effects("aaa")]
    assert send(service, Set(*ABOUT, ["a", "b", "a"], now(), values)) == [Effects("saa")]


def test_put_and_delete_wait_and_say_what_they_did(service: Service) -> None:
    early = Version(wall_ms() - 1_000 << 16, 7)
    assert send(
        service,
        Set(*ABOUT, ["a", "b"], early, [b"1", b"2"]),
        Put(*ABOUT, ["a", "c"], now(), [b"1", b"2"]),
        Delete(*ABOUT, ["b", "x", "b"], now()),
    ) == [Effects("aa"), Effects("rc"), Effects("sur")]
