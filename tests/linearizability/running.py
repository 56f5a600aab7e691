"""A history of clients of a running system, from its first operation to the verdict."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.conftest import Program, System
from tests.linearizability import ways
from tests.linearizability.checker import check
from tests.linearizability.faults import Clock, Fault, Victim
from tests.linearizability.history import Ending, Kind, Operation
from tests.linearizability.load import KEYS, PATIENCE, Client, Features

LEAST_WRITES = 0.2


class Running:
    """Clients that read and write until they are told to stop."""

    def __init__(
        self,
        victims: Sequence[Victim],
        seed: int,
        clients: int,
        *,
        clocks_jump: bool,
        patience: Sequence[float] = PATIENCE,
        alone: bool = True,
    ) -> None:
        """All of these are asked, the first one also for what it offers; not `alone` where there are keys of others too."""
        targets = {victim.name: victim.program.port for victim in victims}
        hosts = {victim.name: victim.program.host for victim in victims}
        offered = victims[0].program.call("GET", "/v1/info").json["features"]
        features = Features.of(offered, clocks_jump=clocks_jump, alone=alone)
        self._targets: Mapping[str, int] = targets
        self._seed = seed
        self._clients = [Client(number, seed, targets, features, hosts, patience) for number in range(clients)]

    @property
    def operations(self) -> list[Operation]:
        """Return all that were done until now."""
        return [operation for client in self._clients for operation in list(client.operations)]

    def stop(self) -> None:
        """Have all clients end."""
        for client in self._clients:
            client.stop()
            client.close()

    def read_all(self) -> None:
        """Read each key at each process once more. REQUIRES: the clients have stopped."""
        first = self._clients[0]
        for target in self._targets:
            for key in KEYS:
                first.ask(target, ways.get(key))
            first.ask(target, ways.get_many(KEYS))
        first.close()

    def judge(self) -> list[Operation]:
        """Return the history; fail if no order of its operations explains it."""
        broken = [line for client in self._clients for line in client.broken]
        assert not broken, broken
        history = self.operations
        began = time.monotonic()
        offences = check(history)
        print(f"{len(history)} operations judged in {time.monotonic() - began:.1f} s")
        text = "\n".join(line for offence in offences for line in offence.lines())
        assert not offences, f"{len(offences)} keys have no order, GKV_SEED={self._seed}:\n{text}"
        return history


def victim(
    system: System,
    name: str,
    port: int,
    library: str | None,
    *command: str,
    under: Sequence[str] = (),
    host: str = "127.0.0.1",
) -> Victim:
    """Start a process that can be hit by faults."""
    clock = None if library is None else Clock(Path(system.directory, f"{name}.clock"), library)

    def start() -> Program:
        program = system.start(*command, under=under, **({} if clock is None else clock.environment()))
        program.port, program.host = port, host
        return program

    return Victim(name, start, start(), clock)


def answers(victim: Victim) -> bool:
    """Return whether a process gives definite answers about all keys."""
    assert victim.program.process.poll() is None, f"{victim.name} has ended: {victim.program.stderr}"
    try:
        answer = victim.program.call("POST", "/get", [{"key": key} for key in KEYS])
    except OSError:
        return False
    return answer.status == 200 and "failedKey" not in answer.json


def summary(history: Sequence[Operation], faults: Counter[Fault]) -> list[str]:
    """Return what was done, in lines."""
    endings = Counter(one.ending for one in history)
    kinds = Counter(one.kind for one in history)
    codes = Counter(one.code for one in history if one.code)
    used = Counter(one.who.split(maxsplit=3)[3] for one in history)
    return [
        "faults: " + _counted(faults),
        f"{len(history)} operations: {_counted(kinds)}",
        "endings: " + _counted(endings),
        "ways: " + ", ".join(f"{way} {count}" for way, count in used.most_common()),
        "codes: " + ", ".join(f"{code} {count}" for code, count in codes.most_common()),
    ]


def _counted(counts: Counter) -> str:
    return ", ".join(f"{name.value} {count}" for name, count in counts.most_common())


def invalid(history: Sequence[Operation], faults: Counter[Fault], seconds: float, *, most_unknown: float) -> list[str]:
    """Return why a run shows nothing, empty if it does."""
    known = [one for one in history if one.ending is not Ending.REFUSED]
    writes = sum(one.kind is not Kind.READ for one in known) / max(1, len(known))
    unknown = sum(one.ending is Ending.UNKNOWN for one in known) / max(1, len(known))
    reasons = {
        f"{len(known)} operations in {seconds} s are too few": len(known) < 50 * seconds,
        f"{writes:.0%} writes are too few": writes < LEAST_WRITES,
        f"{unknown:.1%} unknown outcomes are too many": unknown > most_unknown,
        f"{faults.total()} faults are too few": faults.total() < seconds / 2,
        f"{len(faults)} kinds of faults are too few": len(faults) < 3,
        "there are too many keys": len(KEYS) > 50,
    }
    return [reason for reason, holds in reasons.items() if holds]
