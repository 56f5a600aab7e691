"""The contract of an engine, over all of them; `check` runs after every test."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gkv.engine import ENGINES, Engine


@pytest.fixture(params=sorted(ENGINES))
def engine(request):
    """Return each engine in turn, empty."""
    engine = ENGINES[request.param]()
    yield engine
    assert engine.check() == []
    engine.close()
    engine.close()


def test_engine_new_is_empty(engine):
    assert isinstance(engine, Engine)
    assert isinstance(engine.durable, bool)
    assert (engine.records, engine.size) == (0, 0)
    assert engine.read(["a"]) == [None]
    assert engine.delete(["a"]) == 0


def test_read_returns_values_in_the_order_asked_with_none_for_missing(engine):
    engine.write({"a": b"1", "b": b"2"})
    assert engine.read(["b", "x", "a"]) == [b"2", None, b"1"]
    assert engine.read([]) == []


def test_read_key_asked_twice_is_answered_twice(engine):
    engine.write({"a": b"1"})
    assert engine.read(["a", "x", "a", "x"]) == [b"1", None, b"1", None]


def test_write_replaces_and_keeps_the_rest(engine):
    engine.write({"a": b"1", "b": b"2"})
    engine.write({"a": b"333"})
    assert engine.read(["a", "b"]) == [b"333", b"2"]
    assert engine.records == 2


def test_write_nothing_changes_nothing(engine):
    engine.write({"a": b"1"})
    engine.write({})
    assert (engine.records, engine.size, engine.read(["a"])) == (1, 2, [b"1"])


def test_write_takes_a_copy_of_the_batch(engine):
    batch = {"a": b"1"}
    engine.write(batch)
    batch["a"] = b"2"
    batch["b"] = b"3"
    assert engine.read(["a", "b"]) == [b"1", None]


def test_delete_counts_what_existed_and_a_repeated_key_once(engine):
    engine.write({"a": b"1", "b": b"2", "c": b"3"})
    assert engine.delete(["a", "x", "a", "b"]) == 2
    assert engine.delete(["a", "b"]) == 0
    assert engine.delete([]) == 0
    assert engine.read(["a", "b", "c"]) == [None, None, b"3"]


def test_delete_then_write_brings_the_new_value(engine):
    engine.write({"a": b"1"})
    engine.delete(["a"])
    engine.write({"a": b"2"})
    assert (engine.read(["a"]), engine.records) == ([b"2"], 1)


@pytest.mark.parametrize(
    ("steps", "records", "size"),
    [
        ([("write", {"a": b"12"})], 1, 3),
        ([("write", {"a": b"12", "bc": b"3"})], 2, 6),
        ([("write", {"a": b"12"}), ("write", {"a": b"1234"})], 1, 5),
        ([("write", {"a": b"1234"}), ("write", {"a": b""})], 1, 1),
        ([("write", {"\u00e9": b"1"})], 1, 3),
        ([("write", {"\U0001f600\u20ac": b"1"}), ("write", {"\U0001f600\u20ac": b"22"})], 1, 9),
        ([("write", {"\u00e9": b"1", "e\u0301": b"22"})], 2, 8),
        ([("write", {"\u00e9": b"1", "a": b"22"}), ("delete", ["\u00e9"])], 1, 3),
        ([("write", {"a": b"1"}), ("delete", ["a", "a"])], 0, 0),
        ([("write", {"a": b"1"}), ("delete", ["b"])], 1, 2),
    ],
)
def test_records_and_size_count_bytes_of_keys_and_values(engine, steps, records, size):
    for call, batch in steps:
        getattr(engine, call)(batch)
    assert (engine.records, engine.size) == (records, size)


@pytest.mark.parametrize(
    "values",
    [
        [b"", b"\0", b"\n", b"\xff\xfe"],
        [b"1.0", b"1e2", b"123456789012345678901234567890"],
        [b'"\\u0061"', b'{ "a" : [ 1 ] }'],
        [b"x" * (1 << 20)],
    ],
    ids=["any bytes", "numbers", "layout", "1 MiB"],
)
def test_values_come_back_byte_for_byte(engine, values):
    batch = {f"k{i}": value for i, value in enumerate(values)}
    engine.write(batch)
    assert engine.read(list(batch)) == values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u00e9", "e\u0301"),
        ("A", "a"),
        ("a", "a "),
        ("1", "01"),
        ("\ufb01", "fi"),
        ("a/b", "a%2Fb"),
        ("a", "a\n"),
        ("\u212a", "K"),
    ],
)
def test_keys_that_look_alike_are_two_keys(engine, one, other):
    engine.write({one: b"1", other: b"2"})
    assert engine.read([one, other]) == [b"1", b"2"]
    assert engine.delete([one]) == 1
    assert engine.read([one, other]) == [None, b"2"]


def test_keys_of_480_bytes_that_differ_in_the_last_are_two_keys(engine):
    one, other = "a" * 479 + "b", "a" * 479 + "c"
    engine.write({one: b"1", other: b"2"})
    assert engine.read([one, other]) == [b"1", b"2"]


def test_batch_of_10_000_is_written_read_and_deleted_whole(engine):
    batch = {f"key-{i}": b"%d" % i for i in range(10_000)}
    engine.write(batch)
    keys = list(reversed(batch))
    assert engine.read(keys) == [batch[key] for key in keys]
    assert engine.records == 10_000
    assert engine.delete(keys) == 10_000
    assert (engine.records, engine.size) == (0, 0)


def test_write_that_raises_has_applied_nothing(engine):
    engine.write({"a": b"1"})
    with pytest.raises(UnicodeEncodeError):
        engine.write({"a": b"2", "b": b"3", "\ud800": b"4"})
    assert engine.read(["a", "b"]) == [b"1", None]
    assert (engine.records, engine.size) == (1, 2)


_keys = st.sampled_from(["a", "b", "ab", "\u00e9", "e\u0301", "\U0001f600", " ", "\n", "\0"]) | st.text(min_size=1, max_size=3)
_values = st.sampled_from([b"", b"1", b"null"]) | st.binary(max_size=40)


class AgainstDict(RuleBasedStateMachine):
    """An engine and a plain dict go through the same calls and must agree after each."""

    make: type[Engine]

    def __init__(self):
        super().__init__()
        self.engine = self.make()
        self.model = {}

    @rule(items=st.dictionaries(_keys, _values, max_size=6))
    def write(self, items):
        self.engine.write(items)
        self.model |= items

    @rule(keys=st.lists(_keys, max_size=6))
    def delete(self, keys):
        existed = len(set(keys) & set(self.model))
        assert self.engine.delete(keys) == existed
        for key in keys:
            self.model.pop(key, None)

    @rule(keys=st.lists(_keys, max_size=6))
    def read(self, keys):
        assert self.engine.read(keys) == [self.model.get(key) for key in keys]

    @invariant()
    def agrees_with_the_model(self):
        assert self.engine.read(list(self.model)) == list(self.model.values())
        assert self.engine.records == len(self.model)
        assert self.engine.size == sum(len(key.encode()) + len(value) for key, value in self.model.items())
        assert self.engine.check() == []

    def teardown(self):
        self.engine.close()


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_engine_any_sequence_of_calls_agrees_with_a_dict(name):
    machine = type("Machine", (AgainstDict,), {"make": ENGINES[name]})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
    )


def test_check_finds_a_wrong_count():
    engine = ENGINES["memory"]()
    engine.write({"a": b"1"})
    engine._size += 1
    assert engine.check() == ["the records have 2 bytes, 3 were counted"]
