"""`gkv status`, `gkv members` and `gkv ring`: what the proxy knows of the members, and what each of them says of itself."""

from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gkv.client import ClientError
from gkv.command.codes import Code
from gkv.command.printing import document, plain, size, table, time
from gkv.command.servers import Servers, not_gkvs
from gkv.model import Node
from gkv.ring import build

_FIGURES = {
    "gkv_engine_keys": "keys",
    "gkv_engine_file_bytes": "fileBytes",
    "gkv_engine_free_bytes": "freeBytes",
    "gkv_engine_full": "full",
    "gkv_engine_damaged_records": "damaged",
    "gkv_snapshot_running": "snapshotRunning",
}
_ASKED_AT_ONCE = 16
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Said:
    """What a node says of itself: its figures, and the lines of /readyz that are not ok; why not, if it says nothing."""

    figures: dict[str, float]
    complaints: tuple[str, ...] = ()
    why_not: str = ""


def status(said: Namespace) -> int:
    """Show how the cluster is."""
    servers = Servers.of(said)
    url, cluster = servers.proxy()
    ready, complaints = _readiness(servers, url)
    nodes = _asked(servers, cluster["members"])
    worries = {member["id"]: _worries(member, nodes[member["id"]]) for member in cluster["members"]}
    fine = ready and not complaints and not any(worries.values())
    if said.json:
        document(_as_json(cluster, ready, complaints, nodes, worries))
    else:
        _show(cluster, url, ready, complaints, nodes, worries)
    return Code.DONE if fine else Code.NOT_SO


def _readiness(servers: Servers, url: str) -> tuple[bool, list[str]]:
    """Return whether a process is ready, and what it complains of."""
    code, text = servers.look(url, "/readyz?verbose")
    return code == 200, complaints_in(text)


def complaints_in(text: str) -> list[str]:
    """Return the lines of /readyz?verbose that are not ok.

    >>> complaints_in("[+]serving ok\\n[-]members failed: no node has joined yet\\n[!]clock 3 s behind\\nnot ready\\n")
    ['members failed: no node has joined yet', 'clock 3 s behind']
    """
    return [line[3:] for line in text.splitlines() if line.startswith(("[-]", "[!]"))]


def figures_in(text: str) -> dict[str, float]:
    """Return the figures that are shown, out of those of /metrics.

    >>> figures_in("# HELP x\\ngkv_engine_keys 3.0\\ngkv_engine_info{engine=\\"lmdb\\"} 1.0\\n")
    {'keys': 3.0}
    """
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name in _FIGURES:
            found[_FIGURES[name]] = float(value)
    return found


def _asked(servers: Servers, members: list[dict[str, Any]]) -> dict[str, Said]:
    def ask(member: dict[str, Any]) -> Said:
        try:
            code, text = servers.look(member["url"], "/metrics")
            figures = figures_in(text) if code == 200 else {}
            complaints = complaints_in(servers.look(member["url"], "/readyz?verbose")[1])
            return Said(figures, tuple(complaints), "" if code == 200 else f"/metrics answers {code}")
        except ClientError as error:
            return Said({}, (), error.detail.removeprefix(f"{member['url']}: "))

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return dict(zip([member["id"] for member in members], pool.map(ask, members), strict=True))


def _worries(member: dict[str, Any], said: Said) -> list[str]:
    """Return what is not as it should be with a member."""
    found = []
    if member["state"] == "down":
        found.append(f"down since epoch {member['since']}")
    elif not member.get("answers"):
        found.append("silent: its proxy does not hear it")
    if member.get("empty"):
        found.append("came back without its records")
    if filling := member.get("filling"):
        found.append(f"filling: {filling['share']:.0%}, {filling['equal']} of {filling['lists']} lists")
    elif member["state"] == "filling":
        found.append("filling")
    if "loss_in" in member:
        found.append(f"its loss takes effect in {time(member['loss_in'])}")
    if "removal_in" in member:
        found.append(f"is removed in {time(member['removal_in'])}")
    if said.figures.get("full"):
        found.append("FULL: sets are refused")
    if said.figures.get("damaged"):
        found.append(f"{said.figures['damaged']:.0f} damaged records")
    found += said.complaints
    if said.why_not and member["state"] != "down":
        found.append(f"cannot be asked: {said.why_not}")
    return found


def change_in(cluster: dict[str, Any]) -> str:
    """Return the line about the change that is under way, "" for none."""
    change = cluster.get("change")
    if not change:
        return ""
    left = change.get("left")
    pace = "paused" if change.get("paused") else f"{change.get('rate', 0):,.0f} records/s"
    ends = f", about {time(left)} left" if left is not None else ""
    return f"{change.get('what', change.get('kind', 'a change'))}: {change.get('share', 0):.0%} done, {pace}{ends}"


def dropping_in(cluster: dict[str, Any]) -> str:
    """Return the line about members that have left the ring and drop what others have now, "" for none.

    >>> dropping_in({"members": [{"id": "a:1", "weight": 0.0, "keys": 1200}, {"id": "b:1", "weight": 1.0, "keys": 3000}]})
    'a:1 has left the ring and drops its keys (1,200)'
    >>> dropping_in({"members": [{"id": "c:1", "weight": 0.0, "keys": 80}], "next": {"weights": [["c:1", 1.0]]}})
    ''
    """
    coming = {node_id for node_id, _ in (cluster.get("next") or {}).get("weights", ())}
    return "; ".join(
        f"{member['id']} has left the ring and drops its keys ({member['keys']:,})"
        for member in cluster["members"]
        if not member["weight"] and member.get("keys") and member["id"] not in coming
    )


def _show(
    cluster: dict[str, Any],
    url: str,
    ready: bool,
    complaints: list[str],
    nodes: dict[str, Said],
    worries: dict[str, list[str]],
) -> None:
    members = cluster["members"]
    up = sum(member["state"] == "up" for member in members)
    print(f"cluster  {cluster['cluster']}, epoch {cluster['epoch']}, at {url}")
    print(f"members  {up} of {len(members)} up; copies {cluster['replicas']}, of which a write needs {cluster['min_in_sync']}")
    print(f"ready    {'yes' if ready else 'no'}{': ' if complaints else ''}{'; '.join(complaints)}")
    if waiting := cluster.get("waits_for"):
        print(f"waits    for {', '.join(waiting)}: start them; or, if what they have is lost, gkv accept-loss")
    copies = cluster.get("copies") or {}
    if copies.get("missing") or copies.get("unanswered"):
        print(f"copies   {copies['missing']:.1%} of them missing; nobody answers for {copies['unanswered']:.1%} of the keys")
    print(f"change   {'; '.join(filter(None, (change_in(cluster), dropping_in(cluster)))) or 'none'}")
    rows = []
    for member in members:
        figures = nodes[member["id"]].figures
        file, free = figures.get("fileBytes"), figures.get("freeBytes")
        used = _NOTHING if file is None or free is None or not file + free else f"{file / (file + free):.0%}"
        rows.append(
            [
                member["id"],
                member["state"],
                f"{figures['keys']:,.0f}" if "keys" in figures else _NOTHING,
                _NOTHING if file is None else size(file),
                _NOTHING if free is None else size(free),
                used,
                "; ".join(map(plain, worries[member["id"]])),
            ]
        )
    if rows:
        print()
        print(table(["NODE", "STATE", "KEYS", "FILE", "FREE", "USED", "WHAT IS WRONG"], rows, "KEYS FILE FREE USED"))


def _as_json(
    cluster: dict[str, Any], ready: bool, complaints: list[str], nodes: dict[str, Said], worries: dict[str, list[str]]
) -> dict[str, Any]:
    shown = {
        name: cluster.get(name) for name in ("cluster", "epoch", "replicas", "min_in_sync", "waits_for", "copies", "change")
    }
    rows = [
        {"id": member["id"], "url": member["url"], "state": member["state"], "wrong": worries[member["id"]]}
        | nodes[member["id"]].figures
        | ({"filling": member["filling"]} if "filling" in member else {})
        for member in cluster["members"]
    ]
    return {"ready": ready, "complaints": complaints, **shown, "nodes": rows}


def members(said: Namespace) -> int:
    """Show the members."""
    _, cluster = Servers.of(said).proxy()
    if said.json:
        document(cluster["members"])
    else:
        rows = [
            [
                member["id"],
                member["url"],
                member["state"],
                "yes" if member.get("answers") else "no",
                _NOTHING if member.get("keys") is None else f"{member['keys']:,}",
                f"{member['weight']:g}",
                member["zone"] or _NOTHING,
            ]
            for member in cluster["members"]
        ]
        print(table(["NODE", "URL", "STATE", "ANSWERS", "KEYS", "WEIGHT", "ZONE"], rows, "KEYS WEIGHT"))
    return Code.DONE if cluster["members"] else Code.NOT_SO


def ring(said: Namespace) -> int:
    """Show the ring's shares."""
    servers = Servers.of(said)
    with servers.client() as client:
        found = client.ask("/v1/ring")
    if not isinstance(found, dict) or not {"nodes", "epoch", "vnodes", "replicas", "hash"} <= found.keys():
        raise not_gkvs(servers.urls[0], "/v1/ring")
    if said.json:
        document(found)
        return Code.DONE
    shares = found.get("primaries") or _shares(found)
    heavy = sum(node["weight"] for node in found["nodes"])
    copies = f"{found['replicas']} {'copy' if found['replicas'] == 1 else 'copies'}"
    print(f"epoch {found['epoch']}, {found['vnodes']:,} vnodes, {copies}, {found['hash']}")
    print()
    rows = [
        [
            node["id"],
            node["state"],
            f"{node['weight']:g}",
            node["zone"] or _NOTHING,
            f"{shares.get(node['id'], 0):.1%}",
            f"{node['weight'] / heavy:.1%}",
        ]
        for node in found["nodes"]
    ]
    print(table(["NODE", "STATE", "WEIGHT", "ZONE", "ANSWERS FOR", "BY WEIGHT"], rows, "WEIGHT"))
    return Code.DONE


def _shares(found: dict[str, Any]) -> dict[str, float]:
    """Return the share of each node with one copy, for which the servers say none: it is what the tokens give."""
    nodes = [Node(node["id"], node["url"], node["weight"]) for node in found["nodes"]]
    return build(nodes, found["vnodes"]).shares()
