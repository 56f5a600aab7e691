"""The terminal of a process: when a SIGHUP comes from its end, and when from somebody else."""

import pytest

from gkv.process import early
from gkv.process.early import Terminal


class World:
    """A terminal that is there or not, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = True
        self.now = 1_000.0
        monkeypatch.setattr(early, "_has_terminal", lambda: self.there)
        monkeypatch.setattr(early, "monotonic", lambda: self.now)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Give a world with a terminal in it."""
    return World(monkeypatch)


def test_terminal_that_is_there_has_not_hung_up(world: World) -> None:
    terminal = Terminal()
    world.now += 10_000
    assert not terminal.has_hung_up()
    assert terminal.look()


def test_terminal_that_has_just_gone_has_hung_up_however_long_nobody_looked(world: World) -> None:
    terminal = Terminal()
    world.now += 10_000  # as after SIGSTOP
    world.there = False
    assert terminal.has_hung_up()
    world.now += 4.9
    assert terminal.has_hung_up()


def test_process_that_has_outlived_its_terminal_is_not_hung_up_any_more(world: World) -> None:
    terminal = Terminal()
    world.there = False
    assert terminal.look()
    world.now += 5.1
    assert not terminal.look()
    assert not terminal.has_hung_up()


def test_process_without_a_terminal_is_never_hung_up(world: World) -> None:
    world.there = False
    terminal = Terminal()
    assert not terminal.look()
    assert not terminal.has_hung_up()
