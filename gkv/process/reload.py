"""Settings that change while the process runs: SIGHUP has them read again.

Promises: either all parts take over the new settings or none does, and which of the two is said.
Leaves to others: where settings come from (`gkv.sources`), and what a part does with them.
"""

from collections.abc import Callable
from dataclasses import replace

from gkv.config import KNOBS, Settings
from gkv.errors import GkvError
from gkv.log import as_warning, say
from gkv.process import notify

Prepare = Callable[[Settings], Callable[[], object]]
"""A part of the process that uses settings with `reload`. It makes what it needs of new ones (loads
a certificate, say), and returns what takes them over, which cannot fail. It raises GkvError or
OSError when the new ones cannot be used.
"""


class Reload:
    """The settings in force, and the parts that can follow when they change."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings]) -> None:
        self.settings = settings
        self._reread = reread
        self._parts: list[Prepare] = []
        self._running = False
        self._again = False

    def add(self, prepare: Prepare) -> None:
        """Have a part follow, from the next time on."""
        self._parts.append(prepare)

    def begin(self, prepare: Prepare) -> None:
        """Have a part take over the settings in force, and follow from then on."""
        prepare(self.settings)()
        self.add(prepare)

    def run(self) -> None:
        """Read the settings again, and have all parts take them over. May switch greenlets if a
        part does.

        What is asked for meanwhile is done once more afterwards, so that the last change of a file
        is never missed.
        """
        self._again = True
        if self._running:
            return
        self._running = True
        try:
            while self._again:
                self._again = False
                notify.reloading()
                self._take_over()
                notify.ready()
        finally:
            self._running = False

    def _take_over(self) -> None:
        try:
            read = self._reread()
            read.check()
            changed = [knob for knob in KNOBS if getattr(read, knob.name) != getattr(self.settings, knob.name)]
            now = {knob.name: getattr(read, knob.name) for knob in changed if knob.reload}
            settings = replace(self.settings, **now)
            settings.check()  # what waits for the next start may be what the rest could only go together with
            # All of them, whatever has changed: the files that a setting names may have.
            takers = [prepare(settings) for prepare in self._parts]
        except (GkvError, OSError) as error:
            say(as_warning(f"the settings could not be read again, the old ones stay in force: {error}"))
            return
        for take in takers:
            take()
        self.settings = settings
        later = [knob.name for knob in changed if not knob.reload]
        waits = f"; what takes effect at the next start: {', '.join(later)}" if later else ""
        say(f"the settings were read again; changed: {', '.join(now) or 'nothing'}{waits}")
