"""Filling: a learner becomes the exact copy of a primary's content, list by list (L1 to L6).

Where there are many records, sums of them are compared first, part by part (`Records.sums`), and
what differs is asked for in pages; else all is. A page says which of the records that the learner
has named by their fingerprints are the primary's too; all others that it covers are replaced or
dropped, whatever the versions say. Only keys of which a new write came since the session began are
left alone. So neither an old write that was never acknowledged nor a value that was deleted
meanwhile comes back (F19). Of a record that nobody can read any more the learner gets a mark that
reads as damaged: what it has itself may be older, and to have nothing would be to say that nothing is there.
And nothing is dropped that the primary was not asked for by its name: where a disk has lost a
record, the order of all records does not tell that, and the index of keys does.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

from gkv.duties import Duties, Roles
from gkv.model import Record
from gkv.replication.events import Pair, pair_of
from gkv.replication.messages import Page
from gkv.replication.records import RANGES, Parts, Range

_MOST_TWICE = 4
"""Doublings of the time after which a question is asked again."""
AT_ONCE = 6
"""Sessions that ask in one step: each looks at its records first, which takes up to 4 ms however few these are. A member
has dozens of lists, hundreds in a change of the ring: who asked for all in one step was silent meanwhile, and taken for dead.
"""
OF_ONE = 3
"""Questions that a primary has to answer at a time, but for those that it has had for long."""
_ALL: Range = ("", None)


@dataclass(frozen=True, slots=True)
class Session:
    """The identity of one filling of one list (L1): nothing of another counts for it."""

    pair: Pair
    since: int
    """The epoch at which this member, or the ring that is to come, came to this."""
    primary: str
    incarnation: int
    ring: tuple[Hashable, Hashable]
    """The rings, of now and to come, by which the list has its keys."""
    comes: bool = False
    """Whether it is filled by the change of the ring alone: the member is in the next list and not in that of now."""


def session_of(roles: Roles, duties: Duties) -> Session | None:
    """Return the session that a member has of a list under a document, None if it is no learner there."""
    incarnation = None if roles.primary is None else duties.incarnation_of(roles.primary)
    if duties.me not in roles.learners or roles.primary is None or incarnation is None:
        return None
    comes = duties.me not in roles.preference
    since = duties.next_since if comes else duties.lines[duties.me].since
    return Session(pair_of(roles), since, roles.primary, incarnation, (duties.ring, duties.next), comes)


@dataclass(frozen=True, slots=True)
class AskedPage:
    """A question for the records of some ranges."""

    ranges: tuple[Range, ...]
    keys: tuple[str, ...]
    fingerprints: tuple[int, ...]
    """Of the records that are here."""
    held: tuple[str, ...] = ()
    """All keys of which there is a record here, or is to be; any that comes until the answer is of a new write."""
    named: tuple[str, ...] = ()
    """Keys that are asked for by their names: they are dropped if the page has nothing of them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a session needs next: a page of ranges that differ, or else the sums after a cursor."""

    session: Session
    ranges: tuple[Range, ...]
    after: str
    is_clear: bool = False
    """Whether nothing is here in these ranges, so that nobody need look."""
    named: tuple[str, ...] = ()
    """Keys there that are to be dropped, if the primary has nothing of them still."""
    again: AskedPage | None = None
    """The question that is asked once more, as there was no answer: it is right still."""


class _Filling:
    """One session."""

    __slots__ = ("after", "asked", "asked_at", "at_end", "changes", "clear", "committing", "marks", "named", "session", "todo")

    def __init__(self, session: Session, *, compares: bool) -> None:
        self.session = session
        self.marks: set[str] = set()
        """Keys of which a new write was received (L2)."""
        self.after = ""
        """The cursor up to which sums were compared."""
        self.at_end = not compares
        """Whether none are left to be."""
        self.todo: list[Range] = [] if compares else [_ALL]
        """What differs as far as is known, in its order."""
        self.clear: tuple[Range, ...] = ()
        """The first of that, if nothing was here when it was asked for; what has come since is of new writes."""
        self.named: tuple[str, ...] = ()
        """Keys there that a page has made nothing of."""
        self.asked: dict[int, AskedPage | None] = {}
        """The open questions, by their numbers: whichever is answered first counts. None for one about sums."""
        self.asked_at = 0.0
        self.committing: int | None = None
        """The token of a page on its way to the disk."""
        self.changes = (0, 0)
        """The counts of records that it takes, and drops."""

    @property
    def equal(self) -> bool:
        """Whether the disk has all (L5)."""
        return self.at_end and not self.todo and self.committing is None

    @property
    def reached(self) -> str | None:
        """The cursor up to which the list is equal, None at its end."""
        if self.todo:
            return self.todo[0][0]
        return None if self.at_end else self.after

    def is_due(self, now: float, again_after: float) -> bool:
        """Return whether it is time to ask, for the first time or again, ever more rarely."""
        if self.committing is not None or self.equal:
            return False
        return not self.asked or now - self.asked_at >= again_after * (1 << min(len(self.asked) - 1, _MOST_TWICE))

    def take_out(self, asked: AskedPage, left: list[Range]) -> None:
        """Take what a page covers out of what differs, all that was asked for but for what is `left`."""
        self.todo = left + _without(self.todo, asked.ranges)
        self.clear = () if asked.held else tuple(left)
        self.named = ()


def _split(asked: AskedPage, page: Page) -> tuple[list[Range], list[Range]]:
    """Return what a page covers of the ranges that were asked for, and what is left of them."""
    covered, left = list(asked.ranges[: page.whole]), list(asked.ranges[page.whole :])
    if page.upto is not None and left:
        begin, end = left[0]
        covered.append((begin, page.upto))
        left[0] = (page.upto, end)
    return covered, left


def _without(todo: Sequence[Range], asked: Sequence[Range]) -> list[Range]:
    """Return what is left of ranges without those that were asked for, which are the first of them, the last one perhaps in
    part.
    """
    left = list(todo[len(asked) :])
    upto, end = asked[-1][1], todo[len(asked) - 1][1]
    return left if upto is None or upto == end else [(upto, end), *left]


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of ascending numbers that follow each other."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


@dataclass(frozen=True, slots=True)
class PageChange:
    """The changes that a page makes to the records here."""

    records: tuple[tuple[str, Record], ...]
    drops: tuple[str, ...]
    leaves: bool
    """Whether keys are left to their new writes, which may be on their way to the disk: the list is
    not equal before a commit behind them has ended (L5).
    """
    damaged: tuple[str, ...] = ()
    """Keys that are to read as damaged."""


@dataclass(slots=True)
class Progress:
    """How far the fillings of a process are."""

    lists: int = 0
    equal: int = 0
    """Of these lists."""
    taken: int = 0
    """Records that were taken from primaries since the process began."""
    dropped: int = 0


class Fillings:
    """All fillings of one process."""

    def __init__(self, compares: Callable[[], bool]) -> None:
        """Begin with none; `compares` tells whether a session that begins now compares sums first."""
        self._compares = compares
        self._fillings: dict[Pair, _Filling] = {}
        self._rests: dict[tuple[str, bool], float] = {}
        """By primary, and whether it is for the change of the ring alone, until when it is asked for no page."""
        self._paused = False
        """Whether nothing is asked for by the change of the ring."""
        self._taken = self._dropped = 0

    def adopt(self, duties: Duties, serves: bool) -> None:
        """Go on under another document: sessions that it does not have are over, and begun anew where there is another."""
        fillings = {}
        for roles in duties.own if serves else ():
            session = session_of(roles, duties)
            if session is not None:
                known = self._fillings.get(session.pair)
                fillings[session.pair] = known if known is not None and known.session == session else self._begun(session)
        self._fillings = fillings
        self._rests = {about: until for about, until in self._rests.items() if about[0] in duties.lines}
        self._paused = duties.pace.paused
        for filling in fillings.values():
            filling.asked.clear()  # an answer of an older epoch is not taken

    def _begun(self, session: Session) -> _Filling:
        return _Filling(session, compares=self._compares())

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

    # -- questions

    def wanted(self, now: float, again_after: float, is_summed_up: Callable[[str], bool] = lambda _after: True) -> list[Wanted]:
        """Return what sessions are to ask for now, those first that have asked longest ago. A question is asked again after
        `again_after`, then after twice that and so on: whoever is slow is not to have more to do for it. `is_summed_up` tells
        whether the own sums after a cursor are there; to wait for them costs the primary nothing.
        """
        due, under_way = [], Counter[str]()
        for filling in self._going:
            primary = filling.session.primary
            if filling.committing is not None or (filling.asked and now - filling.asked_at < again_after):
                under_way[primary] += 1
            elif filling.is_due(now, again_after) and (
                now >= self._rests.get((primary, filling.session.comes), now) if filling.todo else is_summed_up(filling.after)
            ):
                due.append(filling)
        found: list[Wanted] = []
        for filling in sorted(due, key=lambda one: one.asked_at):
            if len(found) == AT_ONCE:
                break
            if under_way[filling.session.primary] < OF_ONE:
                under_way[filling.session.primary] += 1
                again = next(reversed(filling.asked.values())) if filling.asked else None
                ranges = filling.clear or tuple(filling.todo[:RANGES])
                found.append(Wanted(filling.session, ranges, filling.after, bool(filling.clear), filling.named, again))
        return found

    def asked(self, session: Session, number: int, now: float, page: AskedPage | None = None) -> None:
        """Note that a page was asked for, or sums."""
        filling = self._fillings[session.pair]
        filling.asked[number] = page
        filling.asked_at = now

    def _answered(self, primary: str, number: int) -> _Filling | None:
        for filling in self._fillings.values():
            if number in filling.asked and self._is_asked(filling, primary):
                return filling
        return None

    def _is_asked(self, filling: _Filling, primary: str) -> bool:
        """Return whether what a member answers is a session's to take."""
        return filling.session.primary == primary

    # -- answers

    def sums(self, primary: str, number: int, theirs: Sequence[int | None], own: Callable[[Pair, str], Parts]) -> bool:
        """Take the sums of the next parts, and note which of them differ; False if they answer no question any more."""
        filling = self._answered(primary, number)
        if filling is None or filling.asked[number] is not None:
            return False
        filling.asked.clear()
        parts = own(filling.session.pair, filling.after)
        count, ends = len(parts.sums), parts.ends
        if len(theirs) == count:
            both = zip(parts.sums, theirs, strict=True)
            differ = [place for place, (one, other) in enumerate(both) if one is None or one != other]
        else:  # there are other parts than here: nothing can be said of any
            differ = list(range(count))
        for first, last in _runs(differ):
            begin = ends[first - 1] if first else filling.after
            filling.todo.append((begin or "", ends[last]))
        upto = ends[count - 1]
        filling.after, filling.at_end = upto or "", upto is None
        return True

    def page(
        self, primary: str, page: Page, held: Callable[[Pair, str, str | None], list[str]], token: int, now: float
    ) -> PageChange | None:
        """Take a page by which a primary answers its question of this number. None if there is no such question any more, or
        if there are keys of which the page has nothing and the question did not name: it is asked anew.

        `held` says which keys of a list are here between two cursors. The commit of what is returned has this token.
        """
        filling = self._answered(primary, page.number)
        asked = None if filling is None else filling.asked[page.number]
        if filling is None or asked is None:
            return None
        filling.asked.clear()
        self._rests[primary, filling.session.comes] = now + page.rest
        covered, left = _split(asked, page)
        same = {asked.keys[place] for place in page.same if place < len(asked.keys)}
        same.update([key for key, _ in page.records], page.damaged)
        others = [key for key in self._held(asked, page, covered, partial(held, filling.session.pair)) if key not in same]
        taken = tuple([(key, record) for key, record in page.records if self._takes(filling, key)])
        drops = tuple([key for key in others if self._takes(filling, key)])
        damaged = tuple([key for key in page.damaged if self._takes(filling, key)])
        if not set(asked.named).issuperset(drops):
            filling.named = tuple(dict.fromkeys([*asked.named, *drops]))
            return None
        filling.take_out(asked, left)
        filling.committing = token
        filling.changes = len(taken) + len(damaged), len(drops)
        given = len(page.records) + len(page.damaged) + len(others)
        return PageChange(taken, drops, sum(filling.changes) < given, damaged)

    def _held(
        self, asked: AskedPage, page: Page, covered: Sequence[Range], held: Callable[[str, str | None], list[str]]
    ) -> Sequence[str]:
        """Return the keys that are here of what a page covers, but perhaps for some of new writes."""
        if not asked.held or page.whole >= len(asked.ranges):
            return asked.held
        return [key for begin, end in covered for key in held(begin, end)]

    def _takes(self, filling: _Filling, key: str) -> bool:
        """Return whether the primary's record of a key, or its absence, takes the place of what is here (L4)."""
        return key not in filling.marks

    def committed(self, token: int) -> bool:
        """Note that a page is on the disk; False if this is not the token of one that counts."""
        for filling in self._fillings.values():
            if filling.committing == token:
                filling.committing = None
                self._taken += filling.changes[0]
                self._dropped += filling.changes[1]
                return True
        return False

    def failed(self, token: int) -> bool:
        """Note that there was no room for a page: the session begins anew."""
        for pair, filling in self._fillings.items():
            if filling.committing == token:
                anew = self._begun(filling.session)
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
                self._fillings[pair_of(roles)] = self._begun(filling.session)

    @property
    def busy(self) -> bool:
        """Whether a list is not equal yet, and is to be."""
        return any(not filling.equal for filling in self._going)

    @property
    def _going(self) -> list[_Filling]:
        """Those that are not paused."""
        return [filling for filling in self._fillings.values() if not (self._paused and filling.session.comes)]

    def rests_until(self, now: float) -> float:
        """Return when the next question is due that a rest keeps from being asked; infinity if there is none."""
        return min([until for until in self._rests.values() if until > now], default=inf)

    # -- reports

    @property
    def progress(self) -> Progress:
        """How far all of them are."""
        equal = sum(filling.equal for filling in self._fillings.values())
        return Progress(len(self._fillings), equal, self._taken, self._dropped)

    @property
    def reached(self) -> list[str | None]:
        """Return for each list up to which cursor it is equal, None at its end."""
        return [filling.reached for filling in self._fillings.values()]

    def filled(self, duties: Duties) -> bool:
        """Return whether every list that this member is in has a primary, and is equal here (F2)."""
        return all(self._is_equal(roles, duties) for roles in duties.own if duties.me in roles.preference)

    def coming(self, duties: Duties) -> bool:
        """Return the same for the lists that it is in by the ring that is to come."""
        return all(self._is_equal(roles, duties) for roles in duties.own if duties.me in roles.coming)

    def _is_equal(self, roles: Roles, duties: Duties) -> bool:
        if roles.primary is None or duties.me in roles.acting:
            return roles.primary is not None
        filling = self._fillings.get(pair_of(roles))
        return filling is not None and filling.equal
