"""Programs that are forked from a process which has imported gkv and what gkv needs.

Nearly a second of CPU, for each of some hundred programs, is what Python takes for that. A forked program is a process like any
other: with its own directory, environment, descriptors, signals, request ids and end. Whoever tests a program's imports, or
another `GKV_NATIVE`, starts it afresh.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()  # as `gkv.cli` does, before whatever imports a socket

    import argparse  # noqa: F401
    import email.message  # noqa: F401
    import importlib.metadata  # noqa: F401
    import runpy
    import tomllib  # noqa: F401

    import bottle  # noqa: F401
    import cffi  # noqa: F401
    import gevent
    import gevent.pool
    import gevent.server
    import gevent.ssl
    import gevent.threadpool
    import lmdb  # noqa: F401
    import prometheus_client  # noqa: F401
    import sortedcontainers  # noqa: F401
    import ujson  # noqa: F401

    import gkv.node.process
    import gkv.proxy.process  # noqa: F401
    from gkv.api import http


class Forked:
    """A forked program, with what the tests need of `subprocess.Popen`."""

    def __init__(self, forge: "Forge", pid: int) -> None:
        self._forge = forge
        self._end = os.pidfd_open(pid)
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._reap(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._reap(timeout) is None:
            raise subprocess.TimeoutExpired(f"gkv, process {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._end, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _reap(self, timeout: float | None) -> int | None:
        with self._forge.lock:
            if self.returncode is not None:
                return self.returncode
        ended = select.poll()
        ended.register(self._end, select.POLLIN)
        if not ended.poll(None if timeout is None else timeout * 1_000):
            return None
        with self._forge.lock:
            if self.returncode is None:
                self.returncode = self._forge.ask({"reap": self.pid})
                os.close(self._end)
        return self.returncode


class Forge:
    """The process from which programs are forked."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it, with the environment in which its imports are made."""
        self.lock = threading.RLock()
        command = [sys.executable, "-P", __file__]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, question: dict[str, Any]) -> int:
        """Have it fork or reap; return the number of the process or how that ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self.lock:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        assert answer, "the forge has ended"
        return int(answer)

    def close(self) -> None:
        self._process.communicate()


_forges: list[Forge] = []
"""The one of this process, once a program has been started."""
_making = threading.Lock()
afresh = False
"""Whether all programs are to be started afresh."""


def start(
    directory: Path, words: Sequence[str], usual: Mapping[str, str], more: Mapping[str, str], out: Path, err: Path
) -> Forked:
    """Start a program; `words` are what follows the name of `gkv.cli`, `usual` is the same environment for all."""
    command = [sys.executable, "-P", "-m", "gkv.cli", *words]
    environment = {**usual, **more}
    sys.audit("subprocess.Popen", sys.executable, command, str(directory), environment)
    with _making:
        if not _forges:
            _forges.append(Forge(usual))
    asked = {"words": words, "directory": str(directory), "environment": environment, "out": str(out), "err": str(err)}
    with _forges[0].lock:
        return Forked(_forges[0], _forges[0].ask(asked))


def close() -> None:
    while _forges:
        _forges.pop().close()


def serve() -> None:
    """Do what is asked for on standard input until its end; return in a program that was forked."""
    fork, waitpid = monkey.get_original("os", ["fork", "waitpid"])
    for line in iter(sys.stdin.buffer.readline, b""):
        question = json.loads(line)
        if pid := question.get("reap"):
            answer = os.waitstatus_to_exitcode(waitpid(pid, 0)[1])
        elif not (answer := fork()):
            return become(question)
        os.write(1, b"%d\n" % answer)
    sys.exit()


def become(question: dict[str, Any]) -> None:
    """Make of this process what `subprocess.Popen` would have made."""
    gevent.reinit()
    os.environ.clear()
    os.environ.update(question["environment"])
    os.chdir(question["directory"])
    for number, path in enumerate((os.devnull, question["out"], question["err"])):
        opened = os.open(path, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["gkv.cli", *question["words"]]
    http._id_prefix = os.urandom(6).hex()


if __name__ == "__main__":
    serve()
    runpy.run_module("gkv.cli", run_name="__main__", alter_sys=True)
