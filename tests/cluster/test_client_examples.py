"""The examples on `gkv.client`, as they stand there, while a node is killed under them and started again."""

import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gkv.client import Client, Indeterminate
from tests.cluster.conftest import Program, System, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"


class Cluster:
    """A proxy and two nodes, of which one can be killed and started again."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.proxy, nodes = system.cluster(2)
        self._node: Program = nodes[0]
        self.url = f"http://127.0.0.1:{self.proxy.port}"

    def kill(self) -> None:
        self._node.process.kill()
        self._node.process.wait()

    def start(self) -> None:
        self._node = self._system.node(self.proxy, port=self._node.port)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    system = System(tmp_path_factory.mktemp("system"))
    yield Cluster(system)
    system.end()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(cluster.url) as client:
        yield client


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / name))


def surely(write: Callable[[], object]) -> None:
    """Do it until it is certain that it was done; soon after a restart a write may have no answer."""

    def done() -> bool:
        try:
            write()
        except Indeterminate:
            return False
        return True

    wait_for("a certain write", done)


@pytest.mark.parametrize("name", ["session_store.py", "configuration.py", "bulk_load.py"])
def test_examples_are_short(name: str) -> None:
    assert (EXAMPLES / name).read_text(encoding="utf-8").count("\n") < 60


def test_sessions_outlive_a_node_that_is_killed(cluster: Cluster, client: Client) -> None:
    store = example("session_store.py")["SessionStore"](client, idle=600)
    last: dict[str, int] = {}
    errors: list[object] = []
    stop = threading.Event()

    def visit() -> None:
        try:
            while not stop.is_set():
                token = store.start(user="ada")
                for step in (1, 2, 3):
                    assert store.use(token, step=step) == {"user": "ada", "step": step}
                    assert store.use(token) == {"user": "ada", "step": step}
                    last[token] = step
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=visit) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for("some sessions", lambda: len(last) > 10)
    cluster.kill()
    cluster.start()
    before = len(last)
    wait_for("sessions after that", lambda: errors or len(last) > before + 10)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert {token: store.use(token)["step"] for token in last} == last
    token = next(iter(last))
    store.end(token)
    assert store.use(token) is None


def test_session_that_nobody_uses_ends(client: Client) -> None:
    store = example("session_store.py")["SessionStore"](client, idle=0.2)
    token = store.start(user="ada")
    wait_for("the end", lambda: client.get(f"session/{token}") is None)
    assert store.use(token) is None


def test_configuration_keeps_the_last_good_values_and_notices_what_changes(cluster: Cluster, client: Client) -> None:
    settings = example("configuration.py")["Configuration"](client, "conf/", within=0.3)
    names = {f"n{i}": i for i in range(20)}
    client.set_many({f"conf/{name}": value for name, value in names.items()})
    assert settings.refresh() == set(names)
    assert (settings.refresh(), settings.error, dict(settings)) == (set(), None, names)
    cluster.kill()
    assert settings.refresh() == set()
    assert settings.error is not None
    assert dict(settings) == names
    cluster.start()
    surely(lambda: client.set("conf/n1", 1))  # the same value is another version
    surely(lambda: client.set("conf/n2", "new"))
    surely(lambda: client.delete("conf/n3"))
    surely(lambda: client.set("conf/n20", True))
    assert wait_for("an answer", settings.refresh) == {"n1", "n2", "n3", "n20"}
    del names["n3"]
    assert dict(settings) == names | {"n2": "new", "n20": True}
    assert settings.error is None


def test_load_goes_on_over_a_node_that_is_killed_and_keeps_what_is_wrong(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    """Half of the lines come before the kill, and half after it."""
    path, count = tmp_path / "lines", 40_000
    lines = [f'{{"key":"load/{i:05}","value":{i}.50}}\n' for i in range(count)]
    wrong = ['{"key":"load/wrong","value":NaN}\n', "nonsense\n"]
    os.mkfifo(path)
    command = [sys.executable, str(EXAMPLES / "bulk_load.py"), str(path), cluster.url]
    with (
        (tmp_path / "err").open("w") as err,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as run,
    ):
        with path.open("w") as pipe:
            pipe.writelines(lines[: count // 2])
            pipe.flush()
            wait_for("the first lines", lambda: client.get("load/00000") is not None)
            cluster.kill()
            starting = threading.Thread(target=cluster.start)
            starting.start()
            pipe.writelines([*wrong, *lines[count // 2 :]])
        out, _ = run.communicate(timeout=100)
        starting.join(20)
    assert out.startswith(f"{count} of {count + 2} lines loaded"), out + (tmp_path / "err").read_text()[:2000]
    assert run.returncode == 1
    assert sorted((tmp_path / "lines.failed").read_text().splitlines(keepends=True)) == sorted(wrong)
    loaded = {item.key: item.value for item in client.items("load/", raw=True, meta=False)}
    assert loaded == {f"load/{i:05}": f"{i}.50" for i in range(count)}
