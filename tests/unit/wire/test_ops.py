"""Frames: what is written is read back, and what is no frame raises BadFrame and nothing else."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.model import Blob, Damage, Effect, NodeRefusal, Op, Record, Version, Write, era_of
from gkv.replication.messages import Copied, Copy
from gkv.wire.ops import (
    Add,
    Adopt,
    Await,
    BadFrame,
    CallAt,
    Delete,
    Effects,
    Fetch,
    FetchItems,
    Get,
    GoOnWith,
    Held,
    Here,
    ItemRow,
    ItemRows,
    ListKeys,
    NoRoom,
    Page,
    Peek,
    PlanMove,
    Put,
    PutOff,
    Records,
    Refused,
    Said,
    Set,
    Status,
    Touch,
    Values,
    Word,
    key_request,
    read_answer,
    read_request,
)  # fmt: skip
from gkv.wire.shown import show

SEED = 7230

_key = st.text(min_size=1, max_size=12)
_keys = st.lists(_key, max_size=6)
_values = st.binary(min_size=1, max_size=24) | st.sampled_from([b"\n", b"\0", b'{"sizes":[1]}\n', b"\n\n\xff"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(0, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_documents = st.dictionaries(st.text(max_size=8), _json, max_size=5)
_common = {"cluster": st.text(max_size=32), "era": st.integers(0, 2**64 - 1)}
_pairs = st.lists(st.tuples(_key, _values), max_size=6)
_blobs = st.builds(Blob, st.binary(max_size=9), st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
_mixed = st.lists(st.tuples(_key, _values | _blobs), max_size=6)
_versions = st.builds(Version, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
_times = st.integers(0, 2**63 - 1)
_ttls = st.integers(0, 3_162_240_000_000)
_deltas = st.integers(1 - 10**18, 10**18 - 1)
_conditions = st.none() | st.text(max_size=9)
_limits = st.integers(1, 2**63 - 1)

VERSION = Version(0x0191F3C2A5B7_0003, 0xA1)
V = b'"generation":1'
ERA = era_of(1, 7)


@st.composite
def requests(draw):
    """Draw a request of any kind."""
    op = draw(st.sampled_from([op for op in Op if op not in (Op.WORD, Op.PLAN, Op.GO_ON)]))  # they have a file of their own
    if op is Op.STATUS:
        return Status()
    if op is Op.ADOPT:
        return Adopt(draw(_documents))
    if op is Op.CALL_AT:
        return CallAt(draw(st.text(max_size=12)), draw(st.sampled_from(["http://n1.example:8080", "https://[::1]:1"])))
    common = {name: draw(values) for name, values in _common.items()}
    if op is Op.KEYS:
        return ListKeys(
            prefix=draw(st.text(max_size=12)),
            begin=draw(st.text(max_size=12)),
            limit=draw(_limits),
            delimiter=draw(st.text(max_size=2)),
            **common,
        )
    if op in (Op.GET, Op.FETCH, Op.PEEK):
        return {Op.GET: Get, Op.FETCH: Fetch, Op.PEEK: Peek}[op](keys=draw(_keys), **common)
    if op is Op.DELETE:
        keys = draw(_keys)
        return Delete(keys=keys, conditions=draw(_columns(_conditions, keys)), **common)
    if op is Op.ADD:
        keys = draw(_keys)
        return Add(keys=keys, deltas=[draw(_deltas) for _ in keys], ttls=draw(_columns(_ttls, keys)), **common)
    if op is Op.TOUCH:
        keys = draw(_keys)
        return Touch(keys=keys, ttls=[draw(_ttls) for _ in keys], **common)
    pairs = draw(_pairs | _mixed)
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    ttls, conditions = draw(_columns(_ttls, keys)), draw(_columns(_conditions, keys))
    return (Set if op is Op.SET else Put)(keys=keys, values=values, ttls=ttls, conditions=conditions, **common)


def _columns(values, keys):
    """Draw nothing, or a value for each key."""
    return (st.just(()) | st.lists(values, min_size=len(keys), max_size=len(keys))).map(lambda column: column or ())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(requests())
def test_request_written_and_read_is_the_same(request_):
    assert read_request(request_.write()) == request_


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.none() | st.just(Damage.DAMAGED) | _values, min_size=1, max_size=8))
def test_reply_with_values_written_and_read_is_the_same(values):
    reply = Values(values)
    assert read_answer(reply.write(), Values, len(values)) == reply


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(Effect)), st.none() | _versions, st.data(), st.lists(_deltas, max_size=3))
def test_effects_written_and_read_are_the_same(effects, version, data, sums):
    failed = effects.count(Effect.CONDITION)
    present = data.draw(st.lists(st.none() | _versions, min_size=failed, max_size=failed))
    full = ["n1", "n2"] * effects.count(Effect.FULL_COPY)
    full = full[: len(full) // 2]
    found = read_answer(Effects.of(effects, version, present, sums, full).write(), Effects, len(effects))
    assert (list(found), len(found), found.version) == (effects, len(effects), version)
    assert (list(found.present), list(found.sums), list(found.full)) == (present, sums, full)
    assert all(found.count(effect) == effects.count(effect) for effect in Effect)


@given(st.integers(0, 2**63 - 1))
def test_count_of_records_written_and_read_is_the_same(count):
    assert read_answer(Here(count).write(), Here) == Here(count)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(_keys)
def test_reply_with_keys_written_and_read_is_the_same(keys):
    assert read_answer(Page(keys).write(), Page) == Page(keys)


_records = st.builds(Record, _versions, st.none() | _values | _blobs, _times)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.none() | st.just(Damage.DAMAGED) | _records, max_size=6))
def test_reply_with_records_written_and_read_is_the_same(records):
    assert read_answer(Records(records).write(), Records, len(records)) == Records(records)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.none() | st.just(Damage.DAMAGED) | _values | _records, max_size=6), _times)
def test_reply_with_items_tells_what_stands_beside_a_value_only_where_there_is_any(rows, now):
    def told(row):
        if not isinstance(row, Record) or row.value is None:
            return None if isinstance(row, Record) else row
        return ItemRow(row.value, row.expires) if row.expires or isinstance(row.value, Blob) else row.value

    read = read_answer(ItemRows(rows, now).write(), ItemRows, len(rows))
    assert read == ItemRows([told(row) for row in rows], now)
    assert read_answer(read.write(), ItemRows, len(rows)) == read


@pytest.mark.parametrize(
    "header",
    [
        '{"sizes":[1,-1]}',
        '{"now":-1,"sizes":[1,-1]}',
        '{"now":1,"sizes":[1]}',
        '{"now":1,"sizes":[1,0]}',
        '{"now":1,"sizes":[1,-1],"expires":[5]}',
        '{"now":1,"sizes":[1,-1],"expires":{"1":5}}',
        '{"now":1,"sizes":[1,-1],"expires":{"2":5}}',
        '{"now":1,"sizes":[1,-1],"expires":{"-1":5}}',
        '{"now":1,"sizes":[1,-1],"expires":{"00":5}}',
        '{"now":1,"sizes":[1,-1],"expires":{"0":true}}',
        '{"now":1,"sizes":[1,-1],"types":{"0":7}}',
        '{"now":1,"sizes":[1,-1],"types":{"0":"\\n"}}',
        '{"now":1,"sizes":[1,-1],"types":{"9999999999":"a/b"}}',
    ],
)
def test_reply_with_items_that_is_odd_is_none(header):
    with pytest.raises(BadFrame):
        read_answer(header.encode() + b"\n1", ItemRows, 2)


def test_reply_shows_a_blob_as_base64_among_values():
    values = [b"1", Blob(b"\xff\0", "a/b"), None, Blob(b"", "a/b"), Damage.DAMAGED]
    reply = read_answer(Values(values).write(), Values, 5)
    assert reply.values == [b"1", b'"/wA=","encoding":"base64"', None, b'"","encoding":"base64"', Damage.DAMAGED]


def test_set_says_types_only_when_there_are_any():
    request = Set("c", era_of(1, 1), ["a", "b"], [b"1", b"2"])
    assert b"types" not in request.write()
    request.values = [b"1", Blob(b"", "a/b")]
    assert b'"types":[null,"a/b"],"sizes":[1,0]}\n1' in request.write()


BAD_TYPES = [
    (b'"types":["a/b"],"sizes":[1,1]', b"xy"),
    (b'"types":"ab","sizes":[1,1]', b"xy"),
    (b'"types":["a/b","a\\nb"],"sizes":[1,1]', b"xy"),
    (b'"types":["a/b","\xc3\xa9"],"sizes":[1,1]', b"xy"),
    (b'"types":["a/b",""],"sizes":[1,1]', b"xy"),
    (b'"types":["a/b",1],"sizes":[1,1]', b"xy"),
    (b'"types":["a/b",null],"sizes":[1,0]', b"x"),
    (b'"types":["a/b",null],"sizes":[1,-1]', b"x"),
    (b'"types":["a/b","a/b"],"sizes":[1,-2]', b"x"),
]


@pytest.mark.parametrize(("members", "payload"), BAD_TYPES)
def test_set_with_types_that_cannot_be_is_refused(members, payload):
    with pytest.raises(BadFrame):
        read_request(b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a","b"],%b}\n%b' % (V, members, payload))


@pytest.mark.parametrize("op", ["get", "fetch", "delete"])
def test_types_with_anything_but_a_set_are_refused(op):
    with pytest.raises(BadFrame):
        read_request(b'{"op":"%b","cluster":"c","epoch":1,%b,"keys":["a"],"types":[null]}\n' % (op.encode(), V))


ROW = f'{{"versions":["{VERSION}"],"expires":[0],"types":[null],"sizes":[1]}}\n1'


@pytest.mark.parametrize(
    "frame",
    [
        ROW.replace("0191", "019G"),
        ROW.replace(f'"{VERSION}"', "null"),
        ROW.replace(f'"{VERSION}"', "7"),
        ROW.replace('"expires":[0]', '"expires":[-1]'),
        ROW.replace('"expires":[0]', '"expires":[0,0]'),
        ROW.replace('"expires":[0],', ""),
        ROW.replace("null", "7"),
        ROW.replace("null", '"a\\nb"'),
        ROW.replace("[1]", "[2]"),
        ROW.replace("[1]", "[]"),
        ROW.replace("[1]", "[]").removesuffix("1"),
        ROW.replace("[1]", "[1,1]") + "1",
        ROW.replace("[1]", "[true]"),
        ROW + "x",
        '{"sizes":[1]}\n1',
        '{"count":1}\n',
    ],
)
def test_answer_to_a_fetch_that_cannot_be_is_refused(frame):
    with pytest.raises(BadFrame):
        read_answer(frame.encode(), Records, 1)


def test_answer_to_a_fetch_may_be_a_refusal():
    assert read_answer(ROW.encode(), Records, 1).records == [Record(VERSION, b"1")]
    assert read_answer(b'{"refused":"stale","document":null}\n', Records, 1) == Refused(NodeRefusal.STALE)


def test_reply_to_a_write_says_its_version_and_null_when_nothing_was_written():
    assert Effects("cr", VERSION).write() == b'{"version":"0191f3c2a5b7000300000000000000a1","effects":"cr"}\n'
    assert Effects("").write() == b'{"version":null,"effects":""}\n'


def test_reply_with_a_damaged_value_has_its_size_minus_2_and_no_bytes_of_it():
    assert Values([b"1", Damage.DAMAGED, None, b"23"]).write() == b'{"sizes":[1,-2,-1,2]}\n123'


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(NodeRefusal), st.none() | _documents, st.text(max_size=40))
def test_refusal_written_and_read_is_the_same(reason, document, detail):
    refused = Refused(reason, document, detail)
    assert read_answer(refused.write(), Values, 1) == refused


def test_answer_whose_values_have_no_room_is_not_written():
    version = Version(1, 1)
    answers = [Values([b"12", b"3"]), Values([Blob(b"1", "a"), None]), Records([Record(version, b"123"), None])]
    for answer in [*answers, ItemRows([b"123", None], 1)]:
        assert answer.write(3)
        with pytest.raises(NoRoom):
            answer.write(2)


@pytest.mark.parametrize(("count", "pauses"), [(2, False), (1_000, True)])
def test_many_long_keys_are_read_and_written_with_pauses(count, pauses):
    keys = [f"{i}{odd * 60}" for i, odd in zip(range(count), ["\x01\x02\x03\x04\x05"] * count, strict=True)]
    paused = []
    get = Get("c", 1, keys)
    assert read_request(get.write(), lambda: paused.append("request")) == get
    page = Page(keys)
    assert read_answer(page.write(pause=lambda: paused.append("write")), Page, 0, lambda: paused.append("answer")) == page
    assert set(paused) == ({"request", "write", "answer"} if pauses else set())


_odd_lines = [
    b'{"op":"get","cluster":"c","epoch":1,"keys":[%b]}\n',
    b'{"op":"get","cluster":"c","epoch":1,"keys":["a", %b]}\n',
    b'{"op":"get","cluster":"c","keys":[%b],"epoch":1}\n',
    b'{"op":"get","x\\"keys":["a"],"cluster":"c","epoch":1,"keys":[%b]}\n',
    b'{"op":"get","x":{"keys":["a","b"]},"cluster":"c","epoch":1,"keys":[%b]}\n',
    b'{"op":"get","cluster":"c","epoch":1,"keys":[%b,1]}\n',
    b'{"op":"get","cluster":"c","epoch":1,"keys":[%b1]}\n',
    b'{"op":"get","cluster":"c","epoch":1,"keys":[%b,]}\n',
    b'{"op":"get","cluster":"c","epoch":1,"keys":[%b}\n',
    b'{"op":"get","cluster":"c","epoch":1,"keys":[%b\n',
    b'{"op":"get","cluster":"c","epoch":1,"keys":[%b,"\n',
    b'[{"keys":[%b]}]\n',
]


@pytest.mark.parametrize("form", _odd_lines)
def test_a_long_line_is_read_as_a_short_one(form):
    """What is said of keys that stand between others is the same, whether the line is read at once or in steps."""
    some = [rb'"a\""', rb'"\\"', rb'"\\\",\""', rb'"\","', '"\u00e9]}"'.encode(), b'""', rb'"\u0001\ud83d\ude00"']

    def read(repeat):
        try:
            return read_request(form % b",".join(some * repeat))
        except BadFrame:
            return None

    short, long = read(1), read(8_000)
    assert (short is None) == (long is None)
    if short is not None:
        before = len(short.keys) - len(some)
        assert long.keys == short.keys[:before] + short.keys[before:] * 8_000
        assert (long.cluster, long.epoch) == (short.cluster, short.epoch)


@pytest.mark.parametrize(("size", "pauses"), [(100, False), (1 << 20, True)])
@pytest.mark.parametrize("blobs", [False, True])
def test_large_values_are_read_and_written_with_pauses(size, pauses, blobs):
    values = [b"%d" % i * size for i in range(4)]
    paused = []
    sent = [Blob(value, "a/b") for value in values] if blobs else values
    set_ = Set("5f1c", ERA, ["a", "b", "c", "d"], sent)
    assert read_request(set_.write(), lambda: paused.append("request")) == set_
    frame = Values(sent).write(pause=lambda: paused.append("write"))
    answer = read_answer(frame, Values, 4, lambda: paused.append("answer"))
    assert answer.values == [show(blob) for blob in sent] if blobs else values
    assert set(paused) == ({"request", "write", "answer"} if pauses else {"write"} if blobs else set())


def test_request_for_a_set_has_its_values_behind_the_line_as_they_are():
    request_ = Set("5f1c", ERA, ["hi", "\u00e9\n"], [b'"hello"', b"\n\0"])
    frame = request_.write()
    assert frame == (
        b'{"op":"set","cluster":"5f1c","generation":1,"epoch":7,'
        + '"keys":["hi","\u00e9\\n"],"sizes":[7,2]}\n"hello"'.encode()
        + b"\n\0"
    )
    assert read_request(frame) == request_


def test_request_for_a_set_that_expires_says_when_behind_its_keys():
    request_ = Set("5f1c", ERA, ["a", "b"], [b"1", b"2"], [0, 1_700_000_000_000])
    frame = request_.write()
    assert frame == (
        b'{"op":"set","cluster":"5f1c","generation":1,"epoch":7,"keys":["a","b"],"ttls":[0,1700000000000],"sizes":[1,1]}\n12'
    )
    assert read_request(frame) == request_


def test_request_for_names_says_the_delimiter_where_there_is_one():
    request_ = ListKeys("5f1c", ERA, "a/", "a/b", 100, "/")
    assert b'"begin":"a/b","limit":100,"delimiter":"/"}' in request_.write()
    assert read_request(request_.write()) == request_


@pytest.mark.parametrize("keys", [[], ["a"], [f"{number:0500}" for number in range(500)]], ids=len)
@pytest.mark.parametrize("end", [None, "a\0", "\U0001f600"])
def test_page_says_the_place_that_it_has_reached(keys, end):
    page = Page(keys, end)
    assert read_answer(page.write(), Page) == page


@pytest.mark.parametrize("end", [b"1", b"false", b'"\\ud800"', b"[]"])
def test_page_with_an_end_that_is_none_is_refused(end):
    with pytest.raises(BadFrame):
        read_answer(b'{"end":%b,"keys":["a"]}\n' % end, Page)


def test_request_for_keys_says_prefix_place_and_limit():
    request_ = ListKeys("5f1c", ERA, "a/", "a/\u00e9", 100)
    frame = request_.write()
    assert (
        frame
        == '{"op":"keys","cluster":"5f1c","generation":1,"epoch":7,"prefix":"a/","begin":"a/\u00e9","limit":100}\n'.encode()
    )
    assert read_request(frame) == request_


def test_reply_with_an_empty_value_is_refused_as_no_json_text_is_empty():
    frame = Values([None, b"", b"\n\n", None]).write()
    with pytest.raises(BadFrame, match="above 0"):
        read_answer(frame, Values, 4)


BAD_REQUESTS = {
    "empty": b"",
    "no newline": b'{"op":"status"}',
    "newline alone": b"\n",
    "newline first": b'\n{"op":"status"}\n',
    "not JSON": b"status\n",
    "two values": b'{"op":"status"} 1\n',
    "newline within the line": b'{"op":\n"status"}\n',
    "an array": b'["status"]\n',
    "a number": b"1\n",
    "null": b"null\n",
    "a string": b'"status"\n',
    "not UTF-8": b'{"op":"\xff"}\n',
    "100,000 open brackets": b"[" * 100_000 + b"\n",
    "100,000 open objects": b'{"a":' * 100_000 + b"\n",
    "integer of 6,000 digits": b'{"op":' + b"1" * 6_000 + b"}\n",
    "no op": b"{}\n",
    "unknown op": b'{"op":"drop"}\n',
    "op null": b'{"op":null}\n',
    "op an array": b'{"op":["get"]}\n',
    "op an object": b'{"op":{"get":1}}\n',
    "op in capitals": b'{"op":"GET"}\n',
    "adopt without a document": b'{"op":"adopt"}\n',
    "adopt null": b'{"op":"adopt","document":null}\n',
    "adopt an array": b'{"op":"adopt","document":[]}\n',
    **{
        f"{op} of a key of {len(key.encode())} bytes": b'{"op":"%b","cluster":"c","epoch":1,%b,"keys":["ok","%b"],%b'
        % (op.encode(), V, key.encode(), rest)
        for op, rest in {
            "set": b'"sizes":[1,1]}\n12',
            "put": b'"sizes":[1,1]}\n12',
            "delete": b'"if":["=*","=*"]}\n',
            "add": b'"deltas":[1,1]}\n',
            "touch": b'"ttls":[1,1]}\n',
        }.items()
        for key in ("", "k" * 481, "\u20ac" * 161)
    },
    "get without anything": b'{"op":"get"}\n',
    "no cluster": b'{"op":"get","generation":1,"epoch":1,"keys":[]}\n',
    "cluster a number": b'{"op":"get","cluster":1,"generation":1,"epoch":1,"keys":[]}\n',
    "cluster null": b'{"op":"get","cluster":null,"generation":1,"epoch":1,"keys":[]}\n',
    "no epoch": b'{"op":"get","cluster":"c","generation":1,"keys":[]}\n',
    "no generation": b'{"op":"get","cluster":"c","epoch":1,"keys":[]}\n',
    "generation a string": b'{"op":"get","cluster":"c","generation":"1","epoch":1,"keys":[]}\n',
    "generation of 17 bits": b'{"op":"get","cluster":"c","generation":65536,"epoch":1,"keys":[]}\n',
    "epoch of 49 bits": b'{"op":"get","cluster":"c","generation":1,"epoch":281474976710656,"keys":[]}\n',
    "epoch below 0": b'{"op":"get","cluster":"c","generation":1,"epoch":-1,"keys":[]}\n',
    "epoch a string": b'{"op":"get","cluster":"c","generation":1,"epoch":"1","keys":[]}\n',
    "epoch a boolean": b'{"op":"get","cluster":"c","generation":1,"epoch":true,"keys":[]}\n',
    "epoch a float": b'{"op":"get","cluster":"c","generation":1,"epoch":1.0,"keys":[]}\n',
    "no keys": b'{"op":"get","cluster":"c","generation":1,"epoch":1}\n',
    "keys a string": b'{"op":"get","cluster":"c","generation":1,"epoch":1,"keys":"ab"}\n',
    "keys an object": b'{"op":"get","cluster":"c","generation":1,"epoch":1,"keys":{"a":1}}\n',
    "key a number": b'{"op":"get","cluster":"c","generation":1,"epoch":1,"keys":["a",1]}\n',
    "key null": b'{"op":"delete","cluster":"c","epoch":1,%b,"keys":[null]}\n' % V,
    "get with a value": b'{"op":"get","cluster":"c","generation":1,"epoch":1,"keys":["a"],"sizes":[1]}\n1',
    "get with an empty value": b'{"op":"get","cluster":"c","generation":1,"epoch":1,"keys":["a"],"sizes":[0]}\n',
    "get with bytes behind": b'{"op":"get","cluster":"c","generation":1,"epoch":1,"keys":["a"]}\n1',
    "delete with a value": b'{"op":"delete","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[1]}\n1' % V,
    "set without sizes": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"]}\n1' % V,
    "sizes null": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":null}\n1' % V,
    "sizes a number": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":1}\n1' % V,
    "size a string": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":["1"]}\n1' % V,
    "size a boolean": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[true]}\n1' % V,
    "size a float": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[1.0]}\n1' % V,
    "size below -1": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a","b"],"sizes":[-2,3]}\n1' % V,
    "size of 30 digits": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[%b]}\n1' % (V, b"9" * 30),
    "set with a missing value": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[-1]}\n' % V,
    "a byte too many": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[1]}\n12' % V,
    "a byte too few": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[2]}\n1' % V,
    "fewer values than keys": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a","b"],"sizes":[1]}\n1' % V,
    "more values than keys": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[1,1]}\n12' % V,
    "more sizes than keys": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[1,-1]}\n1' % V,
    "set with a damaged value": b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a"],"sizes":[-2]}\n' % V,
    **{
        f"ttls {expires.decode()}": b'{"op":"set","cluster":"","epoch":1,%b,"keys":["a","b"],"ttls":%b,"sizes":[1,1]}\n12'
        % (V, expires)
        for expires in (
            *(b"null", b"0", b"false", b'""', b"{}", b"1", b'"12"', b"[]", b"[1]", b"[1,2,3]", b"[1,-1]", b"[1,2.0]"),
            *(b"[1,true]", b'[1,"2"]', b"[1,null]", b"[1,9223372036854775808]", b"[1,[2]]"),
        )
    },
    **{
        f"if {conditions.decode()}": b'{"op":"set","cluster":"","epoch":1,%b,"keys":["a","b"],"if":%b,"sizes":[1,1]}\n12'
        % (V, conditions)
        for conditions in (
            b"null",
            b"{}",
            b'"=*"',
            b"[]",
            b'["=*"]',
            b'["=*",null,null]',
            b"[1,null]",
            b'[["=*"],null]',
            b"[true,null]",
        )
    },
    **{
        f"add with {members.decode()}": b'{"op":"add","cluster":"c","epoch":1,%b,"keys":["a"],%b}\n' % (V, members)
        for members in (
            *(
                b'"x":1',
                b'"deltas":[]',
                b'"deltas":[1,2]',
                b'"deltas":1',
                b'"deltas":["1"]',
                b'"deltas":[1.0]',
                b'"deltas":[true]',
            ),
            *(
                b'"deltas":[1000000000000000000]',
                b'"deltas":[-1000000000000000000]',
                b'"deltas":[1],"sizes":[1]',
                b'"deltas":[1],"ttls":[-1]',
            ),
        )
    },
    "add with bytes behind": b'{"op":"add","cluster":"c","epoch":1,%b,"keys":["a"],"deltas":[1]}\nx' % V,
    "touch without ttls": b'{"op":"touch","cluster":"c","epoch":1,%b,"keys":["a"]}\n' % V,
    "touch with bytes behind": b'{"op":"touch","cluster":"c","epoch":1,%b,"keys":["a"],"ttls":[1]}\nx' % V,
    "touch with a value": b'{"op":"touch","cluster":"c","epoch":1,%b,"keys":["a"],"ttls":[1],"sizes":[1]}\n1' % V,
    "get with ttls": b'{"op":"get","cluster":"c","generation":1,"epoch":1,"keys":["a"],"ttls":[1]}\n',
    "delete with ttls": b'{"op":"delete","cluster":"c","epoch":1,%b,"keys":["a"],"ttls":[1]}\n' % V,
    **{
        f"keys with {name}": b'{"op":"keys",%b}\n' % members
        for name, members in {
            "nothing": b'"x":1',
            "no cluster": b'"generation":1,"epoch":1,"prefix":"","begin":"","limit":1',
            "cluster a number": b'"cluster":1,"generation":1,"epoch":1,"prefix":"","begin":"","limit":1',
            "epoch a boolean": b'"cluster":"c","generation":1,"epoch":true,"prefix":"","begin":"","limit":1',
            "no prefix": b'"cluster":"c","generation":1,"epoch":1,"begin":"","limit":1',
            "prefix null": b'"cluster":"c","generation":1,"epoch":1,"prefix":null,"begin":"","limit":1',
            "a lone surrogate in the prefix": b'"cluster":"c","generation":1,"epoch":1,"prefix":"\\ud800","begin":"","limit":1',
            "no begin": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","limit":1',
            "begin a number": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","begin":1,"limit":1',
            "a lone surrogate in begin": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","begin":"\\udc00","limit":1',
            "delimiter null": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","begin":"","limit":1,"delimiter":null',
            "no limit": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","begin":""',
            "limit 0": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","begin":"","limit":0',
            "limit -1": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","begin":"","limit":-1',
            "limit true": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","begin":"","limit":true',
            "limit 1.0": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","begin":"","limit":1.0',
            "limit a string": b'"cluster":"c","generation":1,"epoch":1,"prefix":"","begin":"","limit":"1"',
        }.items()
    },
    "keys with bytes behind": b'{"op":"keys","cluster":"c","generation":1,"epoch":1,"prefix":"","begin":"","limit":1}\nx',
}


def test_read_request_what_the_malformed_ones_differ_from_is_read():
    assert read_request(b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a","b"],"ttls":[1,0],"sizes":[1,1]}\n12' % V) == Set(
        "c", era_of(1, 1), ["a", "b"], [b"1", b"2"], [1, 0]
    )
    assert read_request(b'{"op":"delete","cluster":"c","epoch":1,%b,"keys":["a"]}\n' % V) == Delete("c", era_of(1, 1), ["a"])
    assert read_request(b'{"op":"keys","cluster":"c","generation":1,"epoch":1,"prefix":"","begin":"","limit":1}\n') == ListKeys(
        "c", era_of(1, 1), "", "", 1
    )


@pytest.mark.parametrize("key", ["k", "k" * 480, "\u20ac" * 160])
def test_every_key_that_a_record_can_have_is_read(key):
    assert read_request(Delete("c", era_of(1, 1), [key]).write()).keys == [key]


@pytest.mark.parametrize("frame", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_read_request_malformed_raises_bad_frame(frame):
    with pytest.raises(BadFrame):
        read_request(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a","\\ud800"],"sizes":[1,1]}\n12' % V,
        b'{"op":"get","cluster":"c","generation":1,"epoch":1,"keys":["\\udfff"]}\n',
        b'{"op":"delete","cluster":"\\ud800","epoch":1,%b,"keys":[]}\n' % V,
    ],
    ids=["set", "get", "cluster"],
)
def test_read_request_text_with_a_lone_surrogate_raises_bad_frame(frame):
    with pytest.raises(BadFrame):
        read_request(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"op":"status"}\nx',
        b'{"op":"adopt","document":{}}\nx',
        b'{"op":"get","cluster":"c","generation":1,"epoch":1,"keys":["a"],"sizes":[-1,-1]}\n',
    ],
    ids=["status with a payload", "adopt with a payload", "get with sizes"],
)
def test_read_request_with_more_than_its_op_takes_raises_bad_frame(frame):
    with pytest.raises(BadFrame):
        read_request(frame)


BAD_ANSWERS = {
    "empty": (b"", Here, 0),
    "no newline": (b'{"count":1}', Here, 0),
    "not JSON": (b"<html>\n", Here, 0),
    "an array": (b"[1]\n", Here, 0),
    "neither count nor refused": (b"{}\n", Here, 0),
    "count a string": (b'{"count":"1"}\n', Here, 0),
    "count a boolean": (b'{"count":true}\n', Here, 0),
    "count a float": (b'{"count":1.0}\n', Here, 0),
    "count null": (b'{"count":null}\n', Here, 0),
    "count negative": (b'{"count":-1}\n', Here, 0),
    "count with bytes behind": (b'{"count":1}\nx', Here, 0),
    "sizes where a count belongs": (b'{"sizes":[1]}\n1', Here, 0),
    "document a string": (b'{"refused":"stale","document":"x"}\n', Here, 0),
    "document an array": (b'{"refused":"stale","document":[]}\n', Here, 0),
    "detail a number": (b'{"refused":"stale","document":null,"detail":1}\n', Here, 0),
    "refusal with bytes behind": (b'{"refused":"stale","document":null}\nx', Here, 0),
    "no refusal where one belongs": (b'{"count":1}\n', Refused, 0),
    "a count where sizes belong": (b'{"count":1}\n', Values, 1),
    "fewer values than keys": (b'{"sizes":[1]}\n1', Values, 2),
    "more values than keys": (b'{"sizes":[1,-1]}\n1', Values, 1),
    "no value for a key": (b'{"sizes":[]}\n', Values, 1),
    "sizes null": (b'{"sizes":null}\n', Values, 1),
    "size a boolean": (b'{"sizes":[true]}\n1', Values, 1),
    "size a float": (b'{"sizes":[1.0]}\n1', Values, 1),
    "size below -2": (b'{"sizes":[-3]}\n', Values, 1),
    "size below -2 that adds up": (b'{"sizes":[4,-3]}\n1', Values, 2),
    "a damaged value with bytes": (b'{"sizes":[-2]}\n1', Values, 1),
    "a byte too many": (b'{"sizes":[1]}\n12', Values, 1),
    "a byte too few": (b'{"sizes":[2]}\n1', Values, 1),
    "a missing value with bytes": (b'{"sizes":[-1]}\n1', Values, 1),
    "size of 30 digits": (b'{"sizes":[' + b"9" * 30 + b"]}\n1", Values, 1),
    "a listing for a get": (b'{"keys":["a"]}\n', Values, 1),
    "keys null": (b'{"keys":null}\n', Page, 0),
    "keys a string": (b'{"keys":"ab"}\n', Page, 0),
    "keys an object": (b'{"keys":{"a":1}}\n', Page, 0),
    "key a number": (b'{"keys":["a",1]}\n', Page, 0),
    "key null": (b'{"keys":[null]}\n', Page, 0),
    "key a list": (b'{"keys":[["a"]]}\n', Page, 0),
    "key with a lone surrogate": (b'{"keys":["a","\\ud800"]}\n', Page, 0),
    "keys with bytes behind": (b'{"keys":["a"]}\nx', Page, 0),
    "effects of fewer keys": (b'{"effects":"c"}\n', Effects, 2),
    "effects of more keys": (b'{"effects":"cr"}\n', Effects, 1),
    "effects of no keys": (b'{"effects":""}\n', Effects, 1),
    "effects with a letter that nobody knows": (b'{"effects":"cxr"}\n', Effects, 3),
    "effects with a capital": (b'{"effects":"C"}\n', Effects, 1),
    "effects with a blank": (b'{"effects":"c "}\n', Effects, 2),
    "effects an array": (b'{"effects":["c"]}\n', Effects, 1),
    "effects null": (b'{"effects":null}\n', Effects, 1),
    "effects a number": (b'{"effects":1}\n', Effects, 1),
    "a count where effects belong": (b'{"count":1}\n', Effects, 1),
    "effects with bytes behind": (b'{"effects":"c"}\nx', Effects, 1),
    "present missing": (b'{"version":null,"effects":"x"}\n', Effects, 1),
    "present of nothing": (b'{"version":null,"effects":"c","present":[null]}\n', Effects, 1),
    "present a text": (b'{"version":null,"effects":"x","present":"0"}\n', Effects, 1),
    "present no version": (b'{"version":null,"effects":"x","present":["0"]}\n', Effects, 1),
    "present a number": (b'{"version":null,"effects":"x","present":[1]}\n', Effects, 1),
    "sums a number": (b'{"version":null,"effects":"c","sums":1}\n', Effects, 1),
    "sums a float": (b'{"version":null,"effects":"c","sums":[1.0]}\n', Effects, 1),
    "version alone": (b'{"version":"%b"}\n' % (b"0" * 32), Effects, 1),
    **{
        f"version {version.decode('ascii', 'replace')}": (b'{"version":%b,"effects":"c"}\n' % version, Effects, 1)
        for version in (
            *(b"1", b"true", b"[]", b"{}", b'""', b'"0191"'),
            *(
                b'"%b"' % digits
                for digits in (b"0" * 31, b"0" * 33, b"0" * 31 + b"A", b"0x" + b"0" * 30, b"0" * 31 + b" ", b"-" + b"0" * 31)
            ),
            '"{}"'.format("\u0660" * 32).encode(),
        )
    },
}


@pytest.mark.parametrize(("frame", "kind", "count"), BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_read_answer_malformed_raises_bad_frame(frame, kind, count):
    with pytest.raises(BadFrame):
        read_answer(frame, kind, count)


@pytest.mark.parametrize("refused", [b'""', b"null", b"false", b"0", b"[]", b'["stale"]', b"{}"])
@pytest.mark.parametrize("kind", [Here, Values, Effects, Page, Records, Refused])
def test_read_answer_refused_without_a_reason_raises_instead_of_passing_for_done(refused, kind):
    for rest in (b"", b',"count":1', b',"keys":["a"]', b',"sizes":[-1]', b',"effects":"c"'):
        with pytest.raises(BadFrame):
            read_answer(b'{"refused":%b%b}\n' % (refused, rest), kind, 1)


@pytest.mark.parametrize("reason", NodeRefusal)
def test_refusal_of_any_reason_is_an_answer_to_any_request(reason):
    refused = Refused(reason, {"epoch": 3}, "because")
    for kind in (Here, Values, Effects, Page, Records, Refused):
        assert read_answer(refused.write(), kind, 1) == refused


@pytest.mark.parametrize("word", ["no such reason", "Stale", " full", "busy "])
def test_refusal_by_a_word_of_another_version_is_read_as_unknown(word):
    assert read_answer(b'{"refused":"%b"}\n' % word.encode(), Effects, 1) == Refused(NodeRefusal.UNKNOWN)


def test_every_op_has_a_request_that_is_read_back_as_itself():
    assert {request.op for request in REQUESTS} == set(Op)
    for request in REQUESTS:
        assert type(read_request(request.write())) is type(request)


@pytest.mark.parametrize("op", [Op.KEYS, Op.STATUS, Op.ADOPT, Op.CALL_AT])
def test_key_request_of_an_op_that_is_about_no_keys_raises(op):
    with pytest.raises(TypeError, match=op):
        key_request(op)


REQUESTS = [
    Status(),
    Get("5f1c", ERA, ["hi", "hi1", "\u00e9"]),
    Peek("5f1c", ERA, ["hi"]),
    Set("5f1c", ERA, ["hi", "x\n"], [b'"hello"', b"\n\0"]),
    Set("5f1c", ERA, ["a", "b"], [b"1", b"2"], [0, 1_700_000_000_000]),
    Set("5f1c", ERA, ["a", "b"], [b"1", Blob(b"2", "a/b")], [0, 5], ["=*", None]),
    Delete("", 0, ["a"]),
    Delete("5f1c", ERA, ["a", "b"], [None, "!*"]),
    Add("5f1c", ERA, ["n"], [-7]),
    Add("5f1c", ERA, ["n"], [1], [60_000]),
    Touch("5f1c", ERA, ["a"], [60_000]),
    ListKeys("5f1c", ERA, "a/", "a/b", 100),
    Put("5f1c", ERA, ["a"], [Blob(b"\xff", "a/b")]),
    Fetch("5f1c", ERA, ["a"]),
    FetchItems("5f1c", ERA, ["a"]),
    CallAt("5f1c", "http://10.0.0.5:8080"),
    Adopt({"cluster": "5f1c", "epoch": 8, "members": [{"id": "a", "weight": 1.0}], "joining": None}),
    Word("5f1c", ERA, "n1", 5, Copy(5, (Write(Version(ERA, 0xA1), ["a", "b"], [b"1", None], (), (), 7),), (VERSION,))),
    PlanMove("5f1c", ERA, 5, 9, ((("n1", "n2"), ()),)),
    GoOnWith(5, 9),
    Await(7),
]
ANSWERS = [
    (Here(12), Here, 0),
    (Here(12, "5f1c", (1, 7), "0123456789abcdef"), Here, 0),
    (Effects("crudsa"), Effects, 6),
    (Effects("cr", VERSION), Effects, 2),
    (Effects("xo", None, [VERSION]), Effects, 2),
    (Effects("c", VERSION, (), [5]), Effects, 1),
    (Effects("cf", VERSION, (), (), ["n2"]), Effects, 2),
    (Said(ERA, "n1", 5, Copied(5, (VERSION,))), Said, 0),
    (Held(9, ERA), Held, 0),
    (PutOff(1 << 63), PutOff, 0),
    (Page(["a", "\u00e9\n", "\U0001f600"]), Page, 0),
    (Values([b"1", None, b"\n", Damage.DAMAGED]), Values, 4),
    (ItemRows([b"1", ItemRow(Blob(b"", "a/b"), 7), None, Damage.DAMAGED], 5), ItemRows, 4),
    (Refused(NodeRefusal.STALE, {"epoch": 3}), Effects, 1),
    (Refused(NodeRefusal.CHANGING), Values, 1),
]
FRAGMENTS = [
    *(
        b"\n",
        b"\0",
        b"\xff",
        b"\\ud800",
        b"\\u0000",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"-",
        b"0",
        b"9" * 20,
        b"1e999",
        b"NaN",
    ),
    *(
        b"true",
        b"null",
        b"-1",
        b"-2",
        b"-3",
        b'"ttls":[],',
        b'"ttls":null,',
        b'"version":"0",',
        b'"generation":1,',
        b'"keys":[],',
        b'"sizes":[0],',
        b'"op":"set",',
        b'"refused":"x",',
        b'"count":1,',
        b'"effects":"c",',
        b"[" * 2_000,
    ),
]


def mutate(chance, frame):
    """Return the frame after one to three edits."""
    for _ in range(chance.randint(1, 3)):
        start = chance.randint(0, len(frame))
        end = min(len(frame), start + chance.choice((0, 0, 1, 1, 3)))
        new = chance.choice((b"", bytes([chance.randrange(256)]), bytes([chance.randrange(32, 127)]), chance.choice(FRAGMENTS)))
        frame = frame[:start] + new + frame[end:]
    return frame


def test_read_request_mutated_frames_raise_only_bad_frame_and_can_be_written_again():
    chance = random.Random(SEED)
    frames = [request.write() for request in REQUESTS]
    accepted = refused = 0
    for _ in range(20_000):
        frame = mutate(chance, chance.choice(frames))
        try:
            found = read_request(frame)
        except BadFrame:
            refused += 1
        else:
            accepted += 1
            if found.op is not Op.ADOPT:
                assert read_request(found.write()) == found, frame
    assert min(accepted, refused) > 1_000, (accepted, refused)


def test_read_answer_mutated_frames_raise_only_bad_frame():
    chance = random.Random(SEED)
    frames = [(answer.write(), kind, count) for answer, kind, count in ANSWERS]
    accepted = refused = 0
    for _ in range(20_000):
        frame, kind, count = chance.choice(frames)
        frame = mutate(chance, frame)
        try:
            found = read_answer(frame, kind, count)
        except BadFrame:
            refused += 1
        else:
            accepted += 1
            if isinstance(found, Values):
                assert len(found.values) == count, frame
            if isinstance(found, Effects):
                assert len(list(found)) == count, frame
    assert min(accepted, refused) > 1_000, (accepted, refused)
