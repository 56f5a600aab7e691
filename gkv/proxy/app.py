"""The proxy's Bottle application: the data API, and the calls about members."""

from typing import Any
from urllib.parse import urlsplit

import ujson

from gkv.api.access import Role
from gkv.api.data import DataApi
from gkv.api.http import Request, Response, Routes, json_response
from gkv.cluster.authority import Authority
from gkv.cluster.document import node_from_json, node_to_json
from gkv.errors import InvalidMember
from gkv.net.admission import MEMBERS
from gkv.proxy.operations import CLUSTER, JOIN, MAX_JOIN
from gkv.wire.strict import Reader


def build_app(data: DataApi, authority: Authority) -> Routes:
    """Build the application."""

    def join(request: Request) -> Response:
        request.require_json()
        request.query()
        reader = Reader(request.body(MAX_JOIN))
        value = reader.value()
        reader.end()
        unknown = sorted(set(value) - {"id", "url", "weight", "cluster", "fresh"}) if isinstance(value, dict) else []
        if unknown:
            raise InvalidMember(f"unknown member {ujson.dumps(unknown[0][:64])}")
        node = node_from_json(value)
        cluster = value.get("cluster")
        if cluster is not None and not isinstance(cluster, str):
            raise InvalidMember("a cluster is a string or null", pointers=[("/cluster", "not a cluster id")])
        fresh = value.get("fresh", False)
        if not isinstance(fresh, bool):
            raise InvalidMember("fresh is true or false", pointers=[("/fresh", "not true or false")])
        host = urlsplit(node.url).hostname
        if host != request.remote_host:
            raise InvalidMember(
                f"the url names {host}, but the call comes from {request.remote_host}; a node can only enlist itself",
                pointers=[("/url", "not the caller's address")],
            )
        return json_response(authority.join(node, cluster, fresh=fresh).to_json())

    def show(request: Request) -> Response:
        request.query()
        document = authority.document
        members = [node_to_json(node) | {"state": "up" if authority.is_up(node.id) else "down"} for node in document.members]
        summary: dict[str, Any] = document.to_json() | {"members": members}
        return json_response(summary)

    routes = Routes()
    data.mount(routes)
    routes.add("GET", "/v1/cluster", show, doc=CLUSTER, role=Role.READER)
    routes.add("POST", "/v1/cluster/nodes", join, doc=JOIN, role=Role.PEER, lane=MEMBERS)
    return routes
