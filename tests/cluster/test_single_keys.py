"""Single keys, `/v1/kv/<key>`, through real sockets: on the proxy, on the node that holds a key, and on one that does not."""

import json
import re
import signal
import socket
from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cluster.conftest import Program, System, keys_by_node, wait_for
from tests.cluster.raw import ask, problem, read_answer


def path_of(key: str) -> str:
    return f"/v1/kv/{quote(key, safe='')}"


# --- what is stored comes back ----------------------------------------------------------------------------------------------


def test_put_get_head_delete_everywhere(programs: list[Program]) -> None:
    for number, program in enumerate(programs):
        path = f"/v1/kv/everywhere/{number}"
        problem(ask(program, "GET", path), 404, "no-such-key")
        created = ask(program, "PUT", path, b"\xff\0\r\n", Content_Type="image/png")
        assert (created.status, created.body) == (201, b"")
        tag = created.headers["ETag"]
        assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
        for reader in programs:
            answer = ask(reader, "GET", path)
            assert (answer.status, answer.body) == (200, b"\xff\0\r\n")
            assert answer.headers["Content-Type"] == "image/png"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["ETag"] == tag
            head = ask(reader, "HEAD", path)
            assert (head.status, head.body) == (200, b"")
            drop = ("Date", "X-Request-Id")
            assert {k: v for k, v in head.headers.items() if k not in drop} == {
                k: v for k, v in answer.headers.items() if k not in drop
            }
        replaced = ask(program, "PUT", path, b"1", Content_Type="application/json")
        assert replaced.status == 204
        assert replaced.headers["ETag"] > tag
        assert ask(program, "DELETE", path).status == 204
        problem(ask(program, "DELETE", path), 404, "no-such-key")
        assert ask(program, "HEAD", path).status == 404
        assert ask(program, "PUT", path, b"").status == 201


@pytest.mark.parametrize(
    "text", [b"1.0", b"1e2", b"-0", b'"\\u00e9\\/"', b'{ "a" : [ 1,\n2 ] }', b" null\r\n", b"123456789012345678901234567890"]
)
def test_json_comes_back_byte_for_byte_and_is_a_value_like_any_other(proxy: Program, text: bytes) -> None:
    assert ask(proxy, "PUT", "/v1/kv/json", text, Content_Type="Application/JSON ; charset=utf-8").status in (201, 204)
    answer = ask(proxy, "GET", "/v1/kv/json")
    assert (answer.body, answer.headers["Content-Type"]) == (text, "application/json")
    assert proxy.call("GET", "/get?key=json").body == b'{"existedKey":[{"key":"json","value":%b}]}' % text


def test_value_of_set_is_read_as_json_and_delete_takes_any(proxy: Program) -> None:
    version = proxy.call("POST", "/set", [{"key": "by set", "value": {"a": 1}}], Accept="application/json").json["version"]
    answer = ask(proxy, "GET", "/v1/kv/by%20set")
    assert (answer.json, answer.headers["ETag"]) == ({"a": 1}, f'"{version}"')
    assert ask(proxy, "PUT", "/v1/kv/by%20set", b"x").status == 204
    assert proxy.call("POST", "/delete", [{"key": "by set"}]).json == {"deleted": 1}
    assert ask(proxy, "GET", "/v1/kv/by%20set").status == 404


def test_get_shows_bytes_as_base64_next_to_other_values(programs: list[Program]) -> None:
    names = [f"shown/{i}" for i in range(8)]
    blobs = [bytes(range(i)) for i in range(8)]
    for name, blob in zip(names, blobs, strict=True):
        ask(programs[0], "PUT", f"/v1/kv/{name}", blob)
    programs[0].call("POST", "/set", [{"key": "shown/json", "value": [1]}])
    wanted = [{"key": n, "value": b64encode(b).decode(), "encoding": "base64"} for n, b in zip(names, blobs, strict=True)]
    for program in programs:
        found = program.call("POST", "/get", [{"key": key} for key in [*names, "shown/json", "shown/none"]]).json
        assert found["existedKey"] == [*wanted, {"key": "shown/json", "value": [1]}]
        assert found["notExistedKey"] == [{"key": "shown/none", "value": ""}]


def test_listing_with_values_says_which_are_base64(proxy: Program) -> None:
    ask(proxy, "PUT", "/v1/kv/listed/a", b"hi")
    tricky = '","encoding":"base64"'
    proxy.call("POST", "/set", [{"key": "listed/b", "value": tricky}, {"key": "listed/c", "value": {"encoding": "base64"}}])
    page = proxy.call("GET", "/v1/kv?prefix=listed/&values=1").json
    assert page["keys"] == ["listed/a", "listed/b", "listed/c"]
    assert page["values"] == ["aGk=", tricky, {"encoding": "base64"}]
    assert page["encodings"] == ["base64", None, None]
    assert "encodings" not in proxy.call("GET", "/v1/kv?prefix=listed/b&values=1").json


_types = st.sampled_from(["text/plain", 'a/b; c="d \\" e"', "application/problem+json", "image/svg+xml; charset=UTF-8"])


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(min_size=1, max_size=20).filter(lambda key: "\0" not in key), body=st.binary(max_size=300), kind=_types)
def test_any_key_and_any_bytes_come_back(programs: list[Program], key: str, body: bytes, kind: str) -> None:
    writer, reader = programs[len(key) % 3], programs[len(body) % 3]
    assert ask(writer, "PUT", path_of(key), body, Content_Type=kind).status in (201, 204)
    answer = ask(reader, "GET", path_of(key))
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, body, kind)
    shown = reader.call("POST", "/get", [{"key": key}]).json["existedKey"]
    assert shown == [{"key": key, "value": b64encode(body).decode(), "encoding": "base64"}]
    assert ask(writer, "DELETE", path_of(key)).status == 204


def test_type_is_octet_stream_when_none_is_sent(proxy: Program) -> None:
    for headers in ({}, {"Content_Type": ""}):
        ask(proxy, "PUT", "/v1/kv/untyped", b"1", **headers)
        assert ask(proxy, "GET", "/v1/kv/untyped").headers["Content-Type"] == "application/octet-stream"


def test_page_that_somebody_stored_cannot_act_as_one_of_ours(proxy: Program) -> None:
    ask(proxy, "PUT", "/v1/kv/page", b"<script>", Content_Type="text/html")
    answer = ask(proxy, "GET", "/v1/kv/page")
    assert answer.headers["Content-Type"] == "text/html"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


# --- keys in paths ----------------------------------------------------------------------------------------------------------

SAME = [
    # (one way to write it, another, the key)
    (b"a%2Fb", b"a/b", "a/b"),
    (b"%61", b"a", "a"),
    (b"%c3%a9", b"%C3%A9", "\u00e9"),
]
KEYS = {
    # name: (as it is sent, the key)
    "slashes": (b"//a///b/", "//a///b/"),
    "a slash alone": (b"/", "/"),
    "dots": (b"../../set", "../../set"),
    "one dot": (b".", "."),
    "escaped dots": (b"%2e%2e/x", "../x"),
    "plus": (b"a+b", "a+b"),
    "escaped plus": (b"a%2Bb", "a+b"),
    "blank": (b"a%20b", "a b"),
    "escaped percent": (b"a%252Fb", "a%2Fb"),
    "escaped twice": (b"a%25252Fb", "a%252Fb"),
    "question mark": (b"a%3Fb", "a?b"),
    "hash": (b"a%23b", "a#b"),
    "ampersand, equals, semicolon": (b"a&b=c;d", "a&b=c;d"),
    "newline": (b"a%0Ab", "a\nb"),
    "newline at the end": (b"a%0A", "a\n"),
    "CR LF and a header": (b"a%0D%0AX-Evil:%201", "a\r\nX-Evil: 1"),
    "ANSI escape": (b"%1b%5b31m", "\x1b[31m"),
    "script": (b"%3Cscript%3E", "<script>"),
    "quotes and a backslash": (b"%22%5c'", "\"\\'"),
    "DEL": (b"%7f", "\x7f"),
    "composed": (b"caf%C3%A9", "caf\u00e9"),
    "decomposed": (b"cafe%CC%81", "cafe\u0301"),
    "ligature": (b"%EF%AC%81", "\ufb01"),
    "beyond the BMP": (b"%F0%9F%98%80", "\U0001f600"),
    "noncharacter": (b"%EF%BF%BF", "\uffff"),
    "BOM": (b"%EF%BB%BFa", "\ufeffa"),
    "replacement character": (b"%EF%BF%BD", "\ufffd"),
    "capitals": (b"SET", "SET"),
    "480 bytes": (b"k" * 480, "k" * 480),
    "480 bytes, escaped": (b"%e2%82%ac" * 160, "\u20ac" * 160),
    "a path of ours": (b"v1/kv/x", "v1/kv/x"),
}


def test_every_key_in_a_path_is_one_of_its_own(programs: list[Program]) -> None:
    spellings: dict[str, list[bytes]] = {}
    for sent, key in KEYS.values():
        spellings.setdefault(key, []).append(sent)
    for number, (key, sent) in enumerate(spellings.items()):
        answer = ask(programs[number % 3], "PUT", b"/v1/kv/" + sent[0], key.encode())
        assert answer.status == 201, key
    for key, sent in spellings.items():
        for program in programs:
            for one in sent:
                assert ask(program, "GET", b"/v1/kv/" + one).body == key.encode()
    shown = programs[0].call("POST", "/get", [{"key": key} for key in spellings]).json["existedKey"]
    assert [row["key"] for row in shown] == list(spellings)
    for key, sent in spellings.items():
        assert ask(programs[0], "DELETE", b"/v1/kv/" + sent[-1]).status == 204
        assert ask(programs[0], "GET", b"/v1/kv/" + sent[0]).status == 404, key


@pytest.mark.parametrize(("one", "other", "key"), SAME)
def test_two_ways_to_write_a_key_are_one_key(proxy: Program, one: bytes, other: bytes, key: str) -> None:
    ask(proxy, "PUT", b"/v1/kv/" + one, b"here")
    assert ask(proxy, "GET", b"/v1/kv/" + other).body == b"here"
    assert proxy.call("POST", "/get", [{"key": key}]).json["existedKey"][0]["key"] == key


BAD_PATHS = {
    # name: (as it is sent, status, code)
    "no hexadecimal digits": (b"a%zz", 400, "syntax"),
    "half an escape": (b"a%4", 400, "syntax"),
    "a percent at the end": (b"a%", 400, "syntax"),
    "a blank in an escape": (b"%+1", 400, "syntax"),
    "0xFF escaped": (b"kept%ff", 400, "syntax"),
    "0xFF as it is": (b"kept\xff", 400, "syntax"),
    "UTF-8 as it is": ("caf\u00e9".encode(), 400, "syntax"),
    "overlong slash": (b"a%C0%AFb", 400, "syntax"),
    "overlong NUL": (b"a%C0%80", 400, "syntax"),
    "overlong in three bytes": (b"%E0%80%AF", 400, "syntax"),
    "surrogate": (b"%ED%A0%80", 400, "syntax"),
    "beyond Unicode": (b"%F4%90%80%80", 400, "syntax"),
    "cut sequence": (b"%E2%82", 400, "syntax"),
    "continuation alone": (b"%82", 400, "syntax"),
    "U+0000": (b"kept%00", 400, "invalid-item"),
    "nothing": (b"", 400, "invalid-item"),
    "481 bytes": (b"k" * 481, 413, "too-large"),
    "483 bytes in 161 characters": (b"%e2%82%ac" * 161, 413, "too-large"),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(("sent", "status", "code"), BAD_PATHS.values(), ids=BAD_PATHS.keys())
def test_path_that_is_no_key_is_refused_and_changes_nothing(
    programs: list[Program], method: str, sent: bytes, status: int, code: str
) -> None:
    programs[0].call("POST", "/set", [{"key": "kept", "value": "as it was"}])
    before = programs[0].call("GET", "/v1/kv?limit=1000&values=0").body
    for program in programs:
        answer = ask(program, method, b"/v1/kv/" + sent, b"new" if method == "PUT" else None)
        if method == "HEAD":
            assert answer.status == status
        else:
            problem(answer, status, code)
    assert programs[0].call("GET", "/v1/kv?limit=1000&values=0").body == before
    assert programs[0].call("GET", "/get?key=kept").json["existedKey"][0]["value"] == "as it was"


def test_prefix_itself_is_not_decoded(proxy: Program) -> None:
    ask(proxy, "PUT", "/v1/kv/x", b"1")
    for path in ("/v1/kv%2Fx", "/v1%2Fkv/x", "/v1//kv/x", "//v1/kv/x", "/V1/kv/x", "/v1/k%76/x", "/v1/./kv/x"):
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            assert ask(proxy, method, path, b"2" if method == "PUT" else None).status == 404, path
    assert ask(proxy, "GET", "http://localhost/v1/kv/x").body == b"1"


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_405_with_allow(programs: list[Program], method: str) -> None:
    for program in programs:
        answer = ask(program, method, "/v1/kv/a")
        problem(answer, 405, "method-not-allowed")
        assert {name.strip() for name in answer.headers["Allow"].split(",")} == {"GET", "HEAD", "POST", "PUT", "DELETE"}


# --- parameters, types, conditions ------------------------------------------------------------------------------------------

BAD_QUERIES = {
    "ttl=0": 422,
    "ttl=0.0": 422,
    "ttl=-1": 422,
    "ttl=+1": 422,
    "ttl=": 422,
    "ttl=1e10": 422,
    "ttl=1e-400": 422,
    "ttl=01": 422,
    "ttl=1e": 422,
    f"ttl=1.{'0' * 31}": 422,
    "ttl=0x10": 422,
    "ttl=60s": 422,
    "ttl=.5": 422,
    "ttl=5.": 422,
    "ttl=NaN": 422,
    "ttl=%D9%A1": 422,
    "ttl=1%0A": 422,
    "ttl=9999999999": 422,
    "ttl=1&ttl=1": 400,
    "r=0": 422,
    "r=2": 422,
    "w=99": 422,
    "w=-1": 422,
    "w=1.0": 422,
    "w=": 422,
    "r=1&r=1": 400,
    "w=1&w=1": 400,
    "colour=1": 400,
    "TTL=1": 400,
    "key=a": 400,
    "ttl=%zz": 400,
    "ttl=%ff": 400,
}


@pytest.mark.parametrize(("query", "status"), BAD_QUERIES.items())
def test_bad_parameter_is_refused_and_changes_nothing(programs: list[Program], query: str, status: int) -> None:
    ask(programs[0], "PUT", "/v1/kv/param", b"as it was")
    for program in programs:
        problem(
            ask(program, "PUT", f"/v1/kv/param?{query}", b"new"),
            status,
            "syntax" if "%zz" in query or "%ff" in query else {400: "parameter", 422: "parameter-value"}[status],
        )
        if not query.startswith("ttl"):
            assert ask(program, "GET", f"/v1/kv/param?{query}").status == status
            assert ask(program, "DELETE", f"/v1/kv/param?{query}").status == status
    assert ask(programs[0], "GET", "/v1/kv/param").body == b"as it was"


def test_parameters_that_can_be_are_taken(proxy: Program) -> None:
    assert ask(proxy, "PUT", "/v1/kv/param?w=1&r=1&ttl=60", b"1").status in (201, 204)
    for ttl in ("0.30000000000000004", "1e3", "5E-324", "3162240000"):
        assert ask(proxy, "PUT", f"/v1/kv/param?ttl={ttl}", b"1").status in (201, 204)
    assert ask(proxy, "PUT", "/v1/kv/param?ttl=60", b"1").status in (201, 204)
    assert ask(proxy, "GET", "/v1/kv/param?r=1").status == 200
    assert ask(proxy, "GET", "/v1/kv/param?ttl=60").status == 400
    assert ask(proxy, "DELETE", "/v1/kv/param?w=1").status == 204


def test_ttl_expires_and_a_write_without_one_takes_it_away(programs: list[Program]) -> None:
    for number, program in enumerate(programs):
        assert ask(program, "PUT", f"/v1/kv/brief/{number}?ttl=0.2", b"1").status == 201
        assert ask(program, "PUT", f"/v1/kv/stays/{number}?ttl=0.2", b"1").status == 201
        assert ask(program, "PUT", f"/v1/kv/stays/{number}", b"2").status == 204
        wait_for("the end of it", lambda n=number: ask(programs[0], "GET", f"/v1/kv/brief/{n}").status == 404)
        assert ask(program, "GET", f"/v1/kv/stays/{number}").body == b"2"
        assert ask(program, "PUT", f"/v1/kv/brief/{number}", b"1").status == 201


BAD_TYPES = {
    "no slash": ("text", 400),
    "nothing behind the slash": ("text/", 400),
    "two types": ("text/plain, text/html", 400),
    "a blank inside": ("text /plain", 400),
    "not ASCII": ("text/pl\u00e4in", 400),
    "parameter without a value": ("text/plain; charset=", 400),
    "open quotes": ('text/plain; a="b', 400),
    "256 bytes": ("a/" + "b" * 254, 413),
    "many blanks and semicolons": ("a/b" + "; " * 120 + "\u00e4", 400),
}


@pytest.mark.parametrize(("kind", "status"), BAD_TYPES.values(), ids=BAD_TYPES.keys())
def test_content_type_that_is_none_is_refused(proxy: Program, kind: str, status: int) -> None:
    assert ask(proxy, "PUT", "/v1/kv/bad-type", b"1", Content_Type=kind).status == status
    assert ask(proxy, "GET", "/v1/kv/bad-type").status == 404


def test_content_type_at_the_limit(proxy: Program) -> None:
    kind = "a/" + "b" * 253
    assert ask(proxy, "PUT", "/v1/kv/long-type", b"1", Content_Type=kind).status in (201, 204)
    assert ask(proxy, "GET", "/v1/kv/long-type").headers["Content-Type"] == kind


BAD_JSON = [
    b"",
    b" ",
    b"[1,]",
    b"01",
    b"NaN",
    b"1 x",
    b'{"a":1,"a":2}',
    b'"\xff"',
    b'"\\ud800"',
    b"[" * 65 + b"]" * 65,
    b"1e400",
]


@pytest.mark.parametrize("body", BAD_JSON)
def test_json_that_is_none_is_refused_and_changes_nothing(proxy: Program, body: bytes) -> None:
    ask(proxy, "PUT", "/v1/kv/strict", b"as it was")
    assert ask(proxy, "PUT", "/v1/kv/strict", body, Content_Type="application/json").status == 400
    assert ask(proxy, "GET", "/v1/kv/strict").body == b"as it was"
    assert ask(proxy, "PUT", "/v1/kv/strict", body, Content_Type="text/json").status == 204
    assert ask(proxy, "GET", "/v1/kv/strict").body == body


def test_value_at_the_limit_and_one_over(proxy: Program) -> None:
    limit = 1 << 20
    assert ask(proxy, "PUT", "/v1/kv/large", bytes(limit)).status in (201, 204)
    assert ask(proxy, "GET", "/v1/kv/large").body == bytes(limit)
    problem(ask(proxy, "PUT", "/v1/kv/large", bytes(limit + 1)), 413, "too-large")
    json_text = b'"' + b"x" * (limit - 2) + b'"'
    assert ask(proxy, "PUT", "/v1/kv/large", json_text, Content_Type="application/json").status == 204
    assert ask(proxy, "PUT", "/v1/kv/large", json_text + b" ", Content_Type="application/json").status == 413
    assert ask(proxy, "GET", "/v1/kv/large").body == json_text


def test_coded_or_partial_body_is_refused(proxy: Program) -> None:
    assert ask(proxy, "PUT", "/v1/kv/coded", b"1", Content_Encoding="gzip").status == 415
    assert ask(proxy, "PUT", "/v1/kv/coded", b"1", Content_Range="bytes 0-0/2").status == 400
    assert ask(proxy, "GET", "/v1/kv/coded").status == 404
    assert ask(proxy, "PUT", "/v1/kv/coded", b"1", Content_Encoding="identity").status == 201


def test_body_in_chunks_is_stored(proxy: Program) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
        connection.sendall(b"PUT /v1/kv/chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
        assert read_answer(connection.makefile("rb"), "PUT").status in (201, 204)
    assert ask(proxy, "GET", "/v1/kv/chunks").body == b"abc"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If_Unmodified_Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("If_Modified_Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("If_Range", '"x"'),
        ("If", "(<urn:x>)"),
    ],
)
def test_write_on_a_condition_that_nobody_looks_at_is_refused_and_changes_nothing(
    programs: list[Program], method: str, name: str, value: str
) -> None:
    ask(programs[0], "PUT", "/v1/kv/condition", b"as it was")
    for program in programs:
        problem(
            ask(program, method, "/v1/kv/condition", b"new" if method == "PUT" else None, **{name: value}), 501, "not-supported"
        )
    assert ask(programs[0], "GET", "/v1/kv/condition").body == b"as it was"


def test_if_none_match_on_get_and_head(programs: list[Program]) -> None:
    tag = ask(programs[0], "PUT", "/v1/kv/tagged", b"1").headers["ETag"]
    same = [tag, f"W/{tag}", "*", f'"other", {tag}', f'W/"a,b" ,{tag}', f",{tag},", f'{tag},"other"']
    others = [
        "",
        ",",
        '"other"',
        f'"{tag[2:]}',
        'W/"x","y"',
        '""',
        f'"x,{tag[1:]}',
        tag.upper() if tag.upper() != tag else '"z"',
    ]
    for program in programs:
        for method in ("GET", "HEAD"):
            for value in same:
                answer = ask(program, method, "/v1/kv/tagged", If_None_Match=value)
                assert (answer.status, answer.headers["ETag"]) == (304, tag), value
            for value in others:
                assert ask(program, method, "/v1/kv/tagged", If_None_Match=value).status == 200, value
            for value in ("other", '"open', "W/", f"{tag} {tag}", '*,"x"', f"w/{tag}"):
                assert ask(program, method, "/v1/kv/tagged", If_None_Match=value).status == 400, value
            assert ask(program, method, "/v1/kv/tagged", If_Match=tag).status == 200
            for value in (f"W/{tag}", '"other"', f'W/{tag}, "other"'):
                answer = ask(program, method, "/v1/kv/tagged", If_Match=value)
                assert (answer.status, answer.headers["ETag"]) == (412, tag), value
            assert ask(program, method, "/v1/kv/no-such", If_None_Match="*").status == 404
    newer = ask(programs[0], "PUT", "/v1/kv/tagged", b"1").headers["ETag"]
    assert newer != tag
    assert ask(programs[1], "GET", "/v1/kv/tagged", If_None_Match=tag).headers["ETag"] == newer


# --- what a failure says ----------------------------------------------------------------------------------------------------


def test_node_that_is_down_is_503_with_the_code_and_never_404(system: System) -> None:
    proxy, [alive, dead] = system.cluster(2)
    owned = keys_by_node(proxy)
    [key, *_], [other, *_] = owned[f"127.0.0.1:{dead.port}"], owned[f"127.0.0.1:{alive.port}"]
    dead.signal(signal.SIGKILL)
    dead.ended()
    for program in (proxy, alive):
        for method, codes in (
            ("GET", ["unreachable", "no-primary"]),
            ("PUT", ["not-applied", "indeterminate", "no-primary"]),
        ):
            answer = ask(program, method, f"/v1/kv/{key}", b"1" if method == "PUT" else None)
            assert answer.status == 503
            assert answer.json["type"].removeprefix("urn:gkv:problem:") in codes
            assert answer.json["retryable"] is True
            assert int(answer.headers["Retry-After"]) >= 1
        assert ask(program, "HEAD", f"/v1/kv/{key}").status == 503
        assert ask(program, "DELETE", f"/v1/kv/{key}").status == 503
        assert ask(program, "GET", f"/v1/kv/{other}").status == 404


def test_before_any_member_is_503_and_a_bad_request_is_still_told_so(system: System) -> None:
    proxy = system.proxy()
    for method in ("GET", "PUT", "DELETE"):
        problem(ask(proxy, method, "/v1/kv/a", b"1" if method == "PUT" else None), 503, "unavailable")
        assert ask(proxy, method, "/v1/kv/%ff").status == 400


def test_restart_keeps_value_type_and_etag(system: System) -> None:
    proxy, [node] = system.cluster(1)
    tags = {}
    for key, kind, value in (("a", "image/png", b"\xff"), ("b", "application/json", b"1.0"), ("c", 'x/y; a="b"', b"")):
        tags[key] = ask(proxy, "PUT", f"/v1/kv/{key}?ttl=3600", value, Content_Type=kind).headers["ETag"], kind, value
    node.signal(signal.SIGKILL)
    node.ended()
    again = system.node(proxy, port=node.port)
    for key, (tag, kind, value) in tags.items():
        answer = wait_for("the node", lambda k=key: (found := ask(again, "GET", f"/v1/kv/{k}")).status == 200 and found)
        assert (answer.headers["ETag"], answer.headers["Content-Type"], answer.body) == (tag, kind, value)


def test_async_put_knows_whether_the_key_was_there(system: System) -> None:
    proxy = system.proxy()
    system.node(proxy, "--durability", "async")
    assert ask(proxy, "PUT", "/v1/kv/a", b"1").status == 201
    assert proxy.call("POST", "/set", [{"key": "b", "value": 1}]).status == 200
    assert [ask(proxy, "PUT", f"/v1/kv/{key}", b"1").status for key in "aabb"] == [204] * 4
    assert json.loads(proxy.call("GET", "/get?key=a").body)["existedKey"][0]["encoding"] == "base64"
