"""The client against real systems: its own examples, values that stay exact, limits, and endpoints that are killed."""

import doctest
import re
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from gkv import client as room
from gkv.client import BatchFailed, Blob, Client, Indeterminate, JsonText, Unauthorized, Unavailable, Untrusted, line_of
from tests.certificates import Authority
from tests.cluster.conftest import Program, System, spawned_in, wait_for
from tests.unit.test_doctests import LIVE

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/client.md")


@pytest.fixture(scope="module")
def spawned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Give a proxy with two nodes that it has started."""
    yield from spawned_in(tmp_path_factory.mktemp("spawned"), "--max-body", "1MiB")


@pytest.fixture
def client(spawned: Program) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{spawned.port}") as client:
        yield client


@pytest.mark.parametrize("name", sorted(LIVE))
def test_examples_of_the_room_give_what_they_say(client: Client, name: str) -> None:
    module = import_module(f"gkv.client.{name}")
    names = vars(module) | {name: getattr(room, name) for name in room.__all__} | {"client": client}
    result = doctest.testmod(module, globs=names)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_the_pages_give_what_they_say(spawned: Program, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    assert blocks
    here = "\n".join(blocks).replace("localhost:8080", f"127.0.0.1:{spawned.port}")
    test = doctest.DocTestParser().get_doctest(here, {}, page, page, 0)
    assert not doctest.DocTestRunner().run(test).failed


def test_every_value_is_copied_as_it_is_by_lines(client: Client) -> None:
    texts = [
        "1.10",
        "-0",
        "1e2",
        "9" * 300,
        "0.1000000000000000055511151231257827",
        '"\\u00e9\\/"',
        "[ 1,\t{ } ]",
        "null",
        '""',
    ]
    client.set_many((f"from/{i}", JsonText(text)) for i, text in enumerate(texts))
    client.set_many([("from/b", Blob(bytes(range(256)), "image/png")), ("from/c", Blob(b"", "text/plain; charset=utf-8"))])
    client.set("from/ttl", {"a": [1]}, ttl=1000)
    lines = [line_of(item).replace('"from/', '"to/', 1) for item in client.items("from/", raw=True)]
    assert client.set_lines(lines) == len(texts) + 3
    for i, text in enumerate(texts):
        assert client.get(f"to/{i}", raw=True) == text
        assert client.get(f"to/{i}") == client.get(f"from/{i}")
    for key in ("b", "c"):
        assert client.get_bytes(f"to/{key}") == client.get_bytes(f"from/{key}")
    copied = client.get_item("to/ttl")
    assert copied is not None
    assert copied.ttl is not None
    assert 900 < copied.ttl <= 1000
    plain = {item.key: item.value for item in client.items("to/", meta=False)}
    assert plain == {item.key: item.value for item in client.items("to/")}
    assert plain == client.get_many(plain)
    assert [*plain] == sorted(plain) == list(client.keys("to/"))


def test_body_of_a_batch_is_as_large_as_the_proxy_takes_it(client: Client) -> None:
    """The one here takes 1 MiB, so a batch is sent in parts."""
    values = {f"large/{i}": "x" * 300_000 for i in range(9)}
    assert client.set_many(values) == 9
    assert client.get_many(values) == values
    assert [len(page.items) for page in client.pages("large/", meta=False)] == [9]
    assert client.delete_many([*values, "nobody"]) == 9


def test_listing_goes_on_from_a_cursor(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkv.client.listing.PAGE", 3)
    client.set_many({f"page/{i}": i for i in range(8)})
    pages = list(client.pages("page/"))
    assert [[item.value for item in page.items] for page in pages] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    rest = [item.value for page in client.pages("page/", cursor=pages[0].cursor) for item in page.items]
    assert rest == [3, 4, 5, 6, 7]
    with pytest.raises(room.CursorRefused):
        next(client.pages("other/", cursor=pages[0].cursor))


def test_proxy_that_is_killed_is_left_for_the_nodes(system: System) -> None:
    """No read fails; only the writes that the proxy may have passed on break off."""
    proxy, nodes = system.cluster(2)
    urls = [f"http://127.0.0.1:{program.port}" for program in (proxy, *nodes)]
    known: dict[str, int] = {}
    broken: list[Indeterminate] = []
    stop = threading.Event()
    wrong: list[object] = []

    def work(name: str, client: Client) -> None:
        for i in range(1_000_000):
            key = f"{name}/{i}"
            try:
                client.set(key, i)
            except Indeterminate as error:
                if not error.status:  # else a server has said so, as those do that have just joined
                    broken.append(error)
            else:
                known[key] = i
                if client.get(key) != i:
                    wrong.append(key)
            if stop.is_set():
                return

    with Client(*urls) as client:
        threads = [threading.Thread(target=work, args=(f"t{i}", client)) for i in range(4)]
        for thread in threads:
            thread.start()
        wait_for("some writes", lambda: len(known) > 100)
        proxy.process.kill()
        proxy.process.wait()
        before = len(known)
        wait_for("writes after the kill", lambda: len(known) > before + 100)
        stop.set()
        for thread in threads:
            thread.join(20)
        assert not wrong
        assert len(broken) <= len(threads), broken
        assert client.get_many(known) == known


def test_node_that_is_down_fails_its_keys_alone_and_is_waited_for(system: System) -> None:
    proxy, nodes = system.cluster(2)
    with Client(f"http://127.0.0.1:{proxy.port}") as client:
        values = {f"k{i}": i for i in range(50)}
        client.set_many(values)
        owner = {place.key: place.primary for place in client.locate(*values)}
        node = nodes[0]
        theirs = {key for key, name in owner.items() if name == f"127.0.0.1:{node.port}"}
        assert 0 < len(theirs) < 50
        node.process.kill()
        node.process.wait()
        with pytest.raises(BatchFailed) as raised:
            client.within(0.3).get_many(values)
        assert raised.value.failed.keys() == theirs
        assert raised.value.found == {key: value for key, value in values.items() if key not in theirs}
        found: list[object] = []
        waiting = threading.Thread(target=lambda: found.append(client.within(20).get_many(values)))
        waiting.start()
        with pytest.raises(Unavailable):
            client.within(0.3).get(min(theirs))
        system.node(proxy, port=node.port)
        waiting.join(20)
        assert found == [values]


def test_servers_with_tokens_and_tls_are_spoken_to(system: System, tmp_path: Path) -> None:
    files = Authority(tmp_path).member
    roles = ("peer", "admin", "reader", "client")
    tokens = {f"GKV_{role.upper()}_TOKENS": f"{role}-token-for-a-test" for role in roles}
    proxy = system.proxy(*files.flags, **tokens)
    url = f"https://127.0.0.1:{proxy.port}"
    node = system.start("node", "0", "--proxy", url, *files.flags, **tokens)
    node.wait_line(": member of cluster ")
    ca = str(files.ca)
    with Client(url, ca=ca, token="client-token-for-a-test") as client:
        client.set("hi", 1)
        assert client.get_many(["hi"]) == {"hi": 1}
    with Client(url, ca=ca, token="reader-token-for-a-test") as client:
        assert client.get("hi") == 1
        with pytest.raises(Unauthorized):
            client.set("hi", 2)
        with pytest.raises(BatchFailed, match="forbidden"):
            client.set_many({"hi": 2})
    with Client(url, ca=ca) as client, pytest.raises(Unauthorized):
        client.get("hi")
    with Client(url) as client, pytest.raises(Untrusted):
        client.get("hi")
