"""Requests of all ways, and what their answers say: each code of the contract is a definite answer,
an unknown outcome or neither.
"""

import json

import pytest

from gkv.api.listing import write_cursor
from gkv.coordinator.failures import READ_FAILURES, WRITE_FAILURES
from gkv.replication.names import Scope
from tests.cluster.conftest import Answer
from tests.linearizability import ways
from tests.linearizability.history import ABSENT, PRESENT, Condition, Ending, Kind
from tests.linearizability.ways import BrokenContract, Intent, Page, Told

JSON = {"Content-Type": "application/json"}
ONE = Intent("a/b", Kind.PUT, '"x"')
DELETE = Intent("k", Kind.DELETE)


def answer(status: int, body: object = b"", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, JSON | {name.replace("_", "-"): value for name, value in headers.items()}, data)


def problem(status: int, code: str, **headers: str) -> Answer:
    return answer(status, {"type": f"urn:gkv:problem:{code}"}, **headers, Content_Type="application/problem+json")


def test_requests_say_what_is_meant() -> None:
    put = ways.put(Intent("a b/é", Kind.PUT, ways.of_bytes(b"\xff"), ttl=1.5, condition=Condition(("v1", "v2"))))
    assert (put.method, put.path, put.body) == ("PUT", "/v1/kv/a%20b/%C3%A9?ttl=1.5", b"\xff")
    assert put.headers == {"Content-Type": ways.BYTES, "If-Match": '"v1", "v2"'}
    assert ways.delete(Intent("k", Kind.DELETE, condition=ABSENT)).headers == {"If-None-Match": "*"}
    assert ways.add(Intent("k", Kind.ADD, delta=-3, ttl=2)).path == "/v1/kv/k?add=-3&ttl=2"
    assert ways.touch(Intent("k", Kind.TOUCH, ttl=0)).path == "/v1/kv/k?touch=0"
    items = [
        Intent("a", Kind.PUT, '"x"', ttl=2, condition=PRESENT),
        Intent("b", Kind.PUT, "7", condition=ABSENT),
        Intent("c", Kind.PUT, ways.of_bytes(b"x"), condition=Condition(("v1",))),
    ]
    assert json.loads(ways.set_many(items, as_json=True).body or b"") == [
        {"key": "a", "value": "x", "ttl": 2, "ifVersion": "*"},
        {"key": "b", "value": 7, "ifVersion": None},
        {"key": "c", "value": "eA==", "encoding": "base64", "type": ways.BYTES, "ifVersion": "v1"},
    ]


READS_OF_ONE = [
    (answer(200, "x", ETag='"v1"'), Told(Ending.DONE, '"x"', "v1")),
    (answer(200, b"\xff", ETag='"v1"', Content_Type="image/png"), Told(Ending.DONE, ways.of_bytes(b"\xff"), "v1")),
    (answer(304, ETag='"v1"'), Told(Ending.DONE, version="v1")),
    (problem(404, "no-such-key"), Told(Ending.MISSING)),
    (problem(504, "timeout"), Told(Ending.REFUSED, code="timeout")),
]


@pytest.mark.parametrize(("got", "told"), READS_OF_ONE)
def test_answers_to_a_read_of_one_key(got: Answer, told: Told) -> None:
    assert ways.understand(ways.get("k"), got) == [told]


WRITES_OF_ONE = [
    (ways.put(ONE), answer(201, ETag='"v1"'), Told(Ending.DONE, version="v1", existed=False)),
    (ways.put(ONE), answer(204, ETag='"v1"'), Told(Ending.DONE, version="v1", existed=True)),
    (ways.put(ONE), problem(412, "condition", ETag='"v1"'), Told(Ending.CONDITION, version="v1")),
    (ways.put(ONE), problem(412, "condition"), Told(Ending.CONDITION)),
    (ways.put(ONE), problem(503, "not-applied"), Told(Ending.REFUSED, code="not-applied")),
    (ways.put(ONE), problem(504, "indeterminate"), Told(Ending.UNKNOWN, code="indeterminate")),
    (ways.delete(DELETE), answer(204), Told(Ending.DONE, existed=True)),
    (ways.delete(DELETE), problem(404, "no-such-key"), Told(Ending.MISSING)),
    (ways.add(Intent("k", Kind.ADD, delta=1)), answer(200, 7, ETag='"v1"'), Told(Ending.DONE, "7", "v1")),
    (ways.add(Intent("k", Kind.ADD, delta=1)), problem(409, "wrong-type"), Told(Ending.WRONG_TYPE, code="wrong-type")),
    (ways.touch(Intent("k", Kind.TOUCH)), answer(204, ETag='"v1"'), Told(Ending.DONE, version="v1")),
    (ways.touch(Intent("k", Kind.TOUCH)), problem(404, "no-such-key"), Told(Ending.MISSING)),
]


@pytest.mark.parametrize(("request_", "got", "told"), WRITES_OF_ONE)
def test_answers_to_a_write_of_one_key(request_: ways.Request, got: Answer, told: Told) -> None:
    assert ways.understand(request_, got) == [told]


def test_codes_that_are_taken_are_those_that_a_coordinator_tells() -> None:
    """Besides what it decides itself, and the word for a whole request that cannot be done now."""
    writes = {failure.code for failure in WRITE_FAILURES} | {"condition", "wrong-type", "unavailable"}
    assert set(ways.WRITES_THAT_FAIL) <= writes
    reads = {failure.code for failure in READ_FAILURES} | {"unavailable"}
    assert reads >= ways.READS_THAT_FAIL


def test_answers_to_reads_of_many() -> None:
    found = {
        "existedKey": [{"key": "a", "value": 1, "version": "v1"}, {"key": "b", "value": "eA==", "encoding": "base64"}],
        "notExistedKey": [{"key": "c", "value": ""}],
        "failedKey": [{"key": "d", "code": "unreachable", "retryable": True}],
    }
    assert ways.understand(ways.get_many("abcd"), answer(200, found)) == [
        Told(Ending.DONE, "1", "v1"),
        Told(Ending.DONE, ways.of_bytes(b"x")),
        Told(Ending.MISSING),
        Told(Ending.REFUSED, code="unreachable"),
    ]


def test_a_page_of_a_listing_says_nothing_of_keys_after_its_end() -> None:
    page, cursor = Page("", "a", "C1"), write_cursor(Scope(), "e")
    request = ways.list_page("abcdef", page, 2, values=True)
    assert [intent.key for intent in request.intents] == list("bcdef")
    got = answer(
        200, {"keys": ["c", "d"], "values": [1, "eA=="], "encodings": [None, "base64"], "cursor": cursor, "complete": False}
    )
    assert ways.understand(request, got) == [
        Told(Ending.MISSING),
        Told(Ending.DONE, "1"),
        Told(Ending.DONE, ways.of_bytes(b"x")),
        Told(Ending.MISSING),
        None,
    ]
    assert ways.next_page(page, got) == Page("", "e", cursor)
    last = answer(200, {"keys": ["c"], "complete": True})
    assert ways.understand(request, last)[1:] == [Told(Ending.DONE), *[Told(Ending.MISSING)] * 3]
    assert ways.next_page(page, last) is None


SET = ways.set_many([Intent("a", Kind.PUT, "1"), Intent("b", Kind.PUT, "2")], as_json=True)
SET_ONE = ways.set_many([Intent("a", Kind.PUT, "1")], as_json=True)
DELETES = ways.delete_many([Intent("a", Kind.DELETE), Intent("b", Kind.DELETE)])
FAILED = {"key": "b", "code": "indeterminate", "retryable": True}
DONE = Told(Ending.DONE)
WRITES_OF_MANY = [
    (SET, answer(200, b"Success to set keySuccess to set key", Content_Type="text/plain"), [DONE, DONE]),
    (SET, answer(200, {"set": 2, "nodes": 2, "version": "v2"}), [DONE, DONE]),
    (SET, answer(200, {"set": 2, "nodes": 1, "version": "v2"}), [DONE, DONE]),  # it may have had two parts, one after the other
    (SET_ONE, answer(200, {"set": 1, "nodes": 1, "version": "v2"}), [Told(Ending.DONE, version="v2")]),
    (
        SET,
        answer(503, {"set": 1, "nodes": 1, "version": "v2", "failedKey": [FAILED], "complete": False}),
        [DONE, Told(Ending.UNKNOWN, code="indeterminate")],
    ),
    (
        SET,
        answer(412, {"set": 1, "nodes": 1, "version": "v2", "failedKey": [{"key": "a", "code": "condition", "version": "v1"}]}),
        [Told(Ending.CONDITION, version="v1", code="condition"), DONE],
    ),
    (SET, problem(503, "unavailable"), [Told(Ending.REFUSED, code="unavailable")] * 2),
    (DELETES, answer(200, {"deleted": 2}), [Told(Ending.DONE, existed=True)] * 2),
    (DELETES, answer(200, {"deleted": 1}), [DONE, DONE]),
    (DELETES, answer(200, {"deleted": 0}), [Told(Ending.MISSING)] * 2),
    (
        DELETES,
        answer(503, {"deleted": 1, "failedKey": [FAILED]}),
        [Told(Ending.DONE, existed=True), Told(Ending.UNKNOWN, code="indeterminate")],
    ),
]


@pytest.mark.parametrize(("request_", "got", "told"), WRITES_OF_MANY)
def test_answers_to_writes_of_many(request_: ways.Request, got: Answer, told: list[Told]) -> None:
    assert ways.understand(request_, got) == told


BROKEN = [
    (ways.put(ONE), answer(200)),
    (ways.put(ONE), problem(503, "timeout")),
    (ways.get("k"), problem(503, "indeterminate")),
    (ways.get("k"), problem(500, "internal")),
    (ways.get("k"), problem(500, "damaged")),
    (ways.get_many("ab"), answer(200, {"existedKey": [{"key": "a", "value": 1}]})),
    (ways.get_many("a"), answer(200, {"existedKey": [], "failedKey": [{"key": "a", "code": "not-applied"}]})),
    (ways.list_page("abc", Page("a"), 9, values=False), answer(200, {"keys": ["b"], "complete": True})),
    (ways.list_page("abc", Page(""), 9, values=False), answer(200, {"keys": ["b", "a"], "complete": True})),
    (SET, answer(200, {"set": 1, "nodes": 1, "version": "v2"})),
    (SET, answer(200, b"Success", Content_Type="text/plain")),
    (DELETES, answer(200, {"deleted": 3})),
]


@pytest.mark.parametrize(("request_", "got"), BROKEN)
def test_an_answer_that_the_contract_does_not_have_is_refused(request_: ways.Request, got: Answer) -> None:
    with pytest.raises(BrokenContract):
        ways.understand(request_, got)
