"""Batches: how they are split, what is asked for again, and what is said of each key."""

from typing import Any

import pytest

from gkv.client import (
    BatchFailed,
    BatchIndeterminate,
    Blob,
    Client,
    ConditionFailed,
    Damaged,
    Indeterminate,
    InvalidRequest,
    Item,
    Put,
    TooLarge,
    Unavailable,
)
from gkv.client.errors import NOTHING_BEGUN
from gkv.client.splitting import MAX_BYTES, MAX_ITEMS
from gkv.coordinator.failures import READ_FAILURES
from gkv.wire.client import Limits
from tests.unit.client.scripted import Request, Scripted, answer, drop, failed

SET = answer(200, {"set": 1, "nodes": 1, "version": "v"})


def keys_of(request: Request) -> list[str]:
    return [item["key"] for item in request.json]


def found(**values: Any) -> dict[str, Any]:
    return {"existedKey": [{"key": key, "value": value} for key, value in values.items()]}


def test_batches_are_as_large_as_the_servers_take_them() -> None:
    assert Limits().max_items == MAX_ITEMS
    assert MAX_BYTES < 32 << 20
    with Scripted(*[SET] * 3) as server, Client(server.url) as client:
        assert client.set_many((f"k{i}", i) for i in range(2 * MAX_ITEMS + 1)) == 2 * MAX_ITEMS + 1
        assert [len(request.json) for request in server.requests] == [MAX_ITEMS, MAX_ITEMS, 1]


def test_large_batch_is_split_by_the_largest_body_that_the_server_tells_once() -> None:
    info = answer(200, {"limits": {"bodyBytes": 1 << 20}})
    with Scripted(info, *[SET] * 8) as server, Client(server.url) as client:
        for _ in range(2):
            client.set_many({f"k{i}": "x" * 400_000 for i in range(8)})
        sent = server.requests[1:]
        assert [request.target for request in server.requests] == ["/v1/info", *["/set"] * 8]
        assert all(len(request.body) <= 1 << 20 for request in sent)
        assert [len(request.json) for request in sent] == [2] * 8


def test_set_repeats_exactly_the_keys_of_which_nothing_was_written() -> None:
    first = failed(503, "not-applied", "b", "d", set=2, nodes=1, version="v")
    with Scripted(first, failed(503, "epoch", "d", set=1, nodes=1, version="v"), SET) as server, Client(server.url) as client:
        assert client.set_many(dict.fromkeys("abcd", 1)) == 4
        assert [keys_of(request) for request in server.requests] == [list("abcd"), list("bd"), ["d"]]


@pytest.mark.parametrize("code", sorted(NOTHING_BEGUN))
def test_delete_repeats_what_was_not_begun_and_adds_up_what_was_there(code: str) -> None:
    first, then = failed(503, code, "b", deleted=1), answer(200, {"deleted": 1})
    with Scripted(first, then) as server, Client(server.url) as client:
        assert client.delete_many("ab") == 2
        assert [keys_of(request) for request in server.requests] == [["a", "b"], ["b"]]


@pytest.mark.parametrize("code", ["indeterminate", "of-tomorrow", "unreachable"])
def test_key_that_was_perhaps_written_is_not_repeated_and_has_its_own_error(code: str) -> None:
    with Scripted(failed(503, code, "b", set=1, nodes=1, version="v"), SET) as server, Client(server.url) as client:
        with pytest.raises(Indeterminate) as raised:
            client.set_many({"a": 1, "b": 2})
        error = raised.value
        assert isinstance(error, BatchIndeterminate)
        assert (list(error.failed), error.taken, error.done) == (["b"], 2, 1)
        assert type(error.failed["b"]) is Indeterminate
        assert len(server.requests) == 1


def test_batch_that_breaks_off_leaves_all_its_keys_unknown_and_later_ones_not_begun() -> None:
    with Scripted(SET, drop, SET) as server, Client(server.url) as client:
        with pytest.raises(BatchIndeterminate) as raised:
            client.set_many((f"k{i}", i) for i in range(3 * MAX_ITEMS))
        error = raised.value
        assert (len(error.failed), error.taken, error.done) == (MAX_ITEMS, 2 * MAX_ITEMS, MAX_ITEMS)
        assert next(iter(error.failed)) == f"k{MAX_ITEMS}"
        assert len(server.requests) == 2


def test_conditions_that_fail_do_not_keep_later_batches_from_being_written() -> None:
    rows = [{"key": "k1", "code": "condition", "retryable": False, "version": "v9"}]
    refused = answer(412, {"set": MAX_ITEMS - 1, "nodes": 1, "version": "v", "failedKey": rows, "complete": False})
    with Scripted(refused, SET) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed) as raised:
            client.set_many(Put(f"k{i}", i, if_absent=True) for i in range(MAX_ITEMS + 1))
        error = raised.value
        assert not isinstance(error, Indeterminate)
        assert (list(error.failed), error.taken, error.done) == (["k1"], MAX_ITEMS + 1, MAX_ITEMS)
        why = error.failed["k1"]
        assert isinstance(why, ConditionFailed)
        assert why.version == "v9"
        assert server.requests[0].json[0] == {"key": "k0", "value": 0, "ifVersion": None}


def test_batch_with_an_invalid_item_says_so_of_all_its_keys() -> None:
    with Scripted(answer(400, problem="invalid-item")) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed) as raised:
            client.set_many({"a": 1, "b": 2})
        assert {type(why) for why in raised.value.failed.values()} == {InvalidRequest}
        assert list(raised.value.failed) == ["a", "b"]


@pytest.mark.promise("I2")
@pytest.mark.parametrize("code", sorted(failure.code for failure in READ_FAILURES if failure.retryable))
def test_get_asks_again_for_keys_without_an_answer(code: str) -> None:
    first = failed(200, code, "b", **found(a=1), notExistedKey=[{"key": "c", "value": ""}])
    with Scripted(first, answer(200, found(b=2))) as server, Client(server.url) as client:
        assert client.get_many("abc") == {"a": 1, "b": 2}
        assert [keys_of(request) for request in server.requests] == [list("abc"), ["b"]]


@pytest.mark.promise("I2")
def test_get_of_a_key_without_an_answer_is_an_error_that_has_the_others() -> None:
    first = failed(200, "no-primary", "b", **found(a=1), notExistedKey=[{"key": "c", "value": ""}])
    with Scripted(first, *[failed(503, "no-primary", "b", existedKey=[])] * 9) as server:
        with pytest.raises(BatchFailed) as raised:
            Client(server.url, timeout=0.3).get_many("abc")
        assert raised.value.found == {"a": 1}
        assert isinstance(raised.value.failed["b"], Unavailable)


def test_get_asks_the_next_endpoint_for_keys_without_an_answer() -> None:
    first, then = failed(200, "unreachable", "b", **found(a=1)), answer(200, found(b=2))
    with Scripted(first) as one, Scripted(then) as other, Client(one.url, other.url) as client:
        assert client.get_many("ab") == {"a": 1, "b": 2}


@pytest.mark.promise("I2")
def test_get_of_bytes_asks_for_their_types_whatever_becomes_of_other_keys() -> None:
    row = {"key": "a", "value": "aGk=", "encoding": "base64"}
    rows = [{"key": "b", "code": "no-primary", "retryable": True}]
    incomplete = answer(503, {"existedKey": [row], "failedKey": rows, "complete": False}, Retry_After="60")
    typed = answer(200, {"existedKey": [row | {"type": "text/plain", "version": "v"}]})
    with Scripted(incomplete, typed) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed) as raised:
            client.get_many("ab")
        assert raised.value.found == {"a": Blob(b"hi", "text/plain")}
    with Scripted(incomplete, answer(403, problem="forbidden")) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed) as raised:
            client.get_many("ab")
        assert list(raised.value.failed) == ["b", "a"]
    blobs = [row | {"key": f"k{i}"} for i in range(MAX_ITEMS + 1)]
    untyped = [answer(200, {"existedKey": part}) for part in (blobs[:MAX_ITEMS], blobs[MAX_ITEMS:])]
    later = answer(503, problem="unavailable", Retry_After="60")
    with Scripted(*untyped, later) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed) as raised:
            client.get_many(blob["key"] for blob in blobs)
        assert len(raised.value.failed) == len(blobs)


def test_batch_whose_limits_cannot_be_asked_for_fails_and_no_later_one_is_begun() -> None:
    later = answer(503, problem="unavailable", Retry_After="60")
    with Scripted(later, *[SET] * 3) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed) as raised:
            client.set_many({f"k{i}": "x" * MAX_BYTES for i in range(3)})
        assert (list(raised.value.failed), raised.value.taken) == (["k0"], 1)
        assert [request.target for request in server.requests] == ["/v1/info"]


def test_get_of_a_damaged_key_is_not_asked_for_again() -> None:
    with Scripted(failed(200, "damaged", "b", retryable=False, **found(a=1))) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed) as raised:
            client.get_many("ab")
        assert isinstance(raised.value.failed["b"], Damaged)
        assert raised.value.found == {"a": 1}


def test_get_whose_answer_would_be_too_large_is_halved_until_it_fits() -> None:
    large = answer(413, problem="too-large")
    halves = large, answer(200, found(a=1, b=2)), large, answer(200, found(c=3)), large
    with Scripted(*halves) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed) as raised:
            client.get_many("abcd")
        assert [keys_of(request) for request in server.requests] == [list("abcd"), list("ab"), list("cd"), ["c"], ["d"]]
        assert raised.value.found == {"a": 1, "b": 2, "c": 3}
        assert isinstance(raised.value.failed["d"], TooLarge)


@pytest.mark.promise("I2")
def test_get_that_fails_while_it_is_halved_leaves_no_key_without_a_word() -> None:
    later = answer(503, problem="unavailable", Retry_After="60")
    with Scripted(answer(413, problem="too-large"), later) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed) as raised:
            client.get_many("abcd")
        assert set(raised.value.failed) == set("abcd")
        assert len(server.requests) == 2


def test_write_that_is_too_large_is_not_halved() -> None:
    with Scripted(answer(413, problem="too-large"), SET, SET) as server, Client(server.url) as client:
        with pytest.raises(BatchFailed):
            client.set_many({"a": 1, "b": 2})
        assert len(server.requests) == 1


def test_items_keep_their_seconds_when_they_are_set() -> None:
    with Scripted(SET) as server, Client(server.url) as client:
        client.set_many([Item("a", 1, "v", 5.5), Item("b", 2, "v")], ttl=9)
        assert server.requests[0].json == [{"key": "a", "value": 1, "ttl": 5.5}, {"key": "b", "value": 2, "ttl": 9}]


def test_lines_are_sent_as_they_are_and_failures_are_by_key() -> None:
    lines = [b'{"key":"a","value":1.10}\n', '{ "value": [ 1 ], "key": "b\\u00e9" }', b'{"key":"c","value":2}']
    with Scripted(failed(503, "indeterminate", "bé", set=2, nodes=1, version="v")) as server, Client(server.url) as client:
        with pytest.raises(BatchIndeterminate) as raised:
            client.set_lines(lines)
        assert list(raised.value.failed) == ["bé"]
        assert (
            server.requests[0].body == b'[{"key":"a","value":1.10},{ "value": [ 1 ], "key": "b\\u00e9" },{"key":"c","value":2}]'
        )
        for line in ("", "nonsense", "[]", '{"key":1}', '{"value":1}'):
            with pytest.raises(ValueError, match="no item with a key"):
                client.set_lines([line])
