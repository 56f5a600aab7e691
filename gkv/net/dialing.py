"""Sockets to and at addresses that may be names: the lookup of a name, connections, and what listens.

Promises: a name is looked up anew for each connection, so that one that has moved is found; its addresses are tried in the
order in which the system gives them; a lookup has the deadline of whoever asks, never holds up the hub, and is made once for
all who ask for one name at one time, for `_AT_ONCE` names at most. What is an address is not looked up. Leaves to others: how
texts are read (`gkv.addresses`), and TLS.
"""

from math import inf
from time import monotonic
from typing import Any

import gevent
from gevent import socket  # by name, so that it needs no patched process
from gevent.event import AsyncResult

from gkv.addresses import Address, literal

_AT_ONCE = 64
"""Names that are looked up at one time: a lookup that has no answer goes on in the system for as long as that likes."""

_under_way: dict[str, "AsyncResult[list[str]]"] = {}


def hosts_of(host: str, until: float) -> list[str]:
    """Return the addresses of a host in the order in which they are to be tried; an address is its own, and localhost has
    both of loopback's, whatever the system says (RFC 6761, 6.3).

    `until` is on the clock of `time.monotonic`. Raise OSError. Switches greenlets for a name.
    """
    if literal(host) is not None:
        return [host]
    if host == "localhost":
        return ["127.0.0.1", "::1"]
    result = _under_way.get(host)
    if result is None:
        if len(_under_way) >= _AT_ONCE:
            raise OSError(f"too many names are being looked up to ask for {host}")
        result = _under_way[host] = AsyncResult()
        gevent.spawn(_look_up, host, result)
    if not result.wait(max(0.0, until - monotonic())) and not result.ready():
        raise TimeoutError(f"there was no answer about the name {host} in time")
    return [*result.get_nowait()]


def _look_up(host: str, result: "AsyncResult[list[str]]") -> None:
    """Ask the system, in a thread of gevent's."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:  # which socket.gaierror is
        result.set_exception(OSError(error.errno, f"the name {host} has no address: {error.strerror}"))
    except UnicodeError:
        result.set_exception(OSError(f"{host} is no name that can be looked up"))
    else:
        result.set([*dict.fromkeys(str(address[0]) for *_, address in found)])
    finally:
        del _under_way[host]


def dial(address: tuple[str, int], until: float, each: float = inf, source: str = "") -> Any:
    """Return a connection to one of a host's addresses; it has the timeout that was left for it.

    `until` is on the clock of `time.monotonic`; `each` are the most seconds for each of the addresses, which share what is
    left. From the address `source`, if that is this machine's and of the same kind. Raise OSError, the last address's.
    Switches greenlets.
    """
    host, port = address
    failed: OSError | None = None
    hosts = hosts_of(host, until)
    for place, one in enumerate(hosts):
        left = until - monotonic()
        if failed is not None and left <= 0:
            break
        try:
            return _connect(one, port, max(0.001, min(each, left / (len(hosts) - place))), source)
        except OSError as error:
            failed = error
    raise failed or OSError(f"the name {host} has no address")


def _connect(host: str, port: int, within: float, source: str) -> Any:
    family = _family(host)
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(within)
        if source and _family(source) == family:
            _leave_from(connection, source)
        connection.connect((host, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _leave_from(connection: Any, source: str) -> None:
    """Have a connection leave from an address, unless that is none of this machine's."""
    try:
        connection.bind((source, 0))
    except OSError:
        return


def _family(host: str) -> int:
    return int(socket.AF_INET6 if ":" in host else socket.AF_INET)


def listen(host: str, port: int, within: float = 10.0) -> Any:
    """Return a socket that listens at a host, at the first of its addresses that is this machine's; port 0 lets the system
    choose. `::` is all addresses, of IPv4 too. Raise OSError, naming the address.

    TCP_NODELAY is set, and accepted sockets inherit it: with Nagle's algorithm, an answer in two pieces waits 40 ms for a
    delayed ACK.
    """
    address = Address(host, port)
    failed: OSError | None = None
    try:
        hosts = hosts_of(host, monotonic() + within)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror or error}") from None
    for one in hosts:
        try:
            return _listen(one, port)
        except OSError as error:
            failed = failed or error
    raise OSError(f"cannot listen on {address}: {failed.strerror if failed else 'it has no address'}") from None


def _listen(host: str, port: int) -> Any:
    listener = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
