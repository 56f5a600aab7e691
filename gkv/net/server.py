"""A WSGI application on gevent's WSGI server, with connections of our own: who is accepted, the clock, and the end."""

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from time import monotonic
from typing import Any

import gevent
from gevent.pywsgi import WSGIServer

from gkv import background
from gkv.addresses import is_unspecified, plain, shown
from gkv.errors import Overloaded
from gkv.log import as_error, say
from gkv.net.admission import CLIENTS, Admission, no_memory
from gkv.net.answers import RepeatedRefusal, endings
from gkv.net.application import Application, Observer, Render, WSGIApp
from gkv.net.connection import Connection
from gkv.net.dialing import listen
from gkv.net.http1 import HostNames
from gkv.net.serving import Served, ServerLimits
from gkv.net.tls import Tls

__all__ = ["Server", "ServerLimits", "listen"]

_ACCEPT_PAUSE = 0.1
"""Seconds for which nobody is accepted after the system had no file descriptor, or no memory, for another connection."""
_SAY_EVERY = 60.0
_LAGS = 60
"""Ticks over which the loop's worst lag is taken."""
_ACCEPTS = 16
"""Turns of a hundred connections, more than wait for being accepted."""
_UNWIND = 0.2
"""How long a drain waits for what it has broken off to give back what it holds; it does, unless it waits for something else."""


def _find_nothing(_environ: Mapping[str, Any]) -> tuple[None, str]:
    """Stand in for `find` of an application that has only WSGI's way."""
    return None, CLIENTS


class Server(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """Serves an application on a listening socket, from `start` to `drain`.

    `render` makes an answer of an error that is met before the application sees a request; `names` are those by which clients
    may call this server besides localhost and its address. With `tls` it speaks nothing else.
    """

    handler_class = Connection

    def __init__(
        self,
        app: WSGIApp | Application,
        listener: Any,
        render: Render,
        names: Iterable[str] = (),
        limits: ServerLimits | None = None,
        admission: Admission | None = None,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(listener, app, log=None)
        self.find = getattr(app, "find", _find_nothing)
        self.admission = admission or Admission()
        self.too_many = RepeatedRefusal(Overloaded("too many requests are in work; nothing has changed", retry_after=1), render)
        self.too_much = RepeatedRefusal(no_memory(), render)
        self.turning_away = 0
        """Connections that are being refused."""
        self.accept_failures = 0
        self._said_no_files = float("-inf")
        host, port = plain(listener.getsockname()[0]), listener.getsockname()[1]
        self._address = host, port
        self._lags: deque[float] = deque([0.0], _LAGS)
        self.limits = limits or ServerLimits()
        self.render = render
        self.connections: set[Served] = set()
        self.tls = tls
        self.handshakes: dict[Served, None] = {}
        """Those that have not ended, the oldest first."""
        self.handshakes_failed = 0
        self.rename(names)
        self.observer: Observer | None = None
        """Told of every request; it may come and go while the server runs."""
        self.accepted = 0
        """Connections up to now."""
        self.stopping = False
        self.now = monotonic()
        self.endings = self.endings_beyond = endings(b"", 0.0)
        self.turn = -1
        self.turn_began = 0.0
        self.base_environ = {
            "SCRIPT_NAME": "",
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_SOFTWARE": "gkv",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http" if tls is None else "https",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        self._clock: gevent.Greenlet | None = None

    def rename(self, names: Iterable[str]) -> None:
        """Let clients call this server by these names from now on, and by no others."""
        host, port = self._address
        ours = ["localhost", "127.0.0.1", "[::1]", shown(host), *names]
        self.is_ours = HostNames(ours, port, any_address=is_unspecified(host))
        self.forget_heads()

    def forget_heads(self) -> None:
        """Ask the application again what it finds, for every connection's next answer."""
        for connection in self.connections:
            connection.forget_head()

    @property
    def lag(self) -> float:
        """How late the event loop was at the worst in the last half minute, in seconds: others had to wait so long as well."""
        return max(self._lags)

    def start(self) -> None:
        """Begin to accept connections."""
        self._tick()
        self._clock = background.start("the server's clock", self._run_clock)
        super().start()

    def do_read(self) -> Any:
        """Accept a connection; gevent calls this when one is there. Where the system cannot, try again a little later.

        The connection stays in the system's queue, so the socket would be ready again and again: gevent writes a stack trace
        each time.
        """
        try:
            return super().do_read()
        except OSError as error:
            if self.is_fatal_error(error):
                raise
            self.accept_failures += 1
            if self.now - self._said_no_files > _SAY_EVERY:
                self._said_no_files = self.now
                say(as_error(f"cannot accept connections now: {error.strerror}; those that are open go on"))
            self.stop_accepting()
            self._timer = self.loop.timer(_ACCEPT_PAUSE)
            self._timer.start(self._start_accepting_if_started)
            return None

    def _tick(self) -> None:
        self.now = monotonic()
        date, limits = formatdate(usegmt=True).encode(), self.limits
        self.endings = endings(date, limits.idle - limits.tick)  # by so much the clock may be early
        self.endings_beyond = endings(date, limits.linger - limits.tick)

    def _run_clock(self) -> None:
        while True:
            due = monotonic() + self.limits.tick
            gevent.sleep(self.limits.tick)
            self._tick()
            self._lags.append(max(0.0, self.now - due))
            for connection in [one for one in self.connections if one.overdue(self.now) and not one.expired]:
                connection.expire()

    def drain(self, seconds: float) -> bool:
        """Accept no more connections, let running requests finish, close all. Return whether all could finish.

        A client that has just been answered may be sending its next request: that is answered too, with `Connection: close`.
        Who has been silent for longer, gets an orderly end. Switches greenlets.
        """
        self.stopping = True
        for _ in range(_ACCEPTS):
            if self._watcher is not None:
                self._do_read()  # to close the socket would reset those who wait for being accepted
        self.close()
        until = monotonic() + seconds
        gevent.sleep(0)  # by then everybody who has been accepted is among the connections
        while self.connections and (now := monotonic()) < until:
            self.now = now
            for connection in list(self.connections):
                connection.end_if_silent(now)
            gevent.sleep(0.01)
        finished = not self.connections
        for connection in list(self.connections):
            connection.expire()
        until = monotonic() + _UNWIND
        while self.connections and monotonic() < until:
            gevent.sleep(0.01)
        if self._clock is not None:
            self._clock.kill()
        return finished
