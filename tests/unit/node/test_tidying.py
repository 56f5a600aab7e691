"""Work for which nobody waits: a bounded part of it at a time, and all of it in the end."""

from types import SimpleNamespace
from typing import Any

from gkv.node.tidying import Tidying


def test_what_is_due_is_looked_for_again_at_once_as_long_as_there_may_be_more() -> None:
    due = [f"key/{number}" for number in range(450)]
    engine = SimpleNamespace(due=lambda _now, limit: due[:limit])
    placement = SimpleNamespace(led_by=lambda _me, keys: keys)

    def handle(event: Any) -> None:
        del due[: len(event.keys)]

    tidying = Tidying(
        engine,  # type: ignore[arg-type]
        SimpleNamespace(placement=placement),  # type: ignore[arg-type]
        SimpleNamespace(handle=handle, me="n1"),  # type: ignore[arg-type]
        SimpleNamespace(now=lambda: 1),  # type: ignore[arg-type]
    )
    assert [tidying.expire() for _ in range(4)] == [True, True, False, False]
    assert not due
