"""The lines about members in the log: what they say is so."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gkv.cluster import news
from gkv.cluster.coverage import Coverages
from gkv.cluster.document import Document, Durability, State
from gkv.cluster.losses import Outlook
from gkv.cluster.placement import Placement
from gkv.log import Level, level_of
from tests.documents import with_copies

DOWN: dict[str, Any] = {"state": State.DOWN, "left": 6}
FILLING: dict[str, Any] = {"state": State.FILLING, "left": 6}
NEW: dict[str, Any] = {"weight": 0.0}
WITHOUT = FILLING | {"empty": True}
EMPTY = "has come back empty: its directory is not the one that it had"
CALL = 'POST /v1/cluster/accept-loss with {"node": "a"}'
CALL_OF_B = 'POST /v1/cluster/accept-loss with {"node": "b"}'
ANY = "of each, in any order, as it is not known who has the newest records: the last one acts with what it has"
LOSS = "the loss of what a held has been accepted"
Changes = Mapping[str, Mapping[str, Any]]


def said(before: Document, after: Document) -> list[str]:
    coverage = None if after.replicas == 1 else Coverages().of(Placement.of(after))
    return list(news.of_changes(before, after, coverage))


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({}, {"b": DOWN}, ["member b is down; others that have its keys answer for them"]),
        (
            {"a": DOWN, "b": DOWN},
            {"a": DOWN, "b": DOWN, "c": DOWN | {"left": 7}},
            ["member c is down; 100 % of the keys wait for c"],
        ),
        (
            {"a": DOWN, "b": DOWN, "c": DOWN | {"left": 7}},
            {"a": FILLING, "b": DOWN, "c": DOWN | {"left": 7}},
            ["member a is filling; 100 % of the keys wait for c"],
        ),
        (
            {"a": FILLING, "b": DOWN, "c": DOWN | {"left": 7}},
            {"a": FILLING, "b": DOWN, "c": FILLING | {"left": 7}},
            ["member c is filling; it was the last one that was up, and answers for its keys already"],
        ),
        ({"a": FILLING}, {}, ["member a is up"]),
        (
            {"a": DOWN},
            {"a": WITHOUT},
            [f"member a {EMPTY}; it is filled from the others that have its keys"],
        ),
        (
            {"a": DOWN | {"left": 7}, "b": FILLING, "c": FILLING},
            {"a": WITHOUT | {"left": 7}, "b": FILLING, "c": FILLING},
            [f"member a {EMPTY}; 100 % of the keys wait for a. Start a with its data, or accept the loss: {CALL}"],
        ),
        (
            {"a": DOWN},
            {"a": WITHOUT | {"volatile": True}},
            ["member a has come back empty: it keeps its records in memory; it is filled from the others that have its keys"],
        ),
    ],
)
def test_lines_with_copies_say_who_answers_or_whom_keys_wait_for(before: Changes, after: Changes, lines: list[str]) -> None:
    assert said(with_copies(before), with_copies(after)) == lines


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ({}, {"b": DOWN}, "member b is down; its keys cannot be answered until it is back"),
        ({"b": NEW}, {"b": NEW | DOWN}, "member b is down; the ring does not have it"),
        (
            {"a": DOWN},
            {"a": WITHOUT},
            f"member a {EMPTY}; its keys cannot be answered. Start it where its data is, or {CALL}",
        ),
    ],
)
def test_lines_with_one_copy_say_whether_keys_cannot_be_answered(before: Changes, after: Changes, line: str) -> None:
    one: dict[str, Any] = {"replicas": 1, "min_in_sync": 1}
    assert said(with_copies(before, **one), with_copies(after, **one)) == [line]
    assert said(with_copies({"b": DOWN}, **one), with_copies({"b": FILLING}, **one)) == []
    assert said(with_copies({"b": FILLING}, **one), with_copies(**one)) == ["member b is up"]


@pytest.mark.parametrize(
    ("before", "after", "copies", "level"),
    [
        ({}, {"b": DOWN}, 3, Level.WARNING),
        ({}, {"b": DOWN}, 1, Level.ERROR),
        ({"b": NEW}, {"b": NEW | DOWN}, 1, Level.WARNING),
        ({"a": DOWN, "b": DOWN}, {"a": DOWN, "b": DOWN, "c": DOWN | {"left": 7}}, 3, Level.ERROR),
        ({"a": DOWN}, {"a": FILLING}, 3, Level.INFO),
        ({"a": FILLING}, {}, 3, Level.INFO),
        ({"a": DOWN}, {"a": WITHOUT}, 3, Level.WARNING),
        ({"a": DOWN}, {"a": WITHOUT}, 1, Level.ERROR),
    ],
)
def test_line_is_an_error_where_keys_have_no_answer_and_a_warning_where_copies_are_missing(
    before: Changes, after: Changes, copies: int, level: Level
) -> None:
    settings: dict[str, Any] = {"replicas": copies, "min_in_sync": 1}
    [line] = said(with_copies(before, **settings), with_copies(after, **settings))
    assert level_of(line) is level


def test_member_that_the_ring_has_now_has_joined_and_of_many_there_is_one_line() -> None:
    one: dict[str, Any] = {"replicas": 1, "min_in_sync": 1}
    after = with_copies({}, **one)
    first = replace(after, members=tuple(member for member in after.members if member.id == "b"))
    assert said(replace(after, members=()), first) == ["member b has joined"]
    assert said(first, after) == [], "what the change of the ring says already"
    members = [replace(after.members[0], id=f"m{i:02}", url=f"http://10.0.0.{i}:9000") for i in range(12)]
    whole = replace(after, members=tuple(members))
    down = replace(whole, members=tuple(replace(member, state=State.DOWN) for member in members))
    [line] = said(whole, down)
    assert line.startswith("members m00, m01, m02, m03, m04, m05, m06, m07, m08, m09 and 2 more are down; ")
    [line] = said(replace(whole, members=()), whole)
    assert line.endswith("m09 and 2 more have joined")


def test_where_writes_are_acknowledged_early_a_directory_may_be_right_and_lack_some() -> None:
    [line] = said(with_copies({"a": DOWN}), with_copies({"a": WITHOUT}, durability=Durability.ASYNC))
    assert "or the process before it did not end in an orderly way; it is filled" in line


@pytest.mark.parametrize(
    ("follows", "seconds", "line"),
    [
        (
            Outlook(("b",), ("a", "c")),
            6.2,
            f"{LOSS}, and counts in 6 s: b acts with the 51 keys that it has; a and c are filled from that",
        ),
        (Outlook((), (), ("b", "c")), 0.0, f"{LOSS}: keys wait for b or c"),
        (Outlook(("b",)), 0.0, f"{LOSS}: b acts with the 51 keys that it has"),
    ],
)
def test_line_about_a_loss_names_who_acts_and_who_is_filled(follows: Outlook, seconds: float, line: str) -> None:
    assert news.of_loss("a", follows, {"b": 51}, seconds) == line


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        ({"a": WITHOUT}, "it is filled from the others that have its keys"),
        (
            {"a": WITHOUT | {"left": 7}, "b": FILLING, "c": FILLING},
            f"keys of its wait for a. Start a with its data, or accept the loss: {CALL} at URL",
        ),
        (
            dict.fromkeys("abc", WITHOUT),
            f"keys of its wait for a, b or c. Start one of them with its data, or accept the loss {ANY}: {CALL} at URL",
        ),
    ],
)
def test_node_that_has_come_back_empty_says_what_becomes_of_its_keys(changes: Changes, fate: str) -> None:
    document = with_copies(changes)
    line = document.member("a")
    assert line is not None
    said = news.of_this_node(document, line, Placement.of(document).awaited("a"), "URL")
    assert said == f"the member a {EMPTY}; {fate}"


MEMORY = WITHOUT | {"volatile": True}
TOGETHER = "(in which order those that left together is not known)"


@pytest.mark.parametrize(
    ("changes", "awaited", "advice"),
    [
        (
            {"a": MEMORY | {"left": 7}},
            "a",
            f"The records of a were in memory and are gone with its process; accept the loss: {CALL}",
        ),
        (
            {"a": MEMORY, "b": DOWN | {"volatile": True}, "c": MEMORY},
            "abc",
            f"Their records were in memory and are gone with their processes; accept the loss of each, in any order: {CALL}",
        ),
        (
            {"a": MEMORY, "b": DOWN, "c": WITHOUT},
            "abc",
            (
                "Start b or c with its data, or accept the loss of each, the newest records last: a, then b and c "
                f"{TOGETHER}: {CALL}"
            ),
        ),
        ({"a": {"volatile": True}}, "a", f"Start a with its data, or accept the loss: {CALL}"),  # it is up, and only silent
        (
            {"a": WITHOUT | {"left": 5}, "b": WITHOUT | {"left": 5, "rank": 1}, "c": WITHOUT | {"left": 7}},
            "abc",
            f"Start one of them with its data, or accept the loss of each, the newest records last: a, then b, then c: {CALL}",
        ),
        (
            {"a": WITHOUT | {"left": 7}, "b": WITHOUT},
            "ab",
            f"Start one of them with its data, or accept the loss of each, the newest records last: b, then a: {CALL_OF_B}",
        ),
    ],
)
def test_advice_can_be_followed_and_names_the_order_of_losses_as_far_as_it_is_known(
    changes: Changes, awaited: str, advice: str
) -> None:
    assert news.cure(with_copies(changes), list(awaited)) == advice


def test_where_writes_are_acknowledged_early_only_a_directory_that_is_elsewhere_helps() -> None:
    document = with_copies(dict.fromkeys("abc", WITHOUT), durability=Durability.ASYNC)
    assert (
        news.cure(document, list("abc"))
        == f"Start one of them with its data if that is elsewhere, or accept the loss {ANY}: {CALL}"
    )
    document = with_copies(dict.fromkeys("abc", DOWN), durability=Durability.ASYNC)
    assert news.cure(document, list("abc")) == f"Start one of them with its data, or accept the loss {ANY}: {CALL}"


FOUR = with_copies({"d": {"weight": 0.0}}, "abcd")
COMING = replace(FOUR, next=replace(with_copies().layout, weights=tuple((one, 1.0) for one in "abcd")), next_since=7)
RINGS = [
    (FOUR, COMING, ["the ring is changing: d joins; DELETE /v1/cluster/change takes that back"]),
    (COMING, with_copies(ids="abcd"), ["the ring has changed: d joins"]),
    (COMING, with_copies(), ["the change of the ring is taken back: d joins", "d is no member any more"]),
    (COMING, replace(COMING, epoch=8), []),
    (FOUR, with_copies(), ["d is no member any more"]),
    (with_copies(), with_copies(min_in_sync=1), ["a write needs 1 of 3 copies (min_in_sync)"]),
    (with_copies(replicas=1, min_in_sync=1), replace(with_copies(replicas=1, min_in_sync=1), epoch=9), []),
]


@pytest.mark.parametrize(("before", "after", "lines"), RINGS)
def test_what_is_said_of_a_change_of_the_ring(before: Document, after: Document, lines: list[str]) -> None:
    assert list(news.of_ring(before, after)) == lines


def test_settings_that_do_not_count_are_told_with_the_call_that_does() -> None:
    [line, *_] = with_copies({"a": {"weight": 2.0, "zone": "x"}}).members
    call = "PATCH /v1/cluster/nodes/a at http://p:1 gives another one"
    assert news.of_settings(line, 2.0, "x", "http://p:1") == ""
    assert news.of_settings(line, 1.0, "x", "http://p:1") == (
        f"the weight is 2, as the cluster has it; --weight counts for a new member only: {call}"
    )
    assert news.of_settings(line, 1.0, "", "http://p:1") == (
        f"the weight is 2 and the zone is x, as the cluster has it; --weight and --zone count for a new member only: {call}"
    )
