"""A node's application in process: the data API to the byte, every refusal as problem+json, and the frames behind it."""

import json
import random
import re
from dataclasses import replace
from time import monotonic

import pytest
import ujson

from gkv import __version__, native, ring, wire
from gkv.api import data
from gkv.cluster.document import Document, Member, State, member_to_json
from gkv.engine import MemoryEngine
from gkv.model import Effect, Node, NodeRefusal, Op, era_of
from gkv.net.admission import LARGE, Admission
from gkv.net.call import ask_all
from gkv.node.service import Service
from gkv.ring import tokens
from gkv.wire.client import Limits
from gkv.wire.ops import (
    Adopt,
    BadFrame,
    Delete,
    Effects,
    Get,
    Here,
    Items,
    ListKeys,
    Put,
    Refused,
    Set,
    Status,
    Values,
    key_request,
    read_answer,
    read_request,
)
from tests.documents import changed, changing, lines
from tests.documents import document as document_of
from tests.frames import answer_to, refusal

SEED = 1357
HELLO = b'[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}]'
CLUSTER = "0123456789abcdef" * 2
TTL = 86_400_000
STRANGE_KEY = "caf\u00e9 \U0001f600/+&=%\n\"'<b>"


def keys(*names):
    return json.dumps([{"key": name} for name in names]).encode()


def problem(answer, status, code):
    """Check that an answer is a complete problem+json (RFC 9457) and return it."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert list(found) == ["type", "title", "status", "detail", "retryable", "instance"] + ["errors"] * ("errors" in found)
    assert found["type"] == f"urn:gkv:problem:{code}"
    assert found["status"] == status
    assert found["title"]
    assert isinstance(found["detail"], str)
    assert isinstance(found["retryable"], bool)
    assert found["instance"] == answer.headers["x-request-id"]
    return found


# -- the batch calls


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_set_answers_the_documented_line_once_for_each_owner(node, call, method):
    answer = call(method, "/set", HELLO)
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/plain", b"Success to set key")
    assert node.read(["hi", "hi1"]) == [b'"hello"', b'"hello1"']


@pytest.mark.parametrize(
    ("accept", "as_json"),
    [
        ("application/json", True),
        ("Application/JSON; q=0.5", True),
        ("text/html, application/json;q=0.9, */*;q=0.1", True),
        ("*/*", False),
        ("application/*", False),
        ("text/plain", False),
        ("application/json;q=0", False),
        ("application/json; q=0.000", False),
        ("application/jsonp", False),
        ("", False),
    ],
)
def test_set_answers_json_only_to_who_asks_for_it_by_name(call, accept, as_json):
    answer = call("POST", "/set", HELLO, {"Accept": accept})
    assert answer.status == 200
    if as_json:
        assert re.fullmatch(rb'\{"set":2,"nodes":1,"version":"[0-9a-f]{32}"\}', answer.body)
        assert answer.headers["content-type"] == "application/json"
    else:
        assert (answer.headers["content-type"], answer.body) == ("text/plain", b"Success to set key")


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "application/json", ""])
def test_batch_calls_take_any_content_type(call, content_type):
    headers = {"Content-Type": content_type}
    assert call("POST", "/set", HELLO, headers).status == 200
    assert call("POST", "/get", keys("hi"), headers).body == b'{"existedKey":[{"key":"hi","value":"hello"}]}'
    assert call("POST", "/locate", keys("hi"), headers).status == 200
    assert call("POST", "/delete", keys("hi"), headers).body == b'{"deleted":1}'


def test_get_answers_the_documented_bytes(call):
    call("POST", "/set", HELLO)
    answer = call("POST", "/get", keys("hi", "hi6", "hi1", "hi5"))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body == (
        b'{"existedKey":[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}],'
        b'"notExistedKey":[{"key":"hi6","value":""},{"key":"hi5","value":""}]}'
    )


def test_get_everything_found_has_no_other_member(call):
    call("POST", "/set", HELLO)
    assert call("POST", "/get", keys("hi")).body == b'{"existedKey":[{"key":"hi","value":"hello"}]}'


def test_get_nothing_found_still_has_existed_key(call):
    assert call("POST", "/get", keys("x")).body == b'{"existedKey":[],"notExistedKey":[{"key":"x","value":""}]}'


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("/get?key=hi", ["hi"]),
        ("/get?key=hi1&key=hi&key=x", ["hi1", "hi", "x"]),
        ("/get?key=hi&key=hi", ["hi", "hi"]),
        ("/get?%6bey=%68i", ["hi"]),
        ("/get?&key=hi&", ["hi"]),
    ],
)
def test_get_by_query_answers_as_a_batch_with_these_keys(call, target, names):
    call("POST", "/set", HELLO)
    answer = call("GET", target)
    assert answer.status == 200
    assert answer.body == call("POST", "/get", keys(*names)).body


@pytest.mark.parametrize(
    ("escaped", "key"),
    [
        ("a+b", "a b"),
        ("a%20b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%2bb", "a+b"),
        ("a=b", "a=b"),
        ("a%26b", "a&b"),
        ("a/b", "a/b"),
        ("a%2Fb", "a/b"),
        ("..%2f..", "../.."),
        ("%25zz", "%zz"),
        ("caf%C3%A9", "caf\u00e9"),
        ("cafe%CC%81", "cafe\u0301"),
        ("%f0%9f%98%80", "\U0001f600"),
        ("caf\u00c3\u00a9", "caf\u00e9"),  # raw UTF-8, as WSGI hands it over
        ("%0d%0aX:%20y", "\r\nX: y"),
        ("%1b%5b31m", "\x1b[31m"),
        ("%3Cscript%3E", "<script>"),
    ],
)
def test_get_by_query_decodes_the_key_strictly(node, call, escaped, key):
    node.put({key: b"1"})
    answer = call("GET", f"/get?key={escaped}")
    assert answer.json() == {"existedKey": [{"key": key, "value": 1}]}


def test_strange_key_goes_in_and_out_of_every_call(node, call):
    assert call("POST", "/set", json.dumps([{"key": STRANGE_KEY, "value": [1]}]).encode()).status == 200
    assert call("POST", "/get", keys(STRANGE_KEY)).json() == {"existedKey": [{"key": STRANGE_KEY, "value": [1]}]}
    assert call("POST", "/locate", keys(STRANGE_KEY)).json()["keys"][0]["key"] == STRANGE_KEY
    assert call("POST", "/delete", keys(STRANGE_KEY)).json() == {"deleted": 1}
    assert node.engine.live == 0


def test_values_come_back_byte_for_byte(call):
    text = b'{ "n" : [ 1.0, 1e2,\t123456789012345678901234567890 ], "s":"\\u0061\\/\xc3\xa9" }'
    call("POST", "/set", b'[ { "value" : %b , "key" : "k" } ]' % text)
    assert call("GET", "/get?key=k").body == b'{"existedKey":[{"key":"k","value":%b}]}' % text


def test_set_same_key_twice_keeps_the_last_and_counts_one(call):
    answer = call("POST", "/set", b'[{"key":"a","value":1},{"key":"a","value":2}]', {"Accept": "application/json"})
    found = answer.json()
    assert found == {"set": 1, "nodes": 1, "version": found["version"]}
    assert call("GET", "/get?key=a&key=a").body == b'{"existedKey":[{"key":"a","value":2},{"key":"a","value":2}]}'


def test_normal_forms_are_two_keys(node, call):
    call("POST", "/set", '[{"key":"\u00e9","value":1},{"key":"e\u0301","value":2}]'.encode())
    assert node.engine.live == 2
    assert call("GET", "/get?key=%C3%A9").json()["existedKey"][0]["value"] == 1


@pytest.mark.parametrize(("names", "deleted"), [(["hi"], 1), (["hi", "x", "hi1"], 2), (["hi", "hi"], 1), (["x"], 0), ([], 0)])
def test_delete_answers_how_many_existed(node, call, names, deleted):
    call("POST", "/set", HELLO)
    answer = call("POST", "/delete", keys(*names))
    assert (answer.status, answer.headers["content-type"], answer.body) == (
        200,
        "application/json",
        b'{"deleted":%d}' % deleted,
    )
    assert node.engine.live == 2 - deleted


@pytest.mark.parametrize(
    ("path", "body"),
    [("/set", b""), ("/get", b'{"existedKey":[]}'), ("/delete", b'{"deleted":0}'), ("/locate", b'{"epoch":7,"keys":[]}')],
)
def test_empty_batch_is_answered_200(call, path, body):
    answer = call("POST", path, b"[]")
    assert (answer.status, answer.body) == (200, body)


# -- where a key lives, and how things stand


def test_locate_answers_token_and_owner_in_request_order(call):
    answer = call("GET", "/locate?key=hi&key=caf%C3%A9")
    owner = [{"id": "n1", "url": "http://127.0.0.1:9000", "state": "up"}]
    assert answer.json() == {
        "epoch": 7,
        "keys": [
            {"key": key, "token": f"{ring.token(key):016x}", "primary": "n1", "nodes": owner} for key in ("hi", "caf\u00e9")
        ],
    }
    assert re.fullmatch("[0-9a-f]{16}", answer.json()["keys"][0]["token"])
    assert call("POST", "/locate", keys("hi", "caf\u00e9")).body == answer.body


def test_locate_gives_way_after_every_few_keys(call, monkeypatch):
    turns = []
    monkeypatch.setattr(data, "Turn", lambda: lambda: turns.append(None))
    answer = call("GET", "/locate?" + "&".join(["key=hi"] * 900))
    assert len(answer.json()["keys"]) == 900
    assert len(turns) >= 9


def test_locate_is_exact_to_the_byte(call):
    token = f"{ring.token('hi'):016x}".encode()
    assert call("GET", "/locate?key=hi").body == (
        b'{"epoch":7,"keys":[{"key":"hi","token":"%b","primary":"n1",'
        b'"nodes":[{"id":"n1","url":"http://127.0.0.1:9000","state":"up"}]}]}' % token
    )


def test_ring_has_what_a_client_needs_to_find_owners_itself(call):
    found = call("GET", "/v1/ring").json()
    assert found == {
        "cluster": CLUSTER,
        "generation": 1,
        "epoch": 7,
        "hash": "murmur3_x64_128",
        "seed": 0,
        "vnodes": 64,
        "replicas": 1,
        "nodes": [member_to_json(Member("n1", "http://127.0.0.1:9000"))],
    }
    nodes = [Node(entry["id"], entry["url"], entry["weight"]) for entry in found["nodes"]]
    rebuilt = ring.build(nodes, found["vnodes"])
    assert rebuilt.owner("hi").id == call("GET", "/locate?key=hi").json()["keys"][0]["nodes"][0]["id"]


def test_info_says_version_limits_and_twins(call):
    call("POST", "/set", HELLO)
    assert call("GET", "/v1/info").json() == {
        "version": __version__,
        "role": "node",
        "id": "n1",
        "engine": {
            "name": "memory",
            "durable": False,
            "durability": "sync",
            "keys": 2,
            "tombstones": 0,
            "bytes": 20,
            "verification": {"state": "not needed", "damaged": 0},
            "commits": {"count": 0, "writes": 1, "records": 2, "lastSeconds": 0.0, "longestSeconds": 0.0, "waiting": 0},
        },
        "cluster": CLUSTER,
        "epoch": 7,
        "native": {"mode": native.mode, "ring": ring.TWIN, "wire": wire.TWIN},
        "limits": {"items": 10_000, "keyBytes": 480, "valueBytes": 1 << 20, "bodyBytes": 1 << 20, "answerBytes": 64 << 20},
        "features": ["bytes", "conditions", "counters", "listing", "meta", "single-keys", "touch", "ttl"],
    }


def test_info_before_the_join_has_neither_cluster_nor_epoch(build_node):
    found = build_node().client("GET", "/v1/info").json()
    assert (found["cluster"], found["epoch"]) == (None, None)


def test_livez_answers_ok_member_or_not(build_node, call):
    for client in (call, build_node().client):
        answer = client("GET", "/livez")
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, "text/plain", b"ok\n")


@pytest.mark.parametrize(
    ("target", "lines"),
    [("/readyz", b"ok\n"), ("/readyz?verbose", b"[+]serving ok\n[+]member ok\nok\n"), ("/readyz?verbose=", None)],
)
def test_readyz_ready_answers_200(call, target, lines):
    answer = call("GET", target)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain")
    assert answer.body == (lines or call("GET", "/readyz?verbose").body)
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(
    ("target", "lines"),
    [("/readyz", b"[-]member failed\nnot ready\n"), ("/readyz?verbose", b"[+]serving ok\n[-]member failed\nnot ready\n")],
)
def test_readyz_without_a_member_answers_503_and_says_which_check(build_node, target, lines):
    answer = build_node().client("GET", target)
    assert (answer.status, answer.headers["content-type"], answer.body) == (503, "text/plain", lines)
    assert answer.headers["retry-after"] == "1"


def test_readyz_while_draining_answers_503_and_data_is_still_served(node, call):
    node.draining.append(True)
    assert (call("GET", "/readyz").status, call("GET", "/readyz").body) == (503, b"[-]serving failed\nnot ready\n")
    assert call("POST", "/set", HELLO).status == 200


@pytest.mark.parametrize(
    "target", ["/get?key=hi", "/get?key=x", "/locate?key=hi", "/v1/ring", "/v1/info", "/livez", "/readyz", "/nowhere", "/get"]
)
def test_head_answers_as_get_without_a_body(call, target):
    call("POST", "/set", HELLO)
    headers = {"X-Request-Id": "same"}
    head, get = call("HEAD", target, headers=headers), call("GET", target, headers=headers)
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert int(head.headers["content-length"]) > 0


# -- request ids


@pytest.mark.parametrize("given", ["a", "trace-7/b;c=d", "x" * 128, "!~"])
@pytest.mark.parametrize("target", ["/livez", "/nowhere", "/get"], ids=["answer", "not found", "problem"])
def test_request_id_comes_back(call, given, target):
    assert call("GET", target, headers={"X-Request-Id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "caf\u00e9", "a\x7f", "\u00ff"])
def test_request_id_that_is_missing_or_bad_is_replaced(call, given):
    answers = [call("GET", "/get", headers={"X-Request-Id": given}) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    for answer in answers:
        assert re.fullmatch("[!-~]{1,128}", answer.headers["x-request-id"])
        assert answer.json()["instance"] == answer.headers["x-request-id"]


# -- what is refused


REFUSED = {
    "not JSON": ("POST", "/get", b'[{"key":"a"},]', 400, "syntax", None),
    "no body": ("POST", "/set", b"", 400, "syntax", None),
    "not UTF-8": ("POST", "/get", b'[{"key":"\xff"}]', 400, "syntax", None),
    "root an object": ("POST", "/set", b'{"key":"a","value":1}', 400, "invalid-item", ""),
    "key a number": ("POST", "/get", b'[{"key":"a"},{"key":1}]', 400, "invalid-item", "/1/key"),
    "value missing": ("POST", "/set", b'[{"key":"a"}]', 400, "invalid-item", "/0"),
    "unknown member": ("POST", "/delete", b'[{"key":"a","x":1}]', 400, "invalid-item", "/0"),
    "lone surrogate": ("POST", "/locate", b'[{"key":"\\ud800"}]', 400, "invalid-item", "/0/key"),
    "NaN": ("POST", "/set", b'[{"key":"a","value":NaN}]', 400, "invalid-item", "/0/value"),
    "too deep": ("POST", "/set", b'[{"key":"a","value":' + b"[" * 65 + b"]" * 65 + b"}]", 400, "invalid-item", "/0/value"),
    **{
        f"ttl {ttl.decode()}": ("POST", "/set", b'[{"key":"a","value":1,"ttl":%b}]' % ttl, 400, "invalid-item", "/0/ttl")
        for ttl in (b"-1", b"0", b"-0.0", b"true", b"null", b'"60"', b"[60]", b"3162240001", b"1e300", b"NaN")
    },
    "ttl on get": ("POST", "/get", b'[{"key":"a","ttl":60}]', 400, "invalid-item", "/0"),
    "ttl on delete": ("POST", "/delete", b'[{"key":"a","ttl":60}]', 400, "invalid-item", "/0"),
    "key too long": ("POST", "/get", keys("a" * 481), 413, "too-large", "/0/key"),
    "10,001 items": ("POST", "/get", keys(*["a"] * 10_001), 413, "too-large", None),
    "empty key in the query": ("GET", "/get?key=", b"", 400, "invalid-item", "/0"),
    "U+0000 in the query": ("GET", "/get?key=a&key=b%00", b"", 400, "invalid-item", "/1"),
    "key too long in the query": ("GET", "/get?key=" + "a" * 481, b"", 413, "too-large", "/0"),
    "no key in the query": ("GET", "/get", b"", 400, "parameter", None),
    "no key for locate": ("GET", "/locate", b"", 400, "parameter", None),
    "key without a value": ("GET", "/get?key", b"", 400, "invalid-item", "/0"),
    "%zz": ("GET", "/get?key=%zz", b"", 400, "syntax", None),
    "% at the end": ("GET", "/get?key=a%", b"", 400, "syntax", None),
    "% and one digit": ("GET", "/get?key=%4", b"", 400, "syntax", None),
    "%u0061": ("GET", "/get?key=%u0061", b"", 400, "syntax", None),
    "%ff": ("GET", "/get?key=%ff", b"", 400, "syntax", None),
    "0xff": ("GET", "/get?key=\u00ff", b"", 400, "syntax", None),
    "overlong": ("GET", "/locate?key=%c0%80", b"", 400, "syntax", None),
    "surrogate as bytes": ("GET", "/get?key=%ed%a0%80", b"", 400, "syntax", None),
    "bad escape in a name": ("GET", "/get?key=a&%zz=1", b"", 400, "syntax", None),
    "unknown parameter": ("GET", "/get?key=a&limit=1", b"", 400, "parameter", None),
    "parameter in capitals": ("GET", "/get?KEY=a", b"", 400, "parameter", None),
    "parameter on POST get": ("POST", "/get?key=a", keys("a"), 400, "parameter", None),
    "parameter on set": ("POST", "/set?ttl=1", HELLO, 400, "parameter", None),
    "parameter on delete": ("POST", "/delete?force=1", keys("a"), 400, "parameter", None),
    "parameter on POST locate": ("POST", "/locate?key=a", keys("a"), 400, "parameter", None),
    "parameter on ring": ("GET", "/v1/ring?x", b"", 400, "parameter", None),
    "parameter on info": ("GET", "/v1/info?x=1", b"", 400, "parameter", None),
    "parameter on livez": ("GET", "/livez?verbose", b"", 400, "parameter", None),
    "repeated parameter": ("GET", "/readyz?verbose&verbose", b"", 400, "parameter", None),
    "unknown path": ("GET", "/nowhere", b"", 404, "not-found", None),
    "slash behind": ("GET", "/get/?key=a", b"", 404, "not-found", None),
    "two slashes": ("GET", "//get?key=a", b"", 404, "not-found", None),
    "path in capitals": ("GET", "/GET?key=a", b"", 404, "not-found", None),
    "path up": ("GET", "/v1/../livez", b"", 404, "not-found", None),
}


@pytest.mark.promise("I4")
@pytest.mark.parametrize(("method", "target", "body", "status", "code", "pointer"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_request_is_answered_as_problem_json_and_changes_nothing(
    node, call, method, target, body, status, code, pointer
):
    node.put({"a": b"0"})
    found = problem(call(method, target, body), status, code)
    assert found["retryable"] is False
    assert found["detail"]
    if pointer is None:
        assert "errors" not in found
    else:
        [error] = found["errors"]
        assert list(error) == ["pointer", "detail"]
        assert error["pointer"] == pointer
        assert error["detail"] in found["detail"]
    assert (node.engine.live, node.read(["a"])) == (1, [b"0"])


@pytest.mark.parametrize("path", ["/ge%fft?key=a", "/%ffget?key=a", "/get%c0?key=a", "/liv%80ez"])
def test_path_with_bytes_that_are_not_utf8_is_refused_and_no_other_path_answers(node, call, path):
    node.put({"a": b"0"})
    answer = call("GET", path)
    assert answer.status in (400, 404)
    problem(answer, answer.status, "syntax" if answer.status == 400 else "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/set", {"POST", "PUT"}),
        ("HEAD", "/set", {"POST", "PUT"}),
        ("DELETE", "/set", {"POST", "PUT"}),
        ("PUT", "/get", {"GET", "POST"}),
        ("DELETE", "/get", {"GET", "POST"}),
        ("OPTIONS", "/get", {"GET", "POST"}),
        ("GET", "/delete", {"POST"}),
        ("DELETE", "/delete", {"POST"}),
        ("PUT", "/locate", {"GET", "POST"}),
        ("POST", "/v1/ring", {"GET"}),
        ("POST", "/v1/info", {"GET"}),
        ("POST", "/livez", {"GET"}),
        ("PATCH", "/readyz", {"GET"}),
        ("TRACE", "/livez", {"GET"}),
        ("GET", "/internal/frames", {"POST"}),
    ],
)
def test_wrong_method_is_answered_405_with_allow(call, method, path, allowed):
    answer = call(method, path)
    assert answer.status == 405
    found = {name.strip() for name in answer.headers["allow"].split(",")}
    assert found - {"HEAD"} == allowed
    assert "HEAD" not in found or "GET" in found
    if method != "HEAD":
        problem(answer, 405, "method-not-allowed")


@pytest.mark.parametrize("path", ["/a%22b%0d%0aX-Evil:%20y", "/%1b%5b31m", "/" + "x" * 5_000])
def test_unknown_path_with_hostile_characters_is_named_short_and_inside_json_only(call, path):
    answer = call("GET", path)
    assert len(problem(answer, 404, "not-found")["detail"]) < 400
    assert set(answer.headers) == {"content-type", "content-length", "x-request-id", "cache-control"}


# -- bodies; how they are framed is for the tests of the server


@pytest.mark.parametrize("path", ["/set", "/get", "/delete", "/locate"])
def test_body_at_its_limit_is_read_and_one_byte_over_is_answered_413(build_node, document, path):
    node = build_node(max_body=64)
    node.service.adopt(document)
    fits, over = (b"[" + b" " * spaces + b"]" for spaces in (62, 63))
    assert node.client("POST", path, fits).status == 200
    found = problem(node.client("POST", path, over), 413, "too-large")
    assert found["detail"] == "a body has at most 64 bytes, this one 65"


def test_body_announced_over_the_limit_is_refused_without_reading_it(node, call):
    problem(call("POST", "/set", HELLO, length=10**17), 413, "too-large")
    assert node.engine.live == 0


def test_body_shorter_than_announced_is_answered_400_and_changes_nothing(node, call):
    found = problem(call("POST", "/set", HELLO, length=len(HELLO) + 1), 400, "syntax")
    assert f"after {len(HELLO)} of {len(HELLO) + 1} bytes" in found["detail"]
    assert node.engine.live == 0


def test_body_longer_than_announced_is_read_as_far_as_announced(call):
    call("POST", "/set", HELLO)
    assert call("POST", "/get", keys("hi") + b"garbage", length=len(keys("hi"))).json()["existedKey"][0]["key"] == "hi"


@pytest.mark.promise("I5")
@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({"key": 1, "value": 1}, 400),
        ({"key": "", "value": 1}, 400),
        ({"key": "x"}, 400),
        ({"key": "x" * 481, "value": 1}, 413),
        ({"key": "x", "value": "x" * 100}, 413),
        ({"key": "x", "value": 1, "ttl": -5}, 400),
        ({"key": "x", "value": 1, "tll": 5}, 400),
        ({"key": "x", "value": float("nan")}, 400),
        ({"key": "\ud800", "value": 1}, 400),
        (7, 400),
    ],
)
@pytest.mark.parametrize("position", [0, 500, 999])
def test_set_one_bad_item_in_1000_applies_nothing(build_node, document, bad, status, position):
    node = build_node(limits=Limits(max_value=100))
    node.service.adopt(document)
    node.put({"k3": b'"before"'})
    items = [{"key": f"k{i}", "value": i} for i in range(1_000)]
    items[position] = bad
    answer = node.client("POST", "/set", json.dumps(items).encode())
    assert answer.status == status
    assert answer.json()["errors"][0]["pointer"].split("/")[1] == str(position)
    assert (node.engine.live, node.read(["k3"])) == (1, [b'"before"'])


def test_delete_one_bad_item_in_1000_deletes_nothing(node, call):
    node.put({f"k{i}": b"1" for i in range(1_000)})
    problem(call("POST", "/delete", keys(*[f"k{i}" for i in range(999)], "")), 400, "invalid-item")
    assert node.engine.live == 1_000


# -- when something is wrong inside


class BrokenEngine(MemoryEngine):
    """Fails as a bug would, with a text that must not leave the process."""

    def read(self, keys, now, _room=float("inf")):
        raise RuntimeError(f"secret token 12345 in /var/lib/gkv for {keys} at {now}")


@pytest.mark.promise("I9")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_internal_error_is_answered_500_without_a_trace_of_it(build_node, document, capfd, method):
    node = build_node(engine=BrokenEngine(tokens))
    node.service.adopt(document)
    headers = {"X-Request-Id": "find-me"}
    answer = node.client(method, "/get?key=hi" if method == "GET" else "/get", keys("hi") if method == "POST" else b"", headers)
    found = problem(answer, 500, "internal")
    assert found == {
        "type": "urn:gkv:problem:internal",
        "title": "Internal error",
        "status": 500,
        "detail": "",
        "retryable": False,
        "instance": "find-me",
    }
    logged = capfd.readouterr()
    assert logged.out == ""
    assert "find-me" in logged.err
    assert "RuntimeError: secret token 12345" in logged.err


def test_internal_error_costs_one_answer_only(build_node, document, capfd):
    node = build_node(engine=BrokenEngine(tokens))
    node.service.adopt(document)
    assert node.client("GET", "/get?key=hi").status == 500
    assert "RuntimeError" in capfd.readouterr().err
    assert node.client("POST", "/set", HELLO).status == 200


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/set", HELLO),
        ("POST", "/get", keys("hi")),
        ("GET", "/get?key=hi", b""),
        ("POST", "/delete", keys("hi")),
        ("POST", "/locate", keys("hi")),
        ("GET", "/locate?key=hi", b""),
        ("GET", "/v1/ring", b""),
    ],
)
def test_before_the_first_member_data_calls_are_answered_503(build_node, method, target, body):
    answer = build_node().client(method, target, body)
    assert problem(answer, 503, "unavailable")["retryable"] is True
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(("body", "status"), [(b"[1]", 400), (b"", 400), (keys("a" * 481), 413)])
def test_before_the_first_member_a_bad_request_is_still_the_clients_fault(build_node, body, status):
    assert build_node().client("POST", "/get", body).status == status


# -- when one of two owners does not answer


@pytest.fixture
def half(build_node, dead_url):
    """Return a node whose cluster has a second member that nobody reaches, and a key of each."""
    node = build_node()
    members = (Node("n1", "http://127.0.0.1:9000"), Node("n2", dead_url))
    assert node.service.adopt(document_of(members, 7, 64))
    candidates = [f"k{i}" for i in range(100)]
    mine, other = (next(key for key in candidates if node.view.placement.primary(key).id == owner) for owner in ("n1", "n2"))
    return node, mine, other


@pytest.mark.promise("I2")
@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        (None, 200),
        ("handling=lenient", 200),
        ("return=minimal", 200),
        ("handling=strict", 503),
        ("respond-async, Handling = Strict", 503),
        ('handling="strict"', 503),
    ],
)
def test_get_with_a_dead_owner_answers_what_is_known_and_never_says_missing(half, prefer, status):
    node, mine, other = half
    node.client("POST", "/set", json.dumps([{"key": mine, "value": 1}]).encode())
    answer = node.client("POST", "/get", keys(other, mine), {"Prefer": prefer} if prefer else {})
    assert answer.status == status
    assert answer.body == (
        b'{"existedKey":[{"key":"%b","value":1}],"failedKey":[{"key":"%b","code":"unreachable","retryable":true}],"complete":false}'
        % (mine.encode(), other.encode())
    )
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)


def test_get_with_nothing_but_dead_owners_is_answered_503(half):
    node, _, other = half
    answer = node.client("GET", f"/get?key={other}&key={other}")
    assert (answer.status, answer.headers["retry-after"], answer.headers["content-type"]) == (503, "1", "application/json")
    assert answer.json() == {
        "existedKey": [],
        "failedKey": [{"key": other, "code": "unreachable", "retryable": True}] * 2,
        "complete": False,
    }


@pytest.mark.parametrize("accept", ["text/plain", "application/json"])
def test_set_with_a_dead_owner_is_answered_503_as_json_whatever_accept_says(half, accept):
    node, mine, other = half
    body = json.dumps([{"key": other, "value": 1}, {"key": mine, "value": 2}]).encode()
    answer = node.client("POST", "/set", body, {"Accept": accept})
    assert (answer.status, answer.headers["retry-after"], answer.headers["content-type"]) == (503, "1", "application/json")
    failed = b'"failedKey":[{"key":"%b","code":"not-applied","retryable":true}],"complete":false' % other.encode()
    version = answer.json()["version"].encode()
    assert answer.body == b'{"set":1,"nodes":1,"version":"%b",%b}' % (version, failed)
    assert node.read([mine]) == [b"2"]


def test_delete_with_a_dead_owner_is_answered_503_with_what_was_deleted(half):
    node, mine, other = half
    node.put({mine: b"1"})
    answer = node.client("POST", "/delete", keys(mine, other))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    failed = b'"failedKey":[{"key":"%b","code":"not-applied","retryable":true}],"complete":false' % other.encode()
    assert answer.body == b'{"deleted":1,%b}' % failed
    assert node.engine.live == 0


@pytest.mark.parametrize(("path", "body"), [("/set", HELLO), ("/delete", keys("hi"))])
def test_write_while_none_is_admitted_waits_for_the_deadline_and_applies_nothing(node, call, path, body):
    node.put({"hi": b"0"})
    node.view.hold_writes()  # as until all is on the disk that was admitted before the ring began to change
    answer = call("POST", path, body)
    assert answer.status == 503
    assert {row["code"] for row in answer.json()["failedKey"]} == {"epoch"}
    assert (node.engine.live, node.read(["hi"])) == (1, [b"0"])
    assert call("GET", "/get?key=hi").json() == {"existedKey": [{"key": "hi", "value": 0}]}


# -- frames


FRAMES = "/internal/frames"


def gathered(*frames):
    """Return the body with which a channel sends frames."""
    return b"gkv/2 0000000000000000 7 %b\n%b" % (b",".join(b"%d" % len(frame) for frame in frames), b"".join(frames))


def send(call, *frames, path=FRAMES):
    """Send frames as a channel does, and return the frames of the answer."""
    answer = call("POST", path, gathered(*frames))
    assert answer.status == 200
    preface = answer.body.partition(b"\n")[0].decode()
    assert re.match(r"gkv/2 0{16} [0-9]+ ", preface)
    lengths = [int(length) for length in preface.split(" ")[3].split(",")]
    assert len(preface) + 1 + sum(lengths) == len(answer.body)
    found, start = [], len(preface) + 1
    for length in lengths:
        found.append(answer.body[start : start + length])
        start += length
    return found


ERA = era_of(1, 7)


def ask(call, request):
    """Send one request; return the answer."""
    [frame] = send(call, request.write())
    return answer_to(request, frame)


def refused(node, frame):
    """Return why a node refuses a frame."""
    [reply] = node.service.answer([frame])
    return refusal(reply)


def here(document):
    """Return what a process answers that has this document in force."""
    return Here(0, document.cluster, document.order, document.digest)


def test_frames_do_what_they_say(node, call):
    assert ask(call, Set(CLUSTER, ERA, ["a", "b"], [b"1.0", b"\n\0"])).letters == "cc"
    assert ask(call, Get(CLUSTER, ERA, ["b", "x", "a"])) == Values([b"\n\0", None, b"1.0"])
    assert ask(call, Status()) == here(node.view.document)
    assert ask(call, Delete(CLUSTER, ERA, ["a", "x"])).letters == "ru"
    assert node.read(["a", "b"]) == [None, b"\n\0"]


def test_frames_gathered_into_one_request_are_answered_in_order(call, document):
    replies = send(
        call,
        Set(CLUSTER, ERA, ["a"], [b"1"]).write(),
        b"nonsense",
        b"",
        Get(CLUSTER, ERA, ["a"]).write(),
        Status().write(),
    )
    assert read_answer(replies[0], Effects, 1).letters == "c"
    assert refusal(replies[1]).reason is refusal(replies[2]).reason is NodeRefusal.BAD_FRAME
    assert read_answer(replies[3], Values, 1) == Values([b"1"])
    assert read_answer(replies[4], Here) == here(document)


@pytest.mark.parametrize(
    "lengths",
    [
        None,
        "",
        "x",
        "-1",
        "+{n}",
        "0x10",
        "{n},",
        ",{n}",
        "{n};0",
        " {n}",
        "{n}, 0",
        "{n}.0",
        "1",
        "{m}",
        "{n},1",
        "\u00b2",
        "9" * 16,
        "0{n}",
        "{n} ",
        "{n} \u00b2",
        "{n}\r",
        "{n}" + ",0" * 128,
        "{n} " + "x" * 2_000,
    ],
)
def test_frames_with_a_wrong_preface_are_answered_400_and_change_nothing(node, call, lengths):
    frame = Set(CLUSTER, ERA, ["a"], [b"1"]).write()
    preface = "" if lengths is None else f"gkv/2 0000000000000000 7 {lengths.format(n=len(frame), m=len(frame) + 1)}\n"
    problem(call("POST", FRAMES, preface.encode() + frame), 400, "syntax")
    assert node.engine.live == 0


@pytest.mark.parametrize("number", ["0", "1", "10", "01"])
def test_frames_of_another_format_are_refused_by_a_line_that_names_both(node, call, capfd, number):
    frame = Set(CLUSTER, ERA, ["a"], [b"1"]).write()
    for _ in range(3):
        answer = call("POST", FRAMES, f"gkv/{number} {len(frame)}\n".encode() + frame)
        problem(answer, 400, "syntax")
    assert node.engine.live == 0
    if number != "01":  # which is no other number, and no number of a format either
        assert f"format {number}, this process reads format 2" in answer.json()["detail"]
        assert capfd.readouterr().err.count(f"in format {number}, this process reads format 2") == 1


@pytest.mark.parametrize("lane", ["/replica", "/background"])
def test_frames_of_the_other_lanes_are_answered_as_well(call, document, lane):
    [frame] = send(call, Status().write(), path=FRAMES + lane)
    assert answer_to(Status(), frame) == here(document)


def test_frames_body_over_the_limit_is_answered_413(build_node):
    node = build_node(max_body=65)
    body = gathered(b" " * (2 * 65 - len("gkv/2 0000000000000000 7 100\n")))
    assert len(body) == 2 * 65
    assert node.client("POST", FRAMES, body).status == 200
    problem(node.client("POST", FRAMES, body + b" "), 413, "too-large")


def test_what_a_write_did_is_told_when_there_is_no_memory_for_answers(node, document):
    """A refusal would say that nothing was begun."""
    admission = Admission(max_buffered=LARGE)
    held = [lane.budget.hold(1) for lane in (admission.clients, admission.members)]  # what comes alone always fits
    service = Service("n1", node.view, node.engine, node.commits, node.order, admission=admission)
    keys = [f"{i:x}" for i in range(LARGE + 1)]
    put, get = Put(CLUSTER, ERA, keys, [b"1"] * len(keys)), Get(CLUSTER, ERA, keys)
    frames = service.answer([put.write(), get.write()])
    assert answer_to(put, frames[0]).count(Effect.CREATED) == len(keys)
    assert answer_to(get, frames[1]) == Refused(NodeRefusal.BUSY)
    asked = ask_all([(service, put.write()), (service, get.write())], monotonic() + 10)
    assert answer_to(put, asked[0].frame).count(Effect.REPLACED) == len(keys)
    assert answer_to(get, asked[1].frame) == Refused(NodeRefusal.BUSY)
    del held


@pytest.mark.promise("I6")
@pytest.mark.parametrize("op", ["get", "set", "delete"])
@pytest.mark.parametrize(
    ("cluster", "era"),
    [
        *((CLUSTER, era_of(*other)) for other in ((1, 6), (1, 8), (0, 7), (2, 7), (0, 0))),
        *(("f" * 32, ERA), ("", ERA)),
    ],
    ids=str,
)
def test_frames_of_another_epoch_or_cluster_are_stale_and_change_nothing(node, call, document, op, cluster, era):
    node.put({"a": b"0"})
    reply = ask(call, key_request(Op(op)).of_part(cluster, era, Items(["a"], [b"1"] if op == "set" else [])))
    assert reply == Refused(NodeRefusal.STALE, document.to_json())
    assert node.read(["a"]) == [b"0"]


@pytest.mark.parametrize("op", ["get", "set", "delete"])
def test_frames_before_the_join_are_stale_without_a_document(build_node, op):
    node = build_node()
    node.put({"a": b"0"})
    assert ask(node.client, key_request(Op(op)).of_part("", 0, Items(["a"], [b"1"] if op == "set" else []))) == Refused(
        NodeRefusal.STALE
    )
    assert ask(node.client, Status()) == Here(0)
    assert node.read(["a"]) == [b"0"]


def test_frames_while_no_write_is_admitted_are_read_but_not_written(node, call, document):
    node.put({"a": b"0"})
    node.view.hold_writes()
    assert ask(call, Set(CLUSTER, ERA, ["a"], [b"1"])) == Refused(NodeRefusal.CHANGING)
    assert ask(call, Delete(CLUSTER, ERA, ["a"])) == Refused(NodeRefusal.CHANGING)
    assert ask(call, Get(CLUSTER, ERA, ["a"])) == Values([b"0"])
    newer = changed(document)
    assert ask(call, Adopt(newer.to_json())) == here(newer)
    assert ask(call, Set(CLUSTER, era_of(1, 8), ["a"], [b"1"])).letters == "r"


def test_adopt_newer_document_is_in_force_and_the_same_again_is_granted(node, call, document):
    newer = changed(document)
    for _ in range(2):
        assert ask(call, Adopt(newer.to_json())) == here(newer)
    assert node.view.document == newer
    assert call("GET", "/v1/ring").json()["epoch"] == 8


def test_adopt_older_document_is_refused_with_the_one_in_force(node, call, document):
    older = Document(CLUSTER, 6, document.members, document.vnodes)
    assert ask(call, Adopt(older.to_json())) == Refused(NodeRefusal.STALE, document.to_json())
    assert node.view.document == document


def test_adopt_other_document_of_the_same_epoch_is_refused(node, call, document):
    other = Document(
        CLUSTER, 7, lines([Node("n1", "http://127.0.0.1:9000"), Node("n2", "http://127.0.0.1:9001")]), document.vnodes
    )
    assert ask(call, Adopt(other.to_json())) == Refused(NodeRefusal.STALE, document.to_json())
    assert node.view.document == document


def test_process_that_is_not_the_one_of_its_line_coordinates_and_serves_no_key(node, call, document):
    node.put({"a": b"0"})
    [line] = document.members
    other = replace(changed(document), members=(replace(line, incarnation=7),))
    assert ask(call, Adopt(other.to_json())) == here(other)
    era = era_of(1, 8)
    for request in (Get(CLUSTER, era, ["a"]), Set(CLUSTER, era, ["a"], [b"1"]), ListKeys(CLUSTER, era, "", "", 10)):
        assert ask(call, request) == Refused(NodeRefusal.NOT_ACTING)
    assert node.read(["a"]) == [b"0"]


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        ({"state": State.DOWN}, False),
        ({"state": State.FILLING, "empty": True}, False),
        ({"state": State.FILLING}, True),
    ],
    ids=str,
)
def test_member_serves_while_it_acts_by_its_line(node, call, document, changes, serves):
    node.put({"a": b"0"})
    [line] = document.members
    node.service.adopt(replace(changed(document), members=(replace(line, **changes),)))
    assert ask(call, Get(CLUSTER, era_of(1, 8), ["a"])) == (Values([b"0"]) if serves else Refused(NodeRefusal.NOT_ACTING))
    failed = call("GET", "/get?key=a").json().get("failedKey", [])
    assert [row["code"] for row in failed] == ([] if serves else ["no-primary"])


def test_adopt_document_without_this_node_is_taken_by_who_was_a_member_alone(node, call, document, build_node):
    stranger = Node("n2", "http://127.0.0.1:9001")
    without = Document(CLUSTER, 8, lines([stranger]), document.vnodes)
    assert ask(call, Adopt(without.to_json())) == here(without)
    assert ask(call, Get(CLUSTER, era_of(1, 8), ["a"])) == Refused(NodeRefusal.NOT_ACTING)
    assert ask(build_node("n3").client, Adopt(without.to_json())) == Refused(NodeRefusal.STALE)


def test_adopt_document_of_a_foreign_cluster_is_taken_only_while_there_is_neither_record_nor_tombstone(node, call, document):
    foreign = Document("f" * 32, 1, document.members, document.vnodes)
    node.put({"a": b"0"})
    assert ask(call, Adopt(foreign.to_json())) == Refused(NodeRefusal.STALE, document.to_json())
    assert node.view.document == document

    node.put({"a": None})
    assert ask(call, Adopt(foreign.to_json())) == Refused(NodeRefusal.STALE, document.to_json())

    assert node.engine.forget(node.wall(), 10) == 1
    assert ask(call, Adopt(foreign.to_json())) == here(foreign)
    assert node.view.document == foreign
    assert ask(call, Set(CLUSTER, ERA, ["a"], [b"1"])).reason is NodeRefusal.STALE


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 0},
        {"epoch": "8"},
        {"cluster": "x"},
        {"members": None},
        {"members": [1]},
        {"replicas": 6},
        {"vnodes": 0},
        {"next": "n2"},
    ],
    ids=str,
)
def test_adopt_malformed_document_is_refused_and_changes_nothing(node, call, document, change):
    newer = document.to_json() | {"epoch": 8} | change
    assert ask(call, Adopt(newer)).reason is NodeRefusal.BAD_DOCUMENT
    assert node.view.document == document


def test_adopt_document_with_a_ring_too_large_to_build_is_refused(node, document):
    newer = document.to_json() | {"epoch": 8, "vnodes": 1 << 40}
    assert refused(node, Adopt(newer).write()).reason is NodeRefusal.BAD_DOCUMENT
    assert node.view.document == document


def test_adopt_document_with_a_weight_beyond_a_double_is_refused(node, document):
    newer = document.to_json() | {"epoch": 8, "members": [document.to_json()["members"][0] | {"weight": 10**400}]}
    frame = b'{"op":"adopt","document":%b}\n' % ujson.dumps(newer).encode()
    assert refused(node, frame).reason is NodeRefusal.BAD_DOCUMENT
    assert node.view.document == document


def test_set_frame_with_a_lone_surrogate_is_refused_and_applies_nothing(node):
    frame = b'{"op":"set","cluster":"%b","generation":1,"epoch":7,"keys":["a","\\ud800"],"sizes":[1,1]}\n12' % CLUSTER.encode()
    assert refused(node, frame).reason is NodeRefusal.BAD_FRAME
    assert node.engine.live == 0


def test_answer_mutated_frames_does_not_raise_and_what_is_no_request_changes_nothing(build_node, document):
    chance = random.Random(SEED)
    house = build_node()
    house.service.adopt(document)
    newer = changing(document)
    frames = [
        request.write()
        for request in (
            Status(),
            Get(CLUSTER, ERA, ["a", "b"]),
            Set(CLUSTER, ERA, ["a", "b"], [b"1", b'"x"']),
            Set(CLUSTER, ERA, ["a"], [b"1"], [60_000]),
            Delete(CLUSTER, ERA, ["a"]),
            ListKeys(CLUSTER, ERA, "a", "", 10),
            Adopt(newer.to_json()),
        )
    ]
    refused = 0
    for _ in range(5_000):
        frame = bytearray(chance.choice(frames))
        for _ in range(chance.randint(1, 3)):
            frame[chance.randrange(len(frame))] = chance.randrange(128)
        before = (house.view.document, house.engine.live, house.engine.size)
        [reply] = house.service.answer([bytes(frame)])
        try:
            read_request(bytes(frame))
        except BadFrame:
            refused += 1
            assert refusal(reply).reason is NodeRefusal.BAD_FRAME, frame
            assert (house.view.document, house.engine.live, house.engine.size) == before, frame
    assert refused > 2_000
    assert house.engine.check() == []
