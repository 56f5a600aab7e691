"""`/metrics`: what has happened, for Prometheus.

Requests are counted in plain lists, a microsecond each; Prometheus' own objects are made when somebody asks. Promises: no label
holds a key or anything else that a client chose, so the number of series is bounded by routes and members. Nothing here
switches greenlets. The third-party piece is prometheus-client, here and nowhere else.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gkv import __version__, log, native
from gkv.api.access import Access, Role
from gkv.api.http import NO_CLIENTS, Request, Response, Routes
from gkv.api.operations import METRICS
from gkv.cluster.coverage import Coverage
from gkv.cluster.view import View
from gkv.coordinator import Channels, Coordinator
from gkv.net.admission import OPERATORS, Admission
from gkv.net.server import Server
from gkv.net.trace import shown

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)
"""Seconds. Few, since each is a series for each route; 2 s is the usual deadline."""
UNREAD = "unread"
"""The route of a request that could not be read, or came when there was no room for it."""

_PROBES = frozenset(["/livez", "/readyz", "/v1/cluster/nodes"])
"""Routes that are asked again and again by themselves: by load balancers, and by nodes that call in."""
_GATHERED = "/internal/"
"""The beginning of routes by which members send each other gathered calls."""

_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"])
_BUCKETS = [*map(str, BOUNDS), "+Inf"]
_CLASSES = ("2xx", "3xx", "4xx", "5xx")


class Figure(NamedTuple):
    """One metric: a counter if its name ends so, else a gauge. `samples` are values with those of `labels` before them."""

    name: str
    what: str
    labels: Sequence[str]
    samples: Iterable[tuple[Sequence[str], float]]


def figure(name: str, what: str, value: float) -> Figure:
    """Return a metric without labels."""
    return Figure(name, what, (), [((), value)])


class _Route:
    """What has happened to the requests of one method and route."""

    __slots__ = ("buckets", "gathered", "method", "seconds", "statuses", "template")

    def __init__(self, method: str, template: str) -> None:
        self.method = method
        self.template = template
        self.gathered = template.startswith(_GATHERED)
        self.statuses = [0] * 6
        """By the first digit."""
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def is_heartbeat(self, status: int, request_id: str) -> bool:
        """Return whether a request came by itself, as others do again and again, and all is well: not worth a line."""
        return status < 400 and (self.template in _PROBES or (self.gathered and request_id == NO_CLIENTS))


class Meter:
    """Counts requests, and has the access log written. Implements `gkv.net.application.Watch`."""

    def __init__(self, template: Callable[[str], str]) -> None:
        """`template` returns the route of a path as it was declared, and one and the same word for all other paths."""
        self._template = template
        self._routes: dict[tuple[str, str], _Route] = {}
        self._unread = self.route("", "")

    def route(self, method: str, path: str) -> _Route:
        name = method if method in _METHODS else "other" if method else "-"
        template = self._template(path) if method else UNREAD
        found = self._routes.get((name, template))
        if found is None:
            found = self._routes[name, template] = _Route(name, template)
        return found

    def answered(
        self, route: _Route, environ: Mapping[str, Any], status: int, size: int, seconds: float, request_id: str
    ) -> None:
        route.statuses[status // 100] += 1
        route.buckets[bisect_left(BOUNDS, seconds)] += 1
        route.seconds += seconds
        if log.access_log and not route.is_heartbeat(status, request_id):
            peer = f"{environ['REMOTE_ADDR']}:{environ['REMOTE_PORT']}"
            self._say(route, status, size, seconds, request_id, peer, shown(environ, gathered=route.gathered))

    def refused(self, peer: str, status: int, request_id: str) -> None:
        self._unread.statuses[status // 100] += 1
        if log.access_log:
            self._say(self._unread, status, 0, 0.0, request_id, peer, "")

    def _say(self, route: _Route, status: int, size: int, seconds: float, request_id: str, peer: str, traceparent: str) -> None:
        log.say_access(
            method=route.method,
            route=route.template,
            status=status,
            size=size,
            seconds=seconds,
            request_id=request_id,
            peer=peer,
            traceparent=traceparent,
        )

    def families(self) -> Iterator[Any]:
        """Yield the metrics of all requests up to now."""
        requests = CounterMetricFamily(
            "gkv_http_requests", "Requests by the route as it is declared and the class of the answer's status",
            labels=("method", "route", "status"),
        )  # fmt: skip
        durations = HistogramMetricFamily(
            "gkv_http_request_duration_seconds", "From a whole request to its answer, on its way out", labels=("route",)
        )
        by_template: dict[str, tuple[list[int], float]] = {}
        for route in self._routes.values():
            for digit, name in enumerate(_CLASSES, 2):
                if route.statuses[digit] or name != "3xx":  # the others from 0 on, so that the first one is a rise
                    requests.add_metric((route.method, route.template, name), route.statuses[digit])
            if route is not self._unread:
                buckets, seconds = by_template.get(route.template, ([0] * len(_BUCKETS), 0.0))
                added = [one + other for one, other in zip(buckets, route.buckets, strict=True)]
                by_template[route.template] = added, seconds + route.seconds
        for template, (buckets, seconds) in by_template.items():
            total = 0
            cumulated = []
            for bound, count in zip(_BUCKETS, buckets, strict=True):
                total += count
                cumulated.append((bound, total))
            durations.add_metric((template,), cumulated, seconds)
        yield requests
        yield durations


class Metrics(Collector):
    """All that `/metrics` shows, and the route to it."""

    def __init__(self, meter: Meter, figures: Callable[[], Iterable[Figure]]) -> None:
        """`figures` returns what else there is to say, at the time of the call."""
        self._meter = meter
        self._figures = figures
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def describe(self) -> Iterable[Any]:
        """Say nothing: nobody else is in this registry who could use the same names."""
        return ()

    def collect(self) -> Iterator[Any]:
        yield from self._meter.families()
        for one in self._figures():
            counter = one.name.endswith("_total")
            family = (CounterMetricFamily if counter else GaugeMetricFamily)(one.name, one.what, labels=one.labels)
            for values, number in one.samples:
                family.add_metric(values, number)
            yield family

    def mount(self, routes: Routes) -> None:
        """Declare the route."""
        routes.add("GET", "/metrics", self._show, doc=METRICS, role=Role.READER, lane=OPERATORS)

    def _show(self, request: Request) -> Response:
        request.query()
        return Response(generate_latest(self._registry), CONTENT_TYPE)


def shared_figures(
    role: str,
    view: View,
    server: Server,
    access: Access,
    coordinator: Coordinator,
    channels: Channels,
    absent: frozenset[str] = frozenset(),
) -> Iterator[Figure]:
    """Yield what proxies and nodes have both; the members `absent` are known not to answer."""
    twin = "native" if native.extension is not None else "pure"
    labels = ("version", "role", "twin", "python")
    build = [((__version__, role, twin, platform.python_version()), 1.0)]
    yield Figure("gkv_build_info", "What is running", labels, build)
    yield figure("gkv_http_connections", "Open connections of clients and of other members", len(server.connections))
    yield figure(
        "gkv_http_connections_limit", "Open connections beyond which further ones are refused", server.limits.connections
    )
    yield figure("gkv_http_connections_accepted_total", "Connections since the start", server.accepted)
    yield figure(
        "gkv_http_accept_errors_total", "Attempts to accept a connection that the system refused", server.accept_failures
    )
    yield from _admission_figures(server.admission)
    failed = [] if server.tls is None else [((), server.handshakes_failed)]
    yield Figure("gkv_tls_handshakes_failed_total", "TLS handshakes that failed or took too long", (), failed)
    expires = [] if server.tls is None else [((), server.tls.expires)]
    yield Figure("gkv_tls_certificate_expires_seconds", "Until when the certificate is valid, as a Unix time", (), expires)
    refused = [((reason,), number) for reason, number in access.refused.items()]
    yield Figure("gkv_access_refused_total", "Requests that were not let in, by the reason", ("reason",), refused)
    yield figure("gkv_loop_lag_seconds", "How late the event loop was at the worst in the last half minute", server.lag)
    yield figure("gkv_log_lines_dropped_total", "Lines that standard error did not take", log.dropped())
    document = view.document
    yield figure(
        "gkv_ring_epoch", "Epoch of the member list in force, 0 before there is one", document.epoch if document else 0
    )
    yield figure("gkv_ring_members", "Members of the cluster", len(document.members) if document else 0)
    yield figure(
        "gkv_batch_retries_total", "Parts of batches that were sent once more, to the same node or another", coordinator.retries
    )
    yield figure(
        "gkv_retries_refused_total", "Calls to nodes that were not made again, for want of a budget", channels.retries.refused
    )
    yield from _copies_figures(view.coverage(absent))
    yield figure(
        "gkv_requests_waiting_for_copies",
        "Requests that wait for another node to answer for a key",
        coordinator.patience.waiting,
    )
    yield from _node_figures(view, channels)


def _copies_figures(found: Coverage | None) -> Iterator[Figure]:
    """Yield what becomes of the keys by the document in force; nothing of it while there is no member."""
    wanted = [] if found is None else [((), found.wanted)]
    yield Figure("gkv_copies", "Copies that each key is to have", (), wanted)
    least = [] if found is None else [((), found.least)]
    yield Figure("gkv_copies_least", "Copies that count of the keys that have fewest", (), least)
    missing = [] if found is None else [((), found.short)]
    yield Figure("gkv_copies_missing_ratio", "Share of the keys that have fewer copies than they are to have", (), missing)
    unanswered = [] if found is None else [((), found.unanswered)]
    yield Figure("gkv_unanswered_ratio", "Share of the keys for which no node answers", (), unanswered)
    primaries = [] if found is None else [((node_id,), share) for node_id, share in found.primaries.items()]
    yield Figure("gkv_primary_ratio", "Share of the keys for which a node answers", ("node",), primaries)


def _admission_figures(admission: Admission) -> Iterator[Figure]:
    refused = [((reason,), number) for reason, number in admission.refused().items()]
    yield Figure("gkv_http_rejected_total", "Requests and connections for which there was no room", ("reason",), refused)
    lanes = {"clients": admission.clients, "members": admission.members}
    inflight = [((name,), lane.inflight) for name, lane in lanes.items()]
    yield Figure("gkv_http_inflight", "Requests in work", ("lane",), inflight)
    yield figure(
        "gkv_http_inflight_limit", "Requests in work in one lane, beyond which they are refused", admission.clients.limit
    )
    buffered = [((name,), lane.budget.used) for name, lane in lanes.items()]
    yield Figure("gkv_http_buffered_bytes", "Bytes of bodies and answers in memory", ("lane",), buffered)
    limit = admission.clients.budget.limit
    yield figure("gkv_http_buffered_limit_bytes", "Those bytes in one lane, beyond which requests are refused", limit)


def _node_figures(view: View, channels: Channels) -> Iterator[Figure]:
    """Yield what was said to each node, by its id; nodes that are no members any more are left out."""
    document = view.document
    by_url = channels.figures()
    known = {node.id: by_url[node.url] for node in (document.members if document else ()) if node.url in by_url}
    node = ("node",)
    calls = [((one, outcome), number) for one, figures in known.items() for outcome, number in figures.calls.items()]
    yield Figure("gkv_node_calls_total", "Calls to a node by outcome; one for each batch and node", ("node", "outcome"), calls)
    requests = [((one,), figures.requests) for one, figures in known.items()]
    yield Figure(
        "gkv_node_requests_total", "HTTP requests to a node, each with the calls of one batch or of many", node, requests
    )
    reconnects = [((one,), figures.reconnects) for one, figures in known.items()]
    yield Figure("gkv_node_reconnects_total", "HTTP requests to a node that went again over a new connection", node, reconnects)
    connections = [((one,), figures.connections) for one, figures in known.items()]
    yield Figure("gkv_node_connections", "Open connections to a node", node, connections)
    waiting = [((one,), figures.waiting_calls) for one, figures in known.items()]
    yield Figure("gkv_outbox_calls", "Calls that wait for a connection to a node", node, waiting)
    size = [((one,), figures.waiting_bytes) for one, figures in known.items()]
    yield Figure("gkv_outbox_bytes", "Bytes of the calls that wait for a connection to a node", node, size)
