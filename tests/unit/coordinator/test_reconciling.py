"""Refusals of nodes that believe in another document, and what becomes of a batch by them."""

from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

import gevent
import pytest

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator import Coordinator
from gkv.coordinator.listing import Names
from gkv.errors import EngineFailed, GkvError, Unavailable
from gkv.model import Effect, KeyFailure, NodeRefusal, Op, Outcome
from gkv.net.call import Call
from gkv.replication.names import Scope
from gkv.wire.ops import Adopt, Here, Refused, read_request
from tests.unit.coordinator.test_coordinator import KEYS, Cluster, get, put

DEADLINE = 0.3
STALE = KeyFailure("epoch")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    for home in cluster.homes.values():
        home.commits.close()


def coordinator_of(cluster: Cluster, document: Document, keep: object = None) -> Coordinator:
    """Return a coordinator with a document in force, which takes over others by `keep`."""
    view = View()
    view.adopt(document)
    if keep is not None:
        view.keep = keep  # type: ignore[assignment]
    return Coordinator(view, cluster, DEADLINE)


def later(cluster: Cluster) -> Document:
    return replace(cluster.document, epoch=cluster.document.epoch + 1)


def shows(document: Document) -> bytes:
    return Refused(NodeRefusal.STALE, document.to_json()).write()


@pytest.mark.parametrize(
    "error",
    [Unavailable("the cluster document cannot be written"), EngineFailed("a broken disk")],
    ids=lambda error: error.code,
)
def test_write_that_is_applied_in_part_is_told_so_when_the_document_of_the_rest_cannot_be_kept(
    cluster: Cluster, error: GkvError
) -> None:
    def keep(_document: Document) -> None:
        raise error

    coordinator = coordinator_of(cluster, cluster.document, keep)
    cluster.homes["n1"].instead = lambda _request: shows(later(cluster))
    written = put(coordinator, KEYS, 1)
    stored = set(cluster.records())
    assert 0 < len(stored) < len(KEYS)
    assert written.failed == dict.fromkeys(set(KEYS) - stored, STALE)
    assert set(written.effects().values()) == {Effect.CREATED}
    assert written.keys == len(stored)


def test_write_ends_in_time_when_the_disk_does_not_take_the_document_that_a_node_shows(cluster: Cluster) -> None:
    asked: list[Document] = []

    def keep(document: Document) -> None:
        asked.append(document)
        gevent.sleep(60)

    coordinator = coordinator_of(cluster, cluster.document, keep)
    cluster.homes["n1"].instead = lambda _request: shows(later(cluster))
    begin = monotonic()
    writes = [gevent.spawn(put, coordinator, KEYS, turn) for turn in range(5)]
    gevent.joinall(writes, raise_error=True)
    assert monotonic() - begin < 2 * DEADLINE
    assert all(set(write.value.failed.values()) == {STALE} for write in writes)
    assert len(asked) == 1, "those who come while one waits for the disk do not line up behind it"


def test_nodes_that_do_not_take_the_document_cost_one_deadline_together(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are brought up at once, and none of them is waited for any longer than the request."""
    for home in cluster.homes.values():

        def submit(call: Call) -> None:
            call.sent = True
            if not isinstance(read_request(call.frame), Adopt):
                call.finish(Outcome.ANSWERED, shows(cluster.document))

        monkeypatch.setattr(home, "submit", submit)
    coordinator = coordinator_of(cluster, later(cluster))
    begin = monotonic()
    batch = coordinator.router().of_keys(Op.GET, KEYS)
    done = coordinator.read(batch)
    assert monotonic() - begin < 1.5 * DEADLINE
    assert [one.failure for one in done] == [STALE] * 2


def test_all_nodes_that_are_behind_are_given_the_document_in_one_round(cluster: Cluster) -> None:
    rounds: list[int] = []
    adopt = cluster.adopt

    def counted(document: Document, nodes: object, expires: float) -> list[bool]:
        taken = adopt(document, nodes, expires)  # type: ignore[arg-type]
        rounds.append(len(taken))
        return taken

    cluster.adopt = counted  # type: ignore[method-assign]
    coordinator = coordinator_of(cluster, later(cluster))
    assert put(coordinator, KEYS, 1).failed == {}
    assert rounds == [2]
    assert get(coordinator, KEYS) == dict.fromkeys(KEYS, 1)


def test_listing_goes_on_when_a_node_has_shown_a_later_document(cluster: Cluster) -> None:
    for home in cluster.homes.values():
        home.service.adopt(later(cluster))
    coordinator = coordinator_of(cluster, cluster.document)
    assert coordinator.names(Scope(), "", 10) == Names([], True)
    assert coordinator._view.document == later(cluster)


@pytest.mark.parametrize("document", [{"cluster": 1}, {}], ids=["wrong", "empty"])
def test_node_that_shows_what_is_no_document_is_not_asked_again(cluster: Cluster, document: dict[str, object]) -> None:
    for home in cluster.homes.values():
        home.instead = lambda _request: Refused(NodeRefusal.STALE, document).write()
    assert set(put(coordinator_of(cluster, cluster.document), KEYS, 1).failed.values()) == {STALE}
    assert cluster.asked("set") == 2
    assert cluster.asked("adopt") == 0


def test_node_without_a_document_is_given_one_and_asked_again(cluster: Cluster) -> None:
    home = cluster.homes["n0"]

    def answer(request: object) -> bytes:
        if isinstance(request, Adopt):
            home.instead = None
            return Here(0).write()
        return Refused(NodeRefusal.STALE).write()

    home.instead = answer
    assert put(coordinator_of(cluster, cluster.document), KEYS, 1).failed == {}
