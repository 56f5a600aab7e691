"""Lanes and budgets: who is let in, and what goes back when."""

from gkv.net.admission import Admission, Budget, Gate


def test_gate_lets_in_up_to_its_limit_and_again_when_one_has_left():
    gate = Gate(2, Budget())
    assert [gate.enter() for _ in range(3)] == [True, True, False]
    gate.leave()
    assert [gate.enter() for _ in range(2)] == [True, False]
    assert (gate.inflight, gate.refused) == (2, 2)


def test_who_leaves_before_the_next_one_comes_never_counts():
    gate = Gate(1, Budget())
    for _ in range(1_000):
        assert gate.enter()
        gate.leave()
    assert gate.refused == 0


def test_budget_is_used_up_and_given_back():
    budget = Budget(100)
    assert [budget.reserve(60), budget.reserve(41), budget.reserve(40)] == [True, False, True]
    budget.release(60)
    assert budget.reserve(60)
    assert (budget.used, budget.refused) == (100, 1)


def test_budget_takes_what_comes_alone_and_what_must_be_taken():
    budget = Budget(100)
    assert budget.reserve(1_000)
    assert not budget.reserve(1)
    assert budget.reserve(1, must=True)
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


def test_each_lane_has_bounds_of_its_own_and_operators_none():
    admission = Admission(max_inflight=1, max_buffered=10)
    for gate in (admission.background, admission.replica, admission.members, admission.clients):
        assert [gate.enter(), gate.enter()] == [True, False]
    assert all(admission.operators.enter() for _ in range(1_000))
    assert admission.background.budget.reserve(11)
    assert admission.replica.budget.reserve(11)
    assert admission.clients.budget.reserve(11)
    assert admission.members.budget.reserve(11)
    assert not admission.clients.budget.reserve(1)
    admission.refused_connections += 3
    assert admission.refused() == {"inflight": 4, "memory": 1, "connections": 3}
