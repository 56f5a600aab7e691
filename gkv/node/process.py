"""`gkv-node`: builds a node from its parts, serves, calls in at the proxy, and takes it down again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gevent

from gkv import native, ring
from gkv.api.data import DataApi
from gkv.api.http import render_unread
from gkv.api.metrics import Figure, shared_figures
from gkv.api.watch import watch
from gkv.cluster.caller import Caller, Refused
from gkv.cluster.view import View
from gkv.config import Settings
from gkv.coordinator import Clock, Coordinator, Exchanges
from gkv.engine import Commits, open_engine
from gkv.errors import EngineError, GkvError, MemberConflict
from gkv.log import say
from gkv.model import Node
from gkv.net import notify
from gkv.net.activation import inherited
from gkv.net.admission import Admission
from gkv.net.channel import ChannelLimits
from gkv.net.process import announce, end_on_signals, end_with_stdin, raise_file_limit, server_limits, settle
from gkv.net.reload import Reload
from gkv.net.server import Server, listen
from gkv.net.tls import Tls, following
from gkv.node.app import build_app
from gkv.node.backup import Backup
from gkv.node.health import Health
from gkv.node.service import Service

CACHE = 32 << 20
"""Bytes for values that were read lately. The rest of the memory is the system's, for its cache of pages."""
SHOWN = 1.0
"""Seconds that a node whose storage has failed says so, to everybody who asks, before it ends: a probe looks once a second, and
a port at which nobody listens says nothing about the reason."""


def run(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Run until SIGTERM or SIGINT; on SIGHUP take over what `reread` returns.

    Raise ConfigError, EngineError or OSError when it cannot start, MemberConflict when it cannot join, EngineFailed when it is
    unknown what is on its disk.
    """
    settings.check()
    tls = Tls.of(settings)
    if native.warning:
        say(native.warning)
    files = raise_file_limit()
    reload = Reload(settings, reread)
    reload.add(following(tls))
    ending = end_on_signals(reload.run)
    listener = inherited(settings.host, settings.port) or listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    me = Node(settings.name or f"{settings.host}:{port}", f"{settings.scheme}://{settings.host}:{port}", settings.weight)
    directory = Path(settings.data or f"gkv-data/{port}")
    engine = open_engine(settings.engine, directory, me.id, ring.tokens, settings.max_disk, CACHE)
    ended: list[GkvError] = []

    def failed() -> bool:
        return any(isinstance(error, EngineError) for error in ended)

    def end_with(error: GkvError) -> None:
        ended.append(error)
        ending.set()

    ttl = round(settings.tombstone_ttl * 1000)
    commits = Commits(engine, tombstone_ttl=ttl, durability=settings.durability, on_failure=end_with)
    clock = Clock(directory / "clock" if engine.durable else None)  # the engine has locked the directory
    view = View()
    admission = Admission(settings.max_inflight, settings.max_buffered)
    service = Service(me.id, view, engine, commits, clock, ttl, settings.max_answer, admission)
    channels = ChannelLimits(answer_bytes=4 * settings.max_answer)
    exchanges = Exchanges(
        settings.deadline, (me.url, service), budget=admission.clients.budget, limits=channels, tls=tls, view=view
    )
    health = Health(engine)
    coordinator = Coordinator(view, exchanges, clock, settings.deadline, max_answer=settings.max_answer)
    data = DataApi(
        view,
        coordinator,
        max_body=settings.max_body,
        info=lambda: {"role": "node", "id": me.id, "engine": health.describe(settings, commits)},
        checks=lambda: [
            ("serving", not ending.is_set()),
            ("member", view.placement is not None),
            ("disk", not failed()),
        ],
    )
    backup = Backup(commits.snapshot if engine.durable else None)
    # A gathered request: many frames, or a single one, as large as a client's body lets it become.
    limits = server_limits(channels.gathered_bytes + 2 * settings.max_body, files)
    app = build_app(data, service.answer, backup.begin, limits.max_body)
    server = Server(app, listener, render_unread, settings.names, limits, admission, tls)

    def figures() -> Iterator[Figure]:
        yield from shared_figures("node", view, server, app.access, coordinator, exchanges)
        yield from health.figures(settings, commits)
        yield from backup.figures()

    app.access.follow(reload, server, exchanges)
    watch(app, server, figures, reload)
    settle()
    server.start()
    announce(f"Listening on port ...{port}")
    notify.ready()
    if engine.durable and settings.durability == "async":
        say(f"{me.id}: durability is async: what is acknowledged can be lost until it is on disk, some milliseconds later")

    def is_fresh() -> bool:
        return engine.durable and engine.cluster is None and not settings.accept_loss

    def call_in() -> None:
        access = app.access
        try:
            Caller(
                settings.proxy_url, me, service.adopt, service.held_cluster, is_fresh, say, lambda: access.peer_token, tls
            ).run()
        except Refused as error:
            end_with(MemberConflict(f"the proxy at {settings.proxy_url} refuses this node: {error}"))

    helpers = [gevent.spawn(call_in), gevent.spawn(health.verify, say)]
    if settings.until_stdin_closes:
        helpers.append(gevent.spawn(end_with_stdin, ending))
    ending.wait()
    notify.stopping()
    gevent.killall(helpers)
    if failed():
        gevent.sleep(SHOWN)
    server.drain(settings.drain)
    exchanges.close()
    commits.close()
    engine.close()
    if ended:
        raise ended[0]
