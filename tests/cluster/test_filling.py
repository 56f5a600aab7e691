"""Nodes that come back are given what differs and nothing else, whatever they have missed, and whatever is in their directory.

With `--all-faults` there are more records, and nodes are away more often.
"""

import shutil
import signal
import time
from typing import Any

import pytest

from tests.cluster.conftest import System, wait_for
from tests.cluster.copies import Copies
from tests.cluster.filled import Filled, figure, taken
from tests.cluster.test_copies import told
from tests.linearizability.load import KEYS

RATE = 250
"""Records a second that a primary gives in a filling that is to take some time."""
PAGE = 256
"""Records that a primary gives at once at most."""
TWO = {"nodes": 2, "copies": 2}
"""The shape of a cluster in which one node is filled from one other."""
MANY = 70_000
"""Records with which sums are compared."""


def begin(system: System, *arguments: str, rate: int = 0, **shape: Any) -> Filled:
    """Start a cluster whose primaries give so many records a second."""
    return Filled(Copies.start(system, *arguments, of_node=lambda _name: ("--fill-rate", str(rate)), **shape))


@pytest.mark.promise("I3", "I23")
def test_node_that_was_away_takes_what_has_changed(system: System) -> None:
    """Of fewer records than sums are compared of, each is named."""
    filled = begin(system, copies=2)
    keys = [f"key/{number}" for number in range(2_000)]
    counters = [f"counter/{number}" for number in range(20)]
    filled.put([*keys, *counters], 1)
    node = filled.cluster.nodes[1]
    owners = filled.owners([*keys, *counters])

    def mine(some: list[str]) -> int:
        return sum(node.name in owners[key] for key in some)

    buried = 0
    for turn, number in enumerate((signal.SIGTERM, signal.SIGKILL)):
        filled.settle()
        filled.leave(node, number)
        changed, gone, touched = (keys[turn * 100 + at : turn * 100 + at + 30] for at in (0, 30, 60))
        filled.put(changed, "new")
        filled.delete(gone)
        for key in touched:
            filled.touch(key, 1_000)
        for key in counters:
            filled.add(key, 5)
        filled.come_back(node)
        buried += mine(gone)  # tombstones come with a page, as records do
        given = mine(changed) + mine(touched) + mine(counters)
        assert given <= taken(node) <= given + buried
        assert figure(node, "gkv_fill_records_dropped_total") <= mine(gone)
        filled.check()


def test_node_with_many_records_takes_what_has_changed_however_it_ended(system: System, everything: bool) -> None:
    """Sums are compared: those that an orderly stop has left, and those that are built anew after any other."""
    filled = begin(system, **TWO)
    count = 10 * MANY if everything else MANY
    keys = [f"key/{number}" for number in range(count)]
    filled.put(keys, 1)
    node = filled.cluster.nodes[1]
    sums = filled.directory(node) / "sums"
    for turn, number in enumerate((signal.SIGTERM, signal.SIGKILL)):
        filled.settle()
        filled.leave(node, number)
        assert sums.exists() == (number == signal.SIGTERM)
        changed, gone = (keys[turn * 1_000 + at : turn * 1_000 + at + 300] for at in (0, 300))
        filled.put(changed, "new")
        filled.delete(gone)
        at = time.monotonic()
        filled.come_back(node)
        print(f"{count} records, away for {len(changed) + len(gone)} writes ({number}): up after {time.monotonic() - at:.1f} s")
        assert len(changed) <= taken(node) <= len(changed) + (turn + 1) * len(gone)
        wait_for("sums", lambda: figure(node, "gkv_sums_built_ratio") == 1)
        filled.wait_equal()
    if not everything:  # a few are given to an empty directory below
        return
    filled.leave(node)
    filled.empty(node)
    at = time.monotonic()
    filled.come_back(node)
    print(f"{count} records, an empty directory: up after {time.monotonic() - at:.1f} s")
    assert len(filled.values) <= taken(node) <= count
    filled.check()


def test_progress_is_shown_while_records_come_at_the_rate_of_their_source(system: System) -> None:
    filled = begin(system, rate=RATE, **TWO)
    filled.put([f"key/{number}" for number in range(1_000)], 1)
    node, source = filled.cluster.nodes
    filled.leave(node)
    filled.empty(node)
    assert "filling" not in filled.cluster.document["members"][0]
    shown, figures = [], []

    def is_up() -> bool:
        row = filled.cluster.document["members"][0]
        if "filling" in row:
            assert row["state"] == "filling"
            shown.append(row["filling"])
            figures.append((figure(node, "gkv_fill_ratio"), figure(node, "gkv_lists_filling")))
        return bool(row["state"] == "up" and figures)

    filled.cluster.start_again(node)
    wait_for("the end of the filling", is_up)
    line = node.program.wait_line(r"filled from the others in ([\d.]+) s: (\d+) records taken, (\d+) dropped")
    given = figure(source, "gkv_fill_records_given_total")
    assert float(line[1]) >= 0.9 * (given - PAGE) / RATE - 0.3
    assert (int(line[2]), int(line[3])) == (taken(node), 0)
    assert taken(node) == 1_000 <= given  # a page that is late is asked for again
    shares = [one["share"] for one in shown]
    assert len(set(shares)) > 3
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.5 < shares[-1] <= 1
    assert {one["lists"] for one in shown} == {shown[0]["lists"]}
    assert all(one["equal"] < one["lists"] for one in shown)
    assert [one["taken"] for one in shown] == sorted(one["taken"] for one in shown)
    assert 0 < shown[-1]["taken"] <= 1_000
    assert all(0 <= ratio <= 1 and 0 <= lists <= shown[0]["lists"] for ratio, lists in figures)
    assert any(ratio < 1 and lists for ratio, lists in figures)
    assert (figure(node, "gkv_fill_ratio"), figure(node, "gkv_lists_filling")) == (1, 0)
    assert "filling" not in filled.cluster.document["members"][0]
    filled.check()


@pytest.mark.promise("I1", "I3", "I23")
def test_node_that_was_away_through_ten_documents_is_filled(system: System, everything: bool) -> None:
    """Others come and go meanwhile, in an orderly way or not, and write the same keys under many epochs."""
    filled = begin(system, copies=2)
    keys = [f"key/{number}" for number in range(400)]
    filled.put(keys, 0)
    away, *others = filled.cluster.nodes
    filled.leave(away)
    epoch = filled.cluster.document["epoch"]
    turn = 0
    while filled.cluster.document["epoch"] < epoch + (60 if everything else 10):
        turn += 1
        other = others[turn % len(others)]
        filled.leave(other, signal.SIGTERM if turn % 2 else signal.SIGKILL)
        filled.cluster.start_again(other)
        wait_for("its return", lambda other=other: filled.cluster.states()[other.name] == "up")
        filled.put(keys[turn % 7 :: 7], turn)
        filled.delete([key for key in keys[turn % 11 :: 11] if key in filled.values])
    filled.come_back(away)
    filled.check()


# -- directories


@pytest.mark.promise("I2", "I3", "I23")
def test_older_copy_of_the_own_directory_is_filled_and_a_copy_of_anothers_is_refused(system: System) -> None:
    """What the older one has was once acknowledged, and it lists runs of its node, but not the last one (F18)."""
    filled = begin(system, **TWO)
    keys = [f"key/{number}" for number in range(300)]
    filled.put(keys, "older")
    node = filled.cluster.nodes[1]
    directory, older = filled.directory(node), system.directory / "older"
    filled.leave(node)
    shutil.copytree(directory, older)
    filled.come_back(node)
    filled.put(keys[:100], "newer")
    filled.delete(keys[100:200])
    filled.leave(node)
    shutil.rmtree(directory)
    shutil.copytree(filled.directory(filled.cluster.nodes[0]), directory)
    filled.cluster.start_again(node)
    assert node.program.ended() == 78
    assert "holds the records of node 'n1', this is node 'n2'" in node.program.stderr
    shutil.rmtree(directory)
    shutil.copytree(older, directory)
    filled.come_back(node)
    assert "has come back empty: its directory is not the one that it had; it is filled from the others" in node.program.stderr
    filled.check()


@pytest.mark.promise("I1", "I2")
def test_older_copy_of_the_directory_of_the_last_one_answers_nothing(system: System) -> None:
    soon = ("--deadline", "500ms")
    cluster = Copies.start(system, *soon, of_node=lambda _name: soon, **TWO)
    filled = Filled(cluster)
    filled.put(KEYS, "older")
    last, other = cluster.nodes
    directory, older, newer = filled.directory(last), system.directory / "older", system.directory / "newer"
    filled.leave(last)
    shutil.copytree(directory, older)
    filled.come_back(last)
    filled.leave(other)
    filled.put(KEYS, "newer")
    cluster.end(last, signal.SIGKILL)
    directory.rename(newer)
    shutil.copytree(older, directory)
    for node in cluster.nodes:
        cluster.start_again(node)
    wait_for("the older one", lambda: cluster.document["members"][0]["empty"])
    wait_for("all calls", lambda: all(row["answers"] for row in cluster.document["members"]))
    for victim in cluster.victims:
        assert set(told(victim.program).values()) == {"no-primary"}
    cluster.end(last, signal.SIGKILL)
    shutil.rmtree(directory)
    newer.rename(directory)
    filled.come_back(last)
    assert set(told(cluster.proxy.program).values()) == {"newer"}
    filled.check()
