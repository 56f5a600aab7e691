"""Bodies that are not what /set, /get and /delete take, through a real socket: a clear refusal, nothing applied, and the
connection goes on - the request behind it on the same connection is answered.
"""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Answer, Program, System

DEEP = 100_000
TABLE: dict[str, tuple[str, bytes, int]] = {
    # name: (path, body, status)
    "empty": ("/get", b"", 400),
    "only white space": ("/get", b" \r\n\t", 400),
    "something behind": ("/get", b"[] x", 400),
    "a number and something behind": ("/get", b"1 x", 400),
    "trailing comma in the batch": ("/get", b'[{"key":"a"},]', 400),
    "trailing comma in an item": ("/get", b'[{"key":"a",}]', 400),
    "trailing comma in a value": ("/set", b'[{"key":"a","value":[1,]}]', 400),
    "comment": ("/get", b'[{"key":"a"} /* no */]', 400),
    "plus sign": ("/set", b'[{"key":"a","value":+1}]', 400),
    "no digit before the point": ("/set", b'[{"key":"a","value":.5}]', 400),
    "no digit behind the point": ("/set", b'[{"key":"a","value":5.}]', 400),
    "leading nought": ("/set", b'[{"key":"a","value":01}]', 400),
    "raw newline in a string": ("/set", b'[{"key":"a","value":"x\ny"}]', 400),
    "raw newline in a key": ("/get", b'[{"key":"a\nb"}]', 400),
    "control character in a string": ("/set", b'[{"key":"a","value":"\x01"}]', 400),
    "NaN": ("/set", b'[{"key":"a","value":NaN}]', 400),
    "Infinity": ("/set", b'[{"key":"a","value":Infinity}]', 400),
    "minus Infinity": ("/set", b'[{"key":"a","value":[-Infinity]}]', 400),
    "1e400": ("/set", b'[{"key":"a","value":1e400}]', 400),
    "single quotes": ("/get", b"[{'key':'a'}]", 400),
    "depth 65": ("/set", b'[{"key":"a","value":%b%b}]' % (b"[" * 65, b"]" * 65), 400),
    "100,000 open brackets": ("/set", b'[{"key":"a","value":' + b"[" * DEEP, 400),
    "100,000 open brackets as the body": ("/get", b"[" * DEEP, 400),
    "100,000 open objects": ("/set", b'[{"key":"a","value":' + b'{"a":' * DEEP, 400),
    "duplicate member": ("/get", b'[{"key":"a","key":"b"}]', 400),
    "duplicate member in a value": ("/set", b'[{"key":"a","value":{"x":1,"x":2}}]', 400),
    "duplicate member by an escape": ("/set", b'[{"key":"a","value":{"x":1,"\\u0078":2}}]', 400),
    "lone surrogate in a key": ("/get", b'[{"key":"\\ud800"}]', 400),
    "lone surrogate in a value": ("/set", b'[{"key":"a","value":"\\udc00"}]', 400),
    "surrogates the wrong way round": ("/set", b'[{"key":"a","value":"\\ude00\\ud83d"}]', 400),
    "bad escape": ("/set", b'[{"key":"a","value":"\\x41"}]', 400),
    "invalid UTF-8": ("/get", b'[{"key":"\xff"}]', 400),
    "overlong UTF-8": ("/get", b'[{"key":"\xc0\xaf"}]', 400),
    "surrogate as UTF-8": ("/get", b'[{"key":"\xed\xa0\x80"}]', 400),
    "UTF-16": ("/get", '[{"key":"a"}]'.encode("utf-16"), 400),
    "byte order mark": ("/get", b'\xef\xbb\xbf[{"key":"a"}]', 400),
    "root an object": ("/get", b'{"key":"a"}', 400),
    "root a string": ("/get", b'"a"', 400),
    "root null": ("/get", b"null", 400),
    "item a string": ("/get", b'["a"]', 400),
    "key a number": ("/get", b'[{"key":1}]', 400),
    "key null": ("/get", b'[{"key":null}]', 400),
    "key a list": ("/get", b'[{"key":["a"]}]', 400),
    "key missing": ("/get", b"[{}]", 400),
    "key empty": ("/get", b'[{"key":""}]', 400),
    "key with U+0000": ("/get", b'[{"key":"a\\u0000"}]', 400),
    "key of 481 bytes": ("/get", b'[{"key":"%b"}]' % (b"k" * 481), 413),
    "value missing": ("/set", b'[{"key":"a"}]', 400),
    "value where none belongs": ("/get", b'[{"key":"a","value":1}]', 400),
    "ttl a string": ("/set", b'[{"key":"a","value":1,"ttl":"1"}]', 400),
    "ttl negative": ("/set", b'[{"key":"a","value":1,"ttl":-1}]', 400),
    "ttl true": ("/set", b'[{"key":"a","value":1,"ttl":true}]', 400),
    "unknown member": ("/set", b'[{"key":"a","value":1,"colour":2}]', 400),
    "one bad item in 1,000": (
        "/set",
        json.dumps([{"key": f"k{i}", "value": i} for i in range(999)]).encode()[:-1] + b',{"key":"","value":0}]',
        400,
    ),
    "one bad item in 1,000 to delete": (
        "/delete",
        json.dumps([{"key": "kept"}] * 999).encode()[:-1] + b',{"key":7}]',
        400,
    ),
    "10,001 items": ("/get", json.dumps([{"key": "a"}] * 10_001).encode(), 413),
    "a million keys of one character": ("/get", b"[" + b",".join([b'{"key":"a"}'] * 1_000_000) + b"]", 413),
    "value one over the limit": ("/set", b'[{"key":"a","value":"%b"}]' % (b"x" * ((1 << 20) - 1)), 413),
}
FINE: dict[str, tuple[str, bytes, bytes]] = {
    # name: (path, body, the answer's body)
    "empty batch": ("/get", b" [ ] ", b'{"existedKey":[]}'),
    "empty batch to set": ("/set", b"[]", b""),
    "depth 64": ("/set", b'[{"key":"deep","value":%b%b}]' % (b"[" * 64, b"]" * 64), b"Success to set key"),
    "value at the limit": ("/set", b'[{"key":"big","value":"%b"}]' % (b"x" * ((1 << 20) - 2)), b"Success to set key"),
    "key of 480 bytes": ("/set", b'[{"key":"%b","value":1}]' % (b"k" * 480), b"Success to set key"),
    "the same key twice": ("/set", b'[{"key":"twice","value":1},{"key":"twice","value":2}]', b"Success to set key"),
}
EXACT = [
    b"9007199254740993",
    b"18446744073709551616",
    b"123456789012345678901234567890",
    b"1.0",
    b"1e2",
    b"-0",
    b'"\\u00e9\\/"',
]
CANARY = b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Give one running system for all of these: nothing here may harm it."""
    system = System(tmp_path_factory.mktemp("system"))
    program, _ = system.cluster(1)
    program.call("POST", "/set", [{"key": "kept", "value": "as it was"}])
    yield program
    system.end()


def exchange(proxy: Program, path: str, body: bytes) -> tuple[Answer, Answer]:
    """Send a request with another one right behind it; return both answers."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
        connection.sendall(head + body + CANARY)
        stream = connection.makefile("rb")
        answers = []
        for _ in range(2):
            status = int(stream.readline().split()[1])
            headers = {}
            while line := stream.readline().strip().decode():
                name, _, value = line.partition(": ")
                headers[name] = value
            answers.append(Answer(status, headers, stream.read(int(headers["Content-Length"]))))
    return answers[0], answers[1]


@pytest.mark.promise("I4", "I5")
@pytest.mark.parametrize(("path", "body", "status"), TABLE.values(), ids=TABLE.keys())
def test_bad_body_is_refused_changes_nothing_and_the_connection_goes_on(
    proxy: Program, path: str, body: bytes, status: int
) -> None:
    before = proxy.call("GET", "/get?key=kept&key=a&key=k1").body
    refusal, canary = exchange(proxy, path, body)
    assert refusal.status == status
    assert refusal.headers["Content-Type"] == "application/problem+json"
    problem = refusal.json
    assert problem["status"] == status
    assert problem["type"].startswith("urn:gkv:problem:")
    assert problem["detail"]
    assert problem["retryable"] is False
    assert problem["instance"] == refusal.headers["X-Request-Id"]
    assert canary.status == 200
    assert proxy.call("GET", "/get?key=kept&key=a&key=k1").body == before


@pytest.mark.parametrize(("path", "body", "expected"), FINE.values(), ids=FINE.keys())
def test_body_at_a_limit_is_served_and_the_connection_goes_on(proxy: Program, path: str, body: bytes, expected: bytes) -> None:
    answer, canary = exchange(proxy, path, body)
    assert (answer.status, answer.body) == (200, expected)
    assert canary.status == 200


@pytest.mark.parametrize("text", EXACT, ids=lambda text: text.decode())
def test_value_comes_back_byte_for_byte(proxy: Program, text: bytes) -> None:
    assert exchange(proxy, "/set", b'[{"key":"exact","value":%b}]' % text)[0].status == 200
    answer, _ = exchange(proxy, "/get", b'[{"key":"exact"}]')
    assert answer.body == b'{"existedKey":[{"key":"exact","value":%b}]}' % text
