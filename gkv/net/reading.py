"""One request as it comes over a link: its head, and its body as a whole.

Both may come in any number of pieces. Everything here may switch greenlets, and raises what
`Link.receive` does.
"""

from collections.abc import Callable
from io import BytesIO

from gkv.net.admission import Gate, no_memory
from gkv.net.http1 import MAX_HEAD, ChunkedBody, Head, diagnose
from gkv.net.link import Link
from gkv.net.turn import give_way
from gkv.net.waits import State

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def skip_empty_line(link: Link) -> None:
    """Drop one empty line in front of a request, where some clients end a body with it (RFC 9112,
    2.2). The buffer has a byte before and afterwards.

    The connection stays between two requests: nobody is late with one by that.
    """
    buffer = link.buffer
    if buffer[:1] != b"\r":
        return
    while len(buffer) < 2:
        buffer += link.receive()
    if buffer[:2] == b"\r\n":
        del buffer[:2]
        if not buffer:
            buffer += link.receive()


def read_head(link: Link) -> bytes:
    """Return the next head, with the empty line at its end; the buffer has its first byte.

    Raise the first thing that is wrong in a head that has not come whole.
    """
    buffer = link.buffer
    if link.wait.state is State.IDLE:
        link.enter(State.HEAD)
    checked = 0
    while (end := buffer.find(b"\r\n\r\n", max(0, checked - 3), MAX_HEAD + 4)) < 0:
        error = diagnose(bytes(buffer[: MAX_HEAD + 4]))
        if error is not None:
            raise error
        checked = len(buffer)
        buffer += link.receive()
    data = bytes(buffer[: end + 4])
    del buffer[: end + 4]
    return data


def read_body(link: Link, head: Head, gate: Gate, charge: Callable[[int], bool], max_body: int) -> bytes:
    """Return the body that belongs to a head, for which `charge` reserves memory if it has not come
    in one piece.

    Raise Overloaded when there is none, and what is wrong with a chunked body.
    """
    length, buffer = head.length, link.buffer
    chunked = length < 0
    if (chunked or len(buffer) < length) and not charge(len(buffer) if chunked else length):
        raise no_memory()
    if head.expects_continue and not buffer:
        link.send(_CONTINUE, gate)
    link.enter(State.BODY)
    link.wait.received = len(buffer)
    if chunked:
        return _read_chunks(link, charge, max_body)
    if len(buffer) >= length:
        body = bytes(buffer[:length])
        del buffer[:length]
        return body
    # It grows where it stays: of a bytearray 31 MiB would have to be copied in the end, which takes
    # 10 ms.
    pieces = BytesIO()
    pieces.write(buffer)
    buffer.clear()
    while (left := length - pieces.tell()) > 0:
        chunk = link.receive()
        if len(chunk) > left:
            buffer += chunk[left:]
            chunk = chunk[:left]
        pieces.write(chunk)
    return pieces.getvalue()


def _read_chunks(link: Link, charge: Callable[[int], bool], max_body: int) -> bytes:
    """Return a chunked body, for whose first bytes in the buffer memory was reserved."""
    buffer, wait = link.buffer, link.wait
    charged = len(buffer)
    decoder = ChunkedBody(max_body)
    while (body := decoder.feed(buffer)) is None:
        if decoder.has_more:
            give_way()
            continue
        buffer += link.receive()
        if wait.received > charged:
            if not charge(wait.received - charged):
                raise no_memory()
            charged = wait.received
    return body
