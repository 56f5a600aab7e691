"""Filling: sessions, marks, pages, and what is reported."""

from collections import Counter
from dataclasses import replace

import pytest

from gkv.duties import Duties, Line, Roles
from gkv.model import Record
from gkv.pace import Pace
from gkv.replication.filling import AT_ONCE, OF_ONE, AskedPage, Fillings, PageChange, Session, session_of
from gkv.replication.messages import Page
from gkv.replication.records import Parts
from tests.duties import duties, roles, version

LEARNS = duties("c", 4, roles("ab", "c"), since=3)
SESSION = Session((("a", "b", "c"), ()), 3, "a", 10, ("", None))


def record(counter: int) -> Record:
    return Record(version(counter), b"1")


@pytest.mark.promise("I23")
@pytest.mark.parametrize(
    ("document", "session"),
    [
        pytest.param(LEARNS, SESSION, id="a learner"),
        pytest.param(duties("c", 5, roles("ab", "c"), since=3), SESSION, id="the next epoch"),
        pytest.param(duties("c", 5, roles("ab", "c"), since=5), replace(SESSION, since=5), id="admitted anew"),
        pytest.param(
            duties("c", 5, roles("ba", "c"), since=3), replace(SESSION, primary="b", incarnation=20), id="another primary"
        ),
        pytest.param(
            duties("c", 5, roles("ab", "c"), since=3, others={"a": 11}), replace(SESSION, incarnation=11), id="its next process"
        ),
        pytest.param(
            duties("d", 6, roles("abc", "d", coming="abd"), since=3, coming_ring="R"),
            Session((("a", "b", "c"), ("a", "b", "d")), 6, "a", 10, ("", "R"), comes=True),
            id="by the ring that is to come",
        ),
        pytest.param(
            duties("c", 5, roles("ab", "c"), since=3, ring="R"),
            replace(SESSION, ring=("R", None)),
            id="other keys by another ring",
        ),
        pytest.param(duties("c", 5, roles("", "c"), since=3), None, id="nobody is the primary"),
        pytest.param(duties("c", 5, roles("abc")), None, id="it acts"),
    ],
)
def test_session_is_of_one_list_one_admission_and_one_process_of_the_primary(document: Duties, session: Session | None) -> None:
    """L1, F5."""
    assert session_of(document.roles[0], document) == session


ALL = (("", None),)


def begun(document: Duties = LEARNS, known: tuple[str, ...] = (), held: tuple[str, ...] = ()) -> Fillings:
    """Return fillings that have asked for all: some of what is here by fingerprint, and by name what may be dropped."""
    fillings = Fillings(lambda: False)
    fillings.adopt(document, True)
    for wanted in fillings.wanted(0.0, 0.25):
        assert wanted.ranges == ALL
        fillings.asked(wanted.session, 1, 0.0, AskedPage(ALL, known, tuple(range(len(known))), held, held))
    return fillings


def page(
    number: int,
    *records: tuple[str, Record],
    same: tuple[int, ...] = (),
    upto: str | None = None,
    rest: float = 0,
    damaged: tuple[str, ...] = (),
) -> Page:
    """Return a page that covers all, or what is up to a cursor."""
    return Page(number, records, same, 0 if upto else 1, upto, rest, damaged)


def next_ranges(fillings: Fillings, now: float) -> list[tuple[tuple[str, str | None], ...]]:
    return [wanted.ranges for wanted in fillings.wanted(now, 0.25)]


@pytest.mark.promise("I23")
@pytest.mark.parametrize(
    ("marked", "held", "records", "replacement"),
    [
        pytest.param("", [], [("k", record(1))], PageChange((("k", record(1)),), (), leaves=False), id="a record"),
        pytest.param("", ["k"], [("k", record(1))], PageChange((("k", record(1)),), (), leaves=False), id="whatever is here"),
        pytest.param(
            "", ["k", "x"], [("x", record(1))], PageChange((("x", record(1)),), ("k",), leaves=False), id="L4: dropped"
        ),
        pytest.param("k", ["k"], [("k", record(1))], PageChange((), (), leaves=True), id="F19, L2: a new write is left alone"),
        pytest.param("k", ["k"], [], PageChange((), (), leaves=True), id="and is not dropped"),
        pytest.param("", ["s", "t"], [], PageChange((), ("t",), leaves=False), id="what is the same stays"),
    ],
)
def test_page_takes_the_place_of_all_but_new_writes(
    marked: str, held: list[str], records: list[tuple[str, Record]], replacement: PageChange
) -> None:
    fillings = begun(known=("r", "s"), held=tuple(held))
    fillings.mark(marked, LEARNS)
    assert fillings.page("a", page(1, *records, same=(1,)), lambda *_: [], 9, 0.0) == replacement
    assert not fillings.filled(LEARNS)
    assert fillings.committed(9)
    assert fillings.filled(LEARNS)  # L5
    assert fillings.is_marked("k", LEARNS) is bool(marked)


@pytest.mark.promise("I23")
@pytest.mark.parametrize("held", [("k",), ()])
@pytest.mark.parametrize(
    ("marked", "change"),
    [
        pytest.param("", PageChange((), (), leaves=False, damaged=("k",)), id="whatever is here"),
        pytest.param("k", PageChange((), (), leaves=True), id="but a new write"),
    ],
)
def test_key_that_a_page_names_as_damaged_is_to_read_so(marked: str, change: PageChange, held: tuple[str, ...]) -> None:
    fillings = begun(held=held)
    fillings.mark(marked, LEARNS)
    assert fillings.page("a", page(1, damaged=("k",)), lambda *_: [], 9, 0.0) == change
    assert fillings.committed(9)
    assert fillings.filled(LEARNS)


@pytest.mark.promise("I23", "I14")
def test_nothing_is_dropped_that_was_not_asked_for_by_its_name() -> None:
    """A look at all records does not find what the primary's disk has lost."""
    fillings = begun()
    fillings.asked(SESSION, 2, 0.0, AskedPage(ALL, (), (), ("k", "x", "y")))
    assert fillings.page("a", page(2, ("y", record(1))), lambda *_: [], 9, 0.0) is None
    [wanted] = fillings.wanted(0.0, 0.25)
    assert (wanted.ranges, wanted.named) == (ALL, ("k", "x"))
    fillings.asked(SESSION, 3, 0.0, AskedPage(ALL, (), (), ("k", "x", "y", "z"), wanted.named))
    assert fillings.page("a", page(3, ("y", record(1)), damaged=("x",)), lambda *_: [], 9, 0.0) is None
    [wanted] = fillings.wanted(0.0, 0.25)
    assert wanted.named == ("k", "x", "z")
    fillings.asked(SESSION, 4, 0.0, AskedPage(ALL, (), (), ("k", "x", "y", "z"), wanted.named))
    change = fillings.page("a", page(4, ("y", record(1)), damaged=("x",)), lambda *_: [], 9, 0.0)
    assert change == PageChange((("y", record(1)),), ("k", "z"), leaves=False, damaged=("x",))
    fillings.committed(9)
    assert fillings.wanted(0.0, 0.25) == []
    assert fillings.filled(LEARNS)


@pytest.mark.promise("I23")
def test_page_of_another_member_than_the_primary_is_not_taken() -> None:
    fillings = begun()
    assert fillings.page("b", page(1, ("k", record(1))), lambda *_: ["x"], 9, 0.0) is None
    assert not fillings.committed(9)
    assert fillings.page("a", page(1), lambda *_: [], 9, 0.0) is not None


def test_pages_follow_each_other_and_are_asked_for_again() -> None:
    fillings = begun(held=("x",))
    assert next_ranges(fillings, 0.2) == []
    assert next_ranges(fillings, 0.25) == [ALL]
    fillings.asked(SESSION, 2, 0.25, AskedPage(ALL, (), ()))
    assert next_ranges(fillings, 0.7) == []  # who is slow is asked ever more rarely
    assert next_ranges(fillings, 0.75) == [ALL]
    asked = []
    late = page(1, upto="m")
    fillings.page("a", late, lambda pair, after, upto: asked.append((pair, after, upto)) or [], 9, 0.3)  # and as good
    assert asked == [(SESSION.pair, "", "m")]
    assert fillings.page("a", page(2, upto="m"), lambda *_: [], 9, 0.3) is None  # that is behind
    assert next_ranges(fillings, 0.3) == []  # not before it is on the disk
    fillings.committed(9)
    assert next_ranges(fillings, 0.3) == [(("m", None),)]
    assert fillings.busy


def test_few_lists_are_asked_for_at_a_time_and_a_question_without_an_answer_is_asked_as_it_was() -> None:
    """Who looked for all lists at once, and again for each question, would be silent for as long as that takes."""
    lists = [*[roles("a", "c", preference=f"{name}c") for name in "pqrstuv"], roles("b", "c", preference="wc")]
    fillings = Fillings(lambda: False)
    fillings.adopt(duties("c", 5, *lists, since=3), True)
    first = fillings.wanted(0.0, 0.25)
    assert [one.session.primary for one in first] == ["a"] * OF_ONE + ["b"]
    asked = AskedPage(ALL, (), (), ("x",))
    for number, one in enumerate(first):
        assert one.again is None
        fillings.asked(one.session, number, 0.0, asked)
    assert fillings.wanted(0.2, 0.25) == []
    again = fillings.wanted(0.25, 0.25)
    assert [one.session for one in again] == [one.session for one in first]
    assert all(one.again is asked for one in again)
    for one in again:
        fillings.asked(one.session, 9, 0.25, asked)
    fillings.page("a", page(0, ("x", record(1))), lambda *_: [], 7, 0.3)
    assert fillings.wanted(0.3, 0.25) == []  # before that is on the disk
    fillings.committed(7)
    [following] = fillings.wanted(0.3, 0.25)
    assert following.session.pair == (("s", "c"), ())
    assert following.again is None


def test_page_covers_some_ranges_and_the_rest_is_asked_for_next() -> None:
    fillings = begun()
    ranges = (("", "c"), ("f", "h"), ("m", "p"))
    fillings.asked(SESSION, 2, 0.0, AskedPage((("", "c"),), (), (), ("b",), ("b",)))
    held: list[tuple[str, str | None]] = []
    fillings.page("a", Page(2, (), (), 1), lambda _, after, upto: held.append((after, upto)) or [], 9, 0.0)
    fillings.committed(9)
    assert next_ranges(fillings, 0.0) == [(("c", None),)]
    fillings._fillings[SESSION.pair].todo = list(ranges)
    fillings.asked(SESSION, 3, 0.0, AskedPage((*ranges[:2], ("m", "n")), (), (), ("b", "m")))
    fillings.page("a", Page(3, (), (), 1, "g"), lambda _, after, upto: held.append((after, upto)) or [], 9, 0.0)
    assert held == [("", "c"), ("f", "g")]  # only where a page covers less than was asked for
    fillings.committed(9)
    assert next_ranges(fillings, 0.0) == [(("g", "h"), ("m", "n"), ("n", "p"))]


def test_rest_of_what_was_empty_here_need_not_be_looked_at_again() -> None:
    fillings = begun()
    fillings.asked(SESSION, 2, 0.0, AskedPage((("", "f"), ("h", "p")), (), ()))
    fillings._fillings[SESSION.pair].todo = [("", "f"), ("h", None)]
    fillings.page("a", Page(2, (("b", record(1)),), (), 0, "c"), lambda *_: ["never"], 9, 0.0)
    fillings.committed(9)
    (wanted,) = fillings.wanted(0.0, 0.25)
    assert (wanted.ranges, wanted.is_clear) == ((("c", "f"), ("h", "p")), True)
    fillings.asked(SESSION, 3, 0.0, AskedPage(wanted.ranges, (), ()))
    fillings.page("a", Page(3, (("d", record(1)),), (), 2), lambda *_: [], 10, 0.0)
    fillings.committed(10)
    (wanted,) = fillings.wanted(0.0, 0.25)
    assert (wanted.ranges, wanted.is_clear) == ((("p", None),), False)
    assert begun(held=("x",)).wanted(9.0, 0.25)[0].is_clear is False


def test_primary_that_rests_is_asked_for_no_page() -> None:
    """The rate of a source."""
    fillings = begun()
    fillings.page("a", page(1, ("k", record(1)), upto="k", rest=0.4), lambda *_: [], 9, 1.0)
    fillings.committed(9)
    assert fillings.rests_until(1.2) == 1.4
    assert next_ranges(fillings, 1.39) == []
    assert next_ranges(fillings, 1.4) == [(("k", None),)]


def compared(theirs: list[int | None], own: Parts) -> Fillings:
    """Return fillings that have compared sums."""
    fillings = Fillings(lambda: True)
    fillings.adopt(LEARNS, True)
    (wanted,) = fillings.wanted(0.0, 0.25)
    assert (wanted.ranges, wanted.after) == ((), "")
    fillings.asked(SESSION, 1, 0.0)
    assert not fillings.sums("b", 1, theirs, lambda *_: own)
    assert fillings.page("a", page(1), lambda *_: [], 9, 0.0) is None  # sums were asked for
    assert fillings.sums("a", 1, theirs, lambda *_: own)
    return fillings


@pytest.mark.promise("I23")
@pytest.mark.parametrize(
    ("theirs", "own", "todo", "after"),
    [
        pytest.param([1, 2], Parts([1, 2], ["c", None]), (), None, id="equal"),
        pytest.param([1, 2], Parts([9, 2], ["c", None]), (("", "c"),), None, id="one differs"),
        pytest.param([1, 9, 8], Parts([1, 2, 3], ["c", "f", "h"]), (("c", "h"),), "h", id="neighbours are one range"),
        pytest.param([9, 2, 8], Parts([1, 2, 3], ["c", "f", None]), (("", "c"), ("f", None)), None, id="two ranges"),
        pytest.param([None], Parts([0], [None]), (("", None),), None, id="a primary that cannot tell"),
        pytest.param([0], Parts([None], [None]), (("", None),), None, id="a learner that cannot tell"),
        pytest.param([None], Parts([None], [None]), (("", None),), None, id="both"),
        pytest.param([1], Parts([1, 2], ["c", "f"]), (("", "f"),), "f", id="other parts than here"),
    ],
)
def test_parts_whose_sums_differ_are_asked_for(
    theirs: list[int | None], own: Parts, todo: tuple[tuple[str, str | None], ...], after: str | None
) -> None:
    fillings = compared(theirs, own)
    assert [(one.ranges, one.after) for one in fillings.wanted(0.0, 0.25)] == ([(todo, after or "")] if todo or after else [])
    assert fillings.filled(LEARNS) is (not todo and after is None)
    assert fillings.reached == [todo[0][0] if todo else after]


def test_sums_are_compared_again_once_what_differs_is_here() -> None:
    fillings = compared([9], Parts([1], ["c"]))
    fillings.asked(SESSION, 2, 0.0, AskedPage((("", "c"),), (), ()))
    fillings.page("a", Page(2, (("b", record(1)),), (), 1), lambda *_: [], 9, 0.0)
    assert fillings.wanted(0.0, 0.25) == []
    fillings.committed(9)
    (wanted,) = fillings.wanted(0.0, 0.25)
    assert (wanted.ranges, wanted.after) == ((), "c")
    fillings.asked(SESSION, 3, 0.0)
    assert fillings.sums(
        "a", 3, [5], lambda pair, after: Parts([5], [None]) if (pair, after) == (SESSION.pair, "c") else Parts([], [])
    )
    assert fillings.filled(LEARNS)
    assert (fillings.progress.lists, fillings.progress.equal, fillings.progress.taken) == (1, 1, 1)


@pytest.mark.promise("I23")
@pytest.mark.parametrize(
    ("after", "goes_on"),
    [
        pytest.param(duties("c", 5, roles("ab", "c"), since=3), True, id="same session"),
        pytest.param(duties("c", 5, roles("ba", "c"), since=3), False, id="F5: another primary"),
        pytest.param(duties("c", 5, roles("ab", "c"), since=5), False, id="admitted anew"),
    ],
)
def test_another_session_begins_anew_and_an_answer_of_an_older_epoch_is_not_taken(after: Duties, goes_on: bool) -> None:
    fillings = begun()
    fillings.mark("k", LEARNS)
    fillings.page("a", page(1, upto="m"), lambda *_: [], 9, 0.0)
    fillings.committed(9)
    fillings.asked(SESSION, 2, 0.3, AskedPage((("m", None),), (), ()))
    fillings.adopt(after, True)
    assert next_ranges(fillings, 0.3) == [(("m" if goes_on else "", None),)]
    assert fillings.is_marked("k", after) is goes_on
    assert fillings.page("a", page(2), lambda *_: [], 10, 0.3) is None


def test_page_for_which_there_is_no_room_begins_the_session_anew() -> None:
    fillings = begun()
    fillings.mark("k", LEARNS)
    fillings.page("a", page(1), lambda *_: [], 9, 0.0)
    assert fillings.failed(9)
    assert not fillings.filled(LEARNS)
    assert next_ranges(fillings, 0.0) == [ALL]
    assert fillings.is_marked("k", LEARNS)


@pytest.mark.parametrize(
    ("document", "filled", "coming"),
    [
        pytest.param(duties("c", 4, roles("abc")), True, True, id="acts"),
        pytest.param(duties("c", 4, roles("ab", "c")), False, True, id="not equal"),
        pytest.param(duties("c", 4, roles("", "")), False, True, id="F2: nobody is the primary"),
        pytest.param(duties("d", 4, roles("ab", preference="ab")), True, True, id="in no list"),
        pytest.param(
            duties("d", 4, roles("ab", "d", preference="ab", coming="ad"), coming_ring="R"), True, False, id="is to come"
        ),
    ],
)
def test_report_is_about_every_list(document: Duties, filled: bool, coming: bool) -> None:
    fillings = Fillings(lambda: False)
    fillings.adopt(document, True)
    assert (fillings.filled(document), fillings.coming(document)) == (filled, coming)


def test_of_many_lists_few_ask_at_once_and_each_has_its_turn() -> None:
    """Who looked at all of them in one step said nothing for seconds, and was taken for dead."""
    fillings = Fillings(lambda: False)
    primaries = [f"p{number % 6}" for number in range(60)]
    lists = tuple(Roles((one, f"x{place}"), ("me",), one, (one,), ("me",)) for place, one in enumerate(primaries))
    lines = {name: Line(7) for name in ("me", *(f"p{number}" for number in range(6)))}
    fillings.adopt(Duties("me", (1, 1), lines, lists, lambda keys: [0] * len(keys)), serves=True)
    seen: dict[Session, None] = {}
    now, number = 100.0, 0
    for _ in range(200):
        found = fillings.wanted(now, 0.25, lambda _after: True)
        assert len(found) <= AT_ONCE
        assert all(count <= OF_ONE for count in Counter(one.session.primary for one in found).values())
        for one in found:
            number += 1
            seen[one.session] = None
            fillings.asked(one.session, number, now, AskedPage(one.ranges, (), ()))
        now += 0.02  # and nobody answers
    assert len(seen) == 60


COMES = roles("ab", "c", preference="ab", coming="ac")
BACK = roles("bd", "c", preference="bcd", coming="bcd")


def test_paused_change_asks_for_nothing_but_what_has_too_few_copies_and_goes_on_where_it_was() -> None:
    """A list of which the member is one by the ring of now has lost a copy: that is filled whatever is paused."""
    document = duties("c", 6, COMES, BACK, since=3, coming_ring="R")
    fillings = Fillings(lambda: False)
    fillings.adopt(document, True)
    assert {one.session.comes for one in fillings.wanted(0.0, 0.25)} == {True, False}
    [coming] = [one for one in fillings.wanted(0.0, 0.25) if one.session.comes]
    fillings.asked(coming.session, 1, 0.0, AskedPage(ALL, (), ()))
    assert fillings.page("a", page(1, ("0k", record(1)), upto="0k"), lambda *_: [], 1, 0.0) is not None
    assert fillings.committed(1)
    paused = replace(document, order=(1, 7), pace=Pace(paused=True))
    fillings.adopt(paused, True)
    assert [one.session.comes for one in fillings.wanted(1.0, 0.25)] == [False]
    fillings.asked(session_of(BACK, paused), 2, 1.0, AskedPage(ALL, (), ()))  # type: ignore[arg-type]
    assert fillings.page("b", page(2), lambda *_: [], 2, 1.0) is not None
    assert fillings.committed(2)
    assert fillings.filled(paused)
    assert not fillings.coming(paused)
    assert not fillings.busy
    fillings.adopt(replace(document, order=(1, 8)), True)
    assert fillings.busy
    assert [one.ranges for one in fillings.wanted(2.0, 0.25)] == [(("0k", None),)]


def test_source_that_rests_for_a_change_is_asked_for_what_has_too_few_copies() -> None:
    document = duties("c", 6, COMES, roles("ab", "c", preference="abc", coming="abc"), since=3, coming_ring="R")
    fillings = Fillings(lambda: False)
    fillings.adopt(document, True)
    [coming] = [one for one in fillings.wanted(0.0, 0.25) if one.session.comes]
    fillings.asked(coming.session, 1, 0.0, AskedPage(ALL, (), ()))
    assert fillings.page("a", page(1, ("0k", record(1)), upto="0k", rest=9.0), lambda *_: [], 1, 0.0) is not None
    assert fillings.committed(1)
    assert [one.session.comes for one in fillings.wanted(1.0, 0.25)] == [False]
