"""What somebody is likely to have meant by a name or a value that is none. Pure functions."""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

_SWITCHES = dict.fromkeys(("yes", "true", "on"), "1") | dict.fromkeys(("no", "false", "off"), "0")
_TIMES = {
    unit: words[0]
    for words in (("ms", "msec", "millisecond"), ("s", "sec", "second"), ("m", "min", "minute"), ("h", "hour"), ("d", "day"))
    for unit in words
}
_LONGEST = 64
"""Characters of a name that are looked at, and shown."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like this one; "" if none is.

    >>> nearest("--replcias", ["--replicas", "--replica-timeout"])
    '--replicas'
    """
    by_word = {_word(one): one for one in sorted(known)}
    close = get_close_matches(_word(name[:_LONGEST]), by_word, 1)
    return by_word[close[0]] if close else ""


def _word(name: str) -> str:
    """Return what makes a name differ from others of its kind: a beginning that all have would make all of them alike."""
    return re.sub("^(-+|GKV_)", "", name).replace("-", "_").lower()


def did_you_mean(found: str) -> str:
    """Return the end of a line about a mistake; "" when nothing was found."""
    return f": did you mean {found}?" if found else ""


def shown(name: str) -> str:
    """Return a name that somebody has made up, as it can be said in one line."""
    return repr(name[:_LONGEST])[1:-1]


def nearest_value(text: str, parse: Callable[[str], Any], takes: str) -> str:
    """Return a value that `parse` reads and that is as good as this text, which it does not read; "" for none. `takes` says
    what it reads.

    >>> from gkv import config
    >>> nearest_value("1MB", config.size, ""), nearest_value("30", config.duration, "")
    ('1MiB', '30s')
    """
    for value in _values(text.strip(), takes):
        try:
            parse(value)
        except ValueError:
            continue
        return value
    return ""


def _values(text: str, takes: str) -> Iterable[str]:
    """Yield what may have been meant, the likeliest first."""
    yield text
    if text.lower() in _SWITCHES:
        yield _SWITCHES[text.lower()]
    if takes.startswith("one of: "):
        yield nearest(text.lower(), takes.removeprefix("one of: ").split(", "))
    if "host name" in takes:  # a number with a unit would be one, and nobody's
        return
    if amount := re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) *([A-Za-z]*)", text):
        unit = amount[2].lower()
        yield amount[1] + _TIMES.get(unit or "s", _TIMES.get(unit.removesuffix("s"), unit))
        prefix = unit[:1].upper() if unit[:1] in ("k", "m", "g") else ""
        yield f"{amount[1]}{prefix}{'iB' if prefix else 'B'}"
    if re.fullmatch(r"[^/@]+:[0-9]+/?", text):
        yield f"http://{text}"
