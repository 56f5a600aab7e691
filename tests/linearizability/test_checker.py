"""The checker itself: what it accepts, what it refuses, what it shows, and that it agrees with a search by brute force."""

import dataclasses
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.linearizability.checker import check
from tests.linearizability.history import ABSENT, NEVER, PRESENT, Condition, Ending, Expiry, Kind, Operation, by_key
from tests.linearizability.register import MISSING, State, after
from tests.linearizability.search import GaveUp, Search

READ, PUT, DELETE, ADD, TOUCH = Kind
GONE, FAILED, WRONG, UNKNOWN, REFUSED = Ending.MISSING, Ending.CONDITION, Ending.WRONG_TYPE, Ending.UNKNOWN, Ending.REFUSED
IF_1, UNLESS_1 = Condition(("v1",)), Condition(("v1",), negated=True)


def op(call: float, back: float, kind: Kind, value: str | None = None, ending: Ending = Ending.DONE, **more) -> Operation:
    return Operation("k", kind, call, NEVER if ending is UNKNOWN else back, ending, value, **more)


def put(call: float, back: float, value: str, ending: Ending = Ending.DONE, **more) -> Operation:
    return op(call, back, PUT, value, ending, **more)


def read(call: float, back: float, value: str | None, **more) -> Operation:
    return op(call, back, READ, value, Ending.DONE if value else GONE, **more)


GOOD = {
    "empty": [],
    "read of nothing": [read(1, 2, None)],
    "old value during a write": [put(1, 2, "a"), put(3, 9, "b"), read(4, 5, "a")],
    "new value during a write": [put(1, 2, "a"), put(3, 9, "b"), read(4, 5, "b")],
    "two writes at once, either order": [put(1, 9, "a"), put(1, 9, "b"), read(10, 11, "a")],
    "unknown takes effect": [put(1, 2, "a"), put(3, 4, "b", UNKNOWN), read(5, 6, "b")],
    "unknown takes effect late": [put(1, 2, "a"), put(3, 4, "b", UNKNOWN), read(5, 6, "a"), put(7, 8, "c"), read(9, 10, "b")],
    "unknown never takes effect": [put(1, 2, "a"), put(3, 4, "b", UNKNOWN), read(5, 6, "a")],
    "unknown delete between": [put(1, 2, "a"), op(1, 2, DELETE, ending=UNKNOWN), put(3, 4, "b", existed=False)],
    "unseen unknown makes it exist": [put(1, 2, "a", UNKNOWN), put(3, 4, "b", existed=True)],
    "two unseen unknown ones": [
        *(put(1, 2, name, UNKNOWN) for name in "abc"),
        *(one for at in (3, 7) for one in (put(at, at + 1, f"p{at}", existed=True), op(at + 2, at + 3, DELETE))),
    ],
    "version learned from a read": [put(1, 2, "a"), read(3, 4, "a", version="v1"), put(5, 6, "b", condition=IF_1)],
    "version learned from a failure": [
        put(1, 2, "a"),
        put(3, 4, "b", FAILED, version="v1", condition=ABSENT),
        put(5, 6, "c", condition=IF_1),
    ],
    "any version for an unknown one": [put(1, 2, "a", UNKNOWN), put(3, 4, "b", condition=IF_1)],
    "condition fails on nothing": [put(1, 2, "a", FAILED, condition=PRESENT), put(3, 4, "b", FAILED, condition=IF_1)],
    "unless a version": [
        put(1, 2, "a", version="v1"),
        put(3, 4, "b", FAILED, version="v1", condition=UNLESS_1),
        put(5, 6, "c"),
        put(7, 8, "d", condition=UNLESS_1),
    ],
    "adds": [op(1, 5, ADD, "3", delta=1), op(2, 5, ADD, "2", delta=2), read(6, 7, "3")],
    "an unknown add between": [op(1, 2, ADD, ending=UNKNOWN, delta=5), op(3, 4, ADD, "6", delta=1)],
    "add to what is no integer": [put(1, 2, '"a"'), op(3, 4, ADD, ending=WRONG, delta=1)],
    "touch keeps the value": [
        put(1, 2, "a", version="v1"),
        op(3, 4, TOUCH, version="v2"),
        read(5, 6, "a", version="v2"),
    ],
    "touch of an unseen add, whose sum is seen later": [
        put(1, 2, "1"),
        op(2, 3, ADD, ending=UNKNOWN, delta=1),
        op(4, 5, TOUCH, version="v9"),
        op(6, 7, READ, version="v9"),
        read(8, 9, "2"),
        op(10, 11, READ, version="v9"),
    ],
    "expires in its time": [put(1, 2, "a", expiry=Expiry(5, 7)), read(3, 4, "a"), read(5, 6, None)],
    "may be found until its time": [put(1, 2, "a", expiry=Expiry(5, 7)), read(6.9, 9, "a")],
    "touched in time": [put(1, 2, "a", expiry=Expiry(5, 7)), op(3, 4, TOUCH), read(9, 10, "a")],
    "add keeps an expiry": [put(1, 2, "1", expiry=Expiry(5, 7)), op(3, 4, ADD, "2", delta=1), read(9, 10, None)],
    "refused is as if it had not been": [put(1, 2, "a"), put(3, 4, "b", REFUSED), read(5, 6, "a")],
    "there is some value": [put(1, 2, "a"), op(3, 4, READ)],
}

BAD = {
    "value of nobody": [read(1, 2, "a")],
    "lost write": [put(1, 2, "a"), read(3, 4, None)],
    "stale read": [put(1, 2, "a"), put(3, 4, "b"), read(5, 6, "a")],
    "value from the future": [read(1, 2, "a"), put(3, 4, "a")],
    "two readers disagree": [put(1, 9, "a"), put(1, 9, "b"), read(2, 3, "a"), read(4, 5, "b"), read(6, 7, "a")],
    "write applied twice": [put(1, 2, "a"), put(3, 4, "b"), read(5, 6, "b"), read(7, 8, "a")],
    "unknown applied twice": [
        put(1, 2, "a", UNKNOWN),
        read(3, 4, "a"),
        put(5, 6, "b"),
        read(7, 8, "a"),
        put(9, 10, "c"),
        read(11, 12, "a"),
    ],
    "delete undone": [put(1, 2, "a"), op(3, 4, DELETE), read(5, 6, "a")],
    "delete of nothing that was there": [put(1, 2, "a"), op(3, 4, DELETE, ending=GONE)],
    "two creators": [put(1, 9, "a", existed=False), put(1, 9, "b", existed=False)],
    "replaced what was not there": [put(1, 2, "a", existed=True)],
    "refused took effect": [put(1, 2, "a"), put(3, 4, "b", REFUSED), read(5, 6, "b")],
    "both of one version": [
        put(1, 2, "a", version="v1"),
        put(3, 9, "b", version="v2", condition=IF_1),
        put(3, 9, "c", version="v3", condition=IF_1),
    ],
    "condition fails and holds": [put(1, 2, "a", version="v1"), put(3, 4, "b", FAILED, version="v1", condition=IF_1)],
    "condition holds and fails": [put(1, 2, "a", version="v1"), put(3, 4, "b", condition=UNLESS_1)],
    "condition fails by an old version": [
        put(1, 2, "a", version="v1"),
        put(3, 4, "b", version="v2"),
        put(5, 6, "c", FAILED, version="v1", condition=ABSENT),
    ],
    "fails on nothing while there is something": [put(1, 2, "a"), put(3, 4, "b", FAILED, condition=PRESENT)],
    "version of another write": [put(1, 2, "a", version="v1"), put(3, 4, "b"), read(5, 6, "b", version="v1")],
    "another version without a write": [put(1, 2, "a"), read(3, 4, "a", version="v1"), read(5, 6, "a", version="v2")],
    "one version for two": [put(1, 2, "a", version="v1"), put(3, 4, "b", version="v1")],
    "version of what is gone": [put(1, 2, "a", version="v1"), op(3, 4, DELETE), op(5, 6, READ, version="v1")],
    "add lost": [op(1, 9, ADD, "1", delta=1), op(1, 9, ADD, "1", delta=1)],
    "add counted twice": [op(1, 2, ADD, "1", delta=1), read(3, 4, "2")],
    "unknown add counted twice": [op(1, 2, ADD, ending=UNKNOWN, delta=1), read(3, 4, "2")],
    "add to text": [put(1, 2, '"a"'), op(3, 4, ADD, "1", delta=1)],
    "integer of the wrong type": [put(1, 2, "7"), op(3, 4, ADD, ending=WRONG, delta=1)],
    "touch of nothing": [op(1, 2, TOUCH)],
    "expires too early": [put(1, 2, "a", expiry=Expiry(5, 7)), read(3, 4, None)],
    "found too late": [put(1, 2, "a", expiry=Expiry(5, 7)), read(8, 9, "a")],
    "comes back after its expiry": [put(1, 2, "a", expiry=Expiry(3, 9)), read(4, 5, None), read(6, 7, "a")],
    "expires after a touch": [put(1, 2, "a", expiry=Expiry(5, 7)), op(3, 4, TOUCH), read(5, 6, None)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_accepted(name: str) -> None:
    assert check(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_refused(name: str) -> None:
    assert [offence.key for offence in check(BAD[name])] == ["k"]


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_tables_agree_with_brute_force(name: str) -> None:
    assert by_brute_force((GOOD | BAD)[name]) is (name in GOOD)


def by_brute_force(operations: Sequence[Operation]) -> bool:
    """Return whether there is an order, by trying all."""
    versions = [one.version for one in operations if one.kind is not READ and one.ending is Ending.DONE and one.version]
    if len(set(versions)) < len(versions):
        return False
    told = dict.fromkeys(versions, operations[0]) if versions else {}
    values: dict[str, str] = {}
    for one in operations:
        if one.ending is Ending.DONE and one.version and one.value and values.setdefault(one.version, one.value) != one.value:
            return False

    def goes(left: tuple[Operation, ...], state: State) -> bool:
        until = min((one.back for one in left), default=NEVER)
        if until == NEVER:
            return True
        if state.expiry is not None and state.expiry.earliest <= until and goes(left, MISSING):
            return True
        for place, one in enumerate(left):
            then = after(state, one, told) if one.call <= until else None
            if then is not None and goes(left[:place] + left[place + 1 :], then):
                return True
        return False

    return goes(tuple(one for one in operations if one.ending is not REFUSED), MISSING)


class Sequential:
    """A key that does one thing after another, and says of each what it is told; written without the checker's rules."""

    def __init__(self, chance: random.Random, *, tells: float, unknown: float = 0.3) -> None:
        """`tells` is the part of what could be told that is, `unknown` that of the writes whose
        outcome is not.
        """
        self.chance = chance
        self.tells = tells
        self.unknown = unknown
        self.falls = chance.random() < 0.1
        """Whether something negative is added, too."""
        self.value: str | None = None
        self.version = ""
        self.expiry: Expiry | None = None
        self.made = 0

    def run(self, count: int, spread: float) -> Iterator[Operation]:
        """Yield operations that take effect at 10, 20 and so on, and are under way up to `spread` before and after."""
        for number in range(1, count + 1):
            point = number * 10.0
            call, back = point - self.chance.uniform(0, spread), point + self.chance.uniform(0, spread)
            if self.expiry is not None and (point >= self.expiry.latest or self.is_due(point)):
                self.value, self.expiry = None, None
            yield self.one(call, back)

    def is_due(self, point: float) -> bool:
        return self.expiry is not None and point >= self.expiry.earliest and self.chance.random() < 0.5

    def flip(self) -> bool:
        return self.chance.random() < self.tells

    def one(self, call: float, back: float) -> Operation:
        kind = self.chance.choice([READ, READ, PUT, PUT, DELETE, ADD, ADD, TOUCH])
        if kind is READ:
            return self.read(call, back)
        condition = self.chance.choice([None, None, PRESENT, ABSENT, self.some_versions()])
        expiry = None
        if kind is not DELETE and self.chance.random() < 0.3:
            life = self.chance.uniform(5, 40)
            expiry = Expiry(call + life, back + life + 5)
        is_unknown = self.chance.random() < self.unknown
        meant = Operation("k", kind, call, back, condition=condition, expiry=expiry)
        if kind is PUT:
            self.made += 1
            meant = dataclasses.replace(meant, value=self.chance.choice([f'"{self.made}"', str(self.made * 100)]))
        if kind is ADD:
            meant = dataclasses.replace(
                meant, delta=self.chance.choice([1, 2, 3, -1] if self.chance.random() < 0.1 else [1, 2])
            )
        if is_unknown:
            if self.chance.random() < 0.5:
                self.write(meant)
            latest = None if expiry is None else Expiry(expiry.earliest)
            return dataclasses.replace(meant, back=NEVER, ending=UNKNOWN, expiry=latest)
        return self.write(meant)

    def some_versions(self) -> Condition:
        version = self.chance.choice([self.version or "v0", "v0", f"v{self.made}"])
        return Condition((version, "v0")[: self.chance.randint(1, 2)], negated=self.chance.random() < 0.3)

    def read(self, call: float, back: float) -> Operation:
        if self.value is None:
            return Operation("k", READ, call, back, GONE)
        shown = self.value if self.flip() else None
        return Operation("k", READ, call, back, value=shown, version=self.version if self.flip() else None)

    def write(self, meant: Operation) -> Operation:
        """Do what is meant and return it with the answer."""
        there = self.value is not None
        if meant.condition is not None:
            matches = there and (not meant.condition.versions or self.version in meant.condition.versions)
            if matches is meant.condition.negated:
                return dataclasses.replace(meant, ending=FAILED, version=self.version if there else None)
        if meant.kind in (DELETE, TOUCH) and not there:
            return dataclasses.replace(meant, ending=GONE)
        is_number = self.value is None or not self.value.startswith('"')
        if meant.kind is ADD and not is_number:
            return dataclasses.replace(meant, ending=WRONG)
        self.made += 1
        self.version = f"v{self.made}"
        told = dataclasses.replace(meant, version=self.version if self.flip() else None)
        match meant.kind:
            case Kind.PUT:
                self.value, self.expiry = meant.value, meant.expiry
                return dataclasses.replace(told, existed=there if self.flip() else None)
            case Kind.DELETE:
                self.value, self.expiry = None, None
                return dataclasses.replace(told, version=None, existed=True if self.flip() else None)
            case Kind.TOUCH:
                self.expiry = meant.expiry
                return told
        self.value = str(int(self.value or 0) + meant.delta)
        self.expiry = meant.expiry or self.expiry
        return dataclasses.replace(told, value=self.value)


def mutated(operations: Sequence[Operation], chance: random.Random) -> list[Operation]:
    """Return a history in which one answer is another one, or one write has not been asked for."""
    place = chance.randrange(len(operations))
    one = operations[place]
    changes: list[dict[str, object]] = [
        {"version": chance.choice(["v0", "v1", "v2", "v3"])},
        {"existed": not one.existed},
        {"ending": chance.choice([Ending.DONE, GONE, FAILED, WRONG])},
    ]
    if one.kind is not PUT:
        changes.append({"value": chance.choice(["100", "1", "2", '"1"', '"2"', None])})
    changed = [] if one.ending is UNKNOWN or chance.random() < 0.2 else [dataclasses.replace(one, **chance.choice(changes))]
    return [*operations[:place], *changed, *operations[place + 1 :]]


seeds = st.integers(0, 2**63)


@settings(deadline=None, max_examples=100)
@given(seeds, st.integers(1, 40), st.floats(0, 30), st.floats(0.5, 1))
def test_what_one_key_did_in_order_is_accepted(seed: int, count: int, spread: float, tells: float) -> None:
    key = Sequential(random.Random(seed), tells=tells)
    assert check(key.run(count, spread)) == []


@settings(deadline=None, max_examples=300)
@example(210, 3, 0.0)  # a put of unknown outcome has taken the place of a value that was to expire
@given(seeds, st.integers(1, 7), st.floats(0, 40))
def test_mutations_are_judged_as_by_brute_force(seed: int, count: int, spread: float) -> None:
    chance = random.Random(seed)
    history = list(Sequential(chance, tells=chance.choice([0.5, 1])).run(count, spread))
    assert by_brute_force(history)
    for _ in range(4):
        other = mutated(history, chance)
        assert (check(other) == []) is by_brute_force(other)


@settings(deadline=None, max_examples=80)
@given(seeds, st.integers(5, 60))
def test_one_wrong_answer_of_many_is_found(seed: int, count: int) -> None:
    """With one client that is told everything, each answer is the only one that can be."""
    chance = random.Random(seed)
    key = Sequential(chance, tells=1)
    history = [one for one in key.run(count, 4) if one.ending is not UNKNOWN]
    key = Sequential(chance, tells=1)
    truth = []
    for one in history:  # done again without the unknown ones, and without expiry
        plain = dataclasses.replace(one, ending=Ending.DONE, version=None, existed=None, expiry=None)
        plain = dataclasses.replace(plain, value=one.value if one.kind is PUT else None)
        truth.append(key.read(one.call, one.back) if one.kind is READ else key.write(plain))
    assert check(truth) == []
    places = [place for place, one in enumerate(truth) if one.kind is READ]
    for place in places:
        seen = truth[place]
        wrong = (
            dataclasses.replace(seen, ending=GONE, value=None, version=None)
            if seen.ending is Ending.DONE
            else dataclasses.replace(seen, ending=Ending.DONE, value="777")
        )
        assert len(check([*truth[:place], wrong, *truth[place + 1 :]])) == 1


def test_ten_thousand_operations_on_fifty_keys_take_few_steps() -> None:
    steps = 0
    for seed in range(50):
        search = Search(list(Sequential(random.Random(seed), tells=0.9, unknown=0.04).run(200, 15)))
        assert search.run() is None
        steps += search.steps
    assert steps < 10_000 * 100


def test_a_search_that_takes_too_long_is_no_verdict() -> None:
    with pytest.raises(GaveUp):
        Search([put(1, 9, str(number)) for number in range(12)], max_steps=100).run()


def test_the_smallest_offence_is_shown_among_a_thousand_operations() -> None:
    history = list(Sequential(random.Random(7), tells=0.9, unknown=0.02).run(1_000, 6))
    lost = [
        put(20_001, 20_002, '"lost"', who="client 1"),
        put(20_003, 20_004, '"x"'),
        read(20_005, 20_006, '"lost"', who="client 2"),
    ]
    noise = [read(20_001.5, 20_003.5, '"lost"'), read(20_004.5, 20_007, '"x"'), op(20_004.5, 20_007, DELETE, ending=UNKNOWN)]
    (offence,) = check([*history, *lost, *noise])
    assert list(offence.operations)[-3:] == lost
    lines = list(offence.lines())
    assert len(lines) <= 5
    assert "client 1" in lines[-3]
    assert lines[-1].endswith('read -> "lost"')


def test_what_was_over_before_an_undisturbed_write_is_not_shown() -> None:
    """Each of the puts could explain the second delete, were its outcome unknown."""
    puts = [put(at, at + 1, f'"{at}"', existed=at > 2) for at in range(2, 40, 2)]
    deletes = [op(at, at + 1, DELETE, existed=True) for at in (50, 52)]
    (offence,) = check([*puts, *deletes])
    assert list(offence.operations) == deletes


def test_a_write_that_something_was_under_way_with_is_no_beginning() -> None:
    early, late = put(1, 2, '"early"'), put(5, 6, '"late"')
    reads = [read(4, 7, '"early"'), read(5.5, 9, '"late"'), read(10, 11, '"early"')]
    (offence,) = check([early, late, *reads])
    assert list(offence.operations) == [early, late, reads[-1]]


def test_a_refused_write_that_was_seen_is_shown() -> None:
    (offence,) = check(BAD["refused took effect"])
    assert [one.value for one in offence.operations] == ["a", "b", "b"]


def test_keys_are_judged_apart() -> None:
    history = [dataclasses.replace(one, key=f"{number}") for number in range(3) for one in BAD["stale read"]]
    assert sorted(by_key(history)) == ["0", "1", "2"]
    assert [offence.key for offence in check(history)] == ["0", "1", "2"]
