"""A node's side of membership: it calls in at its proxy four times a second, and at once when it has a new document."""

import http.client
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlsplit

import ujson
from gevent.event import Event

from gkv.clock import boot_time
from gkv.cluster import news
from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Member, State
from gkv.errors import Forbidden, GkvError, Unauthorized
from gkv.log import say
from gkv.net.tls import Tls, explain

INTERVAL = 0.25
SILENT_AFTER = 3.0
"""Seconds without an answer of the proxy after which that is shown."""
_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 1.0
_TIMEOUT = 2.0
_MAX_ANSWER = 4 << 20

PATH = "/v1/cluster/nodes"


class Refused(Exception):
    """The proxy will not take this node, now or later."""


class _NotYetError(Exception):
    """The proxy cannot be reached, or takes the node later."""


class CallingMember(Protocol):
    """The member that calls in."""

    news: Event

    @property
    def line(self) -> Member | None:
        """Its line in the document in force."""

    def call_in(self, *, show: bool) -> CallIn:
        """Return its words, with its document if that is to be shown."""

    def adopt(self, document: Document) -> bool:
        """Take over a document; return whether it is in force now."""


class Caller:
    """Calls in for a member, and gives it each document.

    `token` returns the bearer token that proves that a member is calling, "" for none.
    """

    def __init__(
        self,
        proxy: str,
        url: str,
        member: CallingMember,
        say: Callable[[str], None] = say,
        token: Callable[[], str] = lambda: "",
        tls: Tls | None = None,
        awaited: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`url` is the member's own; `awaited` returns those for one of which keys of its wait, as nobody acts for them."""
        self._awaited = awaited
        self._tls = tls
        self._proxy = proxy
        # A node can only enlist the address that it calls from, and the system would choose another where there are several.
        # From 127.0.0.1 no other machine can be called, and the proxy says best what is wrong with that.
        host = urlsplit(url).hostname or ""
        self._source = (host, 0) if host not in ("", "127.0.0.1") else None
        self._member = member
        self._say = say
        self._token = token
        self._answered_at = boot_time()
        self._joined = False
        self._shows = False
        self._quiet_about = ""
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Call in for ever. Raise Refused when the proxy refuses a node that has never been a member. Switches greenlets."""
        backoff = _FIRST_BACKOFF
        while True:
            self._member.news.clear()
            wait = INTERVAL
            try:
                call = self._member.call_in(show=self._shows)
                self._answered(call, self._call(call))
                backoff = _FIRST_BACKOFF
            except _NotYetError as error:
                self._say_once(f"waiting for the proxy at {self._proxy}: {error}")
                wait = backoff * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, hides nothing
                backoff = min(INTERVAL if call.standby else _LONGEST_BACKOFF, backoff * 2)
            except Refused as error:
                if not self._joined:
                    raise
                self._say_once(f"the proxy at {self._proxy} refuses this node: {error}")
            except GkvError as error:
                self._say_once(f"cannot take over what the proxy says: {error}")
            self._member.news.wait(wait)

    def _answered(self, call: CallIn, document: Document) -> None:
        """Take over the document of the proxy unless it is older than the one that is here, and then show that next time; of
        another cluster's, show the one that is here as well.
        """
        has_one = call.order != (0, 0)
        same = call.cluster == document.cluster
        older = same and document.order < call.order
        differs = same and document.order == call.order and not call.has(document)
        self._shows = has_one and (older or differs or not same)
        taken = not older and self._member.adopt(document)
        line = self._member.line
        foreign = call.cluster not in (None, document.cluster)
        if line is None or not taken:
            if line is None and foreign and not call.bare:
                self._say_once(
                    f"this directory is of cluster {call.cluster}; the proxy at {self._proxy} has {document.cluster} "
                    f"unless the members of the first all show their documents"
                )
            return
        if line.empty and not self._joined:
            self._say_once(news.of_this_node(document, line, self._awaited(), self._proxy))
        elif line.state is State.UP and line.weight and not foreign:
            first, self._joined = not self._joined, True
            self._say_once(f"member of cluster {document.cluster} at {self._proxy}")
            if first and document.replicas > 1 and (others := news.of_settings(line, call.node.weight, call.zone, self._proxy)):
                self._say(others)

    def _say_once(self, line: str) -> None:
        """Say a line unless it was the last one said: a proxy that stays away is news once."""
        if line != self._quiet_about:
            self._quiet_about = line
            self._say(line)

    @property
    def silence(self) -> str:
        """A few words about a proxy that has not answered for a while, "" else. Without one nothing fails over."""
        seconds = boot_time() - self._answered_at
        return f"silent for {seconds:.0f} s" if seconds >= SILENT_AFTER else ""

    def _call(self, call: CallIn) -> Document:
        body = ujson.dumps(call.to_json())
        headers = {"Content-Type": "application/json"}
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            status, text = self._exchange(body, headers)
            self._answered_at = boot_time()
            answer = ujson.loads(text)
            if status == 200:
                return Document.from_json(answer)
            detail = str(answer.get("detail", ""))
            retryable = bool(answer.get("retryable", True))
        except (OSError, http.client.HTTPException) as error:
            why = explain(error) if isinstance(error, OSError) else str(error)
            raise _NotYetError(why or type(error).__name__) from None
        except (ValueError, AttributeError) as error:
            raise _NotYetError(f"what answers there is no gkv-proxy ({error})") from None
        if status == Unauthorized.status or answer.get("type") == f"urn:gkv:problem:{Forbidden.code}":
            raise Refused(
                "the proxy refuses this node's peer token" if token else "the proxy asks for a peer token (--peer-tokens)"
            )
        if retryable:
            raise _NotYetError(detail)
        raise Refused(detail)

    def _exchange(self, body: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Send a call over the connection that is there, or else over a new one. Switches greenlets."""
        connection = self._connection
        if connection is not None:
            with suppress(OSError, http.client.HTTPException):  # the proxy has closed it meanwhile, or is another one
                return self._attempt(connection, body, headers)
        self._connection = connection = self._new_connection()
        return self._attempt(connection, body, headers)

    def _attempt(self, connection: http.client.HTTPConnection, body: str, headers: dict[str, str]) -> tuple[int, bytes]:
        done = False
        try:
            connection.request("POST", PATH, body, headers)
            response = connection.getresponse()
            text = response.read(_MAX_ANSWER)
            done = response.status == 200 and response.isclosed()
        finally:
            if not done:
                connection.close()
                self._connection = None
        return response.status, text

    def _new_connection(self) -> http.client.HTTPConnection:
        address = urlsplit(self._proxy).netloc
        if self._tls is None:
            return http.client.HTTPConnection(address, timeout=_TIMEOUT, source_address=self._source)
        return http.client.HTTPSConnection(address, timeout=_TIMEOUT, source_address=self._source, context=self._tls.client)
