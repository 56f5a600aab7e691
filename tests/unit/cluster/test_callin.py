"""The words of a process that calls in, as JSON."""

from dataclasses import fields

import pytest
import ujson
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.cluster.callin import CallIn, FillProgress
from gkv.duties import Fault
from gkv.errors import InvalidMember
from gkv.model import Node

NODE = Node("a", "http://127.0.0.1:9000")
_incarnations = st.integers(0, 2**64 - 1)
_counts = st.integers(0, 1 << 62)
_progress = st.builds(FillProgress, _counts, _counts, st.floats(0, 1).map(lambda share: round(share, 4)), _counts, _counts)
_calls = st.builds(
    CallIn,
    st.just(NODE),
    _incarnations,
    st.sampled_from(["", "east"]),
    order=st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**48 - 1)),
    bare=st.booleans(),
    volatile=st.booleans(),
    ran=st.lists(_incarnations, max_size=3).map(tuple),
    reached=st.lists(_incarnations, max_size=3).map(tuple),
    equal=st.booleans(),
    ready=st.booleans(),
    orderly=st.booleans(),
    leaves=st.booleans(),
    complaints=st.lists(st.tuples(st.sampled_from(["a", "b:1"]), st.sampled_from([*Fault]).map(str)), max_size=3).map(tuple),
    filling=st.none() | _progress,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(_calls)
def test_call_written_as_json_and_read_is_the_same(call: CallIn) -> None:
    assert CallIn.from_json(ujson.loads(ujson.dumps(call.to_json()))) == call


def test_call_of_a_process_with_one_copy_says_nothing_about_copies() -> None:
    said = CallIn(NODE, 1).to_json()
    assert said.keys().isdisjoint({"reached", "equal", "ready", "orderly", "leaves", "complaints", "filling"})
    assert CallIn.from_json(said) == CallIn(NODE, 1)


@pytest.mark.parametrize("name", ["bare", "volatile", "equal", "ready", "orderly", "leaves", "tidy", "standby"])
@pytest.mark.parametrize("value", [1, "yes", None])
def test_flag_that_is_none_is_refused(name: str, value: object) -> None:
    assert name in {field.name for field in fields(CallIn)}
    with pytest.raises(InvalidMember, match="true or false"):
        CallIn.from_json(CallIn(NODE, 1).to_json() | {name: value})


ONE = "00000000000000a1"


@pytest.mark.parametrize(("name", "most"), [("ran", 1_024), ("reached", 4_096)])
def test_incarnations_are_as_many_as_there_may_be(name: str, most: int) -> None:
    said = CallIn(NODE, 1).to_json() | {name: [ONE] * most}
    assert len(getattr(CallIn.from_json(said), name)) == most


@pytest.mark.parametrize(("name", "most"), [("ran", 1_024), ("reached", 4_096)])
@pytest.mark.parametrize("value", ["a1", [1], ["a1"], None])
def test_incarnations_that_are_none_are_refused(name: str, most: int, value: object) -> None:
    value = [ONE] * (most + 1) if value is None else value
    with pytest.raises(InvalidMember):
        CallIn.from_json(CallIn(NODE, 1).to_json() | {name: value})


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "silent",
        [["b"]],
        [["b", "silent", "silent"]],
        [["b", "late"]],
        [["", "full"]],
        [["b", 1]],
        [["b", "full"]] * 257,
    ],
)
def test_complaints_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(InvalidMember, match="complaints"):
        CallIn.from_json(CallIn(NODE, 1).to_json() | {"complaints": value})


FILLING = {"lists": 6, "equal": 2, "share": 0.25, "taken": 10, "dropped": 1}


@pytest.mark.parametrize("share", [0, 0.25, 1])
def test_progress_of_a_filling_is_read(share: float) -> None:
    call = CallIn.from_json(CallIn(NODE, 1).to_json() | {"filling": FILLING | {"share": share}})
    assert call.filling == FillProgress(6, 2, share, 10, 1)
    assert isinstance(call.filling.share, float)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        0.5,
        {},
        "half",
        *[{name: value for name, value in FILLING.items() if name != left_out} for left_out in FILLING],
        *[FILLING | {"share": share} for share in (-0.1, 1.1, True, "0.5", None, float("nan"))],
        *[
            FILLING | {name: count}
            for name in ("lists", "equal", "taken", "dropped")
            for count in (-1, 0.5, True, "1", 1 << 63)
        ],
        FILLING | {"more": 1},
    ],
)
def test_progress_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(InvalidMember) as caught:
        CallIn.from_json(CallIn(NODE, 1).to_json() | {"filling": value})
    assert [pointer for pointer, _ in caught.value.pointers] == ["/filling"]
