"""The progress of a filling, and the lines about it."""

import pytest

from gkv.cluster.callin import FillProgress
from gkv.node.progress import FillNews, progress_of
from gkv.replication.filling import AskedPage, Fillings, Progress
from gkv.replication.messages import Page
from tests.duties import duties, roles
from tests.unit.replication.test_filling import record

LISTS = duties("c", 4, roles("ab", "c"), roles("ba", "c", preference="bac"), since=3)
ALL = (("", None),)
HALF, THREE_QUARTERS = "8" + "0" * 15, "c" + "0" * 15 + "key"


def begun() -> Fillings:
    """Return the fillings of two lists, which have asked for all; the questions are 1 and 2."""
    fillings = Fillings(lambda: False)
    fillings.adopt(LISTS, True)
    for number, wanted in enumerate(fillings.wanted(0.0, 0.25), 1):
        fillings.asked(wanted.session, number, 0.0, AskedPage(ALL, ("gone",), (1,), ("gone",), ("gone",)))
    return fillings


def take(fillings: Fillings, primary: str, number: int, upto: str | None) -> None:
    """Take a page of one record up to a cursor, and have it on the disk."""
    page = Page(number, ((f"k{number}", record(1)),), (), 0 if upto else 1, upto, 0)
    assert fillings.page(primary, page, lambda _pair, _begin, _end: ["gone"], 7, 0.0) is not None
    fillings.committed(7)


def test_member_that_learns_nothing_has_no_progress() -> None:
    fillings = Fillings(lambda: False)
    assert progress_of(fillings) is None
    fillings.adopt(duties("c", 4, roles("abc")), True)
    assert progress_of(fillings) is None


def test_progress_is_the_mean_of_all_lists_and_over_when_all_are_equal() -> None:
    fillings = begun()
    assert progress_of(fillings) == FillProgress(2, 0, 0.0, 0, 0)
    take(fillings, "a", 1, HALF)
    assert progress_of(fillings) == FillProgress(2, 0, 0.25, 1, 1)
    take(fillings, "b", 2, None)
    assert progress_of(fillings) == FillProgress(2, 1, 0.75, 2, 2)
    [wanted] = fillings.wanted(0.0, 0.25)
    fillings.asked(wanted.session, 3, 0.0, AskedPage(wanted.ranges, (), ()))
    take(fillings, "a", 3, THREE_QUARTERS)
    assert progress_of(fillings) == FillProgress(2, 1, 0.875, 3, 2)
    [wanted] = fillings.wanted(0.0, 0.25)
    fillings.asked(wanted.session, 4, 0.0, AskedPage(wanted.ranges, (), ()))
    take(fillings, "a", 4, None)
    assert progress_of(fillings) is None
    assert fillings.progress == Progress(2, 2, 4, 2)


def going_on(news: FillNews, now: float, taken: int, dropped: int = 0) -> str | None:
    return news.look(now, FillProgress(6, 2, 0.5, taken, dropped), Progress(6, 2, taken, dropped), filled=False)


def over(news: FillNews, now: float, taken: int, dropped: int = 0) -> str | None:
    return news.look(now, None, Progress(6, 6, taken, dropped), filled=True)


def test_line_at_the_end_counts_all_that_came_since_the_last_filling() -> None:
    """Also what came before this one was seen first."""
    news = FillNews("n1")
    assert over(news, 0.0, 0) is None
    assert going_on(news, 0.25, 40) is None
    assert over(news, 2.75, 100, 7) == "n1: filled from the others in 2.5 s: 100 records taken, 7 dropped"
    assert over(news, 3.0, 100, 7) is None
    assert going_on(news, 50.0, 110, 7) is None
    assert over(news, 51.0, 130, 8) == "n1: filled from the others in 1.0 s: 30 records taken, 1 dropped"


def test_filling_that_was_over_before_anybody_looked_is_not_said_and_not_counted_later() -> None:
    news = FillNews("n1")
    assert over(news, 0.0, 0) is None
    assert over(news, 0.25, 500) is None
    assert going_on(news, 0.5, 501) is None
    assert over(news, 1.0, 510) == "n1: filled from the others in 0.5 s: 10 records taken, 0 dropped"


def test_filling_that_is_interrupted_is_not_said_to_be_over_and_counted_when_it_is() -> None:
    """A full disk has its node go down."""
    news = FillNews("n1")
    assert over(news, 0.0, 0) is None
    assert going_on(news, 1.0, 40) is None
    assert news.look(2.0, None, Progress(0, 0, 60, 0), filled=False) is None
    assert going_on(news, 3.0, 70) is None
    assert over(news, 5.0, 100) == "n1: filled from the others in 4.0 s: 100 records taken, 0 dropped"


@pytest.mark.parametrize("later", [9.9, 10.0])
def test_filling_that_takes_long_is_said_every_ten_seconds(later: float) -> None:
    news = FillNews("n1")
    line = "n1: is being filled from the others: 50% looked at, 2 of 6 lists are equal, {} records taken"
    assert going_on(news, 1.0, 0) is None
    assert going_on(news, 11.0, 300) == line.format(300)
    assert going_on(news, 11.0 + later, 400) == (line.format(400) if later == 10.0 else None)
