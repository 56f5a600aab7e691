"""The one order of a key's writes at its node: what reads take and wait for, what conditions see, what is due.

A real store whose commit the test holds: before it is made, or after others can see it and before it is certainly on the disk.
"""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from gkv.cluster.document import Durability, State
from gkv.cluster.view import View
from gkv.engine import Commits, LmdbEngine
from gkv.errors import EngineFailed, EngineFull
from gkv.model import Blob, Damage, Node, NodeRefusal, Version, Write
from gkv.net.call import ask_all
from gkv.node.due_clock import DueClock
from gkv.node.handler import NotAdmitted
from gkv.node.order import Order
from gkv.node.service import Service
from gkv.node.sweeper import Sweeper
from gkv.ring import tokens
from gkv.wire.ops import (
    Add,
    Delete,
    Effects,
    Fetch,
    FetchItems,
    Get,
    ItemRow,
    ItemRows,
    ListKeys,
    NodeAnswer,
    NodeRequest,
    Page,
    Put,
    Records,
    Refused,
    Set,
    Touch,
    Values,
)
from tests.documents import changed, document
from tests.eventually import eventually
from tests.frames import answer_to

DOCUMENT = document([Node("n1", "http://127.0.0.1:9000")])
ABOUT = (DOCUMENT.cluster, DOCUMENT.era)


class Store(LmdbEngine):
    """A store whose commits the test holds, or makes fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "n1", tokens, cache=1 << 20)
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.before = True
        self.held = 0
        self.errors: list[Exception] = []

    def write(self, writes: Any, now: int, syncing: Any = lambda: None) -> Any:
        error = self.errors.pop(0) if self.errors else None
        if self.before:
            self._hold()
        if error is not None:
            raise error
        done = super().write(writes, now, syncing)
        if not self.before:
            self._hold()
        return done

    def damage(self, key: str) -> None:
        """Flip a bit of the value of a key."""
        with self._environment.begin(write=True) as txn:
            [address] = self._addresses([key])
            data = bytearray(txn.get(address))
            data[-5] ^= 0x10
            txn.put(address, bytes(data))
        self._cache = type(self._cache)(1 << 20)

    def _hold(self) -> None:
        self.held += not self.goes_on.is_set()
        assert self.goes_on.wait(20)


class Clock(DueClock):
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_700_000_000_000

    def now(self) -> int:
        return self.time


class House:
    """A node, without its application."""

    def __init__(self, path: Path, durability: Durability = Durability.SYNC) -> None:
        self.store = Store(path)
        self.clock = Clock()
        self.view = View()
        self.commits = Commits(self.store, tombstone_ttl=60_000)
        self.order = Order(self.view, self.store, self.commits, self.clock)
        self.service = Service("n1", self.view, self.store, self.commits, self.order)
        self.sweeper = Sweeper("n1", self.view, self.store, self.order)
        assert self.service.adopt(replace(DOCUMENT, durability=durability))

    def ask(self, request: NodeRequest) -> Any:
        [frame] = self.service.answer([request.write()])
        return answer_to(request, frame)

    def begin(self, request: NodeRequest) -> "gevent.Greenlet[[], NodeAnswer]":
        """Ask in a greenlet, and go on when the node has admitted it."""
        asked = gevent.spawn(self.ask, request)
        gevent.sleep(0)
        return asked

    def get(self, *keys: str) -> list[Any]:
        values = self.ask(Get(*ABOUT, list(keys)))
        assert isinstance(values, Values)
        return list(values.values)

    def hold(self, *, before: bool = True) -> None:
        """Hold the next commits; one of another key is under way when this returns."""
        self.store.before = before
        self.store.goes_on.clear()
        held = self.store.held
        self.begin(Set(*ABOUT, ["under way"], [b"0"]))
        eventually(lambda: self.store.held > held)

    def close(self) -> None:
        self.store.errors.clear()
        self.store.goes_on.set()
        self.commits.close()
        assert self.order.unsettled.check() == []
        assert not self.order.unsettled.newest
        assert self.store.check() == []
        self.store.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "n1")
    yield house
    house.close()


READS = {
    "get": lambda house: house.begin(Get(*ABOUT, ["a"])),
    "get of many": lambda house: house.begin(Get(*ABOUT, ["a", *[f"x{i}" for i in range(600)]])),
    "fetch": lambda house: house.begin(Fetch(*ABOUT, ["a"])),
    "fetch of items": lambda house: house.begin(FetchItems(*ABOUT, ["a"])),
    "fetch of many items": lambda house: house.begin(FetchItems(*ABOUT, ["a", *[f"x{i}" for i in range(600)]])),
    "list": lambda house: house.begin(ListKeys(*ABOUT, "a", "", 10)),
    "list of many": lambda house: house.begin(ListKeys(*ABOUT, "a", "", 5_000)),
}


def seen(answer: NodeAnswer) -> bytes | bool | None:
    """Return the value of the key a that was read, or whether it was listed."""
    if isinstance(answer, Values):
        return answer.values[0]  # type: ignore[return-value]
    if isinstance(answer, Records):
        return answer.records[0] and answer.records[0].value  # type: ignore[union-attr, return-value]
    if isinstance(answer, ItemRows):
        row = answer.rows[0]
        return row.value if isinstance(row, ItemRow) else row  # type: ignore[return-value]
    assert isinstance(answer, Page), answer
    return answer.keys == ["a"]


@pytest.mark.promise("I19")
@pytest.mark.parametrize("before", [True, False], ids=["before the commit", "while others see it"])
@pytest.mark.parametrize("read", READS)
def test_read_takes_the_newest_and_waits_until_that_is_on_disk(house: House, read: str, before: bool) -> None:
    house.ask(Set(*ABOUT, ["a"], [b"1"]))
    house.store.before = before
    house.store.goes_on.clear()
    writer = house.begin(Set(*ABOUT, ["a"], [b"2"]))
    eventually(lambda: house.store.held)
    reader = READS[read](house)
    assert house.get("x") == [None], "others' readers wait for nothing"
    gevent.sleep(0.02)
    assert not reader.ready()
    house.store.goes_on.set()
    assert seen(reader.get(timeout=10)) in (b"2", True)
    assert writer.get(timeout=10).letters == "r"


@pytest.mark.promise("I19")
@pytest.mark.parametrize("read", READS)
def test_read_of_a_key_that_is_always_being_written_waits_for_one_write_alone(house: House, read: str) -> None:
    house.hold()
    house.begin(Set(*ABOUT, ["a"], [b"1"]))
    reader = READS[read](house)
    gevent.sleep(0)
    written = iter(range(2, 10_000))
    house.store.goes_on.set()
    until = monotonic() + 10
    while not reader.ready():
        assert monotonic() < until, "it starves"
        house.begin(Set(*ABOUT, ["a"], [b"%d" % next(written)]))
        gevent.sleep(0.001)
    assert seen(reader.get()) in (b"1", True), "it has taken what was the newest when it came"


def test_read_takes_a_delete_that_is_on_its_way(house: House) -> None:
    house.ask(Set(*ABOUT, ["a"], [b"1"]))
    house.hold()
    house.begin(Delete(*ABOUT, ["a"]))
    readers = [READS[read](house) for read in READS]
    house.store.goes_on.set()
    assert [seen(reader.get(timeout=10)) for reader in readers] == [None, None, None, None, None, False, False]


def test_listing_has_what_is_on_its_way_in_order_and_goes_on_behind_it(house: House) -> None:
    house.ask(Set(*ABOUT, ["a", "c", "e", "g"], [b"1"] * 4))
    house.hold()
    house.begin(Set(*ABOUT, ["b", "f"], [b"1"] * 2))
    house.begin(Delete(*ABOUT, ["c", "e"]))
    pages = [house.begin(ListKeys(*ABOUT, "", begin, 2)) for begin in ("", "c", "g")]
    house.store.goes_on.set()
    assert [page.get(timeout=10).keys for page in pages] == [["a", "b"], ["f", "g"], ["g", "under way"]]


def test_read_of_a_write_that_is_refused_takes_what_was_there_before(house: House) -> None:
    house.ask(Set(*ABOUT, ["a"], [b"1"]))
    house.hold()
    house.store.errors = [EngineFull("full")]
    refused = house.begin(Set(*ABOUT, ["a"], [b"2"]))
    readers = [READS[read](house) for read in READS]
    house.store.goes_on.set()
    assert refused.get(timeout=10) == Refused(NodeRefusal.FULL)
    assert [seen(reader.get(timeout=10)) for reader in readers] == [*[b"1"] * 5, True, True]


def test_read_that_is_made_anew_keeps_within_its_room(house: House) -> None:
    keys = list("abcdefgh")
    house.ask(Set(*ABOUT, keys, [b"1" * 400_000] * len(keys)))
    house.hold()
    house.store.errors = [EngineFull("full")]
    house.begin(Set(*ABOUT, keys, [b"2"] * len(keys)))
    reader = house.begin(Get(*ABOUT, keys))
    house.store.goes_on.set()
    assert reader.get(timeout=10) == Refused(NodeRefusal.BUSY)
    assert house.get(*keys) == [b"1" * 400_000] * len(keys), "then there is nothing on its way, and it is read in steps"


def test_read_of_a_write_of_which_nobody_knows_whether_it_is_on_disk_fails(house: House) -> None:
    house.hold()
    house.store.errors = [EngineFailed("EIO")]
    house.begin(Set(*ABOUT, ["a"], [b"2"]))
    reader = house.begin(Get(*ABOUT, ["a"]))
    house.store.goes_on.set()
    assert reader.get(timeout=10) == Refused(NodeRefusal.FAILED)


def test_async_set_is_read_before_it_is_on_disk_and_what_can_be_refused_is_not(tmp_path: Path) -> None:
    house = House(tmp_path / "n1", Durability.ASYNC)
    house.hold()
    assert house.ask(Set(*ABOUT, ["a"], [b"1"])).letters == "a"
    assert house.get("a") == [b"1"]
    assert house.ask(ListKeys(*ABOUT, "a", "", 9)) == Page(["a"])
    house.begin(Put(*ABOUT, ["b"], [b"1"]))
    reader = house.begin(Get(*ABOUT, ["b"]))
    gevent.sleep(0.01)
    assert not reader.ready()
    house.close()
    assert reader.get(timeout=10) == Values([b"1"])


# -- conditions, additions, touches


def test_conditions_are_decided_key_by_key_on_what_is_there(house: House) -> None:
    first = house.ask(Set(*ABOUT, ["a", "b"], [b"1", b"1"])).version
    second = house.ask(Set(*ABOUT, ["b"], [b"2"])).version
    conditions = [f"={first}", f"={first}", "!*", "=*", None]
    answer = house.ask(Set(*ABOUT, ["a", "b", "c", "d", "e"], [b"9"] * 5, (), conditions))
    assert (answer.letters, answer.present) == ("rxcxc", [second, None])
    assert answer.version > second
    assert house.get("a", "b", "c", "d", "e") == [b"9", b"2", b"9", None, b"9"]
    deleted = house.ask(Delete(*ABOUT, ["a", "b"], [f"={first}", f"={second}"]))
    assert (deleted.letters, deleted.present) == ("xr", [answer.version])
    nothing = house.ask(Delete(*ABOUT, ["b"], ["=*"]))
    assert (nothing.letters, nothing.version, nothing.present) == ("x", None, [None])


def test_conditions_see_what_is_on_its_way(house: House) -> None:
    house.hold()
    creators = [house.begin(Put(*ABOUT, ["a"], [b"%d" % i], (), ["!*"])) for i in range(10)]
    gevent.sleep(0.01)
    assert not any(creator.ready() for creator in creators), "who fails has read what is not on disk yet"
    house.store.goes_on.set()
    answers = [creator.get(timeout=10) for creator in creators]
    assert [answer.letters for answer in answers] == ["c"] + ["x"] * 9
    assert [answer.present for answer in answers[1:]] == [[answers[0].version]] * 9
    assert house.get("a") == [b"0"]


def test_write_that_was_decided_on_a_refused_one_is_not_done(house: House) -> None:
    house.hold()
    house.store.errors = [EngineFull("full")]
    first = house.begin(Set(*ABOUT, ["a"], [b"1"]))
    fails_by_it = house.begin(Set(*ABOUT, ["a"], [b"2"], (), ["!*"]))
    on_it = house.begin(Delete(*ABOUT, ["a"], ["=*"]))
    house.store.goes_on.set()
    assert first.get(timeout=10) == Refused(NodeRefusal.FULL)
    assert on_it.get(timeout=10) == Refused(NodeRefusal.BUSY)
    assert fails_by_it.get(timeout=10).letters == "c", "it was decided anew"
    assert house.get("a") == [b"2"]


def test_additions_follow_each_other_before_they_are_on_disk(house: House) -> None:
    house.hold()
    asked = [house.begin(Add(*ABOUT, ["n", "m"], [1, -2])) for _ in range(20)]
    house.store.goes_on.set()
    answers = [one.get(timeout=10) for one in asked]
    assert [answer.sums for answer in answers] == [[i, -2 * i] for i in range(1, 21)]
    assert len({answer.version for answer in answers}) == 20
    assert house.get("n", "m") == [b"20", b"-40"]


def test_addition_that_cannot_be_is_told_and_changes_nothing(house: House) -> None:
    values = [b'"7"', b"null", b"1.5", b"999999999999999999", Blob(b"7", "a/b")]
    keys = list("abcde")
    version = house.ask(Set(*ABOUT, keys, values)).version
    answer = house.ask(Add(*ABOUT, keys, [1] * 5))
    assert (answer.letters, answer.version, answer.sums) == ("wwwow", None, ())
    assert [record.version for record in house.store.records_of(keys)] == [version] * 5  # type: ignore[union-attr]


def test_addition_keeps_an_expiry_or_gives_another(house: House) -> None:
    now = house.clock.time
    house.ask(Set(*ABOUT, ["a", "b", "c"], [b"1"] * 3, [60_000, 60_000, 60_000]))
    house.ask(Add(*ABOUT, ["a"], [1]))
    house.ask(Add(*ABOUT, ["b", "c"], [1, 1], [5_000, 0]))
    found = house.store.records_of(["a", "b", "c"])
    assert [record.expires for record in found] == [now + 60_000, now + 5_000, 0]  # type: ignore[union-attr]


def test_touch_keeps_the_value_and_makes_a_new_version(house: House) -> None:
    now = house.clock.time
    blob = Blob(b"x", "a/b")
    first = house.ask(Set(*ABOUT, ["a", "b"], [b"1", blob], [60_000, 0])).version
    answer = house.ask(Touch(*ABOUT, ["a", "b", "c"], [0, 7_000, 5]))
    assert answer.letters == "rrm"
    found = house.store.records_of(["a", "b", "c"])
    assert [(record.value, record.expires) for record in found[:2]] == [(b"1", 0), (blob, now + 7_000)]  # type: ignore[union-attr]
    assert found[2] is None
    assert answer.version > first


def test_damaged_record_is_said_to_be_that_for_its_key_alone_and_decides_nothing(house: House) -> None:
    house.ask(Set(*ABOUT, ["a", "b"], [b"1", b"1"]))
    house.store.damage("a")
    answer = house.ask(Set(*ABOUT, ["a", "b", "c"], [b"9"] * 3, (), ["!*", "!*", "!*"]))
    assert (answer.letters, len(answer.present)) == ("nxc", 1)
    for request in (
        Delete(*ABOUT, ["a", "c"], [f"={Version(1, 1)}", f"={answer.version}"]),
        Add(*ABOUT, ["a", "c"], [5, 5]),
        Touch(*ABOUT, ["a", "c"], [0, 0]),
    ):
        assert house.ask(request).letters in ("nr", "nc")
    assert house.get("a", "b") == [Damage.DAMAGED, b"1"]
    assert house.ask(Put(*ABOUT, ["a"], [b"2"])).letters == "d"
    assert house.get("a", "c") == [b"2", b"5"]


@pytest.mark.parametrize("text", ["", "*", "=", "=x", "= *", "=*  =*", f"={'0' * 31}", f"=*,{'0' * 32}"])
def test_condition_that_makes_no_sense_is_no_frame(house: House, text: str) -> None:
    assert house.ask(Set(*ABOUT, ["a"], [b"1"], (), [text])).reason is NodeRefusal.BAD_FRAME
    assert house.get("a") == [None]


def test_get_with_meta_is_answered_as_a_fetch(house: House) -> None:
    version = house.ask(Set(*ABOUT, ["a"], [b"1"])).version
    frame = Get(*ABOUT, ["a", "x"]).write()[:-2] + b',"meta":true}\n'
    [answer] = house.service.answer([frame])
    records = answer_to(Fetch(*ABOUT, ["a", "x"]), answer)
    assert records.records[0].version == version
    assert records.records[1] is None


# -- expiry


@pytest.mark.promise("I3")
@pytest.mark.parametrize("read", READS)
def test_read_of_what_is_due_waits_for_its_tombstone(house: House, read: str) -> None:
    house.ask(Set(*ABOUT, ["a", "ab"], [b"1", b"2"], [60_000, 0]))
    if read.startswith("list"):
        house.ask(Delete(*ABOUT, ["ab"]))
    house.clock.time += 60_000
    house.hold()
    reader = READS[read](house)
    gevent.sleep(0.02)
    assert not reader.ready()
    house.clock.time -= 120_000  # whatever the clock says later
    house.store.goes_on.set()
    assert seen(reader.get(timeout=10)) in (None, False)
    assert house.store.records_of(["a"])[0].value is None  # type: ignore[union-attr]
    assert house.get("a") == [None]


def test_value_that_becomes_due_on_its_way_expires_in_its_turn(house: House) -> None:
    house.hold()
    house.begin(Set(*ABOUT, ["a"], [b"1"], [5]))
    house.clock.time += 5
    reader = house.begin(Get(*ABOUT, ["a"]))
    house.store.goes_on.set()
    assert reader.get(timeout=10) == Values([None])


@pytest.mark.parametrize(
    ("request_", "letters", "value"),
    [
        (Set(*ABOUT, ["a"], [b"2"]), "c", b"2"),
        (Set(*ABOUT, ["a"], [b"2"], (), ["!*"]), "c", b"2"),
        (Set(*ABOUT, ["a"], [b"2"], (), ["=*"]), "x", None),
        (Delete(*ABOUT, ["a"]), "u", None),
        (Delete(*ABOUT, ["a"], ["=*"]), "x", None),
        (Add(*ABOUT, ["a"], [5]), "c", b"5"),
        (Touch(*ABOUT, ["a"], [0]), "m", None),
    ],
)
def test_write_of_what_is_due_finds_nothing_there(house: House, request_: Any, letters: str, value: bytes | None) -> None:
    house.ask(Set(*ABOUT, ["a"], [b"1"], [60_000]))
    house.clock.time += 60_000
    answer = house.ask(request_)
    assert (answer.letters, answer.version is None) == (letters, letters in "xm")
    house.clock.time -= 60_000
    assert house.get("a") == [value], "what has expired does not come back"


def test_sweeper_expires_what_is_due_and_nothing_that_has_been_written_since(house: House) -> None:
    keys = [f"k{i:03}" for i in range(450)]
    house.ask(Set(*ABOUT, keys, [b"1"] * 450, [60_000] * 449 + [90_000]))
    assert house.sweeper.sweep() == 0
    house.clock.time += 60_000
    house.hold()
    house.begin(Set(*ABOUT, keys[:1], [b"2"]))
    sweeping = gevent.spawn(lambda: [house.sweeper.sweep() for _ in range(4)])
    gevent.sleep(0.01)
    house.store.goes_on.set()
    assert sum(sweeping.get(timeout=10)) >= 448
    assert house.store.live == 3
    assert house.get(keys[0], keys[1], keys[-1]) == [b"2", None, b"1"]


@pytest.mark.parametrize("read", ["values", "records"])
def test_nothing_expires_under_a_document_that_is_no_longer_in_force(house: House, read: str) -> None:
    house.ask(Set(*ABOUT, ["a"], [b"1"], [60_000]))
    house.clock.time += 60_000
    with pytest.raises(NotAdmitted, match="the cluster has changed") as refused:
        getattr(house.order, read)(["a"], DOCUMENT.era - 1)
    assert refused.value.refusal == Refused(NodeRefusal.STALE, DOCUMENT.to_json())
    assert house.store.records_of(["a"])[0].value == b"1"  # type: ignore[union-attr]


def test_read_that_meets_what_is_due_after_the_document_has_changed_is_routed_anew(house: House) -> None:
    house.ask(Set(*ABOUT, ["a"], [b"1"], [60_000]))
    house.clock.time += 60_000
    house.hold()
    house.store.errors = [EngineFull("full")]
    house.begin(Set(*ABOUT, ["a"], [b"2"]))
    reader = house.begin(Get(*ABOUT, ["a"]))
    newer = changed(DOCUMENT)
    assert house.service.adopt(newer)
    house.store.goes_on.set()
    assert reader.get(timeout=10) == Refused(NodeRefusal.STALE, newer.to_json())


DUE = ["k1", "k2", "k3"]


@pytest.mark.promise("I16")
@pytest.mark.parametrize("line", [{"incarnation": 9}, {"state": State.DOWN}, {"state": State.FILLING, "empty": True}])
def test_process_that_does_not_act_writes_nothing_not_even_a_tombstone(house: House, line: dict[str, Any]) -> None:
    house.ask(Set(*ABOUT, DUE, [b"1"] * 3, [60_000] * 3))
    house.clock.time += 60_000
    commits = house.commits.figures().commits
    newer = replace(changed(DOCUMENT), members=(replace(DOCUMENT.members[0], **line),))
    assert house.service.adopt(newer)
    assert house.sweeper.sweep() == 0, "so it pauses"
    for write in (lambda: house.order.expire(DUE, newer.era), lambda: house.order.submit(newer.era, ["a"], [b"1"], now=1)):
        with pytest.raises(NotAdmitted) as refused:
            write()
        assert refused.value.refusal == Refused(NodeRefusal.NOT_ACTING)
    assert house.commits.figures().commits == commits


def with_another(house: House, *keys: str) -> tuple[list[str], list[str]]:
    """Have another member share the ring; return those of keys that are the house's, and the other's."""
    nodes = [Node("n1", "http://127.0.0.1:9000"), Node("n2", "http://127.0.0.1:9001")]
    assert house.service.adopt(document(nodes, epoch=DOCUMENT.epoch + 1))
    placement = house.view.placement
    assert placement is not None
    mine = [key for key in keys if placement.ring.owner(key).id == "n1"]
    return mine, [key for key in keys if key not in mine]


def test_listing_passes_over_the_keys_of_others_that_are_here_still(house: House) -> None:
    keys = [f"k{number:02}" for number in range(60)]
    house.ask(Set(*ABOUT, keys, [b"1"] * 60))
    mine, others = with_another(house, *keys)
    assert min(len(mine), len(others)) > 10
    about = (DOCUMENT.cluster, DOCUMENT.era + 1)
    assert house.ask(ListKeys(*about, "k", "", 99)) == Page(mine)
    house.store.goes_on.clear()
    house.begin(Set(*about, [mine[0], others[0]], [b"2", b"2"]))
    listing = house.begin(ListKeys(*about, "k", "", 99))
    house.store.goes_on.set()
    assert listing.get(timeout=10) == Page(mine)


def test_sweeper_finds_its_own_beside_many_of_others(house: House) -> None:
    keys = [f"k{number:04}" for number in range(2_400)]
    house.ask(Set(*ABOUT, keys, [b"1"] * len(keys), [60_000] * len(keys)))
    mine, others = with_another(house, *keys)
    times = [house.clock.time + (60_000 if key in others else 61_000) for key in keys]
    house.commits.submit(Write(Version(DOCUMENT.era, 99), keys, [b"2"] * len(keys), times)).wait(monotonic() + 10)
    house.clock.time += 62_000
    assert house.sweeper.sweep() > 0
    while house.sweeper.sweep():
        pass
    found = house.store.records_of(keys)
    assert [key for key, one in zip(keys, found, strict=True) if one.value is None] == mine  # type: ignore[union-attr]


def test_value_that_is_due_and_cannot_expire_is_neither_shown_nor_missing(house: House) -> None:
    house.ask(Set(*ABOUT, ["a"], [b"1"], [60_000]))
    house.clock.time += 60_000
    house.store.errors = [EngineFull("full")]
    assert house.get("a") == [None], "it was tried again"
    house.ask(Set(*ABOUT, ["b"], [b"1"], [60_000]))
    house.clock.time += 60_000
    house.store.errors = [EngineFull("full")] * 3
    assert house.ask(Get(*ABOUT, ["b"])) == Refused(NodeRefusal.BUSY), "nothing is said of it that is not on the disk"
    assert house.get("b") == [None]


# -- faults


def gathered(house: House, *requests: NodeRequest) -> list[NodeAnswer]:
    frames = house.service.answer([request.write() for request in requests])
    return [answer_to(request, frame) for request, frame in zip(requests, frames, strict=True)]


@pytest.mark.promise("I4")
@pytest.mark.parametrize("key", ["", "k" * 500])
@pytest.mark.parametrize("durability", Durability)
def test_frame_with_a_key_that_cannot_be_is_refused_alone(tmp_path: Path, key: str, durability: Durability) -> None:
    house = House(tmp_path / "n1", durability)
    bad = [Set(*ABOUT, ["x", key], [b"1", b"1"]), Delete(*ABOUT, [key]), Add(*ABOUT, [key], [1]), Touch(*ABOUT, [key], [0])]
    answers = gathered(house, *bad, Put(*ABOUT, ["a"], [b"1"]), Get(*ABOUT, [key, "x"]))
    assert [answer.reason for answer in answers[:4] if isinstance(answer, Refused)] == [NodeRefusal.BAD_FRAME] * 4
    assert (answers[4].letters, answers[5]) == ("c", Values([None, None]))  # type: ignore[attr-defined]
    house.close()


FAULT = RuntimeError("a fault")


def test_fault_in_the_handling_of_one_frame_leaves_the_others_their_answers_and_is_said_once(
    house: House, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_any: object) -> Any:
        raise FAULT

    house.ask(Set(*ABOUT, ["b"], [b"1"]))
    house.store.errors = [FAULT, FAULT]  # the group, and then the first of it alone
    monkeypatch.setattr(house.store, "keys", broken)
    monkeypatch.setattr(house.order, "newest", broken)
    failed = Refused(NodeRefusal.FAILED)
    requests = [Set(*ABOUT, ["a"], [b"1"]), Put(*ABOUT, ["a"], [b"2"]), ListKeys(*ABOUT, "", "", 9), Add(*ABOUT, ["a"], [1])]
    answers = gathered(house, *requests, Get(*ABOUT, ["b"]))
    assert (answers[0], answers[2], answers[3], answers[4]) == (failed, failed, failed, Values([b"1"]))
    assert answers[1].letters == "c"  # type: ignore[attr-defined]
    monkeypatch.setattr(house.store, "read", broken)
    assert gathered(house, Get(*ABOUT, ["b"]), Put(*ABOUT, ["c"], [b"1"]))[0] == failed
    # This process's own coordinator hears of it at once, where it asks at once, and its client is answered 500.
    for request in (Get(*ABOUT, ["b"]), Add(*ABOUT, ["a"], [1])):
        with pytest.raises(RuntimeError, match="a fault"):
            ask_all([(house.service, request.write())], monotonic() + 10)
    [reply] = ask_all([(house.service, ListKeys(*ABOUT, "", "", 5_000).write())], monotonic() + 10)
    assert answer_to(request, reply.frame) == failed
    assert capfd.readouterr().err.count("a frame could not be answered") == 1


def test_effects_tell_of_deletes_and_sets_in_their_order(house: House) -> None:
    house.hold()
    asked = [
        house.begin(one)
        for one in (Put(*ABOUT, ["a"], [b"1"]), Delete(*ABOUT, ["a"]), Delete(*ABOUT, ["a"]), Put(*ABOUT, ["a"], [b"2"]))
    ]
    house.store.goes_on.set()
    answers = [one.get(timeout=10) for one in asked]
    assert [answer.letters for answer in answers if isinstance(answer, Effects)] == ["c", "r", "u", "c"]
