"""Several copies of each key, with real processes that are killed, stopped, paused and robbed of
their disks: what was acknowledged is there, and is served again in time.

Eight clients read and write all the time, at the proxy and at the nodes, and no order of their
operations may be missing. `GKV_SEED=n` gives back their choices; with `--all-faults` each fault is
tried more often, for longer, and alone, so that the times are those that are promised.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Program, System, free_ports, wait_for
from tests.cluster.copies import CLIENTS, Copies, absences, is_served, target, unserved, wait_until
from tests.cluster.test_spawn import child
from tests.faults.conftest import Disk, needs, run
from tests.linearizability.faults import Victim
from tests.linearizability.history import Ending, Kind, Operation
from tests.linearizability.load import KEYS, PATIENCE
from tests.linearizability.running import Running, answers

BACK = 1.5
"""Seconds after a kill within which all is served again."""
BACK_OF_A_CHILD = 0.3
LONGEST_ABSENCE = 2.5
DISK_TIMEOUT = 10.0
"""The ordinary one."""
AT_ONCE = 100
"""Writes under way at a time."""
ASKED = [{"key": key} for key in KEYS]

pytestmark = pytest.mark.promise("I1", "I2")


@pytest.fixture
def seed() -> int:
    """Return the seed of a run, which its output has."""
    seed = int(os.environ.get("GKV_SEED") or int.from_bytes(os.urandom(4), "big"))
    print(f"GKV_SEED={seed}")
    return seed


class Load:
    """The clients of a cluster; what they did is judged when they have stopped."""

    def __init__(self, victims: list[Victim], seed: int, patience: Sequence[float] = PATIENCE, *, alone: bool = True) -> None:
        wait_for("a clean beginning", lambda: victims[0].program.call("POST", "/delete", ASKED).status == 200)
        self.running = Running(victims, seed, CLIENTS, clocks_jump=False, patience=patience, alone=alone)
        self.more()

    def more(self, count: int = 200) -> None:
        """Wait until so many further operations were answered."""
        goal = self._answered() + count
        wait_for("operations", lambda: self._answered() >= goal)

    def _answered(self) -> int:
        return sum(map(is_served, self.running.operations))

    def end(self, *, reads: bool = True) -> list[Operation]:
        """Have the clients stop, read all, and return the history, which has an order."""
        self.running.stop()
        if reads:
            self.running.read_all()
        history = self.running.judge()
        written = sum(one.kind is not Kind.READ and one.ending is Ending.DONE for one in history)
        unknown = sum(one.ending is Ending.UNKNOWN for one in history)
        print(f"{written} acknowledged writes, {unknown} of unknown outcome")
        assert written > 50
        return history


@pytest.fixture
def loads() -> Iterator[list[Load]]:
    """Give a list of loads that end after the test in any case."""
    loads: list[Load] = []
    yield loads
    for load in loads:
        load.running.stop()


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Copies]]:
    """Give the cluster that tests share which leave it whole, if there is one."""
    clusters: list[Copies] = []
    yield clusters
    for cluster in clusters:
        cluster.system.end()


@pytest.fixture
def cluster(clusters: list[Copies], tmp_path: Path) -> Iterator[Copies]:
    """Give three nodes with three copies of each key; another cluster after a test that has failed."""
    if not clusters:
        clusters.append(Copies.start(System(tmp_path)))
    cluster = clusters.pop()
    yield cluster
    if all(one.program.process.poll() is None for one in cluster.victims) and cluster.is_whole():
        clusters.append(cluster)
    else:
        cluster.system.end()


def shown(operations: list[Operation]) -> str:
    return "\n".join(f"{one.call:.3f} .. {one.seen:.3f} {one.who} {one.kind.value} {one.code}" for one in operations[:40])


# -- one process ends


def test_kill_of_any_node_costs_a_moment_and_nothing_that_was_acknowledged(
    cluster: Copies, seed: int, everything: bool, busy: int, loads: list[Load]
) -> None:
    load = Load(cluster.victims, seed)
    loads.append(load)
    killed = []
    for node in cluster.nodes * 5 if everything else [cluster.nodes[seed % 3]]:
        at = cluster.end(node, signal.SIGKILL)
        cluster.wait_down(node)
        wait_until(at + BACK * busy)
        load.more()
        again = time.monotonic()
        cluster.start_again(node)
        node.program.wait_line("Listening on port")
        listens = time.monotonic()
        cluster.wait_whole()
        killed.append((node.name, at, again, listens, time.monotonic()))
        load.more()
    history = load.end()
    for name, at, again, listens, whole in killed:
        late = [one for one in history if at + BACK * busy <= one.call < whole and not is_served(one)]
        late = [one for one in late if target(one) != name or one.call > listens]
        worst = max((one.seen - one.call for one in history if at <= one.call < whole and is_served(one)), default=0.0)
        print(f"{name} killed: longest answer {worst:.2f} s, started after {again - at:.1f} s, whole after {whole - at:.1f} s")
        assert not late, f"{len(late)} are not served {BACK * busy} s after the end of {name}, at {at:.3f}:\n{shown(late)}"


def test_child_that_was_killed_is_missed_for_a_third_of_a_second(
    system: System, seed: int, everything: bool, busy: int, loads: list[Load]
) -> None:
    first = free_ports(4)
    arguments = ["--spawn", "3", "--spawn-port", str(first + 1), "--replicas", "3"]
    program = system.start("proxy", "--port", str(first), *arguments)
    program.port = first
    proxy = Victim("proxy", lambda: program, program)
    program.wait_line("Ready: ")
    cluster = Copies(system, proxy, [], 3)
    wait_for("all copies", lambda: answers(proxy) and set(cluster.states().values()) == {"up"})
    load = Load([proxy], seed)
    loads.append(load)
    for place in (0, 1, 2) * 5 if everything else (seed % 3,):
        doomed = child(program, first + 1 + place)
        at = time.monotonic()
        os.kill(doomed, signal.SIGKILL)
        name = f"127.0.0.1:{first + 1 + place}"
        wait_for("the eviction", lambda name=name: cluster.states()[name] != "up")
        load.more()
        wait_for("its return", lambda: set(cluster.states().values()) == {"up"})
        load.more()
        late = unserved(load.running.operations, at + BACK_OF_A_CHILD * busy, "proxy")
        spent = [one.seen - at for one in load.running.operations if at - 0.2 <= one.call <= at + BACK_OF_A_CHILD * busy]
        print(f"{name} killed: all that was asked until then has an answer after {max(spent):.2f} s")
        assert not late, (
            f"{len(late)} are not served {BACK_OF_A_CHILD * busy} s after the end of {name}, at {at:.3f}:\n{shown(late)}"
        )
    load.end()


def test_restart_of_each_node_in_turn_fails_no_request_at_the_proxy(
    cluster: Copies, seed: int, everything: bool, loads: list[Load]
) -> None:
    load = Load([cluster.proxy], seed, (5.0,))
    loads.append(load)
    for node in cluster.nodes * (5 if everything else 1):
        at = cluster.end(node, signal.SIGTERM)
        assert node.program.process.poll() == 0, node.program.stderr
        ended = time.monotonic()
        cluster.start_again(node)
        cluster.wait_whole()
        print(f"{node.name}: ended after {ended - at:.2f} s, whole after {time.monotonic() - at:.2f} s")
        load.more()
    history = load.end()
    failed = [one for one in history if not is_served(one)]
    print(f"longest answer {max(one.seen - one.call for one in history):.2f} s")
    assert not failed, f"{len(failed)} of {len(history)} requests failed:\n{shown(failed)}"


def test_pause_of_a_node_is_one_absence(cluster: Copies, seed: int, everything: bool, busy: int, loads: list[Load]) -> None:
    # What a process that stands still was asked is lost to whoever asks it, so it is asked by the proxy alone.
    load = Load([cluster.proxy], seed)
    loads.append(load)
    for number, lasts in enumerate((0.3, 0.8, 1.2, 2.0, 5.0, 30.0, 3.0) if everything else (2.0,)):
        node = cluster.primary(KEYS[number])
        since = time.monotonic()
        node.program.signal(signal.SIGSTOP)
        wait_until(since + lasts)
        node.program.signal(signal.SIGCONT)
        cluster.wait_whole()
        load.more()
        gaps = absences((one for one in load.running.operations if one.seen >= since), slow=1.0 * busy)
        print(f"{node.name} stood still for {lasts} s: absences {', '.join(map(str, gaps)) or 'none'}")
        poor = [
            one for one in load.running.operations if one.seen >= since and (one.seen - one.call > 0.3 or not is_served(one))
        ]
        assert len(gaps) <= 1, f"since {since:.3f}: {gaps}\n{shown(poor)}\n{cluster.proxy.program.stderr}"
        assert all(gap.until - gap.since <= LONGEST_ABSENCE * busy for gap in gaps), gaps
        assert lasts > 0.5 or not gaps, gaps
    load.end()


# -- all of them end


def test_all_killed_at_once_and_started_in_any_order_have_all_that_was_acknowledged(
    cluster: Copies, seed: int, everything: bool, loads: list[Load]
) -> None:
    chance = random.Random(seed)
    for number in range(30 if everything else 1):
        load = Load(cluster.victims, chance.getrandbits(32))
        loads.append(load)
        load.more(chance.randrange(1, 200))
        doomed = [*cluster.nodes, *[cluster.proxy] * (number % 3 == 0)]
        chance.shuffle(doomed)
        at = time.monotonic()
        for one in doomed:
            one.program.signal(signal.SIGKILL)
        for one in doomed:
            one.program.ended()
        chance.shuffle(doomed)
        for one in doomed:
            wait_until(time.monotonic() + chance.choice((0.0, chance.uniform(0, 0.7))))
            cluster.start_again(one)
        cluster.wait_whole()
        print(f"round {number}: {', '.join(one.name for one in doomed)}: whole after {time.monotonic() - at:.1f} s")
        load.more(50)
        load.end()  # in each round: with all unknown outcomes of thirty, no order is found in a reasonable time


def set_all(program: Program, text: str) -> bool:
    answer = program.call("POST", "/set", [{"key": key, "value": text} for key in KEYS], Accept="application/json")
    return answer.status == 200 and answer.json["set"] == len(KEYS)


def told(program: Program) -> dict[str, str]:
    """Return what is told of each key: its value, "missing" or a code."""
    found = program.call("POST", "/get", ASKED).json
    rows = {row["key"]: str(row["value"]) for row in found.get("existedKey", ())}
    rows |= {row["key"]: "missing" for row in found.get("notExistedKey", ())}
    return rows | {row["key"]: row["code"] for row in found.get("failedKey", ())}


def test_nothing_is_served_from_older_copies_when_the_disk_of_the_last_one_is_destroyed(system: System) -> None:
    """The last one alone has what was acknowledged last. Only an operator's word brings back what the others have."""
    soon = ("--deadline", "500ms")  # for which each of them waits for somebody who answers
    cluster = Copies.start(system, "--min-in-sync", "1", *soon, of_node=lambda _: soon)
    proxy = cluster.proxy.program
    assert set_all(proxy, "older")
    for node in cluster.nodes[1:]:
        cluster.end(node, signal.SIGKILL)
        cluster.wait_down(node)
    last = cluster.nodes[0]
    wait_for("writes with one copy", lambda: set_all(proxy, "newer"))
    cluster.end(last, signal.SIGKILL)
    shutil.rmtree(system.directory / "gkv-data" / str(last.program.port))
    for node in cluster.nodes:
        cluster.start_again(node)
    wait_for("all calls", lambda: all(row["answers"] for row in cluster.document["members"]))
    wait_for("the empty one", lambda: cluster.document["members"][0]["empty"])
    until = time.monotonic() + 1.5

    def silent() -> bool:
        for victim in cluster.victims:
            assert not {"older", "newer", "missing"} & set(told(victim.program).values())
        return time.monotonic() > until

    wait_for("a while of asking", silent)
    assert set(told(proxy).values()) == {"no-primary"}
    last.program.wait_line(f"the member {last.name} has come back empty: .*; keys of its wait for {last.name}. Start")
    accepted = proxy.call("POST", "/v1/cluster/accept-loss", {"node": last.name}, Content_Type="application/json")
    assert accepted.status == 202, accepted
    acts = cluster.nodes[2].name  # which was up for longer than the other one
    proxy.wait_line(f"the loss of what {last.name} held has been accepted: {acts} acts with the {len(KEYS)} keys that it has; ")
    wait_for("what the others have", lambda: set(told(proxy).values()) == {"older"})
    cluster.wait_whole()
    for victim in cluster.victims:
        assert set(told(victim.program).values()) == {"older"}


# -- disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Give a small disk, mounted."""
    needs("mkfs.ext4", "losetup", "mount", "umount")
    disk = Disk(tmp_path / "disk.img", tmp_path / "disk")
    disk.path.mkdir()
    with disk.image.open("wb") as file:
        file.truncate(24 << 20)
    run("mkfs.ext4", "-q", "-F", disk.image)
    found = subprocess.run(
        ["losetup", "--find", "--show", str(disk.image)], capture_output=True, text=True, timeout=60, check=False
    )
    if found.returncode:
        pytest.skip(f"no loop device: {found.stderr.strip()}")
    disk.device = found.stdout.strip()
    disk.mount()
    yield disk
    disk.remove()


def test_full_disk_of_one_backup_is_named_and_takes_nobody_out(system: System, disk: Disk) -> None:
    cluster = Copies.start(system, of_node=lambda name: ("--data", str(disk.path / "data")) if name == "n2" else ())
    try:
        _fill_the_disk(cluster, disk)
    finally:
        system.end()  # now: a process that is left would keep the disk busy


def _fill_the_disk(cluster: Copies, disk: Disk) -> None:
    proxy = cluster.proxy.program
    assert set_all(proxy, "first")
    epoch = cluster.document["epoch"]
    filler = disk.path / "filler"
    free = os.statvfs(disk.path)
    filler.write_bytes(b"x" * max(0, free.f_bavail * free.f_bsize - (1 << 20)))
    large = {"value": "y" * 50_000}

    def is_full() -> Any:
        answer = proxy.call("POST", "/set", [{"key": f"large/{time.monotonic_ns()}"} | large], Accept="application/json")
        return answer if answer.status != 200 else None

    answer = wait_for("a full disk", is_full)
    assert answer.status in (503, 504, 507), answer
    refused = wait_for("its name", lambda: found if (found := is_full()) and found.status == 507 else None)
    assert b"n2" in refused.body, refused
    assert set(told(proxy).values()) == {"first"}
    assert proxy.call("POST", "/delete", [{"key": KEYS[0]}]).json["deleted"] == 1
    assert cluster.states() == dict.fromkeys(("n1", "n2", "n3"), "up")
    assert cluster.document["epoch"] == epoch
    filler.unlink()
    wait_for("writes again", lambda: set_all(proxy, "second"))
    for victim in cluster.victims:
        assert set(told(victim.program).values()) == {"second"}


@contextmanager
def syncs(node: Victim, inject: str, tmp_path: Path) -> Iterator[Path]:
    """Have something happen at a node's syncs; give the file that has a line for each to which it did."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), "--trace=fdatasync", f"--inject=fdatasync:{inject}"]
    strace = subprocess.Popen([*command, "-p", str(node.program.process.pid)])
    try:
        yield trace
    finally:
        strace.terminate()
        strace.wait()


def test_disk_of_one_backup_that_fails_ends_that_node_alone(
    cluster: Copies, tmp_path: Path, seed: int, busy: int, loads: list[Load]
) -> None:
    node = cluster.nodes[1]
    load = Load([cluster.proxy, cluster.nodes[0], cluster.nodes[2]], seed)
    loads.append(load)
    at = time.monotonic()
    with syncs(node, "error=EIO:when=1", tmp_path):
        assert node.program.ended() == 1, node.program.stderr
    ended = time.monotonic()
    assert re.search("cannot be written, nothing more is acknowledged: .*Input/output error", node.program.stderr)
    node.is_hit = True
    cluster.wait_down(node)
    wait_until(ended + BACK * busy)
    load.more()
    cluster.start_again(node)
    cluster.wait_whole()
    history = load.end()
    print(f"ended after {ended - at:.2f} s; absences: {', '.join(map(str, absences(history))) or 'none'}")
    late = unserved(history, ended + BACK * busy, "proxy", "n1", "n3")
    assert not late, f"{len(late)} are not served {BACK * busy} s after the end:\n{shown(late)}"


def test_disk_that_stands_still_for_longer_than_the_replica_timeout_evicts_nobody(
    cluster: Copies, tmp_path: Path, seed: int
) -> None:
    """A2: it is slow, not silent, however much waits for it."""
    epoch = cluster.document["epoch"]

    def put(number: int) -> bytes:
        return cluster.proxy.program.call("POST", "/set", [{"key": f"k{number}", "value": number}]).body

    with syncs(cluster.nodes[seed % 3], "delay_enter=1500000:when=1", tmp_path) as trace, ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(put, range(3 * AT_ONCE)))
        assert "(DELAYED)" in trace.read_text()
    assert [answer for answer in answers if b"Success" not in answer] == []
    assert cluster.document["epoch"] == epoch


def test_reads_of_other_keys_do_not_stand_behind_one_that_is_not_settled(cluster: Copies, tmp_path: Path) -> None:
    """One disk of a backup stands still: whoever reads a key that it holds up waits, and nobody else."""
    proxy = cluster.proxy.program
    stuck = "k0"
    primary = cluster.primary(stuck)
    backup = next(node for node in cluster.nodes if node is not primary)
    rows = proxy.call("POST", "/locate", [{"key": f"k{number}"} for number in range(100)]).json["keys"]
    settled = [row["key"] for row in rows if row["primary"] == primary.name and row["key"] != stuck]
    assert b"Success" in proxy.call("POST", "/set", [{"key": key, "value": 1} for key in (stuck, *settled)]).body
    over = threading.Event()
    took: list[float] = []

    def read_stuck() -> None:
        while not over.is_set():
            proxy.call("POST", "/get", [{"key": stuck}])

    def read_settled(place: int) -> None:
        while not over.is_set():
            began = time.monotonic()
            answer = proxy.call("POST", "/get", [{"key": settled[place]}])
            took.append(time.monotonic() - began)
            assert answer.json["existedKey"] == [{"key": settled[place], "value": 1}]

    with syncs(backup, "delay_enter=1700000:when=1", tmp_path) as trace, ThreadPoolExecutor(16) as pool:
        wait_for("strace", lambda: "TracerPid:\t0" not in Path(f"/proc/{backup.program.process.pid}/status").read_text())
        written = pool.submit(proxy.call, "POST", "/set", [{"key": stuck, "value": 2}])
        wait_for(
            "a write that waits",
            lambda: re.search(rb"gkv_unsettled_writes(\{.*\})? [1-9]", primary.program.call("GET", "/metrics").body),
        )
        readers = [*[pool.submit(read_stuck) for _ in range(4)], *[pool.submit(read_settled, place) for place in range(8)]]
        wait_for("the disk", written.done)
        over.set()
        for reader in readers:
            reader.result()
        assert b"Success" in written.result().body
        assert "(DELAYED)" in trace.read_text()
    took.sort()
    print(f"{len(took)} reads of settled keys: median {took[len(took) // 2]:.3f} s, longest {took[-1]:.3f} s")
    assert len(took) > 100
    assert took[-1] < 1.0


def test_primary_whose_own_disk_hangs_hands_over_and_is_back_when_it_works(system: System, tmp_path: Path) -> None:
    """A2: nobody but itself waits for that disk, as it alone is written to."""
    cluster = Copies.start(system, of_node=lambda _name: ("--disk-timeout", "1s"))
    node = cluster.primary("k")
    process = node.program.process.pid

    def put(value: str) -> bool:
        return b"Success" in cluster.proxy.program.call("POST", "/set", [{"key": "k", "value": value}]).body

    assert put("1")
    with syncs(node, "delay_enter=60000000", tmp_path):
        at = time.monotonic()
        wait_for("a write that does not end", lambda: not put("2") or cluster.states()[node.name] == "down")
        cluster.wait_down(node)
        assert time.monotonic() - at < DISK_TIMEOUT, "the ordinary one, not what was asked for"
        wait_for("a write elsewhere", lambda: put("3"))
        assert cluster.primary("k") is not node
        assert cluster.proxy.program.stderr.count(f"member {node.name} goes: its own disk does not come to the end") == 1
    cluster.wait_whole()
    assert node.program.process.pid == process
    assert cluster.proxy.program.call("POST", "/get", [{"key": "k"}]).json["existedKey"] == [{"key": "k", "value": "3"}]
