"""What all calls of a client have in common."""

from gkv.client.calls import Call, Patience, perform
from gkv.client.transport import Answer, Transport


class Base:
    """A way to the servers, and the seconds that a call has."""

    def __init__(self, transport: Transport, timeout: float) -> None:
        self._transport = transport
        self._timeout = timeout

    def _perform(self, call: Call) -> Answer:
        return perform(self._transport, call, Patience(self._timeout))
