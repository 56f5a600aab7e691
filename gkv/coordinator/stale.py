"""Reads that any copy may answer (`?stale=1`): from whichever acting member is there, be it the newest or not.

Promise: no member that does not count is asked, and a key that nobody has answered is not reported missing.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from gkv.cluster.view import View
from gkv.coordinator.channels import Channels, understand
from gkv.coordinator.failures import NO_PRIMARY, STALE, UNREACHABLE
from gkv.model import Damage, KeyFailure, Node, Record
from gkv.net.call import Lane, ask_all
from gkv.replication.expiry import is_due
from gkv.wire.batch import as_found
from gkv.wire.meta import Found
from gkv.wire.ops import Peek, Records, Refused


@dataclass(frozen=True, slots=True)
class Peeked:
    """The records that copies have; for how many ms one of them has not heard the primary at most, None if one cannot say."""

    found: Sequence[Found | KeyFailure | None]
    age: int | None


class Copies:
    """Asks for what copies have."""

    def __init__(self, view: View, channels: Channels) -> None:
        self._view = view
        self._channels = channels

    def look(self, keys: Sequence[str], request_id: str, expires: float) -> Peeked:
        """Return what an acting member has of each key. Raise Unavailable while there is no member. Switches greenlets."""
        document, placement = self._view.current()
        acting = [placement.roles[placement.list_of(key)].acting for key in keys]
        nodes: dict[str, Node] = {member.id: member.node for member in document.members}
        ranked = random.sample(sorted(nodes), len(nodes))  # the same for all keys, so that few nodes are asked
        found: list[Found | KeyFailure | None] = [UNREACHABLE if one else NO_PRIMARY for one in acting]
        ages: list[int | None] = []
        left = list(range(len(keys)))
        for turns in range(max(map(len, acting), default=1), 0, -1):
            parts: dict[str, list[int]] = {}
            for place in left:
                choice = next((one for one in ranked if one in acting[place]), None)
                if choice is not None:
                    parts.setdefault(choice, []).append(place)
            if not parts:
                break
            frames = [
                Peek(document.cluster, document.era, [keys[place] for place in places]).write() for places in parts.values()
            ]
            asked = [(self._channels.to(nodes[one]), frame) for one, frame in zip(parts, frames, strict=True)]
            now = monotonic()
            replies = ask_all(asked, now + (expires - now) / turns, request_id, lane=Lane.READ)
            left = []
            for (node_id, places), reply in zip(parts.items(), replies, strict=True):
                answer = understand(reply, Records, len(places))
                if isinstance(answer, Records):
                    ages.append(answer.age)
                    for place, record in zip(places, answer.records, strict=True):
                        if isinstance(record, Damage):  # another copy may be intact
                            acting[place] = tuple([one for one in acting[place] if one != node_id])
                            left.append(place)
                        hidden = isinstance(record, Record) and is_due(record, answer.now)  # as it may not be the newest
                        found[place] = None if hidden else as_found(record, answer.now)
                    continue
                ranked.remove(node_id)
                left += places
                for place in places:
                    found[place] = STALE if isinstance(answer, Refused) else UNREACHABLE
        known = [age for age in ages if age is not None]
        return Peeked(found, max(known) if known and len(known) == len(ages) else None)
