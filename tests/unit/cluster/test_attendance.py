"""The presence of members, for those who ask."""

from typing import Any

import pytest

from gkv.cluster.attendance import Attendance
from gkv.cluster.callin import FillProgress
from gkv.cluster.document import State
from tests.documents import with_copies
from tests.unit.cluster.test_judge import World, world

FILLING: dict[str, Any] = {"state": State.FILLING, "left": 3}
DOWN: dict[str, Any] = {"state": State.DOWN, "left": 3}


def attendance(one: World, monkeypatch: pytest.MonkeyPatch) -> Attendance:
    monkeypatch.setattr("gkv.cluster.attendance.boot_time", lambda: one.now)
    return Attendance(one.judge)


@pytest.mark.parametrize(("copies", "joined"), [(1, False), (3, True)])
def test_member_that_is_being_filled_has_joined(copies: int, joined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one copy it is not filled: it is about to serve."""
    one = World(with_copies({"b": FILLING}, replicas=copies, min_in_sync=1))
    one.call("b")
    seen = attendance(one, monkeypatch)
    assert (seen.has_joined("b"), seen.has_joined("a"), seen.has_joined("x")) == (joined, False, False)
    one.call("a")
    assert seen.has_joined("a")


def test_who_says_nothing_for_a_second_is_absent_and_all_together_leave_the_proxy_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = world({"c": DOWN})
    seen = attendance(one, monkeypatch)
    assert (seen.absent, seen.is_alone) == (frozenset(), False)
    one.run(0.9, silent="ab")
    assert seen.absent == frozenset()
    one.alive.clear()
    one.run(1.5)
    assert (seen.absent, seen.is_alone, one.epochs) == (frozenset("ab"), True, [])
    one.start("c")
    one.call("c")
    assert not seen.is_alone


def test_proxy_that_has_just_started_is_alone_until_it_has_heard_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is absent yet, and nobody is known to serve."""
    one = World(with_copies({"b": DOWN}, replicas=3, min_in_sync=1))
    seen = attendance(one, monkeypatch)
    assert (seen.absent, seen.is_alone) == (frozenset(), True)
    one.call("a")
    assert not seen.is_alone


def test_progress_is_that_of_the_last_call_of_a_member_that_is_being_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    one = World(with_copies({"b": FILLING}, replicas=3, min_in_sync=1))
    seen = attendance(one, monkeypatch)
    assert seen.filling_of("b") is None
    progress = FillProgress(6, 2, 0.25, 10, 1)
    for name in "ab":
        one.call(name, filling=progress)
    assert (seen.filling_of("b"), seen.filling_of("a"), seen.filling_of("x")) == (progress, None, None)
    later = FillProgress(6, 3, 0.5, 20, 1)
    one.call("b", filling=later)
    assert seen.filling_of("b") == later
    one.call("b")
    assert seen.filling_of("b") is None


def test_progress_is_not_shown_of_another_process_or_of_one_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    one = World(with_copies({"b": FILLING}, replicas=3, min_in_sync=1))
    seen = attendance(one, monkeypatch)
    progress = FillProgress(6, 2, 0.25, 10, 1)
    one.call("b", filling=progress)
    one.now += 1.5
    assert seen.filling_of("b") is None
    one.call("b", filling=progress)
    assert seen.filling_of("b") == progress
    one.alive["b"] = 99
    one.call("b", filling=progress)
    assert seen.filling_of("b") is None
