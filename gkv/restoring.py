"""`gkv-proxy --restore`: makes a new cluster of a member list and snapshots, and ends.

Promises: nothing is changed before all that is named was looked at and found to go together; nothing is said to any process.
The member list is written last: until then the old one stands there, and its cluster refuses the directories.
"""

import secrets
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from gkv.cluster.document import Document
from gkv.cluster.kept import Kept
from gkv.cluster.restored import Restored, restored
from gkv.cluster.store import FileStore
from gkv.config import Settings
from gkv.engine.snapshot_file import SnapshotDirectory
from gkv.errors import ConfigError, EngineError
from gkv.process.standard import announce


def restore(settings: Settings) -> None:
    """Restore, and say what has come of it. Raise ConfigError, EngineError, Unavailable or OSError.

    A signal waits for the end.
    """
    paths = _paths(settings.restore)
    with ExitStack() as opened:
        store = FileStore(Path(settings.data or "gkv-data/proxy"))
        opened.callback(store.close)
        before = store.load()
        if before is None:
            raise ConfigError(f"there is no {store.path}: put the member list of the backup there")
        found = [_open(path, opened) for path in paths]
        incarnations = {node.id: secrets.randbits(64) for node in before.nodes}
        document = restored(before, [_described(one) for one in found], uuid.uuid4().hex, incarnations)
        for one in found:
            _count_as_the_directory(one, document.cluster, incarnations[one.content.node])
        store.replace_if(before, document)
    _say(document, found)


def _paths(text: str) -> list[Path]:
    paths: list[Path] = []
    for part in text.split(","):
        path = Path(part.strip())
        if not part.strip():
            raise ConfigError(f"--restore {text!r} names no directory in one of its places")
        if path.resolve() in [one.resolve() for one in paths]:
            raise ConfigError(f"--restore names {path} twice")
        paths.append(path)
    return paths


def _open(path: Path, opened: ExitStack) -> SnapshotDirectory:
    found = SnapshotDirectory(path)
    opened.callback(found.release)
    if Kept(path).document is not None:
        raise EngineError(f"{path} has the document of a cluster: put the snapshot into a directory with nothing else in it")
    return found


def _described(one: SnapshotDirectory) -> Restored:
    content = one.content
    return Restored(content.node, content.cluster, content.era, content.dated, str(one.path))


def _count_as_the_directory(one: SnapshotDirectory, cluster: str, incarnation: int) -> None:
    """Have a directory be the one in which a process of this incarnation ended in an orderly way, until another runs there."""
    kept = Kept(one.path)
    kept.begin(incarnation, None)
    kept.note_granted(there=True)  # as of every directory of which nobody knows; written now, it leaves the next note alone
    kept.note_orderly()
    one.assign(cluster, incarnation)


def _say(document: Document, found: list[SnapshotDirectory]) -> None:
    by_node = {one.content.node: one for one in found}
    announce(f"Restored: cluster {document.cluster}, of {len(found)} snapshots for {len(document.members)} members")
    missing = sum(not member.rank for member in document.members)
    for member in sorted(document.members, key=lambda member: -member.rank):
        if not member.rank:
            announce(f"{member.id}: no snapshot. Start it with an empty directory; it is filled from those that have its keys")
            continue
        one = by_node[member.id]
        taken = datetime.fromtimestamp(one.content.dated / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        when = taken if one.content.dated else "a time that is not known"
        announce(f"{member.id}: {one.content.keys} keys in {one.path}, of {when}, rank {member.rank}")
    if missing >= document.replicas:
        announce(
            "Keys of which all copies were at members without a snapshot are not here: they fail with no-primary until you "
            "restore anew with a snapshot of these members, or accept their loss: POST /v1/cluster/accept-loss"
        )
