"""Documents of clusters whose members are all up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gkv.cluster.document import Document, Member
from gkv.model import Node

CLUSTER = "0123456789abcdef" * 2


def lines(nodes: Sequence[Node], incarnation: int = 0) -> tuple[Member, ...]:
    """Return a line for each node, up since the first epoch."""
    return tuple(Member(node.id, node.url, node.weight, incarnation=incarnation) for node in nodes)


def document(nodes: Sequence[Node] = (), epoch: int = 7, vnodes: int = 16, cluster: str = CLUSTER, **parts: Any) -> Document:
    """Return a document with these members, all up."""
    return Document(cluster, epoch, lines(nodes), vnodes, **parts)


def with_copies(changes: Mapping[str, Mapping[str, Any]] | None = None, ids: str = "abc", **parts: Any) -> Document:
    """Return a document that asks for three copies. Members have letters, which are their incarnations too, and are up but for
    `changes` of their lines.
    """
    members = []
    for one in ids:
        line = Member(one, f"http://{one}:1", incarnation=ord(one), directory=ord(one))
        members.append(replace(line, **(changes or {}).get(one, {})))
    return Document(CLUSTER, 7, tuple(members), 16, **{"replicas": 3, **parts})


def changing(before: Document) -> Document:
    """Return the document that follows, by which the ring is to change."""
    epoch = before.epoch + 1
    return replace(before, epoch=epoch, next=before.layout, next_since=epoch)


def changed(before: Document) -> Document:
    """Return the document that follows, without a change."""
    return replace(before, epoch=before.epoch + 1, next=None, next_since=0)
