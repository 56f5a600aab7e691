"""Conditions in the head of a request: If-Match and If-None-Match (RFC 9110, sections 13.1.1, 13.1.2 and 13.2.2).

If-Match is by strong comparison, so a weak tag never matches there; If-None-Match is by weak comparison. A tag that cannot be
one of gkv's matches nothing. Nothing here switches greenlets.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gkv.errors import SyntaxProblem
from gkv.model import Version
from gkv.replication.conditions import ANY_VALUE, NO_VALUE, Condition

_entity_tag = re.compile(r'[ \t,]*(W/)?"([!#-~\x80-\xff]*)"[ \t]*(?:,|\Z)').match

MATCH, NONE_MATCH = "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"


@dataclass(frozen=True, slots=True)
class Tags:
    """The content of one header: anything that is there, or the versions of strong and of weak entity tags."""

    anything: bool = False
    strong: tuple[Version, ...] = ()
    weak: tuple[Version, ...] = ()


def if_match(environ: Mapping[str, Any]) -> Condition | None:
    """Return the condition that If-Match makes, None without one; raise SyntaxProblem.

    >>> print(if_match({MATCH: 'W/"000100000000000700000000000000a1"'}), if_match({MATCH: "*"}), if_match({}))
    =* !* =* None
    """
    if MATCH not in environ:
        return None
    tags = read_tags(environ[MATCH], "If-Match")
    return ANY_VALUE if tags.anything else Condition.one_of(tags.strong)


def if_none_match(environ: Mapping[str, Any]) -> Condition | None:
    """Return the condition that If-None-Match makes, None without one or when it holds whatever is there; raise SyntaxProblem.

    >>> print(if_none_match({NONE_MATCH: 'W/"000100000000000700000000000000a1", "x"'}), if_none_match({NONE_MATCH: '"x"'}))
    !000100000000000700000000000000a1 None
    """
    if NONE_MATCH not in environ:
        return None
    tags = read_tags(environ[NONE_MATCH], "If-None-Match")
    return NO_VALUE if tags.anything else Condition.none_of(tags.strong + tags.weak)


def of_write(environ: Mapping[str, Any]) -> str | None:
    """Return the condition of a write, as a frame has it, None for none; both headers must hold."""
    match, none_match = if_match(environ), if_none_match(environ)
    if match is None:
        return None if none_match is None else str(none_match)
    return str(match.and_also(none_match))


class Unmet(Enum):
    """Why conditions in a head do not hold. The value is said to the client."""

    NO_VALUE = "there is no value"
    VALUE = "there is a value"
    NAMED = "one of the versions that If-None-Match names is there"
    WEAK = "weak tags never match in If-Match"
    OTHER = "what is there is another version"


def why_unmet(environ: Mapping[str, Any], present: Version | None) -> Unmet:
    """Return why a condition did not hold, with this version there, None for no value.

    >>> why_unmet({NONE_MATCH: "*"}, Version(1, 2)).value
    'there is a value'
    """
    if present is None:
        return Unmet.NO_VALUE
    match = if_match(environ)
    if match is None or match.holds(present):
        return Unmet.VALUE if read_tags(environ[NONE_MATCH], "If-None-Match").anything else Unmet.NAMED
    return Unmet.WEAK if present in read_tags(environ[MATCH], "If-Match").weak else Unmet.OTHER


def read_tags(text: str, name: str) -> Tags:
    """Read the value of a header with this name; several lines of it came as one list. Raise SyntaxProblem."""
    text = text.strip(" \t,")
    if text == "*":
        return Tags(anything=True)
    strong: list[Version] = []
    weak: list[Version] = []
    at = 0
    while at < len(text):  # a list of nothing but commas is an empty one (RFC 9110, 5.6.1)
        match = _entity_tag(text, at)
        if match is None:
            raise SyntaxProblem(f"{name} is a list of entity tags in double quotes, or *")
        at = match.end()
        with suppress(ValueError):  # it is no version of gkv's
            (weak if match[1] else strong).append(Version.parse(match[2]))
    return Tags(strong=tuple(strong), weak=tuple(weak))
