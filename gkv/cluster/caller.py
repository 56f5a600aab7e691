"""A node's side of membership: it calls in at its proxy four times a second, and at once when it has a new document."""

import http.client
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol

import ujson
from gevent.event import Event

from gkv.addresses import address_of, literal
from gkv.clock import boot_time
from gkv.cluster import news
from gkv.cluster.callin import CallIn
from gkv.cluster.document import Document, Member, State
from gkv.cluster.proxies import Proxies
from gkv.errors import Forbidden, GkvError, Unauthorized
from gkv.log import as_error, as_warning, say
from gkv.net.dialing import dial
from gkv.net.tls import Tls, explain

INTERVAL = 0.25
SILENT_AFTER = 3.0
"""Seconds without an answer of the proxy after which that is shown."""
_FIRST_BACKOFF = 0.05
_LONGEST_BACKOFF = 1.0
_TIMEOUT = 2.0
_MAX_ANSWER = 4 << 20
_TROUBLES = 16
"""Lines at most about what keeps a member from its proxy, until it is there again."""

PATH = "/v1/cluster/nodes"


class Refused(Exception):
    """The proxy will not take this node, now or later."""


class _NotYetError(Exception):
    """The proxy cannot be reached, or takes the node later, which it has said then."""

    def __init__(self, why: str, *, is_said: bool = False) -> None:
        super().__init__(why)
        self.is_said = is_said


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
        proxies: Proxies,
        source: str,
        member: CallingMember,
        say: Callable[[str], None] = say,
        token: Callable[[], str] = lambda: "",
        tls: Tls | None = None,
        awaited: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`source` is the host at which the member says that it is; `awaited` returns those for one of which keys of its wait,
        as nobody acts for them.
        """
        self._awaited = awaited
        self._tls = tls
        self._proxies = proxies
        # A node can only enlist the address that it calls from, and the system would choose another where there are several.
        # From 127.0.0.1 no other machine can be called, and the proxy says best what is wrong with that.
        self._source = source if literal(source) is not None and source not in ("127.0.0.1", "::1") else ""
        self._member = member
        self._say = say
        self._token = token
        self._answered_at = boot_time()
        self._joined = False
        self._shows = False
        self._quiet_about = ""
        self._troubles: set[str] = set()
        """What was said since the proxy has taken a call: reasons may take turns."""
        self._away_since: float | None = None
        """When the proxy was found not to answer, while that is so."""
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Call in for ever. Raise Refused when the proxy refuses a node that has never been a member. Switches greenlets."""
        backoff = _FIRST_BACKOFF
        while True:
            self._member.news.clear()
            wait = INTERVAL
            try:
                call = self._member.call_in(show=self._shows)
                document = self._call(call)
                self._proxies.works()
                self._answered(call, document)
                self._troubles.clear()
                backoff = _FIRST_BACKOFF
            except _NotYetError as error:
                self._proxies.fails(str(error), stays=error.is_said)
                line = f"waiting for the proxy at {self._proxies.described}"
                self._say_trouble(line if error.is_said else as_warning(line))
                wait = backoff * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, hides nothing
                backoff = min(INTERVAL if call.standby else _LONGEST_BACKOFF, backoff * 2)
            except Refused as error:
                proxy = self._proxies.current
                self._proxies.fails(str(error), refuses=True)
                if not self._joined and self._proxies.all_refuse:
                    raise Refused(f"the proxy at {proxy} refuses this node: {error}") from None
                self._say_trouble(as_error(f"the proxy at {proxy} refuses this node: {error}"))
            except GkvError as error:
                self._say_trouble(as_error(f"cannot take over what the proxy says: {error}"))
            self._member.news.wait(wait)

    def told(self, url: str) -> None:
        """Note an address at which the proxy says that it is: it is tried once nobody answers at the one of now."""
        if (self._tls is None and url.startswith("https:")) or (self._tls is not None and not url.startswith("https:")):
            return
        if self._proxies.told(url):
            self._member.news.set()

    def _answered(self, call: CallIn, document: Document) -> None:
        """Take over the document of the proxy unless it is older than the one that is here, and then show that next time; of
        another cluster's, show the one that is here as well.
        """
        proxy = self._proxies.current
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
                self._leave()
                self._say_once(
                    as_error(
                        f"this directory is of cluster {call.cluster}; the proxy at {proxy} has {document.cluster} "
                        f"unless the members of the first all show their documents"
                    )
                )
            return
        if line.empty and not self._joined:
            self._say_once(news.of_this_node(document, line, self._awaited(), proxy))
        elif line.state is State.UP and line.weight and not foreign:
            first, self._joined = not self._joined, True
            self._say_once(f"member of cluster {document.cluster} at {proxy}")
            if first and document.replicas > 1 and (others := news.of_settings(line, call.node.weight, call.zone, proxy)):
                self._say(others)

    def _leave(self) -> None:
        """Try the next address, as another cluster is at this one."""
        self._proxies.fails("another cluster is there")
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _say_once(self, line: str) -> None:
        """Say a line unless it was the last one said."""
        if line != self._quiet_about:
            self._quiet_about = line
            self._say(line)

    def _say_trouble(self, line: str) -> None:
        """Say a line once until the proxy has taken a call: one that stays away is news once."""
        self._quiet_about = ""
        if line not in self._troubles and len(self._troubles) < _TROUBLES:
            self._troubles.add(line)
            self._say(line)

    def _note_answer(self) -> None:
        """Note that the proxy has answered, whatever it says."""
        self._answered_at = now = boot_time()
        since, self._away_since = self._away_since, None
        if since is not None and self._joined:
            self._say(f"the proxy at {self._proxies.current} answers again, after {now - since:.1f} s")

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
            self._note_answer()
            answer = ujson.loads(text)
            if status == 200:
                return Document.from_json(answer)
            detail = str(answer.get("detail", ""))
            retryable = bool(answer.get("retryable", True))
        except (OSError, http.client.HTTPException) as error:
            why = explain(error) if isinstance(error, OSError) else str(error)
            self._away_since = self._away_since or boot_time()
            raise _NotYetError(why or type(error).__name__) from None
        except (ValueError, AttributeError) as error:
            raise _NotYetError(f"what answers there is no gkv-proxy ({error})") from None
        if status == Unauthorized.status or answer.get("type") == f"urn:gkv:problem:{Forbidden.code}":
            raise Refused(
                "the proxy refuses this node's peer token" if token else "the proxy asks for a peer token (--peer-tokens)"
            )
        if retryable:
            raise _NotYetError(detail, is_said=True)
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
        address = address_of(self._proxies.current)
        sock = dial(address, monotonic() + _TIMEOUT, source=self._source)
        sock.settimeout(_TIMEOUT)
        if self._tls is None:
            connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT)
        else:
            connection = http.client.HTTPSConnection(*address, timeout=_TIMEOUT, context=self._tls.client)
            try:
                sock = self._tls.client.wrap_socket(sock, server_hostname=address.host)
            except BaseException:
                sock.close()
                raise
        connection.sock = sock
        return connection
