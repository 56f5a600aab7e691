"""Paths and parameters that are not what gkv takes, or only look as if they were not, through real sockets.

Each request goes alone and with another one behind it, to the proxy and to a node, and changes nothing that is stored. What
`/v1/kv/<key>` makes of its path is in test_single_keys.py, where a request ends in tests/apps/test_framing.py.
"""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.cluster.conftest import Program, System
from tests.cluster.raw import ask, problem, refused, request

STORED = {"kept": b"as it was", "list/a": b"1", "list/b": b"2", "list/c": b"3", "other/d": b"4", " ": b"blank", "+": b"plus"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Program]]:
    """Give a proxy and two nodes that hold STORED; nothing here may change it."""
    system = System(tmp_path_factory.mktemp("system"))
    proxy, nodes = system.cluster(2)
    for key, value in STORED.items():
        assert ask(proxy, "PUT", f"/v1/kv/{quote(key)}", value).status == 201
    before = proxy.call("GET", "/v1/kv?values=1").body
    yield [proxy, *nodes]
    assert proxy.call("GET", "/v1/kv?values=1").body == before
    system.end(all_run=True)


def ask_all(programs: list[Program], method: str, target: bytes | str, status: int, code: str) -> None:
    """Ask the proxy and a node, alone and not, and check that each answers with this error."""
    for program in programs[:2]:
        for alone in (True, False):
            problem(ask(program, method, target, alone=alone), status, code)


# --- keys -------------------------------------------------------------------------------------------------------------------

NO_UTF8 = {
    "0xFF": b"kept%FF",
    "0xFF as it is": b"kept\xff",
    "half a character as it is": b"kept\xc3",
    "0xFE": b"%fe",
    "overlong slash": b"a%C0%AF",
    "overlong A": b"%C1%81",
    "overlong NUL": b"kept%C0%80",
    "overlong in three bytes": b"%E0%9F%BF",
    "overlong in four bytes": b"%F0%82%82%AC",
    "surrogate": b"%ED%BF%BF",
    "two surrogates for one character": b"%ED%A0%BD%ED%B8%80",
    "beyond Unicode": b"%F4%90%80%80",
    "five bytes": b"%F8%88%80%80%80",
    "cut": b"%EF%BF",
    "interrupted": b"%E2%28%A1",
    "continuation first": b"%A1kept",
    "no digits": b"kept%zz",
    "one digit": b"kept%4",
    "no digit": b"kept%",
    "two percents": b"%%41",
    "the way of JavaScript": b"%u00e9",
    "a blank for a digit": b"%+4",
    "a sign for a digit": b"%-1",
    "digits as in Python": b"%4_",
    "wide digits": b"%\xef\xbc\x94\xef\xbc\x91",
}


@pytest.mark.parametrize("sent", NO_UTF8.values(), ids=NO_UTF8.keys())
def test_parameter_that_is_no_utf8_is_400_wherever_it_stands(programs: list[Program], sent: bytes) -> None:
    for target in (
        b"/get?key=",
        b"/get?key=kept&key=",
        b"/locate?key=",
        b"/v1/kv?prefix=",
        b"/v1/kv?cursor=",
        b"/readyz?verbose=",
    ):
        ask_all(programs, "GET", target + sent, 400, "syntax")
    ask_all(programs, "GET", b"/get?%b=kept" % sent, 400, "syntax")
    for method in ("GET", "DELETE"):
        ask_all(programs, method, b"/v1/kv/" + sent, 400, "syntax")


NO_KEYS = {
    "nothing": (b"", 400, "invalid-item"),
    "U+0000": (b"kept%00", 400, "invalid-item"),
    "481 bytes": (b"k" * 481, 413, "too-large"),
    "482 bytes in 241 characters": (b"%C3%A9" * 241, 413, "too-large"),
}


@pytest.mark.parametrize(("sent", "status", "code"), NO_KEYS.values(), ids=NO_KEYS.keys())
def test_parameter_that_is_no_key_is_refused(programs: list[Program], sent: bytes, status: int, code: str) -> None:
    for target in (b"/get?key=", b"/get?key=kept&key=", b"/locate?key=", b"/locate?key=kept&key="):
        ask_all(programs, "GET", target + sent, status, code)
    if sent:
        ask_all(programs, "GET", b"/v1/kv?prefix=" + sent, 422, "parameter-value")


SPELLINGS = {
    # in a query: the key
    b"a+b": "a b",
    b"%2Bx": "+x",
    b"a%20b": "a b",
    b"a%2Fb": "a/b",
    b"a/b": "a/b",
    b"../kept": "../kept",
    b"%2e%2e%2Fkept": "../kept",
    b"kept;key=other": "kept;key=other",
    b"a=b": "a=b",
    b"a%26key%3Db": "a&key=b",
    b"a?b": "a?b",
    b"%2525": "%25",
    b"%25zz": "%zz",
    "caf\u00e9".encode(): "caf\u00e9",
    b"cafe%CC%81": "cafe\u0301",
    b"%EF%BB%BFa": "\ufeffa",
    b"%0D%0ASet-Cookie:x": "\r\nSet-Cookie:x",
    b"%1B[31m": "\x1b[31m",
    b"<script>": "<script>",
    b"k" * 480: "k" * 480,
}


@pytest.mark.parametrize(("sent", "key"), SPELLINGS.items())
def test_key_in_a_query_is_what_was_sent_and_is_echoed_in_json_only(programs: list[Program], sent: bytes, key: str) -> None:
    for program in programs[:2]:
        got = ask(program, "GET", b"/get?key=" + sent)
        assert got.json == {"existedKey": [], "notExistedKey": [{"key": key, "value": ""}]}
        located = ask(program, "GET", b"/locate?key=" + sent)
        assert located.json["keys"][0] == program.call("POST", "/locate", [{"key": key}]).json["keys"][0]
        for answer in (got, located):
            ours = {"Content-Type", "Content-Length", "X-Request-Id", "Cache-Control", "Date", "Connection", "Keep-Alive"}
            assert set(answer.headers) == ours
            assert b"\x1b" not in answer.body


def test_plus_is_a_blank_in_a_query_and_itself_in_a_path(proxy: Program) -> None:
    assert ask(proxy, "GET", "/v1/kv/+").body == b"plus"
    assert ask(proxy, "GET", "/v1/kv/%2B").body == b"plus"
    assert ask(proxy, "GET", "/v1/kv/%20").body == b"blank"
    assert [row["key"] for row in ask(proxy, "GET", "/get?key=+&key=%2B").json["existedKey"]] == [" ", "+"]
    assert ask(proxy, "GET", "/v1/kv?prefix=+").json["keys"] == [" "]
    assert ask(proxy, "GET", "/v1/kv?prefix=%2B").json["keys"] == ["+"]


# --- parameters -------------------------------------------------------------------------------------------------------------

PARAMETERS = {
    "/get": 400,
    "/get?": 400,
    "/get?&": 400,
    "/get?=kept": 400,
    "/get?key=kept&=": 400,
    "/get?Key=kept": 400,
    "/get?key%20=kept": 400,
    "/get?+key=kept": 400,
    "/get?key=kept&r=1": 400,
    "/get?key=kept&r=2&w=2": 400,
    "/get?key=kept;r=1&x": 400,
    "/get?key[]=kept": 400,
    "/get?key=kept&callback=alert": 400,
    "/locate": 400,
    "/locate?key=kept&r=1": 400,
    "/locate?prefix=kept": 400,
    "/livez?x": 400,
    "/readyz?verbose&verbose": 400,
    "/readyz?Verbose": 400,
    "/metrics?name=x": 400,
    "/openapi.json?x": 400,
    "/v1/info?x=1": 400,
    "/v1/ring?epoch=1": 400,
    "/v1/kv?key=kept": 400,
    "/v1/kv?r=1": 400,
    "/v1/kv?limit=1&limit=1": 400,
    "/v1/kv?limit=1&%6Cimit=1": 400,
    "/v1/kv?prefix=a&prefix=b": 400,
    "/v1/kv?cursor=a&cursor=a": 400,
    "/v1/kv?values=1&values=1": 400,
    "/v1/kv?delimiter=/&delimiter=/": 400,
    **{
        f"/v1/kv?limit={text}": 422
        for text in (
            "", "0", "00", "-1", "-0", "+1", "%2B1", "00010", "010", "1_0", "0x10", "1e9", "1e1", "1.0", "1,0", "%201", "1%20",
            "1%0A", "1%00", "%D9%A1", "%EF%BC%91", "%C2%B2", "10001", "1000000", "9" * 5000, "ten", "NaN", "Infinity", "null",
            "true", "1;2", "[1]",
        )
    },
    **{f"/v1/kv?values={text}": 422 for text in ("", "2", "01", "-1", "true", "yes", "1%20", "%D9%A1")},
    "/v1/kv?values=1&limit=10001": 422,
    **{f"/v1/kv?delimiter={text}": 422 for text in ("", "%00", "a%00", "12345678901234567")},
    **{
        f"/v1/kv/kept?{name}={text}": 422
        for name in ("r", "w")
        for text in ("", "0", "00", "01", "2", "99", "-1", "1.0", "0x1", "%D9%A1", "quorum", "1%20", "9" * 400)
    },
    "/v1/kv/kept?r=1&r=1": 400,
    "/v1/kv/kept?R=1": 400,
    "/v1/kv/kept?ttl=1": 400,
    "/v1/kv/kept?version=1": 400,
}  # fmt: skip


@pytest.mark.parametrize("target", PARAMETERS)
def test_parameter_that_is_wrong_unknown_or_repeated_is_refused(programs: list[Program], target: str) -> None:
    status = PARAMETERS[target]
    ask_all(programs, "GET", target, status, {400: "parameter", 422: "parameter-value"}[status])


def test_query_of_batches_and_joins_takes_nothing(programs: list[Program]) -> None:
    body = b'[{"key":"kept","value":"new"}]'
    for program in programs[:2]:
        for target in ("/set?w=1", "/set?dryRun=1", "/get?key=kept", "/delete?force=1", "/locate?key=kept"):
            problem(ask(program, "POST", target, body), 400, "parameter")
    problem(ask(programs[0], "POST", "/v1/cluster/nodes?dryRun=1", b"{}", Content_Type="application/json"), 400, "parameter")


def test_what_does_not_exist_yet_is_refused_and_not_ignored(programs: list[Program]) -> None:
    proxy, node, _ = programs
    for target in ("/v1/cluster/nodes/n1", "/v1/cluster/nodes/n1?force=1", "/v1/cluster/nodes/"):
        problem(ask(proxy, "DELETE", target), 404, "no-such-member")
        problem(ask(node, "DELETE", target), 404, "not-found")
    answer = ask(programs[0], "DELETE", "/v1/cluster/nodes")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"
    for program in programs[:2]:
        for target in ("/set", "/delete"):
            for name in ("If_Match", "If_None_Match", "If_Unmodified_Since"):
                problem(ask(program, "POST", target, b'[{"key":"kept","value":1}]', **{name: "*"}), 501, "not-supported")


def test_parameters_in_odd_but_clear_spellings_are_taken(programs: list[Program]) -> None:
    for program in programs[:2]:
        for target in ("/get?key=kept", "/get?&key=kept", "/get?key=kept&&", "/get?k%65y=kept", "/get?key=%6b%65pt"):
            assert ask(program, "GET", target).json["existedKey"][0]["key"] == "kept"
        assert ask(program, "GET", "/v1/kv/kept?").body == b"as it was"
        assert ask(program, "GET", "/v1/kv/kept?&").body == b"as it was"
        assert len(ask(program, "GET", "/v1/kv?limit=%32").json["keys"]) == 2
        assert ask(program, "GET", "/get?" + "key=kept&" * 900).json["existedKey"][899]["key"] == "kept"


def test_bound_that_the_document_names_is_the_one_in_force(proxy: Program) -> None:
    parameters = proxy.call("GET", "/openapi.json").json["paths"]["/v1/kv"]["get"]["parameters"]
    most = next(one["schema"]["maximum"] for one in parameters if one["name"] == "limit")
    assert ask(proxy, "GET", f"/v1/kv?limit={most}").status == 200
    problem(ask(proxy, "GET", f"/v1/kv?limit={most + 1}"), 422, "parameter-value")


def test_cursor_is_good_everywhere_and_only_as_it_was_given(programs: list[Program]) -> None:
    page = ask(programs[0], "GET", "/v1/kv?prefix=list/&limit=1").json
    cursor = page["cursor"]
    for program in programs:
        assert ask(program, "GET", f"/v1/kv?prefix=list/&limit=1&cursor={cursor}").json["keys"] == ["list/b"]
    forged = [cursor[:-1], cursor[1:], cursor + "A", cursor + "=", cursor + "%3D%3D", cursor.swapcase(), cursor * 2, "AAAA"]
    forged += [cursor[:i] + ("B" if cursor[i] == "A" else "A") + cursor[i + 1 :] for i in range(len(cursor))]
    forged += ["", "%00", "%20" + cursor, cursor + "%0A", cursor + "%C3%A9", "x" * 5000, "/../..", "-1", "list/a", "bGlzdC9h"]
    for number, text in enumerate(forged):
        program = programs[number % 3]
        problem(ask(program, "GET", f"/v1/kv?prefix=list/&cursor={text}"), 422, "parameter-value")
    for prefix in ("", "list", "list/a", "other/", "LIST/"):
        ask_all(programs, "GET", f"/v1/kv?prefix={prefix}&cursor={cursor}", 422, "parameter-value")


# --- paths ------------------------------------------------------------------------------------------------------------------

NO_PATHS = [
    "//", "/get/", "/get/kept", "/Get", "/GET", "/get;a=1", "/get;",
    "/get%3Fkey=kept", "/get%23", "/%67et", "/get%20", "/get%00",
    "/get%2e", "/get.", "/get.json",
    "/get%0d%0aX:%20y", "//get", "/./get", "/../get", "/x/../get", "/%2e%2e/get", "/get/..", "/v1",
    "/v1/", "/v1/kv;x", "/v1/kvx", "/v1%2Finfo", "/v1%2finfo", "/v1%5Cinfo", "/v1\\info", "//v1/info", "/v1//info",
    "/v1/info/",
    "/v1/./info", "/V1/info", "/v2/info", "/v1/kv%2Fkept", "/v1%2Fkv/kept", "/%76%31/kv/kept", "/v1/../v1/kv/kept", "/livez%zz",
    "/livez%", "/internal", "/internal/", "/internal/frames/", "/internal%2Fframes", "/%69nternal/frames", "/v1%2Fsnapshot",
    "/openapi", "/openapi.yaml", "/favicon.ico", "/.git/config", "/etc/passwd", "/../../etc/passwd", "/%2e%2e%2fetc%2fpasswd",
    "/<script>", "/" + "a" * 8000,
]  # fmt: skip


@pytest.mark.parametrize("target", NO_PATHS, ids=lambda target: target[:40])
def test_path_that_is_nothings_is_404_in_every_spelling(programs: list[Program], target: str) -> None:
    ask_all(programs, "GET", target, 404, "not-found")
    ask_all(programs, "GET", f"{target}?key=kept", 404, "not-found")
    for program in programs[:2]:
        assert ask(program, "HEAD", target).status == 404
        problem(ask(program, "POST", target, b'[{"key":"kept","value":"new"}]'), 404, "not-found")


def test_path_that_is_no_utf8_is_400(programs: list[Program]) -> None:
    for target in (b"/\xff", b"/livez\xff", b"/livez%ff", b"/livez%c0%af", b"/v1\xc0\xafinfo", b"/v1%c0%afinfo"):
        ask_all(programs, "GET", target, 400, "syntax")


TARGETS = {
    "a fragment": (b"/get?key=kept#x", 400),
    "a fragment of a path": (b"/livez#", 400),
    "a blank": (b"/get?key=a b", 400),
    "a tab": (b"/get?key=a\tb", 400),
    "no slash": (b"livez", 400),
    "a query alone": (b"?key=kept", 400),
    "a star": (b"*", 400),
    "another scheme": (b"https://localhost/livez", 400),
    "a file": (b"file:///etc/passwd", 400),
    "another host": (b"http://example.org/livez", 400),
    "a user": (b"http://a@localhost/livez", 400),
    "control character": (b"/livez?\x01", 400),
    "DEL": (b"/livez\x7f", 400),
    "8193 bytes": (b"/" + b"a" * 8192, 414),
    "8193 bytes with a query": (b"/get?key=" + b"k" * 8184, 414),
    "100000 bytes": (b"/get?" + b"key=kept&" * 11_111, 414),
}


@pytest.mark.parametrize(("target", "status"), TARGETS.values(), ids=TARGETS.keys())
def test_target_that_is_none_ends_the_connection(programs: list[Program], target: bytes, status: int) -> None:
    for program in programs[:2]:
        problem(refused(program, request("GET", target)), status, {400: "framing", 414: "uri-too-long"}[status])


def test_absolute_target_of_this_server_is_served(proxy: Program) -> None:
    assert ask(proxy, "GET", "http://localhost/livez").body == b"ok\n"
    assert ask(proxy, "GET", "HTTP://LOCALHOST/v1/kv/kept").body == b"as it was"
    assert ask(proxy, "GET", "http://localhost").body == ask(proxy, "GET", "/").body
    problem(ask(proxy, "GET", "http://localhost?key=kept"), 400, "parameter")


# --- headers that do not belong, or ask for what cannot be --------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-0"},
        {"Range": "bytes=9999-"},
        {"Range": "x"},
        {"If_Range": '"x"', "Range": "bytes=0-0"},
        {"Accept": "image/png"},
        {"Accept": "application/json;q=0"},
        {"Accept": ",;=,"},
        {"Accept_Encoding": "gzip, identity;q=0"},
        {"Accept_Charset": "utf-16"},
        {"If_Modified_Since": "Sun, 06 Nov 2094 08:49:37 GMT"},
        {"If_Modified_Since": "yesterday"},
        {"If_Unmodified_Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"X_HTTP_Method_Override": "DELETE"},
        {"X_Original_URL": "/v1/info"},
        {"X_Forwarded_Host": "example.org"},
        {"Content_Type": "x"},
        {"TE": "trailers"},
        {"Prefer": "return=minimal, handling=lenient"},
        {"Cache_Control": "only-if-cached"},
        {"Cookie": "a=b"},
    ],
    ids=str,
)
def test_header_that_need_not_be_obeyed_changes_nothing(programs: list[Program], headers: dict[str, str]) -> None:
    for program in programs[:2]:
        for alone in (True, False):
            answer = ask(program, "GET", "/v1/kv/kept", alone=alone, **headers)
            assert (answer.status, answer.body) == (200, b"as it was")
            assert not {"Content-Range", "Content-Encoding", "Location"} & set(answer.headers)
            assert ask(program, "GET", "/get?key=kept", alone=alone, **headers).json["existedKey"][0]["key"] == "kept"


def test_body_of_a_get_is_read_and_ignored_but_for_that_of_a_batch(programs: list[Program]) -> None:
    for program in programs[:2]:
        assert ask(program, "GET", "/v1/kv/kept", b"GET /v1/kv/other HTTP/1.1\r\n\r\n").body == b"as it was"
        assert ask(program, "GET", "/get", b'[{"key":"kept"}]').json["existedKey"][0]["key"] == "kept"


def test_content_type_twice_ends_the_connection(programs: list[Program]) -> None:
    for program in programs[:2]:
        for second in (b"text/plain", b"application/json"):
            head = b"PUT /v1/kv/kept HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-type: %b\r\n" % second
            problem(refused(program, head + b"Content-Length: 1\r\n\r\nx"), 400, "framing")


def test_wrong_content_coding_is_415_whatever_its_spelling(programs: list[Program]) -> None:
    for program in programs[:2]:
        for coding in ("gzip", "GZIP", "br", "identity, gzip", "gzip, identity", "x", "aws-chunked"):
            problem(ask(program, "PUT", "/v1/kv/kept", b"new", Content_Encoding=coding), 415, "content-type")


# --- methods ----------------------------------------------------------------------------------------------------------------

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "M-SEARCH", "X")


def test_method_that_is_not_described_is_405_with_those_that_are(programs: list[Program]) -> None:
    for program in programs[:2]:
        paths = program.call("GET", "/openapi.json").json["paths"]
        assert len(paths) > 10
        for path, item in paths.items():
            described = {method.upper() for method in item if method != "parameters"}
            for method in sorted(set(METHODS) - described):
                answer = ask(program, method, path.replace("{key}", "kept"), b"[]" if method in ("POST", "PATCH") else None)
                assert set(answer.headers["Allow"].replace(" ", "").split(",")) == described, (method, path)
                if method == "HEAD":
                    assert answer.status == 405
                else:
                    problem(answer, 405, "method-not-allowed")


def test_head_of_everything_is_its_get_without_a_body(programs: list[Program]) -> None:
    changing = {"Date", "X-Request-Id", "Content-Length"}
    for program in programs[:2]:
        paths = program.call("GET", "/openapi.json").json["paths"]
        for path in [path for path, item in paths.items() if "get" in item and path != "/v1/snapshot"]:
            target = path.replace("{key}", "kept") + ("?key=kept" if path in ("/get", "/locate") else "")
            got, head = ask(program, "GET", target), ask(program, "HEAD", target)
            assert (got.status, head.status, head.body) == (200, 200, b""), path
            assert {name: value for name, value in head.headers.items() if name not in changing} == {
                name: value for name, value in got.headers.items() if name not in changing
            }
            if path not in ("/metrics", "/v1/info"):
                assert head.headers["Content-Length"] == got.headers["Content-Length"]


def test_method_that_is_none_ends_the_connection(programs: list[Program]) -> None:
    for program in programs[:2]:
        for method in ("get", "Get", "G<T", "GET\t", "GE T", "G" * 33):
            problem(refused(program, request(method, "/livez")), 400, "framing")
        problem(refused(program, request("CONNECT", "localhost:80")), 501, "not-supported")
        problem(ask(program, "OPTIONS", "*"), 404, "not-found")
