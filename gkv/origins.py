"""Origins of web pages (RFC 6454), as settings name them and as browsers say them in `Origin`."""

import re

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_origin = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?").fullmatch


def origins(text: str) -> tuple[str, ...]:
    """Read origins, separated by commas, or `*` for all; none for "". Raise ValueError, with what it takes.

    >>> origins("https://App.example:443, http://localhost:3000")
    ('https://app.example', 'http://localhost:3000')
    """
    if text.strip() in ("", "*"):
        return tuple(text.split())
    found = []
    for part in text.lower().split(","):
        match = _origin(part.strip())
        if match is None:
            raise ValueError("origins such as https://app.example, separated by commas and without a path, or * for all")
        scheme, host, port = match.groups("")
        found.append(f"{scheme}://{host}{'' if port == _DEFAULT_PORTS.get(scheme) else port}")
    return tuple(found)
