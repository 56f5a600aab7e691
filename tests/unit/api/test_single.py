"""What single keys answer when a node cannot, and under a server that has decoded the path; `tests/cluster` has the rest."""

import io
import json
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

import pytest

from gkv.api.http import Routes
from gkv.api.single import SingleKeys
from gkv.coordinator import DISK_FULL, Written
from gkv.coordinator.failures import REFUSED, TIMEOUT, TOO_LARGE
from gkv.model import Blob, KeyFailure, OtherVersion, Record, Version
from gkv.wire.batch import BAD_ANSWER, DAMAGED_KEY
from gkv.wire.client import Limits
from gkv.wire.meta import Found
from gkv.wire.ops import Effects

VERSION = Version(0x0191F3C2A5B7_0003, 0xA1)


class Coordinator:
    """Answers as it is told, and notes what it was asked."""

    limits = Limits(max_value=1_000)
    replicas = 1
    now = 1_000

    def __init__(self, failure=None, record=None, effect="c"):
        self.asked = []
        self.conditions = []
        self.failure = failure
        self.record = record
        self.effect = effect

    def fetch(self, key, _trace=None):
        self.asked.append(key)
        return self.failure or (self.record and Found(self.record, self.now))

    def put(self, key, value, ttl, condition, _trace=None):
        self.asked.append((key, value, ttl))
        return self.delete(key, condition)

    def delete(self, key, condition, _trace=None):
        self.conditions.append(condition)
        if self.failure:
            return Written(VERSION, failed={key: self.failure})
        return Written(VERSION, [([0], Effects(self.effect))], 1)


def ask(coordinator, method, path, body=b"", max_body=1 << 20, **variables):
    routes = Routes()
    SingleKeys(coordinator, max_body).mount(routes)
    environ = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": unquote_to_bytes(path).decode("latin-1"), "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8080", "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False, "wsgi.multiprocess": False, "wsgi.run_once": False,
    } | variables  # fmt: skip
    started = []
    chunks = validator(routes)(environ, lambda status, headers, _info=None: started.append((status, headers)))
    answer = b"".join(chunks)
    chunks.close()
    [(status, headers)] = started
    return int(status[:3]), {name.lower(): value for name, value in headers}, answer


FAILURES = [
    (DAMAGED_KEY, 500, "damaged", None),
    (DISK_FULL, 507, "disk-full", None),
    (TIMEOUT, 504, "timeout", "1"),
    (KeyFailure("overloaded"), 503, "overloaded", "1"),
    (KeyFailure("indeterminate"), 503, "indeterminate", "1"),
    (REFUSED, 500, "refused", None),
    (TOO_LARGE, 413, "too-large", None),
    (BAD_ANSWER, 502, "bad-answer", "1"),
]


@pytest.mark.parametrize(("failure", "status", "code", "retry_after"), FAILURES)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_key_without_a_definite_answer_is_a_problem_with_the_code(method, failure, status, code, retry_after):
    found, headers, body = ask(Coordinator(failure), method, "/v1/kv/a")
    problem = json.loads(body)
    assert (found, problem["status"], problem["type"]) == (status, status, f"urn:gkv:problem:{code}")
    assert problem["retryable"] is (failure.retryable and status in (502, 503, 504, 507))
    assert headers.get("retry-after") == retry_after
    assert "etag" not in headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answers_after_pep_3333(method):
    record = Record(VERSION, Blob(b"hi", "text/plain"))
    status, headers, body = ask(Coordinator(record=record), method, "/v1/kv/a")
    assert (status, headers["content-length"], headers["content-type"]) == (200, "2", "text/plain")
    assert body == (b"hi" if method == "GET" else b"")
    status, headers, body = ask(Coordinator(record=record), method, "/v1/kv/a", HTTP_IF_NONE_MATCH="*")
    assert (status, headers["etag"], body) == (304, f'"{VERSION}"', b"")
    assert "content-length" not in headers


def test_put_and_delete_after_pep_3333():
    assert ask(Coordinator(effect="c"), "PUT", "/v1/kv/a", b"1")[0] == 201
    status, headers, body = ask(Coordinator(effect="r"), "PUT", "/v1/kv/a", b"1")
    assert (status, headers["etag"], body) == (204, f'"{VERSION}"', b"")
    assert ask(Coordinator(effect="r"), "DELETE", "/v1/kv/a")[0] == 204
    assert ask(Coordinator(effect="u"), "DELETE", "/v1/kv/a")[0] == 404


def test_server_that_decodes_paths_gives_the_same_keys():
    for path, key in (("/v1/kv/a%252Fb", "a%2Fb"), ("/v1/kv//..//%C3%A9", "/..//\u00e9"), ("/v1/kv/%25zz", "%zz")):
        coordinator = Coordinator()
        assert ask(coordinator, "GET", path)[0] == 404
        assert coordinator.asked == [key]
    for method in ("GET", "PUT", "DELETE"):
        assert ask(Coordinator(), method, "/v1/kv/a%ff")[0] == 400
        assert ask(Coordinator(), method, "/v1/kv/")[0] == 400


def test_value_is_bounded_by_the_body_too():
    assert ask(Coordinator(), "PUT", "/v1/kv/a", b"x" * 10, max_body=10)[0] == 201
    assert ask(Coordinator(), "PUT", "/v1/kv/a", b"x" * 11, max_body=10)[0] == 413
    assert ask(Coordinator(), "PUT", "/v1/kv/a", b"x" * 1_001)[0] == 413


def test_put_hands_on_value_and_ttl():
    coordinator = Coordinator()
    ask(coordinator, "PUT", "/v1/kv/a", b" 1 ", CONTENT_TYPE="application/json", QUERY_STRING="ttl=0.5")
    ask(coordinator, "PUT", "/v1/kv/a", b" 1 ", CONTENT_TYPE="application/jsonx")
    assert coordinator.asked == [("a", b" 1 ", 0.5), ("a", Blob(b" 1 ", "application/jsonx"), None)]


V = "0123456789abcdef" * 2
W = "fedcba9876543210" * 2
CONDITIONS = [
    ({}, None),
    ({"HTTP_IF_MATCH": f'"{V}"'}, f"={V}"),
    ({"HTTP_IF_MATCH": f' "{V}" ,, "{W}",'}, f"={V},{W}"),
    ({"HTTP_IF_MATCH": "*"}, "=*"),
    ({"HTTP_IF_MATCH": f'W/"{V}"'}, "=* !*"),
    ({"HTTP_IF_MATCH": f'W/"{V}", "{W}"'}, f"={W}"),
    ({"HTTP_IF_MATCH": f'"{V.upper()}", "", "a,b", "*"'}, "=* !*"),
    ({"HTTP_IF_NONE_MATCH": "*"}, "!*"),
    ({"HTTP_IF_NONE_MATCH": f'W/"{V}", "{W}", "x"'}, f"!{W},{V}"),
    ({"HTTP_IF_NONE_MATCH": '"x"'}, None),
    ({"HTTP_IF_MATCH": f'"{V}"', "HTTP_IF_NONE_MATCH": f'"{W}"'}, f"={V} !{W}"),
]


@pytest.mark.parametrize(("headers", "condition"), CONDITIONS)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_write_hands_on_its_condition(method, headers, condition):
    coordinator = Coordinator(effect="r")
    assert ask(coordinator, method, "/v1/kv/a", **headers)[0] == 204
    assert coordinator.conditions == [condition]


@pytest.mark.parametrize("text", ["x", V, f'"{V}', f'"{V}" "{W}"', f'*, "{V}"', f'"{V}", *', "**", f'w/"{V}"', "'a'"])
@pytest.mark.parametrize("name", ["HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_condition_that_cannot_be_read_is_refused_and_nothing_is_asked(method, name, text):
    coordinator = Coordinator(effect="r")
    status, _, body = ask(coordinator, method, "/v1/kv/a", **{name: text})
    assert (status, json.loads(body)["type"]) == (400, "urn:gkv:problem:syntax")
    assert coordinator.asked == coordinator.conditions == []


@pytest.mark.parametrize("text", ["", " ", ",", " ,\t, "])
def test_list_of_tags_without_any_is_one_that_nothing_matches(text):
    coordinator = Coordinator(effect="r")
    assert ask(coordinator, "PUT", "/v1/kv/a", HTTP_IF_NONE_MATCH=text)[0] == 204
    assert ask(coordinator, "PUT", "/v1/kv/a", HTTP_IF_MATCH=text)[0] == 204  # for this coordinator alone, which judges nothing
    assert coordinator.conditions == [None, "=* !*"]
    there = Coordinator(record=Record(VERSION, b"1"))
    assert [ask(there, "GET", "/v1/kv/a", **{name: text})[0] for name in ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")] == [200, 412]


@pytest.mark.parametrize("name", ["HTTP_IF", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE"])
def test_condition_that_nobody_looks_at_is_refused_beside_one_that_is(name):
    for method in ("PUT", "DELETE"):
        coordinator = Coordinator()
        assert ask(coordinator, method, "/v1/kv/a", HTTP_IF_MATCH="*", **{name: "x"})[0] == 501
        assert coordinator.conditions == []


@pytest.mark.parametrize(("present", "etag"), [(VERSION, f'"{VERSION}"'), (None, None)])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_condition_that_does_not_hold_is_412_with_the_version_that_is_there(method, present, etag):
    status, headers, body = ask(Coordinator(OtherVersion(present=present)), method, "/v1/kv/a", HTTP_IF_MATCH=f'"{V}"')
    assert (status, headers.get("etag")) == (412, etag)
    problem = json.loads(body)
    assert (problem["type"], problem["retryable"]) == ("urn:gkv:problem:condition", False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"HTTP_IF_MATCH": f'"{VERSION}"'}, 200),
        ({"HTTP_IF_MATCH": "*"}, 200),
        ({"HTTP_IF_MATCH": f'W/"{VERSION}"'}, 412),
        ({"HTTP_IF_MATCH": f'"{V}"'}, 412),
        ({"HTTP_IF_MATCH": f'"{V}"', "HTTP_IF_NONE_MATCH": f'"{VERSION}"'}, 412),
        ({"HTTP_IF_MATCH": f'"{VERSION}"', "HTTP_IF_NONE_MATCH": f'"{VERSION}"'}, 304),
        ({"HTTP_IF_NONE_MATCH": f'W/"{VERSION}"'}, 304),
        ({"HTTP_IF_NONE_MATCH": f'"{V}"'}, 200),
    ],
)
def test_get_on_conditions(headers, status):
    record = Record(VERSION, b"1")
    found, sent, _ = ask(Coordinator(record=record), "GET", "/v1/kv/a", **headers)
    assert (found, sent["etag"]) == (status, f'"{VERSION}"')
    assert ask(Coordinator(), "GET", "/v1/kv/a", **headers)[0] == 404


@pytest.mark.parametrize(
    ("expires", "text"), [(0, None), (1_001, "0.001"), (61_000, "60"), (62_500, "61.5"), (1_000, "0.001"), (101_000, "100")]
)
def test_head_says_in_how_many_seconds_the_value_expires(expires, text):
    for headers in ({}, {"HTTP_IF_NONE_MATCH": "*"}):
        assert (
            ask(Coordinator(record=Record(VERSION, b"1", expires)), "GET", "/v1/kv/a", **headers)[1].get("expires-in") == text
        )


def test_missing_key_is_asked_for_again_each_time():
    assert ask(Coordinator(), "GET", "/v1/kv/a")[1]["cache-control"] == "no-cache"


@pytest.mark.parametrize("text", [b"1", b' {"a": [1, "=&"]} ', b'"x"', b"null"])
def test_form_with_one_json_text_is_stored_as_json(text):
    for content_type in ("application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=utf-8"):
        coordinator = Coordinator()
        ask(coordinator, "PUT", "/v1/kv/a", text, CONTENT_TYPE=content_type)
        assert coordinator.asked == [("a", text, None)]


@pytest.mark.parametrize("text", [b"", b"a=1", b"1 2", b'{"a":1,"a":1}', b"[1e999]", b"\xff", b'"\\ud800"'])
def test_form_with_anything_else_is_stored_as_bytes(text):
    coordinator = Coordinator()
    content_type = "application/x-www-form-urlencoded"
    assert ask(coordinator, "PUT", "/v1/kv/a", text, CONTENT_TYPE=content_type)[0] == 201
    assert coordinator.asked == [("a", Blob(text, content_type), None)]
