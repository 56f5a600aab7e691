#!/usr/bin/env python3
"""Sessions of a web application, each of which ends when nobody has used it for a while.

`python examples/session_store.py [URL...]` starts one, uses it and ends it; by default at localhost:8080. Needs `gkv[client]`.
"""

import secrets
import sys
from typing import Any

from gkv.client import Client, ConditionFailed, Indeterminate


class SessionStore:
    """Sessions by their tokens; `idle` are the seconds that one may go unused."""

    def __init__(self, client: Client, idle: float = 1800) -> None:
        self._client = client
        self._idle = idle

    def start(self, **fields: Any) -> str:
        """Return the token of a new session. One that was perhaps stored is left to its expiry."""
        token = secrets.token_urlsafe(24)
        try:
            self._client.set(f"session/{token}", fields, ttl=self._idle)
        except Indeterminate:
            return self.start(**fields)
        return token

    def use(self, token: str, **fields: Any) -> dict[str, Any] | None:
        """Return what is known of a session, with fields that are new from now on; None if it has ended."""
        key = f"session/{token}"
        while True:
            item = self._client.get_item(key)
            if item is None:
                return None
            session = {**item.value, **fields}
            try:
                if session == item.value:
                    self._client.touch(key, self._idle)
                else:
                    self._client.set(key, session, ttl=self._idle, if_version=item.version)
            except (ConditionFailed, Indeterminate):
                continue  # somebody else was faster, or perhaps it was written: look again
            return session

    def end(self, token: str) -> None:
        try:
            self._client.delete(f"session/{token}")
        except Indeterminate:  # it may be gone: to delete it again does no harm
            self.end(token)


if __name__ == "__main__":
    with Client(*sys.argv[1:]) as client:
        store = SessionStore(client)
        token = store.start(user="ada")
        print(store.use(token, cart=["tea"]))
        store.end(token)
