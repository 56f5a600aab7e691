"""Options of all tests, and what keeps them away from other systems on this machine."""

import os
import signal
import sys
from collections.abc import Generator

import pytest

from tests import alone
from tests.cluster import forge
from tests.undisturbed import Turns

sys.addaudithook(alone.audit)
# What pytest makes of an assertion takes three quarters of a collection's time: it is kept for the next process and run.
sys.dont_write_bytecode = False

for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    # A script's background job ignores SIGINT, and so would all that is started here: gkv keeps to it.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-faults",
        action="store_true",
        help="run the tests in tests/faults with every kill, cut and flipped byte (about 17 minutes), not with a sample; "
        "and twenty long histories for the test of linearizability (about as long); every program is started afresh",
    )
    parser.addoption("--fault-seed", type=int, default=None, help="the seed of the tests in tests/faults, as they printed it")


_turns = Turns(os.environ["PYTEST_XDIST_TESTRUNUID"]) if "PYTEST_XDIST_TESTRUNUID" in os.environ else None


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("undisturbed") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Have a test that is marked so run while no other process of this run has one."""
    if _turns is None:
        return (yield)
    with _turns.turn(alone=_is_alone(item), then_alone=_is_alone(nextitem)):
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that run alone, and so with their files: later each of them would wait for what runs beside it, and
    all others for that.
    """
    items.sort(key=lambda item: not _is_alone(item))


def pytest_configure(config: pytest.Config) -> None:
    forge.afresh = config.getoption("--all-faults")


def pytest_sessionfinish() -> None:
    forge.close()
    if _turns is not None:
        _turns.close()
