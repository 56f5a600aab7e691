"""Versions, expiry and deletes as a client sees them; time goes on when the test says so."""

import json
import re
from time import monotonic

import gevent
import pytest

from gkv.engine import LmdbEngine, MemoryEngine
from gkv.errors import EngineFull
from gkv.model import NodeRefusal, Op, Version, Write
from gkv.ring import tokens
from gkv.wire.ops import Delete, Effects, Get, Refused, Set, Values, key_request
from tests.frames import answer_to

JSON = {"Accept": "application/json"}
CLUSTER = "0123456789abcdef" * 2
TTL = 86_400_000


@pytest.fixture(params=["memory", "lmdb"])
def house(request, build_node, document, tmp_path):
    """Return a node that is the only member of its cluster, with either engine."""
    engine = MemoryEngine(tokens) if request.param == "memory" else LmdbEngine(tmp_path / "n1", "n1", tokens)
    house = build_node(engine=engine)
    assert house.service.adopt(document)
    return house


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


def send(house, request):
    """Return the reply to one frame."""
    [frame] = house.service.answer([request.write()])
    return answer_to(request, frame)


def other(house):
    """Return a version of this moment, by another coordinator."""
    return Version(house.clock.now().stamp, 7)


# -- expiry


def test_value_with_a_ttl_is_there_before_and_missing_from_its_last_millisecond_on(house):
    found = put(house, {"key": "a", "value": 1, "ttl": 60}, {"key": "b", "value": 2}, {"key": "c", "value": 3, "ttl": 90})
    until = Version.parse(found["version"]).millis + 60_000
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
    house.wall.ahead = -house.wall() + 1_800_000_000_000
    for ttl, lasts in ((0.5, 500), (0.0001, 1), (0.0011, 2)):
        found = put(house, {"key": "a", "value": 1, "ttl": ttl})
        [record] = house.engine.records_of(["a"], 0)
        assert record.expires == Version.parse(found["version"]).millis + lasts


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


def test_info_counts_an_expired_value_as_a_tombstone_once_it_is_reclaimed(house):
    put(house, {"key": "a", "value": 1, "ttl": 60}, {"key": "b", "value": 1})
    house.wall.ahead = 61_000
    house.engine.reclaim(house.wall(), TTL, 10)
    engine = house.client("GET", "/v1/info").json()["engine"]
    assert (engine["keys"], engine["tombstones"], engine["bytes"]) == (1, 1, 2)


# -- versions


def test_version_is_greater_with_every_set(house):
    versions = [put(house, {"key": f"k{i % 3}", "value": i})["version"] for i in range(50)]
    assert all(re.fullmatch("[0-9a-f]{32}", version) for version in versions)
    assert versions == sorted(set(versions))


def test_version_is_that_of_the_records(house):
    found = put(house, {"key": "a", "value": 1}, {"key": "b", "value": 2})
    assert {str(record.version) for record in house.engine.records_of(["a", "b"], 0)} == {found["version"]}
    assert abs(Version.parse(found["version"]).millis - house.wall()) < 5_000


def test_version_given_by_a_client_is_an_unknown_member(house):
    body = b'[{"key":"a","value":1,"version":"%b"}]' % (b"f" * 32)
    assert house.client("POST", "/set", body).status == 400
    assert house.engine.live == 0


def test_version_goes_on_after_what_another_coordinator_wrote(house):
    ahead = Version((house.wall() + 400) << 16, 7)
    assert send(house, Set(CLUSTER, 7, ["a"], ahead, [b"1"])) == Effects("c")
    assert Version.parse(put(house, {"key": "a", "value": 2})["version"]) > ahead
    assert get(house, "a") == {"a": 2}


# -- deletes


@pytest.mark.promise("I3")
def test_deleted_key_does_not_come_back_with_an_older_write(house):
    put(house, {"key": "a", "value": "first"})
    older = other(house)
    assert delete(house, "a") == 1
    for effects in ("uc", "uu"):  # as a retry would
        reply = send(house, Set(CLUSTER, 7, ["a", "b"], older, [b'"late"', b'"late"']))
        assert reply.letters == effects
        assert reply.beaten > older.stamp
    assert get(house, "a", "b") == {"b": "late"}
    put(house, {"key": "a", "value": "again"})
    assert get(house, "a") == {"a": "again"}


@pytest.mark.promise("I3")
def test_expired_key_does_not_come_back_with_an_older_write(house):
    older = other(house)
    put(house, {"key": "a", "value": "first", "ttl": 60})
    house.wall.ahead = 61_000
    assert send(house, Set(CLUSTER, 7, ["a"], older, [b'"late"'])).beaten > older.stamp
    assert get(house, "a") == {}


def test_older_delete_deletes_nothing(house):
    older = other(house)
    put(house, {"key": "a", "value": 1})
    reply = send(house, Delete(CLUSTER, 7, ["a"], older))
    assert (reply.letters, reply.beaten > older.stamp) == ("u", True)
    assert get(house, "a") == {"a": 1}


def test_older_write_of_the_same_coordinator_changes_nothing_and_is_not_beaten(house):
    """Its version was given before the one that stands, so the two were under way together: there is nothing to catch up."""
    older = house.clock.now()
    put(house, {"key": "a", "value": 1})
    assert send(house, Set(CLUSTER, 7, ["a", "b"], older, [b"0", b"0"])) == Effects("uc")
    assert get(house, "a", "b") == {"a": 1, "b": 0}


def test_write_repeated_with_its_version_changes_nothing_and_is_granted(house):
    version = house.clock.now()
    for effect in "cuu":
        assert send(house, Set(CLUSTER, 7, ["a"], version, [b"1"])) == Effects(effect)
    assert send(house, Get(CLUSTER, 7, ["a"])) == Values([b"1"])


def test_delete_of_what_was_never_there_leaves_a_tombstone_that_an_older_write_meets(house):
    older = other(house)
    assert delete(house, "a") == 0
    assert send(house, Set(CLUSTER, 7, ["a"], older, [b"1"])).beaten > older.stamp
    assert get(house, "a") == {}


@pytest.mark.parametrize("op", ["set", "delete"])
def test_frame_with_a_version_from_the_future_is_refused_and_moves_no_clock(house, op):
    values = [b"1"] if op == "set" else []
    house.wall.ahead = 1_800_000_000_000 - house.wall()
    far = Version((house.wall() + 60_000) << 16, 7)
    assert send(house, key_request(Op(op)).of_part(CLUSTER, 7, ["a"], far, values, ())) == Refused(NodeRefusal.AHEAD)
    assert (house.engine.live, house.engine.tombstones) == (0, 0)
    assert house.clock.now() < far


@pytest.mark.parametrize("op", ["set", "delete"])
def test_frame_with_a_version_older_than_half_of_what_tombstones_live_is_refused(house, op):
    values = [b"1"] if op == "set" else []
    for age, refused in ((TTL // 2 + 60_000, True), (TTL // 2 - 60_000, False)):
        old = Version((house.wall() - age) << 16, 7)
        reply = send(house, key_request(Op(op)).of_part(CLUSTER, 7, ["a"], old, values, ()))
        assert (reply == Refused(NodeRefusal.TOO_OLD)) == refused
        assert (house.engine.live + house.engine.tombstones == 0) == refused


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
    MemoryEngine.write(engine, [Write(house.clock.now(), ["a"], [b"1"])], house.wall())
    answer = house.client("POST", "/set", b'[{"key":"a","value":2},{"key":"b","value":2}]')
    assert answer.status == 507
    assert "retry-after" not in answer.headers
    version = answer.json()["version"].encode()
    assert answer.body == (
        b'{"set":0,"nodes":0,"version":"%b","failedKey":[{"key":"a","code":"disk-full","retryable":true},'
        b'{"key":"b","code":"disk-full","retryable":true}],"complete":false}' % version
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
