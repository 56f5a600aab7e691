"""The two programs of gkv on virtual machines: the parts that `gkv.node.process` and `gkv.proxy.process` put together, put
together the same way, with a virtual disk, server and end.
"""

import random
import secrets
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import gevent

from gkv import background
from gkv.api.data import Check, DataApi
from gkv.api.http import Routes, render_unread
from gkv.cluster.authority import Authority
from gkv.cluster.caller import Caller, Refused
from gkv.cluster.document import Document
from gkv.cluster.kept import Kept
from gkv.cluster.proxies import Proxies
from gkv.cluster.store import FileStore
from gkv.cluster.terms import Terms
from gkv.cluster.view import View
from gkv.coordinator import Channels, Coordinator
from gkv.coordinator.channels import Speaker
from gkv.engine import Commits
from gkv.errors import GkvError
from gkv.model import Node
from gkv.net import wsgi
from gkv.net.admission import Admission
from gkv.node import app as node_app
from gkv.node import service
from gkv.node.backup import Backup
from gkv.node.due_clock import DueClock
from gkv.node.membership import Membership
from gkv.node.notes import Notes
from gkv.node.order import Order
from gkv.node.service import Service
from gkv.node.stored import Stored
from gkv.node.strays import Strays
from gkv.node.sweeper import Sweeper
from gkv.node.tidings import Tidings
from gkv.node.tidying import Tidying
from gkv.node.transport import Transport
from gkv.proxy import app as proxy_app
from gkv.proxy.changes import Changes
from tests.stack.disks import Disk, Records
from tests.stack.install import InOrder, tell
from tests.stack.loop import Host
from tests.stack.rules import Rules, Watched, WatchedListing
from tests.stack.sockets import PORTS, Network, serving

service.CopiedListing = WatchedListing  # type: ignore[misc]

DEADLINE = 2.0
"""Seconds of a request."""
TOMBSTONES = 60_000
"""Milliseconds that tombstones are kept, at least."""
_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_MAX_BODY = 1 << 20
VNODES = 16
"""Tokens of a node: the lists are the same with few."""
PROXY = f"http://127.0.0.1:{PORTS['proxy']}"


class Program:
    """A process of a program, from its start to its end."""

    def __init__(self, host: Host, net: Network, disk: Disk, on_end: Callable[["Program"], object]) -> None:
        """`on_end` is told when it ends by itself."""
        self.host = host
        self.machine = host.name.partition("#")[0]
        self.net = net
        self.disk = disk
        self.ended = False
        self._on_end = on_end
        self.view = View()
        self.view.watchers = InOrder()  # type: ignore[assignment]
        self.releases: list[Callable[[], object]] = []
        """What the system does for a process that is gone."""

    def run(self) -> None:
        """Begin; in a greenlet of the host."""
        try:
            self.build()
        except GkvError as error:
            self.end_with(error)

    def build(self) -> None:
        """Put the parts together."""
        raise NotImplementedError

    def listen(self, app: Routes) -> None:
        """Serve an application."""

        def answer(environ: dict[str, Any], body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
            try:
                direct, _ = app.find(environ)
                if direct is not None:
                    found = direct(environ, body)
                    headers = {
                        "Content-Type": found.content_type,
                        "Content-Length": str(len(found.body) + sum(map(len, found.parts))),
                    }
                    headers |= {"X-Request-Id": found.request_id, "Date": "Fri, 27 Nov 2026 12:00:00 GMT"}
                    headers |= found.headers or {}
                    if found.status in (204, 304):
                        del headers["Content-Length"]
                    return _STATUS[found.status], [*headers.items()], b"".join([found.body, *found.parts])
                told = wsgi.run(app, environ | {"wsgi.input": BytesIO(body)})
            except GkvError as error:
                problem = render_unread(error, environ)
                return _STATUS[problem.status], [("Content-Length", str(len(problem.body)))], problem.body
            return told.status, [("ETag" if name == "Etag" else name, value) for name, value in told.headers], told.body

        self.net.listeners[PORTS[self.machine]] = (self.host, serving(answer))

    def end_with(self, error: GkvError) -> None:
        """End, as a program does that has met such an error."""
        if not self.ended:
            tell(f"ends: {error}")
            self.ended = True
            self._on_end(self)


class NodeProgram(Program):
    """`gkv-node`."""

    copies: Watched
    commits: Commits
    engine: Records
    kept: Kept
    incarnation = 0

    def __init__(self, *args: Any, rules: Rules) -> None:
        super().__init__(*args)
        self._rules = rules

    def build(self) -> None:
        me = Node(self.machine, f"http://127.0.0.1:{PORTS[self.machine]}", 1.0)
        view = self.view
        self.engine = engine = Records(self.disk)
        self.commits = commits = Commits(engine, tombstone_ttl=TOMBSTONES, on_failure=self.end_with)
        clock = DueClock()
        order = Order(view, engine, commits, clock)
        self.kept = kept = Kept(self.disk.directory)
        view.watchers.add(lambda: self._rules.in_force(me.id, view.document, kept.document))
        self.incarnation = incarnation = secrets.randbits(64)
        tidings = Tidings()
        stored = Stored(engine, commits)
        transport = Transport(me.id, incarnation, view)
        notes = Notes(me.id, kept, engine.last_run, self.end_with)
        self.copies = copies = Watched(
            me.id,
            incarnation,
            view,
            stored,
            clock.time,
            transport,
            notes,
            tidings,
            self.end_with,
            versions=order.versions,
        )
        copies.rules, copies.node, copies.asked = self._rules, self, {}
        member = Membership(
            me,
            view,
            engine,
            commits,
            incarnation=incarnation,
            kept=kept,
            copies=copies,
            tidings=tidings,
            on_end=self.end_with,
        )
        admission = Admission(256, 64 << 20)
        service = Service(me.id, view, engine, commits, order, 1 << 20, admission, member, copies, DEADLINE)
        channels = Channels(DEADLINE, (me.url, service), view=view, incarnation=incarnation)
        transport.connect(channels)
        coordinator = Coordinator(view, channels, DEADLINE)
        data = DataApi(view, coordinator, max_body=_MAX_BODY, info=dict, checks=lambda: [Check("serving", holds=True)])
        app = node_app.build_app(data, service.answer, Backup(None).begin, 8 << 20, Speaker(view, incarnation))
        self.listen(app)

        def call_in() -> None:
            try:
                Caller(Proxies([PROXY]), "127.0.0.1", member, tell).run()
            except Refused as error:
                self.end_with(GkvError(str(error)))

        sweeper, tidying = Sweeper(me.id, view, engine, order), Tidying(engine, stored, copies, clock)

        def tidy() -> None:
            while True:
                sweeper.run(lambda: not copies.active)
                tidying.run(lambda: copies.active)

        background.start("calling in at the proxy", call_in)
        background.start("the look at the clock", clock.watch)
        background.start("the sweep of what is due", tidy)
        background.start("the search for others' records", Strays(me.id, view, engine, commits, stored, copies).run)
        background.start("the clock of copies", copies.run)

    def end_with(self, error: GkvError) -> None:
        if "machines of copies have stopped" in str(error):
            self._rules.found("internal", f"{self.machine}: {error}")
        super().end_with(error)

    def stop(self) -> None:
        """End as at SIGTERM; in a greenlet of the host."""
        self.copies.stop()
        self.net.listeners.pop(PORTS[self.machine], None)
        gevent.sleep(0.02)
        self.commits.close()
        self.engine.close()
        tell("has ended in an orderly way")
        self.ended = True
        self._on_end(self)


class FewTokens(Terms):
    """Terms of a cluster whose ring is made in no time."""

    def begin(self, cluster: str) -> Document:
        return replace(super().begin(cluster), vnodes=VNODES)


class ProxyProgram(Program):
    """`gkv-proxy`."""

    authority: Authority

    def __init__(self, *args: Any, rules: Rules, terms: Terms) -> None:
        super().__init__(*args)
        self._rules = rules
        self._terms = terms

    def build(self) -> None:
        view = self.view
        channels = Channels(DEADLINE, view=view)
        store = FileStore(Path(self.disk.directory))
        self.releases.append(store.close)
        view.watchers.add(lambda: self._rules.in_force("the proxy", view.document, store._kept))
        self.authority = authority = Authority(store, view, channels, self._terms, DEADLINE)
        coordinator = Coordinator(view, channels, DEADLINE)
        data = DataApi(view, coordinator, max_body=_MAX_BODY, info=dict, checks=lambda: [Check("serving", holds=True)])
        self.listen(proxy_app.build_app(data, authority, Changes(authority)))
        background.start("the authority", authority.run)


def seeded(seed: int) -> None:
    """Have the programs' own chance begin anew."""
    random.seed(seed)
