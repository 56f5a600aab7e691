"""The cache of read values: its bound, and that nobody is given an older value than one who knows of a write may expect."""

import threading
import time

import gevent
import pytest

from gkv import ring
from gkv.engine import Commits, Due, LmdbEngine
from gkv.engine.cache import Cache
from gkv.errors import EngineFull
from gkv.model import Version, Write

ENTRY = 250 + 1 + 10
NOW = 1_000_000


def test_cache_gives_what_was_put_and_none_for_the_rest():
    cache = Cache(10_000)
    cache.put([("a", b"1"), ("b", b"2")])
    assert cache.get(["b", "x", "a", "b"]) == [b"2", None, b"1", b"2"]
    assert cache.check() == []


def test_cache_keeps_no_barred_key_until_the_bar_is_lifted():
    cache = Cache(10_000)
    cache.put([("a", b"1"), ("b", b"2")])
    cache.bar(["a", "x", "a"])
    cache.put([("a", b"old"), ("x", b"old"), ("c", b"3")])
    assert cache.get(["a", "b", "c", "x"]) == [None, b"2", b"3", None]
    assert cache.check() == []
    cache.lift_bar()
    cache.put([("a", b"new")])
    assert cache.get(["a", "x"]) == [b"new", None]
    assert cache.check() == []


def test_cache_keeps_what_it_has_until_it_is_barred():
    cache = Cache(10_000)
    cache.put([("a", b"1")])
    cache.put([("a", b"22")])
    assert cache.get(["a"]) == [b"1"]
    assert cache.check() == []


@pytest.mark.promise("I7")
def test_cache_over_its_bound_lets_go_of_the_oldest():
    cache = Cache(3 * ENTRY)
    cache.put((key, b"x" * 10) for key in "abc")
    assert None not in cache.get(list("abc"))
    cache.put([("d", b"x" * 10)])
    assert cache.get(list("abcd")) == [None, *[b"x" * 10] * 3]
    cache.put([("e", b"x" * 1_000)])  # larger than all of it
    assert cache.get(list("abcde")) == [None] * 5
    assert cache.check() == []


def test_cache_without_room_keeps_nothing():
    cache = Cache(0)
    cache.put([("a", b"1")])
    assert cache.get(["a"]) == [None]


@pytest.fixture
def engine(tmp_path):
    """Return an engine with a cache, as a node has it."""
    engine = LmdbEngine(tmp_path / "data", "n1", ring.tokens, cache=1 << 20)
    yield engine
    assert engine.check() == []
    engine.close()


@pytest.fixture
def commits(engine):
    commits = Commits(engine, tombstone_ttl=60_000, now=lambda: NOW)
    yield commits
    commits.close()


def write(commits, stamp, key, value, expires=0):
    return commits.submit(Write(Version(stamp, 1), [key], [value], [expires] if expires else ()))


def deadline():
    return time.monotonic() + 10


def test_read_of_what_was_read_does_not_go_to_the_disk(engine, commits, monkeypatch):
    write(commits, 1, "a", b"1").wait(deadline())
    assert engine.read(["a"], NOW) == [b"1"]
    with monkeypatch.context() as patch:
        patch.delattr(LmdbEngine, "_stored")
        assert engine.read(["a", "a"], NOW) == [b"1", b"1"]


def test_read_after_an_acknowledged_write_is_never_older(engine, commits):
    for stamp in range(1, 40):
        pending = write(commits, stamp, "a", b"%d" % stamp)
        before = engine.read(["a"], NOW)  # puts what was there into the cache, after the write was admitted
        assert before in ([b"%d" % (stamp - 1)], [None])
        pending.wait(deadline())
        assert engine.read(["a"], NOW) == [b"%d" % stamp]
        assert engine.read(["a"], NOW) == [b"%d" % stamp]


READS = {
    "values": lambda engine: engine.read(["k"], NOW)[0],
    "values, many": lambda engine: engine.read(["x", "k", "y"], NOW)[1],
    "record": lambda engine: engine.records_of(["k"])[0].value,
    "listing and values": lambda engine: next(iter(engine.read([key for key, _ in engine.keys("k", "", 1)], NOW)), None),
    "arc": lambda engine: next((found.value for key, found in engine.arc(0, (1 << 64) - 1, None, 9) if key == "k"), None),
}


class Held(LmdbEngine):
    """An engine whose writer thread stops before or after the commit until the test lets it go on."""

    stop = ""

    def write(self, writes, now, syncing=lambda: None):
        def before():
            syncing()
            self.hold("before")

        applied = super().write(writes, now, before)
        self.hold("after")
        return applied

    def hold(self, where):
        if self.stop == where:
            self.held.set()
            assert self.goes_on.wait(10)


@pytest.fixture
def held_engine(tmp_path):
    """Return an engine that stops at its commits."""
    engine = Held(tmp_path / "held", "n1", ring.tokens, cache=1 << 20)
    engine.held, engine.goes_on = threading.Event(), threading.Event()
    yield engine
    assert engine.check() == []
    engine.close()


@pytest.mark.promise("I11")
@pytest.mark.parametrize("outcome", ["set", "deleted"])
@pytest.mark.parametrize("stop", ["before", "after"])
@pytest.mark.parametrize(("first", "second"), [(one, other) for one in READS for other in READS])
def test_reads_in_any_two_ways_see_one_order_while_a_write_is_under_way(held_engine, first, second, stop, outcome):
    engine, new = held_engine, b"2" if outcome == "set" else None
    commits = Commits(engine, tombstone_ttl=1 << 50, now=lambda: NOW)
    try:
        write(commits, 1, "k", b"1").wait(deadline())
        assert engine.read(["k"], NOW) == [b"1"]  # it is in the cache
        engine.stop = stop
        pending = write(commits, 2, "k", new)
        while not engine.held.is_set():
            assert time.monotonic() < deadline()
            gevent.sleep(0.001)
        seen = [READS[way](engine) for way in (first, second, first, "values")]
        assert seen == [new if stop == "after" else b"1"] * 4
        engine.goes_on.set()
        pending.wait(deadline())
        assert [READS[way](engine) for way in (second, first)] == [new, new]
    finally:
        engine.goes_on.set()
        commits.close()


def test_write_that_fails_leaves_its_keys_free_for_the_cache(engine, monkeypatch):
    commits = Commits(engine, tombstone_ttl=1 << 50, now=lambda: NOW)
    try:
        write(commits, 1, "k", b"1").wait(deadline())
        with monkeypatch.context() as patch:
            patch.setattr(engine, "write", lambda *_: (_ for _ in ()).throw(EngineFull("full")))
            with pytest.raises(EngineFull):
                write(commits, 2, "k", b"2").wait(deadline())
        assert engine.read(["k"], NOW) == [b"1"]
        with monkeypatch.context() as patch:
            patch.delattr(LmdbEngine, "_stored")
            assert engine.read(["k"], NOW) == [b"1"]
    finally:
        commits.close()


def test_read_after_a_delete_finds_nothing(engine, commits):
    write(commits, 1, "a", b"1").wait(deadline())
    assert engine.read(["a"], NOW) == [b"1"]
    write(commits, 2, "a", None).wait(deadline())
    assert engine.read(["a"], NOW) == [None]


def test_value_that_expires_is_not_kept(engine, commits):
    write(commits, 1, "a", b"1", NOW + 5).wait(deadline())
    assert engine.read(["a"], NOW) == [b"1"]
    with pytest.raises(Due):
        engine.read(["a"], NOW + 5)


def test_some_from_the_cache_and_some_from_the_disk_come_in_order(engine, commits):
    for stamp, key in enumerate("abcd", 1):
        write(commits, stamp, key, key.encode()).wait(deadline())
    assert engine.read(["b", "d"], NOW) == [b"b", b"d"]
    assert engine.read(["a", "b", "x", "c", "d", "a"], NOW) == [b"a", b"b", None, b"c", b"d", b"a"]
