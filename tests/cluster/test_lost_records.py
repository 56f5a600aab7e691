"""A record that a primary's disk has lost is told of as damaged by everybody, however others are filled from there."""

import signal

import pytest

from gkv.ring import tokens
from tests.cluster.conftest import System, wait_for
from tests.cluster.copies import Copies
from tests.cluster.filled import Filled, figure
from tests.cluster.rot import rot


@pytest.mark.promise("I14", "I23")
def test_learner_takes_what_its_primary_has_lost_for_damaged_and_not_for_missing(system: System) -> None:
    """Its own copy may be older, and a look at all records says that there is none."""
    filled = Filled(Copies.start(system, nodes=2, copies=2, of_node=lambda _name: ("--scrub-rate", "1")))
    keys = [f"key/{number}" for number in range(100)]
    filled.put(keys, 1)
    filled.settle()
    primary, node = filled.cluster.nodes
    filled.leave(node, signal.SIGTERM)
    rot(filled.directory(primary) / "data.mdb", tokens([keys[0]]) + keys[0].encode())
    filled.come_back(node)
    proxy = filled.cluster.proxy.program

    def is_told_of_as_damaged() -> bool:
        listed = proxy.call("GET", f"/v1/kv?prefix={keys[0]}")
        return (
            proxy.call("GET", f"/v1/kv/{keys[0]}").status == 500 and listed.status == 200 and listed.json["keys"] == [keys[0]]
        )

    assert is_told_of_as_damaged()
    assert figure(node, "gkv_fill_records_dropped_total") == 0
    filled.leave(primary, signal.SIGKILL)
    wait_for("the learner's answer", is_told_of_as_damaged)
    assert proxy.call("GET", f"/v1/kv/{keys[1]}").body == b"1"
    assert proxy.call("POST", "/set", [{"key": keys[0], "value": 2}]).status == 200
    filled.come_back(primary)
    assert proxy.call("GET", f"/v1/kv/{keys[0]}").body == b"2"
