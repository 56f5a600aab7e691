"""Who may do what: bearer tokens (RFC 6750) by role, the networks that members call from, and which web pages.

`judge` is pure: a request's environment and what its route needs in, a refusal or nothing out. It lies beside the routes, which
declare what they need, and not in `gkv.net`, which knows no paths. The server asks once for a head that comes again and again,
so what it costs (2 us with tokens set) is not paid by each request; `follow` has heads read anew when the settings change.

Promises: a token is compared in a time that depends on neither it nor those it is compared with, and is in no answer and no
line of the log. What no role has a token for is closed as soon as any role has one. Nothing here switches greenlets.
"""

import hmac
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from hashlib import sha256
from time import monotonic
from typing import Any, NamedTuple

from gkv.addresses import Network, literal
from gkv.api.cors import Cors
from gkv.config import Settings
from gkv.coordinator import Channels
from gkv.errors import ConfigError, CrossSite, Forbidden, ForbiddenAddress, GkvError, NoCertificate, Unauthorized
from gkv.log import as_warning, say
from gkv.net.server import Server
from gkv.net.tls import CERTIFICATE

_SAY_EVERY = 1.0
"""Seconds between two lines about refusals: a stranger must not fill a disk with them."""

_bearer = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-+\--~]+)").fullmatch


class Role(StrEnum):
    """Who calls; for a route, the least that may use it."""

    OPEN = "anyone"
    ANY = "anyone with a token"
    READER = "reader"
    CLIENT = "client"
    ADMIN = "admin"
    PEER = "peer"


_MAY_USE = {
    "reader": {Role.READER},
    "client": {Role.READER, Role.CLIENT},
    "admin": {Role.READER, Role.CLIENT, Role.ADMIN},
    "peer": {Role.PEER},
}
CHANGES = {Role.CLIENT, Role.ADMIN, Role.PEER}
"""What only these may use changes something, or is worth stealing as a whole."""

REASONS = ("missing", "malformed", "unknown", "role", "address", "certificate", "cross-site")


class Denial(NamedTuple):
    """Why a request is not let in; `reason` is one of `REASONS`."""

    reason: str
    error: GkvError


class Access:
    """The rules in force, and how often they refused. Until it takes settings there are no tokens, and nobody needs one."""

    def __init__(self) -> None:
        self._digests: list[tuple[bytes, str]] = []
        self._networks: tuple[Network, ...] = ()
        self.cors = Cors()
        self.peer_token = ""
        """What this process shows other members, "" for nothing."""
        self.refused = dict.fromkeys(REASONS, 0)
        self._quiet_until = 0.0
        self._unsaid = 0

    def following(self, server: Server, channels: Channels) -> Callable[[Settings], Callable[[], None]]:
        """Return what takes the rules from settings, in two steps; open connections follow at once.

        Where tokens are asked for they are until the next start: a file that is empty for a moment must not let everybody in.
        """

        def prepare(settings: Settings) -> Callable[[], None]:
            if self._digests and not any(settings.tokens.values()):
                raise ConfigError("tokens end with a restart only: none are set any more")

            def take() -> None:
                self.take(settings)
                channels.show_token(self.peer_token)
                server.forget_heads()

            return take

        return prepare

    def take(self, settings: Settings) -> None:
        """Take the rules from settings."""
        self._digests = [(_digest(token), role) for role, tokens in settings.tokens.items() for token in tokens]
        self._networks = settings.allow
        self.cors.take(settings.cors_origins)
        self.peer_token = settings.peer_tokens[0] if settings.peer_tokens else ""

    def judge(self, environ: Mapping[str, Any], needs: Role) -> Denial | None:
        """Return why a request must not use a route that needs a role, or None when it may. Leaves the environment as it is."""
        if needs is Role.PEER and self._networks and not self._is_near(environ.get("REMOTE_ADDR", "")):
            return Denial("address", ForbiddenAddress("members may not call from this address"))
        if self._digests and needs is not Role.OPEN:
            refusal = self._check_token(environ.get("HTTP_AUTHORIZATION", ""), needs)
            if refusal is not None:
                return refusal
        if needs is Role.PEER and not environ.get(CERTIFICATE, True):
            return Denial("certificate", NoCertificate("members show a certificate in this call, signed by the cluster's CA"))
        if needs in CHANGES and ("HTTP_SEC_FETCH_SITE" in environ or "HTTP_ORIGIN" in environ):
            return None if self._is_welcome(environ, needs) else _judge_site(environ)
        return None

    def _is_welcome(self, environ: Mapping[str, Any], needs: Role) -> bool:
        """Return whether a page of another site may make this call, since its origin is one of `--cors-origins`.

        Who changes the cluster has shown a token, and from an origin that is named; members are no pages.
        """
        if needs is Role.ADMIN:
            return bool(self._digests) and self.cors.names(environ)
        return needs is Role.CLIENT and self.cors.allows(environ)

    def _check_token(self, authorization: str, needs: Role) -> Denial | None:
        found = _bearer(authorization)
        if found is None:
            if authorization[:7].lower() != "bearer ":
                return Denial("missing", Unauthorized("this server asks for a bearer token", challenge="Bearer"))
            return Denial("malformed", _unknown("the Authorization header is not Bearer and one token"))
        digest = _digest(found[1])
        role = ""
        for known, owner in self._digests:  # all of them, whichever it is
            if hmac.compare_digest(known, digest):
                role = owner
        if not role:
            return Denial("unknown", _unknown("this token is not one that is valid here"))
        if needs is not Role.ANY and needs not in _MAY_USE[role]:
            return Denial(
                "role", Forbidden(f"this call needs a token of the role {needs.value}; this one is of the role {role}")
            )
        return None

    def _is_near(self, address: str) -> bool:
        found = literal(address)
        return found is not None and any(found in network for network in self._networks)

    @property
    def knows_peers(self) -> bool:
        """Whether members prove with a token that they are."""
        return bool(self._digests)

    def note(self, refusal: Denial, address: str) -> None:
        """Count a refusal, and say it unless another was said just before."""
        self.refused[refusal.reason] += 1
        now = monotonic()
        if now < self._quiet_until:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more since the last such line)" if self._unsaid else ""
        self._quiet_until = now + _SAY_EVERY
        self._unsaid = 0
        say(as_warning(f"refused a request from {address or 'an unknown address'}: {refusal.error.detail}{more}"))


def _unknown(detail: str) -> Unauthorized:
    return Unauthorized(detail, challenge='Bearer error="invalid_token"')


def _digest(token: str) -> bytes:
    return sha256(token.encode("latin-1")).digest()


def _judge_site(environ: Mapping[str, Any]) -> Denial | None:
    """Refuse what a browser sends for a page of another site (Fetch Metadata, and RFC 6454 for older ones).

    A page's address may begin with https where this server speaks HTTP: something before it may have taken TLS off.
    """
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    origin = environ.get("HTTP_ORIGIN")
    host = environ.get("HTTP_HOST", "").lower()
    ours = origin is None or (host and origin.lower() in (f"{environ['wsgi.url_scheme']}://{host}", f"https://{host}"))
    if site in ("same-origin", "none") and ours:
        return None
    return Denial("cross-site", CrossSite("a web page of another site must not make this call"))
