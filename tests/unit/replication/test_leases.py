"""Leases: a primary's, and those that a member has granted."""

import pytest

from gkv.duties import Duties
from gkv.replication.actions import KeepNote
from gkv.replication.grants import Grants
from gkv.replication.leases import Leases
from tests.duties import duties, roles

NOW = duties("a", 5, roles("abc"))
RESTARTED = duties("a", 5, roles("abc"), others={"b": 21})
COPIED = duties("a", 2, roles("ab"))
"""A document by which grants may come at any time."""


@pytest.mark.promise("I20")
@pytest.mark.parametrize(
    ("answers", "at", "document", "missing"),
    [
        pytest.param([], 0.0, NOW, ["b", "c"], id="nothing granted"),
        pytest.param([("b", 20, 0.0), ("c", 30, 0.5)], 0.9, NOW, [], id="both"),
        pytest.param([("b", 20, 0.0), ("c", 30, 0.5)], 1.0, NOW, ["b"], id="counts from sending, and ends on time"),
        pytest.param([("b", 20, 0.5), ("b", 20, 0.2), ("c", 30, 0.5)], 1.4, NOW, [], id="an answer that overtook another"),
        pytest.param([("b", 20, 0.0), ("c", 30, 0.0)], 0.5, RESTARTED, ["b"], id="granted by a process that is gone"),
        pytest.param([("b", 20, 0.3), ("b", 21, 0.0), ("c", 30, 0.0)], 0.5, RESTARTED, [], id="and by the next one"),
        pytest.param([("b", 20, 0.0), ("c", 30, 0.0)], 0.5, duties("a", 5, roles("ac"), down="b"), ["b"], id="granter is down"),
    ],
)
def test_leases_are_valid_from_sending_by_this_very_process(
    answers: list[tuple[str, int, float]], at: float, document: Duties, missing: list[str]
) -> None:
    leases = Leases()
    for granter, incarnation, sent in answers:
        leases.granted(granter, incarnation, sent, 1.0)
    assert leases.missing(["b", "c"], document, at) == missing


OLD_EPOCH, THIS_EPOCH = NOW.era - 1, NOW.era


@pytest.mark.promise("I20")
@pytest.mark.parametrize(
    ("heard", "document", "waits"),
    [
        pytest.param([], NOW, True, id="nothing heard"),
        pytest.param([("b", 20, OLD_EPOCH)], NOW, True, id="holder under an older epoch"),
        pytest.param([("b", 20, THIS_EPOCH), ("b", 20, OLD_EPOCH)], NOW, False, id="and then a call of it that is late"),
        pytest.param([("b", 20, THIS_EPOCH)], NOW, False, id="holder under this epoch"),
        pytest.param([("b", 20, THIS_EPOCH + 1)], NOW, True, id="holder under one that nobody has seen"),
        pytest.param([("b", 20, THIS_EPOCH), ("b", 20, THIS_EPOCH + 9)], NOW, False, id="and under this one before"),
        pytest.param([("b", 20, THIS_EPOCH)], duties("a", 5, roles("ac"), down="b"), False, id="holder that is down"),
        pytest.param([("c", 30, THIS_EPOCH)], NOW, True, id="somebody else"),
        pytest.param([], RESTARTED, True, id="a later process, not heard"),
        pytest.param([("b", 21, THIS_EPOCH)], RESTARTED, False, id="a later process, in the directory of the holder"),
        pytest.param(
            [("b", 21, THIS_EPOCH)],
            duties("a", 5, roles("abc"), others={"b": 21}, empty="b"),
            True,
            id="a later process, in another directory",
        ),
        pytest.param([("b", 21, OLD_EPOCH)], RESTARTED, True, id="a later process under an older epoch"),
        pytest.param([("b", 21, THIS_EPOCH)], NOW, True, id="a process that the document does not have"),
        pytest.param([], duties("a", 5, roles("abc"), ended=[20]), False, id="A8: the holder has ended"),
    ],
)
def test_grant_keeps_a_takeover_waiting_until_its_holder_knows_better(
    heard: list[tuple[str, int, int]], document: Duties, waits: bool
) -> None:
    """T2, F6. The grant lasts for 1.05 leases from its receipt, whatever the lease began with."""
    grants = Grants(0.0, False)
    grants.grant("b", 20, 3.0, 1.0)
    for member, incarnation, era in heard:
        grants.heard(member, incarnation, era, document)
    assert grants.clear(document, 3.0) is not waits
    assert grants.holders(document, 4.04) == (["b"] if waits else [])
    assert grants.clear_at(document, 3.0) == (4.05 if waits else 0.0)
    assert grants.clear(document, 4.05)


def test_grant_that_was_waited_for_keeps_a_later_takeover_waiting_again() -> None:
    """Who was heard under this epoch may be a primary by the next one, with the lease that it has still."""
    grants = Grants(0.0, False)
    grants.grant("b", 20, 3.0, 1.0)
    grants.heard("b", 20, THIS_EPOCH, NOW)
    assert grants.clear(NOW, 3.1)
    grants.forget(duties("a", 6, roles("abc")), 3.2)
    assert not grants.clear(duties("a", 6, roles("abc")), 3.2)


@pytest.mark.promise("I20")
def test_process_that_finds_the_note_waits_for_what_the_one_before_has_granted() -> None:
    """F7."""
    grants = Grants(100.0, True)
    assert not grants.clear(NOW, 101.04)
    assert grants.clear_at(NOW, 100.0) == 101.05
    assert grants.clear(NOW, 101.05)
    assert Grants(100.0, False).clear(NOW, 100.0)


def test_note_is_on_the_disk_before_a_grant_leaves_and_goes_when_all_have_run_out() -> None:
    grants = Grants(0.0, False)
    assert not grants.may_tell
    assert grants.grant("b", 20, 1.0, 1.0) == KeepNote(True)
    assert grants.grant("c", 30, 1.5, 1.0) is None  # that is on its way
    assert not grants.may_tell
    assert grants.note_kept(True, 1.6) is None
    assert grants.may_tell
    at = grants.note_until(COPIED, 1.6)
    assert at == pytest.approx(1.5 + 1.05 + grants.LINGER)
    assert grants.drop_note(COPIED, at - 0.01) is None
    assert grants.drop_note(COPIED, at) == KeepNote(False)
    assert not grants.may_tell
    assert grants.grant("b", 20, at + 0.1, 1.0) is None  # it has to be gone first
    assert grants.note_kept(False, at + 0.2) == KeepNote(True)
    assert not grants.may_tell


def test_note_of_the_process_before_stays_until_its_grants_have_run_out() -> None:
    grants = Grants(100.0, True)
    assert grants.may_tell
    assert grants.drop_note(COPIED, 101.04) is None
    assert grants.drop_note(COPIED, 101.05 + grants.LINGER) == KeepNote(False)


def test_where_no_grant_is_to_come_the_note_goes_as_soon_as_no_holder_may_serve_by_an_older_document() -> None:
    alone = duties("a", 3, roles("a", preference="a"))
    grants = Grants(0.0, False)
    grants.grant("b", 20, 1.0, 1.0)
    grants.note_kept(True, 1.1)
    grants.forget(alone, 1.2)
    assert grants.note_until(alone, 1.2) == pytest.approx(1.0 + 1.05)
    assert grants.drop_note(alone, 1.3) is None
    grants.heard("b", 20, alone.era, alone)
    assert grants.drop_note(alone, 1.3) == KeepNote(False)


def test_note_of_a_first_process_goes_at_once_and_comes_with_its_first_grant() -> None:
    grants = Grants(100.0, True)
    grants.begin_first()
    assert grants.clear(NOW, 100.0)
    assert grants.noted
    assert grants.drop_note(COPIED, 100.0) == KeepNote(False)
    assert grants.noted, "it is on its way"
    assert grants.note_kept(False, 100.1) is None
    assert not grants.noted
    assert grants.grant("b", 20, 101.0, 1.0) == KeepNote(True)
    assert grants.note_until(COPIED, 101.0) == float("inf")
    assert grants.note_kept(True, 101.1) is None
    assert grants.drop_note(COPIED, 102.1) is None


@pytest.mark.promise("I20")
@pytest.mark.parametrize("way", ["elsewhere", "of another cluster"])
def test_word_that_a_process_is_the_first_is_about_the_note_alone(way: str) -> None:
    grants = Grants(100.0, True, has_granted=way == "of another cluster")
    if way == "elsewhere":
        grants.begin_elsewhere()
    grants.begin_first()
    assert not grants.clear(NOW, 101.04)
    assert grants.drop_note(COPIED, 101.04) is None


def test_what_nobody_will_ask_for_is_forgotten() -> None:
    grants = Grants(0.0, False)
    for incarnation in range(100, 200):
        grants.grant("b", incarnation, 1.0, 1.0)
        grants.heard("b", incarnation, THIS_EPOCH, NOW)
    grants.forget(NOW, 3.0)
    assert not grants.holders(NOW, 1.0)
    assert not grants._heard


def test_no_word_is_noted_that_cannot_matter() -> None:
    """A member has one place for what it says of later documents, made up or not, and others have none."""
    grants = Grants(0.0, False)
    grants.grant("c", 31, 1.0, 1.0)
    for incarnation in range(100, 200):
        for member, era in (("b", THIS_EPOCH), ("b", THIS_EPOCH + incarnation), (f"x{incarnation}", THIS_EPOCH + 1)):
            grants.heard(member, incarnation, era, NOW)
    grants.heard("b", 20, THIS_EPOCH, NOW)
    grants.heard("c", 31, THIS_EPOCH, NOW)
    assert grants._heard == {("b", 20), ("c", 31)}
    assert grants._later == {"b": (199, THIS_EPOCH + 199)}


@pytest.mark.promise("I20")
@pytest.mark.parametrize(("said", "waits"), [(6, False), (5, True), (7, True)])
def test_word_of_a_later_document_counts_once_that_very_document_is_here(said: int, waits: bool) -> None:
    """T2: a later era that was made up releases no grant."""
    grants = Grants(0.0, False)
    grants.grant("b", 20, 3.0, 1.0)
    later = duties("a", 6, roles("ac"), down="b")
    grants.heard("b", 20, NOW.era + said - 5, NOW)
    grants.forget(later, 3.1)
    assert grants.clear(later, 3.1) is not waits
