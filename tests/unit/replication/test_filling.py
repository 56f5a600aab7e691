"""Filling: sessions, marks, pages, and what is reported."""

from dataclasses import replace

import pytest

from gkv.model import Duties, Record
from gkv.replication.filling import Fillings, PageChange, Session, session_of
from tests.duties import duties, roles, version

LEARNS = duties("c", 4, roles("ab", "c"), since=3)
SESSION = Session((("a", "b", "c"), ()), 3, "a", 10)


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
            Session((("a", "b", "c"), ("a", "b", "d")), 6, "a", 10),
            id="by the ring that is to come",
        ),
        pytest.param(duties("c", 5, roles("", "c"), since=3), None, id="nobody is the primary"),
        pytest.param(duties("c", 5, roles("abc")), None, id="it acts"),
    ],
)
def test_session_is_of_one_list_one_admission_and_one_process_of_the_primary(document: Duties, session: Session | None) -> None:
    """L1, F5."""
    assert session_of(document.roles[0], document) == session


def begun(document: Duties = LEARNS) -> Fillings:
    fillings = Fillings()
    fillings.adopt(document, True)
    for session, after in fillings.wanted(0.0, 0.25):
        assert after == ""
        fillings.asked(session, 1, 0.0)
    return fillings


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
    ],
)
def test_page_takes_the_place_of_all_but_new_writes(
    marked: str, held: list[str], records: list[tuple[str, Record]], replacement: PageChange
) -> None:
    fillings = begun()
    fillings.mark(marked, LEARNS)
    assert fillings.page("a", 1, records, None, lambda *_: held, 9) == replacement
    assert not fillings.filled(LEARNS)
    assert fillings.committed(9)
    assert fillings.filled(LEARNS)  # L5
    assert fillings.is_marked("k", LEARNS) is bool(marked)


@pytest.mark.promise("I23")
def test_page_of_another_member_than_the_primary_is_not_taken() -> None:
    fillings = begun()
    assert fillings.page("b", 1, [("k", record(1))], None, lambda *_: ["x"], 9) is None
    assert not fillings.committed(9)
    assert fillings.page("a", 1, [], None, lambda *_: [], 9) is not None


def test_pages_follow_each_other_and_are_asked_for_again() -> None:
    fillings = begun()
    assert fillings.wanted(0.2, 0.25) == []
    assert fillings.wanted(0.25, 0.25) == [(SESSION, "")]
    fillings.asked(SESSION, 2, 0.25)
    assert fillings.wanted(0.7, 0.25) == []  # who is slow is asked ever more rarely
    assert fillings.wanted(0.75, 0.25) == [(SESSION, "")]
    asked = []
    fillings.page("a", 1, [], "m", lambda pair, after, upto: asked.append((pair, after, upto)) or [], 9)  # late, and as good
    assert asked == [(SESSION.pair, "", "m")]
    assert fillings.page("a", 2, [], "m", lambda *_: [], 9) is None  # that is behind
    assert fillings.wanted(0.3, 0.25) == []  # not before it is on the disk
    fillings.committed(9)
    assert fillings.wanted(0.3, 0.25) == [(SESSION, "m")]
    assert fillings.busy


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
    fillings.page("a", 1, [], "m", lambda *_: [], 9)
    fillings.committed(9)
    fillings.asked(SESSION, 2, 0.3)
    fillings.adopt(after, True)
    assert [after for _, after in fillings.wanted(0.3, 0.25)] == (["m"] if goes_on else [""])
    assert fillings.is_marked("k", after) is goes_on
    assert fillings.page("a", 2, [], None, lambda *_: [], 10) is None


def test_page_for_which_there_is_no_room_begins_the_session_anew() -> None:
    fillings = begun()
    fillings.mark("k", LEARNS)
    fillings.page("a", 1, [], None, lambda *_: [], 9)
    assert fillings.failed(9)
    assert not fillings.filled(LEARNS)
    assert fillings.wanted(0.0, 0.25) == [(SESSION, "")]
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
    fillings = Fillings()
    fillings.adopt(document, True)
    assert (fillings.filled(document), fillings.coming(document)) == (filled, coming)
