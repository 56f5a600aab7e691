"""The commands `gkv-proxy` and `gkv-node`: catch signals, patch gevent, read settings, build the
graph, serve, drain.

Exit codes: 0 ended as asked, 1 a failure that may be none at the next try, 2 usage, 78 bad
configuration.
"""

# ruff: noqa: E402  # signals are caught at once, and nothing may import a socket before the patch
from gkv.process import systems

systems.refuse_others()

from gkv.process import early

early.open_standard_descriptors()
_early = early.EarlySignals()

from gevent import monkey

monkey.patch_all()

import sys
from collections.abc import Sequence

from gkv import sources
from gkv.config import KNOBS
from gkv.errors import ConfigError, GkvError
from gkv.log import as_error, configure, say
from gkv.nearest import did_you_mean, nearest, shown
from gkv.net.tls import Tls
from gkv.process.standard import show

_PROGRAMS = ("proxy", "node")
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_CONFIG = 78


def proxy() -> None:
    """Run `gkv-proxy`."""
    _main("proxy", sys.argv[1:])


def node() -> None:
    """Run `gkv-node`."""
    _main("node", sys.argv[1:])


def _main(command: str, arguments: Sequence[str]) -> None:
    try:
        reading = sources.read(command, arguments)
        configure(reading.settings.log_format, level=reading.settings.log_level)
        # Imported late: each command loads only its own rooms, and GKV_NATIVE is checked where its error can be shown.
        if command == "proxy":
            from gkv.proxy.process import run
        else:
            from gkv.node.process import run
        if reading.print_config:
            show(sources.render(command, reading.found, KNOBS))
        if reading.print_config or reading.check_config:
            reading.settings.check()
            if reading.check_config:
                Tls.of(reading.settings)
        elif "restore" in reading.found and reading.found["restore"].origin != "default":  # an empty one is named as such
            from gkv.restoring import restore

            restore(reading.settings)
        elif not _early.is_ending:
            run(reading, lambda: sources.read(command, arguments).settings, _early)
    except ConfigError as error:
        say(as_error(f"gkv-{command}: {error}"))
        sys.exit(EXIT_CONFIG)
    except GkvError as error:
        say(as_error(f"gkv-{command}: {error}"))
        sys.exit(EXIT_FAILURE)
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        say(as_error(f"gkv-{command}: {named}"))
        sys.exit(EXIT_FAILURE)


def _either() -> None:
    """Run the program that the first argument names: `proxy` or `node`."""
    named = sys.argv[1] if len(sys.argv) > 1 else ""
    if named not in _PROGRAMS:
        say(f"gkv: {shown(named)!r} is no program; it takes {' or '.join(_PROGRAMS)}{did_you_mean(nearest(named, _PROGRAMS))}")
        sys.exit(EXIT_USAGE)
    _main(named, sys.argv[2:])


if __name__ == "__main__":
    _either()
