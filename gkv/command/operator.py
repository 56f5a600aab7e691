"""The commands by which an operator changes the cluster: first what would follow, then a question, then the call."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NoReturn
from urllib.parse import quote

from gkv.client import Unavailable
from gkv.command.codes import Code, Ended
from gkv.command.printing import agreed, document, size, table, time
from gkv.command.servers import Servers, whole
from gkv.command.status import change_in

_EVERY = 0.5
_SILENT = 30.0
"""Seconds for which a proxy may be away while a change is watched."""
_IDLE = 60.0
"""Seconds for which nothing may change before it is done: the one that goes gives its keys away first, and then drops them."""
_CHANGE = "/v1/cluster/change"


def leave(said: Namespace) -> int:
    """Have a member leave, or one that is down removed."""
    force = "&force=1" if said.force else ""
    return _change(said, _Goal.without(said.NODE), "DELETE", _node(said.NODE), None, force)


def replace(said: Namespace) -> int:
    """Have a process that stands by take the place of a member."""
    return _change(said, _Goal.without(said.OLD), "POST", "/v1/cluster/replace", {"node": said.OLD, "with": said.NEW})


def weigh(said: Namespace) -> int:
    """Give a member another weight, another zone, or both."""
    body: dict[str, Any] = {} if said.weight is None else {"weight": _weight(said.weight)}
    body |= {} if said.zone is None else {"zone": said.zone}
    if not body:
        raise Ended("--weight or --zone says what is to be another", Code.USAGE)
    return _change(said, _Goal.like(said.NODE, body), "PATCH", _node(said.NODE), body)


def copies(said: Namespace) -> int:
    """Have another number of copies of each key."""
    body = {"replicas": whole(said.N, "N", 1, 2**31)}
    goal = _Goal(f"there are {said.N} copies", lambda cluster: bool(cluster["replicas"] == body["replicas"]))
    return _change(said, goal, "PATCH", "/v1/cluster", body, "&force=1" if said.force else "")


def change(said: Namespace) -> int:
    """Show the change that is under way, or have it pause, go on, go at another rate, or be taken back."""
    servers = Servers.of(said)
    url, cluster = servers.proxy()
    pace: dict[str, Any] = {"paused": True} if said.pause else {"paused": False} if said.resume else {}
    if said.rate is not None:
        pace["rate"] = None if said.rate == "usual" else 0 if said.rate == "0" else whole(said.rate, "--rate", 0, 10**9)
    if said.pause + said.resume + said.undo > 1 or (said.undo and pace):
        raise Ended("one of --pause, --resume and --undo, and --rate with the first two alone", Code.USAGE)
    if pace:
        granted = servers.document(url, _CHANGE, "PATCH", pace, writes=True)
        _say(granted, _pace(granted), as_json=said.json)
        return Code.DONE
    if not said.undo:
        _say(cluster["change"], change_in(cluster) or "no change is under way", as_json=said.json)
        return Code.DONE if cluster["change"] else Code.NOT_SO
    goal = _Goal("it is taken back", lambda cluster: not cluster["change"])
    return _change(said, goal, "DELETE", _CHANGE, None, question="Take back: {}?")


def accept_loss(said: Namespace) -> int:
    """Accept that what a member had is lost."""
    servers = Servers.of(said)
    url, _ = servers.proxy()
    path, body = "/v1/cluster/accept-loss", {"node": said.NODE}
    follows = servers.document(url, f"{path}?dryRun=1", "POST", body)
    if said.dry_run:
        _say(follows, consequences(follows), as_json=said.json)
        return Code.DONE
    if not said.json:
        print(consequences(follows))
    if not agreed(f"Accept that what only {said.NODE} had is lost for good?", yes=said.yes):
        raise Ended("nothing was changed", Code.NOT_SO)
    granted = servers.document(url, path, "POST", body, writes=True)
    _say(granted, "accepted; gkv status shows when it takes effect", as_json=said.json)
    return Code.DONE


def consequences(follows: dict[str, Any]) -> str:
    """Return in words what follows from an accepted loss.

    >>> print(consequences({"node": "a:1", "acts": ["b:1"], "keys": 1200, "fills": ["a:1"], "waits_for": []}))
    what only a:1 had is lost; its keys are answered by b:1, which holds 1,200 keys
    made equal to that, and what they alone have is dropped: a:1
    """
    keys = "" if follows["keys"] is None else f", which holds {follows['keys']:,} keys"
    acts = f"; its keys are answered by {', '.join(follows['acts'])}{keys}" if follows["acts"] else ""
    lines = [f"what only {follows['node']} had is lost{acts}"]
    if follows["fills"]:
        lines.append(f"made equal to that, and what they alone have is dropped: {', '.join(follows['fills'])}")
    if follows["waits_for"]:
        lines.append(f"some keys wait still, for {', '.join(follows['waits_for'])}")
    return "\n".join(lines)


def _pace(granted: dict[str, Any]) -> str:
    rate = granted["rate"]
    bound = "at the nodes' --fill-rate" if rate is None else f"with {rate:,} records/s of a node" if rate else "with no bound"
    return f"{granted['change']['what']}: {'paused' if granted['paused'] else 'goes on'}, {bound}"


def _say(found: Any, words: str, *, as_json: bool) -> None:
    if as_json:
        document(found)
    else:
        print(words)


def _node(node_id: str) -> str:
    return f"/v1/cluster/nodes/{quote(node_id, safe=':')}"


@dataclass(frozen=True, slots=True)
class _Goal:
    """The end of a change: in words, and by what the proxy knows; `going` is the member that is none any more then."""

    words: str
    is_reached: Callable[[dict[str, Any]], bool]
    going: str = ""

    @classmethod
    def without(cls, node_id: str) -> "_Goal":
        """Return that a node is no member."""
        return cls(f"{node_id} is no member any more", lambda cluster: node_id not in _members(cluster), node_id)

    @classmethod
    def like(cls, node_id: str, wanted: dict[str, Any]) -> "_Goal":
        """Return that a member is as it is wanted."""
        return cls(
            f"{node_id} has {', '.join(f'{name} {value}' for name, value in wanted.items())}",
            lambda cluster: wanted.items() <= _members(cluster).get(node_id, {}).items(),
        )


def _members(cluster: dict[str, Any]) -> dict[str, Any]:
    return {member["id"]: member for member in cluster["members"]}


def _change(said: Namespace, goal: _Goal, method: str, path: str, body: Any, flags: str = "", question: str = "{}?") -> int:
    servers = Servers.of(said)
    url, _ = servers.proxy()
    plan = servers.document(url, f"{path}?dryRun=1{flags}", method, body)
    if said.dry_run:
        _show(plan, as_json=said.json)
        return Code.DONE
    if not said.json:
        _show(plan, as_json=False)
    if not agreed(question.format(plan["change"]["what"]), yes=said.yes):
        raise Ended("nothing was changed", Code.NOT_SO)
    granted = servers.document(url, path + (f"?{flags[1:]}" if flags else ""), method, body, writes=True)
    if said.json:
        document(granted)
    else:
        print("begun" if said.wait else "begun; gkv status shows how far it is, gkv change --undo takes it back")
    return _watch(servers, goal, granted.get("begins_in", 0.0) + _IDLE) if said.wait else Code.DONE


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


def _watch(servers: Servers, goal: _Goal, patience: float) -> int:
    """Show how far a change is until it is done. Raises Ended when it does not come to that."""
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
        running, before = change_in(cluster), held
        line = _members(cluster).get(goal.going)
        held = line.get("keys") if line and not line["weight"] else None
        if running or held != before:
            moved_at = heard
        if live:
            print(f"\r{running}\x1b[K", end="", file=sys.stderr, flush=True)
        if not running and goal.is_reached(cluster):
            print(goal.words, file=sys.stderr)
            return Code.DONE
        if heard - moved_at > patience:
            raise Ended(f"not so yet, and nothing changes: {goal.words}: was it taken back? gkv status", Code.NOT_SO)
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
