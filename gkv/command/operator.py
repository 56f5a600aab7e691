"""`gkv join`, `gkv leave` and `gkv replace`: first what would follow, then a question, then the call."""

import os
import sys
from argparse import Namespace
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NoReturn
from urllib.parse import quote

from gkv.client import Unavailable
from gkv.command.codes import Code, Ended
from gkv.command.printing import agreed, document, size, table, time
from gkv.command.servers import Servers
from gkv.command.status import change_in

_EVERY = 0.5
_SILENT = 30.0
"""Seconds for which a proxy may be away while a change is watched."""
_IDLE = 60.0
"""Seconds for which nothing may change before it is done: the one that goes gives its keys away first, and then drops them."""


def leave(said: Namespace) -> int:
    """Have a member leave, or one that is down removed."""
    force = "&force=1" if said.force else ""
    return _change(said, said.NODE, "DELETE", f"/v1/cluster/nodes/{quote(said.NODE, safe=':')}", None, force)


def replace(said: Namespace) -> int:
    """Have a process that stands by take the place of a member."""
    return _change(said, said.OLD, "POST", "/v1/cluster/replace", {"node": said.OLD, "with": said.NEW}, "")


def _change(said: Namespace, going: str, method: str, path: str, body: Any, flags: str) -> int:
    servers = Servers.of(said)
    url, _ = servers.proxy()
    plan = servers.document(url, f"{path}?dryRun=1{flags}", method, body)
    if said.dry_run:
        _show(plan, as_json=said.json)
        return Code.DONE
    if not said.json:
        _show(plan, as_json=False)
    if not agreed(f"{plan['change']['what']}?", yes=said.yes):
        raise Ended("nothing was changed", Code.NOT_SO)
    granted = servers.document(url, path + (f"?{flags[1:]}" if flags else ""), method, body, writes=True)
    if said.json:
        document(granted)
    else:
        print("begun; gkv status shows how far it is" if not said.wait else "begun")
    return _watch(servers, going, granted.get("begins_in", 0.0) + _IDLE) if said.wait else Code.DONE


def _show(plan: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        document(plan)
        return
    print(plan["change"]["what"])
    if plan.get("begins_in"):
        print(f"begins in {time(plan['begins_in'])}")
    if moves := plan["moves"]:
        rows = [
            [one["from"] or "nobody", one["to"], f"{one['share']:.1%}", _number(one["keys"]), _size(one["bytes"])]
            for one in moves
        ]
        print()
        print(table(["FROM", "TO", "SHARE", "KEYS", "BYTES"], rows, "SHARE KEYS BYTES"))
        print()
    ends = "" if plan.get("seconds") is None else f", in about {time(plan['seconds'])}"
    print(f"{plan['moved']:.1%} of all copies move: {_number(plan['keys'])} keys, {_size(plan['bytes'])}{ends}")


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _size(count: int | None) -> str:
    return "-" if count is None else size(count)


def _watch(servers: Servers, going: str, patience: float) -> int:
    """Show how far a change is until the member that goes is gone. Raises Ended when it stays."""
    heard = moved_at = monotonic()
    held = None
    live = sys.stderr.isatty()
    while True:
        try:
            _, cluster = servers.proxy()
        except Unavailable:
            if monotonic() - heard > _SILENT:
                raise
            sleep(_EVERY)
            continue
        heard = monotonic()
        members = {member["id"]: member for member in cluster["members"]}
        running, before = change_in(cluster), held
        held = members[going].get("keys") if going in members and not members[going]["weight"] else None
        if running or held != before:
            moved_at = heard
        if live:
            print(f"\r{running}\x1b[K", end="", file=sys.stderr, flush=True)
        if not running and going not in members:
            print(f"{going} is no member any more", file=sys.stderr)
            return Code.DONE
        if heard - moved_at > patience:
            raise Ended(f"{going} is a member still, and nothing changes: was it taken back? gkv status", Code.NOT_SO)
        sleep(_EVERY)


def join(said: Namespace) -> int:
    """Start a node that joins, in the place of this process."""
    servers = Servers.of(said)
    url, cluster = servers.proxy()
    weight = _weight(said.weight)
    plan = forecast(cluster, weight)
    if said.json:
        document(plan)
    else:
        print(f"a node joins {url} with weight {weight:g}, beside {plan['members']}")
        print(f"it gets about {plan['share']:.1%} of all copies{_amount(plan)}")
    if why := refusal(cluster):
        raise Ended(why, Code.REFUSED)
    if said.dry_run:
        return Code.DONE
    if not agreed(f"Start gkv-node {said.PORT} here?", yes=said.yes):
        raise Ended("nothing was started", Code.NOT_SO)
    return _become_node(said, url)


def _amount(plan: dict[str, Any]) -> str:
    return "" if plan["keys"] is None else f": about {plan['keys']:,} keys"


def _weight(text: str | None) -> float:
    try:
        weight = float(text or "1")
    except ValueError:
        weight = 0.0
    if not 0 < weight <= 64:
        raise Ended(f"--weight is {text!r}; it takes a number above 0, at most 64", Code.USAGE)
    return weight


def forecast(cluster: dict[str, Any], weight: float) -> dict[str, Any]:
    """Return about what a node of a weight gets.

    >>> members = [{"weight": 1.0, "keys": 300}, {"weight": 1.0, "keys": 300}, {"weight": 1.0, "keys": 300}]
    >>> forecast({"members": members}, 1.0)
    {'members': 3, 'share': 0.25, 'keys': 225}
    """
    members = cluster["members"]
    share = weight / (sum(member["weight"] for member in members) + weight)
    counts = [member.get("keys") for member in members]
    keys = None if None in counts else round(sum(counts) * share)
    return {"members": len(members), "share": round(share, 4), "keys": keys}


def refusal(cluster: dict[str, Any]) -> str:
    """Return why no node can join just now, "" if one can.

    >>> refusal({"change": {"what": "a:1 leaves", "share": 0.5, "rate": 10.0}, "replicas": 2, "members": []})
    'another change is under way: a:1 leaves: 50% done, 10 records/s; gkv status shows how far it is; wait for its end'
    """
    if running := change_in(cluster):
        return f"another change is under way: {running}; gkv status shows how far it is; wait for its end"
    return ""


def _become_node(said: Namespace, url: str) -> NoReturn:
    """Run gkv-node; tokens and certificates are settings of its own."""
    program = Path(sys.argv[0]).resolve().with_name("gkv-node")
    words = [str(program), said.PORT, "--proxy", url]
    for name in ("weight", "zone", "data"):
        if (value := getattr(said, name)) is not None:
            words += [f"--{name}", value]
    sys.stdout.flush()
    environment = {name: value for name, value in os.environ.items() if name not in ("GKV_URL", "GKV_TOKEN", "GKV_TOKEN_FILE")}
    try:
        os.execve(program, words, environment)  # noqa: S606 - it is the program beside this one
    except OSError as error:
        raise Ended(f"{program} cannot be run: {error.strerror}", Code.REFUSED) from None
