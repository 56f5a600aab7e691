"""The addresses at which a member looks for its proxy."""

from gkv.cluster.proxies import Proxies

A, B, C = "http://a:1", "http://b:1", "http://c:1"


def test_next_address_is_tried_when_one_fails_and_no_other_while_it_answers() -> None:
    proxies = Proxies([A, B])
    proxies.fails("refused")
    assert proxies.current == B
    proxies.fails("later", stays=True)
    assert proxies.current == B
    assert proxies.described == f"{A}: refused; at {B}: later"
    proxies.works()
    proxies.fails("timed out")
    assert (proxies.current, proxies.described) == (A, f"{B}: timed out")


def test_address_that_is_told_is_used_at_once_only_if_the_one_of_now_has_failed() -> None:
    proxies = Proxies([A])
    proxies.works()
    assert not proxies.told(B)
    assert proxies.current == A
    proxies.fails("refused")
    assert proxies.current == B
    proxies.works()
    assert not proxies.told(C)
    assert proxies.current == B
    proxies.fails("refused")
    assert proxies.current == A
    proxies.fails("refused")
    assert proxies.current == C
    proxies.fails("refused")
    assert proxies.told(B)
    assert proxies.current == B


def test_member_is_refused_for_good_only_by_all_addresses() -> None:
    proxies = Proxies([A, B])
    proxies.fails("another cluster", refuses=True)
    assert not proxies.all_refuse
    proxies.fails("refused")
    assert not proxies.all_refuse
    proxies.fails("another cluster", refuses=True)
    proxies.fails("another cluster", refuses=True)
    assert proxies.all_refuse
