"""Writes on their way: the newest of each key, against a plain dict that is made anew from all of them."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gkv.model import Record, Version, Write
from gkv.replication.unsettled import Unsettled

KEYS = list("abcde")


@dataclass(eq=False)
class Admitted:
    write: Write
    failed: bool = False


def admitted(counter: int, *keys: str, value: bytes | None = b"1", expires: int = 0) -> Admitted:
    return Admitted(Write(Version(1, counter), list(keys), [value] * len(keys), [expires] * len(keys) if expires else ()))


def test_newest_is_the_last_admitted_and_gone_when_that_is_settled() -> None:
    unsettled: Unsettled[Admitted] = Unsettled()
    first, second = admitted(1, "a", "b"), admitted(2, "a")
    unsettled.admit(first)
    unsettled.admit(second)
    assert (unsettled.newest["a"], unsettled.newest["b"]) == (second, first)
    unsettled.end([first])
    assert dict(unsettled.newest) == {"a": second}
    unsettled.end([second])
    assert not unsettled.newest


def test_what_was_admitted_before_a_write_that_fails_is_the_newest_again() -> None:
    """A delete that is tried again on a full disk, after the set that came behind it was refused."""
    unsettled: Unsettled[Admitted] = Unsettled()
    delete, refused = admitted(1, "a", value=None), admitted(2, "a")
    unsettled.admit(delete)
    unsettled.admit(refused)
    refused.failed = True
    unsettled.end([refused])
    assert unsettled.newest == {"a": delete}


def test_record_has_all_that_the_write_makes_of_its_key() -> None:
    unsettled: Unsettled[Admitted] = Unsettled()
    write = Write(Version(1, 9), ["a", "b", "c"], [b"1", None, b"3"], [0, 0, 7], [None, None, Version(1, 2)])
    one = Admitted(write)
    unsettled.admit(one)
    assert [unsettled.record(one, key) for key in "cab"] == [
        Record(Version(1, 9), b"3", 7, Version(1, 2)),
        Record(Version(1, 9), b"1"),
        Record(Version(1, 9), None),
    ]


class Machine(RuleBasedStateMachine):
    """Admissions and ends; a write that was not admitted may be told of as well."""

    def __init__(self) -> None:
        super().__init__()
        self.unsettled: Unsettled[Admitted] = Unsettled()
        self.open: list[Admitted] = []
        self.given = 0

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True), value=st.sampled_from([None, b"1"]))
    def admit(self, keys: list[str], value: bytes | None) -> None:
        self.given += 1
        one = admitted(self.given, *keys, value=value)
        self.open.append(one)
        self.unsettled.admit(one)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), failed=st.booleans())
    def end(self, data: st.DataObject, failed: bool) -> None:
        over = data.draw(st.lists(st.sampled_from(self.open), unique=True, max_size=3))
        if not failed:
            over = self.open[: len(over)]
        for one in over:
            one.failed = failed
            self.open.remove(one)
        self.unsettled.end([*over, admitted(0, "a")])

    @invariant()
    def agrees_with_a_dict(self) -> None:
        newest = {key: one for one in self.open for key in one.write.keys}
        assert self.unsettled.newest == newest
        assert self.unsettled.check() == []
        for key, one in newest.items():
            assert self.unsettled.record(one, key).version == one.write.version
        for key in KEYS:
            assert self.unsettled.touch([key, "never"]) == (key in newest)
        assert set(self.unsettled._places) <= set(self.open)


def test_any_sequence_of_writes_agrees_with_a_dict() -> None:
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
    )
