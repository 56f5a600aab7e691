"""`gkv-proxy`: builds the proxy from its parts, serves, and takes it down again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gevent

from gkv import native
from gkv.api.data import DataApi
from gkv.api.http import render_unread
from gkv.api.metrics import Figure, figure, shared_figures
from gkv.api.watch import watch
from gkv.cluster.authority import Authority
from gkv.cluster.view import View
from gkv.config import Settings
from gkv.coordinator import Clock, Coordinator, Exchanges
from gkv.log import say
from gkv.net import notify
from gkv.net.process import DRAIN, announce, end_on_signals, raise_file_limit, settle
from gkv.net.reload import Reload
from gkv.net.server import Server, ServerLimits, listen
from gkv.net.tls import Tls, refuse_to_begin
from gkv.proxy.app import build_app
from gkv.proxy.spawn import Children


def run(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Run until SIGTERM or SIGINT; on SIGHUP take over what `reread` returns.

    Raise ConfigError, Unavailable or OSError when it cannot start.
    """
    settings.check()
    tls = Tls.of(settings)
    if native.warning:
        say(native.warning)
    raise_file_limit()
    reload = Reload(settings, reread)
    reload.add(tls.prepare if tls is not None else refuse_to_begin)
    ending = end_on_signals(reload.run)
    view = View()
    exchanges = Exchanges(settings.deadline, tls=tls)
    listener = listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    directory = Path(settings.data or "gkv-data/proxy")
    authority = Authority(directory, view, exchanges)
    clock = Clock(directory / "clock")  # the authority has locked the directory
    coordinator = Coordinator(view, exchanges, clock, settings.deadline)
    data = DataApi(
        view,
        coordinator,
        max_body=settings.max_body,
        info=lambda: {"role": "proxy"},
        checks=lambda: [("serving", not ending.is_set()), ("members", view.ring is not None)],
    )
    limits = ServerLimits(max_body=settings.max_body)
    app = build_app(data, authority)
    server = Server(app, listener, render_unread, settings.names, limits, tls)

    def figures() -> Iterator[Figure]:
        yield from shared_figures("proxy", view, server, app.access, coordinator, exchanges)
        up = sum(authority.is_up(node.id) for node in authority.document.members)
        yield figure("gkv_ring_members_up", "Members that have called in within the last seconds", up)

    app.access.follow(reload, server, exchanges)
    watch(app, server, figures, reload)
    settle()
    server.start()
    announce("*** Welcome ***")
    announce(f"Listening on port {port}...")
    notify.ready()

    children = None
    try:
        if settings.spawn:
            children = Children(f"{settings.scheme}://{settings.host}:{port}", settings, say)
            children.wait_joined(authority.is_up, ending)
            if not ending.is_set():
                gevent.spawn(children.watch, ending)
                announce(f"Ready: {settings.spawn} nodes have joined, on ports {', '.join(map(str, children.ports))}")
                for member in authority.document.members:
                    if not authority.is_up(member.id):
                        say(f"member {member.id} is not running; its keys cannot be answered until it is started again")
        ending.wait()
    finally:
        notify.stopping()
        server.drain(DRAIN)
        if children is not None:
            children.end()
        exchanges.close()
        authority.close()
