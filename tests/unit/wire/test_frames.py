"""Frames: what is written is read back, and what is no frame raises BadFrame and nothing else."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.wire.frames import BadFrame, Reply, Request, read_reply, read_request, write_reply, write_request

SEED = 7230

_keys = st.lists(st.text(max_size=12), max_size=6)
_values = st.binary(min_size=1, max_size=24) | st.sampled_from([b"\n", b"\0", b'{"sizes":[1]}\n', b"\n\n\xff"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(0, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_documents = st.dictionaries(st.text(max_size=8), _json, max_size=5)
_common = {"cluster": st.text(max_size=32), "epoch": st.integers(0, 2**63 - 1)}
_pairs = st.lists(st.tuples(st.text(max_size=12), _values), max_size=6)


@st.composite
def requests(draw):
    """Draw a request of any kind."""
    op = draw(st.sampled_from(["get", "set", "delete", "status", "adopt"]))
    if op == "status":
        return Request(op)
    if op == "adopt":
        return Request(op, document=draw(_documents))
    common = {name: draw(values) for name, values in _common.items()}
    if op != "set":
        return Request(op, keys=draw(_keys), **common)
    pairs = draw(_pairs)
    return Request(op, keys=[key for key, _ in pairs], values=[value for _, value in pairs], **common)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(requests())
def test_request_written_and_read_is_the_same(request_):
    assert read_request(write_request(request_)) == request_


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.none() | _values, min_size=1, max_size=8))
def test_reply_with_values_written_and_read_is_the_same(values):
    reply = Reply(values=values)
    assert read_reply(write_reply(reply), ["k"] * len(values)) == reply


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**63 - 1))
def test_reply_with_a_count_written_and_read_is_the_same(count):
    assert read_reply(write_reply(Reply(count=count))) == Reply(count=count)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(min_size=1, max_size=40), st.none() | _documents, st.booleans())
def test_reply_that_refuses_written_and_read_is_the_same(why, document, asked_for_values):
    reply = Reply(refused=why, document=document)
    assert read_reply(write_reply(reply), ["k"] if asked_for_values else None) == reply


def test_request_for_a_set_has_its_values_behind_the_line_as_they_are():
    request_ = Request("set", "5f1c", 7, ["hi", "\u00e9\n"], [b'"hello"', b"\n\0"])
    frame = write_request(request_)
    assert frame == (
        '{"op":"set","cluster":"5f1c","epoch":7,"keys":["hi","\u00e9\\n"],"sizes":[7,2]}\n"hello"'.encode() + b"\n\0"
    )
    assert read_request(frame) == request_


def test_reply_with_an_empty_value_is_refused_as_no_json_text_is_empty():
    frame = write_reply(Reply(values=[None, b"", b"\n\n", None]))
    with pytest.raises(BadFrame, match="above 0"):
        read_reply(frame, ["a", "b", "c", "d"])


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
    "get without anything": b'{"op":"get"}\n',
    "no cluster": b'{"op":"get","epoch":1,"keys":[]}\n',
    "cluster a number": b'{"op":"get","cluster":1,"epoch":1,"keys":[]}\n',
    "cluster null": b'{"op":"get","cluster":null,"epoch":1,"keys":[]}\n',
    "no epoch": b'{"op":"get","cluster":"c","keys":[]}\n',
    "epoch a string": b'{"op":"get","cluster":"c","epoch":"1","keys":[]}\n',
    "epoch a boolean": b'{"op":"get","cluster":"c","epoch":true,"keys":[]}\n',
    "epoch a float": b'{"op":"get","cluster":"c","epoch":1.0,"keys":[]}\n',
    "no keys": b'{"op":"get","cluster":"c","epoch":1}\n',
    "keys a string": b'{"op":"get","cluster":"c","epoch":1,"keys":"ab"}\n',
    "keys an object": b'{"op":"get","cluster":"c","epoch":1,"keys":{"a":1}}\n',
    "key a number": b'{"op":"get","cluster":"c","epoch":1,"keys":["a",1]}\n',
    "key null": b'{"op":"delete","cluster":"c","epoch":1,"keys":[null]}\n',
    "get with a value": b'{"op":"get","cluster":"c","epoch":1,"keys":["a"],"sizes":[1]}\n1',
    "get with an empty value": b'{"op":"get","cluster":"c","epoch":1,"keys":["a"],"sizes":[0]}\n',
    "get with bytes behind": b'{"op":"get","cluster":"c","epoch":1,"keys":["a"]}\n1',
    "delete with a value": b'{"op":"delete","cluster":"c","epoch":1,"keys":["a"],"sizes":[1]}\n1',
    "set without sizes": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"]}\n1',
    "sizes null": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":null}\n1',
    "sizes a number": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":1}\n1',
    "size a string": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":["1"]}\n1',
    "size a boolean": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":[true]}\n1',
    "size a float": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":[1.0]}\n1',
    "size below -1": b'{"op":"set","cluster":"c","epoch":1,"keys":["a","b"],"sizes":[-2,3]}\n1',
    "size of 30 digits": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":[' + b"9" * 30 + b"]}\n1",
    "set with a missing value": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":[-1]}\n',
    "a byte too many": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":[1]}\n12',
    "a byte too few": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":[2]}\n1',
    "fewer values than keys": b'{"op":"set","cluster":"c","epoch":1,"keys":["a","b"],"sizes":[1]}\n1',
    "more values than keys": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":[1,1]}\n12',
}


@pytest.mark.parametrize("frame", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_read_request_malformed_raises_bad_frame(frame):
    with pytest.raises(BadFrame):
        read_request(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"op":"set","cluster":"c","epoch":1,"keys":["a","\\ud800"],"sizes":[1,1]}\n12',
        b'{"op":"get","cluster":"c","epoch":1,"keys":["\\udfff"]}\n',
        b'{"op":"delete","cluster":"\\ud800","epoch":1,"keys":[]}\n',
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
        b'{"op":"get","cluster":"c","epoch":1,"keys":["a"],"sizes":[-1,-1]}\n',
    ],
    ids=["status with a payload", "adopt with a payload", "get with sizes"],
)
def test_read_request_with_more_than_its_op_takes_raises_bad_frame(frame):
    with pytest.raises(BadFrame):
        read_request(frame)


BAD_REPLIES = {
    "empty": (b"", None),
    "no newline": (b'{"count":1}', None),
    "not JSON": (b"<html>\n", None),
    "an array": (b"[1]\n", None),
    "neither count nor refused": (b"{}\n", None),
    "count a string": (b'{"count":"1"}\n', None),
    "count a boolean": (b'{"count":true}\n', None),
    "count a float": (b'{"count":1.0}\n', None),
    "count null": (b'{"count":null}\n', None),
    "sizes where a count belongs": (b'{"sizes":[1]}\n1', None),
    "document a string": (b'{"refused":"stale","document":"x"}\n', None),
    "document an array": (b'{"refused":"stale","document":[]}\n', None),
    "a count where sizes belong": (b'{"count":1}\n', ["a"]),
    "fewer values than keys": (b'{"sizes":[1]}\n1', ["a", "b"]),
    "more values than keys": (b'{"sizes":[1,-1]}\n1', ["a"]),
    "no value for a key": (b'{"sizes":[]}\n', ["a"]),
    "sizes null": (b'{"sizes":null}\n', ["a"]),
    "size a boolean": (b'{"sizes":[true]}\n1', ["a"]),
    "size a float": (b'{"sizes":[1.0]}\n1', ["a"]),
    "size below -1": (b'{"sizes":[-2]}\n', ["a"]),
    "size below -1 that adds up": (b'{"sizes":[3,-2]}\n1', ["a", "b"]),
    "a byte too many": (b'{"sizes":[1]}\n12', ["a"]),
    "a byte too few": (b'{"sizes":[2]}\n1', ["a"]),
    "a missing value with bytes": (b'{"sizes":[-1]}\n1', ["a"]),
    "size of 30 digits": (b'{"sizes":[' + b"9" * 30 + b"]}\n1", ["a"]),
}


@pytest.mark.parametrize(("frame", "keys"), BAD_REPLIES.values(), ids=BAD_REPLIES.keys())
def test_read_reply_malformed_raises_bad_frame(frame, keys):
    with pytest.raises(BadFrame):
        read_reply(frame, keys)


@pytest.mark.parametrize("refused", [b'""', b"null", b"false", b"0", b"[]", b'["stale"]', b"{}"])
@pytest.mark.parametrize("keys", [None, ["a"]], ids=["count", "values"])
def test_read_reply_refused_without_a_reason_raises_instead_of_passing_for_done(refused, keys):
    with pytest.raises(BadFrame):
        read_reply(b'{"refused":%b}\n' % refused, keys)


@pytest.mark.parametrize(
    "frame",
    [b'{"count":-1}\n', b'{"count":1}\nx', b'{"refused":"stale","document":null}\nx'],
    ids=["negative count", "count with a payload", "refusal with a payload"],
)
def test_read_reply_that_no_node_can_have_meant_raises_bad_frame(frame):
    with pytest.raises(BadFrame):
        read_reply(frame)


REQUESTS = [
    Request("status"),
    Request("get", "5f1c", 7, ["hi", "hi1", "\u00e9"]),
    Request("set", "5f1c", 7, ["hi", "x\n"], [b'"hello"', b"\n\0"]),
    Request("delete", "", 0, ["a"]),
    Request("adopt", document={"cluster": "5f1c", "epoch": 8, "members": [{"id": "a", "weight": 1.0}], "joining": None}),
]
REPLIES = [
    (Reply(count=12), None),
    (Reply(values=[b"1", None, b"\n", b""]), ["a", "b", "c", "d"]),
    (Reply(refused="stale", document={"epoch": 3}), None),
    (Reply(refused="changing"), ["a"]),
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
        b'"keys":[],',
        b'"sizes":[0],',
        b'"op":"set",',
        b'"refused":"x",',
        b'"count":1,',
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
    frames = list(map(write_request, REQUESTS))
    accepted = refused = 0
    for _ in range(20_000):
        frame = mutate(chance, chance.choice(frames))
        try:
            found = read_request(frame)
        except BadFrame:
            refused += 1
        else:
            accepted += 1
            if found.op != "adopt":
                assert read_request(write_request(found)) == found, frame
    assert min(accepted, refused) > 1_000, (accepted, refused)


def test_read_reply_mutated_frames_raise_only_bad_frame():
    chance = random.Random(SEED)
    frames = [(write_reply(reply), keys) for reply, keys in REPLIES]
    accepted = refused = 0
    for _ in range(20_000):
        frame, keys = chance.choice(frames)
        frame = mutate(chance, frame)
        try:
            found = read_reply(frame, keys)
        except BadFrame:
            refused += 1
        else:
            accepted += 1
            assert found.refused or keys is None or len(found.values) == len(keys), frame
    assert min(accepted, refused) > 1_000, (accepted, refused)
