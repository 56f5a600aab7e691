"""`gkv snapshot` and `gkv verify`: a copy of each node and of the member list, laid out as `gkv-proxy --restore` takes it, and
a look at such copies while no node runs on them.
"""

import http.client
import json
import shlex
import ssl
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gkv.client import Unavailable
from gkv.client.calls import Call, problem_in
from gkv.client.transport import Answer
from gkv.client.words import words_of
from gkv.command.codes import Code, Ended
from gkv.command.printing import document, plain, size
from gkv.command.servers import Servers, copy_to

_OF_THE_MOMENT = {"answers", "keys", "loss_in", "removal_in", "filling"}
"""What `/v1/cluster` says of members that their document does not."""
_SILENCE = 60.0
_SHOWN = 20


def snapshot(said: Namespace) -> int:
    """Copy all nodes, then the member list."""
    target = Path(said.DIR)
    if target.exists() and any(target.iterdir()):
        raise Ended(f"{target} is not empty; a backup takes a directory of its own", Code.USAGE)
    servers = Servers.of(said)
    _, cluster = servers.proxy()
    members = [member for member in cluster["members"] if member["weight"]]  # others hold nothing that the ring has
    if not members:
        raise Ended("there are no members yet", Code.NOT_SO)
    if cluster["next"] is not None:
        raise Ended("the ring is changing: a newcomer has a part of its keys; gkv status shows how far it is", Code.LATER)
    away = [member["id"] for member in members if member["state"] != "up"]
    if away and not said.partial:
        raise Ended(f"not up: {', '.join(away)}; --partial copies the others", Code.LATER)
    target.mkdir(parents=True, exist_ok=True)
    rows = []
    for member in members:
        if member["id"] in away:
            continue
        directory = target / quote(member["id"], safe=".-_")
        directory.mkdir()
        count = _copy(servers, member["url"], directory)
        rows.append({"node": member["id"], "directory": str(directory), "bytes": count})
        if not said.json:
            print(f"{member['id']}: {size(count)} in {directory}")
    _, after = servers.proxy()  # the member list is copied last: it may know later changes than the copies, never earlier ones
    if _ring(after) != _ring(cluster):
        raise Ended(f"the ring has changed meanwhile, so keys may be in none of the copies in {target}: begin anew", Code.LATER)
    _keep_members(target / "proxy", after)
    if said.json:
        document({"nodes": rows, "members": str(target / "proxy" / "cluster.json")})
    else:
        here = ",".join(row["directory"] for row in rows)
        command = shlex.join(["gkv-proxy", "--data", str(target / "proxy"), "--restore", here])
        print(f"To have it back, with a copy of {target}: {command}")
    return Code.DONE


def _ring(cluster: dict[str, Any]) -> Any:
    """Return what tells whether keys have moved, or are about to, between two looks."""
    weights = {member["id"]: member["weight"] for member in cluster["members"] if member["weight"]}
    zones = {member["id"]: member["zone"] for member in cluster["members"]}
    return weights, zones, cluster["next"], cluster["next_since"], cluster["replicas"], cluster["vnodes"]


def _copy(servers: Servers, url: str, directory: Path) -> int:
    """Copy a node. A copy that breaks off leaves a .part alone. Raises ClientError and Ended."""
    part = directory / "data.mdb.part"
    with servers.asked(url, "/v1/snapshot", _SILENCE) as answer:
        if answer.status != 200:
            headers = {name.lower(): value for name, value in answer.getheaders()}
            error = problem_in(Answer(answer.status, headers, answer.read(), 0), Call("GET", "/v1/snapshot"))
            raise error or Unavailable(f"{url}: no snapshot", "broken")
        try:
            count = copy_to(answer, part)
        except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            raise Unavailable(f"{url}: the snapshot broke off: {words_of(error)}", "broken") from error
    part.replace(directory / "data.mdb")
    return count


def _keep_members(directory: Path, cluster: dict[str, Any]) -> None:
    kept = {name: value for name, value in cluster.items() if name not in ("waits_for", "change", "copies")}
    kept["members"] = [
        {name: value for name, value in member.items() if name not in _OF_THE_MOMENT} for member in cluster["members"]
    ]
    directory.mkdir()
    (directory / "cluster.json").write_text(json.dumps(kept, indent=2), encoding="utf-8")


def verify(said: Namespace) -> int:
    """Look at snapshots."""
    from gkv.engine.snapshot_check import check_snapshot
    from gkv.errors import GkvError
    from gkv.ring import tokens

    worst = Code.DONE
    for file in [file for text in said.PATH for file in _files(Path(text))]:
        try:
            found = check_snapshot(file, tokens)
        except GkvError as error:
            worst = Code.NOT_SO
            _say(said, {"file": str(file), "problems": [str(error)]}, f"{file}: {error}")
            continue
        taken = datetime.fromtimestamp(found.dated / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if found.dated else ""
        if found.problems:
            worst = Code.NOT_SO
        row = {"file": str(file), "node": found.node, "cluster": found.cluster, "keys": found.keys, "taken": taken}
        when = f", taken at {taken}" if taken else ""
        fine = f"{len(found.problems):,} problems" if found.problems else "ok"
        text = f"{file}: {fine}: {found.keys:,} keys of node {found.node}, cluster {found.cluster}{when}"
        _say(said, row | {"problems": list(found.problems)}, "\n  ".join([text, *map(plain, found.problems[:_SHOWN])]))
    return worst


def _say(said: Namespace, row: dict[str, Any], text: str) -> None:
    if said.json:
        document(row)
    else:
        print(text)


def _files(path: Path) -> Iterator[Path]:
    """Yield the data files at a path: itself, the one in it, or those of a whole backup. Raises Ended for none."""
    if path.is_file():
        yield path
    elif (path / "data.mdb").exists():
        yield path / "data.mdb"
    elif found := sorted(path.glob("*/data.mdb")):
        yield from found
    else:
        raise Ended(f"{path}: there is no snapshot", Code.NOT_SO)
