"""`gkv-proxy`: builds the proxy from its parts, serves, and takes it down again."""

from collections.abc import Callable, Iterator
from pathlib import Path

from gkv.api.data import Check, DataApi
from gkv.api.metrics import Figure, figure, shared_figures
from gkv.cluster.authority import Authority
from gkv.cluster.document import Durability
from gkv.cluster.store import FileStore
from gkv.cluster.terms import Terms
from gkv.cluster.view import View
from gkv.config import Settings
from gkv.coordinator import Coordinator
from gkv.net.server import Server
from gkv.process.early import EarlySignals
from gkv.process.runtime import Runtime
from gkv.process.standard import announce
from gkv.proxy import checks
from gkv.proxy.app import build_app
from gkv.proxy.changes import Changes
from gkv.proxy.spawn import Children
from gkv.proxy.whereabouts import Whereabouts
from gkv.sources import Reading


def run(reading: Reading, reread: Callable[[], Settings], early: EarlySignals) -> None:
    """Run until SIGTERM or SIGINT; on SIGHUP take over what `reread` returns.

    Raise ConfigError, Unavailable or OSError when it cannot start.
    """
    with Runtime(reading, reread, early) as runtime:
        _run(runtime)


def _run(runtime: Runtime) -> None:
    settings = runtime.settings
    view = View()
    channels = runtime.open_channels(view)
    port = runtime.open_port()
    directory = Path(settings.data or "gkv-data/proxy")
    authority = runtime.opened(Authority(FileStore(directory), view, channels, _terms(runtime.reading), settings.deadline))
    half = settings.max_inflight // 2  # the others have work for nodes that are there
    coordinator = Coordinator(view, channels, settings.deadline, max_answer=settings.max_answer, most_waiting=half)

    def look() -> list[Check]:
        serving = Check("serving", not runtime.ending.is_set())
        return [serving, checks.members(authority, view, coordinator.writes_wait_for), *checks.copies(authority)]

    data = DataApi(view, coordinator, max_body=settings.max_body, info=lambda: {"role": "proxy"}, checks=look)
    changes = Changes(authority)
    app = build_app(data, authority, changes)

    def figures(server: Server) -> Iterator[Figure]:
        yield from shared_figures("proxy", view, server, app.access, coordinator, channels, authority.attendance.absent)
        up = sum(authority.attendance.is_up(member.id) for member in authority.document.members)
        yield figure("gkv_ring_members_up", "Members that serve, and have called in within the last second", up)
        gone = [((member.id,), authority.chronicle.evictions(member.id)) for member in authority.document.members]
        yield Figure("gkv_evictions_total", "Times that a member went down, since the start", ("node",), gone)
        yield from changes.figures()

    # Before the server, so that they end after it: requests that still run ask them.
    url = f"{settings.scheme}://{settings.advertised(port)}"
    children = runtime.opened(Children(url, runtime.reading, authority))
    if not (children.are_members or authority.document.has_ring):  # a key that is set now would have to move soon
        coordinator.writes_wait_for = "the nodes that this proxy starts have joined"
    runtime.serve(app, channels, figures, settings.max_body)
    announce("*** Welcome ***")
    announce(f"Listening on port {port}...")
    runtime.say_ready()
    runtime.start("the authority", authority.run)
    runtime.start("the word to members that do not call", Whereabouts(authority, channels, url).run)
    if settings.spawn and children.start(runtime.ending):
        coordinator.writes_wait_for = ""
        announce(
            f"Ready: {settings.spawn} nodes have joined, on ports {', '.join(map(str, children.ports))}{checks.but(look())}"
        )
        children.say_who_is_missing()
        runtime.start("the look at the nodes", children.supervise)
    runtime.wait("gkv-proxy")


def _terms(reading: Reading) -> Terms:
    """Return what the operator asks for a new cluster. What nobody has set is not asked for."""
    names = ("durability", "replicas", "min_in_sync", "lease", "vnodes")
    given = {name: getattr(reading.settings, name) for name in names if reading.found[name].origin != "default"}
    durability = given.pop("durability", None)
    return Terms(None if durability is None else Durability(durability), **given)
