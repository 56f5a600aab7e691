"""The records of a member as its machines look at them, against a model that has every change at once."""

import random
import threading
import time
from bisect import bisect_left
from dataclasses import replace

import gevent
import pytest

from gkv.cluster.placement import Placement
from gkv.engine import CELLS, Commits, LmdbEngine, MemoryEngine
from gkv.engine.engine import no_call
from gkv.errors import EngineFull
from gkv.model import Blob, Damage, Node, Record, Version, Write
from gkv.node.stored import Stored
from gkv.ring import token, tokens
from tests.documents import changing, document
from tests.eventually import eventually, soon

NODES = tuple(Node(f"n{i}", f"http://127.0.0.1:{9000 + i}") for i in range(5))
THREE = document(NODES[:4], replicas=3)
JOINED = document(NODES, replicas=3)
JOINING = replace(changing(THREE), next=JOINED.layout, members=JOINED.members)
PLACEMENTS = {"one ring": Placement.of(THREE), "a ring is to come": Placement.of(JOINING)}
KEYS = [f"{i}-{'k' * (i % 7)}" for i in range(60)]
SEED = 20_261_127


class Gate:
    """A disk that the test lets begin, and lets answer."""

    durable = True

    def __init__(self, *args):
        super().__init__(*args)
        self.may_begin, self.may_answer = threading.Semaphore(0), threading.Semaphore(0)
        self.waiting = self.applied = 0
        self.error = None

    def write(self, writes, now, syncing=no_call):
        syncing()
        self.waiting += 1
        assert self.may_begin.acquire(timeout=10)
        error, self.error = self.error, None
        if error is not None:
            raise error
        done = super().write(writes, now)
        self.applied += 1
        assert self.may_answer.acquire(timeout=10)
        return done

    def open(self):
        self.may_begin.release(1_000)
        self.may_answer.release(1_000)


class GatedMemory(Gate, MemoryEngine):
    pass


class GatedLmdb(Gate, LmdbEngine):
    pass


@pytest.fixture(params=["memory", "lmdb"])
def engine(request, tmp_path):
    engine = GatedMemory(tokens) if request.param == "memory" else GatedLmdb(tmp_path / "data", "n1", tokens)
    yield engine
    engine.close()


@pytest.fixture
def stored(engine):
    commits = Commits(engine, tombstone_ttl=60_000)
    stored = Stored(engine, commits)
    stored.placement = PLACEMENTS["one ring"]
    commits.on_over = stored.over
    engine.keep_sums(True)
    yield stored
    engine.open()
    commits.close(10)


class Model:
    """What all changes leave, in the order in which they were handed over."""

    def __init__(self, placement):
        self.records = {}
        self._placement = placement
        self.positions = {key: (token(key), key) for key in KEYS}

    def write(self, write):
        for place, key in enumerate(write.keys):
            old = self.records.get(key)
            if old is None or old.version < write.version:
                value = write.values[place]
                tag = write.tags[place] if write.tags else None
                self.records[key] = Record(write.version, value, write.expires[place] if write.expires and value else 0, tag)

    def replace(self, records, drops):
        self.records.update(records)
        for key in drops:
            self.records.pop(key, None)

    def pair_of(self, key):
        roles = self._placement.roles[self._placement.list_of(key)]
        return roles.preference, roles.coming

    def between(self, pair, after, upto):
        low = position(after)
        high = position(upto) if upto is not None else (1 << 64, "")
        keys = [key for key in self.records if self.pair_of(key) == pair and low < self.positions[key] <= high]
        return sorted(keys, key=self.positions.__getitem__)


def position(cursor):
    return (int(cursor[:16], 16), cursor[16:]) if cursor else (0, "")


def some(chance, least=1):
    return chance.sample(KEYS, chance.randint(least, 4))


def record(chance, counter):
    value = chance.choice([None, b"1", b"22", Blob(b"x", "a/b")])
    tag = chance.choice([None, None, Version(1, counter)])
    return Record(Version(2, 10 * counter), value, chance.choice([0, 0, 5_000]) if value else 0, tag)


def written(chance, counter):
    keys = some(chance)
    records = [record(chance, counter) for _ in keys]
    version = Version(2, 100 + 10 * counter + chance.choice([5, -73]))  # no two writes have the same
    values, expires = [one.value for one in records], [one.expires for one in records]
    return Write(version, keys, values, expires, [one.client_version for one in records])


def cursor_of(key, *, before=False):
    return f"{token(key):016x}" + ("" if before else key)


@pytest.mark.parametrize("layout", PLACEMENTS)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_looked_at_is_what_the_commits_under_way_will_leave(engine, stored, layout, seed):  # noqa: C901  # one walk
    chance = random.Random(SEED + seed)
    stored.placement = PLACEMENTS[layout]
    model = Model(stored.placement)
    pairs = [(roles.preference, roles.coming) for roles in stored.placement.roles]
    walks = dict.fromkeys(pairs, "")
    ended = 0
    for counter in range(1, 400):
        doing = chance.random()
        if doing < 0.3:
            write = written(chance, counter)
            model.write(write)
            stored.write(write)
        elif doing < 0.4:
            keys = some(chance, 0)
            records, drops = [(key, record(chance, counter)) for key in keys[:2]], keys[2:]
            model.replace(records, drops)
            stored.replace(records, drops)
        elif doing < 0.5:
            gevent.sleep(0)
        elif doing < 0.6 and engine.waiting > engine.applied:  # the commit can be seen, and nobody has been told
            before = engine.applied
            engine.may_begin.release()
            deadline = soon()
            while engine.applied == before:
                assert time.monotonic() < deadline
                time.sleep(0)
        elif doing < 0.7 and engine.applied > ended:
            ended += 1
            engine.may_answer.release()
            gevent.sleep(0.0001)
        elif doing < 0.8:
            low, high = sorted([cursor_of(chance.choice(KEYS), before=chance.random() < 0.2) for _ in range(2)])
            pair = chance.choice(pairs)
            upto = chance.choice([high, None])
            assert stored.between(pair, low, upto) == model.between(pair, low, upto)
        elif doing < 0.9:
            pair, limit = chance.choice(pairs), chance.randint(1, 5)
            upto = chance.choice([None, None, cursor_of(chance.choice(KEYS))])
            after = walks[pair]
            keys, reached = walk(stored, pair, after, limit, upto)
            if upto is not None and position(upto) <= position(after):
                assert (keys, reached) == ([], upto)
                continue
            assert len(keys) <= limit
            assert keys == model.between(pair, after, reached)
            assert reached is None or position(reached) > position(after)
            walks[pair] = reached or ""
        elif doing < 0.94:
            pair, ranges, limit = chance.choice(pairs), some_ranges(chance), chance.randint(1, 5)
            rows = stored.look(pair, ranges, limit)
            looked_at = ranges[: rows.whole] + ([(ranges[rows.whole][0], rows.upto)] if rows.upto else [])
            wanted = [key for low, high in looked_at for key in model.between(pair, low, high)]
            assert list(rows.records.items()) == [(key, model.records[key]) for key in wanted]
            assert len(rows.records) == limit or rows.whole == len(ranges)
        elif doing < 0.97:
            keys = some(chance)
            there = {key: model.records[key] for key in keys if key in model.records}
            live = [key for key, one in there.items() if one.value is not None and not stored.touch([key])]
            assert stored.known(there) == {key: fingerprints(engine, model, [key])[key] for key in live}
        else:
            compare(engine, stored, model, chance.choice(pairs), start_of(chance.choice(KEYS)), some(chance))
        keys = some(chance)
        assert stored.newest(keys) == [model.records.get(key) for key in keys]
    engine.open()
    stored._commits.flush(soon())
    assert stored.newest(KEYS) == [model.records.get(key) for key in KEYS]
    assert engine.records_of(KEYS) == [model.records.get(key) for key in KEYS]
    assert sorted(key for pair in pairs for key in whole(stored, pair)) == sorted(model.records)
    assert engine.check() == []
    eventually(lambda: engine.sums.complete)
    for key in chance.sample(KEYS, 12):
        compare(engine, stored, model, model.pair_of(key), start_of(key), (), known=True)
    assert not stored._under_way
    assert not stored._order._sorted
    assert not stored._order.new


def walk(stored, pair, after, limit, upto=None):
    """Return the keys that one look finds in one range, and the cursor that it reaches."""
    rows = stored.look(pair, [(after, upto)], limit)
    assert rows.whole == (rows.upto is None)
    return list(rows.records), upto if rows.whole else rows.upto


def some_ranges(chance):
    """Return ranges that do not meet."""
    cursors = sorted({cursor_of(key, before=chance.random() < 0.2) for key in chance.sample(KEYS, 6)})
    ranges = list(zip(cursors[::2], cursors[1::2], strict=False))
    return [(low, None if high is cursors[-1] and chance.random() < 0.3 else high) for low, high in ranges]


def fingerprints(engine, model, keys):
    """Return the fingerprint of what is to be there of each key, 0 for nothing."""
    rows = [(key, model.records[key]) for key in keys if key in model.records]
    return dict.fromkeys(keys, 0) | dict(zip([key for key, _ in rows], engine.fingerprints(rows), strict=True))


def start_of(key):
    return f"{token(key) >> 44 << 44:016x}"


def compare(engine, stored, model, pair, after, without, *, known=False):
    """Hold the next sums of a list against the records."""
    parts = stored.sums(pair, after, without)
    last = parts.ends[-1]
    keys = model.between(pair, after, last)
    under_way = {key for key in [*KEYS] if stored.touch([key])}
    at = 0
    assert len(parts.sums) == len(parts.ends)
    for upto, found in zip(parts.ends, parts.sums, strict=True):
        end = (1 << 64, "") if upto is None else position(upto)
        some = []
        while at < len(keys) and model.positions[keys[at]] <= end:
            some.append(keys[at])
            at += 1
        live = [key for key in some if model.records[key].value is not None]
        if found is None:
            assert not known
        else:
            assert not set(without).intersection(some)
            assert not under_way.intersection(some)
            prints = fingerprints(engine, model, live)
            wanted = 0
            for key in live:
                wanted ^= prints[key]
            assert found == wanted
    assert at == len(keys)
    assert [position(end) for end in parts.ends[:-1]] == sorted({position(end) for end in parts.ends[:-1]})


def whole(stored, pair, limit=7):
    """Return all keys of a list, page by page."""
    keys, after = [], ""
    while after is not None:
        some, after = walk(stored, pair, after, limit)
        keys += some
    return keys


@pytest.mark.parametrize("kind", [GatedMemory, GatedLmdb])
def test_keys_of_one_token_are_walked_in_their_order(kind, tmp_path, monkeypatch):
    def alike(keys):
        return b"".join([(len(key) << 60).to_bytes(8, "big") for key in keys])

    monkeypatch.setattr("gkv.node.stored.tokens", alike)
    engine = kind(*([alike] if kind is GatedMemory else [tmp_path / "data", "n1", alike]))
    engine.may_begin.release()
    engine.may_answer.release()
    commits = Commits(engine, tombstone_ttl=60_000)
    stored = Stored(engine, commits)
    stored.placement = Placement.of(document(NODES[:1]))
    commits.on_over = stored.over
    stored.write(Write(Version(2, 1), KEYS[::2], [b"1"] * len(KEYS[::2])))
    commits.flush(soon())
    stored.write(Write(Version(2, 2), KEYS[1::2], [b"1"] * len(KEYS[1::2])))
    ordered = sorted((len(key) << 60, key) for key in KEYS)
    cursors = [f"{number:016x}{key}" for number, key in ordered]
    keys = [key for _, key in ordered]
    pair = (("n0",), ())
    assert whole(stored, pair) == keys
    for low in range(0, len(keys), 7):
        for high in range(low, len(keys), 5):
            assert stored.between(pair, cursors[low], cursors[high]) == keys[low + 1 : high + 1]
            assert walk(stored, pair, cursors[low], 99, cursors[high]) == (keys[low + 1 : high + 1], cursors[high])
    engine.open()
    commits.close(10)
    engine.close()


def put(key, counter, value=b"1"):
    return Write(Version(2, counter), [key], [value])


def test_write_without_room_leaves_what_was_there_and_lets_an_earlier_one_count(engine, stored):
    engine.error = EngineFull("no room")
    later = stored.write(put("k", 9))
    eventually(lambda: engine.waiting == 1)
    earlier = stored.write(put("k", 3))
    assert stored.newest(["k"]) == [Record(Version(2, 9), b"1")]
    engine.may_begin.release()
    eventually(lambda: later.done)
    assert later.failed
    assert isinstance(later.error, EngineFull)
    assert stored.newest(["k"]) == [Record(Version(2, 3), b"1")]
    engine.open()
    eventually(lambda: earlier.done)
    assert stored.newest(["k"]) == engine.records_of(["k"]) == [Record(Version(2, 3), b"1")]


def test_tombstones_are_listed_when_old_but_for_keys_with_a_commit_under_way(engine):
    engine.open()
    now = [1_000_000]
    commits = Commits(engine, tombstone_ttl=5_000, now=lambda: now[0])
    stored = Stored(engine, commits)
    commits.reclaims, commits.on_over = False, stored.over
    stored.write(Write(Version(1, 1), KEYS, [None] * len(KEYS)))
    commits.flush(soon())
    assert stored.buried(10) == ([], None)
    now[0] += 5_000
    stored.write(put(KEYS[0], 1))
    found, after = [], (-1, "")
    while after is not None:
        keys, after = stored.buried(7, after)
        found += keys
    assert sorted(found) == sorted(KEYS[1:])
    commits.flush(soon())
    pending = stored.replace((), found)
    commits.flush(soon())
    assert pending.done
    assert not pending.failed
    assert (engine.live, engine.tombstones, stored.buried(10)) == (1, 0, ([], None))
    commits.close(10)


@pytest.mark.parametrize("kind", [MemoryEngine, LmdbEngine])
def test_walk_looks_at_no_more_than_a_step_has(kind, tmp_path, monkeypatch):
    """Neither many records, large ones, nor many arcs without any make one longer."""

    class Counted(kind):
        looks = rows = size = 0

        def arc(self, first, last, after, limit, room=float("inf")):
            found = super().arc(first, last, after, limit, room)
            self.looks += 1
            self.rows += len(found)
            self.size += sum(len(one.value or b"") for _, one in found)
            return found

    engine = Counted(tokens) if kind is MemoryEngine else Counted(tmp_path / "data", "n1", tokens)
    commits = Commits(engine, tombstone_ttl=60_000)
    stored = Stored(engine, commits)
    commits.on_over = stored.over
    stored.placement = placement = Placement.of(document(NODES[:3], replicas=3, vnodes=4_096))
    assert walk(stored, pair_of(placement, 0), "", 100) == ([], None)  # what is empty is not looked at
    assert engine.looks <= 2
    small, large = [f"k{i}" for i in range(4_000)], [f"l{i}" for i in range(20)]
    stored.write(Write(Version(1, 1), small, [b"1"] * len(small)))
    stored.write(Write(Version(1, 1), large, [b"1" * 200_000] * len(large)))
    commits.flush(soon())
    seen = []
    for place in range(len(placement.roles)):
        after = ""
        while after is not None:
            engine.looks = engine.rows = engine.size = 0
            keys, after = walk(stored, pair_of(placement, place), after, 100)
            seen += keys
            assert engine.looks <= 250
            assert engine.rows <= 250
            assert engine.size <= (1 << 17) + 200_000
    assert sorted(seen) == sorted(small + large)
    commits.close(10)
    engine.close()


def test_sums_are_there_once_they_are_built_for_some_way_ahead(tmp_path):
    engine = LmdbEngine(tmp_path / "data", "n1", tokens)
    stored = Stored(engine, Commits(engine, tombstone_ttl=60_000))
    assert stored.is_summed_up("")  # none are kept, so none are waited for
    engine.write([Write(Version(1, 1), KEYS, [b"1"] * len(KEYS))], 0)
    engine.keep_sums(True)
    assert not stored.is_summed_up("")
    assert engine.make_sums(30)
    assert [stored.is_summed_up(f"{cell << 44:016x}") for cell in (0, engine.sums.built)] == [True, False]
    while engine.make_sums(30):
        pass
    assert stored.is_summed_up(f"{CELLS - 1 << 44:016x}")
    stored._commits.close()
    engine.close()


def pair_of(placement, place):
    return placement.roles[place].preference, placement.roles[place].coming


def test_walk_without_a_document_raises(stored):
    stored.placement = None
    with pytest.raises(RuntimeError):
        stored.look((("n0", "n1", "n2"), ()), [("", None)], 5)
    with pytest.raises(RuntimeError):
        stored.sums((("n0", "n1", "n2"), ()), "")


def test_record_that_is_damaged_is_looked_at_as_such_until_a_write_repairs_it(tmp_path):
    engine = GatedLmdb(tmp_path / "data", "n1", tokens)
    engine.open()
    commits = Commits(engine, tombstone_ttl=60_000)
    stored = Stored(engine, commits)
    stored.placement = PLACEMENTS["one ring"]
    commits.on_over = stored.over
    stored.write(put("k", 9))
    commits.flush(soon())
    environment = engine._environment
    with environment.begin(write=True) as txn:
        address = token("k").to_bytes(8, "big") + b"k"
        data = txn.get(address)
        txn.put(address, data[:-6] + bytes([data[-6] ^ 1]) + data[-5:])
    pairs = [(roles.preference, roles.coming) for roles in stored.placement.roles]
    assert stored.newest(["k"]) == [Damage.DAMAGED]
    assert [key for pair in pairs for key in whole(stored, pair)] == ["k"]
    copied = put("k", 11)
    copied.repairs = False
    stored.write(copied)
    assert stored.newest(["k"]) == [Damage.DAMAGED]
    stored.write(put("k", 3))
    assert stored.newest(["k"]) == [Record(Version(2, 3), b"1")]
    commits.flush(soon())
    assert engine.records_of(["k"]) == [Record(Version(2, 3), b"1")]
    commits.close(10)
    engine.close()


def test_mark_is_looked_at_as_damage_also_while_it_is_on_its_way(stored):
    stored.write(put("k", 9))
    stored.replace([], [], ["k", "x"])
    assert stored.newest(["k", "x"]) == [Damage.DAMAGED] * 2
    stored.write(put("k", 3))
    assert stored.newest(["k", "x"]) == [Record(Version(2, 3), b"1"), Damage.DAMAGED]


def test_positions_are_in_the_order_of_the_engine():
    keys = sorted(KEYS, key=lambda key: (token(key), key))
    assert [bisect_left([cursor_of(key) for key in keys], cursor_of(key)) for key in keys] == list(range(len(keys)))
