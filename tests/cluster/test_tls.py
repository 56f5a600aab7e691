"""Real processes that speak TLS: whole clusters, who is kept out, certificates that change, and clients that dawdle."""

import http.client
import signal
import socket
import ssl
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority, Files
from tests.cluster.conftest import Answer, Program, System, call, free_ports, wait_for
from tests.cluster.test_slow_clients import many_files  # noqa: F401  # for the thousand

SILENT = 1_000
SLOW = 300


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def trusting(files: Files, *, certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca))
    if certificate:
        context.load_cert_chain(files.cert, files.key)
    return context


class Cluster:
    """A proxy and nodes over TLS."""

    def __init__(self, system: System, files: Files, nodes: int = 2) -> None:
        self.system, self.files = system, files
        self.context = trusting(files)
        self.proxy = system.proxy(*files.flags)
        self.nodes = [self.join(files) for _ in range(nodes)]

    def begin(self, files: Files, port: int = 0) -> Program:
        url = f"https://127.0.0.1:{self.proxy.port}"
        node = self.system.start("node", str(port), "--proxy", url, *files.flags)
        node.port = int(node.wait_line(r"Listening on port \.\.\.(\d+)")[1])
        return node

    def join(self, files: Files, port: int = 0) -> Program:
        node = self.begin(files, port)
        node.wait_line(": member of cluster ")
        return node

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return call(self.proxy.port, method, path, body, **headers, context=self.context)

    def metric(self, name: str) -> float:
        text = self.call("GET", "/metrics").body.decode()
        [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])


@pytest.fixture
def cluster(system: System, authority: Authority) -> Cluster:
    return Cluster(system, authority.member)


def test_cluster_answers_over_tls_and_a_node_that_restarts_is_back(cluster: Cluster) -> None:
    items = [{"key": f"k{i}", "value": i} for i in range(50)]
    assert cluster.call("POST", "/set", items).status == 200
    for port in (cluster.proxy.port, cluster.nodes[0].port):
        found = call(port, "POST", "/get", [{"key": item["key"]} for item in items], context=cluster.context).json
        assert found == {"existedKey": items}
    located = cluster.call("GET", "/locate?key=k1").json["keys"][0]["nodes"][0]["url"]
    assert located.startswith("https://127.0.0.1:")
    cluster.nodes[0].signal(signal.SIGTERM)
    assert cluster.nodes[0].ended() == 0
    cluster.join(cluster.files, cluster.nodes[0].port)
    asked = [{"key": item["key"]} for item in items]
    wait_for("all keys", lambda: cluster.call("POST", "/get", asked).json == {"existedKey": items})
    assert cluster.call("POST", "/delete", asked).json == {"deleted": 50}
    copy = call(cluster.nodes[0].port, "GET", "/v1/snapshot", context=cluster.context)
    assert (copy.status, len(copy.body) > 4_096) == (200, True)


def test_spawned_nodes_speak_tls(system: System, authority: Authority) -> None:
    proxy = system.proxy(*authority.member.flags, "--spawn", "2", "--spawn-port", str(free_ports(2)))
    proxy.wait_line("Ready: 2 nodes")
    assert call(proxy.port, "POST", "/set", [{"key": "k", "value": 1}], context=trusting(authority.member)).status == 200


def test_large_bodies_get_through_both_ways(cluster: Cluster) -> None:
    value = "x" * 1_000_000
    items = [{"key": f"k{i}", "value": value} for i in range(31)]
    assert cluster.call("POST", "/set", items).status == 200
    assert cluster.call("POST", "/get", [{"key": item["key"]} for item in items]).json == {"existedKey": items}


def test_cluster_that_turns_to_tls_keeps_its_records(system: System, authority: Authority) -> None:
    proxy, [node] = system.cluster(1)
    assert proxy.call("POST", "/set", [{"key": "k", "value": 1}]).status == 200
    for program in (node, proxy):
        program.signal(signal.SIGTERM)
        assert program.ended() == 0
    files = authority.member
    again = system.proxy(*files.flags, port=proxy.port)
    one = system.start("node", str(node.port), "--proxy", f"https://127.0.0.1:{again.port}", *files.flags)
    one.wait_line(": member of cluster ")
    found = call(again.port, "POST", "/get", [{"key": "k"}], context=trusting(files)).json
    assert found == {"existedKey": [{"key": "k", "value": 1}]}


# -- who is kept out


def test_members_calls_want_a_certificate_of_the_clusters(cluster: Cluster) -> None:
    body = {"id": "x", "url": "https://127.0.0.1:1"}
    for port, path in ((cluster.proxy.port, "/v1/cluster/nodes"), (cluster.nodes[0].port, "/internal/frames")):
        refused = call(port, "POST", path, body, Content_Type="application/json", context=cluster.context)
        assert (refused.status, refused.json["type"]) == (403, "urn:gkv:problem:no-certificate")
        shown = call(
            port, "POST", path, body, Content_Type="application/json", context=trusting(cluster.files, certificate=True)
        )
        assert shown.status not in (403, 200)


@pytest.mark.parametrize(
    ("kind", "says"),
    [("stranger", "unknown ca|not accepted|signed"), ("expired", "expired"), ("other name", "nobody answers at")],
)
def test_node_with_a_wrong_certificate_does_not_join(
    system: System, authority: Authority, tmp_path: Path, kind: str, says: str
) -> None:
    cluster = Cluster(system, authority.member, nodes=0)
    if kind == "stranger":
        made = Authority(tmp_path, "stranger").issue("s")
        files = Files(made.cert, made.key, authority.path)
    else:
        files = authority.issue("n", *(["127.0.0.9"] if kind == "other name" else []), days=-1 if kind == "expired" else 9)
    node = cluster.begin(files)
    node.wait_line(rf"waiting for the proxy at .*({says})")
    assert cluster.call("GET", "/v1/cluster").json["members"] == []


def test_node_does_not_join_at_a_proxy_of_another_name(system: System, authority: Authority) -> None:
    cluster = Cluster(system, authority.issue("p", "127.0.0.9"), nodes=0)
    cluster.begin(authority.member).wait_line("waiting for the proxy at .*IP address mismatch")


def test_tls_1_1_is_refused(system: System, authority: Authority) -> None:
    cluster = Cluster(system, authority.member, nodes=0)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(cluster.files.ca)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match=r"TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match=r"TLSv1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)alert|protocol|version"):
        call(cluster.proxy.port, "GET", "/livez", context=old)
    assert cluster.metric("gkv_tls_handshakes_failed_total") >= 1


def test_check_config_refuses_certificates_that_cannot_be_used(system: System, authority: Authority) -> None:
    files, other = authority.member, authority.issue("other")
    for key, code, says in ((files.key, 0, ""), (other.key, 78, "key values mismatch"), (Path("none"), 78, "cannot be read")):
        check = system.start("proxy", "--port", "0", *Files(files.cert, key, files.ca).flags, "--check-config")
        assert check.ended() == code
        assert says in check.stderr


# -- certificates that change


def serial(port: int, files: Files) -> str:
    sock = socket.create_connection(("127.0.0.1", port), 10)
    with trusting(files).wrap_socket(sock, server_hostname="127.0.0.1") as over:
        return str((over.getpeercert() or {})["serialNumber"])


def test_hangup_takes_over_a_new_certificate_and_keeps_the_old_one_when_it_is_broken(
    system: System, authority: Authority
) -> None:
    files = authority.issue("changing", days=10)
    cluster = Cluster(system, files, nodes=1)
    kept = http.client.HTTPSConnection("127.0.0.1", cluster.proxy.port, timeout=15, context=cluster.context)
    kept.request("GET", "/livez")
    assert kept.getresponse().read()
    first = serial(cluster.proxy.port, files)
    assert cluster.metric("gkv_tls_certificate_expires_seconds") == pytest.approx(time.time() + 10 * 86_400, abs=60)
    authority.issue("changing", days=20)
    for program in (cluster.proxy, *cluster.nodes):
        program.signal(signal.SIGHUP)
        program.wait_line("the settings were read again")
    assert (second := serial(cluster.proxy.port, files)) != first
    assert cluster.metric("gkv_tls_certificate_expires_seconds") == pytest.approx(time.time() + 20 * 86_400, abs=60)
    assert cluster.call("POST", "/set", [{"key": "k", "value": 1}]).status == 200
    authority.issue("other")
    files.key.write_bytes((files.key.parent / "other.key").read_bytes())
    cluster.proxy.signal(signal.SIGHUP)
    cluster.proxy.wait_line("the old ones stay in force: .*key values mismatch")
    assert serial(cluster.proxy.port, files) == second
    kept.request("GET", "/livez")
    assert kept.getresponse().status == 200
    kept.close()


# -- who dawdles


@pytest.mark.undisturbed
def test_slow_clients_and_handshakes_that_never_end_keep_nobody_out(system: System, authority: Authority) -> None:
    """A thousand who do not shake hands and, at the same time, those who did and then dawdle.

    The readers who do not read are there for what they hold; they are cut long after this test, as tests/apps shows sooner.
    """
    cluster = Cluster(system, authority.member, nodes=1)
    cluster.call("POST", "/set", [{"key": "k", "value": "v" * 1_000_000}])
    large = b'[{"key":"k"}' + b',{"key":"k"}' * 9 + b"]"
    get = b"POST /get HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(large), large)
    beginning = bytes.fromhex("16030102000100" + "01fc0303")
    with ExitStack() as stack:
        slow = []
        for number in range(SLOW):
            sock = socket.create_connection(("127.0.0.1", cluster.proxy.port), 10)
            over = stack.enter_context(cluster.context.wrap_socket(sock, server_hostname="127.0.0.1"))
            # A few readers who do not read, since each holds ten megabytes; the others send bodies by the byte.
            over.sendall(b"POST /set HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n" if number % 30 else get)
            slow.append(over)
        senders = {number: over for number, over in enumerate(slow) if number % 30}
        started = time.monotonic()
        silent = []
        for number in range(SILENT):
            silent.append(stack.enter_context(socket.create_connection(("127.0.0.1", cluster.proxy.port), 10)))
            if number % 2:
                silent[-1].sendall(beginning)
        assert cluster.metric("gkv_http_connections") >= SILENT + SLOW
        due, until = started, started + 20
        while senders or silent:
            now = time.monotonic()
            assert now < until, f"{len(senders)} slow clients and {len(silent)} handshakes are still there"
            assert cluster.call("GET", "/livez").status == 200
            assert time.monotonic() - now < 1
            if now >= due:
                due += 1
                for over in senders.values():
                    with suppress(OSError):
                        over.sendall(b"x")
            senders = {number: over for number, over in senders.items() if not told(over)}
            silent = [sock for sock in silent if not ended(sock)]
            assert not silent or now < started + 10
    assert cluster.metric("gkv_tls_handshakes_failed_total") >= SILENT
    assert cluster.proxy.stderr.count("\n") < 10


def ended(sock: socket.socket) -> bool:
    """Return whether the server has closed a connection, in which it says nothing."""
    sock.settimeout(0)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


def told(over: ssl.SSLSocket) -> bool:
    """Return whether the server has cut a client off, which it says first."""
    over.settimeout(0)
    try:
        return bool(over.recv(1_000).startswith(b"HTTP/1.1 408 "))
    except ssl.SSLWantReadError:
        return False
    finally:
        over.settimeout(10)
