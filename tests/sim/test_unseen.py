"""The guards of which no run shows the need: what each does, and that it is done no more without it."""

from collections.abc import Callable

import pytest

from gkv.duties import Duties, Line, Roles
from gkv.model import Version, Write, era_of
from gkv.replication import filling
from gkv.replication.events import Adopted, Received
from gkv.replication.expiry import DueTime
from gkv.replication.granter import Granter
from gkv.replication.messages import Behind, Copy
from gkv.replication.primary import Primary
from gkv.replication.replica import Replica
from gkv.replication.takeover import Takeovers
from tests.sim.controls import UNSEEN
from tests.sim.guards import without

LIST = ("a", "b", "c")
ALL_UP = Roles(LIST, (), "a", LIST)
LEARNING = Roles(LIST, (), "a", ("a", "b"), ("c",))


def duties(me: str, epoch: int, roles: Roles = ALL_UP, incarnation: int = 1) -> Duties:
    """Return what a member knows of a document with one list."""
    lines = {"a": Line(incarnation), "b": Line(2), "c": Line(3)}
    return Duties(me, (1, epoch), lines, (roles,), lambda keys: [0] * len(keys), ring=LIST)


def write(counter: int) -> Write:
    return Write(Version(era_of(1, 1), counter), ["k"], [b"1"])


def _settles_earlier_ones() -> bool:
    primary = Primary()
    first = primary.admit(write(1), duties("a", 1), 1)
    second = primary.admit(write(2), duties("a", 1), 2)
    primary.committed(1)
    primary.committed(2)
    primary.acknowledged("b", [second.write.version])
    return primary.acknowledged("c", [second.write.version]) == [first, second]


def _answers_older_epochs_with_its_own() -> bool:
    class Nothing:
        def newest(self, keys: list[str]) -> list[None]:
            return [None] * len(keys)

        def has_room(self, *_: object) -> bool:
            return True

        def walk(self, *_: object) -> tuple[list[str], None]:
            return [], None

        def between(self, *_: object) -> list[str]:
            return []

        def is_summed_up(self, *_: object) -> bool:
            return True

    replica = Replica("b", 2, Nothing(), DueTime(0, 0), 0.0)
    replica.handle(Adopted(duties("b", 2)), 0.0)
    actions = replica.handle(Received("a", 1, era_of(1, 1), Copy(7, (write(1),))), 1.0)
    return [action.message for action in actions] == [Behind(7)] if len(actions) == 1 else False


def _takes_over_anew_after_a_gap() -> bool:
    takeovers = Takeovers()
    takeovers.adopt(duties("a", 1), duties("a", 2), serves=True)
    for granter in ("b", "c"):
        takeovers.named(granter, [], duties("a", 2))
    takeovers.open_ready()
    assert takeovers.adopt(duties("a", 2), duties("a", 3), serves=True)
    return not takeovers.adopt(duties("a", 3), duties("a", 5), serves=True)


def _notes_before_the_commit() -> bool:
    granter = Granter()
    granter.take("a", 1, [write(1)], 0.0, iter(range(9)).__next__)
    return granter.is_unsettled("k")


def _is_with_one_process() -> bool:
    return filling.session_of(LEARNING, duties("c", 2)) != filling.session_of(LEARNING, duties("c", 3, incarnation=9))


TABLE: dict[str, Callable[[], bool]] = {
    "writes are settled one by one": _settles_earlier_ones,
    "older epochs count": _answers_older_epochs_with_its_own,
    "a gap is no gap": _takes_over_anew_after_a_gap,
    "unsettled is noted late": _notes_before_the_commit,
    "a filling outlives its primary": _is_with_one_process,
}


@pytest.mark.parametrize("name", UNSEEN)
def test_guard_does_what_is_gone_without_it(name: str) -> None:
    assert TABLE[name](), UNSEEN[name].guard
    with without(UNSEEN[name].out):
        assert not TABLE[name]()
