"""Pages put together from the primaries of all lists, which are scripted: what is asked again, of whom, and until when."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

import gevent
import pytest

from gkv.cluster.document import Document, State
from gkv.coordinator.listing import Names
from gkv.errors import NoCompletePage
from gkv.model import NodeRefusal, Outcome
from gkv.replication.names import Scope
from gkv.wire.ops import Adopt, Await, Here, ListKeys, Page, PutOff, Refused
from tests.documents import with_copies
from tests.unit.coordinator.test_patience import DEADLINE, UP, Cluster, Reply, without

ALL = [f"k{number:02}" for number in range(60)]
Lists = Callable[[ListKeys], Reply]


def lists(keys: list[str], most: int = 1_000) -> Lists:
    """Return a node that has these keys and gives up to `most` names at a time."""

    def answer(request: ListKeys) -> Reply:
        if not isinstance(request, ListKeys):
            return Here(0).write()
        scope, place, found = request.scope, request.begin, []
        for key in sorted(keys):
            if key < place or not key.startswith(scope.prefix):
                continue
            if len(found) == min(most, request.limit):
                return Page(found, place).write()
            found.append(scope.name_of(key))
            place = scope.behind(found[-1])
        return Page(found).write()

    return answer


def cluster_of(a: Lists, b: Lists, c: Lists, document: Document = UP) -> Cluster:
    cluster = Cluster(document)
    for node, answers in zip(cluster.nodes.values(), (a, b, c), strict=True):
        node.answers = answers
    return cluster


def whole(most: int = 1_000) -> Cluster:
    return cluster_of(lists(ALL[::3], most), lists(ALL[1::3], most), lists(ALL[2::3], most))


def asked(cluster: Cluster) -> list[int]:
    return [sum(isinstance(one, ListKeys) for one in node.asked) for node in cluster.nodes.values()]


@pytest.mark.parametrize("most", [1, 2, 7, 1_000])
@pytest.mark.parametrize("limit", [1, 5, 59, 60, 61, 10_000])
@pytest.mark.parametrize("parts", [[ALL[::3], ALL[1::3], ALL[2::3]], [ALL[40:], ALL[:7], ALL[7:40]], [[], ALL, []]])
def test_page_has_the_first_names_of_all_nodes_however_little_each_gives_at_a_time(
    parts: list[list[str]], limit: int, most: int
) -> None:
    cluster = cluster_of(*[lists(part, most) for part in parts])
    assert cluster.coordinator.names(Scope(), "", limit) == Names(ALL[:limit], limit > 60)


def test_page_begins_at_its_place() -> None:
    assert whole().coordinator.names(Scope("k"), "k30", 7) == Names(ALL[30:37], False)


def test_prefix_that_many_nodes_have_is_one_name_and_counts_once() -> None:
    keys = ["a", "d/1", "d/2", "d/3", "e", "f/1"]
    cluster = cluster_of(lists(keys[1::3], 1), lists(keys[2::3], 1), lists(keys[::3], 1))
    coordinator = cluster.coordinator
    assert coordinator.names(Scope("", "/"), "", 9) == Names(["a", "d/", "e", "f/"], True)
    assert coordinator.names(Scope("", "/"), "", 2) == Names(["a", "d/"], False)
    assert coordinator.names(Scope("", "/"), "d0", 9) == Names(["e", "f/"], True)


def test_prefix_that_one_node_comes_to_late_is_still_one_name() -> None:
    """It had ended a page among others' keys below that prefix."""

    def late(request: ListKeys) -> Reply:
        return Page([], "d/5").write() if request.begin < "d/5" else Page(["d/"]).write()

    cluster = cluster_of(lists(["a", "d/1", "e"]), late, lists([]))
    assert cluster.coordinator.names(Scope("", "/"), "", 9) == Names(["a", "d/", "e"], True)
    cluster = cluster_of(lists(["a", "e"]), late, lists([]))
    assert cluster.coordinator.names(Scope("", "/"), "", 9) == Names(["a", "d/", "e"], True)


def test_all_nodes_are_asked_together_and_seldom_again() -> None:
    cluster = whole()
    cluster.coordinator.names(Scope(), "", 60)
    assert max(asked(cluster)) == 1


def test_member_that_is_nobodys_primary_is_not_asked() -> None:
    document = with_copies({"c": {"state": State.FILLING, "since": 7, "left": 6}})
    cluster = cluster_of(lists(ALL[::2]), lists(ALL[1::2]), lambda _: None, document)
    assert cluster.coordinator.names(Scope(), "", 100) == Names(ALL, True)
    assert asked(cluster) == [1, 1, 0]


# -- when somebody does not answer


@pytest.mark.promise("I2")
@pytest.mark.parametrize(
    "reply", [(Outcome.UNREACHABLE, False), (Outcome.LOST, True), None, Refused(NodeRefusal.NOT_BEGUN).write()]
)
def test_dead_node_costs_its_failover_and_its_keys_come_from_who_takes_over(reply: Reply) -> None:
    cluster = whole()
    cluster.nodes["a"].answers = lambda _: reply
    cluster.fail_over("a")
    gevent.spawn_later(0.1, setattr, cluster.nodes["b"], "answers", lists([*ALL[::3], *ALL[1::3]]))
    began = monotonic()
    assert cluster.coordinator.names(Scope(), "", 100) == Names(ALL, True)
    assert monotonic() - began < DEADLINE / 2
    assert sum(asked(cluster)) < 40, "the waiting did not spin"


@pytest.mark.promise("I2")
def test_page_is_begun_anew_by_another_document_behind_what_all_had_given() -> None:
    """A key that is another node's by the later document is neither left out nor there twice."""
    cluster = whole(4)
    given = []

    def goes(request: ListKeys) -> Reply:
        given.append(request.begin)
        if len(given) < 3:
            return lists(ALL[::3], 4)(request)
        cluster.nodes["b"].answers = lists([*ALL[::3], *ALL[1::3]], 4)
        cluster.view.adopt(without(cluster.view.document, "a"))
        return Outcome.UNREACHABLE, False

    cluster.nodes["a"].answers = goes
    assert cluster.coordinator.names(Scope(), "", 100) == Names(ALL, True)
    anew = [one.begin for one in cluster.nodes["c"].asked if one.era == cluster.view.document.era]
    assert anew[0] > ALL[15], "all that was certain is kept"


@pytest.mark.promise("I2")
@pytest.mark.parametrize(
    ("reply", "code", "status"),
    [
        ((Outcome.UNREACHABLE, False), "unreachable", 503),
        (Refused(NodeRefusal.NOT_ACTING).write(), "no-primary", 503),
        (Refused(NodeRefusal.NOT_BEGUN).write(), "epoch", 503),
        (None, "timeout", 504),
        (Refused(NodeRefusal.LATE).write(), "timeout", 504),
        (Refused(NodeRefusal.BUSY).write(), "overloaded", 503),
        (b"{}\n", "bad-answer", 502),
        (Page(["k"], "").write(), "bad-answer", 502),
        (Page(["another"], None).write(), "bad-answer", 502),
    ],
)
def test_page_that_cannot_be_completed_by_the_deadline_is_none_and_says_why(reply: Reply, code: str, status: int) -> None:
    cluster = whole()
    cluster.nodes["b"].answers = lambda request: Here(0).write() if isinstance(request, Adopt) else reply
    began = monotonic()
    with pytest.raises(NoCompletePage) as raised:
        cluster.coordinator.names(Scope("k"), "", 100)
    assert (raised.value.code, raised.value.status) == (code, status)
    assert monotonic() - began < DEADLINE + 0.5


@pytest.mark.promise("I2")
def test_list_for_which_nobody_acts_makes_the_page_wait_for_a_document() -> None:
    document = with_copies({one: {"state": State.DOWN, "since": 7, "left": 7} for one in "abc"})
    cluster = cluster_of(lists(ALL), lists([]), lists([]), document)
    with pytest.raises(NoCompletePage) as raised:
        cluster.coordinator.names(Scope(), "", 100)
    assert raised.value.code == "no-primary"
    up = replace(UP, epoch=9)
    gevent.spawn_later(0.1, cluster.view.adopt, up)
    assert cluster.coordinator.names(Scope(), "", 100) == Names(ALL, True)


def test_answer_that_was_put_off_is_asked_for_until_it_comes() -> None:
    cluster = whole()
    tickets = []

    def slow(request: ListKeys | Await) -> Reply:
        if isinstance(request, ListKeys) or len(tickets) < 3:
            tickets.append(request)
            return PutOff(len(tickets)).write()
        assert request.ticket == 3
        return lists(ALL[::3])(tickets[0])

    cluster.nodes["a"].answers = slow
    assert cluster.coordinator.names(Scope(), "", 100) == Names(ALL, True)
    assert asked(cluster) == [1, 1, 1]
