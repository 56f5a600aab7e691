"""Records of a cluster with copies, as they were acknowledged and as they are on its disks."""

import json
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gkv.model import Record
from tests.cluster.conftest import wait_for
from tests.cluster.copies import Copies
from tests.cluster.test_restore import records
from tests.linearizability.faults import Victim

AT_ONCE = 1_000
"""Keys of one request."""
EQUAL_WITHIN = 20.0
"""Seconds after which all that is due has its tombstone, and all that is nobody's own has gone."""


def figure(node: Victim, name: str) -> float:
    """Return a figure of a node's."""
    found = re.search(rf"^{name} (\S+)", node.program.call("GET", "/metrics").body.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def taken(node: Victim) -> int:
    """Return how many records a node has taken from primaries since it was started."""
    return round(figure(node, "gkv_fill_records_taken_total"))


def batches(keys: Sequence[str], size: int = AT_ONCE) -> Iterator[Sequence[str]]:
    """Yield keys, as many as one request may have at a time."""
    for at in range(0, len(keys), size):
        yield keys[at : at + size]


@dataclass
class Filled:
    """A cluster, the directories of its nodes, and what was acknowledged last about the keys of one writer."""

    cluster: Copies
    elsewhere: dict[str, Path] = field(default_factory=dict)
    """Directories of nodes that are not where they usually are."""
    values: dict[str, Any] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    def directory(self, node: Victim) -> Path:
        usual = self.cluster.system.directory / "gkv-data" / str(node.program.port)
        return self.elsewhere.get(node.name, usual)

    # -- the writer

    def put(self, keys: Sequence[str], value: Any, **item: Any) -> None:
        """Set keys, each until that is acknowledged."""
        for some in batches(keys):
            body = [{"key": key, "value": value} | item for key in some]
            wait_for("an acknowledged set", partial(self._is_done, "/set", body, len(some)), 60)
        self.values |= dict.fromkeys(keys, value)
        self.deleted -= set(keys)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete keys, each until that is acknowledged."""
        for some in batches(keys):
            wait_for("an acknowledged delete", partial(self._is_done, "/delete", [{"key": key} for key in some], None), 60)
        for key in keys:
            del self.values[key]
        self.deleted.update(keys)

    def add(self, key: str, delta: int) -> None:
        """Add to a key, once."""
        answer = self.cluster.proxy.program.call("POST", f"/v1/kv/{key}?add={delta}")
        assert answer.status == 200, answer
        self.values[key] += delta

    def touch(self, key: str, ttl: int) -> None:
        """Give a key another expiry."""
        answer = self.cluster.proxy.program.call("POST", f"/v1/kv/{key}?touch={ttl}")
        assert answer.status in (200, 204), answer

    def _is_done(self, path: str, body: Any, count: int | None) -> bool:
        try:
            answer = self.cluster.proxy.program.call("POST", path, body, Accept="application/json")
        except OSError:  # the proxy is away
            return False
        return answer.status == 200 and "failedKey" not in answer.json and count in (None, answer.json.get("set"))

    # -- what is there

    def check(self) -> None:
        """All that was acknowledged is told and is on the disks, equal, where it belongs; nothing else is."""
        keys = [*self.values, *self.deleted]
        for some in batches(keys):
            found = self.cluster.proxy.program.call("POST", "/get", [{"key": key} for key in some]).json
            assert "failedKey" not in found, found["failedKey"][:10]
            there = {row["key"]: row["value"] for row in found.get("existedKey", ())}
            wrong = {key: there.get(key) for key in some if there.get(key) != self.values.get(key)}
            assert not wrong, wrong
        for name, live in self.wait_equal().items():
            assert not live.keys() & self.deleted, name
            assert not self._all_have_all or live.keys() >= self.values.keys(), name
            mine = live.keys() & self.values.keys()
            assert {key: json.loads(live[key].value or b"") for key in mine} == {key: self.values[key] for key in mine}, name

    @property
    def _all_have_all(self) -> bool:
        return self.cluster.copies == len(self.cluster.nodes)

    def wait_equal(self, within: float = EQUAL_WITHIN) -> dict[str, dict[str, Record]]:
        """Wait until all copies of every list have equal live records, and nobody has what is not its own; return them, by
        node.
        """
        dumps: dict[str, dict[str, Record]] = {}
        unequal: list[str] = []

        def are_equal() -> bool:
            dumps.update({node.name: records(self.directory(node)) for node in self.cluster.nodes})
            unequal[:] = self._unequal(dumps)
            return not unequal

        try:
            wait_for("equal copies", are_equal, within)
        except pytest.fail.Exception as error:
            error.add_note("\n".join(unequal[:20]))
            raise
        return dumps

    def _unequal(self, dumps: Mapping[str, Mapping[str, Record]]) -> list[str]:
        """Return a line for each key of which a node has another record than another, or which is not its own."""
        if self._all_have_all:
            first, *others = dumps.values()
            if all(first == other for other in others):
                return []
        keys = list({key: None for dump in dumps.values() for key in dump})
        owners = self.owners(keys)
        lines = []
        for key in keys:
            has = {name: dump[key] for name, dump in dumps.items() if key in dump}
            if has.keys() != owners[key] or any(record != dumps[min(has)][key] for record in has.values()):
                lines.append(f"{key!r} of {sorted(owners[key])}: {has}")
        return lines

    def owners(self, keys: Sequence[str]) -> dict[str, set[str]]:
        """Return the nodes of each key's list."""
        rows = [
            row
            for some in batches(keys)
            for row in self.cluster.proxy.program.call("POST", "/locate", [{"key": key} for key in some]).json["keys"]
        ]
        return {row["key"]: {node["id"] for node in row["nodes"]} for row in rows}

    # -- nodes that are away

    def settle(self) -> None:
        """Wait until all nodes know that all is settled: what may not be is written anew when its primary goes."""
        wait_for("settled keys", lambda: not any(figure(one, "gkv_unsettled_keys_copied") for one in self.cluster.nodes))

    def leave(self, node: Victim, number: int = signal.SIGTERM) -> None:
        """End a node, and wait until it is down."""
        self.cluster.end(node, number)
        self.cluster.wait_down(node)

    def come_back(self, node: Victim) -> None:
        """Start a node, and wait until it is up, as all others are."""
        self.cluster.start_again(node)
        self.cluster.wait_whole()

    def empty(self, node: Victim) -> None:
        """Take the directory of a node that has ended away."""
        shutil.rmtree(self.directory(node))
