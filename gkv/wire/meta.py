"""What stands beside a value when a client asks for more than the value. Pure."""

from json.encoder import encode_basestring as quote
from typing import NamedTuple

from gkv.model import Blob, Record
from gkv.wire.shown import show


class Found(NamedTuple):
    """A record with a value, and the time at its node when it was read, in ms since the Unix epoch."""

    record: Record
    now: int

    @property
    def seconds_left(self) -> str:
        """For how long the value is there, as JSON writes a number of seconds; "" when it is there for good."""
        if not self.record.expires:
            return ""
        left = max(self.record.expires - self.now, 1)  # what is due is not shown at all
        return f"{left // 1000}.{left % 1000:03}".rstrip("0").rstrip(".")

    def show_value(self) -> bytes:
        """Return what stands behind `"value":` where nothing else is asked for."""
        value = self.record.value
        return show(value) if isinstance(value, Blob) else value or b""

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
        if left := self.seconds_left:
            pieces.append(f',"ttl":{left}'.encode())
        return b"".join(pieces)
