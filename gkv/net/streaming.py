"""An answer that is sent piece by piece, since nobody should hold it in memory as a whole."""

from collections.abc import Iterator

from gkv.log import as_warning, say
from gkv.net.admission import Gate
from gkv.net.link import ClientGone, Link
from gkv.net.waits import State


class Stream:
    """The body of one answer on its way: in chunks (RFC 9112, 7.1) to HTTP/1.1, up to the end of
    the connection to HTTP/1.0.
    """

    def __init__(self, link: Link, gate: Gate, pieces: Iterator[bytes], *, chunked: bool) -> None:
        self.size = 0
        """Bytes that were sent."""
        self._link = link
        self._gate = gate
        self._pieces = pieces
        self._chunked = chunked

    def send(self, head: bytes, request_id: str) -> None:
        """Send all of it, behind this head. Switches greenlets.

        An answer that fails on its way raises ClientGone, and so ends without its last chunk, or,
        where there are none, with a reset, so that nobody takes it for whole; also if it is the
        process that ends.
        """
        link, gate = self._link, self._gate
        if not self._chunked:
            link.end_with_reset(True)
        try:
            link.send(head, gate)
            for piece in self._pieces:
                if piece:  # a chunk of nothing would be the last one
                    link.send(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece, gate)
                    self.size += len(piece)
                    link.enter(State.WORK)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001  # the edge of a request: a bug must cost one answer, not the server
            say(as_warning(f"request {request_id}: the answer broke off: {error}"))
            raise ClientGone from None
        finally:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        if self._chunked:
            link.send(b"0\r\n\r\n", gate)
        else:
            link.end_with_reset(False)
