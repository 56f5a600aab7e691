"""The calls by which an operator changes the cluster: who is in the ring, with what weight and zone, and how many copies there
are. Each is answered at once; what follows is in `/v1/cluster`.
"""

from collections.abc import Iterator
from typing import Any

from gkv.api.access import Role
from gkv.api.http import Request, Response, Routes, json_response
from gkv.api.metrics import Figure, figure
from gkv.cluster.authority import Authority
from gkv.cluster.document import MAX_COPIES, MAX_RATE
from gkv.cluster.forecast import Forecast
from gkv.cluster.node import MAX_TOKENS, MAX_WEIGHT, MIN_TOKENS, id_is_good
from gkv.cluster.operator import Granted
from gkv.cluster.ring_change import RingChange
from gkv.errors import InvalidMember
from gkv.proxy import described_changes as described
from gkv.proxy.words import flags_of, id_in, members_of

NODES = "/v1/cluster/nodes/"


class Changes:
    """The calls, and the one that is under way for those who look."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def mount(self, routes: Routes) -> None:
        """Declare the routes. A call with `dryRun=1` changes nothing, and is for readers."""
        admin, reader = Role.ADMIN, Role.READER
        routes.add_below("DELETE", NODES, self.remove, doc=described.REMOVE, role=admin, dry_role=reader)
        routes.add_below("PATCH", NODES, self.change_member, doc=described.CHANGE_MEMBER, role=admin, dry_role=reader)
        routes.add("POST", "/v1/cluster/replace", self.replace, doc=described.REPLACE, role=admin, dry_role=reader)
        routes.add("PATCH", "/v1/cluster", self.change_cluster, doc=described.CHANGE_CLUSTER, role=admin, dry_role=reader)
        routes.add("PATCH", "/v1/cluster/change", self.change_pace, doc=described.CHANGE_PACE, role=admin, dry_role=reader)
        routes.add("DELETE", "/v1/cluster/change", self.take_back, doc=described.TAKE_BACK, role=admin, dry_role=reader)

    def remove(self, request: Request, path: str) -> Response:
        """Have a member leave, or one that is down removed."""
        dry_run, force = flags_of(request, "dryRun", "force")
        return _answer(self._authority.operator.remove(id_in(path), force=force, dry_run=dry_run), dry_run=dry_run)

    def replace(self, request: Request) -> Response:
        """Have a newcomer take the place of a member."""
        [dry_run] = flags_of(request, "dryRun")
        asked = members_of(request, "node with")
        for name in ("node", "with"):
            if not isinstance(asked.get(name), str) or not id_is_good(asked[name]):
                raise _wrong(name, f"{name} is the id of a node")
        return _answer(self._authority.operator.replace_member(asked["node"], asked["with"], dry_run=dry_run), dry_run=dry_run)

    def change_member(self, request: Request, path: str) -> Response:
        """Give a member another weight or zone."""
        [dry_run] = flags_of(request, "dryRun")
        asked = members_of(request, "weight zone")
        weight, zone = asked.get("weight"), asked.get("zone")
        if "weight" in asked and not (isinstance(weight, (int, float)) and weight is not True and 0 < weight <= MAX_WEIGHT):
            nothing = "; a member that is to hold nothing leaves: DELETE /v1/cluster/nodes/ID" if weight == 0 else ""
            raise _wrong("weight", f"a weight is a number above 0, at most {MAX_WEIGHT}{nothing}")
        if "zone" in asked and not (isinstance(zone, str) and (zone == "" or id_is_good(zone))):
            raise _wrong("zone", "a zone is a name, or empty")
        weight = None if weight is None else float(weight)
        granted = self._authority.operator.change_member(id_in(path), weight=weight, zone=zone, dry_run=dry_run)
        return _answer(granted, dry_run=dry_run)

    def change_cluster(self, request: Request) -> Response:
        """Have another number of copies, of those that a write needs, or of an ordinary node's vnodes."""
        dry_run, force = flags_of(request, "dryRun", "force")
        asked = members_of(request, "replicas min_in_sync vnodes")
        for name, number in asked.items():
            least, most = (MIN_TOKENS, MAX_TOKENS) if name == "vnodes" else (1, MAX_COPIES)
            if type(number) is not int or not least <= number <= most:
                raise _wrong(name, f"{name} is a whole number from {least} to {most}")
        granted = self._authority.operator.change_cluster(
            replicas=asked.get("replicas"),
            min_in_sync=asked.get("min_in_sync"),
            vnodes=asked.get("vnodes"),
            force=force,
            dry_run=dry_run,
        )
        return _answer(granted, dry_run=dry_run)

    def change_pace(self, request: Request) -> Response:
        """Have the change that is under way go on at another rate, or not for now."""
        [dry_run] = flags_of(request, "dryRun")
        asked = members_of(request, "rate paused")
        rate = asked.get("rate")
        if rate is not None and not (type(rate) is int and 0 <= rate <= MAX_RATE):
            raise _wrong("rate", f"a rate is a whole number of records a second, at most {MAX_RATE}, 0 for none, or null")
        if "paused" in asked and type(asked["paused"]) is not bool:
            raise _wrong("paused", "paused is true or false")
        granted, pace = self._authority.operator.change_pace(asked, dry_run=dry_run)
        shown = {"epoch": granted.epoch, "change": _described(granted.change), "dryRun": dry_run}
        shown |= {"rate": pace.rate, "paused": pace.paused, "progress": "/v1/cluster"}
        return json_response(shown, 200 if dry_run else 202)

    def take_back(self, request: Request) -> Response:
        """Give up the change that is under way."""
        [dry_run] = flags_of(request, "dryRun")
        return _answer(self._authority.operator.take_back(dry_run=dry_run), dry_run=dry_run)

    # -- what is shown of it

    @property
    def shown(self) -> dict[str, Any] | None:
        """The change that is under way, as `/v1/cluster` has it; None if there is none."""
        progress, expected = self._authority.ring_change.progress, self._authority.ring_change.expected
        if progress is None or expected is None:
            return None
        return {
            **_described(progress.change),
            "since": progress.since,
            "done": progress.nodes,
            "share": round(progress.share, 4),
            "taken": progress.taken,
            "rate": round(progress.rate, 1),
            "left": None if progress.left is None else round(progress.left, 1),
            "limit": progress.pace.rate,
            "paused": progress.pace.paused,
            **_amounts(expected),
        }

    def figures(self) -> Iterator[Figure]:
        """Yield what `/metrics` has of it."""
        progress = self._authority.ring_change.progress
        running = progress is not None
        yield figure("gkv_change_running", "Whether the ring is changing", int(running))
        yield figure(
            "gkv_change_ratio",
            "How much of what moves by that has come; 1 if nothing moves",
            1.0 if progress is None else progress.share,
        )
        yield figure(
            "gkv_change_records_per_second",
            "Records that members take for it in a second",
            0.0 if progress is None else progress.rate,
        )
        paused = progress is not None and progress.pace.paused
        yield figure("gkv_change_paused", "Whether that is paused", int(paused))
        left = 0.0 if progress is None else progress.left
        if left is not None:
            yield figure("gkv_change_left_seconds", "About how long it takes still, if that is known", left)


def _wrong(name: str, detail: str) -> InvalidMember:
    return InvalidMember(detail, pointers=[(f"/{name}", "not that")])


def _answer(granted: Granted, *, dry_run: bool) -> Response:
    shown = {
        "epoch": granted.epoch,
        "change": _described(granted.change),
        "dryRun": dry_run,
        "begins_in": round(granted.begins_in, 1),
    }
    shown |= _forecast(granted.expected or Forecast((), 0.0, 0.0, 0, 0, 0.0))
    return json_response(shown | {"progress": "/v1/cluster"}, 200 if dry_run else 202)


def _forecast(expected: Forecast) -> dict[str, Any]:
    moves = [
        {"from": one.source, "to": one.to, "share": round(one.share, 6), "keys": one.keys, "bytes": one.size}
        for one in expected.flows
    ]
    seconds = None if expected.seconds is None else round(expected.seconds, 1)
    return {"moves": moves, **_amounts(expected), "seconds": seconds}


def _described(change: RingChange) -> dict[str, Any]:
    return {"kind": change.kind.value, "nodes": change.nodes, "what": change.what}


def _amounts(expected: Forecast) -> dict[str, Any]:
    return {
        "moved": round(expected.moved, 6),
        "ideal": round(expected.ideal, 6),
        "keys": expected.keys,
        "bytes": expected.size,
    }
