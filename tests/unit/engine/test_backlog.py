"""In which order what waits is taken: replacements, which fill a member, stand behind the writes of clients."""

import random
from collections.abc import Sequence

import pytest

from gkv.engine import backlog as module
from gkv.engine.backlog import Backlog, Pending, size_of
from gkv.model import Record, Replacement, Version, Write


class Clock:
    """A time that stands still."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def write(counter: int, *keys: str) -> Pending:
    made = Write(Version(1, counter), list(keys), [b"1"] * len(keys))
    return Pending(made, size_of(made), copied=True)


def page(*keys: str) -> Pending:
    made = Replacement.of([(key, Record(Version(1, 0), b"0")) for key in keys], [])
    return Pending(made, size_of(made), copied=True)


def added(*pending: Pending) -> Backlog:
    backlog = Backlog()
    for one in pending:
        backlog.add(one)
    return backlog


def groups(backlog: Backlog) -> list[list[Pending]]:
    found = []
    while backlog:
        found.append(backlog.take())
    return found


def test_replacements_stand_behind_writes_and_go_one_by_one(clock: Clock) -> None:
    first, second = page("p"), page("q")
    before, after = write(1, "a"), write(2, "b")
    assert groups(added(first, before, second, after)) == [[before, after], [first], [second]]


@pytest.mark.parametrize("keys", [["q"], ["a", "q"]])
def test_write_of_a_key_that_is_being_replaced_stays_behind_that(clock: Clock, keys: list[str]) -> None:
    first, second, third = page("p"), page("q", "r"), page("s")
    own = write(1, *keys)
    assert groups(added(first, second, third, own)) == [[first, second, own], [third]]


def test_replacement_that_has_waited_goes_at_the_end_of_a_group(clock: Clock) -> None:
    first, second, before = page("p"), page("q"), write(1, "a")
    backlog = added(first, second, before)
    clock.now += module.BEHIND
    assert backlog.take() == [before, first]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_waits_is_taken_once_and_in_order_for_each_key(clock: Clock, seed: int) -> None:
    chance = random.Random(seed)
    backlog = Backlog()
    order: dict[str, list[Pending]] = {}
    taken: list[Pending] = []
    count = 0

    def some() -> Sequence[str]:
        return chance.sample("abcdefgh", chance.randint(1, 3))

    for number in range(300):
        clock.now += chance.choice((0.0, 0.001, 0.02))
        if backlog and chance.random() < 0.4:
            taken += backlog.take()
            continue
        one = page(*some()) if chance.random() < 0.4 else write(number, *some())
        backlog.add(one)
        count += 1
        for key in one.write.keys:
            order.setdefault(key, []).append(one)
    taken += [one for group in groups(backlog) for one in group]
    assert len(taken) == len(set(taken)) == count
    for key, wanted in order.items():
        assert [one for one in taken if key in one.write.keys] == wanted
