"""The tests are alone: whatever else of gkv runs on this machine has nothing to do with them.

No test uses a default port or the default proxy. A process that would, or a connection to such a
port, is refused before it is begun, whatever way a test goes about it. What a shell starts is not
seen here; such scripts name their ports.
"""

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gkv import sources
from gkv.config import DEFAULT_PROXY
from gkv.errors import ConfigError

DEFAULT_PORTS = {8080, *range(9000, 9003)}
"""Those of the README and of the documentation, beside the default ones."""
_STARTS_NOTHING = {"--help", "-h", "--version", "--check-config", "--print-config", "--restore"}


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise AssertionError for what is about to meet another system; a hook for `sys.addaudithook`."""
    if event == "subprocess.Popen":
        _, words, directory, environment = arguments
        if not isinstance(words, str | bytes):
            refuse_defaults([os.fsdecode(word) for word in words], directory, environment)
    elif event in ("socket.connect", "socket.bind"):
        address = arguments[1]
        if isinstance(address, tuple) and address[1] in DEFAULT_PORTS:
            raise AssertionError(f"a test uses port {address[1]}, where another system may be")


def refuse_defaults(words: Sequence[str], directory: Any, environment: Mapping[str, str] | None) -> None:
    """Raise AssertionError for a command line by which gkv would use a default port or the default
    proxy.
    """
    command, flags = _command(words)
    if not command or _STARTS_NOTHING & set(flags):
        return
    try:
        with contextlib.chdir(directory or "."), contextlib.redirect_stderr(io.StringIO()):
            settings = sources.parse(command, flags, os.environ if environment is None else environment)
    except (ConfigError, SystemExit):
        return  # it will end because of that
    spawned = range(settings.spawn_port, settings.spawn_port + settings.spawn)
    used = DEFAULT_PORTS & {settings.port, *spawned}
    assert not used, f"a test starts gkv-{command} on a port of another system, {used}: {words}"
    assert command == "proxy" or DEFAULT_PROXY not in settings.proxy, f"a test starts a node that would join elsewhere: {words}"


def _command(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return "proxy" or "node" and what follows it in a command line, whatever runs it; "" when it
    is not gkv's.
    """
    for number, word in enumerate(words):
        if word == "gkv.cli" and number + 1 < len(words) and words[number + 1] in ("proxy", "node"):
            return words[number + 1], list(words[number + 2 :])
        if Path(word).name in ("gkv-proxy", "gkv-node"):
            return Path(word).name.removeprefix("gkv-"), list(words[number + 1 :])
    return "", []
