"""The node's Bottle application: the data API, the frames that coordinators send, and the copy for a backup."""

import re
from collections.abc import Callable, Iterator, Sequence

from gkv.api.access import Role
from gkv.api.data import DataApi
from gkv.api.http import ANY_BYTES, Request, Response, Routes
from gkv.api.operation import Answer, Content, Operation, Unlisted
from gkv.errors import EngineError, EngineFailed, NotSupported, SnapshotRunning, SyntaxProblem, Unavailable
from gkv.net.admission import MEMBERS
from gkv.net.sender import LENGTHS, MAX_REQUEST_IDS, PATH, REQUEST_IDS

_IDS = f"HTTP_{REQUEST_IDS.upper().replace('-', '_')}"
_listed = re.compile(r"[!-~]+").fullmatch

FRAMES = Unlisted("what members say to each other, in a format of their own that changes with the version")
SNAPSHOT = Operation(
    "Get a consistent copy of this node's records, as one file",
    {
        200: Answer(
            "The file; of an answer that breaks off, none of it is of use", {ANY_BYTES: Content()}, ("Content-Disposition",)
        )
    },
    "One at a time; a node that keeps its records in memory has none.",
    problems=(NotSupported, EngineError, SnapshotRunning, EngineFailed, Unavailable),
)


def build_app(
    data: DataApi,
    answer: Callable[[Sequence[bytes]], Sequence[bytes]],
    snapshot: Callable[[], Iterator[bytes]],
    max_frames: int,
) -> Routes:
    """Build the application.

    `answer` turns frames into their replies, `snapshot` begins a copy of the records, `max_frames` bounds the bytes of a
    gathered request.
    """

    def frames(request: Request) -> Response:
        body = request.body(max_frames)
        lengths = request.environ.get(f"HTTP_{LENGTHS.upper().replace('-', '_')}", "").split(",")
        if not all(length.isascii() and length.isdigit() and len(length) < 16 for length in lengths):
            raise SyntaxProblem(f"{LENGTHS} is missing or wrong")
        sizes = list(map(int, lengths))
        if sum(sizes) != len(body):
            raise SyntaxProblem(f"{LENGTHS} says {sum(sizes)} bytes, the body has {len(body)}")
        cut = []
        start = 0
        for size in sizes:
            cut.append(body[start : start + size])
            start += size
        ids = request.environ.get(_IDS)
        if ids and len(ids) <= MAX_REQUEST_IDS and _listed(ids):
            request.id = ids  # whose requests these are: for the log
        replies = answer(cut)
        return Response(b"".join(replies), headers={LENGTHS: ",".join([str(len(reply)) for reply in replies])})

    def copy(request: Request) -> Response:
        request.query()
        disposition = {"Content-Disposition": 'attachment; filename="data.mdb"'}
        return Response(b"", ANY_BYTES, headers=disposition, stream=snapshot())

    routes = Routes()
    data.mount(routes)
    routes.add("POST", PATH, frames, doc=FRAMES, role=Role.PEER, lane=MEMBERS)
    routes.add("GET", "/v1/snapshot", copy, doc=SNAPSHOT, role=Role.ADMIN)
    return routes
