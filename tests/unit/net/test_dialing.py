"""Connections to hosts that may be names: lookups with a deadline, addresses in their order."""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from gkv.net import dialing
from gkv.net.dialing import dial, hosts_of, listen


@pytest.fixture
def listener() -> Iterator[Any]:
    """Give a socket that listens on IPv4's loopback."""
    found = listen("127.0.0.1", 0)
    yield found
    found.close()


def names(monkeypatch: pytest.MonkeyPatch, found: Callable[[str], list[str]]) -> list[str]:
    """Have names looked up by a function; return those that were."""
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        asked.append(host)
        return [(0, 0, 0, "", (one, 0)) for one in found(host)]

    monkeypatch.setattr(dialing.socket, "getaddrinfo", getaddrinfo)
    return asked


def test_addresses_of_a_name_are_tried_in_order_and_looked_up_anew(monkeypatch: pytest.MonkeyPatch, listener: Any) -> None:
    port = listener.getsockname()[1]
    there = ["127.0.0.9", "::1", "127.0.0.1"]
    asked = names(monkeypatch, lambda _host: there)
    for _ in range(2):
        connection = dial(("n1", port), monotonic() + 5)
        assert connection.getpeername()[0] == "127.0.0.1"
        connection.close()
    assert asked == ["n1", "n1"]
    there[:] = ["127.0.0.9"]
    with pytest.raises(ConnectionRefusedError):
        dial(("n1", port), monotonic() + 5)


def test_address_that_does_not_answer_leaves_time_for_the_next_one(monkeypatch: pytest.MonkeyPatch, listener: Any) -> None:
    full = listen("127.0.0.2", listener.getsockname()[1])
    full.listen(0)
    waiting = [socket.socket() for _ in range(3)]  # the queue is full, so that no packet is answered any more
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(full.getsockname())
    names(monkeypatch, lambda _host: ["127.0.0.2", "127.0.0.1"])
    began = monotonic()
    connection = dial(("n1", listener.getsockname()[1]), began + 1.0)
    assert connection.getpeername()[0] == "127.0.0.1"
    assert 0.4 < monotonic() - began < 0.95
    for one in (connection, full, *waiting):
        one.close()


def test_lookup_without_an_answer_ends_with_its_deadline_and_is_made_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Event()

    def wait(_host: str) -> list[str]:
        answer.wait()
        return ["127.0.0.1"]

    asked = names(monkeypatch, wait)
    began = monotonic()
    waiting = [gevent.spawn(hosts_of, "n1", began + 0.1) for _ in range(5)]
    last = gevent.spawn(hosts_of, "n1", began + 10)
    for one in waiting:
        with pytest.raises(TimeoutError, match="no answer about the name n1"):
            one.get(timeout=5)
    assert 0.1 <= monotonic() - began < 2
    answer.set()
    assert last.get(timeout=5) == ["127.0.0.1"]
    assert asked == ["n1"]


def test_lookups_at_one_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Event()
    names(monkeypatch, lambda _host: [str(answer.wait())])
    waiting = [gevent.spawn(hosts_of, f"n{number}", monotonic() + 10) for number in range(64)]
    gevent.sleep(0)
    with pytest.raises(OSError, match="too many names"):
        hosts_of("n64", monotonic() + 1)
    answer.set()
    gevent.joinall(waiting, raise_error=True)


def test_name_without_an_address_is_an_os_error_that_names_it() -> None:
    with pytest.raises(OSError, match=r"the name no-such-host\.invalid has no address"):
        dial(("no-such-host.invalid", 1), monotonic() + 20)


def test_address_and_localhost_are_not_looked_up(monkeypatch: pytest.MonkeyPatch, listener: Any) -> None:
    asked = names(monkeypatch, lambda _host: [])
    dial(("localhost", listener.getsockname()[1]), monotonic() + 5, source="::1").close()
    assert hosts_of("::1", 0.0) == ["::1"]
    assert asked == []


def test_listener_on_all_addresses_takes_both_kinds() -> None:
    listener = listen("::", 0)
    for host in ("127.0.0.1", "::1"):
        dial((host, listener.getsockname()[1]), monotonic() + 5).close()
    listener.close()


def test_name_that_is_no_machine_of_ours_cannot_be_listened_at(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, lambda _host: ["192.0.2.1"])
    with pytest.raises(OSError, match="cannot listen on n1:0: Cannot assign"):
        listen("n1", 0)
