"""Each row of the HTTP contract through real sockets, as a user with curl meets it and as a client that reads every byte.

| row | where |
|---|---|
| the original /set, /get, GET /get, /delete, /locate, with curl | here; byte for byte in test_system.py and test_readme.py |
| /set as JSON, PUT /set, ttl in an item, any Content-Type | here; test_durable.py |
| bodies and items that are refused (400, 413) | test_bad_json.py; over the server's own limit here |
| failedKey, complete, Prefer, 503 and Retry-After | here, with a node that stands still; a dead one in test_failures.py |
| /locate, /v1/ring, /v1/info, /v1/cluster | here; that they say the same everywhere in test_system.py |
| one key: GET, HEAD, PUT, DELETE; 200, 201, 204, 304, 404, ETag, nosniff, ttl | here with curl; else test_single_keys.py |
| r and w beyond the copies there are (422), conditions that nobody looks at (501) | test_single_keys.py, test_paths.py |
| GET /v1/kv: prefix, limit, cursor, values | here; cursors in test_paths.py, while writing goes on in test_durable.py |
| POST /v1/cluster/nodes: 200, 400, 409, 413, 415, 422, 503 | here |
| DELETE and PATCH of /v1/cluster and what is below it, dryRun | tests/apps/test_cluster_changes.py; test_paths.py |
| /livez, /readyz, /metrics, /openapi.json | here; test_operations.py, test_openapi.py |
| GET /v1/snapshot | test_durable.py; 503 and 501 in tests/apps/test_snapshot.py, 501 here as well |
| 405 with Allow for every path and method, HEAD of everything | test_paths.py |
| 400 framing, 413, 414, 417, 421, 431, 505, X-Request-Id | here; all of framing in tests/apps/test_framing.py |
| 408 | test_slow_clients.py |
| 500 internal error, without a trace of it | tests/apps/test_data_api.py |
| 504 deadline, 507 disk full | here |
| SIGTERM | test_system.py |
"""

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from gkv.proxy.words import MAX_BODY as MAX_JOIN
from tests.cluster.conftest import Program, System, keys_by_node, wait_for
from tests.cluster.raw import ask, keeps_to, problem, refused, request

VERSION = re.compile(r"[0-9a-f]{32}").fullmatch


# --- as a user --------------------------------------------------------------------------------------------------------------

SESSION = [
    # arguments of curl, status, body, type; in this order
    (
        """-d '[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}]' URL/set""",
        200,
        "(Success to set key){1,2}",
        "text/plain",
    ),
    ("""-X PUT -d '[{"key":"hi2","value":2}]' URL/set""", 200, "Success to set key", "text/plain"),
    ("""-d '[{"key":"hi3","value":3,"ttl":60}]' -H 'Content-Type: application/json' URL/set""", 200, "Success.*", "text/plain"),
    (
        """-d '[{"key":"hi","value":"hello"}]' -H 'Accept: application/json' URL/set""",
        200,
        r'\{"set":1,"nodes":1,"version":"[0-9a-f]{32}"\}',
        "application/json",
    ),
    (
        """-d '[{"key":"hi"},{"key":"hi6"},{"key":"hi1"},{"key":"hi5"},{"key":"hi"}]' URL/get""",
        200,
        re.escape(
            '{"existedKey":[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"},{"key":"hi","value":"hello"}],'
            '"notExistedKey":[{"key":"hi6","value":""},{"key":"hi5","value":""}]}'
        ),
        "application/json",
    ),
    (
        "'URL/get?key=hi2&key=hi3'",
        200,
        re.escape('{"existedKey":[{"key":"hi2","value":2},{"key":"hi3","value":3}]}'),
        "application/json",
    ),
    ("'URL/get?key=none'", 200, re.escape('{"existedKey":[],"notExistedKey":[{"key":"none","value":""}]}'), "application/json"),
    ("-d '[]' URL/set", 200, "", "text/plain"),
    ("-d '[]' URL/get", 200, re.escape('{"existedKey":[]}'), "application/json"),
    ("-d '[]' URL/delete", 200, re.escape('{"deleted":0}'), "application/json"),
    (
        "'URL/locate?key=hi'",
        200,
        (r'\{"epoch":\d+,"keys":\[\{"key":"hi","token":"[0-9a-f]{16}","primary":"[^"]+",'
         r'"nodes":\[\{"id":"[^"]+","url":"http://127.0.0.1:\d+","state":"up"\}\]\}\]\}'),
        "application/json",
    ),
    ("""-d '[{"key":"hi"}]' URL/locate""", 200, r'\{"epoch":\d+,"keys":\[\{"key":"hi".*', "application/json"),
    ("""-d '[{"key":"hi2"},{"key":"hi3"},{"key":"none"}]' URL/delete""", 200, re.escape('{"deleted":2}'), "application/json"),
    ("URL/v1/kv/a/b", 404, r'\{"type":"urn:gkv:problem:no-such-key".*', "application/problem+json"),
    ("-T /dev/null -H 'Content-Type: text/plain' URL/v1/kv/a/b", 201, "", "text/plain"),
    ("-X PUT -d 'any bytes' -H 'Content-Type: text/plain; charset=utf-8' URL/v1/kv/a/b", 204, "", None),
    ("URL/v1/kv/a%2Fb", 200, "any bytes", "text/plain; charset=utf-8"),
    ("-I URL/v1/kv/a/b", 200, "", "text/plain; charset=utf-8"),
    ("-H 'If-None-Match: *' URL/v1/kv/a/b", 304, "", None),
    ("'URL/get?key=a/b'", 200, ".*" + re.escape('"value":"YW55IGJ5dGVz","encoding":"base64"') + ".*", "application/json"),
    ("-X PUT -d '[1.0]' -H 'Content-Type: application/json' 'URL/v1/kv/a/c?ttl=3600'", 201, "", "text/plain"),
    ("URL/v1/kv/a/c", 200, re.escape("[1.0]"), "application/json"),
    ("'URL/v1/kv?prefix=a/&limit=1'", 200, r'\{"keys":\["a/b"\],"cursor":"[\w-]+","complete":false\}', "application/json"),
    (
        "'URL/v1/kv?prefix=a/&values=1'",
        200,
        re.escape('{"keys":["a/b","a/c"],"values":["YW55IGJ5dGVz",[1.0]],"encodings":["base64",null],"complete":true}'),
        "application/json",
    ),
    ("-X DELETE URL/v1/kv/a/b", 204, "", None),
    ("-X DELETE URL/v1/kv/a/b", 404, ".*no-such-key.*", "application/problem+json"),
    ("-X DELETE URL/v1/kv/a/c", 204, "", None),
    ("-X PUT -d 1 -H 'If-None-Match: *' URL/v1/kv/a/b", 201, "", "text/plain"),
    ("URL/v1/kv/a/b", 200, "1", "application/json"),
    ("-X PUT -d 2 -H 'If-None-Match: *' URL/v1/kv/a/b", 412, ".*:condition.*", "application/problem+json"),
    ("-X PUT -d 2 -H 'If-Match: W/\"x\", \"y\"' URL/v1/kv/a/b", 412, ".*:condition.*", "application/problem+json"),
    ("-X POST 'URL/v1/kv/a/b?add=-3&ttl=60'", 200, "-2", "application/json"),
    ("-X POST 'URL/v1/kv/a/b?add=1.5'", 422, ".*parameter-value.*", "application/problem+json"),
    ("-X POST 'URL/v1/kv/a/b?touch=0'", 204, "", None),
    ("-X DELETE URL/v1/kv/a/b", 204, "", None),
    ("-X POST 'URL/v1/kv/a/b?touch=60'", 404, ".*no-such-key.*", "application/problem+json"),
    ("-d '{' URL/get", 400, ".*line 1, column 2.*|.*array of objects.*|.*not JSON.*", "application/problem+json"),
    ("""-d '[{"key":"hi"},{"kee":"hi"}]' URL/get""", 400, '.*"pointer":"/1".*', "application/problem+json"),
    ("-X DELETE URL/get", 405, ".*method-not-allowed.*", "application/problem+json"),
    ("URL/v1/ring", 200, r'\{"cluster":"[0-9a-f]{32}","generation":1,"epoch":\d+,"hash":.*"nodes":\[.*', "application/json"),
    ("URL/v1/info", 200, r'\{"version":"[\d.]+","role":"(proxy|node)".*"limits":\{"items":10000.*', "application/json"),
    ("URL/livez", 200, "ok\n", "text/plain"),
    ("URL/readyz", 200, "ok\n", "text/plain"),
    ("'URL/readyz?verbose'", 200, r"(\[\+\]\w+ ok\n)+ok\n", "text/plain"),
    ("URL/metrics", 200, "(?s)# HELP .*", "text/plain; version=0.0.4; charset=utf-8"),
    ("URL/openapi.json", 200, r'\{"openapi":"3\.1\.\d".*', "application/json"),
]  # fmt: skip


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_session_with_curl_on_proxy_and_node(programs: list[Program], tmp_path: Path) -> None:
    head, body = tmp_path / "head", tmp_path / "body"
    for program in programs[:2]:
        for arguments, status, pattern, content_type in SESSION:
            body.write_bytes(b"")
            command = f"curl -s -D {head} -o {body} {arguments.replace('URL', f'localhost:{program.port}')}"
            subprocess.run(command, shell=True, check=True, timeout=30)
            first, *lines = head.read_text().strip().split("\n\n")[-1].splitlines()  # before it 100 Continue, for -T
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            text = "" if " -I " in command else body.read_text()
            assert int(first.split()[1]) == status, (command, text)
            assert headers.get("content-type") == content_type, command
            assert re.fullmatch(pattern, text), (command, text)
            assert headers["x-request-id"]
            if "/v1/kv/" in command and status in (200, 201, 304):
                assert VERSION(headers["etag"].strip('"')), command
                assert (headers.get("x-content-type-options") == "nosniff") == (status != 201)


def test_batches_take_any_content_type(proxy: Program) -> None:
    for kind in (
        "",
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data",
        "x",
        "application/json; charset=utf-16",
    ):
        assert ask(proxy, "POST", "/set", b'[{"key":"typed","value":1}]', Content_Type=kind).body == b"Success to set key"
        assert ask(proxy, "POST", "/get", b'[{"key":"typed"}]', Content_Type=kind).status == 200


def test_request_id_comes_back_or_one_is_made(programs: list[Program]) -> None:
    for program in programs[:2]:
        for target, status in (("/livez", 200), ("/nothing", 404), ("/v1/kv/%ff", 400), ("/get?key=none", 200)):
            answer = ask(program, "GET", target, X_Request_Id="mine-1")
            assert (answer.status, answer.headers["X-Request-Id"]) == (status, "mine-1")
            for given in ("", "a b", "x" * 129, "\u00e9"):
                made = ask(program, "GET", target, X_Request_Id=given).headers["X-Request-Id"]
                assert re.fullmatch(r"[0-9a-f]{12}-\d+", made)
        assert refused(program, request("GET", "/x#y", X_Request_Id="mine-1")).headers["X-Request-Id"]


# --- what is refused before anything looks at it -----------------------------------------------------------------------------


def head(*lines: bytes, first: bytes = b"GET /livez HTTP/1.1", host: bytes = b"Host: localhost") -> bytes:
    return b"\r\n".join([first, host, *lines, b"", b""])


UNREAD = {
    "400": (head(b"Content-Length: x"), "framing"),
    "413": (head(b"Content-Length: 999999999999", first=b"POST /set HTTP/1.1"), "too-large"),
    "414": (head(first=b"GET /" + b"a" * 8192 + b" HTTP/1.1"), "uri-too-long"),
    "417": (head(b"Expect: a miracle"), "expectation"),
    "421": (head(host=b"Host: example.org"), "misdirected"),
    "421 with our port": (head(host=b"Host: localhost.example.org:8080"), "misdirected"),
    "431": (head(*[b"X-%d: 1" % i for i in range(64)]), "head-too-large"),
    "431 by one": (head(b"X: " + b"a" * 8192), "head-too-large"),
    "501": (head(first=b"CONNECT localhost:80 HTTP/1.1"), "not-supported"),
    "505": (head(first=b"GET /livez HTTP/1.2"), "http-version"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_request_that_cannot_be_read_is_a_problem_too_and_ends_the_connection(programs: list[Program], name: str) -> None:
    data, code = UNREAD[name]
    for program in programs:
        problem(refused(program, data), int(name[:3]), code)


def test_body_over_the_bound_of_a_call_is_413_and_the_connection_goes_on(programs: list[Program]) -> None:
    over = b"x" * ((1 << 20) + 1)
    for program in programs[:2]:
        problem(ask(program, "PUT", "/v1/kv/over", over), 413, "too-large")
        problem(ask(program, "POST", "/set", b'[{"key":"over","value":"%b"}]' % over), 413, "too-large")
        problem(ask(program, "POST", "/get", b"[%b]" % b",".join([b'{"key":"a"}'] * 10_001)), 413, "too-large")
        assert ask(program, "GET", "/v1/kv/over").status == 404


# --- members ----------------------------------------------------------------------------------------------------------------


def test_join_answers_each_status_of_its_own(programs: list[Program]) -> None:
    proxy, node, _ = programs
    document = proxy.call("GET", "/openapi.json").json
    [line] = [row for row in proxy.call("GET", "/v1/cluster").json["members"] if row["id"].endswith(str(node.port))]
    known = {"cluster": proxy.call("GET", "/v1/ring").json["cluster"], "incarnation": line["incarnation"]}
    me = {"id": f"127.0.0.1:{node.port}", "url": f"http://127.0.0.1:{node.port}"} | known

    def join(body: object, kind: str = "application/json", **headers: str) -> tuple[int, str]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = ask(proxy, "POST", "/v1/cluster/nodes", data, Content_Type=kind, **headers)
        keeps_to(document, "POST", "/v1/cluster/nodes", answer)
        if answer.status != 200:
            problem(answer, answer.status, answer.json["type"].rpartition(":")[2])
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) >= 1
        return answer.status, answer.json.get("type", "").rpartition(":")[2]

    def members() -> list[dict[str, object]]:
        """Return what the document has of them: how many keys one has is said by its calls, and later."""
        return [{**row, "keys": None} for row in proxy.call("GET", "/v1/cluster").json["members"]]

    before = proxy.call("GET", "/v1/cluster").json["epoch"], members()
    assert [(member["state"], member["answers"]) for member in before[1]] == [("up", True), ("up", True)]
    assert join(me) == (200, "")
    assert join(b"{") == (400, "syntax")
    assert join(b'{"id":"a","id":"a"}') == (400, "invalid-item")
    assert join(b"[]") == (422, "invalid-member")
    assert join(me | {"url": "http://127.0.0.1:1"}) == (409, "member-conflict")
    assert join(me | {"id": "n9"}) == (409, "member-conflict")
    assert join(me | {"cluster": "f" * 32, "bare": False}) == (409, "member-conflict")
    assert join(b" " * (MAX_JOIN + 1)) == (413, "too-large")
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/json, text/plain"):
        assert join(me, kind) == (415, "content-type")
    for change in (
        {"weight": -1},
        {"weight": 0},
        {"weight": "1"},
        {"id": ""},
        {"id": "a b"},
        {"url": "file:///x"},
        {"more": 1},
        {"incarnation": "x"},
    ):
        assert join(me | change) == (422, "invalid-member"), change
    for url in ("http://10.0.0.5:9000", "http://169.254.169.254:80", "http://127.0.0.1:9000/x"):
        assert join(known | {"id": "n9", "url": url}) == (422, "invalid-member"), url
    assert (proxy.call("GET", "/v1/cluster").json["epoch"], members()) == before


# --- what fails -------------------------------------------------------------------------------------------------------------


def test_node_that_stands_still_costs_its_own_keys_the_deadline(system: System) -> None:
    proxy = system.proxy("--deadline", "200ms")
    alive, still = system.node(proxy), system.node(proxy)
    owned = keys_by_node(proxy)
    [good, *_], [bad, *_] = owned[f"127.0.0.1:{alive.port}"], owned[f"127.0.0.1:{still.port}"]
    still.signal(signal.SIGSTOP)
    document = proxy.call("GET", "/openapi.json").json
    answer = ask(proxy, "GET", f"/v1/kv/{bad}")
    problem(answer, 504, "timeout")
    keeps_to(document, "GET", "/v1/kv/{key}", answer)
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["retryable"] is True
    problem(ask(proxy, "GET", f"/v1/kv/{good}"), 404, "no-such-key")
    failed = {"failedKey": [{"key": bad, "code": "timeout", "retryable": True}], "complete": False}
    some = ask(proxy, "POST", "/get", json.dumps([{"key": bad}, {"key": good}]).encode())
    keeps_to(document, "POST", "/get", some)
    assert (some.status, some.json) == (200, {"existedKey": [], "notExistedKey": [{"key": good, "value": ""}], **failed})
    both = json.dumps([{"key": bad, "value": 1}, {"key": good, "value": 1}]).encode()
    for method, path, target, body, headers in (
        ("GET", "/get", f"/get?key={bad}&key={good}", None, {"Prefer": "handling=strict"}),
        ("GET", "/get", f"/get?key={bad}", None, {}),
        ("POST", "/set", "/set", both, {"Accept": "text/plain"}),
        ("POST", "/delete", "/delete", json.dumps([{"key": bad}]).encode(), {}),
        ("GET", "/v1/kv", "/v1/kv", None, {}),
        ("PUT", "/v1/kv/{key}", f"/v1/kv/{bad}", b"1", {}),
        ("DELETE", "/v1/kv/{key}", f"/v1/kv/{bad}", None, {}),
    ):
        answer = ask(proxy, method, target, body, **headers)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json.get("complete", False) is False
        keeps_to(document, method, path, answer)
    still.signal(signal.SIGCONT)
    wait_for("its answers", lambda: ask(proxy, "GET", f"/v1/kv/{bad}").status in (200, 404))


def test_before_there_is_a_member_calls_about_data_are_503_with_retry_after(system: System) -> None:
    proxy = system.proxy()
    document = proxy.call("GET", "/openapi.json").json
    for method, target, body in (
        ("POST", "/set", b'[{"key":"a","value":1}]'), ("POST", "/get", b'[{"key":"a"}]'), ("GET", "/get?key=a", None),
        ("POST", "/delete", b'[{"key":"a"}]'), ("GET", "/locate?key=a", None), ("POST", "/locate", b'[{"key":"a"}]'),
        ("GET", "/v1/kv", None), ("GET", "/v1/kv/a", None), ("PUT", "/v1/kv/a", b"1"), ("DELETE", "/v1/kv/a", None),
        ("GET", "/v1/ring", None),
    ):  # fmt: skip
        answer = ask(proxy, method, target, body)
        problem(answer, 503, "unavailable")
        keeps_to(document, method, target.partition("?")[0].replace("/a", "/{key}"), answer)
    ready = ask(proxy, "GET", "/readyz")
    assert (ready.status, ready.body) == (503, b"[-]members failed: no node has joined yet\nnot ready\n")
    assert ask(proxy, "GET", "/livez").status == ask(proxy, "GET", "/v1/info").status == 200


def test_full_disk_is_507_for_what_is_stored_and_nothing_else(system: System) -> None:
    proxy = system.proxy()
    system.node(proxy, "--max-disk", "8MiB")
    value = b"x" * 500_000
    answers = [ask(proxy, "PUT", f"/v1/kv/{i}", value) for i in range(20)]
    assert {answer.status for answer in answers} == {201, 507}
    problem(answers[-1], 507, "disk-full")
    document = proxy.call("GET", "/openapi.json").json
    keeps_to(document, "PUT", "/v1/kv/{key}", answers[-1])
    full = ask(proxy, "POST", "/set", b'[{"key":"more","value":"%b"}]' % value)
    keeps_to(document, "POST", "/set", full)
    assert (full.status, full.json["failedKey"][0]["code"]) == (507, "disk-full")
    assert ask(proxy, "GET", "/v1/kv/0").body == value
    assert ask(proxy, "DELETE", "/v1/kv/0").status == 204


def test_snapshot_of_records_in_memory_is_501(system: System) -> None:
    proxy = system.proxy()
    node = system.node(proxy, "--engine", "memory")
    problem(ask(node, "GET", "/v1/snapshot"), 501, "not-supported")
    problem(ask(proxy, "GET", "/v1/snapshot"), 404, "not-found")
