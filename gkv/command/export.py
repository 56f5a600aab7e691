"""`gkv export`: pages of a listing, fetched by several threads and written in their order.

The keys alone are listed first, page by page, which is cheap: each page's cursor is where another thread may begin to fetch
values. Memory is bounded by some pages for each of them.
"""

import os
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from queue import Queue
from threading import Thread
from time import monotonic
from typing import BinaryIO
from urllib.parse import urlencode

from gkv.client import Client, Item, line_of
from gkv.command.codes import Code, Ended
from gkv.command.printing import document
from gkv.command.progress import Progress
from gkv.command.servers import Servers, cluster_of, named, whole
from gkv.command.state import State, StateFile

_KEYS = 10_000
"""Keys of a range."""
_PAGES = 2
"""Pages of a range that wait to be written."""
_EVERY = 0.5
"""Seconds between two points from which it can go on; each waits for the disk."""
_MOST_JOBS = 32


@dataclass(frozen=True, slots=True)
class Range:
    """A part of the listing: from a cursor to a last key, None for all that is left; the next one begins at `then`."""

    cursor: str | None
    last: str | None
    then: str | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines to be written, and the cursor behind them, None at the end of all."""

    lines: bytes
    keys: int
    cursor: str | None


@dataclass(slots=True)
class _Job:
    range: Range
    chunks: "Queue[Chunk | Exception | None]" = field(default_factory=lambda: Queue(_PAGES))


def export(said: Namespace) -> int:
    """Export."""
    jobs = whole(said.jobs, "--jobs", 1, _MOST_JOBS)
    servers = Servers.of(said, timeout=60.0)
    to_file = said.FILE not in (None, "-")
    if not to_file and (said.resume or said.restart):
        raise Ended("--resume and --restart take a FILE", Code.USAGE)
    prefix = said.prefix or ""
    with ExitStack() as opened:
        clients = [opened.enter_context(servers.client(at)) for at in range(jobs)]
        if not to_file:
            return _to_output(clients, prefix, quiet=said.quiet)
        return _to_file(said, servers, clients, prefix)


def _to_output(clients: list[Client], prefix: str, *, quiet: bool) -> int:
    progress = Progress(quiet=quiet or sys.stdout.isatty())
    for chunk in chunks(clients, prefix, None):
        sys.stdout.buffer.write(chunk.lines)
        progress.add(chunk.keys, len(chunk.lines))
    sys.stdout.buffer.flush()
    progress.end()
    return Code.DONE


def _to_file(said: Namespace, servers: Servers, clients: list[Client], prefix: str) -> int:
    path = Path(said.FILE)
    if path.is_dir():
        raise Ended(f"{path} is a directory; an export takes a file", Code.USAGE)
    part = path.with_name(f"{path.name}.part")
    states = StateFile(path.with_name(f"{path.name}.part.state"), "export")
    cluster = cluster_of(clients[0], servers.urls[0])
    state = states.find(said, cluster)
    if state is None:
        if path.exists() and not said.restart:
            raise Ended(f"{path} is there already; --restart writes it anew", Code.USAGE)
        state = State(cluster, prefix)
    if state.prefix != prefix:
        raise Ended(f"the last export was of --prefix {state.prefix!r}; --restart begins anew", Code.USAGE)
    progress = Progress(quiet=said.quiet)
    progress.skip(state.keys, state.bytes)
    with _opened(part, state.bytes) as file:
        states.keep(state)
        try:
            with named(part):
                _write(file, clients, state, states, progress)
        except (Exception, KeyboardInterrupt):
            progress.end("--resume goes on from there")
            raise
    states.remove()  # first: a state without its file would be in the way of every later run
    part.replace(path)
    progress.end()
    if said.json:
        document({"keys": progress.keys, "bytes": progress.bytes, "seconds": round(progress.seconds, 3)})
    return Code.DONE


def _opened(part: Path, size: int) -> BinaryIO:
    """Open what there is of an export, cut off where the state ends. Raises Ended when there is less."""
    if size and not part.exists():
        raise Ended(f"{part} is gone; --restart begins anew", Code.REFUSED)
    file = part.open("r+b" if size else "wb")
    if os.fstat(file.fileno()).st_size < size:
        file.close()
        raise Ended(f"{part} has less than was written; --restart begins anew", Code.REFUSED)
    file.truncate(size)
    file.seek(size)
    return file


def _write(file: BinaryIO, clients: list[Client], state: State, states: StateFile, progress: Progress) -> None:
    kept = -inf  # so that the first page counts at once

    def keep() -> None:
        file.flush()
        os.fsync(file.fileno())
        if state.cursor is not None:
            states.keep(state)

    with closing(chunks(clients, state.prefix, state.cursor)) as coming:
        try:
            for one in coming:
                file.write(one.lines)
                # In one step, behind the write: an interruption may come between any two.
                state = State(state.cluster, state.prefix, one.cursor, state.bytes + len(one.lines), state.keys + one.keys)
                progress.add(one.keys, len(one.lines))
                if monotonic() - kept > _EVERY:
                    keep()
                    kept = monotonic()
        finally:
            keep()


def chunks(clients: list[Client], prefix: str, cursor: str | None) -> Generator[Chunk, None, None]:
    """Yield all lines from a cursor on, in their order; each client fetches in a thread of its own."""
    if len(clients) == 1:
        for page in clients[0].pages(prefix, raw=True, versions=False, cursor=cursor):
            yield Chunk(lines_of(page.items), len(page.items), page.cursor)
        return
    waiting: deque[_Job] = deque()
    idle: Queue[Client] = Queue()
    for client in clients:
        idle.put(client)
    ranges = ranges_of(clients[0].ask, prefix, cursor)
    while True:
        while len(waiting) < len(clients) and (range_ := next(ranges, None)) is not None:
            job = _Job(range_)
            waiting.append(job)
            Thread(target=_fetch, args=(idle, prefix, job), daemon=True).start()
        if not waiting:
            return
        job = waiting.popleft()
        while (found := job.chunks.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found


def _fetch(idle: "Queue[Client]", prefix: str, job: _Job) -> None:
    """Fetch a range."""
    client = idle.get()
    try:
        at, last = job.range.cursor, job.range.last
        while True:
            page = client.page(prefix, raw=True, versions=False, cursor=at)
            items = page.items
            is_end = page.cursor is None or (last is not None and bool(items) and items[-1].key >= last)
            if is_end and last is not None:
                items = [item for item in items if item.key <= last]
            job.chunks.put(Chunk(lines_of(items), len(items), job.range.then if is_end else page.cursor))
            if is_end:
                break
            at = page.cursor
        job.chunks.put(None)
    except Exception as error:  # noqa: BLE001 - it is raised where the chunks are awaited
        job.chunks.put(error)
    finally:
        idle.put(client)


def ranges_of(ask: Callable[[str], dict[str, object]], prefix: str, cursor: str | None) -> Iterator[Range]:
    """Yield ranges that have all keys with a prefix among them, those that are set meanwhile too."""
    while True:
        query = {"prefix": prefix, "limit": str(_KEYS)} | ({} if cursor is None else {"cursor": cursor})
        page = ask(f"/v1/kv?{urlencode(query)}")
        then, keys = page.get("cursor"), page.get("keys")
        if not isinstance(then, str) or not isinstance(keys, list) or not keys:
            yield Range(cursor, None, None)
            return
        yield Range(cursor, keys[-1], then)
        cursor = then


def lines_of(items: list[Item]) -> bytes:
    """Return items as lines."""
    return ("\n".join(map(line_of, items)) + "\n").encode() if items else b""
