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
from gkv.net.activation import inherited
from gkv.net.admission import Admission
from gkv.net.channel import ChannelLimits
from gkv.net.process import announce, end_on_signals, raise_file_limit, server_limits, settle
from gkv.net.reload import Reload
from gkv.net.server import Server, listen
from gkv.net.tls import Tls, following
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
    files = raise_file_limit()
    reload = Reload(settings, reread)
    reload.add(following(tls))
    ending = end_on_signals(reload.run)
    view = View()
    admission = Admission(settings.max_inflight, settings.max_buffered)
    channels = ChannelLimits(answer_bytes=4 * settings.max_answer)
    exchanges = Exchanges(settings.deadline, budget=admission.clients.budget, limits=channels, tls=tls, view=view)
    listener = inherited(settings.host, settings.port) or listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    directory = Path(settings.data or "gkv-data/proxy")
    authority = Authority(directory, view, exchanges)
    clock = Clock(directory / "clock")  # the authority has locked the directory
    coordinator = Coordinator(view, exchanges, clock, settings.deadline, max_answer=settings.max_answer)
    data = DataApi(
        view,
        coordinator,
        max_body=settings.max_body,
        info=lambda: {"role": "proxy"},
        checks=lambda: [("serving", not ending.is_set()), ("members", view.placement is not None)],
    )
    app = build_app(data, authority)
    limits = server_limits(settings.max_body, files)
    server = Server(app, listener, render_unread, settings.names, limits, admission, tls)

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
        server.drain(settings.drain)
        if children is not None:
            children.end()
        exchanges.close()
        authority.close()
