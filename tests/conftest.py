"""Options of all tests, and what keeps them away from other systems on this machine."""

import signal
import sys

import pytest

from tests import alone

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
