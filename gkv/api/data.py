"""The data API: the original batch calls, /locate, and what tells a client or an operator how things stand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gkv import __version__, native, ring
from gkv.api import operations as described
from gkv.api.access import Role
from gkv.api.front import Front
from gkv.api.http import TEXT, Request, Response, Routes, json_response
from gkv.api.listing import LISTING, age_bound, is_wanted, list_keys
from gkv.api.openapi import Contract
from gkv.api.single import SingleKeys
from gkv.cluster.document import member_to_json
from gkv.cluster.view import View
from gkv.coordinator import DISK_FULL, Coordinator
from gkv.errors import InvalidParameter
from gkv.model import KeyFailure, Node, Op, OtherVersion
from gkv.net.admission import OPERATORS
from gkv.net.turn import LARGE, Turn
from gkv.wire import TWIN as WIRE_TWIN
from gkv.wire import Batch
from gkv.wire.client import Limits, check_key, read_deletes, read_items, read_keys
from gkv.wire.meta import Found
from gkv.wire.shown import KeyAnswer, join, render_failed, render_get
from gkv.wire.strict import Pause, no_pause

_LOCATED_AT_ONCE = 100
"""Keys that are looked up in one step: 0.5 ms, or 3 ms in the pure twin."""

_GET, _FETCH, _SET, _DELETE = Op.GET, Op.FETCH, Op.SET, Op.DELETE  # which saves 0.1 us each time

_READERS: Mapping[Op, Callable[[bytes, Limits, Pause], Sequence[object]]] = {_SET: read_items, _DELETE: read_deletes}
"""Readers of batches whose items may have more than keys."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold for a process to serve. A `warning` keeps it from nothing; of what does not hold it is the
    reason.
    """

    name: str
    holds: bool
    warning: str = ""

    @property
    def line(self) -> str:
        """The line of it in `/readyz?verbose`."""
        if not self.holds:
            return f"[-]{self.name} failed{self.warning and ': '}{self.warning}\n"
        return f"[!]{self.name} {self.warning}\n" if self.warning else f"[+]{self.name} ok\n"


SUCCESS = b"Success to set key"
RETRY_AFTER = "1"
FEATURES = ["bytes", "conditions", "counters", "listing", "meta", "single-keys", "touch", "ttl"]
"""What clients may rely on beside the batches; later versions have more."""


class DataApi:
    """Handlers over one view and one coordinator, the same on a proxy and on a node."""

    def __init__(
        self,
        view: View,
        coordinator: Coordinator,
        *,
        max_body: int,
        info: Callable[[], dict[str, Any]],
        checks: Callable[[], Sequence[Check]],
    ) -> None:
        """`info` adds to /v1/info what is special about this process; `checks` are those of /readyz."""
        self._view = view
        self._coordinator = coordinator
        self._limits = coordinator.limits
        self._max_body = max_body
        self._info = info
        self._checks = checks

    def mount(self, routes: Routes) -> None:
        """Declare the routes."""
        routes.add("POST PUT", "/set", self.set, doc=described.SET, role=Role.CLIENT)
        routes.add("GET", "/get", self.get_by_query, doc=described.GET_BY_QUERY, role=Role.READER)
        routes.add("POST", "/get", self.get, doc=described.GET, role=Role.READER)
        routes.add("POST", "/delete", self.delete, doc=described.DELETE, role=Role.CLIENT)
        routes.add("GET", "/locate", self.locate_by_query, doc=described.LOCATE_BY_QUERY, role=Role.READER)
        routes.add("POST", "/locate", self.locate, doc=described.LOCATE, role=Role.READER)
        routes.add("GET", "/v1/kv", self.list_keys, doc=LISTING, role=Role.READER)
        SingleKeys(self._coordinator, self._max_body).mount(routes)
        routes.add("GET", "/v1/ring", self.ring, doc=described.RING, role=Role.READER)
        routes.add("GET", "/v1/info", self.info, doc=described.INFO, role=Role.READER)
        routes.add("GET", "/livez", self.livez, doc=described.LIVEZ, role=Role.OPEN, lane=OPERATORS)
        routes.add("GET", "/readyz", self.readyz, doc=described.READYZ, role=Role.OPEN, lane=OPERATORS)
        Front(routes, self._info).mount()
        Contract(routes, self._limits, self._max_body).mount()

    def set(self, request: Request) -> Response:
        request.query()
        request.refuse_conditions()
        batch, pause = self._read(request, _SET)
        written = self._coordinator.write(batch, request.trace)
        if written.failed or request.accepts_json():
            version = "null" if written.version is None else f'"{written.version}"'
            counts = f'"set":{written.keys},"nodes":{written.nodes},"version":{version}'
            return _counts(counts, written.failed, pause)
        return Response(SUCCESS * written.nodes, TEXT)

    def get(self, request: Request) -> Response:
        query = request.query()
        if query and is_stale(query):
            body = request.body(self._max_body)
            return self._peek(request, read_keys(body, self._limits, pause_for(body)), query)
        return self._get(request, *self._read(request, _get_or_fetch(query) if query else _GET))

    def get_by_query(self, request: Request) -> Response:
        """Answer a GET, whose keys stand in its query, or in a body as those of a POST."""
        if request.body(self._max_body):
            if "key" in request.query():
                raise InvalidParameter("the keys stand in the query or in the body, not in both")
            return self.get(request)
        if is_stale(request.query()):
            return self._peek(request, self._keys_of_query(request), request.query())
        op = _get_or_fetch(request.query())
        return self._get(request, self._coordinator.router().of_keys(op, self._keys_of_query(request)), no_pause)

    def _get(self, request: Request, batch: Batch, pause: Pause) -> Response:
        done = self._coordinator.read(batch, request.trace)
        if pause is no_pause and (batch.op is _FETCH or sum([len(one.frame) for one in done]) > LARGE):
            pause = Turn()
        body, failed = batch.render_get(done, pause)
        if failed and (failed == len(batch.keys) or request.wants_strict()):
            return Response(body, status=503, headers={"Retry-After": RETRY_AFTER})
        return Response(body)

    def _peek(self, request: Request, keys: list[str], query: Mapping[str, Sequence[str]]) -> Response:
        """Answer a get from any copies."""
        peeked = self._coordinator.peek(keys, request.trace)
        pause = Turn()
        with_meta = _get_or_fetch(query) is _FETCH
        answers: list[KeyAnswer] = []
        for one in peeked.found:
            if isinstance(one, Found):
                answers.append(one.show() if with_meta else one.entry.show_value())
            else:
                answers.append(one)
        failed = sum(isinstance(one, KeyFailure) for one in answers)
        body, headers = render_get(keys, answers, pause), age_bound(peeked.age)
        if failed and (failed == len(keys) or request.wants_strict()):
            return Response(body, status=503, headers=headers | {"Retry-After": RETRY_AFTER})
        return Response(body, headers=headers)

    def delete(self, request: Request) -> Response:
        request.query()
        request.refuse_conditions()
        batch, pause = self._read(request, _DELETE)
        deleted = self._coordinator.write(batch, request.trace)
        return _counts(f'"deleted":{deleted.existed}', deleted.failed, pause)

    def _read(self, request: Request, op: Op) -> tuple[Batch, Pause]:
        """Return the batch in the body, and how whoever works on it gives way."""
        body = request.body(self._max_body)
        pause = pause_for(body)
        if self._view.placement is None:  # before any member has joined, a bad request is still told what is wrong with it
            _READERS.get(op, read_keys)(body, self._limits, pause)
        return self._coordinator.router().read(op, body, pause), pause

    def locate(self, request: Request) -> Response:
        request.query()
        body = request.body(self._max_body)
        pause = pause_for(body)
        return self._locate(read_keys(body, self._limits, pause), pause)

    def locate_by_query(self, request: Request) -> Response:
        return self._locate(self._keys_of_query(request), Turn())

    def _locate(self, keys: list[str], pause: Pause) -> Response:
        document, placement = self._view.current()
        states = {member.id: member.state.value for member in document.members}
        pieces = [b'{"epoch":%d,"keys":[' % document.epoch]
        for start in range(0, len(keys), _LOCATED_AT_ONCE):
            rows = [
                {
                    "key": key,
                    "token": f"{ring.token(key):016x}",
                    "primary": _id_of(placement.primary(key)),
                    "nodes": [{"id": node.id, "url": node.url, "state": states[node.id]} for node in placement.preference(key)],
                }
                for key in keys[start : start + _LOCATED_AT_ONCE]
            ]
            pieces += (b"," if start else b"", json_response(rows).body[1:-1])
            pause()
        pieces.append(b"]}")
        return Response(join(pieces, pause))

    def _keys_of_query(self, request: Request) -> list[str]:
        keys = request.query().get("key", [])
        if not keys:
            raise InvalidParameter("the query parameter key is missing")
        return [check_key(key, f"/{i}", self._limits) for i, key in enumerate(keys)]

    def list_keys(self, request: Request) -> Response:
        return list_keys(request, self._coordinator)

    def ring(self, request: Request) -> Response:
        request.query()
        document, _ = self._view.current()
        found = self._view.coverage() if document.copies_records else None
        with_copies = {} if found is None else {"placement": document.placement, "primaries": found.primaries}
        return json_response(
            {
                "cluster": document.cluster,
                "generation": document.generation,
                "epoch": document.epoch,
                "hash": ring.HASH,
                "seed": 0,
                "vnodes": document.vnodes,
                "replicas": document.replicas,
                "nodes": [member_to_json(member) for member in document.members],
                **with_copies,
            }
        )

    def info(self, request: Request) -> Response:
        request.query()
        document = self._view.document
        return json_response(
            {
                "version": __version__,
                **self._info(),
                "cluster": document and document.cluster,
                "epoch": document and document.epoch,
                "native": {"mode": native.mode, "ring": ring.TWIN, "wire": WIRE_TWIN},
                "limits": {
                    "items": self._limits.max_items,
                    "keyBytes": self._limits.max_key,
                    "valueBytes": self._limits.max_value,
                    "bodyBytes": self._max_body,
                    "answerBytes": self._coordinator.max_answer,
                },
                "features": FEATURES,
            }
        )

    def livez(self, request: Request) -> Response:
        request.query()
        return Response(b"ok\n", TEXT)

    def readyz(self, request: Request) -> Response:
        verbose = "verbose" in request.query()
        checks = self._checks()
        ready = all(check.holds for check in checks)
        lines = [check.line for check in checks if verbose or not check.holds]
        text = "".join(lines) + ("ok\n" if ready else "not ready\n")
        headers = {} if ready else {"Retry-After": RETRY_AFTER}
        return Response(text.encode(), TEXT, 200 if ready else 503, headers)


def _get_or_fetch(query: Mapping[str, Sequence[str]]) -> Op:
    """Return what a get asks its nodes for: values, or with `meta=1` whole records."""
    [meta] = query.get("meta", ["0"])
    return _FETCH if is_wanted("meta", meta) else _GET


def is_stale(query: Mapping[str, Sequence[str]]) -> bool:
    """Return whether any copy may answer a read, be it the newest or not."""
    [stale] = query.get("stale", ["0"])
    return is_wanted("stale", stale)


def _id_of(node: Node | None) -> str | None:
    return None if node is None else node.id


def pause_for(body: bytes) -> Pause:
    """Return how whoever reads this body gives way to others: not at all when it is small."""
    return Turn() if len(body) > LARGE else no_pause


def _counts(counts: str, failed: dict[str, KeyFailure], pause: Pause) -> Response:
    """Answer a set or delete in JSON, with the keys that were not written, or have no definite answer.

    The status says whether nothing but conditions has failed.
    """
    if not failed:
        return Response(f"{{{counts}}}".encode())
    body = b"{%b,%b}" % (counts.encode(), render_failed(failed.items(), pause))
    if all(failure.code == DISK_FULL.code for failure in failed.values()):
        return Response(body, status=507)
    if all(isinstance(failure, OtherVersion) for failure in failed.values()):
        return Response(body, status=412)
    return Response(body, status=503, headers={"Retry-After": RETRY_AFTER})
