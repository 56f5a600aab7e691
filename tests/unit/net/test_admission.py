"""Lanes and budgets: who is let in, and what goes back when."""

from gkv.net.admission import Admission, Budget, Lane


def test_lane_lets_in_up_to_its_limit_and_again_when_the_loop_has_turned():
    lane = Lane(2, Budget())
    assert [lane.enter(turn=1) for _ in range(3)] == [True, True, False]
    lane.leave()
    assert not lane.enter(turn=1)  # its place is free from the next turn on
    assert [lane.enter(turn=2) for _ in range(2)] == [True, False]
    assert (lane.inflight, lane.refused) == (2, 3)


def test_budget_is_used_up_and_given_back():
    budget = Budget(100)
    assert [budget.take(60), budget.take(41), budget.take(40)] == [True, False, True]
    budget.give_back(60)
    assert budget.take(60)
    assert (budget.used, budget.refused) == (100, 1)


def test_budget_takes_what_comes_alone_and_what_must_be_taken():
    budget = Budget(100)
    assert budget.take(1_000)
    assert not budget.take(1)
    assert budget.take(1, must=True)
    assert budget.used == 1_001


def test_hold_goes_back_when_nobody_refers_to_it():
    budget = Budget(100)
    hold = budget.hold(100)
    other = hold
    assert budget.hold(1) is None
    del hold
    assert budget.used == 100
    del other
    assert budget.used == 0


def test_clients_and_members_have_bounds_of_their_own_and_operators_none():
    admission = Admission(max_inflight=1, max_buffered=10)
    assert [admission.clients.enter(1), admission.clients.enter(1)] == [True, False]
    assert [admission.members.enter(1), admission.members.enter(1)] == [True, False]
    assert all(admission.operators.enter(1) for _ in range(1_000))
    assert admission.clients.budget.take(11)
    assert admission.members.budget.take(11)
    assert not admission.clients.budget.take(1)
    admission.refused_connections += 3
    assert admission.refused() == {"inflight": 2, "memory": 1, "connections": 3}
