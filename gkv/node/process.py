"""`gkv-node`: builds a node from its parts, serves, calls in at the proxy, and takes it down again."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gevent

from gkv import ring
from gkv.api.data import Check, DataApi
from gkv.api.metrics import Figure, figure, shared_figures
from gkv.cluster.caller import Caller, Refused
from gkv.cluster.kept import Kept
from gkv.cluster.proxies import Proxies
from gkv.cluster.view import View
from gkv.config import Settings
from gkv.coordinator import Coordinator
from gkv.coordinator.channels import Speaker
from gkv.engine import Commits, open_engine
from gkv.errors import EngineError, MemberConflict
from gkv.log import as_warning, named, say
from gkv.model import Node
from gkv.net.server import Server
from gkv.node.app import build_app
from gkv.node.backup import Backup
from gkv.node.copies import Copies
from gkv.node.copy_figures import copy_figures
from gkv.node.due_clock import DueClock
from gkv.node.health import Health
from gkv.node.membership import Membership, why_idle
from gkv.node.notes import Notes, OrderlyEnd
from gkv.node.order import Order
from gkv.node.outdated import Outdated
from gkv.node.progress import progress_of, say_progress
from gkv.node.scrub import Scrub
from gkv.node.service import Service
from gkv.node.standing import Standing
from gkv.node.stored import Stored
from gkv.node.strays import Strays
from gkv.node.sweeper import Sweeper
from gkv.node.tidings import Tidings
from gkv.node.tidying import Tidying
from gkv.node.transport import Transport
from gkv.process.early import EarlySignals
from gkv.process.runtime import Runtime
from gkv.process.standard import announce, end_with_input
from gkv.replication.events import DamageFound
from gkv.replication.questions import Timeouts
from gkv.sources import Reading

CACHE = 32 << 20
"""Bytes for values that were read lately. The rest of the memory is the system's, for its cache of
pages.
"""
SHOWN = 1.0
"""Seconds that a node whose storage has failed says so, to everybody who asks, before it ends: a
probe looks once a second, and a port at which nobody listens says nothing about the reason.
"""


def run(reading: Reading, reread: Callable[[], Settings], early: EarlySignals) -> None:
    """Run until SIGTERM or SIGINT; on SIGHUP take over what `reread` returns.

    Raise ConfigError, Unavailable, EngineError or OSError when it cannot start, MemberConflict when
    it cannot join, EngineFailed when it is unknown what is on its disk.
    """
    with Runtime(reading, reread, early) as runtime:
        _run(runtime)


def _run(runtime: Runtime) -> None:
    settings = runtime.settings
    port = runtime.open_port()
    address = settings.advertised(port)
    directory = Path(settings.data or f"gkv-data/{port}")
    # A directory is one node's for good, wherever that is: the address makes an id only for a new one.
    node_id, or_known = settings.name or address.id, not settings.name
    engine = runtime.opened(
        open_engine(settings.engine, directory, node_id, ring.tokens, settings.max_disk, CACHE, or_known=or_known)
    )
    me = Node(engine.node, f"{settings.scheme}://{address}", settings.weight)
    ttl = round(settings.tombstone_ttl * 1000)
    kept = Kept(directory) if engine.durable else None
    orderly = OrderlyEnd(kept)
    runtime.opened(orderly)
    commits = runtime.opened(Commits(engine, tombstone_ttl=ttl, durability=settings.durability, on_failure=runtime.end_with))
    view = View()
    backup = runtime.opened(Backup(commits.snapshot if engine.durable else None, is_whole=lambda: view.is_whole))
    clock = DueClock()
    order = Order(view, engine, commits, clock)
    incarnation = secrets.randbits(64)
    tidings = Tidings()
    stored = Stored(engine, commits)
    transport = Transport(me.id, incarnation, view)
    notes = runtime.opened(Notes(me.id, kept, engine.last_run, runtime.end_with))
    timeouts = Timeouts(settings.replica_timeout, settings.disk_timeout)
    copies = Copies(
        me.id,
        incarnation,
        view,
        stored,
        clock.time,
        transport,
        notes,
        tidings,
        runtime.end_with,
        timeouts,
        settings.fill_rate,
        order.versions,
    )
    Outdated(me.id, view)
    Standing(me.id, view, runtime.ending.is_set)
    member = runtime.opened(
        Membership(
            me,
            view,
            engine,
            commits,
            incarnation=incarnation,
            kept=kept,
            copies=copies,
            tidings=tidings,
            on_end=runtime.end_with,
            zone=settings.zone,
            standby=settings.standby,
        )
    )
    orderly.says(commits, lambda: copies.vouches(member.was_orderly))
    service = Service(
        me.id, view, engine, commits, order, settings.max_answer, runtime.admission, member, copies, settings.deadline
    )
    channels = runtime.open_channels(view, (me.url, service), incarnation)
    transport.connect(channels)

    def mend(keys: Sequence[str]) -> None:
        if copies.active:
            copies.handle(DamageFound(keys))

    scrub = Scrub(engine, settings.scrub_rate, mend, say)
    engine.on_damage = scrub.met
    health = Health(engine, scrub)
    coordinator = Coordinator(view, channels, settings.deadline, max_answer=settings.max_answer)
    data = DataApi(
        view,
        coordinator,
        max_body=settings.max_body,
        info=lambda: {"role": "node", "id": me.id, "engine": health.describe(settings, commits)},
        checks=lambda: [
            Check("serving", not runtime.ending.is_set()),
            Check("member", view.acts, why_idle(view, progress_of(copies.replica.copying.fillings))),
            Check("document", not view.outdated),
            Check("disk", not isinstance(runtime.error, EngineError)),
            Check("proxy", holds=True, warning=caller.silence),
            Check("clock", holds=True, warning=clock.jumped),
        ],
    )
    # A gathered request: many frames, or a single one, as large as a client's body lets it become.
    max_body = runtime.channel_limits.gathered_bytes + 2 * settings.max_body
    app = build_app(data, service.answer, backup.begin, max_body, Speaker(view, incarnation))
    access = app.access
    caller = Caller(
        Proxies(settings.proxy_urls),
        address.host,
        member,
        lambda line: None if runtime.ending.is_set() else say(named(me.id, line)),
        lambda: access.peer_token,
        runtime.tls,
        lambda: view.awaited,
    )
    member.on_proxy = caller.told

    def figures(server: Server) -> Iterator[Figure]:
        yield from shared_figures("node", view, server, app.access, coordinator, channels)
        yield from health.figures(settings, commits)
        yield from backup.figures()
        yield from copy_figures(copies)
        yield figure(
            "gkv_clock_difference_seconds",
            "By how much the system's clock is ahead of the time by which values expire",
            clock.difference / 1000,
        )

    def follow_rates(settings: Settings) -> Callable[[], None]:
        def take() -> None:
            copies.give_at(settings.fill_rate)
            scrub.go_on_at(settings.scrub_rate)

        return take

    runtime.follow(lambda _settings: clock.take_over)
    runtime.follow(follow_rates)
    runtime.serve(app, channels, figures, max_body)
    announce(f"Listening on port ...{port}")
    runtime.say_ready()
    if settings.accept_loss:
        say(
            as_warning(
                "--accept-loss does nothing any more: POST /v1/cluster/accept-loss at the proxy, once the node waits for it"
            )
        )

    def call_in() -> None:
        try:
            caller.run()
        except Refused as error:
            runtime.end_with(MemberConflict(str(error)))

    runtime.start("calling in at the proxy", call_in)
    runtime.start("the look at the clock", clock.watch)

    sweeper, tidying = Sweeper(me.id, view, engine, order), Tidying(engine, stored, copies, clock)
    runtime.start("the sweep of what is due", lambda: _tidy(sweeper, tidying, copies))
    runtime.start("the search for others' records", Strays(me.id, view, engine, commits, stored, copies).run)
    runtime.start("the clock of copies", copies.run)
    runtime.start("the news of fillings", lambda: say_progress(me.id, copies))
    runtime.start("the look at all records", scrub.run)
    if settings.until_stdin_closes:
        runtime.start("the wait for the end of standard input", lambda: end_with_input(runtime.ending))
    try:
        runtime.wait(me.id)
    except EngineError:
        gevent.sleep(SHOWN)
        raise
    copies.stop()


def _tidy(sweeper: Sweeper, tidying: Tidying, copies: Copies) -> None:
    """Be tidy by the rules that count at each moment. Switches greenlets, and does not end."""
    while True:
        sweeper.run(lambda: not copies.active)
        tidying.run(lambda: copies.active)
