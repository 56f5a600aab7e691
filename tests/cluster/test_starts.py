"""How programs start and end when what is around them is not as usual: signals, terminals, standard
output, failures.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import DEADLINE, NOWHERE, Program, System, call, free_ports, wait_for
from tests.cluster.terminal import UNDER, Terminal

NODE = ["node", "0", "--proxy", NOWHERE, "--name", "n1", "--data", "here"]


def verification(node: Program) -> str:
    state: str = node.call("GET", "/v1/info").json["engine"]["verification"]["state"]
    return state


def started(system: System, *arguments: str, **options: Any) -> Program:
    """Start a node that keeps its data in "here", and wait until it listens."""
    node = system.start(*NODE, *arguments, **options)
    node.port = int(node.wait_line(r"Listening on port \.\.\.(\d+)")[1])
    return node


def end(program: Program, number: int = signal.SIGTERM) -> None:
    program.signal(number)
    assert program.ended() == 0, program.stderr


# -- a start that fails


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the data of a node that was ended in an orderly way."""
    system = System(tmp_path_factory.mktemp("closed"))
    end(started(system))
    system.end()
    return system.directory / "here"


@pytest.fixture
def stored(system: System, closed: Path) -> System:
    """Give a system with a copy of that data, in "here"."""
    shutil.copytree(closed, system.directory / "here")
    return system


@pytest.mark.promise("I15")
def test_start_on_a_port_in_use_leaves_the_store_closed_in_order(stored: System) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        failed = stored.start("node", str(listener.getsockname()[1]), *NODE[2:])
        assert failed.ended() == 1
    assert "cannot listen on 127.0.0.1:" in failed.stderr
    assert verification(started(stored)) == "not needed"


def test_node_that_is_refused_by_its_proxy_leaves_the_store_closed_in_order(stored: System) -> None:
    proxy = stored.proxy()
    other = stored.node(proxy, "--name", "n1")
    late = stored.start("node", "0", "--name", "n1", "--data", "here", "--proxy", f"http://127.0.0.1:{proxy.port}")
    assert late.ended() == 1
    assert "there is a member n1 already" in late.stderr
    end(other)
    assert verification(started(stored)) == "not needed"


def test_directory_in_use_may_be_free_at_the_next_try(stored: System) -> None:
    first = started(stored)
    second = stored.start(*NODE)
    assert second.ended() == 1
    assert "is in use by another gkv process" in second.stderr
    end(first)
    assert verification(started(stored)) == "not needed"


def test_proxy_with_a_document_that_makes_no_sense_leaves_no_port_and_no_lock(system: System) -> None:
    proxy = system.proxy()
    end(proxy)
    document = system.directory / "gkv-data" / "proxy" / "cluster.json"
    right = document.read_text()
    document.write_text(right.rstrip()[:-10])
    failed = system.start("proxy", "--port", str(proxy.port), "--spawn", "1", "--spawn-port", str(free_ports(1)))
    assert failed.ended() == 78
    assert "cluster.json cannot be read" in failed.stderr
    document.write_text(right)
    system.proxy(port=proxy.port)


# -- signals in the first moments


class Halfway:
    """Programs that stop half-way through their imports until they are let go on, whatever the
    machine is busy with.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._gate = system.directory / "gate"
        os.mkfifo(self._gate)
        (system.directory / "slow").mkdir()
        # Each program reads this module in its first moments, of which it is one of the first that are imported.
        (system.directory / "slow" / "ujson.py").write_text(
            f"import sys\nfrom pathlib import Path\nPath({str(self._gate)!r}).read_text()\n"
            f"sys.path.remove({str(system.directory / 'slow')!r})\ndel sys.modules['ujson']\nimport ujson\n"
        )

    def start(self, *arguments: str, **options: Any) -> tuple[Program, Callable[[], None]]:
        """Start a program; return it as it waits, and what lets it go on."""
        path = [str(self._system.directory / "slow"), *filter(None, [os.environ.get("PYTHONPATH")])]
        program = self._system.start(*arguments, PYTHONPATH=os.pathsep.join(path), **options)
        descriptor = wait_for("the first moments", self._waits)

        def go_on() -> None:
            os.close(descriptor)

        return program, go_on

    def _waits(self) -> int | None:
        try:
            return os.open(self._gate, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None  # nobody reads yet


@pytest.fixture
def halfway(system: System) -> Halfway:
    """Give what starts programs that wait in their first moments."""
    return Halfway(system)


@pytest.mark.promise("I17")
@pytest.mark.parametrize("arguments", [NODE, ["proxy", "--port", "0"]], ids=["node", "proxy"])
def test_sighup_in_the_first_moments_is_acted_on_when_the_program_is_ready(halfway: Halfway, arguments: list[str]) -> None:
    program, go_on = halfway.start(*arguments)
    for _ in range(3):
        program.signal(signal.SIGHUP)
    go_on()
    program.wait_line("the settings were read again; changed: nothing")
    assert "Listening on port" in program.stdout
    end(program)
    assert program.stderr.count("the settings were read again") == 1


@pytest.mark.parametrize(
    ("arguments", "number"), [(NODE, signal.SIGTERM), (["proxy", "--port", "0"], signal.SIGINT)], ids=["node", "proxy"]
)
def test_end_in_the_first_moments_is_an_orderly_one(
    halfway: Halfway, system: System, arguments: list[str], number: int
) -> None:
    program, go_on = halfway.start(*arguments)
    program.signal(number)
    program.signal(signal.SIGHUP)
    go_on()
    assert program.ended() == 0
    assert (program.stdout, program.stderr) == ("", "")
    assert not (system.directory / "here").exists()  # nothing was begun


def test_second_signal_in_the_first_moments_ends_at_once(halfway: Halfway) -> None:
    program, go_on = halfway.start(*NODE)
    program.signal(signal.SIGTERM)
    program.signal(signal.SIGINT)
    try:
        assert program.ended() in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    finally:
        go_on()


def test_end_in_the_first_moments_does_not_make_a_check_of_settings_pass(halfway: Halfway) -> None:
    program, go_on = halfway.start("proxy", "--check-config", "--max-answer", "1MiB")
    program.signal(signal.SIGTERM)
    go_on()
    assert program.ended() == 78


# -- signals that are ignored


@pytest.mark.promise("I17")
@pytest.mark.parametrize("name", ["HUP", "INT", "TERM"])
def test_signal_that_was_ignored_at_the_start_stays_ignored(halfway: Halfway, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    under = ["sh", "-c", f'trap "" {name}; exec "$0" "$@"']
    program, go_on = halfway.start(*NODE, under=under)
    program.signal(number)
    go_on()
    program.port = int(program.wait_line(r"Listening on port \.\.\.(\d+)")[1])
    program.signal(number)
    assert program.call("GET", "/livez").status == 200
    ignored = next(line for line in Path(f"/proc/{program.process.pid}/status").read_text().splitlines() if "SigIgn" in line)
    assert int(ignored.split()[1], 16) >> (number - 1) & 1
    end(program, signal.SIGINT if name == "TERM" else signal.SIGTERM)
    assert "the settings" not in program.stderr


# -- terminals


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Give a terminal."""
    terminal = Terminal()
    yield terminal
    terminal.hang_up()


@pytest.mark.parametrize("arguments", [NODE, ["proxy", "--port", "0"]], ids=["node", "proxy"])
def test_kill_hup_at_a_terminal_has_the_settings_read_again_and_its_end_ends_the_program(
    system: System, terminal: Terminal, arguments: list[str]
) -> None:
    program = system.start(*arguments, under=UNDER, popen={"stdin": terminal.descriptor})
    program.wait_line("Listening on port")
    for count in (1, 2):
        program.signal(signal.SIGHUP)
        wait_for("the reading", lambda count=count: program.stderr.count("the settings were read again") == count)
    terminal.hang_up()
    assert program.ended() == 0
    assert "the terminal is gone" in program.stderr
    if arguments is NODE:
        assert verification(started(system)) == "not needed"


def test_end_of_a_terminal_to_which_all_lines_go_is_an_orderly_end(system: System, terminal: Terminal) -> None:
    everything = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.descriptor)
    node = system.start(*NODE, under=UNDER, popen=everything)
    terminal.wait_for(["Connection refused\n"])
    terminal.hang_up()
    assert node.ended() == 0
    assert verification(started(system)) == "not needed"


def test_end_of_the_terminal_ends_the_nodes_of_a_proxy_too(system: System, terminal: Terminal) -> None:
    port = free_ports(2)
    arguments = ["--spawn", "2", "--spawn-port", str(port)]
    proxy = system.start("proxy", "--port", "0", *arguments, under=UNDER, popen={"stdin": terminal.descriptor})
    proxy.wait_line("Ready: ")
    terminal.hang_up()
    assert proxy.ended() == 0
    for each in (port, port + 1):
        with pytest.raises(ConnectionRefusedError):
            call(each, "GET", "/livez")


def test_nohup_outlives_the_terminal(system: System, terminal: Terminal) -> None:
    node = system.start(*NODE, under=[*UNDER, "nohup"], popen={"stdin": terminal.descriptor})
    node.port = int(node.wait_line(r"Listening on port \.\.\.(\d+)")[1])
    terminal.hang_up()
    assert node.call("GET", "/livez").status == 200
    end(node)
    assert "the terminal is gone" not in node.stderr


def test_job_of_an_interactive_shell_reloads_on_kill_and_ends_with_the_terminal(system: System, terminal: Terminal) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is missing")
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PS1": "> ", "PS2": "> "}
    everything = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.descriptor)
    command = [*UNDER, "bash", "--norc", "--noediting", "-i"]
    shell = subprocess.Popen(command, cwd=system.directory, env=environment, **everything)
    try:
        terminal.wait_for(["> "])
        terminal.type(f"{sys.executable} -P -m gkv.cli {' '.join(NODE)} > job.log 2>&1 & echo $! > job.pid\n")
        terminal.wait_for(["> "])
        log = system.directory / "job.log"
        wait_for("the first line", lambda: log.exists() and "Listening on port" in log.read_text())
        terminal.type("kill -HUP $(cat job.pid)\n")
        terminal.wait_for(["> "])
        wait_for("the reading", lambda: "the settings were read again" in log.read_text())
        terminal.hang_up()
        shell.wait(DEADLINE)
        pid = int((system.directory / "job.pid").read_text())
        wait_for(
            "the end of the job", lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
        )
        assert "the terminal is gone" in log.read_text()
    finally:
        shell.kill()
        shell.wait()
        with suppress(OSError, ValueError):
            os.kill(int((system.directory / "job.pid").read_text()), signal.SIGKILL)
    assert verification(started(system)) == "not needed"


# -- standard output and standard error


REDIRECTED = {
    "output closed": ">&-",
    "error closed": "2>&-",
    "all closed": "<&- >&- 2>&-",
    "output full": "> /dev/full",
    "both full": "> /dev/full 2>&1",
}


@pytest.mark.parametrize("redirected", REDIRECTED.values(), ids=REDIRECTED.keys())
def test_system_works_though_nobody_takes_its_lines(system: System, redirected: str) -> None:
    first = free_ports(2)
    arguments = ["--spawn", "1", "--spawn-port", str(first + 1)]
    under = ["sh", "-c", f'exec "$0" "$@" {redirected}']
    proxy = system.start("proxy", "--port", str(first), *arguments, under=under)
    proxy.port = first

    def works() -> bool:
        try:
            return proxy.call("POST", "/set", [{"key": "a", "value": 1}]).status == 200
        except OSError:
            assert proxy.process.poll() is None, proxy.stderr
            return False

    wait_for("the first write", works)
    proxy.signal(signal.SIGHUP)
    assert proxy.call("POST", "/get", [{"key": "a"}]).json == {"existedKey": [{"key": "a", "value": 1}]}
    end(proxy)
    data = system.directory / "gkv-data" / str(first + 1)
    for path in (data / "data.mdb", system.directory / "gkv-data" / "proxy" / "cluster.json"):
        assert b"the settings" not in path.read_bytes()
        assert b"member of cluster" not in path.read_bytes()


@pytest.mark.parametrize("reads", ["nothing", "until ready"])
def test_system_works_when_the_reader_of_its_lines_is_gone(system: System, reads: str) -> None:
    first = free_ports(2)
    arguments = ["--spawn", "1", "--spawn-port", str(first + 1)]
    proxy = system.start(
        "proxy", "--port", str(first), *arguments, popen={"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    )
    proxy.port = first
    assert proxy.process.stdout is not None
    while reads == "until ready" and not proxy.process.stdout.readline().startswith(b"Ready: "):
        pass
    proxy.process.stdout.close()

    def works() -> bool:
        try:
            return proxy.call("POST", "/set", [{"key": "a", "value": 1}]).status == 200
        except OSError:
            assert proxy.process.poll() is None
            return False

    wait_for("the first write", works)
    assert proxy.call("GET", "/readyz").status == call(first + 1, "GET", "/readyz").status == 200
    end(proxy)


def test_output_that_nobody_reads_holds_nothing_up(system: System) -> None:
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 4_096)
        os.set_blocking(writing, True)
        port = free_ports(1)
        proxy = system.start("proxy", "--port", str(port), popen={"stdout": writing})

        def works() -> bool:
            try:
                return call(port, "GET", "/livez").status == 200
            except OSError:
                return False

        wait_for("the proxy", works)
        end(proxy)
    finally:
        os.close(reading)
        os.close(writing)


def test_settings_that_cannot_be_shown_are_an_error(system: System) -> None:
    shown = system.start("proxy", "--print-config", under=["sh", "-c", 'exec "$0" "$@" > /dev/full'])
    assert shown.ended() == 1
    assert shown.stderr.endswith("standard output cannot be written: No space left on device\n")
