"""The size of clusters: the document, the tables that are made of it, and chance, for 3 to 1,000 nodes, without sockets.

    python benchmarks/scale.py [--nodes 3,10,100,1000] [--vnodes 4096,budget,64,16,slots] [--repeats 5] [--draws 20000]
                               [--json bench-scale.json] [--svg docs/scale.svg]

The real code makes the tables that a proxy and each node have, with three copies. A row for each number of nodes and of vnodes
of a node; `budget` stands for as many as give the ring 65,536 tokens, but 4096 at most. Each row is a process of its own, so
that its memory is nobody else's. `slots` rows are no code of gkv: they compute what a table of 65,536 slots of equal size,
dealt out evenly, would do in place of the ring.

    document  bytes of its JSON, and ms to read it as a member does
    full      ms for all tables of a process, MB that they hold, and MB that they take at most while they are made
    down ..   ms for those of the next epoch, from the ones before: a member goes, comes back (filling), is up; its weight
              doubles: such a change begins, and ends; a node joins, likewise
    look      ms of the authority's look when nothing is due
    member    ms for the machines of one node to go on under the epoch at which another node goes
    lists     in all, in which a node is, and members that grant leases to it
    moved     share that a join moves of the primaries, and of the copies, against the ideal of 1/(n + 1)
    spread    of primaries and of bytes over the nodes: the fullest against the mean, standard deviation against the mean
    lost      when f nodes die at random: share of draws in which some list has no copy left, mean share of lists with none

Times are CPU time, as all is in one thread, and the least of some runs, as other work on the machine only adds to it; of what
takes longer than two seconds there is one run. The nodes have no zones.
"""

import argparse
import gc
import json
import math
import platform
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ujson

from gkv.cluster.arcs import arcs
from gkv.cluster.callin import CallIn
from gkv.cluster.changes import Look, change, move
from gkv.cluster.coverage import arcs_of
from gkv.cluster.document import Document, Layout, Member, State
from gkv.cluster.duties import duties
from gkv.cluster.lists import Lists
from gkv.cluster.placement import Placement
from gkv.duties import Duties
from gkv.process.limits import collect_garbage_seldom
from gkv.replication.desk import Desk
from gkv.replication.filling import Fillings
from gkv.replication.takeover import Takeovers
from gkv.ring import HASH, TWIN, build

COPIES = 3
TOKENS = 1 << 16
"""Of the ring, where vnodes follow this budget."""
USUAL_VNODES = 4096
SLOTS = 1 << 16
DEATHS = (2, 3, 5)
LONG = 2.0
"""Seconds after which nothing is measured again."""
GOAL_MS, GOAL_MB, GOAL_CHANGE_MS = 1_000, 100, 100

Figures = dict[str, Any]


def vnodes_of(text: str, nodes: int) -> int:
    """Return how many vnodes each of so many nodes has."""
    return min(USUAL_VNODES, TOKENS // nodes) if text == "budget" else int(text)


def document_of(nodes: int, vnodes: int) -> Document:
    """Return the document of a cluster that has been there for a while, all of it up."""
    chance = random.Random(nodes)
    members = []
    for number in range(nodes):
        incarnation = chance.getrandbits(64)
        url = f"http://10.0.{number // 250}.{number % 250}:9000"
        members.append(Member(f"node-{number:04}", url, incarnation=incarnation, since=1_000 + number, directory=incarnation))
    return Document("0123456789abcdef" * 2, 5_000, tuple(members), vnodes, replicas=COPIES)


def with_weight(document: Document, node_id: str, weight: float) -> Layout:
    weights = tuple((one, weight if one == node_id else known) for one, known in document.layout.weights)
    return replace(document.layout, weights=weights)


def milliseconds(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the least time of a call, as other work on the machine only adds to it, and what it returned last."""
    times = []
    found = None
    for _ in range(repeats):
        found = None  # not two results at a time
        gc.collect()
        start = time.process_time()
        found = call()
        times.append(time.process_time() - start)
        if sum(times) > LONG:
            break
    return min(times) * 1_000, found


def memory(what: str) -> float:
    """Return a figure of this process, in MB: what it has now (VmRSS), or the most that it had (VmHWM)."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1_024 if found else math.nan


# -- the tables


def measure_tables(nodes: int, vnodes: int, repeats: int) -> tuple[Figures, Placement]:
    """Return what the tables of a process take, and those of a cluster that is all up."""
    document = document_of(nodes, vnodes)
    Placement.of(document_of(3, 1))  # what is loaded at the first use is no part of the tables
    gc.collect()
    before, peak = memory("VmRSS"), memory("VmHWM")
    placement = Placement.of(document)
    gc.collect()
    held, most = memory("VmRSS") - before, max(memory("VmHWM"), peak) - before
    full_ms, _ = milliseconds(lambda: Placement.of(document), repeats)
    ring_ms, _ = milliseconds(lambda: build(document.nodes, vnodes), repeats)
    figures = {
        "document_bytes": len(ujson.dumps(document.to_json())),
        "ring_ms": ring_ms,
        "full_ms": full_ms,
        "held_mb": held,
        "peak_mb": most,
        "lists": len(placement.lists.lists),
    }
    return figures, placement


def measure_epochs(placement: Placement, document: Document, repeats: int) -> tuple[Figures, Placement]:
    """Return the times of the next epoch's tables, and those of a cluster to which a node has come."""
    member = document.members[len(document.members) // 2]
    epoch = document.epoch + 1
    times = {}

    def step(name: str, after: Document, before: Placement) -> Placement:
        times[name], found = milliseconds(lambda: Placement.of(after, before), repeats)
        return found

    down = document.with_member(replace(member, state=State.DOWN, left=epoch, since=epoch))
    filling = down.with_member(replace(member, state=State.FILLING, left=epoch, since=epoch))
    gone = step("down_ms", down, placement)
    back = step("filling_ms", filling, gone)
    step("up_ms", document, back)
    figures = machines(document, down, placement, gone, document.members[0].id, repeats)
    times["look_ms"] = look(document, placement, repeats)
    text = ujson.dumps(document.to_json())
    times["document_read_ms"], _ = milliseconds(lambda: Document.from_json(ujson.loads(text)).digest, repeats)

    heavier = replace(document, next=with_weight(document, member.id, 2.0), next_since=epoch)
    begun = step("weight_begins_ms", heavier, placement)
    step("weight_ends_ms", document.with_member(replace(member, weight=2.0)), begun)

    joiner = replace(member, id="node-new", url="http://10.1.0.1:9000", weight=0.0)
    joining = document.with_member(joiner)
    weights = tuple(sorted([*document.layout.weights, (joiner.id, 1.0)]))
    joining = replace(joining, next=replace(document.layout, weights=weights), next_since=epoch)
    figures["document_bytes_in_change"] = len(ujson.dumps(joining.to_json()))
    del begun
    begun = step("join_begins_ms", joining, placement)
    figures["pairs"] = len(begun.roles)
    joined = step("join_ends_ms", document.with_member(replace(joiner, weight=1.0)), begun)
    return figures | times, joined


def look(document: Document, placement: Placement, repeats: int) -> float:
    """Return the time of the authority's rules at a look, of a cluster that has all called in."""
    calls = {}
    for member in document.members:
        known = {"cluster": document.cluster, "order": document.order, "digest": document.digest}
        calls[member.id] = CallIn(member.node, member.incarnation, records=1, equal=True, ready=True, **known)

    def rules() -> None:
        found = change(document, Look(calls), placement) or move(document, Look(calls), placement)
        if found is not None:
            raise AssertionError("something is due")

    return milliseconds(rules, repeats)[0]


def machines(before: Document, after: Document, placement: Placement, gone: Placement, me: str, repeats: int) -> Figures:
    """Return the time that a member's machines take for an epoch: what they know, the desk, takeovers, fillings; and the time
    in which it finds all arcs of one list, for a filling.
    """
    line = before.member(me)
    incarnation = 0 if line is None else line.incarnation

    def known(document: Document, tables: Placement) -> Duties:
        return duties(document, tables, me)

    first, second_document = known(before, placement), replace(after, epoch=before.epoch + 1)
    desk, takeovers, fillings = Desk(me, incarnation, 0.0), Takeovers(), Fillings(lambda: True)
    desk.adopt(first)
    takeovers.adopt(first, first, serves=True)
    for roles in first.roles:
        if roles.primary == me:
            for granter in roles.granters:
                takeovers.named(granter, (), first)
    takeovers.open_ready()

    def go_on() -> None:
        mine = known(second_document, gone)
        desk.adopt(mine)
        takeovers.adopt(first, mine, serves=True)
        fillings.adopt(mine, serves=True)
        fillings.filled(mine)

    member_ms, _ = milliseconds(go_on, repeats)
    one = next(roles for roles in first.roles if me in roles.preference)
    arcs_ms, _ = milliseconds(lambda: sum(1 for _ in arcs(placement, one.preference, (), 0)), repeats)
    return {"member_ms": member_ms, "arcs_of_a_list_ms": arcs_ms}


# -- what is where


def measure_lists(lists: Sequence[tuple[str, ...]]) -> Figures:
    """Return in how many lists a node is, and with how many members it has to do."""
    has: Counter[str] = Counter()
    leads: Counter[str] = Counter()
    granters: dict[str, set[str]] = {}
    for one in lists:
        has.update(one)
        leads[one[0]] += 1
        granters.setdefault(one[0], set()).update(one[1:])
    counts, asked = list(has.values()), [len(others) for others in granters.values()]
    return {
        "lists_of_a_node": statistics.mean(counts),
        "lists_of_a_node_most": max(counts),
        "lists_led_by_a_node": statistics.mean(leads.values()),
        "granters_of_a_node": statistics.mean(asked),
        "granters_of_a_node_most": max(asked),
    }


def measure_spread(lists: Sequence[tuple[str, ...]], sizes: Sequence[int]) -> Figures:
    """Return how evenly nodes answer for keys, and hold bytes."""
    primaries: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for one, size in zip(lists, sizes, strict=True):
        primaries[one[0]] += size
        for node_id in one:
            held[node_id] += size
    figures = {}
    for name, found in (("primaries", primaries), ("bytes", held)):
        mean = sum(found.values()) / len(held)
        values = [found[node_id] / mean for node_id in held]
        figures |= {f"{name}_max": max(values), f"{name}_stddev": statistics.pstdev(values)}
    return figures


def measure_moved(
    before: Sequence[int], after_lists: Sequence[tuple[str, ...]], after: Sequence[int], joiner: str, nodes: int
) -> Figures:
    """Return the share of primaries and of copies that a joiner takes, and that against 1/(n + 1)."""
    total = sum(before)
    led = sum(size for one, size in zip(after_lists, after, strict=True) if one[0] == joiner)
    held = sum(size for one, size in zip(after_lists, after, strict=True) if joiner in one)
    copies = min(COPIES, nodes + 1)
    return {
        "moved_primaries": led / total,
        "moved_primaries_to_ideal": led / total * (nodes + 1),
        "moved_copies": held / total / copies,
        "moved_copies_to_ideal": held / total / copies * (nodes + 1),
    }


def measure_losses(lists: Sequence[tuple[str, ...]], ids: Sequence[str], draws: int) -> Figures:
    """Return what is left of no list when nodes die at random: by drawing, and how often three are some list's."""
    chance = random.Random(1)
    sets = Counter(tuple(sorted(one)) for one in lists)
    copies = len(lists[0])
    figures: Figures = {"sets": len(sets), "sets_share": len(sets) / math.comb(len(ids), copies)}
    for dead in DEATHS:
        if dead > len(ids):
            continue
        some, lost = 0, 0
        for _ in range(draws):
            gone = sum(sets[one] for one in combinations(sorted(chance.sample(ids, dead)), copies))
            some += gone > 0
            lost += gone
        figures[f"lost_{dead}_some"] = some / draws
        figures[f"lost_{dead}_share"] = lost / draws / len(lists)
        if dead == copies:
            figures["lost_exact"] = figures["sets_share"]
    return figures


# -- slots, which gkv does not have


def deal(ids: Sequence[str], slots: int, copies: int) -> list[tuple[str, ...]]:
    """Deal slots out by chance and evenly: round by round in another order of the nodes, of which each slot has neighbours. So
    each node is the first, the second and so on of as many slots as any other, give or take one.
    """
    chance = random.Random(2)
    table: list[tuple[str, ...]] = []
    while len(table) < slots:
        order = chance.sample(ids, len(ids))
        table += zip(*[order[place:] + order[:place] for place in range(min(copies, len(ids)))], strict=True)
    return table[:slots]


def measure_slots(nodes: int, repeats: int, draws: int) -> Figures:
    """Return what a table of slots would do."""
    ids = [f"node-{number:04}" for number in range(nodes)]
    full_ms, table = milliseconds(lambda: deal(ids, SLOTS, COPIES), 1)
    gone = ids[nodes // 2]
    down_ms, _ = milliseconds(lambda: [[one for one in row if one != gone] if gone in row else row for row in table], repeats)
    lists = list(dict.fromkeys(table))
    sizes = Counter(table)
    copies = len(table[0])
    taken = SLOTS // (nodes + 1)  # a joiner takes so many places of each column from the fullest
    return (
        {
            "document_bytes": len(ujson.dumps(document_of(nodes, 1).to_json())) + math.ceil(SLOTS * copies * 2 * 4 / 3),
            "full_ms": full_ms,
            "down_ms": down_ms,
            "lists": len(lists),
            "moved_primaries": taken / SLOTS,
            "moved_primaries_to_ideal": taken / SLOTS * (nodes + 1),
            "moved_copies": taken / SLOTS,
            "moved_copies_to_ideal": taken / SLOTS * (nodes + 1),
        }
        | measure_lists(lists)
        | measure_spread(lists, [sizes[one] for one in lists])
        | measure_losses(lists, ids, draws)
    )


def measure(case: tuple[int, str, int, int]) -> Figures:
    """Return the figures of a row."""
    nodes, vnodes, repeats, draws = case
    if vnodes == "slots":
        return {"nodes": nodes, "vnodes": None, "rule": vnodes} | measure_slots(nodes, repeats, draws)
    collect_garbage_seldom()  # as the programs do
    count = vnodes_of(vnodes, nodes)
    figures, placement = measure_tables(nodes, count, repeats)
    more, joined = measure_epochs(placement, document_of(nodes, count), repeats)
    lists: Lists = placement.lists
    sizes = arcs_of(lists)
    figures |= more
    figures |= measure_moved(sizes, joined.lists.lists, arcs_of(joined.lists), "node-new", nodes)
    figures |= measure_lists(lists.lists)
    figures |= measure_spread(lists.lists, sizes)
    figures |= measure_losses(lists.lists, [node.id for node in lists.ring.nodes], draws)
    return {"nodes": nodes, "vnodes": count, "rule": vnodes} | figures


# -- output

COLUMNS = (
    ("nodes", "nodes", "{:d}"),
    ("vnodes", "vnodes", "{}"),
    ("document_bytes", "document", "{:,d}"),
    ("full_ms", "full ms", "{:.1f}"),
    ("held_mb", "held MB", "{:.0f}"),
    ("peak_mb", "peak MB", "{:.0f}"),
    ("down_ms", "down ms", "{:.1f}"),
    ("up_ms", "up ms", "{:.1f}"),
    ("weight_begins_ms", "weight ms", "{:.1f}"),
    ("weight_ends_ms", "ends ms", "{:.1f}"),
    ("join_begins_ms", "join ms", "{:.1f}"),
    ("join_ends_ms", "ends ms", "{:.1f}"),
    ("look_ms", "look ms", "{:.1f}"),
    ("member_ms", "member ms", "{:.1f}"),
)
PLACES = (
    ("nodes", "nodes", "{:d}"),
    ("vnodes", "vnodes", "{}"),
    ("lists", "lists", "{:,d}"),
    ("lists_of_a_node", "of a node", "{:,.0f}"),
    ("granters_of_a_node", "granters", "{:.0f}"),
    ("moved_primaries_to_ideal", "moved prim.", "{:.3f}"),
    ("moved_copies_to_ideal", "copies", "{:.3f}"),
    ("primaries_max", "prim. max", "{:.3f}"),
    ("primaries_stddev", "stddev", "{:.4f}"),
    ("bytes_max", "bytes max", "{:.3f}"),
    ("bytes_stddev", "stddev", "{:.4f}"),
    ("lost_3_some", "lost by 3", "{:.5f}"),
    ("lost_exact", "exactly", "{:.5f}"),
    ("lost_5_some", "by 5", "{:.5f}"),
    ("lost_5_share", "share by 5", "{:.2e}"),
)


def show(rows: Iterable[Figures], columns: Sequence[tuple[str, str, str]]) -> None:
    print(" | ".join(f"{title:>11}" for _, title, _ in columns))
    for row in rows:
        shown = ["slots" if name == "vnodes" and row[name] is None else row.get(name) for name, _, _ in columns]
        cells = ["-" if value is None else form.format(value) for value, (_, _, form) in zip(shown, columns, strict=True)]
        print(" | ".join(f"{cell:>11}" for cell in cells))
    print()


def draw(rows: Sequence[Figures], line: str, path: Path) -> list[Path]:
    """Write a picture for each curve, beside each other: what tables take, one change, what is lost, how even it is."""
    import pygal  # of the extra "bench"; nothing else here needs it

    curves = (
        ("full", "full_ms", "ms for all tables of a process", GOAL_MS),
        ("memory", "peak_mb", "MB that all tables take at most while they are made", GOAL_MB),
        ("change", "worst_change_ms", "ms for the tables of one member's change, the slowest of all", GOAL_CHANGE_MS),
        ("spread", "bytes_max", "bytes of the fullest node against the mean", None),
        ("lost", "lost_exact", "share of the deaths of three nodes that leave some list without a copy", None),
    )
    paths = []
    for name, figure, title, goal in curves:
        chart = pygal.XY(
            title=f"{title}\n{line}",
            x_title="nodes",
            js=(),  # the scripts for tooltips would be fetched from the network
            legend_at_bottom=True,
            logarithmic=name != "spread",
            width=900,
            height=480,
            x_labels=sorted({math.log10(row["nodes"]) for row in rows}),
            x_value_formatter=lambda place: f"{10**place:.0f}",
        )
        shown = [row for row in rows if row["rule"] != "slots" or name in ("spread", "lost")]
        for rule in dict.fromkeys(row["rule"] for row in shown):
            found = [row for row in shown if row["rule"] == rule and row.get(figure)]
            title_of = {"budget": f"{TOKENS:,} tokens in all", "slots": "slots (not in gkv)"}.get(rule, f"{rule} vnodes a node")
            if found:
                chart.add(title_of, [(math.log10(row["nodes"]), row[figure]) for row in found])
        if goal is not None:
            ends = [math.log10(row["nodes"]) for row in rows]
            chart.add("goal", [(min(ends), goal), (max(ends), goal)], stroke_style={"dasharray": "4, 4"})
        paths.append(path.with_name(f"{path.stem}-{name}.svg"))
        chart.render_to_file(str(paths[-1]))
    return paths


def worst_change(row: Figures) -> float | None:
    """Return the slowest epoch of a row."""
    found = [
        row[name] for name in row if name.endswith(("_begins_ms", "_ends_ms")) or name in ("down_ms", "filling_ms", "up_ms")
    ]
    return max(found, default=None)


def machine() -> str:
    """Return a line on what all this runs on."""
    return f"Python {platform.python_version()} on {platform.machine()}, {HASH}, the {TWIN} twin, {COPIES} copies"


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", default="3,10,100,1000", help="of the clusters (default: %(default)s)")
    parser.add_argument(
        "--vnodes", default="4096,budget,64,16,slots", help="of a node of weight 1, `budget`, or `slots` (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="of each time (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=20_000, help="of nodes that die (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--svg", metavar="FILE", help="draw the curves to files that begin with this one's name")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    cases = [
        (int(nodes), rule, options.repeats, options.draws)
        for nodes in options.nodes.split(",")
        for rule in options.vnodes.split(",")
    ]
    rows: list[Figures] = []
    line = machine()
    context = get_context("spawn")
    for case in cases:
        print(f"{case[0]} nodes, {case[1]} ..", file=sys.stderr, flush=True)
        with context.Pool(1) as pool:
            row = pool.apply(measure, (case,))
        rows.append(row | {"worst_change_ms": worst_change(row)})
        if options.json:  # after each row, as the last ones take minutes
            Path(options.json).write_text(json.dumps({"machine": line, "rows": rows}, indent=1) + "\n")
    print(f"# {line}")
    show(rows, COLUMNS)
    show(rows, PLACES)
    if options.svg:
        for path in draw(rows, line, Path(options.svg)):
            print(f"drawn: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
