"""The counts of requests, and how they are rendered."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gkv import log
from gkv.api.access import Role
from gkv.api.http import NO_CLIENTS, Request, Response, Routes
from gkv.api.metrics import BOUNDS, Figure, Meter, Metrics, figure
from gkv.api.operation import Unlisted

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ENVIRON = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "5"}


@pytest.fixture
def routes():
    routes = Routes()
    routes.add("GET", "/get", lambda _request: Response(b""), doc=Unlisted("a test's"), role=Role.OPEN)
    return routes


@pytest.fixture
def meter(routes):
    return Meter(routes.template)


def scrape(meter, figures=()):
    """Return the samples of /metrics as {name and labels: value}."""
    routes = Routes()
    Metrics(meter, lambda: figures).mount(routes)
    answer = routes.find({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"})[0]({"QUERY_STRING": ""}, b"")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.values()))
            assert key not in found
            found[key] = sample.value
    return found


def answered(meter, method="GET", path="/get", status=200, seconds=0.003):
    meter.answered(meter.route(method, path), ENVIRON, status, 10, seconds, "id")


def test_answers_are_counted_by_method_route_and_class(meter):
    for status in (200, 200, 204, 404, 503):
        answered(meter, status=status)
    found = scrape(meter)
    assert found["gkv_http_requests_total", "/get", "2xx", "GET"] == 3
    assert found["gkv_http_requests_total", "/get", "4xx", "GET"] == 1
    assert found["gkv_http_requests_total", "/get", "5xx", "GET"] == 1
    assert ("gkv_http_requests_total", "/get", "3xx", "GET") not in found


def test_durations_fall_into_the_bucket_whose_bound_they_do_not_exceed(meter):
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, BOUNDS[-1], 99.0):
        answered(meter, seconds=seconds)
    found = scrape(meter)
    name = "gkv_http_request_duration_seconds"
    assert [found[f"{name}_bucket", "/get", str(bound)] if str(bound) > "/get" else found[f"{name}_bucket", str(bound), "/get"]
            for bound in (BOUNDS[0], BOUNDS[1], BOUNDS[-1], "+Inf")] == [2, 3, 4, 5]  # fmt: skip
    assert found[f"{name}_count", "/get"] == 5
    assert found[f"{name}_sum", "/get"] == pytest.approx(99.0 + BOUNDS[-1] + 2.01 * BOUNDS[0])


def test_methods_of_one_route_share_its_durations(routes, meter):
    answered(meter, "GET")
    answered(meter, "HEAD")
    found = scrape(meter)
    assert found["gkv_http_request_duration_seconds_count", "/get"] == 2
    assert found["gkv_http_requests_total", "/get", "2xx", "HEAD"] == 1


def test_what_clients_choose_makes_no_labels(meter):
    for i in range(50):
        answered(meter, f"M{i}", f"/path/{i}", 404)
    meter.refused("127.0.0.1:5", 400, "id")
    names = {key[1:] for key in scrape(meter) if key[0] == "gkv_http_requests_total"}
    assert names == {
        (*sorted(labels),) for one in ("2xx", "4xx", "5xx") for labels in (("other", "other", one), ("-", "unread", one))
    }


def test_refused_requests_are_counted_and_have_no_duration(meter):
    meter.refused("127.0.0.1:5", 408, "id")
    found = scrape(meter)
    assert found["gkv_http_requests_total", "-", "4xx", "unread"] == 1
    assert not [key for key in found if "duration" in key[0]]


def test_figures_are_counters_or_gauges_by_their_name(meter):
    figures = [
        figure("gkv_a_total", "a", 1),
        figure("gkv_b", "b", 2.5),
        Figure("gkv_c", "c", ("node",), [(("n1",), 3), (('n"\n2',), 4)]),
    ]
    found = scrape(meter, figures)
    assert found["gkv_a_total",] == 1
    assert found["gkv_b",] == 2.5
    assert found["gkv_c", "n1"] == 3
    assert found["gkv_c", 'n"\n2'] == 4


def test_access_lines_are_written_only_when_asked_for(meter, capfd):
    answered(meter)
    meter.refused("127.0.0.1:5", 400, "id")
    assert capfd.readouterr().err == ""
    log.configure("text", access=True)
    try:
        answered(meter)
        meter.refused("127.0.0.1:5", 400, "id")
    finally:
        log.configure("text")
    first, second = capfd.readouterr().err.splitlines()
    assert re.search(r"Z access 127\.0\.0\.1:5 GET /get 200 10B 3\.000ms id$", first)
    assert re.search(r"Z access 127\.0\.0\.1:5 - unread 400 0B 0\.000ms id$", second)


@pytest.mark.parametrize(
    ("method", "path", "status", "request_id", "written"),
    [
        ("GET", "/readyz", 200, "id", False),
        ("HEAD", "/livez", 200, "id", False),
        ("GET", "/readyz", 503, "id", True),
        ("POST", "/v1/cluster/nodes", 200, "id", False),
        ("POST", "/v1/cluster/nodes", 409, "id", True),
        ("POST", "/internal/frames", 200, NO_CLIENTS, False),
        ("POST", "/internal/frames/replica", 200, NO_CLIENTS, False),
        ("POST", "/internal/frames", 503, NO_CLIENTS, True),
        ("POST", "/internal/frames", 200, "a-1,b-2", True),
        ("GET", "/get", 200, NO_CLIENTS, True),
    ],
)
def test_access_log_has_no_heartbeats_but_those_that_were_refused(routes, capfd, method, path, status, request_id, written):
    for declared in ("/readyz", "/livez", "/v1/cluster/nodes", "/internal/frames", "/internal/frames/replica"):
        routes.add("POST", declared, lambda _request: Response(b""), doc=Unlisted("a test's"), role=Role.OPEN)
    meter = Meter(routes.template)
    log.configure("text", access=True)
    try:
        meter.answered(meter.route(method, path), ENVIRON, status, 10, 0.001, request_id)
    finally:
        log.configure("text")
    assert (f" {path} {status} " in capfd.readouterr().err) is written
    assert scrape(meter)["gkv_http_requests_total", *sorted([method, path, f"{status // 100}xx"])] == 1


@pytest.mark.parametrize(
    ("path", "text", "shown"),
    [("/get", PARENT, PARENT), ("/get", "00-nonsense", ""), ("/internal/frames", f"{PARENT},{PARENT}", f"{PARENT},{PARENT}")],
)
def test_access_lines_tell_the_trace(routes, capfd, path, text, shown):
    routes.add("POST", "/internal/frames", lambda _request: Response(b""), doc=Unlisted("a test's"), role=Role.OPEN)
    meter = Meter(routes.template)
    log.configure("text", access=True)
    try:
        meter.answered(meter.route("POST", path), ENVIRON | {"HTTP_TRACEPARENT": text}, 200, 10, 0.001, "id")
    finally:
        log.configure("text")
    assert capfd.readouterr().err.endswith(f" id {shown}\n" if shown else " id\n")


@pytest.mark.parametrize(("path", "template"), [("/get", "/get"), ("/get/", "other"), ("/", "other"), ("/GET", "other")])
def test_template_is_the_route_or_one_word_for_all_else(routes, path, template):
    assert routes.template(path) == template


def test_trace_is_the_id_only_if_somebody_would_look_for_it():
    given = Request({"HTTP_X_REQUEST_ID": "mine"})
    made = Request({})
    assert (given.trace, made.trace) == ("mine", "")
    traced = Request({"HTTP_TRACEPARENT": PARENT, "HTTP_TRACESTATE": "rojo=1"})
    assert (traced.trace, traced.trace.parent, traced.trace.state) == (traced.id, PARENT, "rojo=1")
    assert Request({"HTTP_TRACEPARENT": PARENT[:-1]}).trace == ""
    log.configure("text", access=True)
    try:
        assert made.trace == made.id
    finally:
        log.configure("text")
