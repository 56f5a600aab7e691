"""The node's Bottle application: the data API, and the frames that coordinators send."""

from collections.abc import Callable

from gkv.api.data import DataApi
from gkv.api.http import Request, Response, Routes
from gkv.errors import SyntaxProblem
from gkv.net.channel import LENGTHS, PATH


def build_app(data: DataApi, answer: Callable[[bytes], bytes], max_frames: int) -> Routes:
    """Build the application; `answer` turns one frame into its reply, `max_frames` bounds the bytes of a gathered request."""

    def frames(request: Request) -> Response:
        body = request.body(max_frames)
        lengths = request.environ.get(f"HTTP_{LENGTHS.upper().replace('-', '_')}", "").split(",")
        if not all(length.isascii() and length.isdigit() and len(length) < 16 for length in lengths):
            raise SyntaxProblem(f"{LENGTHS} is missing or wrong")
        sizes = list(map(int, lengths))
        if sum(sizes) != len(body):
            raise SyntaxProblem(f"{LENGTHS} says {sum(sizes)} bytes, the body has {len(body)}")
        replies = []
        start = 0
        for size in sizes:
            replies.append(answer(body[start : start + size]))
            start += size
        return Response(b"".join(replies), headers={LENGTHS: ",".join(str(len(reply)) for reply in replies)})

    routes = Routes()
    data.mount(routes)
    routes.add("POST", PATH, frames)
    return routes
