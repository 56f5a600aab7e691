"""When a process that was told to stop wants to be woken."""

from gkv.replication.pause import Stopping


def test_it_is_not_woken_for_what_is_not_due() -> None:
    """While a write is under way there is nothing to ask again for, and no time that is over already."""
    stopping = Stopping()
    stopping.begin(100.0)
    assert stopping.look(serves=True, busy=True, era=1, now=100.0) is None
    assert stopping.wakes_at == 101.0
    assert stopping.look(serves=True, busy=False, era=1, now=100.2) is not None
    assert stopping.wakes_at == 100.2 + 0.1
