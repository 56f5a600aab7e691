"""What is shown: tables and keys for people, JSON for programs, and questions on a terminal."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from gkv.command.codes import Code, Ended


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], right: str = "") -> str:
    """Return rows below their heads; the columns named in `right` have their texts at the right.

    >>> print(table(["NODE", "KEYS"], [["a:1", "1,204"], ["b:22", "7"]], "KEYS"))
    NODE   KEYS
    a:1   1,204
    b:22      7
    """
    lines = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(heads))]
    at_right = right.split()
    shown = []
    for line in lines:
        cells = [
            cell.rjust(width) if head in at_right else cell.ljust(width)
            for head, cell, width in zip(heads, line, widths, strict=True)
        ]
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown)


def size(count: float) -> str:
    """Return a number of bytes for people.

    >>> size(512), size(40960), size(67_758_870_528)
    ('512 B', '40.0 KiB', '63.1 GiB')
    """
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and len(units) > 1:
        count /= 1024
        units.pop(0)
    return f"{count:.0f} {units[0]}" if units[0] == "B" else f"{count:.1f} {units[0]}"


def time(seconds: float) -> str:
    """Return a time for people.

    >>> time(0.4), time(75), time(7_300)
    ('0.4 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def plain(text: str) -> str:
    r"""Return a text that somebody else chose, as one line that does nothing to a terminal.

    >>> print(plain("a/b"), plain("a\nb\x1b[2J"))
    a/b "a\nb\u001b[2J"
    """
    return text if text.isprintable() else json.dumps(text)


def document(value: Any) -> None:
    """Show JSON for a program, on one line."""
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def agreed(question: str, *, yes: bool) -> bool:
    """Return whether somebody agrees. Raises Ended where nobody can be asked."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Ended("nothing was done: there is no terminal to ask at, and no --yes", Code.USAGE)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
