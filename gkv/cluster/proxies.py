"""The addresses at which a member's proxy may be: those of its settings, and the one that a proxy has told last. Pure.

Promises: one is in use until it fails, and then the next one is; so no word takes a member from a proxy that answers it.
Bounded by the settings and one more.
"""

from collections.abc import Sequence


class Proxies:
    """Addresses, one of them in use."""

    def __init__(self, urls: Sequence[str]) -> None:
        """`urls` are those of the settings, one at least."""
        self._given = tuple(urls)
        self._told = ""
        self.current = urls[0]
        """The one in use."""
        self._why: dict[str, str] = {}
        """By address, why it was of no use when it was tried last."""
        self._refusing: set[str] = set()
        """Those that refuse this member for good."""

    @property
    def all(self) -> tuple[str, ...]:
        """Those of the settings, in their order, and the one that was told."""
        return (*self._given, self._told) if self._told and self._told not in self._given else self._given

    def told(self, url: str) -> bool:
        """Note an address that a proxy says it has; return whether it is to be tried at once, as it is news and the one in use
        has failed.
        """
        if url in self.all:
            return False
        self._told = url
        if self.current not in self._why:
            return False
        self.current = url
        return True

    def works(self) -> None:
        """Note that the one in use has answered."""
        self._why.clear()
        self._refusing.clear()

    def fails(self, why: str, *, refuses: bool = False, stays: bool = False) -> None:
        """Note that the one in use is of no use now; the next one is in use then, unless it `stays`."""
        self._why[self.current] = why
        if refuses:
            self._refusing.add(self.current)
        else:
            self._refusing.discard(self.current)
        if stays:
            return
        known = self.all
        at = known.index(self.current) if self.current in known else -1
        self.current = known[(at + 1) % len(known)]

    @property
    def all_refuse(self) -> bool:
        """Whether each of them has refused this member."""
        return self._refusing.issuperset(self.all)

    @property
    def described(self) -> str:
        """Those that were tried in vain, each with the reason.

        >>> proxies = Proxies(["http://a:1", "http://b:1"])
        >>> proxies.fails("refused")
        >>> proxies.described, proxies.current
        ('http://a:1: refused', 'http://b:1')
        """
        return "; at ".join(f"{url}: {self._why[url]}" for url in self.all if url in self._why)
