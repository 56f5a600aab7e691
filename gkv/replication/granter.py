"""The part of a member that copies: what it has from primaries, and what of that is not known to be
settled (W4, W8, T1).

REQUIRES: whoever calls `take` has seen that the frame is of the epoch of now, and from the primary
there.
"""

from collections.abc import Callable, Iterable, Sequence

from gkv.model import Effect, Version, Write

_NONE: frozenset[str] = frozenset()


class Frame:
    """A frame on its way to the disk."""

    __slots__ = ("arrived", "left", "number", "primary", "versions")

    def __init__(self, primary: str, number: int, versions: tuple[Version, ...], left: set[int], now: float) -> None:
        self.primary = primary
        self.number = number
        self.versions = versions
        self.left = left
        """Tokens of the commits that it waits for."""
        self.arrived = now


class Granter:
    """One process in its part as a backup or learner."""

    def __init__(self) -> None:
        self._notes: dict[str, Version] = {}
        self._keys: dict[Version, set[str]] = {}
        self._by: dict[Version, str] = {}
        """Who has sent all that is noted under a version, by the document of now. Another primary may give the same version to
        keys of its own: a version is that of a process.
        """
        self._committing: dict[int, Write] = {}
        """Writes in the commit, by token."""
        self._tokens: dict[Version, int] = {}
        """The token of the last commit of a write."""
        self._frames: dict[Frame, None] = {}
        """Those that are not on the disk, the oldest first."""
        self._last: dict[str, int] = {}
        """By primary, the greatest number of its frames under the document of now."""
        self._waiting: dict[int, list[Frame]] = {}
        """By token, the frames that wait for a commit."""
        self._whole: list[Frame] = []

    # -- what is unsettled

    def note(self, keys: Sequence[str], version: Version) -> None:
        """Note that a write of keys is not known to be settled."""
        notes = self._notes
        if not notes.keys().isdisjoint(keys):
            keys = [key for key in keys if key not in notes or notes[key] < version]
            self.forget(keys)
        if keys:
            notes.update(dict.fromkeys(keys, version))
            self._keys.setdefault(version, set()).update(keys)

    def settled(self, primary: str, versions: Iterable[Version], of: Callable[[Sequence[str]], Sequence[str]]) -> None:
        """Note that a primary says that these writes are settled, which is true of its keys: those that `of` picks.

        Other keys of such a write may have another primary by now, which has yet to ask for them (W8, T1).
        """
        for version in versions:
            noted = self._keys.get(version)
            if noted is not None and self._by.get(version) != primary:
                self.forget(of(list(noted)))
            elif noted is not None:
                self._drop(version)
                for key in noted:
                    del self._notes[key]

    def _drop(self, version: Version) -> None:
        del self._keys[version]
        self._by.pop(version, None)

    def forget(self, keys: Iterable[str]) -> None:
        """Note that nothing is left to settle of keys: they were copied, written anew, or are no longer here."""
        for key in keys:
            version = self._notes.pop(key, None)
            if version is not None:
                noted = self._keys[version]
                noted.discard(key)
                if not noted:
                    self._drop(version)

    def unsettled(self, wanted: Callable[[str], bool]) -> list[str]:
        """Return the keys with an unsettled write for which `wanted` holds."""
        return [key for key in self._notes if wanted(key)]

    def __len__(self) -> int:
        """Return how many keys are unsettled."""
        return len(self._notes)

    def is_unsettled(self, key: str) -> bool:
        return key in self._notes

    # -- frames

    def take(
        self, primary: str, number: int, writes: Sequence[Write], now: float, token: Callable[[], int]
    ) -> list[tuple[int, Write]]:
        """Take a frame; return what it hands to the commit, by token.

        Its keys are unsettled before that (F10). What is in the commit already is not handed over again.

        A damaged record may be of a later write, so it is replaced only by a frame that was sent after all others that have
        come, and a write of which no later one is noted: a primary sends no key of which a later write is settled.
        """
        is_last = number > self._last.get(primary, -1)
        if is_last:
            self._last[primary] = number
        for write in writes:
            version = write.version
            is_alone = version not in self._keys or self._by.get(version) == primary
            self.note(write.keys, version)
            if is_alone and version in self._keys:
                self._by[version] = primary
            else:
                self._by.pop(version, None)
        handed: list[tuple[int, Write]] = []
        left: set[int] = set()
        for write in writes:
            known = self._tokens.get(write.version)
            if known is None or not set(self._committing[known].keys).issuperset(write.keys):
                known = self._tokens[write.version] = token()
                repairs = is_last and self._keys.get(write.version, _NONE).issuperset(write.keys)
                self._committing[known] = _copied(write, repairs=repairs)
                handed.append((known, self._committing[known]))
            left.add(known)
        frame = Frame(primary, number, tuple([write.version for write in writes]), left, now)
        if left:
            self._frames[frame] = None
            for one in left:
                self._waiting.setdefault(one, []).append(frame)
        else:
            self._whole.append(frame)
        return handed

    def committed(self, token: int, effects: Sequence[Effect] = ()) -> bool:
        """Note that the disk has a write, and what that did to its keys; False if it is not one of a frame.

        A write that has left a damaged record as it was is not acknowledged: it comes again.
        """
        write = self._end(token)
        if write is None:
            return False
        if not write.repairs and Effect.DAMAGED in effects:
            self._give_up(token)
            return True
        for frame in self._waiting.pop(token, ()):
            frame.left.discard(token)
            if not frame.left and frame in self._frames:
                del self._frames[frame]
                self._whole.append(frame)
        return True

    def _end(self, token: int) -> Write | None:
        write = self._committing.pop(token, None)
        if write is not None and self._tokens.get(write.version) == token:
            del self._tokens[write.version]
        return write

    def _give_up(self, token: int) -> list[Frame]:
        """Forget the frames that wait for a commit, and return them: they are not acknowledged."""
        vain = [frame for frame in self._waiting.pop(token, ()) if frame in self._frames]
        for frame in vain:
            del self._frames[frame]
        return vain

    def take_whole(self) -> list[Frame]:
        """Take out the frames of which the disk has all."""
        whole, self._whole = self._whole, []
        return whole

    def failed(self, token: int) -> tuple[Write, list[Frame]] | None:
        """Note that there is no room for a write; return it and its frames, which are not acknowledged. None if it is not one
        of a frame.
        """
        write = self._end(token)
        return None if write is None else (write, self._give_up(token))

    def oldest(self) -> float | None:
        """Return when the oldest frame arrived that is not on the disk, None if there is none."""
        return next((frame.arrived for frame in self._frames), None)

    def adopt(self, mine: Callable[[str], bool]) -> None:
        """Go on under another document: no frame of an older one is acknowledged any more, and keys that are no longer here
        are forgotten.
        """
        self._frames, self._waiting, self._whole, self._by, self._last = {}, {}, [], {}, {}
        self.forget([key for key in self._notes if not mine(key)])

    def is_committing(self, key: str) -> bool:
        """Return whether a frame's write of a key is on its way to the disk."""
        return any(key in write.keys for write in self._committing.values())

    def check(self) -> list[str]:
        """Return what is wrong between the two ways in which notes are kept."""
        by_version: dict[Version, set[str]] = {}
        for key, version in self._notes.items():
            by_version.setdefault(version, set()).add(key)
        return [] if by_version == self._keys else ["notes by key and by version are not the same"]


def _copied(write: Write, *, repairs: bool) -> Write:
    return Write(write.version, write.keys, write.values, write.expires, write.tags, write.at, repairs=repairs)
