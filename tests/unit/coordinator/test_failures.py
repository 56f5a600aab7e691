"""Every way in which a key can have no definite answer has its row, and its codes are in the description of the interface."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gkv.api.schemas import shared_schemas
from gkv.coordinator.failures import (
    FATES,
    INDETERMINATE,
    READ_FAILURES,
    UNANSWERED,
    WRITE_FAILURES,
    GivenUp,
    Unanswered,
    failure,
)  # fmt: skip
from gkv.errors import WrongType
from gkv.model import NodeRefusal, Op, OtherVersion, Outcome
from gkv.wire.client import Limits
from gkv.wire.ops import Effects, read_answer

WRITES = (Op.SET, Op.PUT, Op.DELETE)


def test_every_reason_has_a_row() -> None:
    assert set(UNANSWERED) == {*NodeRefusal, *GivenUp, *product(Outcome, (True, False))}


def test_read_is_never_told_what_became_of_a_write() -> None:
    assert {"indeterminate", "not-applied"}.isdisjoint(failure.code for failure in READ_FAILURES)
    assert {failure(op, reason) for op in (Op.GET, Op.FETCH) for reason in UNANSWERED} <= READ_FAILURES
    assert {failure(op, reason) for op in WRITES for reason in UNANSWERED} | {*FATES.values()} == WRITE_FAILURES


@pytest.mark.parametrize("row", UNANSWERED.values(), ids=map(str, UNANSWERED))
def test_write_is_left_open_exactly_where_it_may_have_been_begun(row: Unanswered) -> None:
    assert row.begun == (row.write is INDETERMINATE)


def test_call_that_may_have_been_seen_leaves_a_write_open() -> None:
    assert {UNANSWERED[outcome, True].write for outcome in Outcome} == {INDETERMINATE}


def test_word_that_this_version_does_not_know_leaves_a_write_open() -> None:
    assert UNANSWERED[read_answer(b'{"refused":"later","document":null}\n', Effects).reason].write is INDETERMINATE  # type: ignore[union-attr]


def test_codes_are_all_in_the_description_of_the_interface() -> None:
    schemas: dict[str, Any] = dict(shared_schemas(Limits()))
    for name, failures in (("FailedRead", READ_FAILURES), ("FailedWrite", {*WRITE_FAILURES, OtherVersion()})):
        assert schemas[name]["properties"]["code"]["enum"] == sorted(failure.code for failure in failures)


STATUSES = {
    "unreachable": 503, "timeout": 504, "no-primary": 503, "too-few-copies": 503, "epoch": 503, "overloaded": 503,
    "not-applied": 503, "snapshot-running": 503, "indeterminate": 503, "condition": 412,
    "wrong-type": 409, "disk-full": 507, "too-large": 413,
    "damaged": 500, "bad-answer": 502, "refused": 500,
}  # fmt: skip
"""Of a call about one key, by code: part of the interface."""


def test_table_of_the_operators_page_is_that_of_the_code() -> None:
    text = (Path(__file__).parents[3] / "docs/operations.md").read_text(encoding="utf-8")
    section = text.partition("## Keys without a definite answer")[2].partition("\n## ")[0]
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")
    ]
    shown = {code: (of, int(status), again, begun) for code, of, status, again, begun, _ in rows}
    begun = {row.write.code for row in UNANSWERED.values() if row.begun}
    expected = {}
    for one in {*READ_FAILURES, *WRITE_FAILURES, OtherVersion()}:
        writes = one.code in {failure.code for failure in WRITE_FAILURES} | {"condition"}
        reads = one.code in {failure.code for failure in READ_FAILURES}
        of = "both" if reads and writes else "writes" if writes else "reads"
        word = ("perhaps" if one.code in begun else "no") if writes else ""
        expected[one.code] = (of, one.status, "yes" if one.retryable else "no", word)
    assert shown == expected


def test_statuses_and_what_may_be_repeated_are_those_of_the_interface() -> None:
    found = {*READ_FAILURES, *WRITE_FAILURES, OtherVersion()}
    assert {failure.code: failure.status for failure in found} | {WrongType.code: WrongType.status} == STATUSES
    assert not WrongType.retryable
    final = {"condition", "too-large", "damaged", "refused"}
    assert {failure.code for failure in found if not failure.retryable} == final
