"""Calls about many keys, in as many batches as it takes, one after the other.

Each batch has a deadline of its own, so that a call may be about any number of keys. Within it, keys that have no answer, and
those of which certainly nothing was written, are asked for again. A call goes on after a batch in which keys were refused for
good (a condition, a damaged record), and stops after one in which others failed; then BatchFailed says of each key of these
batches what became of it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from gkv.client.base import Base
from gkv.client.calls import Call, Patience, failure_of, not_understood, perform, retry_after
from gkv.client.errors import (
    BatchFailed,
    BatchIndeterminate,
    ClientError,
    Indeterminate,
    Refused,
    TooLarge,
    Unavailable,
)
from gkv.client.splitting import MAX_BYTES, Piece, body_of, split
from gkv.client.values import Item, Put, blob_of, item_text, key_in, key_text, read

_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_LEAST_BODY = 1 << 20
"""Bytes that every server takes; before more is sent, its limits are asked for."""


_Take = Callable[[Mapping[str, Any]], None]
"""Takes in what an answer says."""


class _Progress:
    """What has become of the batches of a call."""

    def __init__(self) -> None:
        self.failed: dict[str, ClientError] = {}
        self.found: dict[str, Any] = {}
        self.taken = 0
        self.done = 0

    def fail(self, batch: Iterable[Piece], error: ClientError) -> None:
        self.fail_keys([piece.key for piece in batch], error)

    def fail_keys(self, keys: Iterable[str], error: ClientError) -> None:
        self.failed.update(dict.fromkeys(keys, error))

    @property
    def may_go_on(self) -> bool:
        """Whether all that failed were refused as they are, so that others may go."""
        return all(isinstance(error, Refused) for error in self.failed.values())

    def check(self) -> None:
        """Raise BatchFailed if any key has failed."""
        if not self.failed:
            return
        unknown = any(isinstance(error, Indeterminate) for error in self.failed.values())
        kind = BatchIndeterminate if unknown else BatchFailed
        raise kind(self.failed, self.taken, self.done, self.found) from next(iter(self.failed.values()))


class Batches(Base):
    """Reads and writes of many keys. The examples have `client`, a `Client`."""

    def get_many(self, keys: Iterable[str], *, raw: bool = False) -> dict[str, Any]:
        """Return the values of those keys that have one. Raises BatchFailed, whose `found` has what was read.

        >>> client.set_many({"a": 1, "b": [2.5]})
        2
        >>> client.get_many(["b", "a", "nobody"])
        {'b': [2.5], 'a': 1}
        """
        progress = _Progress()
        # Without versions an answer costs the servers a tenth; then the types of bytes have to be asked for.
        blobs: list[str] = []
        self._each(
            dict.fromkeys(keys),
            key_text,
            progress,
            lambda batch: self._get("/get", batch, progress, lambda answer: _take_values(answer, progress, blobs), raw=raw),
        )
        if blobs:
            typed = _Progress()
            self._each_item(blobs, typed, raw=raw)
            progress.failed.update(typed.failed)
            if typed.taken < len(blobs):  # it stopped at an error
                progress.fail_keys(blobs[typed.taken :], next(iter(typed.failed.values())))
            progress.found.update((key, item.value) for key, item in typed.found.items())
        progress.check()
        return progress.found

    def get_items(self, keys: Iterable[str], *, raw: bool = False) -> dict[str, Item]:
        """Return those keys that have a value, as items. Raises BatchFailed, whose `found` has what was read.

        >>> client.set_many({"a": 1})
        1
        >>> item = client.get_items(["a", "nobody"])["a"]
        >>> item.key, item.value, len(item.version), item.ttl
        ('a', 1, 32, None)
        """
        progress = _Progress()
        self._each_item(keys, progress, raw=raw)
        progress.check()
        return progress.found

    def set_many(self, items: Mapping[str, Any] | Iterable[Put | Item | tuple[str, Any]], *, ttl: float | None = None) -> int:
        """Set many keys; return how many items were written. Those that say nothing about it expire after `ttl` seconds.

        An `Item` keeps its seconds, but not its version. Of items with one key the last is set. No other client sees all of a
        batch at once.

        >>> client.set_many([("a", 1), Put("b", 2, ttl=60), Put("c", 3, if_version="*")])
        Traceback (most recent call last):
        gkv.client.errors.BatchFailed: 1 of 3 keys failed: the key 'c' has failed (condition)
        >>> client.get_many("abc")
        {'a': 1, 'b': 2}
        """
        progress = _Progress()
        pairs = items.items() if isinstance(items, Mapping) else items
        self._each(_puts(pairs, ttl), item_text, progress, lambda batch: self._set(batch, progress), itemgetter(0))
        progress.check()
        return progress.done

    def set_lines(self, lines: Iterable[str | bytes]) -> int:
        """Set an item of each line, which is an object as `/set` takes it and `line_of` writes it; as `set_many`.

        The lines are sent as they are: a value keeps its text, and only the key of a line is looked at. Raises ValueError for
        one without.

        >>> client.set_lines(['{"key":"a","value":1.10}', '{"key":"b","value":"aGk=","encoding":"base64","type":"text/plain"}'])
        2
        >>> [line_of(item) for item in client.get_items("ab", raw=True).values()]
        ['{"key":"a","value":1.10}', '{"key":"b","value":"aGk=","encoding":"base64","type":"text/plain"}']
        """
        progress = _Progress()
        texts = (line.encode() if isinstance(line, str) else line for line in lines)
        self._each(texts, bytes.strip, progress, lambda batch: self._set(batch, progress), key_in)
        progress.check()
        return progress.done

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete many keys; return how many had a value.

        >>> client.set_many({"a": 1, "b": 2})
        2
        >>> client.delete_many(["a", "b", "nobody"])
        2
        """
        progress = _Progress()
        self._each(keys, key_text, progress, lambda batch: self._delete(batch, progress))
        progress.check()
        return progress.done

    def _each(
        self,
        items: Iterable[Any],
        text_of: Callable[[Any], bytes],
        progress: _Progress,
        ask: Callable[[list[Piece]], None],
        key_of: Callable[[Any], str] = str,
    ) -> None:
        """Ask for one batch after the other, as long as that may go on."""
        pieces = (Piece(key_of(item), text_of(item)) for item in items)
        for batch in split(pieces):
            for part in self._fitting(batch, progress):
                progress.taken += len(part)
                ask(part)
                if not progress.may_go_on:
                    return
            if not progress.may_go_on:
                return

    def _fitting(self, batch: list[Piece], progress: _Progress) -> Iterator[list[Piece]]:
        """Yield a batch in parts that the servers take; a large one has them asked for that, once."""
        if sum([len(piece.text) + 1 for piece in batch]) >= _LEAST_BODY:
            try:
                yield from split(batch, most_bytes=min(MAX_BYTES, self._most_bytes()))
            except ClientError as error:
                progress.taken += len(batch)
                progress.fail(batch, error)
        else:
            yield batch

    def _most_bytes(self) -> int:
        if self._transport.most_bytes is None:
            call = Call("GET", "/v1/info")
            answer = self._perform(call)
            try:
                self._transport.most_bytes = int(read(answer.body.decode(), raw=False)["limits"]["bodyBytes"])
            except (ValueError, KeyError, TypeError):
                raise not_understood(answer, call) from None
        return self._transport.most_bytes

    def _each_item(self, keys: Iterable[str], progress: _Progress, *, raw: bool) -> None:
        def ask(batch: list[Piece]) -> None:
            self._get("/get?meta=1", batch, progress, lambda answer: _take_items(answer, progress), raw=raw)

        self._each(dict.fromkeys(keys), key_text, progress, ask)

    def _get(self, target: str, batch: list[Piece], progress: _Progress, take: _Take, *, raw: bool) -> None:
        parts = [batch]
        while parts:
            part = parts.pop()
            try:
                self._ask(target, part, progress, take, raw=raw)
            except TooLarge as error:
                if len(part) == 1:
                    progress.fail(part, error)
                else:  # the values together are too large for one answer
                    middle = len(part) // 2
                    parts += (part[middle:], part[:middle])
            if not progress.may_go_on:
                why = next(error for error in progress.failed.values() if not isinstance(error, Refused))
                return progress.fail([piece for rest in parts for piece in rest], why)
        return None

    def _set(self, batch: list[Piece], progress: _Progress) -> None:
        before = len(progress.failed)
        self._ask("/set", batch, progress, _check_set)
        written = batch if len(progress.failed) == before else [piece for piece in batch if piece.key not in progress.failed]
        progress.done += len(written)

    def _delete(self, batch: list[Piece], progress: _Progress) -> None:
        def take(answer: Mapping[str, Any]) -> None:
            progress.done += answer["deleted"]

        self._ask("/delete", batch, progress, take)

    def _ask(self, target: str, batch: list[Piece], progress: _Progress, take: _Take, *, raw: bool = False) -> None:
        """Ask for a batch until each key has an answer or has failed; `take` what each answer has.

        Raises TooLarge for a read. All other errors are those of the keys.
        """
        patience = Patience(self._timeout)
        writes = not target.startswith("/get")
        while batch:
            call = Call("POST", target, body_of(batch), _HEADERS, writes=writes, partial=True)
            try:
                answer = perform(self._transport, call, patience)
            except ClientError as error:
                if isinstance(error, TooLarge) and not writes:
                    raise
                return progress.fail(batch, error)
            try:
                said = read(answer.body.decode(), raw=raw)
                take(said)
                failed = {row["key"]: failure_of(row, writes=writes) for row in said.get("failedKey", ())}
            except (ValueError, KeyError, TypeError, AttributeError):
                return progress.fail(batch, not_understood(answer, call))
            again = {key: error for key, error in failed.items() if isinstance(error, Unavailable)}
            progress.failed.update({key: error for key, error in failed.items() if key not in again})
            batch = [piece for piece in batch if piece.key in again] if again else []
            if again:
                self._transport.move_on(answer.endpoint)
                try:
                    patience.pause(next(iter(again.values())), retry_after(answer))
                except Unavailable:
                    progress.failed.update(again)
                    return None
        return None


def _check_set(answer: Mapping[str, Any]) -> None:
    """Raise KeyError for what says neither what was set nor what was not."""
    if "failedKey" not in answer:
        answer["set"]


def _take_values(answer: Mapping[str, Any], progress: _Progress, blobs: list[str]) -> None:
    progress.found.update([(row["key"], row["value"]) for row in answer["existedKey"] if "encoding" not in row])
    blobs += [row["key"] for row in answer["existedKey"] if "encoding" in row]


def _take_items(answer: Mapping[str, Any], progress: _Progress) -> None:
    found = progress.found
    for row in answer["existedKey"]:
        key, value = row["key"], row["value"]
        if "encoding" in row:
            value = blob_of(value, row.get("type"))
        found[key] = Item(key, value, row["version"], row.get("ttl"))


def _puts(items: Iterable[Put | Item | tuple[str, Any]], ttl: float | None) -> Iterator[Put]:
    for item in items:
        if isinstance(item, Put):
            yield item if item.ttl is not None or ttl is None else item._replace(ttl=ttl)
        elif isinstance(item, Item):
            yield Put(item.key, item.value, ttl if item.ttl is None else item.ttl)
        else:
            key, value = item
            yield Put(key, value, ttl)
