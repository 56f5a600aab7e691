"""`gkv-node`: builds a node from its parts, serves, calls in at the proxy, and takes it down again."""

import gevent

from gkv import native
from gkv.api.data import DataApi
from gkv.api.http import render_unread
from gkv.cluster.caller import Caller, Refused
from gkv.cluster.view import View
from gkv.config import Settings
from gkv.coordinator import Coordinator, Exchanges
from gkv.engine import ENGINES
from gkv.errors import ConfigError, MemberConflict
from gkv.model import Node
from gkv.net.channel import ChannelLimits
from gkv.net.process import DRAIN, announce, end_on_signals, end_with_stdin, raise_file_limit, say, settle
from gkv.net.server import Server, ServerLimits, listen
from gkv.node.app import build_app
from gkv.node.service import Service


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raise ConfigError or OSError when it cannot start, MemberConflict when it cannot join."""
    settings.check()
    if settings.engine not in ENGINES:
        raise ConfigError(f"--engine is {settings.engine!r}; there is: {', '.join(ENGINES)}")
    if native.warning:
        say(native.warning)
    raise_file_limit()
    ending = end_on_signals()
    listener = listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    me = Node(settings.name or f"{settings.host}:{port}", f"http://{settings.host}:{port}", settings.weight)
    view = View()
    engine = ENGINES[settings.engine]()
    service = Service(me.id, view, engine)
    exchanges = Exchanges(settings.deadline, local=(me.url, service))
    data = DataApi(
        view,
        Coordinator(view, exchanges, settings.deadline),
        max_body=settings.max_body,
        info=lambda: {
            "role": "node",
            "id": me.id,
            "engine": {
                "name": settings.engine,
                "durable": engine.durable,
                "keys": engine.records,
                "bytes": engine.size,
            },
        },
        checks=lambda: [("serving", not ending.is_set()), ("member", view.ring is not None)],
    )
    # A gathered request: many frames, or a single one, as large as a client's body lets it become.
    limits = ServerLimits(max_body=ChannelLimits().gathered_bytes + 2 * settings.max_body)
    server = Server(build_app(data, service.answer, limits.max_body), listener, render_unread, settings.names, limits)
    settle()
    server.start()
    announce(f"Listening on port ...{port}")

    refused: list[Refused] = []

    def call_in() -> None:
        try:
            Caller(settings.proxy, me, service.adopt, service.held_cluster, say).run()
        except Refused as error:
            refused.append(error)
            ending.set()

    helpers = [gevent.spawn(call_in)]
    if settings.until_stdin_closes:
        helpers.append(gevent.spawn(end_with_stdin, ending))
    ending.wait()
    gevent.killall(helpers)
    server.drain(DRAIN)
    exchanges.close()
    engine.close()
    if refused:
        raise MemberConflict(f"the proxy at {settings.proxy} refuses this node: {refused[0]}")
