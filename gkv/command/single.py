"""The commands about a few keys: get, set, del, ls, locate."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from gkv.client import Blob, Client, Item, JsonText, line_of
from gkv.command.codes import Code, Ended
from gkv.command.printing import agreed, document, plain, table, time
from gkv.command.servers import Servers, seconds, whole

_MANY = 1_000_000_000
_TOGETHER = 10_000


def get(said: Namespace) -> int:
    """Show values."""
    with Servers.of(said).client() as client:
        if len(said.KEY) == 1 and not said.json:
            value = client.get(said.KEY[0], raw=True)
            found = {} if value is None else {said.KEY[0]: value}
            if found:
                _show_value(value, text=said.text)
        else:
            items = client.get_items(said.KEY, raw=True)
            found = items
            for key in said.KEY:
                if key in items:
                    print(_described(items[key]) if said.json else line_of(items[key]))
    missing = [key for key in said.KEY if key not in found]
    for key in missing:
        print(f"gkv: {plain(key)}: no such key", file=sys.stderr)
    return Code.NOT_SO if missing else Code.DONE


def _show_value(value: Any, *, text: bool) -> None:
    if isinstance(value, Blob):
        sys.stdout.flush()
        sys.stdout.buffer.write(value.data)
        return
    found = value.value() if text and value.startswith('"') else value
    print(found)


def _described(item: Item) -> str:
    """Return an item with its version, as a line that import takes too but for that."""
    line = line_of(item)
    return f'{line[:-1]},"version":{json.dumps(item.version)}}}'


def set_key(said: Namespace) -> int:
    """Set a key."""
    value = _value(said)
    ttl = None if said.ttl is None else seconds(said.ttl, "--ttl")
    if said.if_absent and said.if_version is not None:
        raise Ended("--if-absent and --if-version say different things", Code.USAGE)
    with Servers.of(said).client() as client:
        try:
            version = client.set(said.KEY, value, ttl=ttl, if_version=said.if_version, if_absent=said.if_absent)
        except ValueError as error:  # a type or a version that cannot be sent
            raise Ended(f"{error}", Code.USAGE) from None
    if said.json:
        document({"key": said.KEY, "version": version})
    return Code.DONE


def _value(said: Namespace) -> Any:
    if (said.VALUE is None) == (said.file is None):
        raise Ended("gkv set takes a VALUE, or --file FILE; see gkv set --help", Code.USAGE)
    if said.file is None:
        if said.type is not None:
            data: bytes = said.VALUE.encode()
        elif said.string:
            return said.VALUE
        else:
            try:
                return JsonText(said.VALUE)
            except ValueError as error:
                if error.__cause__ is not None:  # it is JSON, and yet none that can be read
                    raise Ended(f"VALUE is {error}", Code.USAGE) from None
                return said.VALUE
    else:
        data = sys.stdin.buffer.read() if said.file == "-" else Path(said.file).read_bytes()
    if said.type == "application/json":
        try:
            return JsonText(data.decode())
        except ValueError:
            raise Ended("the value is not the text of one JSON value", Code.USAGE) from None
    return Blob(data, said.type or "application/octet-stream")


def delete(said: Namespace) -> int:
    """Delete keys."""
    if bool(said.KEY) == (said.prefix is not None):
        raise Ended("gkv del takes KEYs, or --prefix PREFIX; see gkv del --help", Code.USAGE)
    with Servers.of(said).client() as client:
        if said.prefix is None:
            gone = len(client.get_many(said.KEY, raw=True)) if said.dry_run else client.delete_many(said.KEY)
        else:
            gone = _delete_all(client, said)
    if said.json:
        document({"deleted": 0 if said.dry_run else gone, "dryRun": said.dry_run, "keys": gone})
    elif said.dry_run or said.prefix is not None or len(said.KEY) > 1:
        print(f"{gone:,} keys {'would be ' if said.dry_run else ''}deleted")
    elif not gone:
        print(f"gkv: {plain(said.KEY[0])}: no such key", file=sys.stderr)
    return Code.DONE if gone else Code.NOT_SO


def _delete_all(client: Client, said: Namespace) -> int:
    count = sum(1 for _ in client.keys(said.prefix))
    if said.dry_run or not count:
        return count
    which = f"that begin with {plain(said.prefix)}" if said.prefix else "of the cluster, all that there are"
    if not agreed(f"Delete {count:,} keys {which}?", yes=said.yes):
        raise Ended("nothing was deleted", Code.NOT_SO)
    gone, keys = 0, client.keys(said.prefix)
    while some := list(islice(keys, _TOGETHER)):
        gone += client.delete_many(some)
    return gone


def ls(said: Namespace) -> int:
    """List keys."""
    limit = whole(said.limit, "--limit", _MANY, _MANY)
    if said.long and said.delimiter:
        raise Ended("--long and --delimiter do not go together", Code.USAGE)
    prefix = said.PREFIX or ""
    count = 0
    with Servers.of(said).client() as client:
        if said.long:
            count = _show_long(islice(client.items(prefix, raw=True), limit), as_json=said.json)
        else:
            for key in islice(client.keys(prefix, delimiter=said.delimiter or ""), limit):
                count += 1
                print(json.dumps(key, ensure_ascii=False) if said.json else plain(key))
    return Code.DONE if count else Code.NOT_SO


def _show_long(items: Iterator[Item], *, as_json: bool) -> int:
    """Show items by the page, as a table that need not be in memory."""
    count = 0
    while some := list(islice(items, 1_000)):
        rows = []
        for item in some:
            blob = isinstance(item.value, Blob)
            length = len(item.value.data) if blob else len(item.value.encode())
            kind = item.value.content_type if blob else "application/json"
            if as_json:
                document({"key": item.key, "version": item.version, "bytes": length, "type": kind, "ttl": item.ttl})
            left = "-" if item.ttl is None else time(item.ttl)
            rows.append([f"{length:,}", left, item.version, plain(kind), plain(item.key)])
        if not as_json:
            shown = table(["BYTES", "TIME LEFT", "VERSION", "TYPE", "KEY"], rows, "BYTES")
            print(shown if not count else shown.partition("\n")[2])
        count += len(some)
    return count


def locate(said: Namespace) -> int:
    """Show where keys live."""
    with Servers.of(said).client() as client:
        places = client.locate(*said.KEY)
    if said.json:
        for one in places:
            nodes = [{"id": name, "url": url, "state": state} for name, (url, state) in one.nodes.items()]
            document({"key": one.key, "token": f"{one.token:016x}", "primary": one.primary, "nodes": nodes})
        return Code.DONE
    rows = []
    for one in places:
        keep = ", ".join([name if state == "up" else f"{name} ({state})" for name, (_, state) in one.nodes.items()])
        rows.append([plain(one.key), one.primary or "nobody", keep])
    print(table(["KEY", "ANSWERED BY", "KEPT BY"], rows))
    return Code.DONE
