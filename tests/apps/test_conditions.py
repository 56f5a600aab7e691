"""Writes that depend on what is there, counters, expiries and metadata, as a client of one node sees them."""

import json

import pytest

from gkv.model import Damage, Effect, NodeRefusal, Outcome
from gkv.wire.ops import Effects, Refused

NEVER = "f" * 32
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def call(house):
    return house.client


def put(call, key, text, **headers):
    return call(
        "PUT", f"/v1/kv/{key}", text.encode(), JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    )


def problem(answer, status, code):
    assert (answer.status, answer.json()["type"]) == (status, f"urn:gkv:problem:{code}")
    return answer.json()


def version(call, key):
    return call("HEAD", f"/v1/kv/{key}").headers["etag"].strip('"')


# --- one key ---------------------------------------------------------------------------------------------------------


def test_put_if_match_replaces_the_version_that_is_named_and_no_other(call):
    first = put(call, "a", "1").headers["etag"]
    second = put(call, "a", "2", If_Match=f'"{NEVER}", {first}')
    assert second.status == 204
    refused = put(call, "a", "3", If_Match=first)
    problem(refused, 412, "condition")
    assert refused.headers["etag"] == second.headers["etag"]
    assert call("GET", "/v1/kv/a").body == b"2"


def test_put_if_none_match_any_creates_once(call):
    created = put(call, "a", "1", If_None_Match="*")
    assert created.status == 201
    refused = put(call, "a", "2", If_None_Match="*")
    problem(refused, 412, "condition")
    assert refused.headers["etag"] == created.headers["etag"]
    assert put(call, "a", "3", If_None_Match=f'"{NEVER}"').status == 204
    problem(put(call, "a", "4", If_None_Match=f"W/{call('HEAD', '/v1/kv/a').headers['etag']}"), 412, "condition")
    assert call("GET", "/v1/kv/a").body == b"3"


@pytest.mark.parametrize("tag", [f'"{NEVER}"', "*", f'W/"{NEVER}"'])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_if_match_on_what_is_not_there_is_412_without_a_tag(call, method, tag):
    refused = call(method, "/v1/kv/a", b"1" if method == "PUT" else b"", JSON | {"If-Match": tag})
    problem(refused, 412, "condition")
    assert "etag" not in refused.headers
    assert call("GET", "/v1/kv/a").status == 404


def test_weak_tag_never_matches_a_write(call):
    etag = put(call, "a", "1").headers["etag"]
    for method in ("PUT", "DELETE"):
        refused = call(method, "/v1/kv/a", b"2" if method == "PUT" else b"", JSON | {"If-Match": f"W/{etag}"})
        problem(refused, 412, "condition")
        assert refused.headers["etag"] == etag
    assert call("GET", "/v1/kv/a").body == b"1"


def test_delete_if_match_deletes_the_version_that_is_named_and_no_other(call):
    old = put(call, "a", "1").headers["etag"]
    new = put(call, "a", "2").headers["etag"]
    problem(call("DELETE", "/v1/kv/a", headers={"If-Match": old}), 412, "condition")
    problem(call("DELETE", "/v1/kv/a", headers={"If-None-Match": "*"}), 412, "condition")
    assert call("GET", "/v1/kv/a").body == b"2"
    assert call("DELETE", "/v1/kv/a", headers={"If-Match": new}).status == 204
    problem(call("DELETE", "/v1/kv/a", headers={"If-Match": new}), 412, "condition")
    problem(call("DELETE", "/v1/kv/a", headers={"If-None-Match": "*"}), 404, "no-such-key")


def test_expired_value_counts_as_none(house):
    call = house.client
    etag = call("PUT", "/v1/kv/a?ttl=5", b"1", JSON).headers["etag"]
    house.wall.ahead += 5_001
    refused = put(call, "a", "2", If_Match=etag)
    problem(refused, 412, "condition")
    assert "etag" not in refused.headers
    assert put(call, "a", "2", If_None_Match="*").status == 201


# --- counters --------------------------------------------------------------------------------------------------------


def test_add_answers_the_sum_and_its_tag(call):
    for text, total in (("5", b"5"), ("-7", b"-2"), ("0", b"-2"), ("1", b"-1")):
        answer = call("POST", f"/v1/kv/n?add={text}")
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/json", total)
        assert answer.headers["etag"] == call("HEAD", "/v1/kv/n").headers["etag"]
    assert call("GET", "/v1/kv/n").body == b"-1"


@pytest.mark.parametrize("text", ["1.5", '"7"', "null", "-0.0", "1e2", "[1]", "{}", "true"])
def test_add_to_what_is_no_integer_is_refused_and_changes_nothing(call, text):
    etag = put(call, "n", text).headers["etag"]
    assert problem(call("POST", "/v1/kv/n?add=1"), 409, "wrong-type")["retryable"] is False
    found = call("GET", "/v1/kv/n")
    assert (found.body, found.headers["etag"]) == (text.encode(), etag)


def test_add_to_bytes_is_refused_and_changes_nothing(call):
    etag = call("PUT", "/v1/kv/n", b"7", {"Content-Type": "text/plain"}).headers["etag"]
    problem(call("POST", "/v1/kv/n?add=1"), 409, "wrong-type")
    assert call("HEAD", "/v1/kv/n").headers["etag"] == etag


@pytest.mark.parametrize(
    ("text", "delta"), [("9" * 18, "1"), ("-" + "9" * 18, "-1"), ("1" + "0" * 18, "1"), ("1" + "0" * 40, "-1")]
)
def test_add_beyond_18_digits_is_refused_and_changes_nothing(call, text, delta):
    put(call, "n", text)
    problem(call("POST", f"/v1/kv/n?add={delta}"), 409, "wrong-type")
    assert call("GET", "/v1/kv/n").body == text.encode()


@pytest.mark.parametrize("text", ["1.5", "%227%22", "null", "1" + "0" * 18, "", "%2B1", "-", "01", "1e2", "0x1", "%201", "١"])
def test_what_is_no_integer_of_18_digits_is_not_added(call, text):
    put(call, "n", "3")
    problem(call("POST", f"/v1/kv/n?add={text}".encode().decode("latin-1")), 422, "parameter-value")
    assert call("GET", "/v1/kv/n").body == b"3"


def test_add_keeps_an_expiry_unless_it_brings_another(house):
    call = house.client
    call("POST", "/v1/kv/n?add=1&ttl=10")
    house.wall.ahead += 4_000
    assert call("POST", "/v1/kv/n?add=1").body == b"2"
    assert 5 < float(call("HEAD", "/v1/kv/n").headers["expires-in"]) <= 6
    call("POST", "/v1/kv/n?add=1&ttl=100")
    assert 99 < float(call("HEAD", "/v1/kv/n").headers["expires-in"]) <= 100
    house.wall.ahead += 100_001
    assert call("POST", "/v1/kv/n?add=4").body == b"4"  # an expired value counts as none
    assert "expires-in" not in call("HEAD", "/v1/kv/n").headers


def test_touch_gives_another_expiry_and_keeps_value_and_type(house):
    call = house.client
    problem(call("POST", "/v1/kv/a?touch=5"), 404, "no-such-key")
    first = call("PUT", "/v1/kv/a", b"\0\1", {"Content-Type": "image/x; a=b"}).headers["etag"]
    for text, low, high in (("60", 59, 60), ("0.5", 0, 0.5), ("1e2", 99, 100)):
        touched = call("POST", f"/v1/kv/a?touch={text}")
        assert (touched.status, touched.body) == (204, b"")
        found = call("GET", "/v1/kv/a")
        assert (found.body, found.headers["content-type"]) == (b"\0\1", "image/x; a=b")
        assert low < float(found.headers["expires-in"]) <= high
        assert found.headers["etag"] == touched.headers["etag"] != first
    assert call("POST", "/v1/kv/a?touch=0").status == 204
    assert "expires-in" not in call("GET", "/v1/kv/a").headers
    call("POST", "/v1/kv/a?touch=5")
    house.wall.ahead += 5_001
    problem(call("POST", "/v1/kv/a?touch=5"), 404, "no-such-key")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "parameter"),
        ("add=1&touch=1", 400, "parameter"),
        ("touch=1&ttl=1", 400, "parameter"),
        ("add=1&add=1", 400, "parameter"),
        ("subtract=1", 400, "parameter"),
        ("touch=-1", 422, "parameter-value"),
        ("touch=", 422, "parameter-value"),
        ("touch=3162240001", 422, "parameter-value"),
        ("add=1&ttl=0", 422, "parameter-value"),
    ],
)
def test_post_with_another_query_is_refused_and_changes_nothing(call, query, status, code):
    etag = put(call, "a", "1").headers["etag"]
    problem(call("POST", f"/v1/kv/a?{query}"), status, code)
    assert call("HEAD", "/v1/kv/a").headers["etag"] == etag


def test_post_with_a_body_or_a_condition_is_refused_and_changes_nothing(call):
    etag = put(call, "a", "1").headers["etag"]
    problem(call("POST", "/v1/kv/a?add=1", b"1"), 400, "syntax")
    problem(call("POST", "/v1/kv/a?add=1", headers={"If-Match": etag}), 501, "not-supported")
    assert call("HEAD", "/v1/kv/a").headers["etag"] == etag


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(house):
    """Give a key whose record is damaged, beside one that is whole."""
    put(house.client, "hurt", "1")
    put(house.client, "whole", "1")
    records_of = house.engine.records_of
    house.engine.records_of = lambda keys: [
        Damage.DAMAGED if key == "hurt" else record for key, record in zip(keys, records_of(keys), strict=True)
    ]
    return "hurt"


@pytest.mark.parametrize(
    ("method", "query", "headers"),
    [
        ("PUT", "", {"If-None-Match": "*"}),
        ("PUT", "", {"If-Match": "*"}),
        ("DELETE", "", {"If-Match": f'"{NEVER}"'}),
        ("POST", "?add=1", {}),
        ("POST", "?touch=1", {}),
    ],
)
def test_write_that_depends_on_a_damaged_record_is_500_as_a_read_of_it(call, damaged, method, query, headers):
    answer = call(method, f"/v1/kv/{damaged}{query}", b"2" if method == "PUT" else b"", JSON | headers)
    problem(answer, 500, "damaged")
    assert "retry-after" not in answer.headers
    problem(call("GET", f"/v1/kv/{damaged}"), 500, "damaged")


def test_batch_on_conditions_fails_for_a_damaged_record_alone(call, damaged):
    items = [{"key": key, "value": 2, "ifVersion": "*"} for key in (damaged, "whole", "gone")]
    answer = set_items(call, *items)
    assert answer.status == 503
    assert answer.json()["failedKey"] == [
        {"key": damaged, "code": "damaged", "retryable": False},
        {"key": "gone", "code": "condition", "retryable": False, "version": None},
    ]
    assert (answer.json()["set"], call("GET", "/v1/kv/whole").body) == (1, b"2")


def set_items(call, *items, **headers):
    return call("POST", "/set", json.dumps(items).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def test_set_decides_each_item_for_itself(call):
    put(call, "old", "0")
    there = version(call, "old")
    answer = set_items(
        call,
        {"key": "new", "value": 1, "ifVersion": None},
        {"key": "old", "value": 1, "ifVersion": None},
        {"key": "gone", "value": 1, "ifVersion": "*"},
        {"key": "free", "value": 1},
    )
    assert answer.status == 412
    body = answer.json()
    assert body["failedKey"] == [
        {"key": "old", "code": "condition", "retryable": False, "version": there},
        {"key": "gone", "code": "condition", "retryable": False, "version": None},
    ]
    assert (body["set"], body["nodes"], body["complete"]) == (2, 1, False)
    got = call("GET", "/get?key=new&key=old&key=gone&key=free").json()
    assert {item["key"]: item["value"] for item in got["existedKey"]} == {"new": 1, "old": 0, "free": 1}
    assert "retry-after" not in answer.headers


def test_set_whose_conditions_all_hold_answers_as_always(call):
    put(call, "a", "0")
    answer = set_items(
        call, {"key": "a", "value": 1, "ifVersion": version(call, "a")}, {"key": "b", "value": 1, "ifVersion": None}
    )
    assert (answer.status, answer.body) == (200, b"Success to set key")
    answer = set_items(call, {"key": "a", "value": 2, "ifVersion": "*"}, Accept="application/json")
    assert answer.json() == {"set": 1, "nodes": 1, "version": version(call, "a")}


def test_delete_on_conditions(call):
    put(call, "a", "0")
    put(call, "b", "0")
    items = [{"key": "a", "ifVersion": version(call, "a")}, {"key": "b", "ifVersion": NEVER}, {"key": "c", "ifVersion": None}]
    answer = call("POST", "/delete", json.dumps(items).encode())
    failed = [{"key": "b", "code": "condition", "retryable": False, "version": version(call, "b")}]
    assert (answer.status, answer.json()) == (412, {"deleted": 1, "failedKey": failed, "complete": False})


@pytest.mark.parametrize("path", ["/set", "/delete"])
def test_batch_with_a_key_that_stands_twice_and_has_a_condition_is_refused_whole(call, path):
    """One of the two would be dropped, and its condition with it."""
    value = {"value": 1} if path == "/set" else {}
    for first, second in (({"ifVersion": NEVER}, {}), ({}, {"ifVersion": None}), ({"ifVersion": "*"}, {"ifVersion": "*"})):
        items = [{"key": "b"} | value, {"key": "a"} | value | first, {"key": "a"} | value | second]
        found = problem(call("POST", path, json.dumps(items).encode()), 400, "invalid-item")
        assert [error["pointer"] for error in found["errors"]] == ["/2"]
    assert call("GET", "/v1/kv/b").status == 404


@pytest.mark.parametrize("path", ["/set", "/delete"])
def test_headers_with_conditions_are_refused_on_a_batch(call, path):
    for name in ("If-Match", "If-None-Match"):
        problem(call("POST", path, b"[]", {name: "*"}), 501, "not-supported")


def test_what_get_shows_with_meta_can_be_put_back(call):
    call("PUT", "/v1/kv/blob?ttl=100", b"\0\xff", {"Content-Type": "image/x"})
    put(call, "text", '"x"')
    query = "/get?key=blob&key=text&key=gone"
    shown = call("GET", f"{query}&meta=1").json()
    assert call("POST", "/get?meta=1", b'[{"key":"blob"},{"key":"text"},{"key":"gone"}]').json().keys() == shown.keys()
    blob, text = shown["existedKey"]
    assert 99 < blob.pop("ttl") <= 100
    assert blob == {"key": "blob", "value": "AP8=", "encoding": "base64", "type": "image/x", "version": version(call, "blob")}
    assert text == {"key": "text", "value": "x", "version": version(call, "text")}
    assert shown["notExistedKey"] == [{"key": "gone", "value": ""}]
    call("POST", "/delete", b'[{"key":"blob"},{"key":"text"}]')
    back = [{name: value for name, value in item.items() if name != "version"} for item in shown["existedKey"]]
    assert set_items(call, *back).status == 200
    found = call("GET", "/v1/kv/blob")
    assert (found.body, found.headers["content-type"]) == (b"\0\xff", "image/x")
    assert call("GET", "/v1/kv/text").body == b'"x"'


def test_what_get_shows_without_meta_can_be_put_back_as_bytes(call):
    call("PUT", "/v1/kv/blob", b"\0\xff", {"Content-Type": "image/x"})
    [item] = call("GET", "/get?key=blob").json()["existedKey"]
    assert set_items(call, item | {"key": "copy"}).status == 200
    found = call("GET", "/v1/kv/copy")
    assert (found.body, found.headers["content-type"]) == (b"\0\xff", "application/octet-stream")


def test_get_takes_a_body_like_post(call):
    put(call, "a", "1")
    body = b'[{"key":"a"},{"key":"b"}]'
    assert call("GET", "/get", body).body == call("POST", "/get", body).body
    assert call("GET", "/get?meta=1", body).json()["existedKey"][0]["version"] == version(call, "a")
    problem(call("GET", "/get?key=a", body), 400, "parameter")
    problem(call("GET", "/get"), 400, "parameter")
    problem(call("GET", "/get", b"[1]"), 400, "invalid-item")


@pytest.mark.parametrize("target", ["/get?key=a&meta=2", "/get?key=a&meta=", "/v1/kv?meta=yes"])
def test_meta_is_0_or_1(call, target):
    problem(call("GET", target), 422, "parameter-value")


def test_get_with_meta_of_many_keys(call):
    keys = [f"k{i}" for i in range(1_000)]
    set_items(call, *({"key": key, "value": key} for key in keys[::2]))
    got = call("POST", "/get?meta=1", json.dumps([{"key": key} for key in keys]).encode()).json()
    assert [item["key"] for item in got["existedKey"]] == keys[::2]
    assert {item["version"] for item in got["existedKey"]} == {version(call, "k0")}
    assert [item["key"] for item in got["notExistedKey"]] == keys[1::2]


def test_listing_with_meta(call):
    put(call, "a/1", "1")
    plain = call("GET", "/v1/kv?prefix=a/&meta=1").json()
    assert plain == {"keys": ["a/1"], "versions": [version(call, "a/1")], "complete": True}
    call("PUT", "/v1/kv/a/2?ttl=50", b"x", {"Content-Type": "text/x"})
    page = call("GET", "/v1/kv?prefix=a/&meta=1&values=1").json()
    [nothing, left] = page.pop("ttls")
    assert nothing is None
    assert 49 < left <= 50
    assert page == {
        "keys": ["a/1", "a/2"],
        "versions": [version(call, "a/1"), version(call, "a/2")],
        "types": [None, "text/x"],
        "values": [1, "eA=="],
        "encodings": [None, "base64"],
        "complete": True,
    }
    problem(call("GET", "/v1/kv?meta=1&limit=10001"), 422, "parameter-value")


WEAK = f'W/"{NEVER}"'


def test_condition_that_does_not_hold_is_told_why(call):
    """In title and detail, which a write ends with the word that nothing has changed."""
    etag = put(call, "there", "1").headers["etag"]
    cases = [
        ("PUT", "gone", {"If-Match": "*"}, "There is no value"),
        ("DELETE", "gone", {"If-Match": etag}, "There is no value"),
        ("PUT", "there", {"If-None-Match": "*"}, "There is a value"),
        ("PUT", "there", {"If-Match": etag, "If-None-Match": "*"}, "There is a value"),
        ("DELETE", "there", {"If-Match": f"W/{etag}"}, "Weak tags never match in If-Match"),
        ("DELETE", "there", {"If-Match": WEAK}, "What is there is another version"),
        ("PUT", "there", {"If-Match": f'"{NEVER}"'}, "What is there is another version"),
        ("PUT", "there", {"If-None-Match": f'"{NEVER}", {etag}'}, "One of the versions that If-None-Match names is there"),
        ("GET", "there", {"If-Match": f'"{NEVER}"'}, "What is there is another version"),
        ("GET", "there", {"If-Match": f"W/{etag}"}, "Weak tags never match in If-Match"),
    ]
    for method, key, headers, title in cases:
        found = problem(call(method, f"/v1/kv/{key}", b"2" if method == "PUT" else b"", headers), 412, "condition")
        assert found["title"] == title
        assert ("nothing has changed" in found["detail"]) == (method != "GET")
        assert found["detail"].lower().startswith(title.lower())
    assert call("GET", "/v1/kv/there").body == b"1"


@pytest.mark.parametrize("delta", ["%2B1", "+1", "01", "-01", "1.0", ""])
def test_what_can_be_added_is_said_with_a_delta_that_cannot(call, delta):
    found = problem(call("POST", f"/v1/kv/n?add={delta}"), 422, "parameter-value")
    assert "without + or leading zeros" in found["detail"]
    assert call("POST", "/v1/kv/n?add=-7").body == b"-7"


@pytest.mark.parametrize("query", ["touch=9", "add=1"])
def test_answer_of_a_node_without_what_it_did_leaves_the_write_open(house, call, monkeypatch, query):
    """It does not say that there is no value, nor that all is done."""
    put(call, "n", "1")

    def submit(asked):
        asked.sent = True
        asked.finish(Outcome.ANSWERED, Effects.of([Effect.REPLACED]).write())

    monkeypatch.setattr(house.service, "submit", submit)
    problem(call("POST", f"/v1/kv/n?{query}"), 503, "indeterminate")


def test_key_that_nobody_answers_for_says_of_a_write_alone_that_nothing_has_changed(house, call, monkeypatch):
    def submit(asked):
        asked.sent = True
        asked.finish(Outcome.ANSWERED, Refused(NodeRefusal.NOT_ACTING).write())

    monkeypatch.setattr(house.service, "submit", submit)
    for method, query in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "?add=1"), ("POST", "?touch=1")):
        found = problem(call(method, f"/v1/kv/n{query}", b"1" if method == "PUT" else b""), 503, "no-primary")
        assert ("nothing has changed" in found["detail"]) == (method != "GET")
