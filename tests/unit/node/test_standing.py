"""The lines of a node about its own place, and about the keys whose primary it becomes."""

from typing import Any

import pytest

from gkv.cluster.document import State
from gkv.cluster.view import View
from gkv.log import Level, level_of
from gkv.node import standing
from gkv.node.standing import Standing
from gkv.node.takeover_news import TakeoverNews
from gkv.replication.takeover import Takeovers
from tests.documents import with_copies
from tests.duties import duties, roles

DOWN: dict[str, Any] = {"state": State.DOWN, "left": 6}
FILLING: dict[str, Any] = {"state": State.FILLING, "left": 6}
INCARNATION = 1


def told(
    monkeypatch: pytest.MonkeyPatch, *changes: dict[str, Any] | None, stopping: bool = False, copies: int = 3
) -> list[tuple[Level, str]]:
    """Return the lines of member a, by documents with these changes of its line; None for one without it."""
    lines: list[str] = []
    monkeypatch.setattr(standing, "say", lines.append)
    view = View()
    Standing("a", view, lambda: stopping)
    view.act_as("a", INCARNATION, 0)
    for change in changes:
        document = with_copies({"a": {"incarnation": INCARNATION} | (change or {})}, replicas=copies, min_in_sync=1)
        if change is None:
            others = tuple(member for member in document.members if member.id != "a")
            document = type(document)(document.cluster, document.epoch, others, replicas=copies, min_in_sync=1)
        view.adopt(document, replace=True)
    return [(level_of(line), str(line)) for line in lines]


def of_info(lines: list[tuple[Level, str]]) -> list[str]:
    return [line for level, line in lines if level >= Level.INFO]


def test_node_tells_each_change_of_its_place_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(monkeypatch, FILLING, FILLING, {}, {}, DOWN, FILLING, {})
    epoch = with_copies({}).epoch
    filling, up = (
        f"a: filling since epoch {epoch}: it is made equal to the others that have its keys",
        f"a: up since epoch {epoch}",
    )
    down = f"a: down since epoch {epoch}: it answers for no key until it has been let in again"
    assert of_info(lines) == [filling, up, down, filling, up]
    assert (Level.WARNING, down) in lines
    assert sum(level is Level.DEBUG for level, _ in lines) == 7  # a document each


def test_node_that_is_being_stopped_is_down_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(monkeypatch, {}, DOWN, stopping=True)
    assert next(line for line in lines if "down" in line[1])[0] is Level.INFO


def test_node_that_is_no_member_any_more_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_info(told(monkeypatch, {}, None, None))[1:] == ["a: it is no member any more"]


def test_process_that_is_not_the_members_says_nothing_of_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_info(told(monkeypatch, {"incarnation": 7}, {"incarnation": 7, **DOWN})) == []


def test_takeover_has_a_line_at_its_begin_and_one_at_its_end_however_many_lists_it_is_of() -> None:
    news, takeovers = TakeoverNews("a"), Takeovers()
    assert news.look(1.0, takeovers) == ""
    before = duties("a", 1)
    after = duties("a", 2, roles("ab", preference="abc"), roles("ac", preference="acb"))
    takeovers.adopt(before, after, True)
    assert news.look(1.0, takeovers) == "takes over the keys of 2 preference lists"
    takeovers.named("b", (), after)
    takeovers.open_ready()
    assert news.look(1.2, takeovers) == ""
    takeovers.named("c", (), after)
    takeovers.open_ready()
    assert news.look(1.5, takeovers) == "has taken over the keys of 2 preference lists in 0.50 s"
    assert news.look(1.6, takeovers) == ""
    takeovers.adopt(after, duties("a", 4, roles("ab")), True)
    assert news.look(2.0, takeovers) == "takes over the keys of 1 preference list"
    takeovers.adopt(duties("a", 4, roles("ab")), duties("a", 5, roles("ba")), True)
    assert news.look(2.0, takeovers) == "takes over no keys any more, as the cluster has changed"
