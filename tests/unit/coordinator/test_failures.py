"""Every way in which a key can have no definite answer has its row, and its codes are in the description of the interface."""

from itertools import product
from typing import Any

import pytest

from gkv.api.operations import shared_schemas
from gkv.coordinator.failures import (
    INDETERMINATE,
    READ_FAILURES,
    UNANSWERED,
    WRITE_FAILURES,
    GivenUp,
    Unanswered,
    failure,
)  # fmt: skip
from gkv.model import NodeRefusal, Op, Outcome
from gkv.wire.client import Limits

WRITES = (Op.SET, Op.PUT, Op.DELETE)


def test_every_reason_has_a_row() -> None:
    assert set(UNANSWERED) == {*NodeRefusal, *GivenUp, *product(Outcome, (True, False))}


def test_read_is_never_told_what_became_of_a_write() -> None:
    assert {"indeterminate", "not-applied"}.isdisjoint(failure.code for failure in READ_FAILURES)
    assert {failure(op, reason) for op in (Op.GET, Op.FETCH) for reason in UNANSWERED} <= READ_FAILURES
    assert {failure(op, reason) for op in WRITES for reason in UNANSWERED} == WRITE_FAILURES


@pytest.mark.parametrize("row", UNANSWERED.values(), ids=map(str, UNANSWERED))
def test_write_is_left_open_exactly_where_it_may_have_been_begun(row: Unanswered) -> None:
    assert row.begun == (row.write is INDETERMINATE)


def test_call_that_may_have_been_seen_leaves_a_write_open() -> None:
    assert {UNANSWERED[outcome, True].write for outcome in Outcome} == {INDETERMINATE}


def test_codes_are_all_in_the_description_of_the_interface() -> None:
    schemas: dict[str, Any] = dict(shared_schemas(Limits()))
    for name, failures in (("FailedRead", READ_FAILURES), ("FailedWrite", WRITE_FAILURES)):
        assert schemas[name]["properties"]["code"]["enum"] == sorted(failure.code for failure in failures)
