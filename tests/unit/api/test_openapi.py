"""The OpenAPI document is made of the routes' own descriptions, and what it says about itself holds."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gkv.api.access import Role
from gkv.api.data import DataApi
from gkv.api.http import Request, Response, Routes, render_problem
from gkv.api.openapi import render
from gkv.api.operation import Content, Operation, Parameter, ResponseDoc, Unlisted
from gkv.cluster.view import View
from gkv.coordinator import Channels, Coordinator
from gkv.coordinator.channels import Speaker
from gkv.errors import EngineFailed, InvalidParameter, NotSupported, SnapshotRunning, Unavailable
from gkv.net.peer import PATHS
from gkv.node.app import build_app as build_node
from gkv.proxy.app import build_app as build_proxy
from gkv.proxy.changes import Changes
from gkv.wire.client import Limits

LIMITS = Limits(max_items=7, max_key=33, max_value=4_444)
MAX_BODY = 55_555
DONE = {200: ResponseDoc("It is done")}


def application(role: str) -> Routes:
    view = View()
    coordinator = Coordinator(view, Channels(1.0), 1.0, LIMITS)
    data = DataApi(view, coordinator, max_body=MAX_BODY, info=dict, checks=list)
    if role == "proxy":
        return build_proxy(data, None, Changes(None))  # type: ignore[arg-type]  # nobody asks it here
    return build_node(data, lambda _frames: [], lambda: iter(()), MAX_BODY, Speaker(view, 1))


@pytest.fixture(params=["proxy", "node"])
def routes(request: pytest.FixtureRequest) -> Routes:
    return application(request.param)


@pytest.fixture
def document(routes: Routes) -> dict[str, Any]:
    return render(routes, LIMITS, MAX_BODY)


def test_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_document_has_what_bottle_routes_and_nothing_else(routes: Routes, document: dict[str, Any]) -> None:
    rules = {(route.method, route.rule.replace("<:re:(?s:.*)>", "{key}")) for route in routes.routes}
    routed = {(method, rule.replace("nodes/{key}", "nodes/{id}")) for method, rule in rules}
    unlisted = {(method, path) for method, path, route in routes.declared() if isinstance(route.doc, Unlisted)}
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    heads = {(method, path) for method, path in described if method == "HEAD"}
    assert described - heads == routed - unlisted
    assert heads == {("HEAD", path) for method, path in described if method == "GET"}
    assert unlisted <= {("POST", path) for path in PATHS.values()}


def test_route_cannot_be_declared_without_a_description() -> None:
    with pytest.raises(TypeError, match="doc"):
        Routes().add("GET", "/x", lambda _request: Response(b""))  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="doc"):
        Routes().add_below("GET", "/x/", lambda _request, _path: Response(b""))  # type: ignore[call-arg]


def test_query_takes_what_is_described() -> None:
    doc = Operation("x", DONE, parameters=(Parameter("one", "", {}), Parameter("many", "", {}, repeated=True)))
    assert Request({"QUERY_STRING": "many=1&one=2&many=3"}, b"", doc).query() == {"many": ["1", "3"], "one": ["2"]}
    for query in ("one=1&one=2", "other=1", "One=1", "=1", "if-match=1"):
        with pytest.raises(InvalidParameter):
            Request({"QUERY_STRING": query}, b"", doc).query()
    header = Operation("x", DONE, parameters=(Parameter("Prefer", "", {}, place="header"),))
    for nothing in (header, Unlisted("y"), None):
        with pytest.raises(InvalidParameter):
            Request({"QUERY_STRING": "Prefer=1"}, b"", nothing).query()


def test_sizes_are_those_in_force(document: dict[str, Any]) -> None:
    schemas, paths = document["components"]["schemas"], document["paths"]
    assert schemas["Key"]["maxLength"] == schemas["Prefix"]["maxLength"] == 33
    assert schemas["SetBatch"]["maxItems"] == schemas["KeyBatch"]["maxItems"] == 7
    assert "4444 bytes" in schemas["Value"]["description"]
    assert "55555 bytes" in paths["/set"]["post"]["requestBody"]["description"]
    assert "4444 bytes" in paths["/v1/kv/{key}"]["put"]["requestBody"]["description"]


def test_statuses_of_errors_come_from_the_errors() -> None:
    routes = Routes()
    doc = Operation("x", DONE, body={"a/b": Content()}, problems=(NotSupported,))
    routes.add("POST", "/x", lambda _request: Response(b""), doc=doc, role=Role.CLIENT)
    document = render(routes, LIMITS, MAX_BODY)
    responses = document["paths"]["/x"]["post"]["responses"]
    name = responses["501"]["$ref"].rpartition("/")[2]
    schema = document["components"]["responses"][name]["content"]["application/problem+json"]["schema"]
    assert schema["properties"] == {"type": {"enum": ["urn:gkv:problem:not-supported"]}, "status": {"const": 501}}
    assert {"200", "400", "408", "413", "414", "417", "421", "431", "500", "503", "505"} < set(responses)


def test_document_says_who_is_let_in(document: dict[str, Any]) -> None:
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert document["paths"][path]["get"]["security"] == []
        assert not {"401", "403"} & set(document["paths"][path]["get"]["responses"])
    for path in ("/get", "/v1/info"):
        assert {"401", "403"} <= set(document["paths"][path]["get"]["responses"])
    assert "security" not in document["paths"]["/set"]["post"]
    codes = {method: document["paths"]["/v1/kv/{key}"][method]["responses"]["403"]["$ref"] for method in ("get", "put")}
    assert "cross-site" in codes["put"]
    assert "cross-site" not in codes["get"]


def test_every_503_says_when_to_come_back_as_is_described() -> None:
    for error in (SnapshotRunning("x"), Unavailable("x"), EngineFailed("x")):
        assert render_problem(error, "id").headers == {"Retry-After": "1"}
    assert render_problem(Unavailable("x", retry_after=10), "id").headers == {"Retry-After": "10"}
    assert render_problem(NotSupported("x"), "id").headers == {}


def contents(node: Any) -> Iterator[dict[str, Any]]:
    """Yield all that has a schema and an example for it."""
    if isinstance(node, dict):
        if "schema" in node and "example" in node:
            yield node
        for value in node.values():
            yield from contents(value)
    elif isinstance(node, list):
        for value in node:
            yield from contents(value)


def test_examples_keep_to_their_schemas(document: dict[str, Any]) -> None:
    found = list(contents(document["paths"]))
    assert len(found) > 10
    for one in found:
        whole = one["schema"] | {"components": document["components"]}
        assert [error.message for error in Draft202012Validator(whole).iter_errors(one["example"])] == [], one["example"]
