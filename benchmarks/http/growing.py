"""Growing: how fast keys move to a node that joins, how soon it has its share, and what clients notice of that.

    python benchmarks/http/growing.py [--keys 1000000] [--copies 1,3] [--rounds 3] [--seconds 5] [--json bench-growing.json]

A proxy and two nodes with one copy of each key, then a proxy and three nodes with three copies, lmdb. One more node joins with
nothing, and leaves again, four times:

- nobody asks anything, and the nodes give without a bound of the rate (`--fill-rate 0`);
- gets come at their times (as in `openloop.py`), at a third of what the cluster can take, before the change, until its end and
  after it, and the nodes give at the usual `--fill-rate`;
- the same with sets;
- nobody asks anything, the rate is the usual one, and in mid-change the proxy is killed and started again.

Shown are the keys that moved and how many of them in a second, the seconds from the start of the process that joins to the
beginning of the change and to the moment at which it owns its share, and medians of the rounds' latencies. A request has failed
when its answer is not 200, or has a key without a definite answer. The machine should do nothing else.

Exit code 0 if no request has failed, each change went on to its end, and every key is there once and in no other place than it
should; 1 if not.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from members import BATCH, Cluster
from openloop import Generator, Level
from run import machine, positive, say
from systems import KEYS, StartError, key

from gkv.config import KNOBS

NODES = {1: 2, 3: 3}
"""By number of copies, the nodes before the change."""
OF_A_REQUEST, CONNECTIONS = 10, 128
USUAL = int(next(knob.default for knob in KNOBS if knob.name == "fill_rate"))
KILLED_AT = 0.3
"""The share that has moved when the proxy is killed."""
_MORE = "more:{}"
_STRICT = "Prefer: handling=strict\r\n"
_SHOWN_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class Join:
    """A node that has joined. Times in seconds from the start of its process."""

    copies: int
    how: str
    begun: float
    switched: float
    moved: int
    """Keys that it took, counted once for each time that one came."""

    @property
    def rate(self) -> float:
        return self.moved / (self.switched - self.begun)

    def __str__(self) -> str:
        nodes = NODES[self.copies]
        return (
            f"{self.copies:>6} {nodes:>2} -> {nodes + 1} {self.how:<24} {self.moved:>9} {self.rate:>8.0f}"
            f" {self.begun:>8.2f} {self.switched:>9.2f}"
        )


JOINS = f"{'copies':>6} {'nodes':>7} {'change':<23} {'moved':>9} {'keys/s':>8} {'begun s':>8} {'switch s':>9}"


@dataclass(frozen=True, slots=True)
class Latencies:
    """The answers of clients in some rounds: medians of the rounds' p50 and p99, and the longest of all, in milliseconds."""

    p50: float
    p99: float
    longest: float
    requests: int
    refused: int
    """Answered 503: nothing was done, or not for all keys."""
    broken: int
    """Any other answer than 200, or none."""

    @classmethod
    def of(cls, levels: Sequence[Level]) -> "Latencies":
        found = [level.latencies(level.served) for level in levels]
        p50, p99, longest = zip(*found, strict=True)
        refused = sum(len(level.rejected) for level in levels)
        broken = sum(level.failed + level.unanswered for level in levels)
        requests = sum(len(level.served) for level in levels) + refused + broken
        return cls(median(p50), median(p99), max(longest), requests, refused, broken)

    def __str__(self) -> str:
        return f"{self.p50:>8.2f} {self.p99:>8.2f} {self.longest:>8.1f}"


@dataclass(frozen=True, slots=True)
class Beside:
    """The findings of clients about one change."""

    copies: int
    op: str
    rate: float
    """Requests a second."""
    before: Latencies
    during: Latencies
    after: Latencies

    @property
    def wrong(self) -> str:
        """The failures in words; none if nothing has failed."""
        phases = (("before", self.before), ("during", self.during), ("after", self.after))
        found = [f"{one.refused} refused and {one.broken} broken {name}" for name, one in phases if one.refused or one.broken]
        return f"{self.copies} copies, {self.op}s: {', '.join(found)} the change" if found else ""

    def __str__(self) -> str:
        phases = (self.before, self.during, self.after)
        requests = sum(one.requests for one in phases)
        failed = sum(one.refused + one.broken for one in phases)
        times = f"{self.before} {self.during} {self.after}"
        return f"{self.copies:>6} {self.op:>4} {self.rate:>7.0f}/s {times} {failed:>7} of {requests}"


THREE = f"{'p50':>8} {'p99':>8} {'max':>8}"
BESIDES = (
    f"{'copies':>6} {'op':>4} {'offered':>9} {THREE} {THREE} {THREE}   failed\n{'ms before':>46} {'during':>26} {'after':>26}"
)


class Progress:
    """The progress line, on standard error."""

    def __init__(self, cluster: Cluster, what: str) -> None:
        self._cluster = cluster
        self._what = what
        self._since = time.monotonic()

    def show(self, document: Any = None) -> None:
        """Show how far the change is."""
        change = (document or self._cluster.document() or {}).get("change")
        far = "" if change is None else f"{change['share']:6.1%} moved, {change['rate']:6.0f} keys/s"
        print(f"\r{time.monotonic() - self._since:6.0f} s  {self._what}: {far:<32}", end="", file=sys.stderr, flush=True)


class Growing:
    """One cluster that grows by a node and shrinks again."""

    def __init__(self, cluster: Cluster, copies: int, keys: int) -> None:
        self._cluster = cluster
        self._copies = copies
        self._keys = keys
        self._number = NODES[copies] + 1
        self._name = f"n{self._number}"
        self._since = 0.0

    def load(self) -> None:
        """Set all keys."""
        begun = time.monotonic()
        self._cluster.set([key(number) for number in range(KEYS)], "")
        for at in range(0, self._keys, 10 * BATCH):
            more = range(at, min(at + 10 * BATCH, self._keys))
            self._cluster.set([_MORE.format(number) for number in more], "")
            print(f"\r{time.monotonic() - begun:6.0f} s  set {more[-1] + 1:>9,}", end="", file=sys.stderr, flush=True)

    def alone(self) -> Join:
        """Have the node join while nobody asks anything."""
        self._cluster.give(0)
        self._start(0)
        self._follow("joins without a bound", self._is_there)
        return self._joined("no bound")

    def beside(self, op: str, rounds: int, seconds: int) -> tuple[Join, Beside]:
        """Have it join while clients ask."""
        self._cluster.give(None)
        generator = Generator(self._cluster.system(), OF_A_REQUEST, CONNECTIONS, op, _STRICT)
        rate = generator.saturate(seconds) / 3
        progress = Progress(self._cluster, f"joins beside {op}s")

        def offered() -> Level:
            level = generator.offer(1 / 3, rate, seconds)
            progress.show()
            return level

        before = [offered() for _ in range(rounds)]
        self._start(None)
        during = [offered()]
        while not self._is_there(self._cluster.document()):
            during.append(offered())
        joined = self._joined(f"{USUAL}/s, beside {op}s")
        after = [offered() for _ in range(rounds)]
        generator.close()
        found = Beside(self._copies, op, rate, Latencies.of(before), Latencies.of(during), Latencies.of(after))
        return joined, found

    def killed(self) -> tuple[Join, bool]:
        """Have it join while the proxy is killed and started again; return also whether the change went on."""
        self._cluster.give(None)
        self._start(None)
        self._follow("joins, before the kill", lambda document: _share(document) >= KILLED_AT or self._is_there(document))
        before = self._cluster.document()
        if before["change"] is None:
            raise StartError("the change was over before the proxy could be killed: take more --keys")
        self._cluster.kill_proxy()
        self._cluster.start_proxy()
        self._cluster.wait("the proxy", lambda: self._cluster.document() is not None)
        after = self._cluster.document()
        self._follow("joins, after the kill", self._is_there)
        same = self._is_there(after) or (after["next"], after["next_since"]) == (before["next"], before["next_since"])
        return self._joined(f"{USUAL}/s, proxy killed"), same

    def shrink(self) -> None:
        """Have the node leave, and end it. The others may still be dropping what had become its."""
        self._cluster.give(0)
        self._cluster.call("DELETE", f"/v1/cluster/nodes/{self._name}")
        self._follow("leaves", lambda document: self._name not in {one["id"] for one in document["members"]})
        self._cluster.stop(self._number)
        self._cluster.lose(self._number)

    def missing(self) -> int:
        """Return how many keys are not there, or not known to be."""
        self._settle()
        wrong = 0
        for at in range(0, self._keys, BATCH):
            asked = [{"key": _MORE.format(number)} for number in range(at, min(at + BATCH, self._keys))]
            wrong += len(asked) - len(self._cluster.call("POST", "/get", asked)["existedKey"])
            print(f"\rread {at + len(asked):>9,}, {wrong} missing", end="", file=sys.stderr, flush=True)
        return wrong

    def _start(self, rate: int | None) -> None:
        self._since = time.time()
        self._cluster.start(self._number, rate)

    def _is_there(self, document: Any) -> bool:
        """Return whether it owns its share."""
        lines = {} if document is None else {member["id"]: member["weight"] for member in document["members"]}
        return bool(lines.get(self._name))

    def _follow(self, what: str, holds: Callable[[Any], bool]) -> None:
        progress = Progress(self._cluster, f"{self._copies} copies: {self._name} {what}")
        shown = 0.0

        def is_over() -> bool:
            nonlocal shown
            document = self._cluster.document()
            if time.monotonic() - shown > _SHOWN_EVERY:
                shown = time.monotonic()
                progress.show(document)
            return document is not None and holds(document)

        self._cluster.wait(what, is_over)

    def _joined(self, how: str) -> Join:
        joins = f"{self._name} joins"
        begun = next(at for at in self._cluster.times(f"the ring is changing: {joins}") if at > self._since)
        switched = next(at for at in self._cluster.times(f"the ring has changed: {joins}") if at > self._since)
        moved = int(self._cluster.figure(self._number, "gkv_fill_records_taken_total"))
        joined = Join(self._copies, how, begun - self._since, switched - self._since, moved)
        print(f"\r{' ' * 78}\r", end="", file=sys.stderr, flush=True)
        print(joined, flush=True)
        return joined

    def _settle(self) -> None:
        """Wait until each node has what it should have, and nothing else."""
        whole = self._copies * (self._keys + KEYS)
        self._follow("and others drop what is its", lambda document: _held(document) == whole)


def _share(document: Any) -> float:
    return 0.0 if document["change"] is None else float(document["change"]["share"])


def _held(document: Any) -> int:
    return sum(member["keys"] or 0 for member in document["members"])


def measure(copies: int, options: argparse.Namespace) -> tuple[list[Join], list[Beside], list[str]]:
    """Have one cluster grow in all these ways; return also what went wrong."""
    wrong = []
    with tempfile.TemporaryDirectory(prefix="gkv-bench-") as directory:
        cluster = Cluster(Path(directory), options.port, NODES[copies], copies)
        try:
            cluster.begin()
            growing = Growing(cluster, copies, options.keys)
            growing.load()
            joins = [growing.alone()]
            besides = []
            for op in ("get", "set"):
                growing.shrink()
                joined, beside = growing.beside(op, options.rounds, options.seconds)
                joins.append(joined)
                besides.append(beside)
                if beside.wrong:
                    wrong.append(beside.wrong)
            growing.shrink()
            joined, went_on = growing.killed()
            joins.append(joined)
            if not went_on:
                wrong.append(f"{copies} copies: the change did not go on after the proxy was killed")
            missing = growing.missing()
            if missing:
                wrong.append(f"{copies} copies: {missing} keys are missing")
        finally:
            print(file=sys.stderr)
            cluster.close()
    return joins, besides, wrong


def _copies(text: str) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if not set(found) <= NODES.keys():
        raise argparse.ArgumentTypeError(f"there are: {', '.join(map(str, NODES))}")
    return found


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=positive, default=1_000_000, help="that are there (default: 1000000)")
    parser.add_argument("--copies", type=_copies, default=[1, 3], help="1, 3 or both (default: 1,3)")
    parser.add_argument("--rounds", type=positive, default=3, help="of latencies before and after a change (default: 3)")
    parser.add_argument("--seconds", type=positive, default=5, help="of each of them (default: 5)")
    parser.add_argument("--port", type=positive, default=28_480, help="first of five ports to use (default: 28480)")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file")
    options = parser.parse_args()
    line = machine()
    print(f"# {line}\n# {options.keys} keys and {KEYS} that are asked for, {OF_A_REQUEST} in a request\n{JOINS}", flush=True)
    joins, besides, wrong = [], [], []
    try:
        for copies in options.copies:
            more = measure(copies, options)
            joins += more[0]
            besides += more[1]
            wrong += more[2]
    except StartError as error:
        say(str(error))
        return 1
    print(f"\n{BESIDES}")
    for beside in besides:
        print(beside)
    for what in wrong:
        print(f"WRONG: {what}")
    if options.json:
        found = {
            "machine": line,
            "options": vars(options),
            "joins": [asdict(join) | {"rate": join.rate} for join in joins],
            "clients": [asdict(beside) for beside in besides],
            "wrong": wrong,
        }
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
