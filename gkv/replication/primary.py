"""The writes of a primary, from their admission until they are settled (W3 to W8, F16).

A write is settled when its own disk and all granters of its keys have it, by acknowledgements under
the document of now. Nothing here judges, answers or reads.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from gkv.duties import Duties
from gkv.model import Effect, Version, Write
from gkv.replication.unsettled import Unsettled

_Item = TypeVar("_Item")
_FOR_A_KEY = 100
"""Bytes that a key of a write takes beside itself and its value."""


OnOver = Callable[["Underway", bool], None]
"""Called once a write is settled, or this process stops being the primary of one of its keys: with whether it is settled."""


class Underway:
    """One write on its way; several keys, one version. Identity is what distinguishes two of them."""

    __slots__ = (
        "committed",
        "covered",
        "earlier",
        "effects",
        "failed",
        "on_over",
        "parts",
        "sent",
        "size",
        "token",
        "waits",
        "write",
    )

    def __init__(self, write: Write, token: int, on_over: OnOver | None) -> None:
        self.write = write
        self.size = size_of(write)
        self.token = token
        """Of its own commit."""
        self.committed = False
        self.effects: Sequence[Effect] = ()
        """On each key of the write as it was admitted, once its own disk has it."""
        self.failed = False
        """Never set: what a granter may have is not taken back."""
        self.on_over: dict[object, OnOver] = {self: on_over} if on_over else {}
        """By who waits for it."""
        self.parts: dict[str, Write] = {}
        """By granter, what that one is to have of it."""
        self.waits: set[str] = set()
        """Granters that have not acknowledged it."""
        self.sent: dict[str, float] = {}
        self.earlier: Sequence[Underway] = ()
        """The newest of its keys at its admission."""
        self.covered: set[str] = set()
        """Keys of which a later write is settled."""

    def is_covered(self, keys: Sequence[str]) -> bool:
        """Return whether a later write of each of these keys is settled; mostly there is none."""
        return bool(self.covered) and self.covered.issuperset(keys)


class Primary:
    """All writes on their way of one process."""

    def __init__(self) -> None:
        self.unsettled: Unsettled[Underway] = Unsettled()
        self._by_version: dict[Version, Underway] = {}
        self._by_token: dict[int, Underway] = {}
        self.size = 0
        """About how many bytes they take."""
        self._new: list[Underway] = []
        """Those that were not handed over yet."""
        self._untold: dict[str, list[Version]] = {}
        """By granter, settled writes that it has not been told of."""

    def __len__(self) -> int:
        return len(self._by_version)

    def admit(self, write: Write, duties: Duties, token: int, on_over: OnOver | None = None) -> Underway:
        """Take in a write, which is the newest of its keys from now on."""
        underway = Underway(write, token, on_over)
        newest = self.unsettled.newest
        if self.unsettled.touch(write.keys):
            underway.earlier = list(dict.fromkeys(newest[key] for key in write.keys if key in newest))
        self._direct(underway, duties)
        self._add(underway)
        self._new.append(underway)
        return underway

    def _add(self, underway: Underway) -> None:
        self._by_version[underway.write.version] = underway
        self._by_token[underway.token] = underway
        self.size += underway.size
        self.unsettled.admit(underway)

    def _direct(self, underway: Underway, duties: Duties) -> None:
        """Determine who is to have a write: all granters of its keys."""
        write = underway.write
        underway.parts = {granter: _part(write, keys) for granter, keys in self._targets(write, duties).items()}
        underway.waits = {granter for granter in underway.parts if self._needs(underway, granter)}
        underway.sent = {}

    def _targets(self, write: Write, duties: Duties) -> dict[str, Sequence[str]]:
        """Return the keys that each granter copies."""
        keys, roles = write.keys, duties.roles
        lists = duties.lists_of(keys)
        of = {place: roles[place].granters for place in set(lists)}
        targets: dict[str, Sequence[str]] = {}
        for granter in dict.fromkeys([granter for granters in of.values() for granter in granters]):
            some = [place for place, granters in of.items() if granter in granters]
            targets[granter] = (
                keys if len(some) == len(of) else [key for key, place in zip(keys, lists, strict=True) if place in some]
            )
        return targets

    def _needs(self, underway: Underway, granter: str) -> bool:
        return not underway.is_covered(underway.parts[granter].keys)

    # -- what ends a write's waiting

    def by_token(self, token: int) -> Underway | None:
        """Return the write whose own commit has this token, None if it is over or another's."""
        return self._by_token.get(token)

    def committed(self, token: int, effects: Sequence[Effect] = ()) -> list[Underway]:
        """Note that the own disk has a write; return all that is settled by that, in order."""
        underway = self._by_token.get(token)
        if underway is None:
            return []
        underway.committed, underway.effects = True, effects
        return self._settle(underway)

    def acknowledged(self, granter: str, versions: Sequence[Version]) -> list[Underway]:
        """Note that a granter has writes, by an answer under the document of now; return all that is settled by that."""
        settled: list[Underway] = []
        for version in versions:
            underway = self._by_version.get(version)
            if underway is None:
                self._tell(granter, version)  # a frame that came again: what it says is settled long since
                continue
            underway.waits.discard(granter)
            settled += self._settle(underway)
        return settled

    def _settle(self, underway: Underway) -> list[Underway]:
        if not self._is_settled(underway) or underway.write.version not in self._by_version:
            return []
        over = [*self._settle_earlier(underway), underway]
        over.sort(key=lambda one: one.write.version)
        for one in over:
            del self._by_version[one.write.version], self._by_token[one.token]
            one.earlier = ()
            self.size -= one.size
            for granter in one.parts:
                self._tell(granter, one.write.version)
        self.unsettled.end(over)
        return over

    def _is_settled(self, underway: Underway) -> bool:
        return not underway.waits and (underway.committed or underway.is_covered(underway.write.keys))

    def _settle_earlier(self, underway: Underway) -> list[Underway]:
        """Return the earlier writes that are settled by this one: everybody has something newer of their keys (F16)."""
        over: dict[Underway, None] = {}
        todo = [(earlier, set(underway.write.keys)) for earlier in underway.earlier]
        while todo:
            earlier, keys = todo.pop()
            keys = keys.intersection(earlier.write.keys)
            if earlier.write.version not in self._by_version or keys <= earlier.covered:
                continue
            earlier.covered |= keys
            earlier.waits = {granter for granter in earlier.waits if self._needs(earlier, granter)}
            if self._is_settled(earlier):
                over[earlier] = None
            todo += [(before, keys) for before in earlier.earlier]
        return list(over)

    # -- frames

    def arrived(self, granter: str, versions: Sequence[Version], until: float) -> None:
        """Note that a granter works at writes, so that they need not be sent to it again before a time."""
        for version in versions:
            underway = self._by_version.get(version)
            if underway is not None and granter in underway.sent:
                underway.sent[granter] = until

    def unsent(self, now: float, again_after: float) -> dict[str, list[Write]]:
        """Return what is to be sent to each granter now: what never was, and what has had no answer for so long."""
        found: dict[str, list[Write]] = {}
        for underway in self._by_version.values():
            for granter in sorted(underway.waits):
                if now - underway.sent.get(granter, -again_after) >= again_after:
                    underway.sent[granter] = now
                    found.setdefault(granter, []).append(_uncovered(underway, underway.parts[granter]))
        return found

    @property
    def has_new(self) -> bool:
        """Whether something was admitted that is not handed over yet."""
        return bool(self._new)

    def take_new(self, now: float) -> tuple[list[Underway], dict[str, list[Write]]]:
        """Return the writes that are not handed over yet, which they are from now on, and what of them is to be sent to each
        granter.
        """
        new, self._new = self._new, []
        found: dict[str, list[Write]] = {}
        for underway in new:
            for granter, part in underway.parts.items():
                if granter in underway.waits and granter not in underway.sent:
                    underway.sent[granter] = now
                    found.setdefault(granter, []).append(_uncovered(underway, part))
        return new, found

    def _tell(self, granter: str, version: Version) -> None:
        self._untold.setdefault(granter, []).append(version)

    def take_untold(self, granter: str) -> tuple[Version, ...]:
        """Take what a granter is to be told with the next frame (W5)."""
        return tuple(self._untold.pop(granter, ()))

    def tell_again(self, granter: str, versions: Sequence[Version]) -> None:
        """Note that a frame that told this may be lost."""
        self._untold.setdefault(granter, []).extend(versions)

    def untold(self) -> list[str]:
        """Return who is to be told anything."""
        return list(self._untold)

    # -- another document

    def adopt(self, duties: Duties, keeps: Callable[[str], bool]) -> tuple[list[Underway], dict[str, Version]]:
        """Go on under another document: writes of keys that this process keeps being the primary of are unsettled as
        before, and wait for all granters of that document (W7).

        Returns the writes that have lost a key, which are indeterminate (W8), and those keys, with the newest of
        their versions: a backup's, from now on.
        """
        granters = {granter for roles in duties.own if roles.primary == duties.me for granter in roles.granters}
        self._untold = {granter: told for granter, told in self._untold.items() if granter in granters}
        lost: list[Underway] = []
        left: dict[str, Version] = {}
        all_open = list(self._by_version.values())
        self.unsettled, self._by_version, self._by_token, self.size = Unsettled(), {}, {}, 0
        for underway in all_open:
            # A key of which a later write is settled must not become the newest again.
            keys = [key for key in underway.write.keys if key not in underway.covered]
            kept = [key for key in keys if keeps(key)]
            if len(kept) < len(keys):
                lost.append(underway)
                left |= {key: underway.write.version for key in keys if key not in set(kept)}
            if not kept:
                continue
            underway.write = _part(underway.write, kept)
            underway.size = size_of(underway.write)
            self._direct(underway, duties)
            self._add(underway)
        self._new = [underway for underway in self._new if underway.write.version in self._by_version]
        return lost, left

    def check_settled(self) -> list[Underway]:
        """Return what is settled without another word, as there are no granters any more."""
        return [one for underway in list(self._by_version.values()) for one in self._settle(underway)]


def size_of(write: Write) -> int:
    """Return about how many bytes a write takes."""
    return _FOR_A_KEY * len(write.keys) + write.size


def _uncovered(underway: Underway, part: Write) -> Write:
    """Return what is to be sent of a part: no key of which a later write is settled, as whoever copies it may trust in that
    (`Granter.take`).
    """
    return _part(part, [key for key in part.keys if key not in underway.covered]) if underway.covered else part


def _part(write: Write, keys: Sequence[str]) -> Write:
    """Return a write of some of its keys."""
    if len(keys) == len(write.keys):
        return write
    wanted = set(keys)
    places = [place for place, key in enumerate(write.keys) if key in wanted]

    def some(of: Sequence[_Item]) -> list[_Item]:
        return [of[place] for place in places] if of else []

    return Write(write.version, some(write.keys), some(write.values), some(write.expires), some(write.tags), write.at)
