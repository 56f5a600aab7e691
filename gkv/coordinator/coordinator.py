"""Read, write and delete a batch of keys at their owners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from gkv.cluster.document import Document
from gkv.cluster.view import View
from gkv.coordinator.exchanges import Exchanges, understand
from gkv.model import KeyFailure, Node, NodeReply, Outcome
from gkv.net.channel import ask_all
from gkv.ring import Share
from gkv.wire.client import Answer
from gkv.wire.frames import Reply, Request, write_request

_ATTEMPTS = 3
"""A node of another epoch costs one more; a join that ends meanwhile, another. Then something else is wrong."""

READ_FAILURES = {
    Outcome.ANSWERED: KeyFailure("bad-answer"),
    Outcome.UNREACHABLE: KeyFailure("unreachable"),
    Outcome.OVERLOADED: KeyFailure("overloaded"),
    Outcome.TIMEOUT: KeyFailure("timeout"),
    Outcome.LOST: KeyFailure("unreachable"),
}
NOT_APPLIED = KeyFailure("not-applied")
INDETERMINATE = KeyFailure("indeterminate")
"""The write may show up now, later or never. Repeating it is harmless."""
STALE = KeyFailure("epoch")
REFUSED = KeyFailure("refused", retryable=False)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a set: how many keys are set, by how many owners, and the keys that have no definite answer."""

    keys: int = 0
    nodes: int = 0
    failed: dict[str, KeyFailure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of a delete: how many keys existed, and the keys that have no definite answer."""

    existed: int = 0
    failed: dict[str, KeyFailure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    """One owner's part of a batch and what became of it: a reply, or else a failure."""

    node: Node
    positions: list[int]
    keys: list[str]
    reply: Reply | None
    failure: KeyFailure


class Coordinator:
    """Splits batches by the ring of a view, asks the owners in parallel, joins their answers."""

    def __init__(self, view: View, exchanges: Exchanges, deadline: float) -> None:
        """`deadline` is in seconds, for a whole request."""
        self._view = view
        self._exchanges = exchanges
        self._deadline = deadline

    def read(self, keys: Sequence[str]) -> list[Answer]:
        """Return what is known about each key, in this order. Raise Unavailable while there is no member."""
        answers: list[Answer] = [None] * len(keys)
        for part in self._run("get", keys, {}):
            if part.reply is None:
                for position in part.positions:
                    answers[position] = part.failure
            else:
                for position, value in zip(part.positions, part.reply.values, strict=True):
                    answers[position] = value
        return answers

    def write(self, items: Mapping[str, bytes]) -> Written:
        """Set all of these. Raise Unavailable while there is no member; then, nothing is set."""
        parts = self._run("set", list(items), items)
        done = [part for part in parts if part.reply is not None]
        return Written(sum(len(part.keys) for part in done), len({part.node.id for part in done}), _failed(parts))

    def delete(self, keys: Sequence[str]) -> Deleted:
        """Delete these keys; one that stands twice counts once. Raise Unavailable while there is no member."""
        parts = self._run("delete", list(dict.fromkeys(keys)), {})
        return Deleted(sum(part.reply.count for part in parts if part.reply is not None), _failed(parts))

    def _run(self, op: str, keys: Sequence[str], items: Mapping[str, bytes]) -> list[_Part]:
        """Ask the owners of all keys; return the parts, which together have each key once."""
        if not keys:
            return []
        self._view.current()
        expires = monotonic() + self._deadline
        done: list[_Part] = []
        positions: Sequence[int] = range(len(keys))
        for attempt in range(_ATTEMPTS):
            if op != "get" and not self._view.wait_settled(expires - monotonic()):
                # The first attempt applied nothing of these; a later one only repeats what was refused.
                done.append(_Part(Node(""), list(positions), [keys[i] for i in positions], None, NOT_APPLIED))
                break
            document, ring = self._view.current()
            shares = ring.split([keys[i] for i in positions])
            again: list[int] = []
            for share, part in zip(shares, self._ask(op, document, shares, items, expires), strict=True):
                original = [positions[i] for i in share[1]]
                reply = part.reply
                if reply is not None and reply.refused and attempt + 1 < _ATTEMPTS and self._reconcile(part.node, reply):
                    again += original
                elif reply is not None and reply.refused:
                    failure = STALE if reply.refused in ("stale", "changing") else REFUSED
                    done.append(_Part(part.node, original, part.keys, None, failure))
                else:
                    done.append(_Part(part.node, original, part.keys, reply, part.failure))
            if not again:
                break
            positions = again
        return done

    def _ask(
        self, op: str, document: Document, shares: Sequence[Share], items: Mapping[str, bytes], expires: float
    ) -> list[_Part]:
        asked = []
        for node, _, keys in shares:
            values = [items[key] for key in keys] if op == "set" else []
            request = Request(op, document.cluster, document.epoch, keys, values)
            asked.append((self._exchanges.to(node), write_request(request)))
        failure = _read_failure if op == "get" else _write_failure
        return [
            _Part(node, positions, keys, understand(reply, keys if op == "get" else None), failure(reply))
            for (node, positions, keys), reply in zip(shares, ask_all(asked, expires), strict=True)
        ]

    def _reconcile(self, node: Node, reply: Reply) -> bool:
        """After a refusal, bring this process and a node to the same document. Return whether asking again may help."""
        if reply.refused == "changing":
            return True  # what comes next waits until the change is over
        if reply.refused != "stale":
            return False
        mine, _ = self._view.current()
        try:
            theirs = Document.from_json(reply.document) if reply.document is not None else None
        except ValueError:
            return False
        if theirs is not None and theirs.cluster == mine.cluster and theirs.epoch > mine.epoch:
            self._view.adopt(theirs)
            return True
        return self._exchanges.adopt(mine, [node]) != [None]


def _read_failure(reply: NodeReply) -> KeyFailure:
    return READ_FAILURES[reply.outcome]


def _write_failure(reply: NodeReply) -> KeyFailure:
    if reply.outcome is Outcome.OVERLOADED:
        return READ_FAILURES[reply.outcome]
    return INDETERMINATE if reply.sent else NOT_APPLIED


def _failed(parts: Sequence[_Part]) -> dict[str, KeyFailure]:
    return {key: part.failure for part in parts if part.reply is None for key in part.keys}
