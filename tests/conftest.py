"""Options of all tests, and what keeps them away from other systems on this machine."""

import os
import signal
import sys
from collections.abc import Generator

import pytest

from tests import alone
from tests.undisturbed import Turns

sys.addaudithook(alone.audit)

for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    # A script's background job ignores SIGINT, and so would all that is started here: gkv keeps to it.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-faults",
        action="store_true",
        help="run the tests in tests/faults with every kill, cut and flipped byte (about 17 minutes), not with a sample",
    )
    parser.addoption("--fault-seed", type=int, default=None, help="the seed of the tests in tests/faults, as they printed it")


_turns = Turns(os.environ["PYTEST_XDIST_TESTRUNUID"]) if "PYTEST_XDIST_TESTRUNUID" in os.environ else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have a test that is marked so run while no other process of this run has one."""
    if _turns is None:
        return (yield)
    with _turns.turn(alone=item.get_closest_marker("undisturbed") is not None):
        return (yield)


def pytest_sessionfinish() -> None:
    if _turns is not None:
        _turns.close()
