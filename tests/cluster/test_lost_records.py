"""A primary that has lost a record makes no learner drop its copy of it."""

import signal

import pytest

from gkv.ring import tokens
from tests.cluster.conftest import System
from tests.cluster.copies import Copies
from tests.cluster.filled import Filled
from tests.cluster.rot import rot


@pytest.mark.promise("I14")
@pytest.mark.xfail(strict=True, reason="a page says that there is no record where the primary has lost it")
def test_learner_keeps_what_its_primary_has_lost(system: System) -> None:
    filled = Filled(Copies.start(system, nodes=2, copies=2, of_node=lambda _name: ("--scrub-rate", "1")))
    keys = [f"key/{number}" for number in range(100)]
    filled.put(keys, 1)
    filled.settle()
    primary, node = filled.cluster.nodes
    filled.leave(node, signal.SIGTERM)
    rot(filled.directory(primary) / "data.mdb", tokens([keys[0]]) + keys[0].encode())
    filled.come_back(node)
    assert filled.cluster.proxy.program.call("GET", f"/v1/kv/{keys[0]}").body == b"1"
