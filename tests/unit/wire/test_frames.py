"""Frames: what is written is read back, and what is no frame raises BadFrame and nothing else."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.model import Blob, Damage, Record, Version
from gkv.wire.frames import (
    BadFrame,
    Reply,
    Request,
    read_records,
    read_reply,
    read_request,
    write_reply,
    write_request,
)

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
_blobs = st.builds(Blob, st.binary(max_size=9), st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
_mixed = st.lists(st.tuples(st.text(max_size=12), _values | _blobs), max_size=6)
_versions = st.builds(Version, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
_times = st.integers(0, 2**63 - 1)
_limits = st.integers(1, 2**63 - 1)

VERSION = Version(0x0191F3C2A5B7_0003, 0xA1)
V = b'"version":"0191f3c2a5b7000300000000000000a1"'


@st.composite
def requests(draw):
    """Draw a request of any kind."""
    op = draw(st.sampled_from(["get", "fetch", "set", "put", "delete", "keys", "status", "adopt"]))
    if op == "status":
        return Request(op)
    if op == "adopt":
        return Request(op, document=draw(_documents))
    common = {name: draw(values) for name, values in _common.items()}
    if op == "keys":
        return Request(op, prefix=draw(st.text(max_size=12)), after=draw(st.text(max_size=12)), limit=draw(_limits), **common)
    if op in ("get", "fetch"):
        return Request(op, keys=draw(_keys), **common)
    if op == "delete":
        return Request(op, keys=draw(_keys), version=draw(_versions), **common)
    pairs = draw(_pairs | _mixed)
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    expires = draw(st.just(()) | st.lists(_times, min_size=len(keys), max_size=len(keys))) or ()
    return Request(op, keys=keys, values=values, version=draw(_versions), expires=expires, **common)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(requests())
def test_request_written_and_read_is_the_same(request_):
    assert read_request(write_request(request_)) == request_


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.none() | st.just(Damage.DAMAGED) | _values, min_size=1, max_size=8))
def test_reply_with_values_written_and_read_is_the_same(values):
    reply = Reply(values=values)
    assert read_reply(write_reply(reply), ["k"] * len(values)) == reply


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1))
def test_reply_with_a_count_written_and_read_is_the_same(count, beaten):
    assert read_reply(write_reply(Reply(count=count, beaten=beaten))) == Reply(count=count, beaten=beaten)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(_keys)
def test_reply_with_keys_written_and_read_is_the_same(keys):
    assert read_reply(write_reply(Reply(keys=keys))) == Reply(keys=keys)


_records = st.builds(Record, _versions, st.none() | _values | _blobs, _times)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.none() | st.just(Damage.DAMAGED) | _records, max_size=6))
def test_reply_with_records_written_and_read_is_the_same(records):
    assert read_records(write_reply(Reply(records=records)), len(records)) == Reply(records=records)


def test_reply_shows_a_blob_as_base64_among_values():
    values = [b"1", Blob(b"\xff\0", "a/b"), None, Blob(b"", "a/b"), Damage.DAMAGED]
    reply = read_reply(write_reply(Reply(values=values)), "abcde")
    assert reply.values == [b"1", b'"/wA=","encoding":"base64"', None, b'"","encoding":"base64"', Damage.DAMAGED]


def test_set_says_types_only_when_there_are_any():
    request = Request("set", "c", 1, ["a", "b"], [b"1", b"2"], version=VERSION)
    assert b"types" not in write_request(request)
    request.values = [b"1", Blob(b"", "a/b")]
    assert b'"types":[null,"a/b"],"sizes":[1,0]}\n1' in write_request(request)


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
        read_records(frame.encode(), 1)


def test_answer_to_a_fetch_may_be_a_refusal():
    assert read_records(ROW.encode(), 1).records == [Record(VERSION, b"1")]
    assert read_records(b'{"refused":"stale","document":null}\n', 1).refused == "stale"


def test_reply_to_a_write_says_beaten_only_when_it_was():
    assert write_reply(Reply(count=2)) == b'{"count":2}\n'
    assert write_reply(Reply(count=2, beaten=2**64 - 1)) == b'{"count":2,"beaten":18446744073709551615}\n'


def test_reply_with_a_damaged_value_has_its_size_minus_2_and_no_bytes_of_it():
    assert write_reply(Reply(values=[b"1", Damage.DAMAGED, None, b"23"])) == b'{"sizes":[1,-2,-1,2]}\n123'


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(min_size=1, max_size=40), st.none() | _documents, st.booleans())
def test_reply_that_refuses_written_and_read_is_the_same(why, document, asked_for_values):
    reply = Reply(refused=why, document=document)
    assert read_reply(write_reply(reply), ["k"] if asked_for_values else None) == reply


def test_request_for_a_set_has_its_values_behind_the_line_as_they_are():
    request_ = Request("set", "5f1c", 7, ["hi", "\u00e9\n"], [b'"hello"', b"\n\0"], version=VERSION)
    frame = write_request(request_)
    assert frame == (
        b'{"op":"set","cluster":"5f1c","epoch":7,%b,' % V
        + '"keys":["hi","\u00e9\\n"],"sizes":[7,2]}\n"hello"'.encode()
        + b"\n\0"
    )
    assert read_request(frame) == request_


def test_request_for_a_set_that_expires_says_when_behind_its_keys():
    request_ = Request("set", "5f1c", 7, ["a", "b"], [b"1", b"2"], version=VERSION, expires=[0, 1_700_000_000_000])
    frame = write_request(request_)
    assert frame == (
        b'{"op":"set","cluster":"5f1c","epoch":7,%b,"keys":["a","b"],"expires":[0,1700000000000],"sizes":[1,1]}\n12' % V
    )
    assert read_request(frame) == request_


def test_request_for_keys_says_prefix_place_and_limit():
    request_ = Request("keys", "5f1c", 7, prefix="a/", after="a/\u00e9", limit=100)
    frame = write_request(request_)
    assert frame == '{"op":"keys","cluster":"5f1c","epoch":7,"prefix":"a/","after":"a/\u00e9","limit":100}\n'.encode()
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
    "key null": b'{"op":"delete","cluster":"c","epoch":1,%b,"keys":[null]}\n' % V,
    "get with a value": b'{"op":"get","cluster":"c","epoch":1,"keys":["a"],"sizes":[1]}\n1',
    "get with an empty value": b'{"op":"get","cluster":"c","epoch":1,"keys":["a"],"sizes":[0]}\n',
    "get with bytes behind": b'{"op":"get","cluster":"c","epoch":1,"keys":["a"]}\n1',
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
    "set without a version": b'{"op":"set","cluster":"c","epoch":1,"keys":["a"],"sizes":[1]}\n1',
    "delete without a version": b'{"op":"delete","cluster":"c","epoch":1,"keys":["a"]}\n',
    **{
        f"version {version.decode('ascii', 'replace')}": b'{"op":"delete","cluster":"c","epoch":1,"version":%b,"keys":[]}\n'
        % version
        for version in (
            *(b"null", b"1", b"true", b"[]", b"{}", b'""', b'"0191"'),
            *(
                b'"%b"' % digits
                for digits in (b"0" * 31, b"0" * 33, b"0" * 31 + b"A", b"0x" + b"0" * 30, b"0" * 31 + b" ", b"-" + b"0" * 31)
            ),
            '"{}"'.format("\u0660" * 32).encode(),
        )
    },
    **{
        f"expires {expires.decode()}": b'{"op":"set","cluster":"","epoch":1,%b,"keys":["a","b"],"expires":%b,"sizes":[1,1]}\n12'
        % (V, expires)
        for expires in (
            *(b"null", b"0", b"false", b'""', b"{}", b"1", b'"12"', b"[]", b"[1]", b"[1,2,3]", b"[1,-1]", b"[1,2.0]"),
            *(b"[1,true]", b'[1,"2"]', b"[1,null]", b"[1,9223372036854775808]", b"[1,[2]]"),
        )
    },
    "get with expires": b'{"op":"get","cluster":"c","epoch":1,"keys":["a"],"expires":[1]}\n',
    "delete with expires": b'{"op":"delete","cluster":"c","epoch":1,%b,"keys":["a"],"expires":[1]}\n' % V,
    **{
        f"keys with {name}": b'{"op":"keys",%b}\n' % members
        for name, members in {
            "nothing": b'"x":1',
            "no cluster": b'"epoch":1,"prefix":"","after":"","limit":1',
            "cluster a number": b'"cluster":1,"epoch":1,"prefix":"","after":"","limit":1',
            "epoch a boolean": b'"cluster":"c","epoch":true,"prefix":"","after":"","limit":1',
            "no prefix": b'"cluster":"c","epoch":1,"after":"","limit":1',
            "prefix null": b'"cluster":"c","epoch":1,"prefix":null,"after":"","limit":1',
            "a lone surrogate in the prefix": b'"cluster":"c","epoch":1,"prefix":"\\ud800","after":"","limit":1',
            "no after": b'"cluster":"c","epoch":1,"prefix":"","limit":1',
            "after a number": b'"cluster":"c","epoch":1,"prefix":"","after":1,"limit":1',
            "a lone surrogate in after": b'"cluster":"c","epoch":1,"prefix":"","after":"\\udc00","limit":1',
            "no limit": b'"cluster":"c","epoch":1,"prefix":"","after":""',
            "limit 0": b'"cluster":"c","epoch":1,"prefix":"","after":"","limit":0',
            "limit -1": b'"cluster":"c","epoch":1,"prefix":"","after":"","limit":-1',
            "limit true": b'"cluster":"c","epoch":1,"prefix":"","after":"","limit":true',
            "limit 1.0": b'"cluster":"c","epoch":1,"prefix":"","after":"","limit":1.0',
            "limit a string": b'"cluster":"c","epoch":1,"prefix":"","after":"","limit":"1"',
        }.items()
    },
    "keys with bytes behind": b'{"op":"keys","cluster":"c","epoch":1,"prefix":"","after":"","limit":1}\nx',
}


def test_read_request_what_the_malformed_ones_differ_from_is_read():
    assert read_request(
        b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a","b"],"expires":[1,0],"sizes":[1,1]}\n12' % V
    ) == Request("set", "c", 1, ["a", "b"], [b"1", b"2"], version=VERSION, expires=[1, 0])
    assert read_request(b'{"op":"delete","cluster":"c","epoch":1,%b,"keys":["a"]}\n' % V) == Request(
        "delete", "c", 1, ["a"], version=VERSION
    )
    assert read_request(b'{"op":"keys","cluster":"c","epoch":1,"prefix":"","after":"","limit":1}\n') == Request(
        "keys", "c", 1, limit=1
    )


@pytest.mark.parametrize("frame", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_read_request_malformed_raises_bad_frame(frame):
    with pytest.raises(BadFrame):
        read_request(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"op":"set","cluster":"c","epoch":1,%b,"keys":["a","\\ud800"],"sizes":[1,1]}\n12' % V,
        b'{"op":"get","cluster":"c","epoch":1,"keys":["\\udfff"]}\n',
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
    "size below -2": (b'{"sizes":[-3]}\n', ["a"]),
    "size below -2 that adds up": (b'{"sizes":[4,-3]}\n1', ["a", "b"]),
    "a damaged value with bytes": (b'{"sizes":[-2]}\n1', ["a"]),
    "a listing for a get": (b'{"keys":["a"]}\n', ["a"]),
    "keys null": (b'{"keys":null}\n', None),
    "keys a string": (b'{"keys":"ab"}\n', None),
    "keys an object": (b'{"keys":{"a":1}}\n', None),
    "key a number": (b'{"keys":["a",1]}\n', None),
    "key null": (b'{"keys":[null]}\n', None),
    "key a list": (b'{"keys":[["a"]]}\n', None),
    "key with a lone surrogate": (b'{"keys":["a","\\ud800"]}\n', None),
    "keys with bytes behind": (b'{"keys":["a"]}\nx', None),
    "beaten negative": (b'{"count":1,"beaten":-1}\n', None),
    "beaten null": (b'{"count":1,"beaten":null}\n', None),
    "beaten a boolean": (b'{"count":1,"beaten":true}\n', None),
    "beaten a float": (b'{"count":1,"beaten":1.0}\n', None),
    "beaten a string": (b'{"count":1,"beaten":"1"}\n', None),
    "beaten of 65 bits": (b'{"count":1,"beaten":18446744073709551616}\n', None),
    "beaten without a count": (b'{"beaten":1}\n', None),
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
    for rest in (b"", b',"count":1', b',"keys":["a"]', b',"sizes":[-1]'):
        with pytest.raises(BadFrame):
            read_reply(b'{"refused":%b%b}\n' % (refused, rest), keys)


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
    Request("set", "5f1c", 7, ["hi", "x\n"], [b'"hello"', b"\n\0"], version=VERSION),
    Request("set", "5f1c", 7, ["a", "b"], [b"1", b"2"], version=VERSION, expires=[0, 1_700_000_000_000]),
    Request("delete", "", 0, ["a"], version=VERSION),
    Request("keys", "5f1c", 7, prefix="a/", after="a/b", limit=100),
    Request("adopt", document={"cluster": "5f1c", "epoch": 8, "members": [{"id": "a", "weight": 1.0}], "joining": None}),
]
REPLIES = [
    (Reply(count=12), None),
    (Reply(count=2, beaten=VERSION.stamp), None),
    (Reply(keys=["a", "\u00e9\n", "\U0001f600"]), None),
    (Reply(values=[b"1", None, b"\n", Damage.DAMAGED]), ["a", "b", "c", "d"]),
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
        b"-3",
        b'"expires":[],',
        b'"expires":null,',
        b'"version":"0",',
        b'"beaten":1,',
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
