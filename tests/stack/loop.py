"""A loop for gevent's hub that chooses, by a seed, whose turn it is, and in which time passes when nobody has anything to do.

Promises: the callbacks of one host run in their order, those of a paused one wait, those of a dead one never run. Whatever a
callback begins belongs to the host that the callback belongs to. One seed gives one order of all callbacks.
"""

import heapq
import itertools
import random
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Self


class Host:
    """One process: its callbacks, and its clock."""

    def __init__(self, name: str, rate: float = 1.0, began: float = 0.0, wall: float = 0.0) -> None:
        """`began` is shown by its clock at the beginning of time, `rate` is the seconds that it goes on in one, `wall` those
        by which its time of day is ahead.
        """
        self.name = name
        self.rate = rate
        self.began = began
        self.wall = wall
        self.queue: deque[Callback] = deque()
        self.paused = False
        self.dead = False
        self.watch: Any = None
        """Its watch over deadlines, once it has one."""


class Callback:
    """A call that is to be made; what gevent wants of one."""

    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args: tuple[Any, ...] | None = args

    def stop(self) -> None:
        self.callback = self.args = None

    close = stop

    def __bool__(self) -> bool:
        return self.args is not None

    @property
    def pending(self) -> bool:
        return self.callback is not None


class Timer:
    """A call that is to be made when so much time has passed by the clock of its host."""

    def __init__(self, loop: "Loop", after: float) -> None:
        self._loop = loop
        self._after = after
        self._call: Callback | None = None

    def start(self, callback: Callable[..., Any], *args: Any, update: bool | None = None) -> None:  # noqa: ARG002  # gevent's
        loop = self._loop
        self._call = loop.post(loop.host, max(0.0, self._after) / loop.host.rate, callback, *args)

    def stop(self) -> None:
        if self._call is not None:
            self._call.stop()

    close = stop

    @property
    def callback(self) -> Callable[..., Any] | None:
        return None if self._call is None else self._call.callback

    @property
    def active(self) -> bool:
        return bool(self._call)

    pending = active

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Loop:
    """All hosts, and what they have to do."""

    MINPRI, MAXPRI = -2, 2

    def __init__(self, flags: object = None, default: object = None) -> None:  # noqa: ARG002  # gevent's
        self.chance = random.Random(0)
        self.now_true = 0.0
        """Seconds since the beginning, by a clock that no host has."""
        self.outside = Host("world")
        self.host = self.outside
        """Whose callback runs."""
        self.hosts = [self.outside]
        self.done = 0
        self.error_handler: Any = None
        self.iteration = 0
        self.trace = 0
        """A digest of all that has run, in its order."""
        self._timers: list[tuple[float, float, int, Host, Callback]] = []
        self._number = itertools.count()

    # -- for the world

    def add(self, host: Host) -> Host:
        """Take in a host."""
        self.hosts.append(host)
        return host

    def end(self, host: Host) -> None:
        """Let a host do nothing any more."""
        host.dead = True
        host.queue.clear()
        self.hosts.remove(host)

    def post(self, host: Host, after: float, callback: Callable[..., Any], *args: Any) -> Callback:
        """Have a call made in a host in so many seconds of true time."""
        call = Callback(callback, args)
        heapq.heappush(self._timers, (self.now_true + after, self.chance.random(), next(self._number), host, call))
        return call

    def boot(self) -> float:
        """Return what the clock of the host shows that runs now."""
        host = self.host
        return host.began + self.now_true * host.rate

    def wall(self) -> float:
        """Return the time of day there."""
        return 1_700_000_000.0 + self.now_true + self.host.wall

    # -- for gevent

    default = True
    approx_timer_resolution = 0.001

    def run_callback(self, callback: Callable[..., Any], *args: Any) -> Callback:
        call = Callback(callback, args)
        if not self.host.dead:
            self.host.queue.append(call)
        return call

    run_callback_threadsafe = run_callback

    def timer(self, after: float, repeat: float = 0.0, ref: bool = True, priority: object = None) -> Timer:  # noqa: ARG002
        return Timer(self, after)

    def io(self, fd: int, events: int, ref: bool = True, priority: object = None) -> Timer:  # noqa: ARG002
        """Return what waits for a descriptor: there is none but one that is always ready."""
        return Timer(self, 0.0)

    def now(self) -> float:
        return self.boot()

    def update_now(self) -> None:
        """Do nothing: time does not pass while somebody works."""

    update = update_now

    def run(self) -> None:
        """Run until nobody will ever do anything again."""
        timers, choice = self._timers, self.chance.choice
        while True:
            ready = [host for host in self.hosts if host.queue and not host.paused]
            if ready:
                host = choice(ready) if len(ready) > 1 else ready[0]
                self._call(host, host.queue.popleft())
                continue
            if not timers:
                return
            self.now_true = max(self.now_true, timers[0][0])
            self.iteration += 1
            while timers and timers[0][0] <= self.now_true:
                *_, host, call = heapq.heappop(timers)
                if call.callback is not None and not host.dead:
                    host.queue.append(call)

    def _call(self, host: Host, call: Callback) -> None:
        callback, args = call.callback, call.args
        if callback is None or args is None:
            return
        call.callback = None
        self.host = host
        self.done += 1
        name = getattr(callback, "__qualname__", "") or type(callback).__name__
        self.trace = hash((self.trace, host.name, name, self.now_true))
        try:
            callback(*args)
        except BaseException:  # noqa: BLE001  # as gevent does
            self.error_handler.handle_error(self, *sys.exc_info())
        finally:
            call.args = None
            self.host = self.outside

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the virtual loop has no {name}")
