"""Giving way: sockets have their turn as well as ready greenlets, and only work that lasts gives way at all."""

import socket

import gevent
import pytest
from gevent.socket import wait_read

from gkv.net import turn
from gkv.net.turn import Turn, give_way


def test_give_way_lets_who_waits_for_a_socket_go_on() -> None:
    mine, other = socket.socketpair()
    seen: list[str] = []

    def wait() -> None:
        wait_read(other.fileno())
        seen.append("read")

    waiting = gevent.spawn(wait)
    gevent.sleep(0)  # it waits now
    mine.send(b"x")
    give_way()
    assert seen == ["read"]
    waiting.join()
    mine.close()
    other.close()


def test_give_way_to_a_greenlet_that_never_waits_comes_back() -> None:
    def spin() -> None:
        while True:
            gevent.sleep(0)

    spinning = gevent.spawn(spin)
    with gevent.Timeout(10):
        for _ in range(10):
            give_way()
    spinning.kill()


def test_several_give_way_at_the_same_time() -> None:
    greenlets = [gevent.spawn(lambda: [give_way() for _ in range(20)]) for _ in range(20)]
    assert len(gevent.joinall(greenlets, timeout=10)) == 20


def test_turn_gives_way_only_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    now = 100.0
    monkeypatch.setattr(turn, "monotonic", lambda: now)
    monkeypatch.setattr(turn, "give_way", lambda: given.append(now))
    mine = Turn()
    for moment, ways in [(100.0, 0), (100.0019, 0), (100.0021, 1), (100.004, 1), (100.0042, 2)]:
        now = moment
        mine()
        assert len(given) == ways
