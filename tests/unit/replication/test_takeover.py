"""Taking over, list by list."""

import pytest

from gkv.duties import Duties
from gkv.replication.takeover import Takeovers
from tests.duties import duties, roles

ABC = (("a", "b", "c"), ())
FIRST = duties("a", 1, roles("abc"))


def opened(document: Duties = FIRST) -> Takeovers:
    """Return those of a member whose lists are open."""
    takeovers = Takeovers()
    takeovers.adopt(duties(document.me, 0), document, True)
    for granter in sorted(takeovers.unheard()):
        takeovers.named(granter, (), document)
    takeovers.open_ready()
    return takeovers


@pytest.mark.promise("I22")
@pytest.mark.parametrize(
    ("after", "serves", "open_still"),
    [
        pytest.param(duties("a", 2, roles("abc")), True, True, id="still primary"),
        pytest.param(duties("a", 2, roles("ab", "c")), True, True, id="still primary, other granters"),
        pytest.param(duties("a", 3, roles("abc")), True, False, id="F20, M3: a gap in the epochs"),
        pytest.param(duties("a", 2, roles("abc"), generation=2), True, False, id="another generation"),
        pytest.param(duties("a", 2, roles("bac")), True, False, id="no longer primary"),
        pytest.param(duties("a", 2, roles("bc"), down="a"), False, False, id="down"),
        pytest.param(duties("a", 2, roles("abc", coming="abd"), coming_ring="R"), True, True, id="a change of the ring begins"),
        pytest.param(duties("a", 2, roles("abc"), ring="R"), True, False, id="another ring that nobody announced"),
    ],
)
def test_list_stays_open_only_where_its_primary_was_so_in_the_very_epoch_before(
    after: Duties, serves: bool, open_still: bool
) -> None:
    takeovers = opened()
    stays = takeovers.adopt(FIRST, after, serves)
    assert bool(stays) is open_still
    pair = (after.roles[0].preference, after.roles[0].coming)
    assert takeovers.reign(pair) == (1 if open_still else None)
    assert takeovers.busy is (serves and not open_still and after.roles[0].primary == "a")


def test_list_that_comes_with_the_ring_is_open_if_all_that_it_is_made_of_were() -> None:
    change = duties("a", 1, roles("abc", coming="abd"), roles("acd", preference="acd", coming="abd"), ring="Q", coming_ring="R")
    after = duties("a", 2, roles("abd", preference="abd"), ring="R")
    assert opened(change).adopt(change, after, True) == {(("a", "b", "d"), ())}
    other = duties("a", 1, roles("abc", coming="abd"), roles("cad", preference="cad", coming="abd"), ring="Q", coming_ring="R")
    assert opened(other).adopt(other, after, True) == set()


def test_list_stays_open_beside_one_of_the_same_members_that_is_being_taken_over_while_a_change_goes_on() -> None:
    """Their keys are the same as before. What is unsettled in a list that is taken over once more is indeterminate."""
    both = roles("abc", "d", preference="abc", coming="abd"), roles("abc", "e", preference="abc", coming="abe")
    change = duties("a", 1, *both, ring="Q", coming_ring="R")
    takeovers = Takeovers()
    takeovers.adopt(duties("a", 0), change, True)
    for granter in "bcd":
        takeovers.named(granter, (), change)
    opened = takeovers.open_ready()
    assert opened == {(("a", "b", "c"), ("a", "b", "d")): set()}
    assert takeovers.adopt(change, duties("a", 2, *both, ring="Q", coming_ring="R"), True) == opened.keys()
    assert takeovers.unheard() == {"b", "c", "e"}
    assert takeovers.adopt(change, duties("a", 2, roles("abc"), ring="Q"), True) == set()


def test_change_that_is_taken_back_keeps_lists_open() -> None:
    change = duties("a", 1, roles("abc", coming="abd"), roles("cbd", preference="cbd", coming="abc"), ring="Q", coming_ring="R")
    after = duties("a", 2, roles("abc"), roles("cbd", preference="cbd"), ring="Q")
    assert opened(change).adopt(change, after, True) == {ABC}


@pytest.mark.promise("I22")
def test_list_opens_when_every_granter_was_heard_with_the_union_of_their_keys() -> None:
    """T1, T3."""
    takeovers = Takeovers()
    takeovers.adopt(duties("a", 0), FIRST, True)
    assert takeovers.unheard() == {"b", "c"}
    takeovers.named("b", ["k"], FIRST)
    assert not takeovers.ready
    assert takeovers.open_ready() == {}
    takeovers.named("c", ["k", "x"], FIRST)
    assert takeovers.ready
    assert takeovers.open_ready() == {ABC: {"k", "x"}}
    assert takeovers.reign(ABC) == 1
    assert not takeovers.busy


def test_newer_document_begins_from_the_beginning() -> None:
    takeovers = Takeovers()
    takeovers.adopt(duties("a", 0), FIRST, True)
    takeovers.named("b", ["k"], FIRST)
    after = duties("a", 2, roles("abc"))
    takeovers.adopt(FIRST, after, True)
    assert takeovers.unheard() == {"b", "c"}
    for granter in "bc":
        takeovers.named(granter, [], after)
    assert takeovers.open_ready() == {ABC: set()}


def test_each_list_waits_for_its_own_granters() -> None:
    both = duties("a", 1, roles("abc"), roles("acd", preference="acd"))
    takeovers = Takeovers()
    takeovers.adopt(duties("a", 0), both, True)
    takeovers.named("c", ["1x"], both)
    takeovers.named("d", [], both)
    assert takeovers.open_ready() == {(("a", "c", "d"), ()): {"1x"}}
    assert takeovers.unheard() == {"b"}


def test_list_that_was_opened_anew_has_another_reign() -> None:
    takeovers = opened()
    gap = duties("a", 3, roles("a"))
    takeovers.adopt(FIRST, gap, True)
    takeovers.open_ready()
    assert takeovers.reign(ABC) == 2
