"""Records that a look has found to be damaged, before anybody has asked for them: a primary recovers its own, and a granter
tells the primary, which writes its own settled record anew. No copy is made whole by any other way than a write.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from gkv.duties import Roles
from gkv.model import Damage, Record
from gkv.replication.desk import Desk
from gkv.replication.events import pair_of
from gkv.replication.messages import FoundDamaged
from gkv.replication.takeover import Takeovers
from gkv.replication.writing import MOST_BYTES_AT_ONCE, Writing

MOST_TOLD = 64
"""Keys in one word, and of one word that are heard: a later look finds the others."""


class Recover(Protocol):
    """Asks all other acting members for a record, `but` for one."""

    def __call__(self, key: str, but: str = "") -> None: ...


class Mending:
    """The part of one process in this, as a primary and as a granter."""

    def __init__(
        self,
        desk: Desk,
        writing: Writing,
        takeovers: Takeovers,
        recover: Recover,
        may_begin: Callable[[Roles, bool], bool],
    ) -> None:
        self._desk = desk
        self._writing = writing
        self._takeovers = takeovers
        self._recover = recover
        self._may_begin = may_begin

    def found(self, keys: Sequence[str]) -> None:
        """Have records mended that are damaged here, or lost. Those of which this process is neither the primary nor a granter
        will be dropped.
        """
        desk = self._desk
        if not desk.serves:
            return
        told: dict[str, list[str]] = {}
        for key in keys:
            roles = desk.duties.roles_of(key)
            if desk.mine(roles):
                self._recover_if_damaged(key, roles)
            elif roles.primary is not None and desk.me in roles.granters:
                told.setdefault(roles.primary, []).append(key)
        for primary, some in told.items():
            desk.send(primary, FoundDamaged(0, tuple(some[:MOST_TOLD])))

    def _recover_if_damaged(self, key: str, roles: Roles) -> None:
        record, _ = self._writing.newest([key])[0]
        if self._takeovers.reign(pair_of(roles)) is not None and not isinstance(record, Record):
            self._recover(key)

    def told(self, sender: str, keys: Sequence[str]) -> None:
        """Write the own records of keys anew, or their absence as a tombstone, as one of a granter is damaged (T3).

        What has a write under way is left to that, and what may not begin, or has no room, to a later look.
        """
        desk, writing = self._desk, self._writing
        anew: list[tuple[str, Record | None]] = []
        size = 0
        for key in keys[:MOST_TOLD]:
            roles = desk.duties.roles_of(key)
            if not desk.mine(roles) or sender not in roles.granters or not self._may_begin(roles, True):
                continue
            record, underway = writing.newest([key])[0]
            if isinstance(record, Damage):
                self._recover(key)
            elif record is None and {*roles.acting} - {desk.me, sender}:  # it may be lost here: they are asked first
                self._recover(key, sender)
            elif underway is None and not (record and record.value is not None and desk.questions.full & set(roles.granters)):
                anew.append((key, record))
                size += 0 if record is None or record.value is None else len(record.value)
                if size > MOST_BYTES_AT_ONCE:
                    break
        if anew and not writing.crowded and (not size or writing.has_room(size, len(anew))):
            writing.write_anew(anew)
