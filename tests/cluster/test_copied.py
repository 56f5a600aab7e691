"""Three copies on three real nodes: words over real sockets, a node that is killed, one that is told to end."""

import signal
import time
from collections.abc import Iterator

import pytest

from gkv.model import era_of
from gkv.net import gathered
from gkv.replication.messages import Copy, Hello
from gkv.wire.ops import NodeRequest, Refused, Said, Word, read_answer
from tests.cluster.conftest import Program, System, Worker, call, wait_for

COPIES = ("--replicas", "3")
KEYS = [f"key-{number}" for number in range(30)]


@pytest.fixture
def copied(system: System) -> Iterator[tuple[Program, list[Program]]]:
    """Give a proxy and three nodes that keep three copies, all there."""
    proxy = system.proxy(*COPIES)
    nodes = [system.start("node", "0", "--proxy", f"http://127.0.0.1:{proxy.port}") for _ in range(3)]
    for node in nodes:
        node.port = int(node.wait_line(r"Listening on port \.\.\.(\d+)")[1])
    wait_until_whole(proxy)
    yield proxy, nodes
    assert all("internal error" not in program.stderr for program in (proxy, *nodes))


def wait_until_whole(proxy: Program) -> None:
    """Wait until all three members are up."""

    def whole() -> bool:
        members = proxy.call("GET", "/v1/cluster").json["members"]
        return [one["state"] for one in members if one["weight"]] == ["up"] * 3

    wait_for("three members that are up", whole)


def put_all(proxy: Program, value: object) -> None:
    answer = proxy.call("POST", "/set", [{"key": key, "value": value} for key in KEYS])
    assert (answer.status, set(answer.body.split(b"Success to set key"))) == (200, {b""})


def assert_all(program: Program, value: object) -> None:
    found = program.call("POST", "/get", [{"key": key} for key in KEYS]).json
    assert found == {"existedKey": [{"key": key, "value": value} for key in KEYS]}


class Client(Worker):
    """Writes and reads one key after the other, and notes what is not answered as it should be, and how long that took."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.failed: list[object] = []
        self.longest = 0.0
        self.count = 0
        super().__init__()

    def _run(self) -> None:
        while not self._stop.is_set():
            key = f"w{self.count % 20}"
            for path, body in (("/set", [{"key": key, "value": self.count}]), ("/get", [{"key": key}])):
                began = time.monotonic()
                answer = call(self.port, "POST", path, body)
                self.longest = max(self.longest, time.monotonic() - began)
                if answer.status != 200 or b"failedKey" in answer.body:
                    self.failed.append((path, answer.status, answer.body))
            self.count += 1


@pytest.mark.promise("I1")
def test_what_was_acknowledged_is_answered_though_a_node_is_killed(copied: tuple[Program, list[Program]]) -> None:
    proxy, nodes = copied
    put_all(proxy, 1)
    for program in (proxy, *nodes):
        assert_all(program, 1)
    nodes[0].process.kill()
    began = time.monotonic()
    assert_all(proxy, 1)
    put_all(proxy, 2)
    assert time.monotonic() - began < 5
    assert_all(nodes[1], 2)
    assert proxy.call("POST", "/delete", [{"key": key} for key in KEYS[:10]]).json == {"deleted": 10}


def test_nodes_that_are_told_to_end_hand_their_keys_over(copied: tuple[Program, list[Program]], system: System) -> None:
    """No request fails, whichever node it is."""
    proxy, nodes = copied
    client = Client(proxy.port)
    for node in nodes:
        node.signal(signal.SIGTERM)
        assert node.ended() == 0
        target = f"http://127.0.0.1:{proxy.port}"
        system.start("node", str(node.port), "--proxy", target).wait_line(": member of cluster ")
        wait_until_whole(proxy)
    client.stop()
    assert client.failed == []
    assert client.count


def test_any_copy_answers_and_says_since_when_it_has_not_heard_the_primary(copied: tuple[Program, list[Program]]) -> None:
    proxy, nodes = copied
    put_all(proxy, 1)
    asked = [
        ("GET", f"/v1/kv/{KEYS[0]}?stale=1", 200),
        ("HEAD", f"/v1/kv/{KEYS[0]}?stale=1", 200),
        ("GET", "/v1/kv/nothing?stale=1", 404),
        ("GET", f"/get?key={KEYS[0]}&key=nothing&stale=1", 200),
    ]
    for program in (proxy, *nodes):
        for method, path, status in asked:

            def age(program: Program = program, method: str = method, path: str = path, status: int = status) -> str | None:
                assert_all(proxy, 1)  # the primaries have leases then, without which they say nothing of their age
                answer = program.call(method, path)
                assert answer.status == status
                return answer.headers.get("Age-Bound")

            assert 0 <= float(wait_for(f"the age in {method} {path}", age)) < 5


def test_words_that_cannot_be_harm_nothing(copied: tuple[Program, list[Program]]) -> None:
    proxy, nodes = copied
    put_all(proxy, 1)
    document = proxy.call("GET", "/v1/cluster").json
    era = era_of(document["generation"], document["epoch"])
    first, second = document["members"][:2]
    asked = Word(document["cluster"], era, first["id"], int(first["incarnation"], 16), Hello(7))
    port = int(second["url"].rpartition(":")[2])
    said = say(port, asked)
    assert isinstance(said, Said)
    assert (said.era, said.sender, said.message.number) == (era, second["id"], 7)
    asked.cluster = "f" * 32
    assert isinstance(say(port, asked), Refused)
    asked.cluster, asked.incarnation, asked.message = document["cluster"], 12345, Copy(8)
    assert say(port, asked).message is None  # not the process that the document has
    for program in (proxy, *nodes):
        assert_all(program, 1)


def say(port: int, word: NodeRequest) -> Said | Refused:
    """Say something to a node, as a member does."""
    frame = word.write()
    body = gathered.write_preface(1, 1, [len(frame)]) + frame
    answer = call(port, "POST", "/internal/frames", body, Content_Type="application/octet-stream").body
    preface = gathered.read_preface(answer, len(answer), 1)
    return read_answer(gathered.cut(answer, preface)[0], Said)
