"""Whether a call may enlist a process at the address that it names: a node enlists itself, and no other.

Promises: of callers that prove nothing the address is their own, or a name that has it; of those that prove to be members it
may be any but one of loopback, as what lies between may translate addresses. Leaves to others: that the process answers there
(`gkv.cluster.reach`). Looks a name up, and switches greenlets for that; an answer that fits is remembered, of `_MOST` names.
"""

from time import monotonic

from gkv.addresses import address_of, is_loopback, literal, plain
from gkv.errors import InvalidMember, Unavailable
from gkv.net.dialing import hosts_of

_MOST = 1_024
_WITHIN = 1.0
"""Seconds for the lookup of a name."""


class Callers:
    """The names that were found to be a caller's."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()

    def check(self, url: str, caller: str, *, proved: bool) -> None:
        """Raise InvalidMember or Unavailable if a call that comes from the address `caller` may not name this URL. With
        `proved` it has shown that a member makes it.
        """
        host = address_of(url).host
        if host == caller or (host, caller) in self._known:
            return
        if is_loopback(host) and is_loopback(caller) and (":" in host) != (":" in caller):  # one machine's two loopbacks
            return
        if proved and not is_loopback(host):
            return
        if literal(host) is not None:
            raise InvalidMember(
                f"the url names {host}, but the call comes from {caller}; a node can only enlist itself. It is told with "
                "--advertise where it is, and may call from elsewhere if it has a token (--peer-tokens)",
                pointers=[("/url", "not the caller's address")],
            )
        self._look_up(host, caller)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known.add((host, caller))

    def _look_up(self, host: str, caller: str) -> None:
        try:
            found = [plain(one) for one in hosts_of(host, monotonic() + _WITHIN)]
        except OSError as error:
            raise Unavailable(f"the url names {host}: {error.strerror or error}", retry_after=1) from None
        if caller in found:
            return
        raise Unavailable(
            f"the url names {host}, which is {', '.join(found)} here, but the call comes from {caller}", retry_after=1
        )
