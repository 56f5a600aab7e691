"""The losses that an operator accepts, and who acts by them."""

from typing import Any

import pytest

from gkv.cluster.document import Document, State
from gkv.cluster.losses import Outlook, accepted, outlook
from gkv.cluster.placement import Placement
from tests.documents import with_copies

DOWN: dict[str, Any] = {"state": State.DOWN, "left": 6}
FILLING: dict[str, Any] = {"state": State.FILLING, "left": 6}
EMPTY = FILLING | {"empty": True}
RESTORED = dict.fromkeys("abc", EMPTY)


@pytest.mark.parametrize(
    ("changes", "losses", "of", "told"),
    [
        ({"a": DOWN | {"left": 7}, "b": FILLING, "c": FILLING | {"left": 5}}, "a", "a", Outlook(("b",), ("a", "c"))),
        ({"a": EMPTY | {"left": 7}, "b": FILLING, "c": DOWN | {"left": 5}}, "a", "a", Outlook(("b",), ("a", "c"))),
        ({"a": DOWN | {"left": 7}, "b": DOWN, "c": FILLING | {"left": 5}}, "a", "a", Outlook((), (), ("b",))),
        ({"a": DOWN | {"left": 7}, "b": DOWN, "c": FILLING | {"left": 5}}, "ab", "b", Outlook((), (), ("b",))),
        (RESTORED, "a", "a", Outlook((), (), ("b", "c"))),
        (RESTORED, "ab", "b", Outlook((), (), ("c",))),
        (RESTORED, "abc", "c", Outlook(("c",), ("a", "b"))),
        (RESTORED, "cba", "a", Outlook(("a",), ("b", "c"))),
    ],
)
def test_outlook_says_who_acts_and_who_is_filled_from_that(
    changes: dict[str, dict[str, Any]], losses: str, of: str, told: Outlook
) -> None:
    document = with_copies(changes)
    assert outlook(document, losses, of, Placement.of(document)) == told


def test_outlook_is_of_the_lists_of_that_member() -> None:
    changes = {"a": DOWN | {"left": 7}, "b": DOWN, "c": FILLING | {"left": 5}, "d": FILLING | {"left": 5}}
    document = with_copies(changes, "abcd", replicas=2)
    found = outlook(document, "a", "a", Placement.of(document))
    assert (found.acts, found.awaited) == (("c", "d"), ("b",))


def test_with_one_copy_the_member_acts_itself() -> None:
    document = with_copies({"a": EMPTY}, replicas=1, min_in_sync=1)
    assert outlook(document, "a", "a", None) == Outlook(("a",))
    line = accepted(document, "a", None).member("a")
    assert line is not None
    assert (line.empty, line.directory) == (False, ord("a"))


def lines(document: Document) -> str:
    return "".join(one.id for one in document.members if not one.empty)


@pytest.mark.parametrize("order", ["abc", "bca", "cab"])
def test_of_several_that_were_the_last_ones_together_the_one_that_is_named_last_acts(order: str) -> None:
    document = with_copies(RESTORED)
    assert lines(accepted(document, order, Placement.of(document))) == order[-1]
