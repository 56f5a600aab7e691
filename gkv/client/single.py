"""Calls about one key."""

import re
from collections.abc import Mapping
from operator import index
from typing import Any
from urllib.parse import quote

from gkv.client.base import Base
from gkv.client.calls import Call, not_understood, version_in
from gkv.client.transport import Answer, header
from gkv.client.values import ANY_BYTES, Item, JsonText, number, text_of, value_of
from gkv.model import Blob

_JSON = "application/json"
_dots = re.compile(r"(?<![^/])\.{1,2}(?![^/])").sub
"""Parts of a path that have a meaning of their own."""


class SingleKeys(Base):
    """Reads and writes of one key. The examples have `client`, a `Client`."""

    def get(self, key: str, default: Any = None, *, raw: bool = False) -> Any:
        """Return the value of a key, `default` if it has none.

        >>> client.set("hi", {"to": ["you", "me"]}) and client.get("hi")
        {'to': ['you', 'me']}
        >>> client.get("hi", raw=True)
        JsonText('{"to":["you","me"]}')
        >>> client.get("nobody", "missing")
        'missing'
        """
        item = self.get_item(key, raw=raw)
        return default if item is None else item.value

    def get_item(self, key: str, *, raw: bool = False) -> Item | None:
        """Return a key's value with its version and the seconds until it expires; None if it has none.

        >>> version = client.set("brief", 1, ttl=60)
        >>> item = client.get_item("brief")
        >>> item.value, item.version == version, 0 < item.ttl <= 60
        (1, True, True)
        """
        call = Call("GET", _path(key))
        answer = self._perform(call)
        if answer.status == 404:
            return None
        expires = answer.headers.get("expires-in")
        version = self._version_of(answer, call)
        try:
            return Item(key, _value(answer, raw=raw), version, None if expires is None else float(expires))
        except ValueError:
            raise not_understood(answer, call) from None

    def get_bytes(self, key: str) -> Blob | None:
        """Return a value as it is stored: its bytes and their type; None if there is none.

        >>> client.put_bytes("photo", bytes([137, 80]), "image/png") and client.get_bytes("photo")
        Blob(data=b'\\x89P', content_type='image/png')
        >>> client.set("hi", [1, 2]) and client.get_bytes("hi")
        Blob(data=b'[1,2]', content_type='application/json')
        """
        call = Call("GET", _path(key))
        answer = self._perform(call)
        if answer.status == 404:
            return None
        self._version_of(answer, call)
        return Blob(answer.body, answer.headers.get("content-type", ANY_BYTES))

    def set(
        self, key: str, value: Any, *, ttl: float | None = None, if_version: str | None = None, if_absent: bool = False
    ) -> str:
        """Set a key, and return the version of what is there now. It expires after `ttl` seconds.

        With `if_version` only if that is the version of what is there (`ANY`: any), with `if_absent` only if nothing is;
        else ConditionFailed is raised, and nothing has changed.

        >>> first = client.set("seat", "mine", if_absent=not client.delete("seat"))
        >>> try: client.set("seat", "yours", if_absent=True)
        ... except ConditionFailed as error: error.version == first
        True
        >>> second = client.set("seat", "ours", if_version=first)
        """
        if isinstance(value, Blob):
            body, content_type = value.data, value.content_type
        else:
            body, content_type = text_of(value).encode(), _JSON
        headers = {"Content-Type": header(content_type, "a media type"), **_condition(if_version, if_absent=if_absent)}
        query = "" if ttl is None else f"?ttl={number(ttl)}"
        return self._version(Call("PUT", _path(key) + query, body, headers, writes=True))

    def put_bytes(
        self,
        key: str,
        data: bytes,
        content_type: str = ANY_BYTES,
        *,
        ttl: float | None = None,
        if_version: str | None = None,
        if_absent: bool = False,
    ) -> str:
        """Set a key to bytes of a media type; else as `set`."""
        return self.set(key, Blob(bytes(data), content_type), ttl=ttl, if_version=if_version, if_absent=if_absent)

    def delete(self, key: str, *, if_version: str | None = None) -> bool:
        """Delete a key; return whether it had a value. With `if_version` as `set`.

        >>> client.set("old", 1) and client.delete("old"), client.delete("old")
        (True, False)
        """
        call = Call("DELETE", _path(key), headers=_condition(if_version), writes=True)
        answer = self._perform(call)
        if answer.status not in (204, 404):
            raise not_understood(answer, call)
        return answer.status == 204

    def add(self, key: str, delta: int = 1, *, ttl: float | None = None) -> int:
        """Add to an integer, and return the sum; what is not there counts as 0. An expiry stays, without `ttl`, as it is.

        Raises WrongType for any other value. After Indeterminate, a repetition may count twice.

        >>> _ = client.delete("visits")
        >>> client.add("visits"), client.add("visits", 41), client.add("visits", -2)
        (1, 42, 40)
        """
        query = f"?add={index(delta)}" + ("" if ttl is None else f"&ttl={number(ttl)}")
        call = Call("POST", _path(key) + query, writes=True)
        answer = self._perform(call)
        self._version_of(answer, call)
        try:
            return int(answer.body)
        except ValueError:
            raise not_understood(answer, call) from None

    def touch(self, key: str, ttl: float | None) -> str | None:
        """Have a value expire in `ttl` seconds, None: never; return its new version, None if there is no value.

        >>> client.set("session", "of somebody", ttl=1) and client.touch("session", None) == client.get_item("session").version
        True
        >>> client.touch("nobody", 60) is None
        True
        """
        if ttl == 0:
            raise ValueError("a value expires after more than 0 seconds; without an expiry, ttl is None")
        call = Call("POST", _path(key) + f"?touch={0 if ttl is None else number(ttl)}", writes=True)
        answer = self._perform(call)
        return None if answer.status == 404 else self._version_of(answer, call)

    def _version(self, call: Call) -> str:
        return self._version_of(self._perform(call), call)

    def _version_of(self, answer: Answer, call: Call) -> str:
        """Return the version that each answer about a key has; one without is somebody else's."""
        version = version_in(answer)
        if version is None:
            raise not_understood(answer, call)
        return version


def _path(key: str) -> str:
    """Return the path of a key. A part that is `.` or `..` is escaped, as it would be taken out on the way.

    >>> _path("a.b/../é")
    '/v1/kv/a.b/%2E%2E/%C3%A9'
    """
    if not key:
        raise ValueError("a key has at least one character")
    path = quote(key, safe="/", errors="strict")
    return "/v1/kv/" + (_dots(lambda found: found[0].replace(".", "%2E"), path) if "." in path else path)


def _condition(if_version: str | None, *, if_absent: bool = False) -> Mapping[str, str]:
    if if_absent and if_version is not None:
        raise ValueError("a write depends on if_version or on if_absent, not on both")
    if if_absent:
        return {"If-None-Match": "*"}
    if if_version is None:
        return {}
    return {"If-Match": if_version if if_version == "*" else f'"{header(if_version, "a version")}"'}


def _value(answer: Answer, *, raw: bool) -> Any:
    content_type = answer.headers.get("content-type", ANY_BYTES)
    if content_type.partition(";")[0].strip().lower() != _JSON:
        return Blob(answer.body, content_type)
    text = answer.body.decode()
    return JsonText(text) if raw else value_of(text)
