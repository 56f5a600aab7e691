"""A node's side of membership: it calls in at its proxy, and calls again every second."""

import http.client
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import gevent
import ujson

from gkv.cluster.document import Document, node_to_json
from gkv.errors import Forbidden, GkvError, Unauthorized
from gkv.log import say
from gkv.model import Node
from gkv.net.tls import Tls, explain

INTERVAL = 1.0
_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 2.0
_TIMEOUT = 8.0
"""Longer than a proxy lets a join wait for another."""
_MAX_ANSWER = 4 << 20

PATH = "/v1/cluster/nodes"


class Refused(Exception):
    """The proxy will not take this node, now or later."""


class _NotYetError(Exception):
    """The proxy cannot be reached, or takes the node later."""


class Caller:
    """Calls in until the proxy answers, then once a second, and gives every document to `adopt`.

    `held_cluster` returns the cluster whose records the node holds, or None; `fresh`, whether it has certainly never held any;
    `token`, the bearer token that proves that a member is calling, "" for none.
    """

    def __init__(
        self,
        proxy: str,
        node: Node,
        adopt: Callable[[Document], Any],
        held_cluster: Callable[[], str | None],
        fresh: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = say,
        token: Callable[[], str] = lambda: "",
        tls: Tls | None = None,
    ) -> None:
        self._tls = tls
        self._proxy = proxy
        self._node = node
        # A node can only enlist the address that it calls from, and the system would choose another where there are several.
        # From 127.0.0.1 no other machine can be called, and the proxy says best what is wrong with that.
        host = urlsplit(node.url).hostname or ""
        self._source = (host, 0) if host not in ("", "127.0.0.1") else None
        self._adopt = adopt
        self._held_cluster = held_cluster
        self._fresh = fresh
        self._say = say
        self._token = token
        self._joined = False
        self._quiet_about = ""

    def run(self) -> None:
        """Call in for ever. Raise Refused when the proxy refuses a node that has never been a member. Switches greenlets."""
        backoff = _FIRST_BACKOFF
        while True:
            try:
                document = self._call()
            except _NotYetError as error:
                self._say_once(f"{self._node.id}: waiting for the proxy at {self._proxy}: {error}")
                gevent.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311  # spreads retries, hides nothing
                backoff = min(_LONGEST_BACKOFF, backoff * 2)
            except Refused as error:
                if not self._joined:
                    raise
                self._say_once(f"{self._node.id}: the proxy at {self._proxy} refuses this node: {error}")
                gevent.sleep(INTERVAL)
            else:
                try:
                    self._adopt(document)
                except GkvError as error:
                    self._say_once(f"{self._node.id}: cannot take over what the proxy says: {error}")
                    gevent.sleep(INTERVAL)
                    continue
                self._joined = True
                self._say_once(f"{self._node.id}: member of cluster {document.cluster} at {self._proxy}")
                backoff = _FIRST_BACKOFF
                gevent.sleep(INTERVAL)

    def _say_once(self, line: str) -> None:
        """Say a line unless it was the last one said: a proxy that stays away is news once."""
        if line != self._quiet_about:
            self._quiet_about = line
            self._say(line)

    def _call(self) -> Document:
        body = ujson.dumps(node_to_json(self._node) | {"cluster": self._held_cluster(), "fresh": self._fresh()})
        headers = {"Content-Type": "application/json"}
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        address = urlsplit(self._proxy).netloc
        connection = http.client.HTTPConnection(address, timeout=_TIMEOUT, source_address=self._source)
        if self._tls is not None:
            connection = http.client.HTTPSConnection(
                address, timeout=_TIMEOUT, source_address=self._source, context=self._tls.client
            )
        try:
            connection.request("POST", PATH, body, headers)
            response = connection.getresponse()
            answer = ujson.loads(response.read(_MAX_ANSWER))
            if response.status == 200:
                return Document.from_json(answer)
            detail = str(answer.get("detail", ""))
            retryable = bool(answer.get("retryable", True))
        except (OSError, http.client.HTTPException) as error:
            why = explain(error) if isinstance(error, OSError) else str(error)
            raise _NotYetError(why or type(error).__name__) from None
        except (ValueError, AttributeError) as error:
            raise _NotYetError(f"what answers there is no gkv-proxy ({error})") from None
        finally:
            connection.close()
        if response.status == Unauthorized.status or answer.get("type") == f"urn:gkv:problem:{Forbidden.code}":
            raise Refused(
                "the proxy refuses this node's peer token" if token else "the proxy asks for a peer token (--peer-tokens)"
            )
        if retryable:
            raise _NotYetError(detail)
        raise Refused(detail)
