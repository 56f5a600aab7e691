"""Documents as the machines of copies see them."""

from collections.abc import Mapping, Sequence

from gkv.duties import Duties, Line, Roles
from gkv.model import Version, Write

INCARNATIONS = {"a": 10, "b": 20, "c": 30, "d": 40}


def roles(acting: str, learners: str = "", preference: str = "abc", coming: str = "") -> Roles:
    """Return the roles of members whose ids are letters."""
    return Roles(tuple(preference), tuple(coming), acting[:1] or None, tuple(acting), tuple(learners))


def lines(down: str = "", empty: str = "", others: Mapping[str, int] | None = None, since: int = 1) -> dict[str, Line]:
    """Return the lines of all members; `others` have other processes."""
    incarnations = INCARNATIONS | (others or {})
    return {one: Line(number, one in down, since, one in empty) for one, number in incarnations.items()}


def duties(
    me: str,
    epoch: int,
    *lists: Roles,
    down: str = "",
    empty: str = "",
    others: Mapping[str, int] | None = None,
    ended: Sequence[int] = (),
    min_in_sync: int = 1,
    since: int = 1,
    ring: str = "",
    coming_ring: str | None = None,
    generation: int = 1,
    key_list: int | None = None,
) -> Duties:
    """Return what a member knows of a document. A key's list is `key_list`, or its first letter is the place of it if there
    are several.
    """
    if len(lists) == 1:
        key_list = 0
    return Duties(
        me,
        (generation, epoch),
        lines(down, empty, others, since),
        lists,
        (lambda keys: [int(key[0]) for key in keys]) if key_list is None else (lambda keys: [key_list] * len(keys)),
        min_in_sync=min_in_sync,
        ring=ring,
        next=coming_ring,
        next_since=epoch if coming_ring else 0,
        ended=frozenset(ended),
    )


def version(counter: int, epoch: int = 1) -> Version:
    return Version(1 << 48 | epoch, counter)


def write(counter: int, *keys: str, epoch: int = 1, value: bytes | None = b"1") -> Write:
    return Write(version(counter, epoch), list(keys), [value] * len(keys))
