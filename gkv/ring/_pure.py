"""The ring in pure Python: the definition that the native twin must agree with."""

from bisect import bisect_left
from collections.abc import Sequence

from gkv.model import Node
from gkv.ring.murmur3 import murmur3_x64_128, token
from gkv.ring.ring import Ring, Share


class PureRing(Ring):
    """Sorted tuples and `bisect`. About 5 us for each vnode to build, 4 us for a lookup."""

    __slots__ = ("_owners", "_tokens")
    token = staticmethod(token)

    def _build(self, ids: list[bytes]) -> None:
        pairs = sorted(
            (murmur3_x64_128(b"%s:%d" % (node_id, i))[0], place)
            for place, (node_id, count) in enumerate(zip(ids, self.counts, strict=True))
            for i in range(count)
        )
        self._tokens = tuple(pair[0] for pair in pairs)
        self._owners = tuple(pair[1] for pair in pairs)

    @property
    def tokens(self) -> Sequence[int]:
        return self._tokens

    @property
    def owners(self) -> Sequence[int]:
        return self._owners

    def _find(self, token: int) -> int:
        """Return the place of the first vnode token >= token, wrapping round."""
        at = bisect_left(self._tokens, token)
        return at if at < len(self._tokens) else 0

    def owner(self, key: str) -> Node:
        return self.nodes[self._owners[self._find(token(key))]]

    def preference(self, key: str, limit: int) -> list[Node]:
        start = self._find(token(key))
        limit = min(limit, len(self.nodes))
        found: dict[int, None] = {}
        for at in range(start, start + len(self._owners)):
            if len(found) >= limit:
                break
            found[self._owners[at % len(self._owners)]] = None
        return [self.nodes[place] for place in found]

    def split(self, keys: Sequence[str]) -> list[Share]:
        groups: dict[int, list[int]] = {}
        for position, key in enumerate(keys):
            groups.setdefault(self._owners[self._find(token(key))], []).append(position)
        return [(self.nodes[place], group, [keys[i] for i in group]) for place, group in sorted(groups.items())]
