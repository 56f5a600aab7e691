"""Work for which nobody waits: a bounded part of it at a time, and all of it in the end."""

from types import SimpleNamespace
from typing import Any

from gkv.engine import LmdbEngine
from gkv.model import Version, Write
from gkv.node.tidying import Tidying
from gkv.ring import tokens

LARGE = 1 << 19


def test_search_for_others_reads_few_large_records_at_a_time(tmp_path: Any) -> None:
    engine = LmdbEngine(tmp_path / "data", "n1", tokens)
    keys = [f"key/{number}" for number in range(12)]
    engine.write([Write(Version(1, 1), keys, [b"1" * LARGE] * len(keys))], 0)
    read: list[int] = []
    arc = engine.arc

    def counted(*asked: Any) -> Any:
        found = arc(*asked)
        read.append(len(found))
        return found

    engine.arc = counted  # type: ignore[method-assign, assignment]
    dropped: list[str] = []
    stored = SimpleNamespace(
        placement=SimpleNamespace(lists=object(), coming=None),
        replace=lambda _records, drops: dropped.extend(drops),
        tidied=None,
    )
    copies = SimpleNamespace(serves=True, replica=SimpleNamespace(may_drop=lambda key: key.endswith("1")))
    tidying = Tidying(engine, stored, copies, SimpleNamespace())  # type: ignore[arg-type]
    while tidying.drop():
        assert len(read) < 20
        assert stored.tidied is None
    assert stored.tidied == (stored.placement.lists, None)
    assert sum(read) == len(keys)
    assert max(read) * LARGE <= 2 << 20
    assert sorted(dropped) == ["key/1", "key/11"]
    engine.close()


def test_what_is_due_is_looked_for_again_at_once_as_long_as_there_may_be_more() -> None:
    due = [f"key/{number}" for number in range(450)]
    engine = SimpleNamespace(due=lambda _now, limit: due[:limit])
    placement = SimpleNamespace(roles=[SimpleNamespace(primary="n1")], list_of=lambda _key: 0)

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
