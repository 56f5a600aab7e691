"""JSON in and out. Pure functions: nothing is kept between calls, and nothing here waits, but in the
`pause` that a caller gives to functions whose work may be long.

`strict` reads JSON from outside: exactly RFC 8259, in UTF-8, within limits. `client` and `shown` are the format of the
original batch interface. `ops` is what a coordinator and a node say to each other. `batch` leads from the one to the other
and back, and has a native twin. The text of a value is never rewritten: the bytes that a client sent are the bytes that a
client gets.
"""

from gkv import native
from gkv.ring import Places, Ring
from gkv.wire.batch import Batch, Part, PartResult, PureRouter
from gkv.wire.client import Limits

__all__ = ["TWIN", "Batch", "Part", "PartResult", "PureRouter", "router"]

if native.extension is not None:
    from gkv.wire._native import NativeRouter

    TWIN = "native"
    _twin: type[PureRouter] = NativeRouter
else:
    TWIN = "pure"
    _twin = PureRouter


def router(ring: Ring, cluster: str, era: int, limits: Limits, places: Places | None = None) -> PureRouter:
    """Return what reads batches for this ring and era, of the twin in use. `places` as for `PureRouter`. O(1)."""
    return _twin(ring, cluster, era, limits, places)
