"""The lines about keys whose primary a node becomes. The time is an argument, in seconds."""

from gkv.log import named, say
from gkv.replication.takeover import Takeovers


class TakeoverNews:
    """The lines about the takeovers of one node: at most two for a document, however many lists change hands by it."""

    def __init__(self, me: str) -> None:
        self._me = me
        self.goes_on = False
        """Whether there is a takeover whose end is to be said."""
        self._since = 0.0
        """When that began."""
        self._opened = 0
        """Lists that had been taken over when the last line about that was due."""

    def tell(self, now: float, takeovers: Takeovers) -> None:
        """Say what is due."""
        line = self.look(now, takeovers)
        if line:
            say(named(self._me, line))

    def look(self, now: float, takeovers: Takeovers) -> str:
        """Return the line that is due now, "" for none."""
        went_on, self.goes_on = self.goes_on, takeovers.busy
        if self.goes_on:
            if went_on:
                return ""
            self._since = now
            return f"takes over the keys of {_lists(takeovers.waiting)}"
        done, self._opened = takeovers.opened - self._opened, takeovers.opened
        if done:
            return f"has taken over the keys of {_lists(done)}" + (f" in {now - self._since:.2f} s" if went_on else "")
        return "takes over no keys any more, as the cluster has changed" if went_on else ""


def _lists(count: int) -> str:
    return f"{count} preference list{'' if count == 1 else 's'}"
