"""The commands `gkv-proxy` and `gkv-node`: patch gevent first, read settings, build the graph, serve, drain.

Exit codes: 0 ended as asked, 1 failure, 2 usage, 78 bad configuration.
"""

# ruff: noqa: E402  # nothing may import a socket before it is patched
from gevent import monkey

monkey.patch_all()

import sys
from collections.abc import Sequence

from gkv import config
from gkv.errors import ConfigError, GkvError

EXIT_FAILURE = 1
EXIT_CONFIG = 78


def proxy() -> None:
    """Run `gkv-proxy`."""
    _main("proxy", sys.argv[1:])


def node() -> None:
    """Run `gkv-node`."""
    _main("node", sys.argv[1:])


def _main(command: str, arguments: Sequence[str]) -> None:
    try:
        settings = config.parse(command, arguments)
        # Imported late: each command loads only its own rooms, and GKV_NATIVE is checked where its error can be shown.
        if command == "proxy":
            from gkv.proxy.process import run
        else:
            from gkv.node.process import run
        run(settings)
    except ConfigError as error:
        print(f"gkv-{command}: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    except (GkvError, OSError) as error:
        print(f"gkv-{command}: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILURE)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
