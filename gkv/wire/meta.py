"""What stands beside a value when a client asks for more than the value. Pure."""

from json.encoder import encode_basestring as quote
from typing import NamedTuple

from gkv.model import Blob, Record, Value
from gkv.wire.shown import show


class Entry(NamedTuple):
    """A value with its end, and the time at its node when it was read, both in ms since the Unix epoch; no end is 0."""

    value: Value
    expires: int
    now: int

    @property
    def seconds_left(self) -> str:
        """For how long the value is there, as JSON writes a number of seconds; "" when it is there for good."""
        if not self.expires:
            return ""
        left = max(self.expires - self.now, 1)  # what is due is not shown at all
        return f"{left // 1000}.{left % 1000:03}".rstrip("0").rstrip(".")

    def show_value(self) -> bytes:
        """Return what stands behind `"value":` where nothing else is asked for."""
        return show(self.value) if isinstance(self.value, Blob) else self.value


class Found(NamedTuple):
    """A record with a value, and the time at its node when it was read, in ms since the Unix epoch."""

    record: Record
    now: int

    @property
    def entry(self) -> Entry:
        """All of it but the version."""
        return Entry(self.record.value or b"", self.record.expires, self.now)

    def show(self) -> bytes:
        """Return what stands behind `"value":`: the value, its version, and its type and ttl where there are any.

        >>> from gkv.model import Version
        >>> Found(Record(Version(1, 2), Blob(b"hi", "text/plain"), 1500), 1000).show().decode()
        '"aGk=","encoding":"base64","type":"text/plain","version":"00000000000000010000000000000002","ttl":0.5'
        """
        value = self.record.value
        pieces = (
            [value or b""] if not isinstance(value, Blob) else [show(value), f',"type":{quote(value.content_type)}'.encode()]
        )
        pieces.append(f',"version":"{self.record.tag}"'.encode())
        if left := self.entry.seconds_left:
            pieces.append(f',"ttl":{left}'.encode())
        return b"".join(pieces)
