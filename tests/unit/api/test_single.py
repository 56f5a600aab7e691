"""What single keys answer when a node cannot, and under a server that has decoded the path; `tests/cluster` has the rest."""

import io
import json
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

import pytest

from gkv.api.http import Routes
from gkv.api.single import SingleKeys
from gkv.coordinator import DISK_FULL, Written
from gkv.coordinator.failures import REFUSED
from gkv.model import Blob, KeyFailure, Record, Version
from gkv.wire.batch import DAMAGED_KEY
from gkv.wire.client import Limits
from gkv.wire.ops import Effects

VERSION = Version(0x0191F3C2A5B7_0003, 0xA1)


class Coordinator:
    """Answers as it is told, and notes what it was asked."""

    limits = Limits(max_value=1_000)
    replicas = 1

    def __init__(self, failure=None, record=None, effect="c"):
        self.asked = []
        self.failure = failure
        self.record = record
        self.effect = effect

    def fetch(self, key, _trace=None):
        self.asked.append(key)
        return self.failure or self.record

    def put(self, key, value, ttl, _trace=None):
        self.asked.append((key, value, ttl))
        return self.delete(key)

    def delete(self, key, _trace=None):
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
    (KeyFailure("timeout"), 504, "timeout", "1"),
    (KeyFailure("overloaded"), 503, "overloaded", "1"),
    (KeyFailure("indeterminate"), 503, "indeterminate", "1"),
    (REFUSED, 500, "refused", None),
]


@pytest.mark.parametrize(("failure", "status", "code", "retry_after"), FAILURES)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_key_without_a_definite_answer_is_a_problem_with_the_code(method, failure, status, code, retry_after):
    found, headers, body = ask(Coordinator(failure), method, "/v1/kv/a")
    problem = json.loads(body)
    assert (found, problem["status"], problem["type"]) == (status, status, f"urn:gkv:problem:{code}")
    assert problem["retryable"] is (failure.retryable and status in (503, 504, 507))
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
