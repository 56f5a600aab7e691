"""Fillings that are disturbed: processes are killed, wires cut and disks full in the middle of one. In the end all copies are
equal, and all that was acknowledged is there, but nothing that was deleted.

A low `--fill-rate` makes them long enough, while clients read and write, whose histories are judged. `GKV_SEED=n` gives back
the points; two processes are killed, with `--all-faults` fifty.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.cluster import test_copies
from tests.cluster.conftest import System, wait_for
from tests.cluster.copies import Copies
from tests.cluster.filled import Filled, figure, taken
from tests.cluster.test_copies import Load
from tests.cluster.wires import Wires
from tests.faults.conftest import Disk
from tests.linearizability.faults import Victim

seed, loads, disk = test_copies.seed, test_copies.loads, test_copies.disk

RATE = 300
"""Records a second that a primary gives."""
BASE = [f"base/{number}" for number in range(1_200)]
"""Keys of which no client knows."""
MISSED = 800
"""Records that a node which was away is to be given, about."""
CUT = 3.0
"""Seconds for which a wire is cut."""

pytestmark = pytest.mark.promise("I1", "I3", "I23")


def slow(_name: str) -> tuple[str, ...]:
    return ("--fill-rate", str(RATE))


def change(filled: Filled, turn: int) -> None:
    """Set and delete keys of which a node then has older records, or which it does not have."""
    begin = turn * 131 % len(BASE)
    keys = [*BASE[begin:], *BASE[:begin]]
    filled.put(keys[:MISSED], turn)
    filled.delete([key for key in keys[MISSED : MISSED + 200] if key in filled.values])


def missed(filled: Filled, node: Victim, turn: int) -> None:
    """Have a node that is there miss some changes, and start it again."""
    filled.leave(node)
    change(filled, turn)
    filled.cluster.start_again(node)


def wait_taken(filled: Filled, node: Victim, count: int) -> bool:
    """Wait until a node has been given so many records; return whether it is not equal yet then."""

    def has_taken() -> bool:
        try:
            return taken(node) >= count
        except OSError:  # it does not listen yet
            return False

    wait_for(f"{count} records that {node.name} has taken", has_taken)
    return filled.cluster.states()[node.name] == "filling"


def test_kill_of_anybody_in_the_middle_of_a_filling_loses_nothing_and_brings_nothing_back(
    system: System, seed: int, everything: bool, loads: list[Load]
) -> None:
    """The learner begins with what it has, another primary compares anew, and without the authority all goes on."""
    chance = random.Random(seed)
    filled = Filled(Copies.start(system, "--min-in-sync", "1", of_node=slow))
    filled.put(BASE, "first")
    turns = 50 if everything else 2
    whom = [("learner", "primary", "proxy")[(seed + turn) % 3] for turn in range(turns)]
    in_the_middle = 0
    for turn, what in enumerate(whom):
        load = Load(filled.cluster.victims, chance.getrandbits(32), alone=False)
        loads.append(load)
        learner, *others = [*filled.cluster.nodes[turn % 3 :], *filled.cluster.nodes[: turn % 3]]
        missed(filled, learner, turn)
        count = chance.randrange(MISSED * 3 // 4)
        fills = wait_taken(filled, learner, count)
        doomed = {"learner": learner, "primary": chance.choice(others), "proxy": filled.cluster.proxy}[what]
        filled.cluster.end(doomed, signal.SIGKILL)
        in_the_middle += fills
        at = time.monotonic()
        load.more(50)
        filled.cluster.start_again(doomed)
        filled.cluster.wait_whole()
        print(f"{doomed.name} killed, the {what}, after {count} records: whole after {time.monotonic() - at:.1f} s")
        load.more(50)
        load.end()
        filled.check()
    assert in_the_middle >= turns // 2, "too many were over before anybody was killed"


def test_cut_between_a_learner_and_its_primary_in_the_middle(system: System, seed: int, loads: list[Load]) -> None:
    wires = Wires(["clients", "proxy", "n1", "n2", "n3"], seed)
    try:
        with wires.inside("clients"):
            filled = Filled(Copies.start(system, "--min-in-sync", "1", of_node=slow, wires=wires))
            filled.put(BASE, "first")
            load = Load(filled.cluster.victims, seed, alone=False)
            loads.append(load)
            learner, primary = filled.cluster.nodes[:2]
            missed(filled, learner, 0)
            assert wait_taken(filled, learner, MISSED // 4)
            wires.cut(learner.name, primary.name, both=True)
            at = time.monotonic()
            wait_for("who goes", lambda: "down" in filled.cluster.states().values())
            assert filled.cluster.states() == {"n1": "down", "n2": "up", "n3": "up"}
            load.more(50)
            wait_for("the end of the cut", lambda: time.monotonic() >= at + CUT)
            wires.mend(learner.name, primary.name, both=True)
            filled.cluster.wait_whole()
            load.more(50)
            load.end()
            filled.check()
            system.end()
    finally:
        print(f"packets: {wires.close()}")


def test_full_disk_of_a_learner_in_the_middle_is_said_and_filled_once_there_is_room(
    system: System, disk: Disk, seed: int, loads: list[Load]
) -> None:
    place = disk.path / "data"

    def at(name: str) -> tuple[str, ...]:
        return (*slow(name), "--data", str(place)) if name == "n2" else slow(name)

    filled = Filled(Copies.start(system, "--min-in-sync", "1", of_node=at), {"n2": place})
    try:
        _fill_the_disk(filled, disk.path, seed, loads)
    finally:
        for load in loads:
            load.running.stop()
        system.end()  # now: a process that is left would keep the disk busy


def _fill_the_disk(filled: Filled, path: Path, seed: int, loads: list[Load]) -> None:
    proxy, learner = filled.cluster.proxy.program, filled.cluster.nodes[1]
    filled.put(BASE[:200], "first")
    load = Load([filled.cluster.proxy, filled.cluster.nodes[0], filled.cluster.nodes[2]], seed, alone=False)
    loads.append(load)
    filled.leave(learner, signal.SIGKILL)  # which leaves no sums that go at the start, and make room
    filled.put(BASE[:150], "y" * 20_000)
    filled.delete(BASE[150:200])
    filler, free = path / "filler", os.statvfs(path)
    filler.write_bytes(b"x" * (free.f_bavail * free.f_bsize - (1 << 20)))
    filled.cluster.start_again(learner)
    proxy.wait_line("member n2 goes: .*its disk is full")
    assert figure(learner, "gkv_fill_records_taken_total") > 0
    load.more(200)
    states = filled.cluster.states()
    assert (states["n1"], states["n3"]) == ("up", "up")
    assert states["n2"] != "up"
    assert "n2: filled from the others" not in learner.program.stderr
    filler.unlink()
    filled.cluster.wait_whole()
    learner.program.wait_line("n2: filled from the others")
    load.more(50)
    load.end()
    filled.check()
