"""Clients that read and write a few keys in all ways, over all processes, and write down what they
asked and were told.
"""

import http.client
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.cluster.conftest import Answer, Worker
from tests.linearizability import ways
from tests.linearizability.history import ABSENT, NEVER, PRESENT, Condition, Ending, Expiry, Kind, Operation
from tests.linearizability.ways import BrokenContract, Intent, Page, Request, Told

PLAIN = [f"p/{number:02}" for number in range(30)]
COUNTERS = [f"n/{number:02}" for number in range(10)]
"""Keys with integers, so that adds meet puts."""
KEYS = [*COUNTERS, *PLAIN]
AT_HOME = 0.7
"""The part of its requests that a client sends to a target of its own, so that one that hangs does
not stop all clients.
"""
PATIENCE = (1.5, 5.0)
"""Seconds that a client waits: less than a call to a node may take, or more."""
PAUSE = 0.05
"""Seconds that a client waits when it was refused, so that what is down is not asked all the time."""
TOLERANCE = 0.005
SLACK = 0.25
"""Seconds that a value may be found before and after the time at which it expires, by the client's
clock.
"""


@dataclass(frozen=True, slots=True)
class Features:
    """What is used only where it is offered."""

    conditions: bool
    counters: bool
    touch: bool
    meta: bool
    """Whether /get also tells versions, and bytes may be set in batches."""
    clocks_jump: bool
    """Whether nobody can say when something expires."""
    alone: bool = True
    """Whether there are no keys of others, which a listing of all would have too."""

    @classmethod
    def of(cls, offered: Sequence[str], *, clocks_jump: bool, alone: bool = True) -> "Features":
        """Return those of an answer of `/v1/info`."""
        known = (name in offered for name in ("conditions", "counters", "touch", "meta"))
        return cls(*known, clocks_jump, alone)


class Client(Worker):
    """One client, from when it is made until it is told to stop; `operations` is its part of the
    history.
    """

    def __init__(
        self,
        number: int,
        seed: int,
        targets: Mapping[str, int],
        features: Features,
        hosts: Mapping[str, str] | None = None,
        patience: Sequence[float] = PATIENCE,
    ) -> None:
        """`targets` are ports by name, `hosts` the addresses of those that are not at 127.0.0.1."""
        self.operations: list[Operation] = []
        self.broken: list[str] = []
        """Answers that the contract does not have."""
        self._number = number
        self._chance = random.Random(f"{seed} {number}")
        self._targets = dict(targets)
        self._hosts = dict(hosts or {})
        self._home = list(targets)[number % len(targets)]
        self._patience = patience[number % len(patience)]
        self._features = features
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self._versions: dict[str, list[str]] = {}
        """The last versions that this client has seen of each key."""
        self._made = 0
        self._pages: dict[str, Page | None] = {}
        """How the last listing goes on, without and with values."""
        super().__init__()

    def _run(self) -> None:
        refused = ""
        while not self._stop.is_set():
            target = self._home if self._chance.random() < AT_HOME else self._chance.choice(list(self._targets))
            if target == refused:  # somebody else, as clients do: one that only waits shows nothing
                target = self._chance.choice([other for other in self._targets if other != refused] or [target])
            try:
                refused = "" if self.ask(target, self._pick()) else target
            except BrokenContract as error:
                self.broken.append(str(error))
            if refused:
                self._stop.wait(PAUSE)

    def close(self) -> None:
        """Close its connections."""
        for connection in self._connections.values():
            connection.close()

    def ask(self, target: str, request: Request) -> bool:
        """Send one request and write down what became of it; return False when it was refused."""
        connection = self._connections.get(target)
        call = time.monotonic()
        try:
            if connection is None or connection.sock is None:  # the server has closed it after an answer
                connection = http.client.HTTPConnection(
                    self._hosts.get(target, "127.0.0.1"), self._targets[target], timeout=self._patience
                )
                connection.connect()
                self._connections[target] = connection
        except OSError:
            self._note(target, request, call, NEVER, [Told(Ending.REFUSED, code="no connection")] * len(request.intents))
            return False
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            answer = Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            del self._connections[target]
            self._note(target, request, call, NEVER, [_unanswered(one, type(error).__name__) for one in request.intents])
            return True
        back = time.monotonic()
        told = ways.understand(request, answer)
        self._note(target, request, call, back, told)
        if request.page is not None:
            self._pages[request.way] = ways.next_page(request.page, answer)
        return not told or any(one is None or one.ending is not Ending.REFUSED for one in told)

    def _note(self, target: str, request: Request, call: float, back: float, told: Sequence[Told | None]) -> None:
        who = f"client {self._number} {target} {request.way}"
        seen = time.monotonic()
        for intent, one in zip(request.intents, told, strict=True):
            if one is None:
                continue
            back_of = NEVER if one.ending is Ending.UNKNOWN else back
            is_write = intent.kind is Kind.PUT
            self.operations.append(
                Operation(
                    intent.key,
                    intent.kind,
                    call,
                    back_of,
                    one.ending,
                    intent.value if is_write else one.value,
                    one.version,
                    one.existed,
                    intent.delta,
                    self._expiry(intent.ttl, call, back_of),
                    intent.condition,
                    who,
                    one.code,
                    seen,
                )
            )
            if one.version is not None:
                self._versions[intent.key] = [*self._versions.get(intent.key, ())[-3:], one.version]

    def _expiry(self, ttl: float | None, call: float, back: float) -> Expiry | None:
        if not ttl:
            return None
        if self._features.clocks_jump:
            return Expiry()
        return Expiry(call + ttl - TOLERANCE, back + ttl + SLACK)

    def _pick(self) -> Request:
        makers: list[tuple[float, Callable[[], Request]]] = [
            (14, lambda: ways.get(self._key())),
            (3, lambda: ways.get(self._key(), method="HEAD")),
            (4, self._revalidate),
            (6, lambda: ways.get_many(self._some_keys(6), meta=self._features.meta and self._chance.random() < 0.5)),
            (3, lambda: ways.get_many(self._some_keys(3), by_query=True)),
            (3, self._list),
            (14, lambda: ways.put(self._put())),
            (6, lambda: ways.delete(self._delete())),
            (6, lambda: ways.set_many([self._put(key, in_batch=True) for key in self._some_keys(6)], as_json=self._flip())),
            (3, lambda: ways.delete_many([self._delete(key, in_batch=True) for key in self._some_keys(4)])),
        ]
        if self._features.counters:
            makers.append((12, lambda: ways.add(self._add())))
        if self._features.touch:
            makers.append((4, lambda: ways.touch(self._touch())))
        weights = [weight for weight, _ in makers]
        return self._chance.choices([make for _, make in makers], weights)[0]()

    def _flip(self) -> bool:
        return self._chance.random() < 0.5

    def _key(self) -> str:
        return self._chance.choice(KEYS)

    def _some_keys(self, most: int) -> list[str]:
        return self._chance.sample(KEYS, self._chance.randint(1, most))

    def _revalidate(self) -> Request:
        key = self._key()
        return ways.get(key, self._chance.choice(self._versions.get(key, ["0" * 32])))

    def _list(self) -> Request:
        values = self._flip()
        # That there is some value tells little of a counter, and much has to be tried to explain it.
        prefix = self._chance.choice(["p/0", "n/", "p/2", *[""] * self._features.alone]) if values else "p/1"
        page = self._pages.get("list+values" if values else "list") or Page(prefix)
        return ways.list_page(KEYS, page, self._chance.choice([4, 100]), values=values)

    def _put(self, key: str = "", *, in_batch: bool = False) -> Intent:
        key = key or self._key()
        self._made += 1
        name = f"c{self._number}-{self._made}"
        value = f'"{name}"'
        if key in COUNTERS and self._chance.random() < 0.8:
            value = str((self._made * 100 + self._number) * 1_000_000)
        elif self._chance.random() < 0.15 and (not in_batch or self._features.meta):
            value = ways.of_bytes(name.encode())
        ttl = round(self._chance.uniform(0.2, 3), 3) if self._chance.random() < 0.15 else None
        return Intent(key, Kind.PUT, value, ttl=ttl, condition=self._condition(key, in_batch=in_batch))

    def _delete(self, key: str = "", *, in_batch: bool = False) -> Intent:
        key = key or self._key()
        return Intent(key, Kind.DELETE, condition=self._condition(key, in_batch=in_batch))

    def _add(self) -> Intent:
        key = self._chance.choice(COUNTERS) if self._chance.random() < 0.95 else self._chance.choice(PLAIN)
        ttl = round(self._chance.uniform(0.2, 3), 3) if self._chance.random() < 0.05 else None
        return Intent(key, Kind.ADD, delta=self._chance.randint(1, 1_000), ttl=ttl)

    def _touch(self) -> Intent:
        return Intent(self._key(), Kind.TOUCH, ttl=self._chance.choice([0, 0, 0.5, 2, 60]))

    def _condition(self, key: str, *, in_batch: bool) -> Condition | None:
        if not self._features.conditions or self._chance.random() < 0.5:
            return None
        versions = self._versions.get(key, ["0" * 32])
        choices = [PRESENT, ABSENT, *[Condition((versions[-1],))] * 4, Condition((self._chance.choice(versions),))]
        if not in_batch:
            choices += [Condition(tuple(versions)), Condition((versions[-1],), negated=True)]
        return self._chance.choice(choices)


def _unanswered(intent: Intent, error: str) -> Told:
    return Told(Ending.REFUSED if intent.kind is Kind.READ else Ending.UNKNOWN, code=f"no answer: {error}")
