"""A WSGI application on gevent's WSGI server."""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import gevent
from gevent import socket  # by name, so that it needs no patched process
from gevent.pywsgi import WSGIHandler, WSGIServer

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an IPv4 address; port 0 lets the system choose. Raise OSError, naming the address.

    TCP_NODELAY is set, and accepted sockets inherit it: pywsgi sends head and body apart, and without it every kept-alive
    request would wait 40 ms for a delayed ACK.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


class _Handler(WSGIHandler):  # type: ignore[misc]  # gevent has no types
    """Counts the requests that are being answered, so that a stop can wait for them and not for idle connections."""

    def handle_one_response(self) -> None:
        self.server.answering += 1
        try:
            super().handle_one_response()
        finally:
            self.server.answering -= 1
        if self.server.stopping:
            self.close_connection = True


class Server(WSGIServer):  # type: ignore[misc]
    """Serves an application on a listening socket, from `start` to `drain`."""

    handler_class = _Handler

    def __init__(self, app: WSGIApp, listener: socket.socket) -> None:
        super().__init__(listener, app, log=None, environ={"wsgi.multithread": False})
        self.answering = 0
        self.stopping = False

    def drain(self, seconds: float) -> bool:
        """Accept no more connections, wait for the running requests, close. Return whether all could finish.

        Switches greenlets.
        """
        self.stopping = True
        self.close()
        until = monotonic() + seconds
        while self.answering and monotonic() < until:
            gevent.sleep(0.01)
        finished = not self.answering
        self.stop(timeout=0)
        return finished
