"""The bytes of a record: what is packed comes back, and what is not as it was packed never does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.engine import record
from gkv.model import Blob, Damage, Record, Version

PLACE = b"\x00\x01\x02\x03\x04\x05\x06\x07key"
VERSION = Version(0x0191F3C2A5B7_0003, 0xA1)

_bytes = st.binary(max_size=60)
_types = st.text('abcdefghijklmnopqrstuvwxyz/;= "', min_size=1, max_size=40)
_blobs = st.builds(Blob, _bytes, _types)
BLOB = Blob(b"value", "text/plain")
_versions = st.builds(Version, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
_expires = st.just(0) | st.integers(1, 2**63)


@settings(deadline=None, derandomize=True)
@given(place=_bytes, version=_versions, value=st.none() | _bytes | _blobs, time=_expires, tag=st.none() | _versions)
def test_what_is_packed_comes_back(place, version, value, time, tag):
    data = record.pack(place, version.to_bytes(), value, time, tag.to_bytes() if tag else b"")
    assert record.intact(place, data)
    assert record.unpack(place, data) == Record(version, value, 0 if value is None else time, tag)
    assert record.values([place], [data], 0) == [value]
    assert len(data) == record.OVERHEAD + len(value or b"") + (16 if tag else 0)
    assert record.value_size(data) == len(value or b"") + (16 if tag else 0)
    assert record.time_of(data) == time
    assert record.is_tombstone(data) == (value is None)
    assert record.is_lasting(data) == (value is not None and time == 0)


@pytest.mark.parametrize("tag", [b"", VERSION.to_bytes()], ids=["", "tagged"])
@pytest.mark.parametrize(
    ("value", "expires"), [(b"value", 0), (b"value", 77), (None, 0), (None, 77), (b"", 0), (BLOB, 0), (BLOB, 77)]
)
def test_every_flipped_bit_is_damage(value, expires, tag):
    data = record.pack(PLACE, VERSION.to_bytes(), value, expires, tag)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged = bytes(flipped)
        assert record.values([PLACE], [damaged], 0) == [Damage.DAMAGED]
        assert record.unpack(PLACE, damaged) is Damage.DAMAGED


@pytest.mark.parametrize("tag", [b"", VERSION.to_bytes()], ids=["", "tagged"])
@pytest.mark.parametrize(("value", "expires"), [(b"value", 0), (b"value", 77), (None, 0), (BLOB, 0), (BLOB, 77)])
def test_every_shorter_or_longer_record_is_damage(value, expires, tag):
    data = record.pack(PLACE, VERSION.to_bytes(), value, expires, tag)
    for damaged in [data + b"\0", *(data[:size] for size in range(len(data)))]:
        assert record.values([PLACE], [damaged], 0) == [Damage.DAMAGED]
        assert record.unpack(PLACE, damaged) is Damage.DAMAGED


@pytest.mark.parametrize(("value", "expires"), [(b"value", 0), (b"value", 77), (None, 0), (BLOB, 0), (BLOB, 77)])
def test_record_of_another_place_is_damage(value, expires):
    data = record.pack(PLACE, VERSION.to_bytes(), value, expires)
    for other in (b"", PLACE + b"x", b"\x01" + PLACE[1:]):
        assert record.values([other], [data], 0) == [Damage.DAMAGED]
        assert record.unpack(other, data) is Damage.DAMAGED


@pytest.mark.parametrize("kind", [0, 6, 16, 22, 33, 129, 255])
def test_kind_that_is_not_known_is_damage(kind):
    body = bytes([kind]) + VERSION.to_bytes() + bytes(24) + b"value"
    data = body + record.crc32(body, record.crc32(PLACE)).to_bytes(4, "little")
    assert record.values([PLACE], [data], 0) == [Damage.DAMAGED]
    assert record.unpack(PLACE, data) is Damage.DAMAGED


def test_values_names_what_is_due_and_keeps_the_order():
    stored = [
        None,
        record.pack(PLACE, VERSION.to_bytes(), b"for ever", 0),
        record.pack(PLACE, VERSION.to_bytes(), b"until 77", 77),
        record.pack(PLACE, VERSION.to_bytes(), None, 0),
        b"",
        record.pack(PLACE, VERSION.to_bytes(), BLOB, 77),
        record.pack(PLACE, VERSION.to_bytes(), b"1", 78, VERSION.to_bytes()),
    ]
    assert record.values([PLACE] * 7, stored, 76) == [None, b"for ever", b"until 77", None, Damage.DAMAGED, BLOB, b"1"]
    for now, due in ((77, [2, 5]), (78, [2, 5, 6])):
        with pytest.raises(record.DueRecords) as caught:
            record.values([PLACE] * 7, stored, now)
        assert caught.value.positions == due
