"""The contract of an engine, over all of them; `check` runs after every test."""

import itertools
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gkv.engine import ENGINES, NOT_BURIED, Due, Engine, open_engine
from gkv.errors import EngineError
from gkv.model import Blob, Damage, Effect, Record, Replacement, Version, Write
from gkv.ring import token, tokens

NOW = 1_000_000
"""The time in most tests, in ms."""
TTL = 1_000


@contextmanager
def opened(name):
    """Yield an empty engine; find nothing wrong with it at the end."""
    with tempfile.TemporaryDirectory() as directory:
        engine = open_engine(name, Path(directory) / "data", "n1", tokens)
        try:
            yield engine
            assert engine.check() == []
            assert [line for step in engine.verify() for line in step.lines] == []
        finally:
            engine.close()
            engine.close()


@pytest.fixture(params=ENGINES)
def engine(request):
    """Return each engine in turn, empty."""
    with opened(request.param) as engine:
        yield engine


def did(letters):
    """Return the effects of a write, a letter for each key."""
    return [Effect(letter) for letter in letters]


def at(era, counter=1):
    return Version(era, counter)


def puts(engine, items, version, expires=(), now=NOW, judged=NOW):
    return engine.write([Write(version, list(items), list(items.values()), expires, at=judged)], now)[0]


def deletes(engine, keys, version, now=NOW):
    return engine.write([Write(version, keys, [None] * len(keys))], now)[0]


def listed(engine, prefix, begin, limit):
    return [key for key, _ in engine.keys(prefix, begin, limit)]


def everything(engine):
    return engine.arc(0, (1 << 64) - 1, None, 1 << 30)


# --- values -----------------------------------------------------------------------------------------------------------------


def test_engine_new_is_empty(engine):
    assert isinstance(engine, Engine)
    assert isinstance(engine.durable, bool)
    assert (engine.live, engine.tombstones, engine.size, engine.cluster) == (0, 0, 0, None)
    assert engine.read(["a"], NOW) == [None]
    assert engine.records_of(["a"]) == [None]
    assert engine.keys("", "", 10) == []
    assert engine.due(NOW, 10) == []
    assert everything(engine) == []
    assert engine.forget(NOW, 10) == 0


def test_read_returns_values_in_the_order_asked_with_none_for_missing(engine):
    puts(engine, {"a": b"1", "b": b"2"}, at(1))
    assert engine.read(["b", "x", "a", "x", "b"], NOW) == [b"2", None, b"1", None, b"2"]
    assert engine.read([], NOW) == []


def test_read_of_a_key_that_cannot_be_finds_nothing(engine):
    puts(engine, {"a": b"1"}, at(1))
    assert engine.read(["a", "x" * 100_000, ""], NOW) == [b"1", None, None]


@pytest.mark.parametrize("room", [0, 40, 999])
def test_read_with_little_room_returns_the_first_values_and_can_go_on_with_the_rest(engine, room):
    items = {f"k{i}": b"%d" % i * 20 for i in range(50)}
    puts(engine, items, at(NOW))
    keys = ["missing", *items, "k7"]
    values = []
    while len(values) < len(keys):
        step = engine.read(keys[len(values) :], NOW, room)
        assert step
        values += step
    assert values == [None, *items.values(), items["k7"]]


def test_read_of_thousands_of_keys_at_once(engine):
    items = {f"key-{i}": b"%d" % i for i in range(5_000)}
    puts(engine, items, at(1))
    keys = list(reversed(items))
    assert engine.read(keys, NOW) == [items[key] for key in keys]
    assert deletes(engine, keys, at(2)) == did("r" * 5_000)
    assert (engine.live, engine.tombstones, engine.size) == (0, 5_000, 0)


@pytest.mark.parametrize(
    "values",
    [
        [b"", b"\0", b"\n", b"\xff\xfe"],
        [b"1.0", b"1e2", b"123456789012345678901234567890"],
        [b'"\\u0061"', b'{ "a" : [ 1 ] }'],
        [b"x" * (1 << 20)],
        [
            Blob(b"", "a/b"),
            Blob(b"\n\0\xff", "text/plain; charset=utf-8"),
            b"1",
            Blob(b"1", "a/b"),
            Blob(bytes(1 << 20), "x/y"),
        ],
    ],
    ids=["any bytes", "numbers", "layout", "1 MiB", "blobs"],
)
@pytest.mark.parametrize("expires", [0, NOW + 1])
def test_values_come_back_byte_for_byte(engine, values, expires):
    batch = {f"k{i}": value for i, value in enumerate(values)}
    puts(engine, batch, at(1), [expires] * len(batch))
    assert engine.read(list(batch), NOW) == values


LOOK_ALIKES = [
    ("\u00e9", "e\u0301"),
    ("A", "a"),
    ("a", "a "),
    ("1", "01"),
    ("\ufb01", "fi"),
    ("a/b", "a%2Fb"),
    ("a", "a\n"),
    ("\u212a", "K"),
    ("a\0", "a"),
    ("a" * 479 + "b", "a" * 479 + "c"),
]


@pytest.mark.parametrize(("one", "other"), LOOK_ALIKES)
def test_keys_that_look_alike_are_two_keys(engine, one, other):
    puts(engine, {one: b"1", other: b"2"}, at(1))
    assert engine.read([one, other], NOW) == [b"1", b"2"]
    assert deletes(engine, [one], at(2)) == did("r")
    assert engine.read([one, other], NOW) == [None, b"2"]


@pytest.mark.parametrize("bad", ["", "x" * 481, "\u20ac" * 161])
def test_write_of_a_key_that_cannot_be_changes_nothing(engine, bad):
    puts(engine, {"a": b"1"}, at(1))
    with pytest.raises(ValueError, match="1 to 480 bytes"):
        puts(engine, {"a": b"2", bad: b"3"}, at(2))
    assert engine.read(["a"], NOW) == [b"1"]
    assert (engine.live, engine.size) == (1, 2)


@pytest.mark.promise("I4")
def test_write_that_raises_has_applied_nothing(engine):
    puts(engine, {"a": b"1"}, at(1))
    good = Write(at(2), ["b"], [b"2"])
    with pytest.raises(UnicodeEncodeError):
        engine.write([good, Write(at(2), ["a", "\ud800"], [b"2", b"4"])], NOW)
    assert engine.read(["a", "b"], NOW) == [b"1", None]
    assert (engine.live, engine.size) == (1, 2)


def test_write_says_when_only_the_disk_is_waited_for(engine):
    calls = []
    engine.write([Write(at(1), ["a"], [b"1"])], NOW, lambda: calls.append(1))
    assert calls == [1]


@pytest.mark.parametrize(
    ("items", "live", "size"),
    [
        ([("a", b"12")], 1, 3),
        ([("a", b"12"), ("bc", b"3")], 2, 6),
        ([("a", b"12"), ("a", b"1234")], 1, 5),
        ([("a", b"1234"), ("a", b"")], 1, 1),
        ([("\u00e9", b"1")], 1, 3),
        ([("\U0001f600\u20ac", b"1"), ("\U0001f600\u20ac", b"22")], 1, 9),
        ([("\u00e9", b"1"), ("e\u0301", b"22")], 2, 8),
        ([("\u00e9", b"1"), ("a", b"22"), ("\u00e9", None)], 1, 3),
        ([("a", b"1"), ("a", None), ("a", None)], 0, 0),
        ([("a", b"1"), ("b", None)], 1, 2),
        ([("a", Blob(b"12", "t/x"))], 1, 7),
        ([("a", Blob(b"12", "t/x")), ("a", b"1")], 1, 2),
        ([("a", b"1"), ("a", Blob(b"", "t/x"))], 1, 5),
        ([("a", Blob(b"12", "t/x")), ("a", Blob(b"1", "t/xyz"))], 1, 8),
        ([("a", Blob(b"12", "t/x")), ("a", None)], 0, 0),
        ([("a", None), ("a", b"1")], 1, 2),
    ],
)
def test_live_and_size_count_bytes_of_keys_and_values(engine, items, live, size):
    for step, (key, value) in enumerate(items):
        puts(engine, {key: value}, at(step))
    assert (engine.live, engine.size) == (live, size)


# --- versions ---------------------------------------------------------------------------------------------------------------


def test_write_of_a_lesser_version_changes_nothing(engine):
    puts(engine, {"a": b"new", "b": b"old"}, at(5, 2))
    puts(engine, {"b": b"newer"}, at(9))
    assert puts(engine, {"a": b"x", "b": b"x", "c": b"x"}, at(5)) == did("kkc")
    assert engine.read(["a", "b", "c"], NOW) == [b"new", b"newer", b"x"]


def test_version_of_a_later_era_is_greater_whatever_the_counters(engine):
    puts(engine, {"a": b"1"}, at(2, 2**64 - 1))
    assert puts(engine, {"a": b"2"}, at(3, 0)) == did("r")
    assert puts(engine, {"a": b"3"}, at(2, 2**64 - 1)) == did("k")
    assert puts(engine, {"a": b"3"}, at(3, 2**63)) == did("r")
    assert puts(engine, {"a": b"4"}, at(3, 2**63 - 1)) == did("k")
    assert engine.read(["a"], NOW) == [b"3"]


def test_write_repeated_counts_nothing(engine):
    write = Write(at(5), ["a", "b"], [b"1", None])
    assert engine.write([write, write], NOW) == [did("cu"), did("kk")]
    assert engine.write([write], NOW) == [did("kk")]


def test_record_that_is_written_anew_keeps_its_tag(engine):
    """Its order is the new one, by which it is merged; whatever the kind of its value."""
    blob = Blob(b"1", "a/b")
    records = {"a": (b"1", 0), "b": (b"2", NOW + 9), "c": (blob, 0), "d": (blob, NOW + 9), "e": (None, 0)}
    values, expires = [value for value, _ in records.values()], [end for _, end in records.values()]
    puts(engine, dict(zip(records, values, strict=True)), at(1), expires)
    live = engine.live, engine.size
    assert engine.write([Write(at(2), list(records), values, expires, [at(1)] * 5)], NOW) == [did("rrrru")]
    wanted = [Record(at(2), value, end, at(1)) for value, end in records.values()]
    assert engine.records_of(list(records)) == wanted
    assert [record.tag for record in wanted] == [at(1)] * 5
    assert engine.read(list(records), NOW) == values
    assert (engine.live, engine.size) == (live[0], live[1] + 4 * 16)
    assert engine.check() == []
    assert engine.write([Write(at(1, 9), ["a"], [b"x"])], NOW) == [did("k")]
    assert engine.write([Write(at(3), ["a", "b"], [b"x", b"y"], (), [None, at(1)])], NOW) == [did("rr")]
    assert engine.records_of(["a", "b"]) == [Record(at(3), b"x"), Record(at(3), b"y", 0, at(1))]
    assert engine.check() == []


def test_effects_say_what_was_done_to_each_key_in_the_order_of_the_write(engine):
    puts(engine, {"a": b"1", "b": b"2", "c": b"3"}, at(1), [0, 0, NOW + 5])
    deletes(engine, ["b"], at(2))
    assert puts(engine, {"a": b"x", "b": b"x", "c": b"x", "d": b"x"}, at(3), now=NOW + 5, judged=NOW + 5) == did("rccc")
    assert deletes(engine, ["e", "a", "b", "c", "d"], at(4)) == did("urrrr")
    assert deletes(engine, ["a"], at(5)) == did("u")
    assert deletes(engine, ["a", "b", "x"], at(5), now=NOW + 9) == did("kuu")


def test_writes_of_one_call_follow_each_other(engine):
    applied = engine.write(
        [
            Write(at(1), ["a"], [b"1"]),
            Write(at(3), ["a"], [b"3"]),
            Write(at(2), ["a"], [b"2"]),
            Write(at(4), ["a"], [None]),
        ],
        NOW,
    )
    assert applied == [did("c"), did("r"), did("k"), did("r")]


def test_records_of_returns_versions_and_tombstones(engine):
    puts(engine, {"a": b"1", "b": b"2"}, at(1, 7), [0, NOW + 10])
    deletes(engine, ["c"], at(2))
    assert engine.records_of(["c", "b", "x", "a"]) == [
        Record(at(2), None),
        Record(at(1, 7), b"2", NOW + 10),
        None,
        Record(at(1, 7), b"1"),
    ]


def test_records_of_returns_the_type_of_a_blob(engine):
    blobs = [Blob(b"1", "a/b"), Blob(b"2", "a/c")]
    puts(engine, dict(zip("ab", blobs, strict=True)), at(1), [0, NOW + 1])
    assert engine.records_of(["a", "b"]) == [Record(at(1), blobs[0]), Record(at(1), blobs[1], NOW + 1)]


def test_effects_count_blobs_as_values(engine):
    puts(engine, {"a": Blob(b"", "a/b"), "b": Blob(b"", "a/b"), "c": Blob(b"", "a/b")}, at(1), [0, NOW + 5, NOW + 9])
    assert puts(engine, {"a": b"1", "b": b"1", "c": Blob(b"2", "x/y")}, at(2), judged=NOW + 5) == did("rcr")
    assert deletes(engine, ["a", "b", "c"], at(3)) == did("rrr")


@pytest.mark.promise("I3")
def test_deleted_key_stays_away_from_older_writes(engine):
    puts(engine, {"a": b"1"}, at(1))
    deletes(engine, ["a"], at(3))
    assert puts(engine, {"a": b"2"}, at(2)) == did("k")
    assert puts(engine, {"a": b"2"}, at(2, 2)) == did("k")
    assert engine.read(["a"], NOW) == [None]
    assert puts(engine, {"a": b"4"}, at(4)) == did("c")
    assert engine.read(["a"], NOW) == [b"4"]


_versions = st.builds(at, st.integers(1, 3), st.integers(0, 3))
_expires = st.sampled_from([0, 0, NOW - 1, NOW, NOW + 1, NOW + 2])
_records = st.builds(Record, _versions, st.sampled_from([None, b"", b"1", b"2", Blob(b"1", "a/b"), Blob(b"", "a/c")]), _expires)


@pytest.mark.promise("I3")
@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(records=st.lists(_records, min_size=1, max_size=4, unique_by=lambda record: record.version))
def test_merge_does_not_depend_on_order_or_repetition(name, records):
    """Any order of the same records, each once or twice, leaves the same record."""
    with opened(name) as engine:
        outcomes = set()
        for number, order in enumerate(itertools.permutations(records)):
            key = f"k{number}"
            for record in (*order, order[0]):
                engine.write([Write(record.version, [key], [record.value], [record.expires])], NOW)
            outcomes.add(engine.records_of([key])[0])
        assert len(outcomes) == 1
        assert next(iter(outcomes)).version == max(record.version for record in records)


# --- expiry, and tombstones that are forgotten ------------------------------------------------------------------------------


def test_read_of_what_is_due_names_it_and_hides_nothing(engine):
    blob = Blob(b"4", "a/b")
    puts(engine, {"a": b"1", "b": b"2", "c": b"3", "d": blob}, at(1), [NOW + 1, 0, NOW + 2, NOW + 2])
    assert engine.read(["a", "b", "c", "d"], NOW) == [b"1", b"2", b"3", blob]
    for keys, now, due in (("abc", NOW + 1, "a"), ("dcba", NOW + 2, "dca"), ("xca", NOW + 9, "ca")):
        with pytest.raises(Due) as caught:
            engine.read(list(keys), now)
        assert caught.value.keys == list(due)
    assert engine.read(["b", "x"], NOW + 9) == [b"2", None]
    assert engine.records_of(["a"]) == [Record(at(1), b"1", NOW + 1)]
    assert engine.keys("", "", 9) == [("a", NOW + 1), ("b", 0), ("c", NOW + 2), ("d", NOW + 2)]


def test_due_lists_what_is_due_the_longest_first(engine):
    puts(engine, {"a": b"1", "b": b"2", "c": b"3", "d": b"4"}, at(1), [NOW + 3, 0, NOW + 1, NOW + 2])
    assert engine.due(NOW, 9) == []
    assert engine.due(NOW + 2, 9) == ["c", "d"]
    assert engine.due(NOW + 9, 2) == engine.due(NOW + 9, 2) == ["c", "d"]
    puts(engine, {"c": b"5"}, at(2))
    deletes(engine, ["d"], at(2))
    assert engine.due(NOW + 9, 9) == ["a"]


def test_effects_are_judged_at_the_admission_of_the_write(engine):
    """However late it comes to the disk."""
    puts(engine, {"a": b"1", "b": b"1"}, at(1), [NOW + 1] * 2)
    assert puts(engine, {"a": b"2"}, at(2), now=NOW + 9, judged=NOW) == did("r")
    assert puts(engine, {"b": b"2"}, at(2), now=NOW + 9, judged=NOW + 1) == did("c")


def test_overwriting_takes_the_old_expiry_away(engine):
    puts(engine, {"a": b"1", "b": b"1", "c": b"1"}, at(1), [NOW + 1] * 3)
    puts(engine, {"a": b"2", "b": b"2"}, at(2), [0, NOW + 9])
    deletes(engine, ["c"], at(2))
    assert engine.due(NOW + 1, 9) == []
    assert engine.read(["a", "b", "c"], NOW + 1) == [b"2", b"2", None]
    assert engine.records_of(["c"]) == [Record(at(2), None)]


def test_tombstone_is_forgotten_when_its_commit_is_long_ago_enough(engine):
    puts(engine, {"a": b"1"}, at(1))
    deletes(engine, ["a", "b"], at(2))
    assert engine.forget(NOW - 1, 10) == 0
    assert engine.records_of(["a", "b"]) == [Record(at(2), None)] * 2
    assert engine.forget(NOW, 10) == 2
    assert engine.records_of(["a", "b"]) == [None, None]
    assert engine.tombstones == 0


def test_forget_leaves_values_and_replaced_tombstones(engine):
    deletes(engine, ["a", "b"], at(1))
    puts(engine, {"a": b"1", "c": b"3"}, at(2), [0, NOW + 1])
    engine.forget(NOW + 9, 10)
    assert engine.read(["a", "b", "c"], NOW) == [b"1", None, b"3"]
    assert (engine.live, engine.tombstones) == (2, 0)


def test_forget_takes_no_more_than_the_limit_and_ends(engine):
    deletes(engine, [f"d{i}" for i in range(10)], at(1))
    taken = []
    while not taken or taken[-1] == 4:
        taken.append(engine.forget(NOW, 4))
        assert len(taken) < 20
    assert taken == [4, 4, 2]
    assert (engine.live, engine.tombstones) == (0, 0)


# --- orders -----------------------------------------------------------------------------------------------------------------

KEYS = [
    "",
    "a",
    "ab",
    "abc",
    "b",
    "\x00",
    "\x7f",
    "\x80",
    "\u00e9",
    "e\u0301",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
]


def test_keys_are_listed_in_code_point_order(engine):
    puts(engine, dict.fromkeys(reversed(KEYS[1:]), b"1"), at(1))
    assert listed(engine, "", "", 100) == sorted(KEYS[1:])
    assert listed(engine, "a", "", 100) == ["a", "ab", "abc"]
    assert listed(engine, "a", "a", 2) == ["a", "ab"]
    assert listed(engine, "a", "a\0", 1) == listed(engine, "a", "aa", 1) == ["ab"]
    assert listed(engine, "a", "b", 100) == []
    assert listed(engine, "ab", "a", 100) == ["ab", "abc"]
    assert listed(engine, "", "b", 2) == sorted(KEYS)[sorted(KEYS).index("b") :][:2]
    assert listed(engine, "x" * 1000, "", 5) == []
    assert listed(engine, "", "a" * 1000, 1) == ["ab"]
    longest = "\U0010ffff" * 120
    puts(engine, {longest: b"1"}, at(1))
    assert listed(engine, longest[:-1], longest, 2) == [longest]
    assert listed(engine, "", longest + "\0", 2) == listed(engine, "", longest + "\U0010ffff", 2) == []
    assert listed(engine, "", "", 0) == []


def test_keys_come_and_go_with_their_values(engine):
    puts(engine, {"a": b"1", "b": b"1"}, at(1))
    assert listed(engine, "", "", 9) == ["a", "b"]
    deletes(engine, ["a"], at(2))
    puts(engine, {"c": b"1"}, at(2), [NOW + 5])
    assert engine.keys("", "", 9) == [("b", 0), ("c", NOW + 5)]


def test_blobs_are_listed(engine):
    puts(engine, {"a": Blob(b"", "a/b"), "b": Blob(b"", "a/b"), "c": b"1"}, at(1), [0, NOW + 5, 0])
    puts(engine, {"c": Blob(b"", "a/b")}, at(2))
    assert engine.keys("", "", 9) == [("a", 0), ("b", NOW + 5), ("c", 0)]


def test_arc_pages_through_all_records_in_the_order_of_their_tokens(engine):
    names = [f"key-{i}" for i in range(100)]
    puts(engine, dict.fromkeys(names, b"1"), at(1))
    deletes(engine, names[::2], at(2))
    found, after = [], None
    while page := engine.arc(0, (1 << 64) - 1, after, 7):
        assert len(page) <= 7
        found += page
        after = page[-1][0]
    assert [key for key, _ in found] == sorted(names, key=lambda key: (token(key), key))
    assert {key for key, record in found if record.value is None} == set(names[::2])


def test_arc_has_both_its_ends(engine):
    names = sorted((f"key-{i}" for i in range(20)), key=token)
    puts(engine, dict.fromkeys(names, b"1"), at(1))
    for first, last in itertools.combinations(range(20), 2):
        arc = engine.arc(token(names[first]), token(names[last]), None, 100)
        assert [key for key, _ in arc] == names[first : last + 1]
    assert engine.arc(token(names[3]), token(names[3]), names[3], 100) == []
    assert [key for key, _ in engine.arc(token(names[3]), token(names[5]), names[0], 100)] == names[3:6]


def test_arc_with_little_room_returns_the_first_records_and_one_at_least(engine):
    names = sorted((f"key-{i}" for i in range(20)), key=token)
    puts(engine, dict.fromkeys(names, b"1" * 1_000), at(1))
    assert [key for key, _ in engine.arc(0, (1 << 64) - 1, None, 100, room=5_000)] == names[: 5 if engine.durable else 6]
    assert [key for key, _ in engine.arc(0, (1 << 64) - 1, names[4], 100, room=0)] == names[5:6]
    assert [key for key, _ in engine.arc(0, (1 << 64) - 1, names[4], 100, room=-1)] == names[5:6]


# --- replacements -----------------------------------------------------------------------------------------------------------


def replaces(engine, records=(), drops=(), now=NOW, damaged=()):
    return engine.write([Replacement.of(list(dict(records).items()), drops, damaged)], now)


def test_replacement_takes_the_place_of_later_records_of_all_kinds(engine):
    puts(engine, {"a": b"1", "b": b"22", "c": Blob(b"3", "x/y"), "d": b"4"}, at(9), [0, NOW + 5, 0, 0])
    deletes(engine, ["e", "d"], at(9, 2))
    records = {
        "a": Record(at(1), Blob(b"x", "a/b"), NOW + 9, at(1, 7)),
        "b": Record(at(1), None),
        "c": Record(at(2), b"plain"),
        "d": Record(at(3), b"back"),
        "f": Record(at(4), b"new", NOW + 7),
    }
    assert replaces(engine, records, ["e", "g"]) == [[]]
    assert engine.records_of(["a", "b", "c", "d", "e", "f", "g"]) == [*list(records.values())[:4], None, records["f"], None]
    assert (engine.live, engine.tombstones) == (4, 1)
    assert engine.due(NOW + 9, 10) == ["f", "a"]
    assert listed(engine, "", "", 10) == ["a", "c", "d", "f"]
    assert engine.size == sum(len(key) for key in "acdf") + len(Blob(b"x", "a/b")) + 16 + len(b"plain" + b"back" + b"new")


def test_key_that_was_dropped_can_be_written_with_any_version(engine):
    puts(engine, {"a": b"1"}, at(9))
    replaces(engine, drops=["a"])
    assert (engine.live, engine.tombstones, engine.size, everything(engine)) == (0, 0, 0, [])
    assert puts(engine, {"a": b"2"}, at(1)) == did("c")


def test_replacements_and_writes_of_one_group_are_in_their_order(engine):
    later, earlier = Write(at(5), ["a"], [b"5"]), Write(at(4), ["a"], [b"4"])
    replacement = Replacement.of([("a", Record(at(3), b"3"))])
    assert engine.write([later, replacement, earlier], NOW) == [did("c"), [], did("r")]
    assert engine.records_of(["a"]) == [Record(at(4), b"4")]


def test_replacement_by_a_tombstone_is_forgotten_with_the_others(engine):
    replaces(engine, {"a": Record(at(1), None)}, now=NOW)
    replaces(engine, {"b": Record(at(1), None)}, now=NOW + 1)
    assert engine.buried(NOW, 9) == [(NOW, "a")]
    assert engine.buried(NOW + 1, 9, (NOW, "a")) == [(NOW + 1, "b")]
    assert engine.forget(NOW, 9) == 1
    assert [key for key, _ in everything(engine)] == ["b"]


def test_tombstone_that_was_overwritten_or_dropped_is_not_buried(engine):
    deletes(engine, ["a", "b", "c"], at(1))
    puts(engine, {"a": b"1"}, at(2))
    replaces(engine, drops=["b"])
    assert engine.buried(NOW, 9) == [(NOW, "c")]
    assert engine.buried(NOW - 1, 9) == engine.buried(-1, 9) == []


OF_ALL_KINDS = {
    "blob": Record(at(1), Blob(b"x", "a/b"), NOW + 9, at(1, 7)),
    "tombstone": Record(at(1), None),
    "plain": Record(at(2), b"plain" * 900),
    "tagged": Record(at(2), b"tagged", 0, at(2, 1)),
}


def test_key_that_is_marked_reads_as_damaged_and_is_listed_whatever_was_there(engine):
    replaces(engine, {**OF_ALL_KINDS, "other": Record(at(1), b"1")})
    marked = [*OF_ALL_KINDS, "new"]
    assert replaces(engine, damaged=marked) == [[]]
    assert engine.read([*marked, "other", "none"], NOW) == [*[Damage.DAMAGED] * 5, b"1", None]
    assert engine.records_of([*marked, "other"]) == [*[Damage.DAMAGED] * 5, Record(at(1), b"1")]
    assert dict(everything(engine)) == {**dict.fromkeys(marked, Damage.DAMAGED), "other": Record(at(1), b"1")}
    assert engine.keys("", "", 10) == [(key, 0) for key in sorted([*marked, "other"])]
    assert (engine.live, engine.tombstones, engine.size) == (6, 0, sum(map(len, marked)) + len("other1"))
    assert engine.due(NOW + 99, 10) == engine.buried(NOW + 99, 10) == []
    assert sorted(engine.check()) == sorted(f"{key!r} is damaged" for key in marked)
    assert sorted(key for step in engine.verify() for key in step.damaged) == sorted(marked)
    replaces(engine, damaged=marked)
    assert (engine.live, engine.size) == (6, sum(map(len, marked)) + len("other1"))
    replaces(engine, {"new": Record(at(1), b"2"), "blob": Record(at(1), None)}, ["tombstone", "plain", "tagged"])
    assert engine.records_of([*marked, "other"]) == [
        Record(at(1), None),
        None,
        None,
        None,
        Record(at(1), b"2"),
        Record(at(1), b"1"),
    ]
    assert (engine.live, engine.tombstones, engine.size) == (2, 1, len("new2other1"))


def test_write_of_any_version_repairs_a_key_that_is_marked(engine):
    puts(engine, {"a": b"1", "b": b"1", "c": b"1", "d": b"1"}, at(9))
    replaces(engine, damaged=["a", "b", "d"])
    values = [b"2", None, b"2", b"2", b"2"]
    tags = [at(1), None, None, at(1), None]
    write = Write(at(3), ["a", "b", "c", "d", "e"], values, [0, 0, 0, NOW + 9, 0], tags, NOW)
    assert engine.write([write], NOW) == [did("ddkdc")]
    assert engine.records_of(["a", "b", "c", "d", "e"]) == [
        Record(at(3), b"2", 0, at(1)),
        Record(at(3), None),
        Record(at(9), b"1"),
        Record(at(3), b"2", NOW + 9, at(1)),
        Record(at(3), b"2"),
    ]
    assert (engine.live, engine.tombstones) == (4, 1)


def test_write_that_does_not_repair_leaves_a_mark_and_writes_all_else(engine):
    replaces(engine, damaged=["b"])
    write = Write(at(3), ["a", "b", "c"], [b"1", b"2", b"3"], [0, 0, NOW + 9], [at(1), None, None], NOW, repairs=False)
    assert engine.write([write], NOW) == [did("cdc")]
    found = engine.records_of(["a", "b", "c"])
    assert found == [Record(at(3), b"1", 0, at(1)), Damage.DAMAGED, Record(at(3), b"3", NOW + 9)]
    replaces(engine, drops=["b"])
    assert (engine.live, engine.size) == (2, len("a1c3") + 16)


@pytest.mark.parametrize("key", ["", "k" * 481])
def test_replacement_with_a_key_that_cannot_be_changes_nothing(engine, key):
    with pytest.raises(ValueError, match="480 bytes"):
        replaces(engine, {"a": Record(at(1), b"1"), key: Record(at(1), b"1")})
    assert everything(engine) == []


# --- the cluster ------------------------------------------------------------------------------------------------------------


def test_join_is_refused_while_there_are_records_of_another_cluster(engine):
    engine.join("c1")
    engine.join("c2")
    deletes(engine, ["a"], at(1))
    engine.join("c2")
    with pytest.raises(EngineError, match=r"c2.*c3"):
        engine.join("c3")
    assert engine.cluster == "c2"


# --- everything at once -----------------------------------------------------------------------------------------------------

_keys = st.sampled_from(["a", "b", "ab", "\u00e9", "e\u0301", "\U0001f600", " ", "\n", "\0"]) | st.text(min_size=1, max_size=3)
_blobs = st.builds(Blob, st.binary(max_size=9), st.sampled_from(["a/b", "a/c", "text/plain"]))
_values = st.sampled_from([None, b"", b"1", b"null"]) | st.binary(max_size=40) | _blobs


class AgainstModel(RuleBasedStateMachine):
    """An engine and a plain dict of records go through the same calls and must agree after each."""

    name: str

    def __init__(self):
        super().__init__()
        self.opening = opened(self.name)
        self.engine = self.opening.__enter__()
        self.model = {}
        self.now = NOW
        self.given = 100
        """The counter of the last version."""
        self.graves = {}
        """When tombstones were written."""

    def is_live(self, key):
        record = self.model.get(key)
        return record is not None and record.value is not None

    def is_due(self, key):
        return self.is_live(key) and 0 < self.model[key].expires <= self.now

    @rule(
        items=st.dictionaries(_keys, st.tuples(_values, st.sampled_from([0, 0, 1, 30, -5])), max_size=6),
        back=st.sampled_from([0, 0, 0, 1, 2, 40]),
    )
    def write(self, items, back):
        self.given += 1
        version = at(7, self.given - back)
        expires = [life and self.now + life for _, life in items.values()]
        effects = ""
        for (key, (value, _)), end in zip(items.items(), expires, strict=True):
            old = self.model.get(key)
            if old is not None and old.version >= version:
                effects += "k"
                continue
            was_there = self.is_live(key) and not self.is_due(key)
            effects += "r" if was_there else "c" if value is not None else "u"
            self.model[key] = Record(version, value, 0 if value is None else end)
            if value is None:
                self.graves[key] = self.now
        write = Write(version, list(items), [value for value, _ in items.values()], expires, at=self.now)
        assert self.engine.write([write], self.now) == [did(effects)]

    @rule(
        items=st.dictionaries(_keys, st.tuples(_values, st.sampled_from([0, 0, 1, 30, -5]), st.booleans()), max_size=4),
        drops=st.lists(_keys, max_size=3, unique=True),
        back=st.sampled_from([-5, 0, 40]),
    )
    def replace(self, items, drops, back):
        """As a learner does, between two writes of one group."""
        self.given += 1
        records = {}
        for key, (value, life, tagged) in items.items():
            tag = at(3, self.given) if tagged else None
            records[key] = Record(at(7, self.given - back), value, self.now + life if life and value is not None else 0, tag)
        drops = [key for key in drops if key not in records]
        key = next(iter([*records, *drops]), "a")
        before = Write(at(7, self.given + 100), [key], [b"w"])
        self.engine.write([before, Replacement.of(list(records.items()), drops)], self.now)
        if not records and not drops:
            old = self.model.get(key)
            if old is None or old.version < before.version:
                self.model[key] = Record(before.version, b"w")
        self.model |= records
        for key in drops:
            self.model.pop(key, None)
        self.graves |= dict.fromkeys([key for key, record in records.items() if record.value is None], self.now)

    @rule(limit=st.integers(1, 3))
    def buried(self, limit):
        until = self.now - 20
        wanted = sorted((when, key) for key, when in self.graves.items() if key in self.model and not self.is_live(key))
        found, after = [], NOT_BURIED
        while page := self.engine.buried(until, limit, after):
            assert len(page) <= limit
            found += page
            after = page[-1]
        assert sorted(found) == [one for one in wanted if one[0] <= until]
        assert [when for when, _ in found] == sorted(when for when, _ in found)

    @rule(by=st.sampled_from([1, 10, 100]))
    def time_passes(self, by):
        self.now += by

    @rule(limit=st.integers(1, 5))
    def forget(self, limit):
        while self.engine.forget(self.now - 50, limit) == limit:
            pass
        for key in list(self.model):
            if not self.is_live(key) and self.graves[key] + 50 <= self.now:
                del self.model[key]
        assert self.engine.live == sum(map(self.is_live, self.model))

    @rule(limit=st.integers(1, 5))
    def due(self, limit):
        wanted = sorted(self.model[key].expires for key in self.model if self.is_due(key))
        found = self.engine.due(self.now, limit)
        assert [self.model[key].expires for key in found] == wanted[:limit]

    @rule(prefix=st.sampled_from(["", "a", "e", "\0"]), begin=_keys, limit=st.integers(0, 4))
    def listing(self, prefix, begin, limit):
        live = sorted(key for key in self.model if self.is_live(key) and key.startswith(prefix) and key >= begin)
        assert self.engine.keys(prefix, begin, limit) == [(key, self.model[key].expires) for key in live[:limit]]

    @rule(one=_keys, other=_keys, limit=st.integers(1, 4))
    def arcs(self, one, other, limit):
        first, last = sorted((token(one), token(other)))
        wanted = sorted((token(key), key) for key in self.model if first <= token(key) <= last)
        found = self.engine.arc(first, last, None, limit)
        assert [key for key, _ in found] == [key for _, key in wanted[:limit]]

    @invariant()
    def agrees_with_the_model(self):
        keys = list(self.model)
        due = [key for key in keys if self.is_due(key)]
        if due:
            with pytest.raises(Due) as caught:
                self.engine.read([*keys, "never"], self.now)
            assert caught.value.keys == due
        else:
            assert self.engine.read([*keys, "never"], self.now) == [*(record.value for record in self.model.values()), None]
        assert self.engine.records_of(keys) == list(self.model.values())
        assert self.engine.live + self.engine.tombstones == len(keys)
        assert self.engine.check() == []

    def teardown(self):
        self.opening.__exit__(None, None, None)


@pytest.mark.parametrize("name", ENGINES)
def test_engine_any_sequence_of_calls_agrees_with_a_dict(name):
    machine = type("Machine", (AgainstModel,), {"name": name})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=20, stateful_step_count=30, deadline=None, derandomize=True)
    )


def test_check_finds_a_wrong_count():
    engine = open_engine("memory", Path(), "n1", tokens)
    puts(engine, {"a": b"1"}, at(1))
    engine._size += 1
    assert engine.check() == ["the records have 2 bytes, 3 were counted"]
