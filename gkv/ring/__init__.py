"""Which node owns a key, and who of an array of nodes answers for it.

Promises: a `Ring` is immutable and built from the member list alone, so every process that knows the members computes the
same owner for every key; the pure and the native twin agree on every input; no call switches greenlets or waits.
Leaves to others: who is a member (`gkv.cluster`) and what to do with an owner (`gkv.coordinator`).
"""

from collections.abc import Iterable

from gkv import native
from gkv.model import Node
from gkv.ring._pure import PureRing
from gkv.ring.murmur3 import token as _pure_token
from gkv.ring.murmur3 import tokens as _pure_tokens
from gkv.ring.ring import DEFAULT_VNODES, HASH, NO_PLACE, NOBODY, Places, Ring, Share, token_name, vnode_counts

__all__ = [
    "DEFAULT_VNODES",
    "HASH",
    "NOBODY",
    "NO_PLACE",
    "TWIN",
    "Places",
    "Ring",
    "Share",
    "build",
    "token",
    "token_name",
    "tokens",
    "vnode_counts",
]

if native.extension is not None:
    from gkv.ring._native import NativeRing
    from gkv.ring._native import token as _native_token
    from gkv.ring._native import tokens as _native_tokens

    TWIN = "native"
    token = _native_token
    tokens = _native_tokens
    _twin: type[Ring] = NativeRing
else:
    TWIN = "pure"
    token = _pure_token
    tokens = _pure_tokens
    _twin = PureRing


def build(nodes: Iterable[Node], vnodes: int = DEFAULT_VNODES) -> Ring:
    """Build the ring of these nodes with the twin in use. O(V) for V = sum of all vnodes.

    >>> ring = build([Node("a"), Node("b"), Node("c")], vnodes=64)
    >>> ring.owner("hi").id
    'a'
    """
    return _twin(nodes, vnodes)
