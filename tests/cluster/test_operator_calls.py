"""An operator's calls about a change of the ring, at real processes: one node in the place of another, paused meanwhile."""

import signal
from typing import Any

from tests.cluster.conftest import System, wait_for
from tests.cluster.copies import Copies
from tests.cluster.filled import Filled, taken
from tests.cluster.test_restore import records

JSON = {"Content_Type": "application/json"}
COUNT = 1_500
WITHIN = 60.0


def test_node_is_replaced_by_one_that_stands_by_and_paused_meanwhile_whoever_is_restarted(system: System) -> None:
    filled = Filled(Copies.start(system, copies=2))
    cluster = filled.cluster
    n1, n2, n3 = cluster.nodes

    proxy = cluster.proxy.program

    def say(method: str, path: str, body: Any) -> Any:
        answer = cluster.proxy.program.call(method, f"/v1/cluster{path}", body, **JSON)
        assert answer.status in (200, 202), answer
        return answer.json

    keys = [f"key/{number}" for number in range(COUNT)]
    filled.put(keys, "before")
    wait_for("members' words about it", lambda: sum(one["keys"] for one in cluster.document["members"]) == 2 * COUNT)
    n4 = cluster.add("n4", "--standby")
    n4.program.wait_line('n4 stands by, until POST /v1/cluster/replace with {"node": ID, "with": "n4"}')
    assert [one["id"] for one in cluster.document["members"]] == ["n1", "n2", "n3"]

    about = {"node": "n1", "with": "n4"}
    dry = say("POST", "/replace?dryRun=1", about)
    print(f"forecast: {dry['keys']} keys")
    assert dry["moved"] == dry["ideal"]
    assert {one["to"] for one in dry["moves"]} == {"n4"}
    assert abs(dry["keys"] - len(records(filled.directory(n1)))) < 0.1 * COUNT
    # Its first call counts once it has answered at its address.
    wait_for("a word that is taken", lambda: proxy.call("POST", "/v1/cluster/replace", about, **JSON).status == 202)
    say("PATCH", "/change", {"paused": True})
    cluster.proxy.program.wait_line("the ring is changing: n4 replaces n1")
    wait_for("a change that is paused", lambda: (cluster.document["change"] or {}).get("paused"))

    wait_for(
        "n4's word that it has that", lambda: n4.program.call("GET", "/v1/ring").json["epoch"] == cluster.document["epoch"]
    )
    before = taken(n4)
    for one in (cluster.proxy, n2):
        cluster.end(one, signal.SIGKILL)
        cluster.start_again(one)
        if one is n2:  # of a list that has lost a copy nothing waits
            wait_for("n2 is up again", lambda: cluster.states().get("n2") == "up", WITHIN)
        else:
            one.program.wait_line("Listening on port")
    filled.put(keys[: COUNT // 2], "meanwhile")
    document = cluster.document
    assert document["pace"] == {"rate": None, "paused": True}
    assert document["change"]["what"] == "n4 replaces n1"
    assert (taken(n3), taken(n4)) == (0, before)

    say("PATCH", "/change", {"rate": 0, "paused": False})
    wait_for("the end of the change", lambda: cluster.document["next"] is None, WITHIN)
    n1.program.wait_line("n1 is no member any more")
    document = cluster.document
    assert "pace" not in document
    [line] = [one for one in document["members"] if one["id"] == "n4"]
    assert (line["weight"], line["tokens_of"]) == (1.0, "n1")
    assert taken(n3) == 0
    assert taken(n4) >= dry["keys"] / 3
    cluster.nodes.remove(n1)
    cluster.end(n1, signal.SIGTERM)
    filled.check()
