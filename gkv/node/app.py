"""The node's Bottle application: the data API, the frames that coordinators send, and the copy for a backup."""

from collections.abc import Callable, Iterator, Sequence

from gkv.api.access import Role
from gkv.api.data import DataApi
from gkv.api.http import NO_CLIENTS, Request, Response, Routes
from gkv.api.operation import Content, Operation, ResponseDoc, Unlisted
from gkv.coordinator.channels import Speaker
from gkv.errors import EngineError, EngineFailed, NotSupported, SnapshotRunning, SyntaxProblem, Unavailable
from gkv.log import as_warning, say
from gkv.net import gathered
from gkv.net.admission import BACKGROUND, LARGE, MEMBERS, REPLICA
from gkv.net.call import Lane
from gkv.net.peer import PATHS
from gkv.net.turn import Turn
from gkv.wire.blob import ANY_BYTES
from gkv.wire.shown import join

_LANES = {Lane.READ: MEMBERS, Lane.WRITE: MEMBERS, Lane.REPLICA: REPLICA, Lane.BACKGROUND: BACKGROUND}
"""Whose bounds gathered frames count against, by the lane of the calls in them."""

_STEP = 262_144
"""Bytes of a frame that are copied in one step."""

_AT_ONCE = 1 << 20
"""Bytes of an answer that are joined in one step, 0.2 ms: to send each frame by itself costs 5 us a frame."""

_SAID = 64
"""Lines at most about members that cannot be understood."""

FRAMES = Unlisted("what members say to each other, in a format of their own that changes with the version")
SNAPSHOT = Operation(
    "Get a consistent copy of this node's records, as one file",
    {
        200: ResponseDoc(
            "The file; of an answer that breaks off, none of it is of use", {ANY_BYTES: Content()}, ("Content-Disposition",)
        )
    },
    "One at a time; a node that keeps its records in memory has none.",
    problems=(NotSupported, EngineError, SnapshotRunning, EngineFailed, Unavailable),
)


def _cut_in_steps(body: bytes, preface: gathered.Preface) -> list[bytes]:
    """Return the frames of a large body, as `gathered.cut` does. Switches greenlets."""
    turn = Turn()
    frames = gathered.cut(memoryview(body), preface)
    return [join([frame[at : at + _STEP] for at in range(0, len(frame), _STEP)], turn) for frame in frames]


def build_app(
    data: DataApi,
    answer: Callable[[Sequence[bytes]], Sequence[bytes]],
    snapshot: Callable[[], Iterator[bytes]],
    max_frames: int,
    speaker: Speaker,
) -> Routes:
    """Build the application.

    `answer` turns frames into their replies, `snapshot` begins a copy of the records, `max_frames` bounds the bytes of a
    gathered request, `speaker` says who answers.
    """
    said: set[str] = set()
    """Addresses of members that speak another format, of which one line each was said."""

    def frames(request: Request) -> Response:
        body = request.body(max_frames)
        try:
            preface = gathered.read_preface(body, len(body))
        except gathered.BadGathering as error:
            if isinstance(error, gathered.OtherFormat) and request.remote_host not in said and len(said) < _SAID:
                said.add(request.remote_host)
                say(as_warning(f"a member at {request.remote_host} cannot be understood: {error}"))
            raise SyntaxProblem(str(error)) from None
        request.id = preface.request_ids or NO_CLIENTS  # whose requests these are: for the log
        replies = answer(gathered.cut(body, preface) if len(body) <= LARGE else _cut_in_steps(body, preface))
        lengths = list(map(len, replies))
        line = gathered.write_preface(speaker.incarnation, speaker.epoch(), lengths)
        if sum(lengths) > _AT_ONCE:
            return Response(line, ANY_BYTES, parts=replies)
        return Response(b"".join([line, *replies]), ANY_BYTES)

    def copy(request: Request) -> Response:
        request.query()
        disposition = {"Content-Disposition": 'attachment; filename="data.mdb"'}
        return Response(b"", ANY_BYTES, headers=disposition, stream=snapshot())

    routes = Routes()
    data.mount(routes)
    for path, lane in {PATHS[lane]: admitted for lane, admitted in _LANES.items()}.items():
        routes.add("POST", path, frames, doc=FRAMES, role=Role.PEER, lane=lane)
    routes.add("GET", "/v1/snapshot", copy, doc=SNAPSHOT, role=Role.ADMIN)
    return routes
