"""Writes that depend on what is there, through real sockets: on the proxy, on the node that holds a key, and on another one."""

import json
import signal
import threading
from base64 import b64encode

import pytest

from tests.cluster.conftest import Program, System, wait_for
from tests.cluster.raw import ask, problem


def put(program: Program, key: str, value: object, **headers: str) -> str:
    """Store a JSON value and return its entity tag."""
    answer = ask(program, "PUT", f"/v1/kv/{key}", json.dumps(value).encode(), Content_Type="application/json", **headers)
    assert answer.status in (201, 204), answer
    return answer.headers["ETag"]


# --- single keys ------------------------------------------------------------------------------------------------------------


def test_put_and_delete_under_conditions_everywhere(programs: list[Program]) -> None:
    for number, program in enumerate(programs):
        path = f"/v1/kv/conditions/{number}"
        for method, status in (("PUT", 412), ("DELETE", 412)):
            absent = ask(program, method, path, b"x" if method == "PUT" else None, If_Match="*")
            problem(absent, status, "condition")
            assert "ETag" not in absent.headers
        made = ask(program, "PUT", path, b"1", If_None_Match="*")
        assert made.status == 201
        tag = made.headers["ETag"]
        again = ask(program, "PUT", path, b"2", If_None_Match="*")
        problem(again, 412, "condition")
        assert again.headers["ETag"] == tag
        for value in (f"W/{tag}", '"other"', tag.replace("0", "1", 1), tag.upper() if tag.upper() != tag else '"X"'):
            problem(ask(program, "PUT", path, b"2", If_Match=value), 412, "condition")
            problem(ask(program, "DELETE", path, If_Match=value), 412, "condition")
        for value in (f"W/{tag}", tag, f'"other" , {tag}'):
            problem(ask(program, "PUT", path, b"2", If_None_Match=value), 412, "condition")
        for reader in programs:
            kept = ask(reader, "GET", path)
            assert (kept.body, kept.headers["ETag"]) == (b"1", tag)
        newer = ask(program, "PUT", path, b"2", If_Match=f'"other",{tag}')
        assert newer.status == 204
        assert newer.headers["ETag"] != tag
        problem(ask(program, "DELETE", path, If_Match=tag), 412, "condition")
        assert ask(program, "DELETE", path, If_Match=newer.headers["ETag"], If_None_Match=tag).status == 204
        problem(ask(program, "DELETE", path, If_None_Match="*"), 404, "no-such-key")
        assert ask(program, "PUT", path, b"3", If_None_Match=tag).status == 201


def test_several_lines_of_a_header_are_one_list(proxy: Program) -> None:
    tag = put(proxy, "lines", 1)
    # `ask` has one value for each name; names have no case.
    assert ask(proxy, "PUT", "/v1/kv/lines", b"2", If_Match='"other"', if_match=tag).status == 204
    problem(ask(proxy, "PUT", "/v1/kv/lines", b"3", If_Match="*", if_match="*"), 400, "syntax")


def test_read_under_conditions(programs: list[Program]) -> None:
    tag = put(programs[0], "read", 1)
    for program in programs:
        assert ask(program, "GET", "/v1/kv/read", If_Match=tag).status == 200
        wrong = ask(program, "GET", "/v1/kv/read", If_Match=f"W/{tag}")
        problem(wrong, 412, "condition")
        assert wrong.headers["ETag"] == tag
        assert ask(program, "HEAD", "/v1/kv/read", If_Match='"x"').status == 412
        missing = ask(program, "GET", "/v1/kv/read/none", If_Match="*")
        problem(missing, 404, "no-such-key")
        assert missing.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["If_Match", "If_None_Match"])
def test_list_that_is_none_is_refused_and_changes_nothing(programs: list[Program], name: str) -> None:
    tag = put(programs[0], "listed", "as it was")
    for program in programs:
        for value in ("x", tag[:-1], f"{tag} {tag}", f"*,{tag}", f"w/{tag}", "W/"):
            for method in ("PUT", "DELETE"):
                problem(
                    ask(program, method, "/v1/kv/listed", b"1" if method == "PUT" else None, **{name: value}), 400, "syntax"
                )
        assert ask(program, "GET", "/v1/kv/listed").headers["ETag"] == tag


def test_list_without_a_tag_is_one_that_nothing_matches(programs: list[Program]) -> None:
    for program in programs:
        for value in ("", ",", " , "):
            tag = put(program, "unlisted", "as it was")
            problem(ask(program, "PUT", "/v1/kv/unlisted", b"1", If_Match=value), 412, "condition")
            assert ask(program, "GET", "/v1/kv/unlisted", If_None_Match=value).headers["ETag"] == tag
            assert ask(program, "PUT", "/v1/kv/unlisted", b"1", If_None_Match=value).status == 204


def test_one_of_many_creators_is_told_that_it_was_the_one(programs: list[Program]) -> None:
    created: list[list[int]] = [[] for _ in range(100)]

    def create(number: int) -> None:
        for key, who in enumerate(created):
            if ask(programs[number % 3], "PUT", f"/v1/kv/created/{key}", b"%d" % number, If_None_Match="*").status == 201:
                who.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key, who in enumerate(created):
        assert len(who) == 1, key
        assert ask(programs[0], "GET", f"/v1/kv/created/{key}").body == b"%d" % who[0]


# --- batches ----------------------------------------------------------------------------------------------------------------


def version_of(program: Program, key: str) -> str:
    return ask(program, "GET", f"/v1/kv/{key}").headers["ETag"].strip('"')


def test_each_item_of_a_batch_is_decided_for_itself(programs: list[Program]) -> None:
    for program in programs:
        keys = [f"batch/{i}" for i in range(6)]
        program.call("POST", "/delete", [{"key": key} for key in keys])
        program.call("POST", "/set", [{"key": key, "value": "old"} for key in keys[:3]])
        versions = [version_of(program, key) for key in keys[:3]]
        answer = program.call(
            "POST",
            "/set",
            [
                {"key": keys[0], "value": 0, "ifVersion": versions[0]},
                {"key": keys[1], "value": 1, "ifVersion": "0" * 32},
                {"key": keys[2], "value": 2, "ifVersion": None},
                {"key": keys[3], "value": 3, "ifVersion": "*"},
                {"key": keys[4], "value": 4, "ifVersion": None},
                {"key": keys[5], "value": 5},
            ],
        )
        assert answer.status == 412
        assert answer.json["set"] == 3
        assert answer.json["complete"] is False
        row = {"code": "condition", "retryable": False}
        assert sorted(answer.json["failedKey"], key=lambda one: one["key"]) == [
            {"key": keys[1], "version": versions[1], **row},
            {"key": keys[2], "version": versions[2], **row},
            {"key": keys[3], "version": None, **row},
        ]
        found = program.call("POST", "/get", [{"key": key} for key in keys]).json["existedKey"]
        assert [one["value"] for one in found] == [0, "old", "old", 4, 5]
        deleted = program.call(
            "POST",
            "/delete",
            [{"key": keys[0], "ifVersion": versions[0]}, {"key": keys[1], "ifVersion": versions[1]}, {"key": keys[3]}],
        )
        assert (deleted.status, deleted.json["deleted"]) == (412, 1)
        assert [one["key"] for one in deleted.json["failedKey"]] == [keys[0]]
        fine = program.call("POST", "/set", [{"key": keys[4], "value": 1, "ifVersion": "*"}])
        assert (fine.status, fine.body) == (200, b"Success to set key")


def test_key_with_a_condition_that_stands_twice_in_a_batch_is_refused_by_every_program(programs: list[Program]) -> None:
    for number, program in enumerate(programs):
        key = f"twice/{number}"
        items = [{"key": key, "value": 1, "ifVersion": "*"}, {"key": key, "value": 2, "ifVersion": None}]
        answer = program.call("POST", "/set", items)
        assert (answer.status, [error["pointer"] for error in answer.json["errors"]]) == (400, ["/1"])
        assert program.call("GET", f"/v1/kv/{key}").status == 404


@pytest.mark.parametrize("wrong", ["", "7", 7, True, [], {}, "W/*", "null", "0" * 31, "0" * 33, "A" * 32, "**"])
def test_condition_of_a_wrong_form_refuses_the_whole_batch(programs: list[Program], wrong: object) -> None:
    tag = put(programs[0], "form", "as it was")
    for program in programs:
        for path, item in (("/set", {"key": "form", "value": 1}), ("/delete", {"key": "form"})):
            answer = program.call("POST", path, [item, {**item, "ifVersion": wrong}])
            problem(answer, 400, "invalid-item")
            assert answer.json["errors"][0]["pointer"] == "/1/ifVersion"
        assert ask(program, "GET", "/v1/kv/form").headers["ETag"] == tag


def test_node_that_is_down_is_503_also_where_conditions_failed(system: System) -> None:
    proxy, nodes = system.cluster(2)
    keys = [f"down/{i}" for i in range(20)]
    proxy.call("POST", "/set", [{"key": key, "value": 1} for key in keys])
    nodes[1].signal(signal.SIGKILL)
    nodes[1].ended()
    answer = proxy.call("POST", "/set", [{"key": key, "value": 2, "ifVersion": None} for key in keys])
    codes = {row["code"] for row in answer.json["failedKey"]}
    assert (answer.status, answer.json["set"]) == (503, 0)
    assert "condition" in codes
    assert len(codes) > 1


# --- all that is known, and bytes -------------------------------------------------------------------------------------------


def test_get_with_meta_says_all_that_is_known_and_bytes_can_be_put_back(programs: list[Program]) -> None:
    blob = bytes(range(256))
    for program in programs:
        ask(program, "PUT", "/v1/kv/meta/blob?ttl=60", blob, Content_Type='a/b; c="d"')
        program.call("POST", "/set", [{"key": "meta/json", "value": [1.0]}])
        body = [{"key": key} for key in ("meta/json", "meta/none", "meta/blob")]
        ways = [
            program.call("POST", "/get?meta=1", body),
            program.call("GET", "/get?meta=1&key=meta/json&key=meta/none&key=meta/blob"),
            program.call("GET", "/get?meta=1", body),
        ]
        for answer in ways:
            first, second = answer.json["existedKey"]
            assert first == {"key": "meta/json", "value": [1.0], "version": version_of(program, "meta/json")}
            assert 0 < second.pop("ttl") <= 60
            assert second == {
                "key": "meta/blob", "value": b64encode(blob).decode(), "encoding": "base64", "type": 'a/b; c="d"',
                "version": version_of(program, "meta/blob"),
            }  # fmt: skip
            assert answer.json["notExistedKey"] == [{"key": "meta/none", "value": ""}]
        item = {name: second[name] for name in ("value", "encoding", "type")}
        put_back = {**item, "key": "meta/copy", "ifVersion": None, "ttl": 30}
        assert program.call("POST", "/set", [put_back]).status == 200
        copy = ask(program, "GET", "/v1/kv/meta/copy")
        assert (copy.body, copy.headers["Content-Type"]) == (blob, 'a/b; c="d"')
        assert 0 < float(copy.headers["Expires-In"]) <= 30
        listed = program.call("GET", "/v1/kv?prefix=meta/&meta=1&values=1").json
        assert listed["keys"] == ["meta/blob", "meta/copy", "meta/json"]
        assert listed["versions"] == [version_of(program, key) for key in listed["keys"]]
        assert [left is None for left in listed["ttls"]] == [False, False, True]
        assert listed["types"] == ['a/b; c="d"', 'a/b; c="d"', None]
        assert listed["encodings"] == ["base64", "base64", None]
        brief = program.call("GET", "/v1/kv?prefix=meta/&meta=1&values=1&versions=0").json
        assert brief == {**{name: one for name, one in listed.items() if name != "versions"}, "ttls": brief["ttls"]}
        assert [left is None for left in brief["ttls"]] == [False, False, True]
        without = program.call("GET", "/v1/kv?prefix=meta/j&meta=1").json
        assert without == {"keys": ["meta/json"], "versions": [version_of(program, "meta/json")], "complete": True}
        program.call("POST", "/delete", [{"key": key} for key in listed["keys"]])


def test_get_takes_a_body_or_a_query_and_no_odd_meta(programs: list[Program]) -> None:
    put(programs[0], "bodied", 1)
    for program in programs:
        assert program.call("GET", "/get", [{"key": "bodied"}]).json == {"existedKey": [{"key": "bodied", "value": 1}]}
        problem(program.call("GET", "/get?key=bodied", [{"key": "bodied"}]), 400, "parameter")
        for path in ("/get?key=bodied&meta=2", "/v1/kv?meta=yes", "/v1/kv?versions=2", "/get?key=bodied&meta="):
            problem(program.call("GET", path), 422, "parameter-value")
        problem(program.call("GET", "/get"), 400, "parameter")


def test_form_with_one_json_text_is_stored_as_json(programs: list[Program]) -> None:
    form = "application/x-www-form-urlencoded"
    for program in programs:
        ask(program, "PUT", "/v1/kv/form-body", b' {"a": 1.0}', Content_Type=form)
        assert ask(program, "GET", "/v1/kv/form-body").headers["Content-Type"] == "application/json"
        assert program.call("GET", "/get?key=form-body").body == b'{"existedKey":[{"key":"form-body","value": {"a": 1.0}}]}'
        ask(program, "PUT", "/v1/kv/form-body", b"a=1", Content_Type=form)
        assert ask(program, "GET", "/v1/kv/form-body").headers["Content-Type"] == form


# --- adding and touching ----------------------------------------------------------------------------------------------------


def test_add_and_touch_everywhere(programs: list[Program]) -> None:
    for number, program in enumerate(programs):
        path = f"/v1/kv/count/{number}"
        first = ask(program, "POST", f"{path}?add=41")
        assert (first.status, first.body, first.headers["Content-Type"]) == (200, b"41", "application/json")
        second = ask(program, "POST", f"{path}?add=1")
        assert second.body == b"42"
        assert first.headers["ETag"] != second.headers["ETag"]
        found = ask(programs[0], "GET", path)
        assert (found.body, found.headers["ETag"]) == (b"42", second.headers["ETag"])
        assert "Expires-In" not in found.headers
        assert ask(program, "POST", f"{path}?add=-2&ttl=60").body == b"40"
        assert 0 < float(ask(program, "GET", path).headers["Expires-In"]) <= 60
        assert ask(program, "POST", f"{path}?add=1").body == b"41"
        assert 0 < float(ask(program, "GET", path).headers["Expires-In"]) <= 60
        touched = ask(program, "POST", f"{path}?touch=0")
        assert (touched.status, touched.body) == (204, b"")
        found = ask(program, "GET", path)
        assert (found.body, found.headers["ETag"], "Expires-In" in found.headers) == (b"41", touched.headers["ETag"], False)
        ask(program, "PUT", path, b"\xff", Content_Type="image/png")
        assert ask(program, "POST", f"{path}?touch=30").status == 204
        found = ask(program, "GET", path)
        assert (found.body, found.headers["Content-Type"]) == (b"\xff", "image/png")
        assert 0 < float(found.headers["Expires-In"]) <= 30
        problem(ask(program, "POST", "/v1/kv/count/none?touch=1"), 404, "no-such-key")


REFUSED = [
    # (what is there, what is sent, status, code)
    ("1", "add=1.5", 422, "parameter-value"),
    ("1", 'add="7"', 422, "parameter-value"),
    ("1", "add=null", 422, "parameter-value"),
    ("1", f"add={10**18}", 422, "parameter-value"),
    ("1", "add=", 422, "parameter-value"),
    (str(10**18 - 1), "add=1", 409, "wrong-type"),
    (str(1 - 10**18), "add=-1", 409, "wrong-type"),
    ("9" * 300, "add=-1", 409, "wrong-type"),
    ("1.5", "add=1", 409, "wrong-type"),
    ('"7"', "add=1", 409, "wrong-type"),
    ("null", "add=1", 409, "wrong-type"),
    ("1e2", "add=1", 409, "wrong-type"),
    ("[1]", "add=1&ttl=60", 409, "wrong-type"),
    ("1", "touch=-1", 422, "parameter-value"),
    ("1", "touch=1e-400", 422, "parameter-value"),
    ("1", "touch=1&ttl=1", 400, "parameter"),
    ("1", "add=1&touch=1", 400, "parameter"),
    ("1", "", 400, "parameter"),
]


@pytest.mark.parametrize(("value", "query", "status", "code"), REFUSED)
def test_change_that_cannot_be_is_a_clear_problem_and_changes_nothing(
    programs: list[Program], value: str, query: str, status: int, code: str
) -> None:
    made = ask(programs[0], "PUT", "/v1/kv/refused", value.encode(), Content_Type="application/json")
    for program in programs:
        answer = ask(program, "POST", f"/v1/kv/refused?{query}")
        problem(answer, status, code)
        assert answer.json["retryable"] is False
        kept = ask(program, "GET", "/v1/kv/refused")
        assert (kept.body.decode(), kept.headers["ETag"]) == (value, made.headers["ETag"])


def test_add_to_bytes_is_refused_and_to_what_has_expired_begins_at_0(programs: list[Program]) -> None:
    for number, program in enumerate(programs):
        tag = ask(program, "PUT", "/v1/kv/blob", b"7", Content_Type="text/plain").headers["ETag"]
        problem(ask(program, "POST", "/v1/kv/blob?add=1"), 409, "wrong-type")
        assert ask(program, "GET", "/v1/kv/blob").headers["ETag"] == tag
        path = f"/v1/kv/over/{number}"
        for query, status in (("touch=60", 404), ("add=5", 200)):
            assert ask(program, "PUT", f"{path}?ttl=0.05", b"7", Content_Type="application/json").status == 201
            wait_for("the end of it", lambda path=path: ask(programs[0], "GET", path).status == 404)
            answer = ask(program, "POST", f"{path}?{query}")
            assert answer.status == status
        found = ask(program, "GET", path)
        assert (found.body, "Expires-In" in found.headers) == (b"5", False)
