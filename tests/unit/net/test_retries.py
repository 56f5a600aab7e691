"""The budget of retries."""

from gkv.net.retries import Retries


def test_retries_run_out_and_requests_bring_a_tenth_of_one_each():
    retries = Retries(capacity=3)
    assert [retries.spend() for _ in range(5)] == [True, True, True, False, False]
    assert retries.refused == 2
    for _ in range(11):
        retries.earn()
    assert [retries.spend(), retries.spend()] == [True, False]


def test_retries_are_never_more_than_the_capacity():
    retries = Retries(capacity=2)
    for _ in range(1_000):
        retries.earn()
    assert sum(retries.spend() for _ in range(10)) == 2
