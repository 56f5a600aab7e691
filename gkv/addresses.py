"""Addresses as people write them: hosts, HOST:PORT and URLs, read strictly and shown in one way. Pure.

A host is an IPv4 address, an IPv6 address (in brackets where a port follows; RFC 3986, 3.2.2) or a name. Promises: what
is the same address is the same text; nothing here asks for the addresses of a name. A zone of an address (`fe80::1%eth0`) is
refused: it means something on one machine alone. Leaves to others: which addresses a name has, `gkv.net.dialing`.
"""

import re
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network
_MAX_NAME = 253
_name = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*").fullmatch
_number = re.compile(r"[0-9]+|0x[0-9a-f]*").fullmatch
_port = re.compile(r"[0-9]{1,5}").fullmatch
_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}").fullmatch


class Address(NamedTuple):
    """A host, without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{shown(self.host)}:{self.port}"

    @property
    def id(self) -> str:
        """The id of a node that is made at this address: the address itself, without brackets and beginning with a letter or a
        digit, as ids do; for a name that is too long a number made of it.

        >>> Address("10.0.0.5", 9000).id, Address("::1", 9000).id
        ('10.0.0.5:9000', '0::1:9000')
        """
        made = f"{'0' * self.host.startswith(':')}{self.host}:{self.port}"
        return made if _id(made) else f"node-{blake2b(str(self).encode(), digest_size=8).hexdigest()}"


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return a host as an address, None for a name."""
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(host)
    except ValueError:
        return None


def read_host(text: str) -> str:
    """Read a host, with or without brackets around an IPv6 address. Raise ValueError.

    >>> read_host("[0:0::1]"), read_host("::ffff:10.0.0.5"), read_host("Node-1.Example")
    ('::1', '10.0.0.5', 'node-1.example')
    """
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") and ":" in text else text
    found = literal(bare)
    if found is not None and "%" not in bare:
        mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
        return str(mapped or found)
    lower = bare.lower()
    # A name whose last label is a number is read as an IPv4 address by some and not by others ("127.1", "0x0").
    if len(lower) > _MAX_NAME or not _name(lower) or _number(lower.rpartition(".")[2]):
        raise ValueError("a host name, an IPv4 address, or an IPv6 address without a zone")
    return lower


def read_address(text: str, port: int = 0) -> Address:
    """Read HOST:PORT; where `port` is given, also HOST alone. An IPv6 address is in brackets. Raise ValueError.

    >>> str(read_address("[::1]:9000"))
    '[::1]:9000'
    """
    host, colon, digits = text.rpartition(":")
    if text.endswith("]") or not colon:
        host, digits = text, str(port)
    if ":" in host and not host.startswith("["):
        raise ValueError("HOST:PORT, with an IPv6 address in brackets")
    if not _port(digits) or not 0 < int(digits) < 65_536:
        raise ValueError("HOST:PORT, with a port from 1 to 65535")
    return Address(read_host(host), int(digits))


def read_url(text: str) -> tuple[str, Address]:
    """Read `http(s)://HOST:PORT`, with or without a slash behind; return scheme and address. Raise ValueError."""
    scheme, _, rest = text.partition("://")
    if scheme not in ("http", "https"):
        raise ValueError("http://HOST:PORT or https://HOST:PORT")
    return scheme, read_address(rest.removesuffix("/"))


def is_url(text: str) -> bool:
    """Return whether a text is the URL of a member, in the one way in which those are written."""
    try:
        scheme, address = read_url(text)
    except ValueError:
        return False
    return text == f"{scheme}://{address}"


def address_of(url: str) -> Address:
    """Return the address in a URL that was read before."""
    parts = urlsplit(url)
    return Address(parts.hostname or "", parts.port or 0)


def shown(host: str) -> str:
    """Return a host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def plain(host: str) -> str:
    """Return the address of a connection's other side as `read_host` would: one of IPv4 may come as one of IPv6, and an IPv6
    address with the zone that it has here.

    >>> plain("::ffff:10.0.0.5"), plain("fe80::1%eth0")
    ('10.0.0.5', 'fe80::1')
    """
    if ":" not in host:
        return host
    found = literal(host.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found or host)


def is_loopback(host: str) -> bool:
    """Return whether a host is this very machine, whatever machine that is: an address of loopback, or localhost."""
    found = literal(host)
    return host == "localhost" if found is None else found.is_loopback


def is_unspecified(host: str) -> bool:
    """Return whether a host stands for all addresses of a machine."""
    found = literal(host)
    return found is not None and found.is_unspecified


# -- as settings have them


def urls(text: str) -> tuple[str, ...]:
    """Read the URLs at which a proxy may be, separated by commas; one at least."""
    try:
        read = [read_url(part.strip()) for part in text.split(",")]
    except ValueError:
        raise ValueError("a URL such as http://127.0.0.1:8080, or several with commas between") from None
    return tuple(dict.fromkeys(f"{scheme}://{address}" for scheme, address in read))


def host(text: str) -> str:
    """Read the address or the name of this machine to listen at."""
    try:
        return read_host(text)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address such as 127.0.0.1 or ::1, or a host name") from None


def advertised(text: str) -> Address | None:
    """Read the address that others are told; None for ""."""
    if not text:
        return None
    address = read_address(text)
    if is_unspecified(address.host):
        raise ValueError("HOST:PORT of an address that others can be sent to")
    return address


def names(text: str) -> list[str]:
    """Read host names or addresses, separated by commas; none for "". An IPv6 address gets the brackets that it has in Host."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    made = [shown(read_host(part)) if ":" in part else part for part in found if ":" not in part or _is_host(part)]
    if len(made) < len(found) or not all(re.fullmatch(r"[A-Za-z0-9._~-]{1,253}|\[[0-9a-f:]+\]", part) for part in made):
        raise ValueError("host names, separated by commas")
    return made


def _is_host(text: str) -> bool:
    try:
        read_host(text)
    except ValueError:
        return False
    return True


def networks(text: str) -> tuple[Network, ...]:
    """Read IPv4 and IPv6 networks, separated by commas; none for ""."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",")) if text else ()
    except ValueError:
        raise ValueError("networks such as 10.0.0.0/24 or fd00::/8, or addresses, separated by commas") from None
