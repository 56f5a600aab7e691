#!/usr/bin/env python3
"""Settings that are kept in gkv: read again and again, changes noticed, and the last good values when nobody answers.

    python examples/configuration.py [URL...]

prints each change of the keys under config/, at a proxy or several nodes, by default at http://127.0.0.1:8080, until it is
interrupted. Needs `gkv[client]`.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from gkv.client import Client, ClientError, Item


class Configuration(Mapping[str, Any]):
    """The values under a prefix, by what follows it; as they were when somebody last answered."""

    def __init__(self, client: Client, prefix: str = "config/", within: float = 2.0) -> None:
        self._client = client.within(within)
        self._prefix = prefix
        self._items: dict[str, Item] = {}
        self.error: ClientError | None = None
        """Why the values may be old, None while they are not."""

    def refresh(self) -> set[str]:
        """Read all again; return the names of those that were set, set again or deleted since the last time."""
        try:
            items = {item.key.removeprefix(self._prefix): item for item in self._client.items(self._prefix)}
        except ClientError as error:
            self.error = error
            return set()
        before, self._items, self.error = self._items, items, None
        names = before.keys() | items.keys()
        return {name for name in names if self._version(before, name) != self._version(items, name)}

    @staticmethod
    def _version(items: Mapping[str, Item], name: str) -> str | None:
        return items[name].version if name in items else None

    def __getitem__(self, name: str) -> Any:
        return self._items[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


if __name__ == "__main__":
    settings = Configuration(Client(*sys.argv[1:]))
    while True:
        for name in sorted(settings.refresh()):
            print(name, settings.get(name), flush=True)
        time.sleep(1)
