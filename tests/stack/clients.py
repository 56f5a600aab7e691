"""Clients of a run: those of the histories under faults, over virtual connections and in greenlets, with fewer keys."""

from collections.abc import Callable
from types import SimpleNamespace

import gevent
from gevent.event import Event

import tests.cluster.conftest
import tests.linearizability.load
from gkv import background
from tests.linearizability import ways
from tests.linearizability.history import Kind
from tests.linearizability.load import Client, Features, Request
from tests.linearizability.ways import Intent, Page
from tests.stack.install import CLIENT

tests.linearizability.load.http = CLIENT  # type: ignore[assignment]
tests.linearizability.load.TOLERANCE = 0.4  # what clocks drift apart in a run
tests.linearizability.load.SLACK = 0.4
FEATURES = Features(conditions=True, counters=True, touch=True, meta=True, clocks_jump=False)
PLAIN = [f"p/{number}" for number in range(6)]
COUNTERS = [f"n/{number}" for number in range(2)]
KEYS = [*PLAIN, *COUNTERS]


class _Thread:
    """In the place of a thread: a greenlet."""

    def __init__(self, target: Callable[[], object], daemon: bool) -> None:  # noqa: ARG002
        self._target = target
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        self._greenlet = background.start("a client", self._target)

    def join(self, within: float) -> None:
        if self._greenlet is not None:
            self._greenlet.join(within)

    def is_alive(self) -> bool:
        return self._greenlet is not None and not self._greenlet.dead


tests.cluster.conftest.threading = SimpleNamespace(Event=Event, Thread=_Thread)  # type: ignore[assignment]


class StackClient(Client):
    """A client that thinks before it asks."""

    thinks = 0.05
    """Seconds at a time, on average."""

    def _pick(self) -> Request:
        gevent.sleep(self._chance.expovariate(1 / self.thinks))
        return super()._pick()

    def _key(self) -> str:
        return self._chance.choice(KEYS)

    def _some_keys(self, most: int) -> list[str]:
        return self._chance.sample(KEYS, self._chance.randint(1, min(most, len(KEYS))))

    def _list(self) -> Request:
        values = self._flip()
        page = self._pages.get("list+values" if values else "list") or Page(
            self._chance.choice(["p/", "n/", ""]) if values else "p/"
        )
        return ways.list_page(KEYS, page, self._chance.choice([2, 100]), values=values)

    def _add(self) -> Intent:
        key = self._chance.choice(COUNTERS) if self._chance.random() < 0.95 else self._chance.choice(PLAIN)
        return Intent(key, Kind.ADD, delta=self._chance.randint(1, 1_000))
