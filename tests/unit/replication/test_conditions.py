"""Conditions: when they hold, and their text, which is the contract between members."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkv.model import Version
from gkv.replication.conditions import ANY_VALUE, NO_VALUE, Clause, Condition, Relation

A, B, C = (Version(1 << 48, number) for number in (1, 2, 3))

versions = st.sampled_from([A, B, C])
clauses = st.builds(Clause, st.sampled_from(Relation), st.lists(versions, max_size=3).map(tuple))
conditions = st.builds(Condition, st.lists(clauses, min_size=1, max_size=3).map(tuple))


@pytest.mark.parametrize(
    ("text", "absent", "a", "b"),
    [
        ("=*", False, True, True),
        ("!*", True, False, False),
        (f"={A}", False, True, False),
        (f"={C},{A}", False, True, False),
        (f"!{A}", True, False, True),
        (f"!{A},{C}", True, False, True),
        (f"=* !{A}", False, False, True),
        (f"={A},{B} !{B}", False, True, False),
        ("=* !*", False, False, False),
    ],
)
def test_condition_holds_for_the_versions_that_it_says(text, absent, a, b):
    condition = Condition.parse(text)
    assert [condition.holds(present) for present in (None, A, B)] == [absent, a, b]
    assert str(condition) == text


@given(condition=conditions, present=st.none() | versions)
def test_condition_holds_as_sets_of_versions_say(condition, present):
    for clause in condition.clauses:
        allowed = {A, B, C} if not clause.versions else set(clause.versions)
        met = present in allowed if clause.relation is Relation.IS else present not in allowed
        assert clause.holds(present) is met
    assert condition.holds(present) is all(clause.holds(present) for clause in condition.clauses)


@given(conditions)
def test_condition_comes_back_from_its_text(condition):
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    "text",
    ["", "*", "=", "!", str(A), f"={A},", f"=,{A}", f"={A} ", f"  ={A}", f"={A}  !*", f"=*,{A}", f"={A},*", f"=={A}", f"<{A}",
     f"={str(A)[:-1]}", f"={A}0", "=0191F3C2A5B7000300000000000000A1", "=**", "=* *"],
)  # fmt: skip
def test_text_that_is_no_condition_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        Condition.parse(text)


def test_no_versions_to_match_never_hold_and_none_to_avoid_always_do():
    assert not any(Condition.one_of([]).holds(present) for present in (None, A))
    assert Condition.none_of([]) is None


def test_conditions_together_hold_where_both_do():
    both = Condition.one_of([A, B]).and_also(Condition.none_of([B]))
    assert [both.holds(present) for present in (None, A, B)] == [False, True, False]
    assert ANY_VALUE.and_also(None) is ANY_VALUE


def test_any_value_and_no_value_are_opposites():
    assert (str(ANY_VALUE), str(NO_VALUE)) == ("=*", "!*")
    assert [ANY_VALUE.holds(present) is not NO_VALUE.holds(present) for present in (None, A)] == [True, True]
