"""Addresses, with real processes: IPv6 and names, members and proxies that move, and two processes that are one member."""

import shutil
import signal
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.cluster.conftest import Program, System, Worker, call, free_ports, wait_for
from tests.cluster.wires import Wires

KEYS = [f"k{i}" for i in range(60)]
ASKED = [{"key": key} for key in KEYS]


def members(proxy: Program) -> dict[str, dict[str, Any]]:
    """Return the members' lines, by id."""
    return {row["id"]: row for row in proxy.call("GET", "/v1/cluster").json["members"]}


def all_up(proxy: Program, count: int) -> bool:
    lines = members(proxy).values()
    return len(lines) == count and all(one["state"] == "up" and one["weight"] and one["answers"] for one in lines)


def url_of(proxy: Program) -> str:
    return f"http://127.0.0.1:{proxy.port}"


def set_all(proxy: Program, value: object = 1) -> None:
    answer = proxy.call("POST", "/set", [{"key": key, "value": value} for key in KEYS])
    assert answer.status == 200, answer


def all_found(program: Program) -> bool:
    """Return whether all keys are there; none may be missing."""
    found = program.call("POST", "/get", ASKED).json
    assert "notExistedKey" not in found, found
    return len(found.get("existedKey", [])) == len(KEYS)


def at(program: Program, host: str) -> Program:
    program.host = host
    return program


class Clients(Worker):
    """Somebody who writes and reads all the time; what was acknowledged is never missing, nor older."""

    def __init__(self, proxy: Program) -> None:
        self._proxy = proxy
        self._newest: dict[str, int] = {}
        self.served = 0
        self.wrong: list[object] = []
        super().__init__()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            items = [{"key": key, "value": number} for key in KEYS]
            written = self._proxy.call("POST", "/set", items, Accept="application/json")
            if written.status == 200:
                self._newest = dict.fromkeys(KEYS, number)
            found = self._proxy.call("POST", "/get", ASKED).json
            if found.get("notExistedKey") and self._newest:
                self.wrong.append(found)
            old = [row for row in found.get("existedKey", []) if row["value"] < self._newest.get(row["key"], 0)]
            self.wrong += old
            self.served += written.status == 200 and len(found.get("existedKey", [])) == len(KEYS)


# -- IPv6 and names


def test_all_of_it_works_on_ipv6_and_under_a_name(system: System) -> None:
    proxy = at(system.proxy("--host", "::1"), "::1")
    nodes = []
    for host, name in (("::1", f"[::1]:{proxy.port}"), ("localhost", f"localhost:{proxy.port}")):
        node = system.node(None, "--host", host, "--proxy", f"http://{name}")
        node.wait_line(": member of cluster ")
        nodes.append(at(node, host))
    wait_for("both", lambda: all_up(proxy, 2))
    assert {one["url"] for one in members(proxy).values()} == {
        f"http://[::1]:{nodes[0].port}",
        f"http://localhost:{nodes[1].port}",
    }
    assert set(members(proxy)) == {f"0::1:{nodes[0].port}", f"localhost:{nodes[1].port}"}
    set_all(proxy)
    for program in (proxy, *nodes):
        assert all_found(program)
    for host in (f"[::1]:{proxy.port}", "[0:0::1]", "localhost"):
        assert proxy.call("GET", "/livez", Host=host).status == 200
    assert proxy.call("GET", "/livez", Host="[fd00::5]").status == 421


def test_process_on_all_addresses_is_where_it_says_and_is_refused_without_that(system: System) -> None:
    proxy = system.proxy()
    for host in ("0.0.0.0", "::"):
        silent = system.start("node", "0", "--host", host, "--insecure", "--proxy", url_of(proxy))
        assert silent.ended() == 78
        assert f"gkv-node: --host {host} is no address that others could be sent to" in silent.stderr
        assert "--advertise HOST:PORT" in silent.stderr
        assert len(silent.stderr.splitlines()) == 1
    port = free_ports(2)
    for number, (host, told) in enumerate((("0.0.0.0", "127.0.0.1"), ("::", "localhost"))):
        where = f"{told}:{port + number}"
        node = system.node(proxy, "--host", host, "--insecure", "--advertise", where, port=port + number)
        assert members(proxy)[where]["url"] == f"http://{where}"
        for name in ("127.0.0.2", "[fd00::5]:1", told):
            assert node.call("GET", "/livez", Host=name).status == 200
        assert node.call("GET", "/livez", Host="elsewhere.example").status == 421
    set_all(proxy)
    assert all_found(proxy)


def test_node_is_told_that_it_enlists_nobody_elsewhere_without_a_token(system: System) -> None:
    proxy = system.proxy()
    node = system.start("node", "0", "--advertise", "192.0.2.1:9000", "--proxy", url_of(proxy))
    assert node.ended() == 1
    assert "the url names 192.0.2.1, but the call comes from 127.0.0.1; a node can only enlist itself" in node.stderr


def test_members_prove_names_and_ipv6_addresses_over_tls(system: System, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = {name: authority.issue(name, *hosts) for name, hosts in {"p": ["::1"], "n": ["localhost"], "m": ["::1"]}.items()}
    context = ssl.create_default_context(cafile=str(authority.path))
    proxy = system.proxy("--host", "::1", *files["p"].flags)
    url = f"https://[::1]:{proxy.port}"
    nodes: list[Program] = []
    port = free_ports(1)
    told = ("--host", "::", "--advertise", f"localhost:{port}", "--insecure")
    for name, where, words in (("n", port, told), ("m", 0, ("--host", "::1"))):
        nodes.append(system.node(None, "--proxy", url, *words, *files[name].flags, port=where))
        nodes[-1].wait_line(": member of cluster ")
    body = [{"key": key, "value": 1} for key in KEYS]
    wait_for("both", lambda: len(call(proxy.port, "GET", "/v1/cluster", host="::1", context=context).json["members"]) == 2)
    assert call(proxy.port, "POST", "/set", body, host="::1", context=context).status == 200
    for program, host in ((proxy, "::1"), (nodes[0], "localhost"), (nodes[1], "::1")):
        found = call(program.port, "POST", "/get", ASKED, host=host, context=context)
        assert len(found.json["existedKey"]) == len(KEYS)


# -- moves


@pytest.mark.parametrize("copies", [1, 3])
def test_member_moves_to_another_address_and_port_with_its_data_while_clients_work(system: System, copies: int) -> None:
    proxy = system.proxy("--replicas", str(copies))
    nodes = [system.node(proxy, "--data", f"data-{number}") for number in range(3)]
    wait_for("all of them", lambda: all_up(proxy, 3))
    set_all(proxy, 0)
    before = members(proxy)
    name = f"127.0.0.1:{nodes[0].port}"
    clients = Clients(proxy)
    wait_for("some answers", lambda: clients.served > 3)
    for number, host in ((signal.SIGTERM, "::1"), (signal.SIGKILL, "127.0.0.1")):
        nodes[0].signal(number)
        nodes[0].ended()
        nodes[0] = at(system.node(proxy, "--data", "data-0", "--host", host), host)
        wait_for("its return", lambda: all_up(proxy, 3))
        served = clients.served
        wait_for("answers after it", lambda served=served: clients.served > served + 3)  # type: ignore[misc]
    clients.stop()
    assert clients.wrong == []
    after = members(proxy)
    assert after.keys() == before.keys()
    assert after[name]["url"] == f"http://127.0.0.1:{nodes[0].port}" != before[name]["url"]
    assert all(map(all_found, nodes))
    rows = nodes[1].call("POST", "/locate", ASKED).json["keys"]
    assert {one["url"] for row in rows for one in row["nodes"] if one["id"] == name} == {after[name]["url"]}


def test_two_members_take_each_others_addresses(system: System) -> None:
    proxy, nodes = system.cluster(2)
    set_all(proxy)
    ports = [node.port for node in nodes]
    for node in nodes:
        node.signal(signal.SIGKILL)
    for node in nodes:
        node.ended()
    for port, other in zip(ports, reversed(ports), strict=True):
        system.start("node", str(port), "--data", f"gkv-data/{other}", "--proxy", url_of(proxy))
    wait_for("both", lambda: all_up(proxy, 2) and all_found(proxy))
    assert {one["id"]: one["url"] for one in members(proxy).values()} == {
        f"127.0.0.1:{port}": f"http://127.0.0.1:{other}" for port, other in zip(ports, reversed(ports), strict=True)
    }


def test_proxy_that_has_moved_tells_its_members_and_only_its_own(system: System) -> None:
    proxy, nodes = system.cluster(2)
    other = system.proxy("--data", "other/proxy")
    stranger = system.node(other, "--data", "other/node")
    set_all(proxy)
    proxy.signal(signal.SIGKILL)
    proxy.ended()
    moved = at(system.proxy("--host", "::1"), "::1")
    wait_for("both", lambda: all_up(moved, 2) and all_found(moved))
    for node in nodes:
        node.wait_line(rf"member of cluster [0-9a-f]+ at http://\[::1\]:{moved.port}")
    other.signal(signal.SIGKILL)
    other.ended()
    stranger.wait_line("waiting for the proxy")
    # A node that knows the old address alone is found where the document has it.
    nodes[0].signal(signal.SIGKILL)
    nodes[0].ended()
    again = system.node(None, "--proxy", url_of(proxy), port=nodes[0].port)
    again.wait_line(": member of cluster ")
    wait_for("both", lambda: all_up(moved, 2) and all_found(moved))
    assert set(members(moved)) == {f"127.0.0.1:{node.port}" for node in nodes}


def test_node_with_several_proxies_joins_the_one_that_is_there(system: System) -> None:
    proxy = system.proxy()
    urls = f"http://127.0.0.1:1,http://localhost:2,{url_of(proxy)}"
    node = system.start("node", "0", "--proxy", urls)
    node.wait_line(f": member of cluster [0-9a-f]+ at {url_of(proxy)}")


def test_spawned_nodes_keep_their_ids_when_their_host_is_another_one(system: System) -> None:
    port, first = free_ports(1), free_ports(2)
    words = ("--spawn", "2", "--spawn-port", str(first))
    proxy = system.proxy(*words, port=port)
    proxy.wait_line("Ready")
    set_all(proxy)
    proxy.signal(signal.SIGTERM)
    proxy.ended()
    told = ("--host", "::", "--advertise", f"localhost:{port}", "--insecure")
    proxy = system.proxy(*words, *told, port=port)
    proxy.wait_line("Ready")
    assert {one["id"]: one["url"] for one in members(proxy).values()} == {
        f"127.0.0.1:{number}": f"http://localhost:{number}" for number in (first, first + 1)
    }
    assert all_found(at(proxy, "::1"))


# -- two processes that are one member


def test_of_two_processes_with_one_id_the_later_one_counts_and_the_other_ends_with_a_line(system: System) -> None:
    proxy = system.proxy()
    node = system.node(proxy, "--name", "n1", "--data", "data")
    set_all(proxy)
    shutil.copytree(system.directory / "data", system.directory / "copy")
    later = system.node(proxy, "--data", "copy")
    assert node.ended() == 1
    assert node.stderr.count("another process acts as n1 now; this one ends") == 1
    wait_for("the later one", lambda: all_up(proxy, 1) and all_found(proxy))
    assert members(proxy)["n1"]["url"] == f"http://127.0.0.1:{later.port}"
    again = system.start("node", str(node.port), "--data", "data", "--proxy", url_of(proxy))
    assert again.ended() == 1
    assert f"there is a member n1 already, at http://127.0.0.1:{later.port}" in again.stderr
    assert all_found(proxy)


def test_older_directory_takes_nobodys_place_elsewhere_but_a_dead_members_and_without_its_keys(system: System) -> None:
    proxy, [_other] = system.cluster(1)
    node = system.node(proxy, "--name", "n1", "--data", "data")
    node.signal(signal.SIGTERM)
    node.ended()
    shutil.copytree(system.directory / "data", system.directory / "older")
    node = system.node(proxy, "--data", "data")
    set_all(proxy)
    older = system.start("node", "0", "--data", "older", "--proxy", url_of(proxy))
    assert older.ended() == 1
    assert "start it with the directory that the member had last" in older.stderr
    assert all_found(proxy)
    node.signal(signal.SIGKILL)
    node.ended()
    wait_for("its end", lambda: members(proxy)["n1"]["state"] == "down")
    older = system.start("node", "0", "--data", "older", "--proxy", url_of(proxy))
    older.wait_line("this directory is not the one that the member")
    assert {row["code"] for row in proxy.call("POST", "/get", ASKED).json["failedKey"]} == {"no-primary"}
    node = system.node(proxy, "--data", "data")
    assert older.ended() == 1
    wait_for("the right one", lambda: all_up(proxy, 2) and all_found(proxy))


# -- containers


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires(["proxy", "n1", "n2", "n3", "n4"])
    yield made
    made.close()


def test_containers_with_names_and_ipv6_addresses_come_back_at_other_addresses(system: System, wires: Wires) -> None:
    hosts = system.directory / "hosts"
    home = {name: [where] for name, where in wires.addresses6.items()}

    def name_them() -> None:
        hosts.write_text("".join(f"{where} {name}.test\n" for name, those in home.items() for where in those))

    def under(place: str) -> Sequence[str]:
        mounted = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return [*wires.under(place), "unshare", "--mount", "sh", "-c", mounted, str(hosts)]

    def start(name: str, place: str, *arguments: str) -> Program:
        program = system.start(*arguments, "--host", "::", "--advertise", f"{name}.test:7001", "--insecure", under=under(place))
        program.host, program.port = wires.addresses6[place], 7001
        return program

    def node(name: str, place: str) -> Program:
        words = ("node", "7001", "--name", name, "--data", str(Path("data") / name), "--proxy", "http://proxy.test:7001")
        return start(name, place, *words)

    name_them()
    proxy = start("proxy", "proxy", "proxy", "--port", "7001", "--replicas", "3")
    proxy.wait_line("Listening")
    nodes = {name: node(name, name) for name in ("n1", "n2", "n3")}
    with wires.inside("proxy"):
        wait_for("all of them", lambda: all_up(proxy, 3))
        assert {one["url"] for one in members(proxy).values()} == {f"http://{name}.test:7001" for name in nodes}
        set_all(proxy)
        nodes["n2"].signal(signal.SIGKILL)
        nodes["n2"].ended()
        home["n2"] = [wires.addresses["n4"], wires.addresses6["n4"]]  # in another container, and by IPv4 as well
        name_them()
        wait_for("its end", lambda: members(proxy)["n2"]["state"] == "down")
        nodes["n2"] = node("n2", "n4")
        wait_for("its return", lambda: all_up(proxy, 3) and all_found(proxy))
        for host in home["n2"]:
            assert all_found(at(nodes["n2"], host))
        proxy.signal(signal.SIGKILL)
        proxy.ended()
        home["proxy"] = [wires.addresses6["n2"]]
        name_them()
        proxy = start("proxy", "n2", "proxy", "--port", "7001")
        proxy.wait_line("Listening")
    with wires.inside("n1"):
        wait_for("all of them", lambda: all_up(proxy, 3) and all_found(proxy))
