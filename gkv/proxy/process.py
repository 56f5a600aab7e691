"""`gkv-proxy`: builds the proxy from its parts, serves, and takes it down again."""

from pathlib import Path

import gevent

from gkv import native
from gkv.api.data import DataApi
from gkv.api.http import render_unread
from gkv.cluster.authority import Authority
from gkv.cluster.view import View
from gkv.config import Settings
from gkv.coordinator import Clock, Coordinator, Exchanges
from gkv.net.process import DRAIN, announce, end_on_signals, raise_file_limit, say, settle
from gkv.net.server import Server, ServerLimits, listen
from gkv.proxy.app import build_app
from gkv.proxy.spawn import Children


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raise ConfigError, Unavailable or OSError when it cannot start."""
    settings.check()
    if native.warning:
        say(native.warning)
    raise_file_limit()
    ending = end_on_signals()
    view = View()
    exchanges = Exchanges(settings.deadline)
    listener = listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    directory = Path(settings.data or "gkv-data/proxy")
    authority = Authority(directory, view, exchanges)
    clock = Clock(directory / "clock")  # the authority has locked the directory
    data = DataApi(
        view,
        Coordinator(view, exchanges, clock, settings.deadline),
        max_body=settings.max_body,
        info=lambda: {"role": "proxy"},
        checks=lambda: [("serving", not ending.is_set()), ("members", view.ring is not None)],
    )
    limits = ServerLimits(max_body=settings.max_body)
    server = Server(build_app(data, authority), listener, render_unread, settings.names, limits)
    settle()
    server.start()
    announce("*** Welcome ***")
    announce(f"Listening on port {port}...")

    children = None
    try:
        if settings.spawn:
            children = Children(f"http://{settings.host}:{port}", settings, say)
            children.wait_joined(authority.is_up, ending)
            if not ending.is_set():
                gevent.spawn(children.watch, ending)
                announce(f"Ready: {settings.spawn} nodes have joined, on ports {', '.join(map(str, children.ports))}")
                for member in authority.document.members:
                    if not authority.is_up(member.id):
                        say(f"member {member.id} is not running; its keys cannot be answered until it is started again")
        ending.wait()
    finally:
        server.drain(DRAIN)
        if children is not None:
            children.end()
        exchanges.close()
        authority.close()
