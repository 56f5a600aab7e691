"""Options of all tests."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-faults",
        action="store_true",
        help="run the tests in tests/faults with every kill, cut and flipped byte (about 17 minutes), not with a sample",
    )
    parser.addoption("--fault-seed", type=int, default=None, help="the seed of the tests in tests/faults, as they printed it")
