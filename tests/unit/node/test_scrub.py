"""The look at all records in the background, over an engine on a disk some of whose bytes are not what was written."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from gkv import sources
from gkv.engine import Commits, LmdbEngine, Looked, MemoryEngine
from gkv.errors import EngineError
from gkv.model import Damage, Record, Replacement, Version, Write
from gkv.node import scrub as module
from gkv.node.health import Health
from gkv.node.scrub import Scrub
from gkv.ring import tokens
from tests.cluster.rot import rot

SETTINGS = sources.parse("node", ["9000"], {})
RATE = 1_000_000


def value_of(key: str) -> bytes:
    return json.dumps(f"the value of {key}").encode()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], LmdbEngine]]:
    opened: list[LmdbEngine] = []

    def start() -> LmdbEngine:
        opened.append(LmdbEngine(tmp_path, "n1", tokens))
        return opened[-1]

    yield start
    for engine in opened:
        engine.close()


def put(engine: LmdbEngine, counter: int, *keys: str, repairs: bool = True) -> None:
    engine.write([Write(Version(1, counter), list(keys), [value_of(key) for key in keys], repairs=repairs)], 1)


def damaged(start: Callable[[], LmdbEngine], tmp_path: Path, *keys: str, of: int = 300) -> LmdbEngine:
    """Return an engine with records of `of` keys, of which some are damaged."""
    engine = start()
    put(engine, 1, *[f"k{number}" for number in range(of)])
    engine.close()
    for key in keys:
        rot(tmp_path / "data.mdb", value_of(key))
    return start()


class Told:
    """What is to be mended, and what is said."""

    def __init__(self, engine: LmdbEngine | MemoryEngine, rate: int = RATE) -> None:
        self.mended: list[str] = []
        self.said: list[str] = []
        self.scrub = Scrub(engine, rate, self.mended.extend, self.said.append)
        self.engine = engine

    def round(self) -> None:
        self.scrub.round()

    @property
    def verification(self) -> dict[str, object]:
        commits = Commits(self.engine, tombstone_ttl=1_000)
        found: dict[str, object] = Health(self.engine, self.scrub).describe(SETTINGS, commits)["verification"]
        commits.close()
        return found


def test_damaged_records_are_given_to_be_mended_named_once_and_counted_until_they_are(start, tmp_path):
    engine = damaged(start, tmp_path, "k7", "k200")
    told = Told(engine)
    told.round()
    assert sorted(told.mended) == ["k200", "k7"]
    assert sorted(told.said[:-1]) == ["damaged: 'k200' is damaged", "damaged: 'k7' is damaged"]
    assert told.said[-1] == "every record has been looked at, 2 are damaged"
    assert (told.scrub.damaged, told.scrub.figures.found, told.scrub.figures.records) == (2, 2, 300)
    told.round()
    assert sorted(told.mended) == ["k200", "k200", "k7", "k7"]
    assert len(told.said) == 3
    put(engine, 2, "k7")
    told.scrub.look_again()
    engine.write([Replacement.of([], ["k200"])], 1)
    told.scrub.look_again()
    figures = told.scrub.figures
    assert (told.scrub.damaged, figures.found, figures.mended, figures.rounds) == (0, 2, 2, 2)
    told.round()
    assert (told.scrub.damaged, len(told.said), figures.rounds) == (0, 5, 3)
    assert told.said[3:] == ["mended: 'k7' was written anew", "mended: 'k200' was dropped"]


@pytest.mark.parametrize("read", [lambda engine: engine.read(["k1", "k7"], 0), lambda engine: engine.records_of(["k1", "k7"])])
def test_damage_that_a_read_meets_is_named_once_counted_and_given_to_be_mended(start, tmp_path, read):
    engine = damaged(start, tmp_path, "k7")
    told = Told(engine, 0)
    engine.on_damage = told.scrub.met
    for _ in range(3):
        read(engine)
        told.scrub.look_again()
    figures = told.scrub.figures
    assert (told.said, told.mended) == (["damaged: 'k7' is damaged"], ["k7"])
    assert (told.scrub.damaged, figures.found, figures.mended) == (1, 1, 0)
    told.round()
    assert (told.scrub.damaged, figures.found, len(told.said)) == (1, 1, 1)
    put(engine, 2, "k7")
    read(engine)
    told.scrub.look_again()
    assert told.said[1:] == ["mended: 'k7' was written anew"]
    assert (told.scrub.damaged, figures.found, figures.mended) == (0, 1, 1)


def test_damage_that_a_read_meets_and_has_mended_at_once_is_named_and_counted_all_the_same(start, tmp_path):
    engine = damaged(start, tmp_path, "k7")
    told = Told(engine, 0)
    engine.on_damage = told.scrub.met
    engine.read(["k7"], 0)
    engine.write([Write(Version(1, 2), ["k7"], [None], repairs=True)], 1)
    told.scrub.look_again()
    assert told.said == ["damaged: 'k7' is damaged", "mended: 'k7' was deleted"]
    assert (told.scrub.damaged, told.scrub.figures.found, told.scrub.figures.mended) == (0, 1, 1)


def test_damage_that_reads_meet_is_noted_without_a_rate_too(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_AGAIN", 0.02)
    engine = damaged(start, tmp_path, "k7")
    told = Told(engine, 0)
    engine.on_damage = told.scrub.met
    running = gevent.spawn(told.scrub.run)
    gevent.sleep(0.05)
    engine.read(["k7"], 0)
    with gevent.Timeout(20):
        while not told.mended:
            gevent.sleep(0.01)
    running.kill()


def test_values_of_damaged_records_are_never_said(start, tmp_path):
    told = Told(damaged(start, tmp_path, "k7"))
    told.round()
    assert "value" not in "".join(told.said)


def test_record_that_is_lost_is_given_to_be_mended_until_it_is_there_again(start, tmp_path):
    """The key itself is not what was written: its record is at no place where anybody would look for it."""
    engine = start()
    put(engine, 1, *[f"k{number}" for number in range(300)])
    [token] = [tokens(["k7"])]
    engine.close()
    rot(tmp_path / "data.mdb", token + b"k7")
    engine = start()
    assert engine.records_of(["k7"]) == [Damage.DAMAGED]
    told = Told(engine)
    told.round()
    assert told.mended == ["k7"]
    told.scrub.look_again()
    assert (told.scrub.figures.mended, told.scrub.damaged) == (0, 2)  # and a record that nobody can ask for
    put(engine, 2, "k7")
    told.scrub.look_again()
    assert (told.scrub.figures.mended, told.scrub.damaged) == (1, 1)
    said = list(told.said)
    told.round()
    assert (told.said, told.scrub.damaged) == (said, 1)


def test_first_look_after_a_kill_says_so_and_what_it_found(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BETWEEN", 0.5)
    engine = damaged(start, tmp_path, "k7")
    engine.was_clean = False
    told = Told(engine, 0)
    assert told.verification == {"state": "running", "damaged": 0}
    running = gevent.spawn(told.scrub.run)
    with gevent.Timeout(20):
        while told.scrub.state != "done":
            gevent.sleep(0.01)
    assert told.said == [
        "the last stop was not an orderly one: every record is being checked",
        "damaged: 'k7' is damaged",
        "every record has been checked, 1 are damaged",
    ]
    assert told.verification == {"state": "done", "damaged": 1}
    assert engine.was_clean
    put(engine, 2, "k7")  # which is still looked for without a rate
    with gevent.Timeout(20):
        while not told.scrub.figures.mended:
            gevent.sleep(0.01)
    running.kill()
    assert told.scrub.figures.rounds == 1


def test_orderly_stop_and_no_rate_need_no_look(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BETWEEN", 0.5)
    told = Told(damaged(start, tmp_path, "k7"), 0)
    with gevent.Timeout(1.2, False):
        told.scrub.run()
    assert (told.said, told.scrub.figures.records) == ([], 0)
    assert told.verification == {"state": "not needed", "damaged": 0}


def test_rate_that_changes_while_a_round_is_under_way_counts_at_once(start, tmp_path):
    told = Told(damaged(start, tmp_path), 1)
    running = gevent.spawn(told.round)
    gevent.sleep(0.01)
    assert told.scrub.figures.records == 64  # and the next step is in a minute
    told.scrub.go_on_at(RATE)
    with gevent.Timeout(20):
        running.get()
    assert (told.scrub.figures.records, told.scrub.figures.rounds) == (300, 1)
    told.scrub.go_on_at(1)
    running = gevent.spawn(told.round)
    gevent.sleep(0.01)
    told.scrub.go_on_at(0)
    with gevent.Timeout(20):
        running.get()
    assert (told.scrub.figures.records, told.scrub.figures.rounds) == (364, 1)


def test_rounds_begin_when_a_rate_is_given(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BETWEEN", 0.5)
    told = Told(damaged(start, tmp_path), 0)
    running = gevent.spawn(told.scrub.run)
    gevent.sleep(0.01)
    told.scrub.go_on_at(RATE)
    with gevent.Timeout(20):
        while not told.scrub.figures.rounds:
            gevent.sleep(0.01)
    running.kill()


def test_engine_in_memory_is_not_looked_at():
    told = Told(MemoryEngine(tokens))
    told.scrub.run()
    assert told.scrub.figures.rounds == 0


def test_rounds_follow_each_other(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BETWEEN", 0.5)
    engine = damaged(start, tmp_path)
    told = Told(engine)
    running = gevent.spawn(told.scrub.run)
    with gevent.Timeout(20):
        while told.scrub.figures.rounds < 3:
            gevent.sleep(0.01)
    running.kill()
    assert told.scrub.figures.records >= 900


def test_steps_are_small_whatever_the_values_are(start):
    """A step has so many entries, or so many bytes and one value more; values that are large count as often as they are."""
    engine = start()
    put(engine, 1, *[f"k{number}" for number in range(1_000)])
    large = [f"large{number}" for number in range(20)]
    engine.write([Write(Version(1, 2), large, [b'"%b"' % (b"x" * (1 << 18))] * 20, [1 << 40] * 20)], 1)
    steps = list(engine.verify(64))
    assert sum(step.records for step in steps) == 1_020
    assert all(step.records <= 64 for step in steps)
    assert all(step.cost <= 64 + 2 * (1 << 18) // 4096 for step in steps)
    assert sum(step.cost for step in steps) >= 2_040 + 20 * 64
    assert [line for step in steps for line in step.lines] == []


class Failing(MemoryEngine):
    """Keeps its records on a disk whose pages make no sense from some point on."""

    durable = True
    was_clean = False

    def verify(self, most: int = 0) -> Iterator[Looked]:  # noqa: ARG002  # as the contract has it
        yield Looked(1, 1, ("k",), ("an index says something else",))
        raise EngineError("no more pages")

    def records_of(self, keys):
        return [Damage.DAMAGED] * len(keys)


def test_look_that_fails_says_so_and_keeps_what_it_found():
    told = Told(Failing(tokens))
    told.round()
    assert told.said[-1] == "the check of the records has failed: no more pages"
    told.round()
    assert told.said.count(told.said[-1]) == 1
    assert told.verification == {"state": "failed", "damaged": 2}
    assert not told.engine.was_clean


class Rotten(MemoryEngine):
    """All its records are damaged."""

    durable = True

    def verify(self, most: int = 0) -> Iterator[Looked]:  # noqa: ARG002  # as the contract has it
        yield Looked(150, 150, tuple([f"k{number}" for number in range(150)]))

    def records_of(self, keys) -> list[Record | Damage | None]:
        return [Damage.DAMAGED] * len(keys)


def test_many_damaged_records_are_mended_a_few_at_a_time_and_ten_are_named():
    parts: list[int] = []
    said: list[str] = []
    scrub = Scrub(Rotten(tokens), RATE, lambda keys: parts.append(len(keys)), said.append)
    scrub.round()
    assert parts == [64, 64, 22]
    assert len(said) == 11
    assert said[-1] == "every record has been looked at, 150 are damaged"


def test_of_many_records_that_reads_meet_and_that_are_mended_ten_are_named_each_time():
    engine = Rotten(tokens)
    told = Told(engine)
    for number in range(150):
        told.scrub.met(f"k{number}")
    for _ in range(3):
        told.scrub.look_again()
    assert (len(told.mended), told.scrub.damaged, len(told.said)) == (150, 150, 10)
    engine.records_of = lambda keys: [None] * len(keys)  # type: ignore[method-assign]
    while told.scrub.damaged:
        told.scrub.look_again()
    assert (told.scrub.figures.mended, len(told.said)) == (150, 20)
    assert all(line.startswith("mended: ") for line in told.said[10:])
