"""The systems on which gkv runs: Linux, and macOS for development. This is looked at before anything else is imported, most
of which other systems do not have; so it imports nothing of gkv, and nothing that takes time.
"""

import sys

SYSTEMS = {"linux": "Linux", "darwin": "macOS"}
"""What Python calls them, and what their names are."""


def refuse_others() -> None:
    """End the process with code 78, and one line that says why, on any other system."""
    if sys.platform not in SYSTEMS:
        sys.stderr.write(f"gkv runs on Linux, and on macOS for development; this system is {sys.platform}\n")
        sys.exit(78)
