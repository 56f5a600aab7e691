"""The beginning of a client's connection over TLS."""

from gkv.errors import BadFraming
from gkv.net.link import Link
from gkv.net.serving import Served, Serving
from gkv.net.tls import HandshakeFailed, Tls
from gkv.net.waits import State


def shake_hands(link: Link, serving: Serving, served: Served, tls: Tls) -> bool:
    """Begin TLS on a link; return whether the client has shown a certificate. Switches greenlets.

    Raise OSError when that fails, BadFraming when the client speaks HTTP. Of too many handshakes
    under way the oldest is cut off.
    """
    plain = link.socket
    if len(serving.handshakes) >= serving.limits.handshakes:
        oldest = next(iter(serving.handshakes))
        del serving.handshakes[oldest]
        oldest.expire()
    serving.handshakes[served] = None
    link.enter(State.HANDSHAKE)
    secured = link.socket = tls.accept(plain)
    try:
        secured.handshake()
        certified = secured.certified
    except OSError as error:
        serving.handshakes_failed += 1
        if isinstance(error, HandshakeFailed) and not link.expired:
            link.socket = plain
            if error.http:
                raise BadFraming("this port speaks TLS: its URLs begin with https://") from None
            link.linger()  # there is an alert on its way
        raise
    finally:
        serving.handshakes.pop(served, None)
    link.enter(State.IDLE)
    return certified
