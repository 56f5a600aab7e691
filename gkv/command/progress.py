"""How far a long work is: a line that is drawn anew on a terminal, and one at the end."""

import sys
from time import monotonic

from gkv.command.printing import size, time

_EVERY = 0.1
_WIDTH = 24


class Progress:
    """Counts keys and bytes. `whole` is the number of bytes, or of keys, that there are in all; 0 where nobody knows."""

    def __init__(self, *, quiet: bool, whole: int = 0, by_bytes: bool = False) -> None:
        self.keys = 0
        self.bytes = 0
        self._whole = whole
        self._by_bytes = by_bytes
        self._skipped = 0
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()
        self._begun = self._drawn = monotonic()

    def skip(self, keys: int, count: int) -> None:
        """Begin behind what an earlier run has done."""
        self.keys, self.bytes = keys, count
        self._skipped = keys

    def add(self, keys: int, count: int) -> None:
        """Count what is done."""
        self.keys += keys
        self.bytes += count
        if self._live and monotonic() - self._drawn >= _EVERY:
            self._drawn = monotonic()
            print(f"\r{self.line()}\x1b[K", end="", file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        return max(monotonic() - self._begun, 0.001)

    def line(self) -> str:
        """Return how far it is."""
        rate = (self.keys - self._skipped) / self.seconds
        text = f"{self.keys:,} keys, {size(self.bytes)}, {rate:,.0f} keys/s"
        done = self.bytes if self._by_bytes else self.keys
        if not self._whole:
            return text
        share = min(done / self._whole, 1.0)
        filled = int(share * _WIDTH)
        left = f", {time(self.seconds * (1 - share) / share)} left" if share and not self._skipped else ""
        return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}  {text}{left}"

    def end(self, what: str = "") -> None:
        """Say what was done in all, or `what` instead of the end."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if not self._quiet:
            rate = (self.keys - self._skipped) / self.seconds
            text = f"{self.keys:,} keys, {size(self.bytes)}, in {time(self.seconds)} ({rate:,.0f} keys/s)"
            print(f"{text}{what and f'; {what}'}", file=sys.stderr)
