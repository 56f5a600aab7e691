"""Versions, expiry and deletes as a client sees them; time goes on when the test says so."""

import json
import re
from time import monotonic

import gevent

from gkv.engine import MemoryEngine
from gkv.errors import EngineFull
from gkv.model import Version, Write, era_of
from gkv.node.sweeper import Sweeper
from gkv.ring import tokens

JSON = {"Accept": "application/json"}
CLUSTER = "0123456789abcdef" * 2
TTL = 86_400_000


def put(house, *items):
    answer = house.client("POST", "/set", json.dumps(items).encode(), JSON)
    assert answer.status == 200, answer
    return answer.json()


def get(house, *keys):
    """Return the values of those keys that exist."""
    answer = house.client("POST", "/get", json.dumps([{"key": key} for key in keys]).encode())
    assert answer.status == 200, answer
    return {row["key"]: row["value"] for row in answer.json()["existedKey"]}


def delete(house, *keys):
    answer = house.client("POST", "/delete", json.dumps([{"key": key} for key in keys]).encode())
    assert answer.status == 200, answer
    return answer.json()["deleted"]


# -- expiry


def test_value_with_a_ttl_is_there_before_and_missing_from_its_last_millisecond_on(house):
    put(house, {"key": "a", "value": 1, "ttl": 60}, {"key": "b", "value": 2}, {"key": "c", "value": 3, "ttl": 90})
    until = house.engine.records_of(["a"])[0].expires
    assert get(house, "a", "b", "c") == {"a": 1, "b": 2, "c": 3}
    house.wall.ahead = 50_000
    assert get(house, "a", "b", "c") == {"a": 1, "b": 2, "c": 3}
    house.wall.ahead += until - house.wall()
    assert get(house, "a", "b", "c") == {"b": 2, "c": 3}
    answer = house.client("POST", "/get", b'[{"key":"a"}]')
    assert answer.body == b'{"existedKey":[],"notExistedKey":[{"key":"a","value":""}]}'
    house.wall.ahead += 30_000
    assert get(house, "a", "b", "c") == {"b": 2}


def test_value_with_a_ttl_of_a_few_milliseconds_goes_by_itself(house):
    put(house, {"key": "a", "value": 1, "ttl": 0.02})
    until = monotonic() + 5
    while get(house, "a"):
        assert monotonic() < until, "it stays"
        gevent.sleep(0.002)


def test_value_with_a_ttl_is_not_gone_early(house):
    """Neither is it when the ttl is a fraction of a millisecond: the end is rounded up."""
    for ttl, lasts in ((0.5, 500), (0.0001, 1), (0.0011, 2)):
        before = house.wall()
        put(house, {"key": "a", "value": 1, "ttl": ttl})
        after = house.wall()
        [record] = house.engine.records_of(["a"])
        assert before + lasts <= record.expires <= after + lasts


def test_expired_value_does_not_count_as_deleted_and_can_be_set_again(house):
    put(house, {"key": "a", "value": 1, "ttl": 60}, {"key": "b", "value": 1})
    house.wall.ahead = 61_000
    assert delete(house, "a", "b") == 1
    put(house, {"key": "a", "value": 2})
    house.wall.ahead = 1_000_000
    assert get(house, "a", "b") == {"a": 2}


def test_set_without_a_ttl_takes_an_earlier_one_away_and_with_one_puts_it_there(house):
    put(house, {"key": "a", "value": 1, "ttl": 60}, {"key": "b", "value": 1})
    put(house, {"key": "a", "value": 2}, {"key": "b", "value": 2, "ttl": 60})
    house.wall.ahead = 61_000
    assert get(house, "a", "b") == {"a": 2}


def test_same_key_twice_in_a_batch_has_the_last_items_ttl(house):
    put(house, {"key": "a", "value": 1, "ttl": 60}, {"key": "a", "value": 2})
    put(house, {"key": "b", "value": 1}, {"key": "b", "value": 2, "ttl": 60})
    assert get(house, "a", "b") == {"a": 2, "b": 2}
    house.wall.ahead = 61_000
    assert get(house, "a", "b") == {"a": 2}


def test_longest_ttl_is_a_century(house):
    put(house, {"key": "a", "value": 1, "ttl": 100 * 366 * 86_400})
    house.wall.ahead = 99 * 365 * 86_400_000
    assert get(house, "a") == {"a": 1}


def test_info_counts_an_expired_value_as_a_tombstone_once_it_was_swept(house):
    put(house, {"key": "a", "value": 1, "ttl": 60}, {"key": "b", "value": 1})
    sweeper = Sweeper("n1", house.view, house.engine, house.order)
    assert sweeper.sweep() == 0
    house.wall.ahead = 61_000
    assert (sweeper.sweep(), sweeper.sweep()) == (1, 0)
    engine = house.client("GET", "/v1/info").json()["engine"]
    assert (engine["keys"], engine["tombstones"], engine["bytes"]) == (1, 1, 2)


# -- versions


def test_version_is_greater_with_every_set(house):
    versions = [put(house, {"key": f"k{i % 3}", "value": i})["version"] for i in range(50)]
    assert all(re.fullmatch("[0-9a-f]{32}", version) for version in versions)
    assert versions == sorted(set(versions))


def test_version_is_that_of_the_records(house):
    found = put(house, {"key": "a", "value": 1}, {"key": "b", "value": 2})
    assert {str(record.version) for record in house.engine.records_of(["a", "b"])} == {found["version"]}
    assert Version.parse(found["version"]).era == era_of(1, 7)


def test_version_given_by_a_client_is_an_unknown_member(house):
    body = b'[{"key":"a","value":1,"version":"%b"}]' % (b"f" * 32)
    assert house.client("POST", "/set", body).status == 400
    assert house.engine.live == 0


# -- a disk that is full


class Full(MemoryEngine):
    """Takes tombstones alone, as an engine does whose disk is full."""

    def write(self, writes, now, syncing=lambda: None):
        if any(value is not None for write in writes for value in write.values):
            raise EngineFull("no room in /var/lib/gkv")
        return super().write(writes, now, syncing)


def test_set_on_a_full_disk_is_answered_507_with_its_keys_and_deletes_go_on(build_node, document):
    engine = Full(tokens)
    house = build_node(engine=engine)
    house.service.adopt(document)
    MemoryEngine.write(engine, [Write(house.versions.next(0), ["a"], [b"1"])], house.wall())
    answer = house.client("POST", "/set", b'[{"key":"a","value":2},{"key":"b","value":2}]')
    assert answer.status == 507
    assert "retry-after" not in answer.headers
    assert answer.body == (
        b'{"set":0,"nodes":0,"version":null,"failedKey":[{"key":"a","code":"disk-full","retryable":true},'
        b'{"key":"b","code":"disk-full","retryable":true}],"complete":false}'
    )
    assert get(house, "a", "b") == {"a": 1}
    assert delete(house, "a") == 1


def test_set_with_a_full_disk_and_a_dead_owner_is_answered_503(build_cluster):
    full, dead = build_cluster(2)

    def refuse(_writes, _now, _syncing=None):
        raise EngineFull("no room in /var/lib/gkv")

    full.engine.write = refuse
    del full.channels.services["http://127.0.0.1:9001"]
    answer = full.client("POST", "/set", json.dumps([{"key": f"k{i}", "value": i} for i in range(20)]).encode())
    assert answer.status == 503
    assert {row["code"] for row in answer.json()["failedKey"]} == {"disk-full", "not-applied"}
    assert dead.engine.live == 0
