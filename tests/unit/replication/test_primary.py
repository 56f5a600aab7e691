"""A primary's writes until they are settled, and the notes of a granter."""

import pytest

from gkv.model import Effect, Version
from gkv.replication.granter import Granter
from gkv.replication.primary import Primary, Underway
from tests.duties import duties, roles, version, write

THREE = duties("a", 1, roles("abc"))
TWO_LISTS = duties("a", 1, roles("abc"), roles("acd", preference="acd"))


def counters(settled: list[Underway]) -> list[int]:
    return [one.write.version.counter for one in settled]


@pytest.mark.promise("I21")
@pytest.mark.parametrize(
    ("steps", "settled"),
    [
        pytest.param("1b 1c", [[], []], id="own disk is missing"),
        pytest.param("1= 1b", [[], []], id="a granter is missing"),
        pytest.param("1b 1= 1c", [[], [], [1]], id="the last of them settles it"),
        pytest.param("1b 1b 1=", [[], [], []], id="an answer that came twice is one"),
        pytest.param("1= 1b 1c 1c", [[], [], [1], []], id="settled once"),
    ],
)
def test_write_is_settled_by_the_own_disk_and_every_granter(steps: str, settled: list[list[int]]) -> None:
    primary = Primary()
    primary.admit(write(1, "k"), THREE, 1)
    found = []
    for step in steps.split():
        done = primary.committed(1) if step[1] == "=" else primary.acknowledged(step[1], [version(int(step[0]))])
        found.append(counters(done))
    assert found == settled
    assert len(primary) == (0 if [1] in settled else 1)


def test_each_granter_gets_the_keys_that_it_copies_and_the_write_waits_for_all() -> None:
    primary = Primary()
    primary.admit(write(1, "0k", "1k"), TWO_LISTS, 1)
    parts = {granter: part for granter, [part] in primary.take_new(0.0)[1].items()}
    assert {granter: list(part.keys) for granter, part in parts.items()} == {"b": ["0k"], "c": ["0k", "1k"], "d": ["1k"]}
    assert all(part.version == version(1) for part in parts.values())
    assert [counters(primary.acknowledged(one, [version(1)])) for one in "bcd"] == [[], [], []]
    assert counters(primary.committed(1)) == [1]


@pytest.mark.promise("I21")
def test_learners_are_waited_for_as_well() -> None:
    primary = Primary()
    primary.admit(write(1, "k"), duties("a", 1, roles("ab", "c")), 1)
    primary.committed(1)
    assert primary.acknowledged("b", [version(1)]) == []
    assert counters(primary.acknowledged("c", [version(1)])) == [1]


def test_without_granters_the_own_disk_settles() -> None:
    primary = Primary()
    primary.admit(write(1, "k"), duties("a", 1, roles("a", preference="a")), 1)
    assert counters(primary.committed(1)) == [1]


@pytest.mark.promise("I19")
def test_settled_write_settles_the_earlier_ones_of_its_key() -> None:
    """F16: everybody has something newer, so nobody waits for what a frame lost."""
    primary = Primary()
    for counter in (1, 2, 3):
        primary.admit(write(counter, "k"), THREE, counter)
        primary.committed(counter)
    primary.acknowledged("b", [version(3)])
    assert counters(primary.acknowledged("c", [version(3)])) == [1, 2, 3]
    assert not primary.unsettled.newest
    assert primary.take_untold("b") == (version(1), version(2), version(3))


def test_earlier_write_of_several_keys_is_settled_once_all_of_them_are() -> None:
    primary = Primary()
    first = primary.admit(write(1, "0k", "1k"), TWO_LISTS, 1)
    primary.admit(write(2, "0k"), TWO_LISTS, 2)
    for token in (1, 2):
        primary.committed(token)
    primary.acknowledged("b", [version(2)])
    assert counters(primary.acknowledged("c", [version(2)])) == [2]
    assert first.waits == {"c", "d"}  # for the other key
    assert dict(primary.unsettled.newest) == {"1k": first}
    primary.acknowledged("d", [version(1)])
    assert counters(primary.acknowledged("c", [version(1)])) == [1]


def test_key_of_which_a_later_write_is_settled_is_not_the_newest_again_by_another_document() -> None:
    """A write of several keys that was sent again brought back what had been overwritten."""
    primary = Primary()
    first = primary.admit(write(1, "0k", "1k"), TWO_LISTS, 1)
    primary.admit(write(2, "0k"), TWO_LISTS, 2)
    primary.committed(2)
    for granter in "bc":
        primary.acknowledged(granter, [version(2)])
    assert primary.adopt(duties("a", 2, *TWO_LISTS.roles), lambda _: True) == ([], {})
    assert dict(primary.unsettled.newest) == {"1k": first}
    assert {one: list(parts[0].keys) for one, parts in primary.unsent(0.0, 0.25).items()} == {"c": ["1k"], "d": ["1k"]}


def test_later_write_settles_an_earlier_one_before_that_is_on_the_own_disk() -> None:
    primary = Primary()
    primary.admit(write(1, "k"), THREE, 1)
    primary.admit(write(2, "k"), THREE, 2)
    primary.committed(2)
    primary.acknowledged("b", [version(2)])
    assert counters(primary.acknowledged("c", [version(2)])) == [1, 2]
    assert primary.committed(1) == []


def test_what_has_no_answer_is_sent_again_and_what_is_settled_is_told() -> None:
    primary = Primary()
    primary.admit(write(1, "k"), THREE, 1)
    primary.take_new(0.0)
    assert primary.unsent(0.2, 0.25) == {}
    primary.acknowledged("b", [version(1)])
    assert {one: [part.version for part in parts] for one, parts in primary.unsent(0.25, 0.25).items()} == {"c": [version(1)]}
    assert primary.unsent(0.3, 0.25) == {}
    primary.committed(1)
    primary.acknowledged("c", [version(1)])
    assert sorted(primary.untold()) == ["b", "c"]
    assert primary.take_untold("b") == (version(1),)
    assert primary.take_untold("b") == ()
    primary.acknowledged("b", [version(1)])  # the frame came twice, so the granter has noted it again
    assert primary.take_untold("b") == (version(1),)


# -- another document


@pytest.mark.promise("I21")
def test_still_primary_waits_for_all_granters_of_the_new_document() -> None:
    """W7: an acknowledgement under the old document counts for nothing."""
    primary = Primary()
    primary.admit(write(1, "k"), THREE, 1)
    primary.take_new(0.0)
    primary.committed(1)
    primary.acknowledged("b", [version(1)])
    lost, left = primary.adopt(duties("a", 2, roles("ab", "d")), lambda _: True)
    assert (lost, left) == ([], {})
    assert sorted(primary.unsent(0.0, 0.25)) == ["b", "d"]
    assert primary.acknowledged("d", [version(1)]) == []
    assert counters(primary.acknowledged("b", [version(1)])) == [1]


def test_still_primary_without_granters_has_settled_what_its_disk_has() -> None:
    primary = Primary()
    primary.admit(write(1, "k"), THREE, 1)
    primary.admit(write(2, "k"), THREE, 2)
    primary.committed(1)
    primary.adopt(duties("a", 2, roles("a")), lambda _: True)
    assert counters(primary.check_settled()) == [1]


def test_keys_that_are_lost_become_a_backups() -> None:
    """W8: the write is indeterminate as a whole, and what is left of it goes on."""
    primary = Primary()
    first = primary.admit(write(1, "0k", "1k"), TWO_LISTS, 1)
    second = primary.admit(write(2, "0k"), TWO_LISTS, 2)
    after = duties("a", 2, roles("bac"), roles("acd", preference="acd"))
    lost, left = primary.adopt(after, lambda key: key == "1k")
    assert lost == [first, second]
    assert left == {"0k": version(2)}
    assert list(first.write.keys) == ["1k"]
    assert dict(primary.unsettled.newest) == {"1k": first}
    primary.committed(1)
    assert primary.committed(2) == []
    primary.acknowledged("c", [version(1)])
    assert counters(primary.acknowledged("d", [version(1)])) == [1]


# -- a granter's notes


def test_notes_are_of_the_newest_write_and_go_when_that_is_settled() -> None:
    granter = Granter()
    granter.note(["k", "x"], version(2))
    granter.note(["k"], version(1))
    granter.note(["x"], version(3))
    granter.settled("a", [version(1)], lambda keys: keys)
    assert sorted(granter.unsettled(lambda _: True)) == ["k", "x"]
    granter.settled("a", [version(2)], lambda keys: keys)
    assert granter.unsettled(lambda _: True) == ["x"]
    granter.note(["y"], version(3))
    granter.settled("a", [version(3)], lambda keys: [key for key in keys if key == "y"])
    assert granter.unsettled(lambda _: True) == ["x"]
    granter.forget(["x", "never"])
    assert not granter.is_unsettled("x")
    assert granter.check() == []


def test_who_says_that_a_write_is_settled_speaks_for_its_own_keys_alone() -> None:
    """W8, T1: another key of the write has another primary by now, which has yet to ask for it."""
    granter = Granter()
    tokens = Tokens()
    granter.take("a", 1, [write(1, "k", "x")], 0.0, tokens)
    granter.adopt(lambda _: True)
    granter.take("a", 2, [write(1, "k")], 1.0, tokens)
    granter.settled("a", [version(1)], lambda keys: [key for key in keys if key == "k"])
    assert granter.unsettled(lambda _: True) == ["x"]
    assert granter.check() == []


@pytest.mark.promise("I21")
@pytest.mark.parametrize("first", ["a", "b"])
def test_write_of_another_primary_that_has_the_same_version_is_another_one(first: str) -> None:
    """Versions are those of a process: under one document two primaries may both be at their second one."""
    granter = Granter()
    tokens = Tokens()
    for number, primary in enumerate((first, "b" if first == "a" else "a")):
        granter.take(primary, number, [write(2, f"of {primary}")], 0.0, tokens)
    granter.settled("a", [version(2)], lambda keys: [key for key in keys if key == "of a"])
    assert granter.unsettled(lambda _: True) == ["of b"]
    granter.settled("b", [version(2)], lambda keys: [key for key in keys if key == "of b"])
    assert granter.unsettled(lambda _: True) == []
    assert granter.check() == []


class Tokens:
    """Counts."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> int:
        self.last += 1
        return self.last


@pytest.mark.promise("I21")
def test_frame_is_unsettled_before_its_commit_and_whole_after_it() -> None:
    """W4, F10."""
    granter = Granter()
    handed = granter.take("a", 7, [write(1, "k"), write(2, "x")], 0.0, Tokens())
    assert [token for token, _ in handed] == [1, 2]
    assert sorted(granter.unsettled(lambda _: True)) == ["k", "x"]
    assert granter.take_whole() == []
    assert granter.committed(1)
    assert granter.take_whole() == []
    assert granter.committed(2)
    assert [(frame.number, frame.versions) for frame in granter.take_whole()] == [(7, (version(1), version(2)))]
    assert not granter.committed(1)


@pytest.mark.parametrize(
    ("again", "handed"),
    [
        pytest.param([write(1, "k")], [], id="the same"),
        pytest.param([write(1, "k", "x")], [(2, version(1))], id="the same write with another key, which it copies now"),
        pytest.param([write(1, "k"), write(2, "k")], [(2, version(2))], id="a later one as well"),
    ],
)
def test_frame_that_comes_again_waits_for_the_commit_that_is_under_way(again: list, handed: list[tuple[int, Version]]) -> None:
    granter = Granter()
    tokens = Tokens()
    granter.take("a", 1, [write(1, "k")], 0.0, tokens)
    assert [(token, one.version) for token, one in granter.take("a", 2, again, 0.3, tokens)] == handed
    granter.committed(1)
    assert [frame.number for frame in granter.take_whole()] == ([1] if handed else [1, 2])


def test_full_disk_acknowledges_nothing_and_the_keys_stay_unsettled() -> None:
    granter = Granter()
    granter.take("a", 1, [write(1, "k")], 0.0, Tokens())
    lost, frames = granter.failed(1) or (None, [])
    assert (lost and lost.keys, [frame.number for frame in frames]) == (["k"], [1])
    assert granter.failed(1) is None
    assert granter.take_whole() == []
    assert granter.oldest() is None
    assert granter.is_unsettled("k")


LEFT = [Effect.DAMAGED]


def test_frame_that_left_a_record_damaged_is_not_acknowledged_and_a_later_one_repairs() -> None:
    """A late frame does not know whether a later write is under the damage; the frame that was sent last does."""
    granter = Granter()
    tokens = Tokens()
    [(token, handed)] = granter.take("a", 5, [write(2, "k")], 0.0, tokens)
    assert handed.repairs
    granter.committed(token, [Effect.CREATED])
    assert [frame.versions for frame in granter.take_whole()] == [(version(2),)]
    granter.settled("a", [version(2)], lambda keys: keys)
    [(token, late)] = granter.take("a", 4, [write(1, "k")], 1.0, tokens)
    assert not late.repairs
    assert granter.committed(token, LEFT)
    assert (granter.take_whole(), granter.oldest()) == ([], None)
    [(token, anew)] = granter.take("a", 6, [write(3, "k")], 2.0, tokens)
    assert anew.repairs
    granter.committed(token, LEFT)  # which tells that it was damaged
    assert [frame.number for frame in granter.take_whole()] == [6]


def test_write_repairs_nothing_while_a_later_one_of_its_keys_is_noted() -> None:
    granter = Granter()
    tokens = Tokens()
    granter.take("a", 1, [write(2, "k")], 0.0, tokens)
    [(_, earlier)] = granter.take("a", 2, [write(1, "k", "x")], 0.0, tokens)
    assert not earlier.repairs


def test_key_of_which_a_later_write_is_settled_is_not_sent_again() -> None:
    primary = Primary()
    primary.admit(write(1, "k", "x"), THREE, 1)
    primary.admit(write(2, "k"), THREE, 2)
    primary.take_new(0.0)
    primary.committed(2)
    for granter in "bc":
        primary.acknowledged(granter, [version(2)])
    assert {one: [list(part.keys) for part in parts] for one, parts in primary.unsent(1.0, 0.25).items()} == {
        "b": [["x"]],
        "c": [["x"]],
    }


def test_what_a_granter_works_at_is_sent_again_later() -> None:
    primary = Primary()
    primary.admit(write(1, "k"), THREE, 1)
    primary.take_new(0.0)
    primary.arrived("b", [version(1)], 2.0)
    assert list(primary.unsent(0.25, 0.25)) == ["c"]
    assert list(primary.unsent(2.2, 0.25)) == ["c"]
    assert sorted(primary.unsent(2.5, 0.25)) == ["b", "c"]


def test_newer_document_ends_frames_and_forgets_what_is_no_longer_here() -> None:
    granter = Granter()
    granter.take("a", 1, [write(1, "k"), write(2, "x")], 0.0, Tokens())
    granter.adopt(lambda key: key == "k")
    granter.committed(1)
    granter.committed(2)
    assert granter.take_whole() == []
    assert granter.unsettled(lambda _: True) == ["k"]
