"""Words of members to each other: what is written is read back, and what no member says is a BadFrame."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.model import Blob, Damage, Record, Version, Write, era_of
from gkv.replication import messages as m
from gkv.wire.ops import (
    Await,
    BadFrame,
    GoOnWith,
    Held,
    Here,
    Large,
    NoRoom,
    PlanMove,
    PutOff,
    Refused,
    Said,
    Status,
    Word,
    read_answer,
    read_request,
)

ERA = era_of(1, 7)
V = Version(ERA, 0xA1)

_numbers = st.integers(0, 2**63 - 1)
_versions = st.builds(Version, st.integers(0, 2**63), st.integers(0, 2**64 - 1))
_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.just("k" * 480)
_texts = st.binary(min_size=1, max_size=24) | st.sampled_from([b"\n", b'{"sizes":[1]}\n'])
_types = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=9)
_values = st.none() | _texts | st.builds(Blob, st.binary(max_size=9), _types)
_times = st.integers(0, 2**63 - 1)
_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,8}", fullmatch=True)
_lists = st.lists(_ids, min_size=1, max_size=4, unique=True).map(tuple)
_pairs = st.tuples(_lists, st.just(()) | _lists)
_eras = st.integers(2**63, 2**64 - 1)
"""None of the records is of a later one."""
_cursors = st.builds(lambda token, key: f"{token:016x}{key}", st.integers(0, 2**64 - 1), st.just("") | _keys)
_records = st.builds(Record, _versions, _values, _times, st.none() | _versions)


@st.composite
def writes(draw):
    keys = draw(st.lists(_keys, min_size=1, max_size=4, unique=True))
    of_each = {"min_size": len(keys), "max_size": len(keys)}
    values = draw(st.lists(_values, **of_each))
    expires, tags = (
        draw(st.just([]) | st.lists(_times, **of_each)),
        draw(st.just([]) | st.lists(st.none() | _versions, **of_each)),
    )
    return Write(draw(_versions), keys, values, expires or (), tags or (), draw(_times))


_pages = st.dictionaries(_keys, _records, max_size=4).map(lambda records: tuple(records.items()))
_ranges = st.lists(st.tuples(st.just("") | _cursors, st.none() | _cursors), max_size=3).map(tuple)
MESSAGES = {
    m.Copy: st.builds(m.Copy, _numbers, st.lists(writes(), max_size=3).map(tuple), st.lists(_versions, max_size=3).map(tuple)),
    m.Copied: st.builds(m.Copied, _numbers, st.lists(_versions, max_size=3).map(tuple)),
    m.Working: st.builds(m.Working, _numbers, st.floats(0, 1e6)),
    m.Full: st.builds(m.Full, _numbers),
    m.AskUnsettled: st.builds(m.AskUnsettled, _numbers),
    m.UnsettledKeys: st.builds(m.UnsettledKeys, _numbers, st.lists(_keys, max_size=4, unique=True).map(tuple)),
    m.AskLease: st.builds(m.AskLease, _numbers),
    m.Granted: st.builds(m.Granted, _numbers),
    m.Hello: st.builds(m.Hello, _numbers),
    m.HelloBack: st.builds(m.HelloBack, _numbers),
    m.AskSums: st.builds(m.AskSums, _numbers, _lists, st.just(()) | _lists, st.just("") | _cursors),
    m.Sums: st.builds(m.Sums, _numbers, st.lists(st.none() | _eras, max_size=9).map(tuple)),
    m.AskPage: st.builds(m.AskPage, _numbers, _lists, st.just(()) | _lists, _ranges, st.lists(_eras, max_size=4).map(tuple)),
    m.Page: st.builds(
        m.Page,
        _numbers,
        _pages,
        st.lists(st.integers(0, 9), max_size=4).map(tuple),
        st.integers(0, 9),
        st.none() | _cursors,
        st.floats(0, 1e6),
        st.lists(_keys, max_size=4, unique=True).map(tuple),
    ),
    m.AskRecord: st.builds(m.AskRecord, _numbers, _keys),
    m.FoundRecord: st.builds(m.FoundRecord, _numbers, st.none() | st.just(Damage.DAMAGED) | _records),
    m.FoundDamaged: st.builds(m.FoundDamaged, _numbers, st.lists(_keys, max_size=4, unique=True).map(tuple)),
    m.Behind: st.builds(m.Behind, _numbers),
}


def test_each_message_has_a_strategy_here():
    assert set(MESSAGES) == set(m.Message.__args__)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=32), _eras, _ids, _eras, st.one_of(*MESSAGES.values()))
def test_word_written_and_read_is_the_same(cluster, era, sender, incarnation, message):
    word = Word(cluster, era, sender, incarnation, message)
    assert read_request(word.write()) == word


@settings(max_examples=300, deadline=None, derandomize=True)
@given(_eras, _ids, _eras, st.none() | st.one_of(*[one for kind, one in MESSAGES.items() if issubclass(kind, m.Reply)]))
def test_answer_to_a_word_written_and_read_is_the_same(era, sender, incarnation, message):
    said = Said(era, sender, incarnation, message)
    assert read_answer(said.write(), Said) == said


@pytest.mark.parametrize("kind", [kind for kind in MESSAGES if not issubclass(kind, m.Reply)])
def test_question_is_no_answer(kind):
    more = {m.AskPage: ((), (), ()), m.AskSums: ((), (), ""), m.AskRecord: ("k",)}
    question = Word("c", ERA, "a", 1, kind(1, *more.get(kind, ())))
    with pytest.raises(BadFrame):
        read_answer(question.write(), Said)


def test_page_without_room_is_not_written():
    said = Said(ERA, "a", 1, m.Page(1, (("k", Record(V, b"123")),), (), 1))
    assert read_answer(said.write(3, most=3), Said) == said
    with pytest.raises(NoRoom):
        said.write(2)
    with pytest.raises(Large):
        said.write(most=2)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    _eras,
    _eras,
    st.integers(1, 2**96),
    st.lists(_pairs, max_size=3),
)
def test_plan_written_and_read_is_the_same(cluster, era, incarnation, number, lists):
    plan = PlanMove(cluster, era, incarnation, number, tuple(lists))
    assert read_request(plan.write()) == plan
    assert read_request(GoOnWith(incarnation, number).write()) == GoOnWith(incarnation, number)
    assert read_answer(Held(number, era).write(), Held) == Held(number, era)


def test_document_is_shown_to_whoever_asks_for_it():
    assert read_request(Status().write()) == Status(False)
    assert read_request(Status(True).write()) == Status(True)
    here = Here(5, "c", (1, 7), "0123456789abcdef", 3, {"epoch": 7})
    assert read_answer(here.write(), Here) == here


# --- refusals ----------------------------------------------------------------------------------------------------------------

COPY = m.Copy(5, (Write(V, ["a", "b"], [b"1", None], [0, 9], [None, V], 7),), (V,))
PAGE = m.Page(5, (("a", Record(V, Blob(b"1", "x/y"), 9, V)), ("b", Record(V, None))), (2, 0), 3, "00000000000000ffb", 0.5)
ASK_PAGE = m.AskPage(1, ("a",), (), (("", "0" * 16),), (7, 1 << 63), ("k", "ключ"))
ASK_SUMS = m.AskSums(1, ("a",), (), "")
SUMS = m.Sums(1, (7, None, 0))


def parts(frame):
    head, _, rest = frame.partition(b"\n")
    return json.loads(head), rest


def edited(message, **fields):
    """Return the frame of a word about a message, with these fields in its line instead; None takes one out of it."""
    header, rest = parts(Word("c", ERA, "a", 1, message).write())
    header |= fields
    return json.dumps({name: value for name, value in header.items() if value is not ...}).encode() + b"\n" + rest


def in_write(**fields):
    header, rest = parts(Word("c", ERA, "a", 1, COPY).write())
    header["writes"][0] |= fields
    header["writes"][0] = {name: value for name, value in header["writes"][0].items() if value is not ...}
    return json.dumps(header).encode() + b"\n" + rest


NO_TEXT = [..., None, 5, [], {}, True]
NO_NUMBER = [..., None, -1, 1 << 63, "5", 5.0, True]
NO_VERSION = [..., None, 5, "", "0", f"{V}"[:-1], f"{V}".upper(), f"{V} "]
NO_ROW = [None, 5, "a", {}, [], ["a"], ["a", "b", "c"]]
BAD = {
    "cluster": [edited(COPY, cluster=one) for one in NO_TEXT],
    "generation": [edited(COPY, generation=one) for one in [*NO_NUMBER, 1 << 16]],
    "epoch": [edited(COPY, epoch=one) for one in [*NO_NUMBER, 1 << 48]],
    "sender": [edited(COPY, sender=one) for one in [*NO_TEXT, "", "a b", "a" * 65, "\u00e9", ".a"]],
    "incarnation": [edited(COPY, incarnation=one) for one in [*NO_TEXT, "", "1", "0" * 15 + "G", "0" * 17, "0" * 15 + "A"]],
    "say": [edited(COPY, say=one) for one in [*NO_TEXT, "", "Copy", "copy ", "word"]],
    "number": [edited(message, number=one) for one in NO_NUMBER for message in (COPY, m.Hello(1), PAGE)],
    "payload": [edited(COPY) + b"1", edited(COPY)[:-1], edited(PAGE) + b"1", edited(m.Hello(1)) + b"1"]
    + [edited(one) + b"1" for one in (m.Copied(1), m.Working(1, 1), m.AskRecord(1, "k"), ASK_PAGE, ASK_SUMS, SUMS)]
    + [edited(one) + b"1" for one in (m.UnsettledKeys(1), m.FoundDamaged(1, ("k",)))],
    "writes": [edited(COPY, writes=one) for one in [*NO_TEXT[:3], {}, "a", [5], [None], [[]], [{}]]],
    "settled": [edited(COPY, settled=one) for one in [..., None, 5, "a", {}, *[[one] for one in NO_VERSION[1:]]]],
    "version of a write": [in_write(version=one) for one in NO_VERSION],
    "time of a write": [in_write(at=one) for one in NO_NUMBER],
    "keys of a write": [in_write(keys=one) for one in [..., *NO_ROW, ["a", "a"], ["a", ""], ["a", 5], ["a", "k" * 481]]]
    + [in_write(keys=["a", "\ud800"]), in_write(keys=["a", "\u00e9" * 241])],
    "sizes of a write": [
        in_write(sizes=one)
        for one in [..., *NO_ROW[:4], [], [1], [1, -2], [1, -3], [2, -1], [0, -1], [1, 0], [True, -1], ["1", -1], [1.0, -1]]
    ],
    "no keys": [in_write(keys=[], sizes=[], expires=..., tags=...)],
    "expires of a write": [in_write(expires=one) for one in [*NO_ROW, [0, -1], [0, 1 << 63], [0, "0"], [0, None], [0, True]]],
    "tags of a write": [in_write(tags=one) for one in [*NO_ROW, *[[None, one] for one in NO_VERSION[2:]]]],
    "types of a write": [
        in_write(types=one) for one in [*NO_ROW, ["a/b", "a/b"], ["", None], ["\n", None], [5, None], ["\u00e9", None]]
    ],
    "versions": [
        edited(m.Copied(1, (V,)), versions=one) for one in [..., None, 5, "a", {}, *[[one] for one in NO_VERSION[1:]]]
    ],
    "seconds": [
        edited(m.Working(1, 1.0), seconds=one) for one in [..., None, "1", -1, -0.5, float("nan"), float("inf"), True, 1 << 40]
    ],
    "unsettled keys": [
        edited(message, keys=one)
        for one in [..., None, 5, "a", {}, [5], [""], ["a", "a"], ["\ud800"]]
        for message in (m.UnsettledKeys(1), m.FoundDamaged(1, ()))
    ],
    "list": [
        edited(asked, list=one)
        for asked in (ASK_PAGE, ASK_SUMS)
        for one in [
            ...,
            None,
            5,
            [],
            [["a"]],
            [["a"], [], []],
            [[], []],
            [["a", "a"], []],
            [["a"], None],
            ["a", []],
            [[""], []],
            [[5], []],
        ]
    ],
    "after": [edited(ASK_SUMS, after=one) for one in [*NO_TEXT, "0", "0" * 15, "0" * 15 + "G", "0" * 16 + "k" * 481]],
    "upto": [edited(one, upto=cursor) for one in (PAGE,) for cursor in ["", "0" * 15, 5, [], "0" * 15 + "Gk"]],
    "ranges": [
        edited(ASK_PAGE, ranges=one)
        for one in [
            ...,
            None,
            5,
            "a",
            {},
            [5],
            [""],
            [["", None, None]],
            [[None, None]],
            [["", ""]],
            [["", "0"]],
            [["0", None]],
        ]
    ],
    "named": [edited(ASK_PAGE, named=one) for one in [..., *NO_ROW[:3], ["a", "a"], [""], [5]]],
    "same": [edited(PAGE, same=one) for one in [..., None, 5, "a", {}, [None], [-1], [1.0], [True], [1 << 20]]],
    "whole": [edited(PAGE, whole=one) for one in [..., None, "1", -1, 1.0, True]],
    "rest": [edited(PAGE, rest=one) for one in [..., None, "1", -1, -0.5, float("nan"), float("inf"), True, 1 << 40]],
    "damaged": [edited(PAGE, damaged=one) for one in [..., *NO_ROW[:3], ["a", "a"], [""], [5]]],
    "unknown sums": [edited(SUMS, unknown=one) for one in [..., None, 5, "a", {}, [None], [-1], [3], [1.0], [True]]],
    "key": [edited(m.AskRecord(1, "k"), key=one) for one in [*NO_TEXT, "", "k" * 481, "\ud800"]],
    "keys of a page": [edited(PAGE, keys=one) for one in [..., *NO_ROW, ["a", "a"], ["a", ""], ["a", 5]]],
    "sizes of a page": [
        edited(PAGE, sizes=one) for one in [..., *NO_ROW[:5], [1], [1, -2], [-2, -1], [1, 0], [0, -1], [True, -1]]
    ],
    "versions of a page": [edited(PAGE, versions=one) for one in [..., *NO_ROW, *[[f"{V}", one] for one in NO_VERSION[1:]]]],
    "expires of a page": [edited(PAGE, expires=one) for one in [..., *NO_ROW, [0, -1], [0, 1 << 63], [0, None], [True, 0]]],
    "tags of a page": [edited(PAGE, tags=one) for one in [*NO_ROW, *[[None, one] for one in NO_VERSION[2:]]]],
    "types of a page": [edited(PAGE, types=one) for one in [*NO_ROW, ["x/y", "x/y"], ["", None], [5, None], ["\u00e9", None]]],
    "a value without a version": [edited(m.FoundRecord(1, Record(V, b"1")), versions=[None])],
    "damage with a version": [edited(m.FoundRecord(1, Damage.DAMAGED), versions=[f"{V}"])],
    "a record of a later era": [
        Word("c", ERA, "a", 1, message).write()
        for later in [Version(ERA + 1, 0), Version(era_of(2, 0), 1)]
        for message in [
            m.Copy(1, (Write(V, ["a"], [b"1"], at=1), Write(later, ["b"], [None], at=1)), ()),
            m.Page(1, (("a", Record(V, b"1")), ("b", Record(later, b"1"))), (), 1),
            m.FoundRecord(1, Record(later, None)),
        ]
    ],
    "two records": [edited(m.FoundRecord(1, None), sizes=[-1, -1], versions=[None, None], expires=[0, 0])],
}


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD.keys())
def test_word_malformed_raises_bad_frame(frames):
    for frame in frames:
        with pytest.raises(BadFrame):
            read_request(frame)


@pytest.mark.parametrize("message", [COPY, PAGE, m.FoundRecord(1, Damage.DAMAGED), ASK_PAGE, ASK_SUMS, SUMS])
def test_word_that_is_edited_for_these_tests_can_be_read_without_an_edit(message):
    assert read_request(edited(message)) == Word("c", ERA, "a", 1, message)


SAID = Said(ERA, "a", 1)
BAD_ANSWERS = [
    (Said(ERA, "a", 1, m.Page(1, (("a", Record(Version(ERA + 1, 0), b"1")),), (), 1)).write(), Said),
    (b'{"sender":"a","incarnation":"0000000000000001","generation":1}\n', Said),
    (b'{"sender":"a","incarnation":"0000000000000001","generation":1,"epoch":281474976710656}\n', Said),
    (b'{"sender":"a","generation":1,"epoch":7}\n', Said),
    (b'{"incarnation":"0000000000000001","generation":1,"epoch":7}\n', Said),
    (SAID.write() + b"1", Said),
    (SAID.write().replace(b"}", b',"say":null}'), Said),
    (b'{"generation":1,"epoch":7}\n', Held),
    (b'{"held":5,"generation":1,"epoch":7}\n', Held),
    (b'{"held":"05","generation":1,"epoch":7}\n', Held),
    (b'{"held":"5","generation":1}\n', Held),
    (Held(5, ERA).write() + b"1", Held),
]


@pytest.mark.parametrize(("frame", "kind"), BAD_ANSWERS)
def test_answer_malformed_raises_bad_frame(frame, kind):
    with pytest.raises(BadFrame):
        read_answer(frame, kind)


def test_refusal_is_an_answer_to_a_word():
    assert isinstance(read_answer(b'{"refused":"stale"}\n', Said), Refused)


PLAN = parts(PlanMove("c", ERA, 1, 5, ((("a",), ("b",)),)).write())[0]
BAD_PLANS = {
    "plan": [5, None, "", "0", "05", "G", "1" * 33, " 5"],
    "incarnation": [1, None, "1"],
    "lists": [None, 5, {}, [["a"]], [[["a"]]], [[[], []]]],
    "epoch": [None, -1, "7"],
    "cluster": [None, 5],
}


@pytest.mark.parametrize(("name", "values"), BAD_PLANS.items())
def test_plan_malformed_raises_bad_frame(name, values):
    for value in values:
        for header in (PLAN, {"op": "go-on", "incarnation": PLAN["incarnation"], "plan": PLAN["plan"]}):
            if name in header:
                with pytest.raises(BadFrame):
                    read_request(json.dumps(header | {name: value}).encode() + b"\n")


@pytest.mark.parametrize(
    "frame",
    [json.dumps(PLAN).encode() + b"\n1", GoOnWith(1, 5).write() + b"1", Status(True).write() + b"1", Await(1).write() + b"1"],
)
def test_request_of_the_authority_with_a_payload_raises_bad_frame(frame):
    with pytest.raises(BadFrame):
        read_request(frame)


@pytest.mark.parametrize("ticket", [None, 7, "", "7", "000000000000000G", "0" * 17])
def test_ticket_malformed_raises_bad_frame(ticket):
    with pytest.raises(BadFrame):
        read_request(json.dumps({"op": "await", "ticket": ticket}).encode() + b"\n")
    with pytest.raises(BadFrame):
        read_answer(json.dumps({"putOff": ticket}).encode() + b"\n", PutOff)


@pytest.mark.parametrize("show", [None, 1, "true", []])
def test_status_that_shows_something_else_raises_bad_frame(show):
    with pytest.raises(BadFrame):
        read_request(json.dumps({"op": "status", "show": show}).encode() + b"\n")
