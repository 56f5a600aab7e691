"""Listings with several copies of each key, by real processes that are killed, told to stop and paused: each page is complete,
or there is none, and a key that is there throughout is listed once.
"""

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.conftest import Program, System, wait_for
from tests.cluster.copies import Copies
from tests.linearizability.faults import Victim

LASTING = [f"k/{number % 7}/{number:04}" for number in range(0, 900, 3)]
FLEETING = [f"k/{number % 7}/{number:04}" for number in range(1, 900, 3)]
WITHIN = 5.0
"""Seconds after a kill within which pages are complete again, while other tests run beside it."""
CODES = {"unreachable", "timeout", "no-primary", "epoch", "overloaded"}

pytestmark = pytest.mark.promise("I2", "I20")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copies]:
    """Give four nodes with three copies of each key, so that each has keys of others, and has not all."""
    system = System(tmp_path_factory.mktemp("listing"))
    cluster = Copies.start(system, nodes=4)
    proxy = cluster.proxy.program
    wait_for(
        "all lasting keys", lambda: proxy.call("POST", "/set", [{"key": key, "value": 1} for key in LASTING]).status == 200
    )
    yield cluster
    system.end()


class Writers:
    """Clients that write and delete all the time, between the keys that last."""

    def __init__(self, cluster: Copies) -> None:
        self._stop = threading.Event()
        self.turns = 0
        self._threads = [threading.Thread(target=self._write, args=(cluster.proxy, number)) for number in range(2)]
        for thread in self._threads:
            thread.start()

    def _write(self, victim: Victim, number: int) -> None:
        for turn in itertools.count():
            some = FLEETING[number::2][turn % 10 :: 10]
            lasting = LASTING[number::2][turn % 20 :: 20]
            for path, items in (
                ("/set", [{"key": key, "value": turn} for key in some]),
                ("/set", [{"key": key, "value": turn} for key in lasting]),
                ("/delete", [{"key": key} for key in some]),
            ):
                victim.program.call("POST", path, items)
            self.turns += 1
            if self._stop.is_set():
                return

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def writers(cluster: Copies) -> Iterator[Writers]:
    writers = Writers(cluster)
    wait_for("writes", lambda: writers.turns > 2)
    yield writers
    begun = writers.turns
    wait_for("writes until the end", lambda: writers.turns > begun)
    writers.stop()


class Listing:
    """Whole listings by cursor, one after the other; pages that fail are asked for again, of anybody."""

    def __init__(self, programs: Callable[[], list[Program]], seed: int, limit: int, more: str = "") -> None:
        self._programs = programs
        self._chance = random.Random(seed)
        self._path = f"/v1/kv?prefix=k%2F&limit={limit}{more}"
        self.failed: list[tuple[float, int, str]] = []
        self.pages = 0

    def run(self) -> list[dict[str, Any]]:
        """Return the pages of one listing."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while not found or not found[-1]["complete"]:
            page = self._page(f"{self._path}{cursor}")
            if page is not None:
                found.append(page)
                cursor = f"&cursor={quote(page.get('cursor', ''))}"
                self.pages += 1
        return found

    def _page(self, path: str) -> dict[str, Any] | None:
        try:
            answer = self._chance.choice(self._programs()).call("GET", path, timeout=30)
        except OSError:  # it is one that was killed
            return None
        if answer.status == 200:
            page: dict[str, Any] = answer.json
            return page
        code = answer.json["type"].removeprefix("urn:gkv:problem:")
        assert (answer.status, code) in {(504 if one == "timeout" else 503, one) for one in CODES}, answer
        self.failed.append((time.monotonic(), answer.status, code))
        return None


def check(pages: list[dict[str, Any]]) -> None:
    keys = [key for page in pages for key in page["keys"]]
    assert keys == sorted(set(keys))
    assert set(keys) <= {*LASTING, *FLEETING}
    missing = set(LASTING).difference(keys)
    assert not missing, f"{len(missing)} of {len(LASTING)} are not listed: {sorted(missing)[:10]}"


def until_whole(cluster: Copies, listing: Listing) -> int:
    """List until all copies are there again; return how many listings that were."""
    for count in itertools.count(1):
        check(listing.run())
        if cluster.is_whole():
            return count
    raise AssertionError


def begin(cluster: Copies, seed: int, limit: int, more: str = "") -> Listing:
    return Listing(lambda: [victim.program for victim in cluster.victims if not victim.is_hit], seed, limit, more)


@pytest.mark.parametrize("limit", [37, 10_000])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to stop"])
def test_listing_while_a_node_goes_and_comes_back(
    cluster: Copies, writers: Writers, limit: int, number: int, everything: bool
) -> None:
    cluster.wait_whole()
    seed = limit + number
    node = cluster.nodes[seed % 4]
    listing = begin(cluster, seed, limit)
    check(listing.run())
    at = cluster.end(node, number)
    check(listing.run())
    cluster.wait_down(node)
    check(listing.run())
    cluster.start_again(node)
    count = until_whole(cluster, listing)
    late = [one for one in listing.failed if one[0] > at + WITHIN]
    print(f"{listing.pages} pages, {count} listings after the start; {len(listing.failed)} failed: {listing.failed}")
    assert not late or not everything  # where nothing else runs: each change of the document may cost a page else


def test_node_that_stood_still_lists_nothing_that_was_deleted_meanwhile(cluster: Copies) -> None:
    cluster.wait_whole()
    proxy, node = cluster.proxy.program, cluster.nodes[2]
    assert proxy.call("POST", "/set", [{"key": key, "value": 1} for key in FLEETING]).status == 200
    listing = begin(cluster, 7, 50)
    node.is_hit = True
    node.program.signal(signal.SIGSTOP)
    cluster.wait_down(node)
    check(listing.run())
    assert proxy.call("POST", "/delete", [{"key": key} for key in FLEETING]).status == 200
    node.program.signal(signal.SIGCONT)
    node.is_hit = False
    for found in (Listing(lambda: [node.program], 7, 50).run(), listing.run()):
        assert [key for page in found for key in page["keys"]] == sorted(LASTING)
    until_whole(cluster, listing)


@pytest.mark.parametrize("more", ["&values=1", "&meta=1", "&values=1&meta=1&versions=0"])
def test_listing_with_what_stands_beside_the_keys(cluster: Copies, writers: Writers, more: str) -> None:
    cluster.wait_whole()
    pages = begin(cluster, 3, 10_000, more).run()
    check(pages)
    beside = pages[0]["values" if "values" in more else "versions"]
    assert len(beside) == len(pages[0]["keys"])


def test_directories_are_listed_once_while_a_node_goes(cluster: Copies, writers: Writers) -> None:
    cluster.wait_whole()
    node = cluster.nodes[1]
    listing = begin(cluster, 5, 2, "&delimiter=%2F")
    cluster.end(node, signal.SIGKILL)
    for _ in range(3):
        found = [name for page in listing.run() for name in page["prefixes"]]
        assert found == [f"k/{number}/" for number in range(7)]
    cluster.start_again(node)
    cluster.wait_whole()
