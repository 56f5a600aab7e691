"""The client itself."""

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

from gkv.client.calls import Call, not_understood
from gkv.client.listing import Listings
from gkv.client.single import SingleKeys
from gkv.client.transport import Transport
from gkv.client.values import value_of

TIMEOUT = 10.0
"""Seconds that a call has. A failover takes about one."""
CONNECTIONS = 8
"""Connections that are kept to each endpoint, and requests that may be on their way there at once."""


class Client(SingleKeys, Listings):
    """The keys of a cluster, through one of its endpoints at a time."""

    def __init__(
        self,
        *endpoints: str,
        token: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        timeout: float = TIMEOUT,
        connections: int = CONNECTIONS,
    ) -> None:
        """`endpoints` are URLs of proxies or nodes of one cluster, by default the proxy on port 8080 of this machine.

        Over https a server's certificate must be signed by an authority in the file `ca`, or one that the system trusts;
        `cert` and `key` are the files of the client's own, if it has any. `timeout` are the seconds that each call has, or
        each batch or page of one; `connections` bounds the requests that are on their way to one endpoint. Connects to nobody
        yet.
        """
        urls: Sequence[str] = endpoints or ("http://127.0.0.1:8080",)
        super().__init__(Transport(urls, token=token, ca=ca, cert=cert, key=key, connections=connections), timeout)

    def within(self, seconds: float) -> Self:
        """Return the same client, on the same connections, whose calls have so many seconds.

        >>> client.within(0.5).get("nobody") is None
        True
        """
        other = copy(self)
        other._timeout = seconds
        return other

    def ask(self, path: str) -> Any:
        """Return the JSON document that a GET of a path is answered with.

        >>> client.ask("/v1/info")["limits"]["items"]
        10000
        """
        call = Call("GET", path)
        answer = self._perform(call)
        try:
            return value_of(answer.body)
        except ValueError:
            raise not_understood(answer, call) from None

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
