"""Listings, page by page: no more than one page is in memory, and one that is on its way.

Keys come in code point order. A key that exists throughout a listing is listed exactly once. A page that cannot be had is
asked for again, within the deadline of each page.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from heapq import merge
from itertools import repeat
from typing import Any
from urllib.parse import urlencode

from gkv.client.batches import Batches
from gkv.client.calls import Call, not_understood
from gkv.client.errors import CursorRefused, InvalidRequest
from gkv.client.splitting import Piece, body_of, split
from gkv.client.values import Item, blob_of, key_text, read

PAGE = 10_000
"""Keys of a page, as many as there may be. One with values ends after 16 MiB (`--max-answer` / 4), or a second, too."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing with values, and the cursor from which another one goes on behind it: None at the end.

    A cursor is good for ever, for the same prefix.
    """

    items: list[Item]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key lives: who answers for it, None if nobody does, and all who keep it, by their ids, with address and state."""

    key: str
    token: int
    primary: str | None
    nodes: Mapping[str, tuple[str, str]]


class Listings(Batches):
    """Listings, and where keys live. The examples have `client`, a `Client`."""

    def keys(self, prefix: str = "", *, delimiter: str = "") -> Iterator[str]:
        """Yield the keys that begin with a prefix.

        Of keys that have the delimiter behind the prefix only the part up to it is yielded, and once, as directories are.

        >>> client.set_many(dict.fromkeys(["fruit/apple", "fruit/red/cherry", "fruit/red/currant"], 0))
        3
        >>> list(client.keys("fruit/")), list(client.keys("fruit/", delimiter="/"))
        (['fruit/apple', 'fruit/red/cherry', 'fruit/red/currant'], ['fruit/apple', 'fruit/red/'])
        """
        query = {"prefix": prefix} | ({"delimiter": delimiter} if delimiter else {})
        page: dict[str, Any] = {}
        while not page or "cursor" in page:
            page = self._page(query, page.get("cursor"))
            yield from merge(page["keys"], page["prefixes"]) if delimiter else page["keys"]

    def items(self, prefix: str = "", *, raw: bool = False, meta: bool = True) -> Iterator[Item]:
        """Yield the items whose keys begin with a prefix; without `meta` their keys and values alone, at half of the cost.

        >>> client.set_many({"veg/leek": 1, "veg/kale": 2})
        2
        >>> [(item.key, item.value) for item in client.items("veg/")]
        [('veg/kale', 2), ('veg/leek', 1)]
        """
        for page in self.pages(prefix, raw=raw, meta=meta):
            yield from page.items

    def pages(
        self, prefix: str = "", *, raw: bool = False, meta: bool = True, versions: bool = True, cursor: str | None = None
    ) -> Iterator[Page]:
        """Yield the same page by page, from a cursor on; without `versions` these are "". Raises CursorRefused for a cursor
        that is of no use here.

        The next page is asked for, in a thread, while the caller works on one.
        """
        query = {"prefix": prefix, "values": "1"} | ({"meta": "1"} | _without(versions) if meta else {})
        ahead = ThreadPoolExecutor(1, "gkv-client-page")
        try:
            coming: Future[dict[str, Any]] | None = ahead.submit(self._page, query, cursor, raw=raw)
            while coming is not None:
                page = coming.result()
                after = page.get("cursor")
                coming = None if after is None else ahead.submit(self._page, query, after, raw=raw)
                yield Page(page["items"] if meta else self._pairs(page), after)
        finally:
            ahead.shutdown(wait=False, cancel_futures=True)

    def page(self, prefix: str = "", *, raw: bool = False, versions: bool = True, cursor: str | None = None) -> Page:
        """Return one page of the same, for those who share a listing among threads. Raises CursorRefused.

        >>> client.set("only", 1) != ""
        True
        >>> page = client.page("only")
        >>> [item.key for item in page.items], page.cursor
        (['only'], None)
        """
        page = self._page({"prefix": prefix, "values": "1", "meta": "1"} | _without(versions), cursor, raw=raw)
        return Page(page["items"], page.get("cursor"))

    def locate(self, *keys: str) -> list[Place]:
        """Return where keys live, in their order.

        >>> [place] = client.locate("hi")
        >>> place.primary in place.nodes, place.nodes[place.primary][1]
        (True, 'up')
        """
        places: list[Place] = []
        for batch in split(Piece(key, key_text(key)) for key in keys):
            call = Call("POST", "/locate", body_of(batch), {"Content-Type": "application/json"})
            answer = self._perform(call)
            try:
                rows = read(answer.body.decode(), raw=False)["keys"]
                places += [_place(row) for row in rows]
            except (ValueError, KeyError, TypeError):
                raise not_understood(answer, call) from None
        return places

    def _pairs(self, page: Mapping[str, Any]) -> list[Item]:
        """Return the items of a page without versions. The types of bytes are asked for; what is gone by then is left out."""
        if "encodings" not in page:
            return list(map(Item, page["keys"], page["values"]))
        columns = list(zip(page["keys"], page["values"], page["encodings"], strict=True))
        blobs = self.get_items([key for key, _, encoding in columns if encoding])
        pairs = [Item(key, value) if not encoding else blobs.get(key) for key, value, encoding in columns]
        return [Item(pair.key, pair.value) for pair in pairs if pair is not None]

    def _page(self, query: Mapping[str, str], cursor: str | None, *, raw: bool = False) -> dict[str, Any]:
        """Return a page, with all columns that were asked for."""
        asked = {**query, "limit": str(PAGE)} | ({} if cursor is None else {"cursor": cursor})
        call = Call("GET", f"/v1/kv?{urlencode(asked)}")
        try:
            answer = self._perform(call)
        except InvalidRequest as error:
            if cursor is None or error.code != "parameter-value":
                raise
            refused = CursorRefused(error.detail, error.code, status=error.status, request_id=error.request_id)
            raise refused from error
        try:
            page: dict[str, Any] = read(answer.body.decode(), raw=raw)
            columns = ["keys"] + ["values"] * ("values" in query) + ["versions"] * ("meta" in query and "versions" not in query)
            if "meta" in query:
                page["items"] = _items(page)
            whole = len({len(page[name]) for name in columns}) == 1 and ("delimiter" not in query or "prefixes" in page)
            if whole and (page["complete"] or page["cursor"]):
                return page
        except (ValueError, KeyError, TypeError):
            pass
        raise not_understood(answer, call)


def _items(page: Mapping[str, Any]) -> list[Item]:
    keys, values = page["keys"], page["values"]
    if "encodings" in page:
        types = page.get("types") or repeat(None)
        columns = zip(values, page["encodings"], types, strict=False)
        values = [blob_of(value, kind) if encoding else value for value, encoding, kind in columns]
    return list(map(Item, keys, values, page.get("versions") or repeat(""), page.get("ttls") or repeat(None)))


def _without(versions: bool) -> dict[str, str]:
    return {} if versions else {"versions": "0"}


def _place(row: Mapping[str, Any]) -> Place:
    nodes = {node["id"]: (node["url"], node["state"]) for node in row["nodes"]}
    return Place(row["key"], int(row["token"], 16), row["primary"], nodes)
