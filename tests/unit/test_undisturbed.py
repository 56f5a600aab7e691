import threading
import uuid
from collections.abc import Iterator

import pytest

from tests.undisturbed import Turns

WAIT = 0.2
"""Seconds in which something that must not happen would have happened."""


@pytest.fixture
def run() -> Iterator[str]:
    yield (name := uuid.uuid4().hex)
    Turns(name).close()


def begun(turns: Turns, *, alone: bool, then_alone: bool = False) -> tuple[threading.Event, threading.Event]:
    """Start a test in another thread, with files of its own; return what says that it runs, and what ends it."""
    runs, end = threading.Event(), threading.Event()

    def test() -> None:
        with turns.turn(alone=alone, then_alone=then_alone):
            runs.set()
            end.wait(10)

    threading.Thread(target=test, daemon=True).start()
    return runs, end


def test_tests_run_beside_each_other(run: str) -> None:
    first, end_first = begun(Turns(run), alone=False)
    second, end_second = begun(Turns(run), alone=False)
    assert first.wait(10)
    assert second.wait(10)
    end_first.set()
    end_second.set()


def test_undisturbed_test_waits_for_those_before_it_and_goes_before_those_after_it(run: str) -> None:
    before, end_before = begun(Turns(run), alone=False)
    assert before.wait(10)
    alone, end_alone = begun(Turns(run), alone=True)
    assert not alone.wait(WAIT)
    after, end_after = begun(Turns(run), alone=False)
    assert not after.wait(WAIT)
    end_before.set()
    assert alone.wait(10)
    assert not after.wait(WAIT)
    end_alone.set()
    assert after.wait(10)
    end_after.set()


def test_undisturbed_test_after_another_of_its_process_begins_before_all_that_wait(run: str) -> None:
    process = Turns(run)
    first, end_first = begun(process, alone=True, then_alone=True)
    assert first.wait(10)
    waiting, end_waiting = begun(Turns(run), alone=False)
    assert not waiting.wait(WAIT)
    end_first.set()
    assert not waiting.wait(WAIT)
    second, end_second = begun(process, alone=True)
    assert second.wait(10)
    assert not waiting.wait(WAIT)
    end_second.set()
    assert waiting.wait(10)
    end_waiting.set()
