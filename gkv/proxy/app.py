"""The proxy's Bottle application: the data API, and the calls about members."""

import json
from dataclasses import asdict
from typing import Any

from gkv.api.access import Role
from gkv.api.data import DataApi
from gkv.api.http import Request, Response, Routes, json_response
from gkv.cluster.authority import Authority
from gkv.cluster.callin import CallIn
from gkv.cluster.node import id_is_good
from gkv.errors import InvalidMember
from gkv.net.admission import MEMBERS
from gkv.net.tls import CERTIFICATE
from gkv.proxy.callers import Callers
from gkv.proxy.changes import Changes
from gkv.proxy.operations import ACCEPT_LOSS, CLUSTER, JOIN
from gkv.proxy.words import body_of, flags_of


def build_app(data: DataApi, authority: Authority, changes: Changes) -> Routes:
    """Build the application."""
    callers = Callers()

    def join(request: Request) -> Response:
        request.query()
        call = CallIn.from_json(body_of(request))
        proved = routes.access.knows_peers or request.environ.get(CERTIFICATE, False)  # or it would not have come here
        callers.check(call.node.url, request.remote_host, proved=proved)
        return json_response(authority.call_in(call).to_json())

    def show(request: Request) -> Response:
        request.query()
        attendance, document = authority.attendance, authority.document.to_json()
        summary: dict[str, Any] = document | {"waits_for": authority.waits_for}
        summary["members"] = [member | {"answers": attendance.answers(member["id"])} for member in document["members"]]
        removals = attendance.removals
        for member in summary["members"]:
            member["keys"] = attendance.keys_of(member["id"])
            loss_in = attendance.loss_in(member["id"])
            if loss_in is not None:
                member["loss_in"] = round(loss_in, 1)
            if member["id"] in removals:
                member["removal_in"] = round(removals[member["id"]], 1)
            filling = attendance.filling_of(member["id"])
            if filling is not None:
                member["filling"] = asdict(filling)
        summary["change"] = changes.shown
        found = authority.coverage
        if found is not None:
            summary["waits_for"] = sorted({*summary["waits_for"], *found.awaited})
            missing, unanswered = round(found.short, 6), round(found.unanswered, 6)
            summary["copies"] = {"wanted": found.wanted, "least": found.least, "missing": missing, "unanswered": unanswered}
        return json_response(summary)

    def accept_loss(request: Request) -> Response:
        [dry_run] = flags_of(request, "dryRun")
        value = body_of(request)
        unknown = sorted(set(value) - {"node"}) if isinstance(value, dict) else []
        if unknown:
            raise InvalidMember(f"unknown member {json.dumps(unknown[0][:64])}; the body is an object with the id of a node")
        node_id = value.get("node") if isinstance(value, dict) else None
        if not isinstance(node_id, str) or not id_is_good(node_id):
            raise InvalidMember("the body is an object with the id of a node", pointers=[("/node", "not a node id")])
        epoch = authority.document.epoch
        follows = authority.accept_loss(node_id, dry_run=dry_run)
        counts = [count for one in follows.acts if (count := authority.attendance.keys_of(one)) is not None]
        shown = {
            "node": node_id,
            "epoch": epoch,
            "dryRun": dry_run,
            "acts": follows.acts,
            "keys": sum(counts) if counts else None,
        }
        shown |= {"fills": follows.fills, "waits_for": follows.awaited, "progress": "/v1/cluster"}
        return json_response(shown, 200 if dry_run else 202)

    routes = Routes()
    data.mount(routes)
    routes.add("GET", "/v1/cluster", show, doc=CLUSTER, role=Role.READER)
    routes.add("POST", "/v1/cluster/nodes", join, doc=JOIN, role=Role.PEER, lane=MEMBERS)
    routes.add("POST", "/v1/cluster/accept-loss", accept_loss, doc=ACCEPT_LOSS, role=Role.ADMIN, dry_role=Role.READER)
    changes.mount(routes)
    return routes
