"""Filling: a learner becomes the exact copy of a primary's content, list by list (L1 to L6).

Whatever was received as a new write since the session began is left alone; all else is replaced or
dropped, whatever the versions say. So neither an old write that was never acknowledged nor a value
that was deleted meanwhile comes back (F19).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gkv.model import Duties, Record, Roles
from gkv.replication.events import Pair, pair_of

_MOST_TWICE = 4
"""Doublings of the time after which a page is asked for again."""


@dataclass(frozen=True, slots=True)
class Session:
    """The identity of one filling of one list (L1): nothing of another counts for it."""

    pair: Pair
    since: int
    """The epoch at which this member, or the ring that is to come, came to this."""
    primary: str
    incarnation: int


def session_of(roles: Roles, duties: Duties) -> Session | None:
    """Return the session that a member has of a list under a document, None if it is no learner there."""
    incarnation = None if roles.primary is None else duties.incarnation_of(roles.primary)
    if duties.me not in roles.learners or roles.primary is None or incarnation is None:
        return None
    since = duties.lines[duties.me].since if duties.me in roles.preference else duties.next_since
    return Session(pair_of(roles), since, roles.primary, incarnation)


class _Filling:
    """One session."""

    __slots__ = ("after", "asked", "asked_at", "at_end", "committing", "marks", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.marks: set[str] = set()
        """Keys of which a new write was received (L2)."""
        self.after = ""
        """The cursor at the end of what was handed to the commit."""
        self.asked: set[int] = set()
        """The numbers of the questions for the next page: whichever is answered first counts."""
        self.asked_at = 0.0
        self.committing: int | None = None
        """The token of a page on its way to the disk."""
        self.at_end = False

    @property
    def equal(self) -> bool:
        """Whether the disk has all (L5)."""
        return self.at_end and self.committing is None


@dataclass(frozen=True, slots=True)
class PageChange:
    """The changes that a page makes to the records here."""

    records: tuple[tuple[str, Record], ...]
    drops: tuple[str, ...]
    leaves: bool
    """Whether keys are left to their new writes, which may be on their way to the disk: the list is
    not equal before a commit behind them has ended (L5).
    """


class Fillings:
    """All fillings of one process."""

    def __init__(self) -> None:
        self._fillings: dict[Pair, _Filling] = {}

    def adopt(self, duties: Duties, serves: bool) -> None:
        """Go on under another document: sessions that it does not have are over, and begun anew where there is another."""
        fillings = {}
        for roles in duties.roles if serves else ():
            session = session_of(roles, duties)
            if session is not None:
                known = self._fillings.get(session.pair)
                fillings[session.pair] = known if known is not None and known.session == session else _Filling(session)
        self._fillings = fillings
        for filling in fillings.values():
            filling.asked.clear()  # an answer of an older epoch is not taken

    def mark(self, keys: Sequence[str], duties: Duties) -> None:
        """Note that a new write of keys was received."""
        if self._fillings:
            for key, place in zip(keys, duties.lists_of(keys), strict=True):
                filling = self._fillings.get(pair_of(duties.roles[place]))
                if filling is not None:
                    filling.marks.add(key)

    def is_marked(self, key: str, duties: Duties) -> bool:
        filling = self._fillings.get(pair_of(duties.roles_of(key))) if self._fillings else None
        return filling is not None and key in filling.marks

    @property
    def unequal(self) -> int:
        """Count of the lists that are not equal to their primaries' yet."""
        return sum(not filling.equal for filling in self._fillings.values())

    # -- pages

    def wanted(self, now: float, again_after: float) -> list[tuple[Session, str]]:
        """Return the sessions that need a page, with the cursor after which it begins.

        A question is asked again after `again_after`, then after twice that and so on: whoever is slow is not to have more
        to do for it.
        """
        return [
            (filling.session, filling.after)
            for filling in self._fillings.values()
            if not filling.at_end
            and filling.committing is None
            and (not filling.asked or now - filling.asked_at >= again_after * (1 << min(len(filling.asked) - 1, _MOST_TWICE)))
        ]

    def asked(self, session: Session, number: int, now: float) -> None:
        """Note that a page was asked for."""
        filling = self._fillings[session.pair]
        filling.asked.add(number)
        filling.asked_at = now

    def page(
        self,
        primary: str,
        number: int,
        records: Sequence[tuple[str, Record]],
        upto: str | None,
        held: Callable[[Pair, str, str | None], list[str]],
        token: int,
    ) -> PageChange | None:
        """Take a page by which a primary answers its question of this number, None if there is no such question any more.

        `held` says which keys of a list are here between two cursors. The commit of what is returned has this token.
        """
        for filling in self._fillings.values():
            if number in filling.asked and self._is_asked(filling, primary):
                break
        else:
            return None
        present = held(filling.session.pair, filling.after, upto)
        taken = tuple([(key, record) for key, record in records if self._takes(filling, key)])
        named = {key for key, _ in records}
        missing = [key for key in present if key not in named]
        drops = tuple([key for key in missing if self._takes(filling, key)])
        filling.asked.clear()
        if upto is None:
            filling.at_end = True
        else:
            filling.after = upto
        filling.committing = token
        return PageChange(taken, drops, leaves=len(taken) + len(drops) < len(records) + len(missing))

    def _is_asked(self, filling: _Filling, primary: str) -> bool:
        """Return whether a page of a session is this member's to give."""
        return filling.session.primary == primary

    def _takes(self, filling: _Filling, key: str) -> bool:
        """Return whether the primary's record of a key, or its absence, takes the place of what is here (L4)."""
        return key not in filling.marks

    def committed(self, token: int) -> bool:
        """Note that a page is on the disk; False if this is not the token of one that counts."""
        for filling in self._fillings.values():
            if filling.committing == token:
                filling.committing = None
                return True
        return False

    def failed(self, token: int) -> bool:
        """Note that there was no room for a page: the session begins anew."""
        for pair, filling in self._fillings.items():
            if filling.committing == token:
                anew = _Filling(filling.session)
                anew.marks = filling.marks
                self._fillings[pair] = anew
                return True
        return False

    def unmark(self, keys: Sequence[str], duties: Duties) -> None:
        """Note that new writes of keys are not on the disk in the end: pages that have left these keys to them do not count,
        so the sessions of their lists begin anew, unless the disk has all already.
        """
        for roles in duties.all_roles_of(keys) if self._fillings else ():
            filling = self._fillings.get(pair_of(roles))
            if filling is not None and not filling.equal:
                self._fillings[pair_of(roles)] = _Filling(filling.session)

    @property
    def busy(self) -> bool:
        """Whether a list is not equal yet."""
        return any(not filling.equal for filling in self._fillings.values())

    # -- reports

    def filled(self, duties: Duties) -> bool:
        """Return whether every list that this member is in has a primary, and is equal here (F2)."""
        return all(self._is_equal(roles, duties) for roles in duties.roles if duties.me in roles.preference)

    def coming(self, duties: Duties) -> bool:
        """Return the same for the lists that it is in by the ring that is to come."""
        return all(self._is_equal(roles, duties) for roles in duties.roles if duties.me in roles.coming)

    def _is_equal(self, roles: Roles, duties: Duties) -> bool:
        if roles.primary is None or duties.me in roles.acting:
            return roles.primary is not None
        filling = self._fillings.get(pair_of(roles))
        return filling is not None and filling.equal
