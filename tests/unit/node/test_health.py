"""What a node says about its records after a stop that was no orderly one."""

from collections.abc import Iterator

from gkv import sources
from gkv.engine import Commits, MemoryEngine
from gkv.errors import EngineError
from gkv.model import Version, Write
from gkv.node.health import Health
from gkv.ring import tokens

SETTINGS = sources.parse("node", ["9000", "--engine", "memory"], {})


class Unclean(MemoryEngine):
    """Was killed, and finds so many problems in each step of its look at the records."""

    was_clean = False

    def __init__(self, *steps: int, error: EngineError | None = None) -> None:
        super().__init__(tokens)
        self.steps = steps
        self.error = error

    def verify(self) -> Iterator[list[str]]:
        for step, problems in enumerate(self.steps):
            yield [f"record {step}-{i}" for i in range(problems)]
        if self.error is not None:
            raise self.error


def looked_at(engine: MemoryEngine) -> tuple[list[str], dict[str, object]]:
    """Return what was said, and what /v1/info shows then."""
    health = Health(engine)
    said: list[str] = []
    health.verify(said.append)
    commits = Commits(engine, tombstone_ttl=1_000)
    shown = health.describe(SETTINGS, commits)["verification"]
    commits.close()
    return said, shown


def test_orderly_stop_needs_no_look_and_nothing_is_said() -> None:
    assert looked_at(MemoryEngine(tokens)) == ([], {"state": "not needed", "damaged": 0})


def test_look_that_finds_nothing_says_so() -> None:
    said, shown = looked_at(Unclean(0, 0))
    assert said[1:] == ["every record has been checked, 0 are damaged"]
    assert shown == {"state": "done", "damaged": 0}


def test_look_that_finds_much_says_ten_problems_and_counts_all() -> None:
    said, shown = looked_at(Unclean(4, 0, 4, 100, 1))
    found = [f"damaged: record {step}-{i}" for step, count in ((0, 4), (2, 4), (3, 2)) for i in range(count)]
    assert said == ["the last stop was not an orderly one: every record is being checked", *found, said[-1]]
    assert said[-1] == "every record has been checked, 109 are damaged"
    assert shown == {"state": "done", "damaged": 109}


def test_look_that_fails_says_so_and_keeps_what_it_found() -> None:
    said, shown = looked_at(Unclean(2, error=EngineError("no more pages")))
    assert said[-1] == "the check has failed: no more pages"
    assert shown == {"state": "failed", "damaged": 2}


def test_look_under_way_is_shown_as_running() -> None:
    engine = Unclean(0)
    commits = Commits(engine, tombstone_ttl=1_000)
    assert Health(engine).describe(SETTINGS, commits)["verification"] == {"state": "running", "damaged": 0}
    commits.close()


def test_share_of_sums_that_are_built_is_shown_while_sums_are_kept() -> None:
    engine = MemoryEngine(tokens)
    health, commits = Health(engine), Commits(engine, tombstone_ttl=1_000)

    def shown() -> list[float]:
        (one,) = [one for one in health.figures(SETTINGS, commits) if one.name == "gkv_sums_built_ratio"]
        return [value for _, value in one.samples]

    engine.write([Write(Version(1, 1), ["a", "b"], [b"1", b"2"])], 0)
    assert shown() == []
    engine.keep_sums(True)
    assert shown() == [0]
    assert engine.make_sums(1)
    assert 0 < shown()[0] < 1
    assert not engine.make_sums(1)
    assert shown() == [1]
    commits.close()
