"""A program as a process: its parts are opened in order, and closed in reverse however it ends."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self, TypeVar

from gevent.event import Event

from gkv import background, native
from gkv.api.http import Routes
from gkv.api.metrics import Figure
from gkv.api.pages import Pages
from gkv.cluster.view import View
from gkv.config import Settings
from gkv.coordinator import Channels
from gkv.errors import GkvError
from gkv.log import as_warning, say
from gkv.net.admission import Admission
from gkv.net.call import Callee
from gkv.net.peer import ChannelLimits
from gkv.net.server import Server, listen
from gkv.net.tls import Tls, following
from gkv.process import notify
from gkv.process.activation import inherited
from gkv.process.early import EarlySignals
from gkv.process.limits import collect_garbage_seldom, let_large_blocks_move, raise_file_limit, server_limits
from gkv.process.observers import observe
from gkv.process.reload import Prepare, Reload
from gkv.process.signals import act_on_signals
from gkv.sources import Reading


class Closeable(Protocol):
    """Something that is open until it is closed."""

    def close(self) -> None:
        """Close it; what it needs is still open."""


Opened = TypeVar("Opened", bound=Closeable)


class Runtime:
    """What a program has of its process: settings, signals, a port, a server, and the end. To be
    used as a context manager.

    On the way out, by an error too, all that was opened is closed in the reverse order.
    """

    def __init__(self, reading: Reading, reread: Callable[[], Settings], early: EarlySignals) -> None:
        """Begin with the settings that were read, and with the signals that `early` has kept.

        Raise ConfigError when the settings cannot be used.
        """
        self.reading = reading
        self.settings = settings = reading.settings
        settings.check()
        self.tls = Tls.of(settings)
        if native.warning:
            say(as_warning(native.warning))
        self._early = early
        self._files = raise_file_limit()
        self._ready = Event()
        self.error: GkvError | None = None
        """Why the process ends; None if it goes on, or ends because it was asked to."""
        self._reload = Reload(settings, reread)
        self._reload.add(following(self.tls))
        self.ending = act_on_signals(early, self._ready, self._reload.run)
        """Set when the process is to end."""
        self.admission = Admission(settings.max_inflight, settings.max_buffered)
        self.channel_limits = ChannelLimits(answer_bytes=4 * settings.max_answer)
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ending.set()
        try:
            self._parts.__exit__(kind, error, trace)
        finally:
            self._early.ignore()

    def opened(self, part: Opened) -> Opened:
        """Have a part closed at the end, before all that was opened earlier."""
        self._parts.callback(part.close)
        return part

    def open_port(self) -> int:
        """Listen on the port of the settings, or take over the socket that a supervisor holds;
        return the port.

        Raise OSError when it is in use, ConfigError when the socket is not the one of the settings.
        """
        host, port = self.settings.host, self.settings.port
        self._listener = self.opened(inherited(host, port) or listen(host, port))
        return int(self._listener.getsockname()[1])

    def open_channels(self, view: View, local: tuple[str, Callee] | None = None, incarnation: int = 0) -> Channels:
        """Return the ways to the nodes, those of the view's members above all; `local` is the URL
        of this process's own node, and what answers for it; `incarnation` names this process if it
        is a node's.
        """
        budget = self.admission.clients.budget
        deadline = self.settings.deadline
        return self.opened(
            Channels(
                deadline, local, budget=budget, limits=self.channel_limits, tls=self.tls, view=view, incarnation=incarnation
            )
        )

    def serve(self, app: Routes, channels: Channels, figures: Callable[[Server], Iterable[Figure]], max_body: int) -> None:
        """Serve an application on the open port, with bodies of `max_body` bytes at most, until the
        end.

        `figures` yields what `/metrics` says of the server and the rest.
        """
        limits = server_limits(max_body, self._files)
        pages = Pages(app)
        server = Server(pages, self._listener, pages.render, self.settings.called, limits, self.admission, self.tls)
        self._reload.begin(app.access.following(server, channels))
        observe(app, server, lambda: figures(server), self._reload)
        collect_garbage_seldom()
        let_large_blocks_move()
        self._parts.callback(server.drain, self.settings.drain)
        server.start()

    def follow(self, part: Prepare) -> None:
        """Have a part take over the settings each time that they are read again."""
        self._reload.add(part)

    def say_ready(self) -> None:
        """Tell the manager that the program works, and take over settings on SIGHUP from now on."""
        self._parts.callback(notify.stopping)
        notify.ready()
        self._ready.set()

    def start(self, name: str, work: Callable[[], object]) -> None:
        """Run `work` in a greenlet of its own until the end; see `gkv.background`."""
        self._parts.callback(background.start(name, work).kill)

    def end_with(self, error: GkvError) -> None:
        """End the process, and raise this in `wait`."""
        self.error = self.error or error
        self.ending.set()

    def wait(self, name: str) -> None:
        """Wait for the end, and say who has asked for it, of a process of this name; or raise the error that is the reason.
        Switches greenlets.
        """
        self.ending.wait()
        if self.error is not None:
            raise self.error  # whoever ends the program says it
        say(f"{name}: stopping, as {self.ending.reason}; running requests have {self.settings.drain:g} s")
