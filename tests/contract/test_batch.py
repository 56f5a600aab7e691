"""What every router of batches promises, checked on the pure and on the native twin.

What is expected is written here, from the formats alone: json reads and writes it, the ring says who owns a key. For bodies
that are refused the pure twin is the definition, and `tests/unit/wire` says what it must answer; here both must say the same.
"""

import json
import os
import random
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gkv import native
from gkv.errors import GkvError, InvalidItem, SyntaxProblem, TooLarge
from gkv.model import Blob, Damage, KeyFailure, Node, era_of
from gkv.ring import Ring
from gkv.ring._pure import PureRing
from gkv.wire import client, shown
from gkv.wire.batch import Batch, Part, PartResult, PureRouter, failures
from gkv.wire.client import ItemReader, Limits
from gkv.wire.ops import Delete, KeyRequest, Set, read_request
from gkv.wire.shown import KeyAnswer
from gkv.wire.strict import no_pause
from tests.contract.bodies import BORDER_NUMBERS, BROKEN_UTF8, WRONG_LITERALS, WRONG_NUMBERS, WRONG_STRINGS, Bodies

if native.extension is not None:
    from gkv.ring._native import NativeRing
    from gkv.wire import _native
    from gkv.wire._native import NativeRouter

CLUSTER = "5f1c"
EPOCH = 7
ERA = era_of(1, EPOCH)
LIMITS = Limits()
FIVE = [Node(f"n{i}", f"http://127.0.0.1:{9000 + i}") for i in range(5)]
VNODES = 16

FUZZ_SEED = int(os.environ.get("GKV_FUZZ_SEED", "8259"))
FUZZ_CASES = int(os.environ.get("GKV_FUZZ_CASES", "12000"))

needs_native = pytest.mark.skipif(native.extension is None, reason=f"no native twin: {native.why_not}")


# --- the twins -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Twin:
    name: str
    ring: type[Ring]
    router: type[PureRouter]

    def over(self, nodes: Iterable[Node] = FIVE, limits: Limits = LIMITS, era: int = ERA) -> PureRouter:
        return self.router(self.ring(nodes, VNODES), CLUSTER, era, limits)


def read(router: PureRouter, op: str, body: bytes, pause: Callable[[], object] = no_pause) -> Batch:
    return router.read(op, body, pause)


def twins() -> list[Twin]:
    """Return those that can run here."""
    both = [Twin("pure", PureRing, PureRouter)]
    if native.extension is not None:
        both.append(Twin("native", NativeRing, NativeRouter))
    return both


@pytest.fixture(params=["pure", "native"], scope="module")
def twin(request: pytest.FixtureRequest) -> Twin:
    found = {twin.name: twin for twin in twins()}
    if request.param not in found:
        pytest.skip(f"no native twin: {native.why_not}")
    return found[request.param]


@pytest.fixture(scope="module")
def router(twin: Twin) -> PureRouter:
    return twin.over()


# --- the definition --------------------------------------------------------------------------------------------------

RING = PureRing(FIVE, VNODES)


def frame_by_definition(op: str, epoch: int, keys: Sequence[str], values: Sequence[bytes], ttls: Sequence[int] = ()) -> bytes:
    header: dict[str, Any] = {"op": op, "cluster": CLUSTER, "generation": 1, "epoch": epoch, "keys": list(keys)}
    if ttls:
        header["ttls"] = list(ttls)
    if op == "set":
        header["sizes"] = [len(value) for value in values]
    return json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" + b"".join(values)


def parts_by_definition(
    op: str,
    keys: Sequence[str],
    values: Sequence[bytes],
    positions: Iterable[int],
    ring: Ring = RING,
    epoch: int = EPOCH,
    ttls: Sequence[int] = (),
) -> list[tuple[Node, list[int], bytes]]:
    places: dict[Node, list[int]] = {}
    for position in positions:
        places.setdefault(ring.owner(keys[position]), []).append(position)
    return [
        (
            node,
            places[node],
            frame_by_definition(
                op,
                epoch,
                [keys[i] for i in places[node]],
                [values[i] for i in places[node] if op == "set"],
                [ttls[i] for i in places[node] if ttls],
            ),
        )
        for node in sorted(places)
    ]


def as_tuples(parts: Iterable[Part]) -> list[tuple[Node, list[int], bytes]]:
    return [(part.node, list(part.positions), bytes(part.frame)) for part in parts]


def body_of(op: str, keys: Sequence[str], values: Sequence[bytes] = ()) -> bytes:
    quoted = [json.dumps(key, ensure_ascii=False).encode() for key in keys]
    if op == "set":
        items = [b'{"key":%b,"value":%b}' % pair for pair in zip(quoted, values, strict=True)]
    else:
        items = [b'{"key":%b}' % key for key in quoted]
    return b"[" + b",".join(items) + b"]"


def check(batch: Batch, op: str, keys: Sequence[str], values: Sequence[bytes] = (), ttls: Sequence[int] = ()) -> None:
    """Hold a batch against what it was made of."""
    assert batch.op == op
    assert list(batch.keys) == list(keys)
    assert list(batch.values) == list(values)
    assert list(batch.ttls) == list(ttls)
    assert as_tuples(batch.parts) == parts_by_definition(op, keys, values, range(len(keys)), ttls=ttls)
    for part in batch.parts:
        request = read_request(part.frame)
        assert isinstance(request, KeyRequest)
        assert (request.op, request.cluster, request.era) == (op, CLUSTER, ERA)
        assert request.keys == [keys[i] for i in part.positions]
        if isinstance(request, Set):
            assert request.values == [values[i] for i in part.positions]
            assert list(request.ttls) == [ttls[i] for i in part.positions if ttls]


Found = (
    tuple[list[tuple[Node, list[int], bytes]], list[str], list[bytes], list[int]] | tuple[type[GkvError], str, tuple[Any, ...]]
)


def found(router: PureRouter, op: str, body: bytes) -> Found:
    """Return all that can be seen of what a router makes of a body."""
    try:
        batch = read(router, op, body)
    except GkvError as error:
        return type(error), error.detail, error.pointers
    return as_tuples(batch.parts), list(batch.keys), list(batch.values), list(batch.ttls)


def agreed(op: str, body: bytes, limits: Limits = LIMITS) -> Found:
    """Return what all twins make of a body; they must agree."""
    answers = [found(twin.over(limits=limits), op, body) for twin in twins()]
    assert all(answer == answers[0] for answer in answers)
    return answers[0]


def refused(op: str, body: bytes, limits: Limits = LIMITS) -> tuple[type[GkvError], str, tuple[Any, ...]]:
    answer = agreed(op, body, limits)
    assert isinstance(answer[0], type), "it was accepted"
    return answer  # type: ignore[return-value]


def pairs(size: int, seed: int) -> tuple[list[str], list[bytes]]:
    """Keys, some of them twice, and values."""
    rng = random.Random(seed)
    alphabets = ("abcdefghij0123456789:/.-_ ", "äßéΩжא中文キ", "😀𝔊𐍈\U0010ffff\x7f\u2028")
    keys = ["".join(rng.choices(rng.choice(alphabets), k=rng.randint(1, 30))) for _ in range(size)]
    for _ in range(size // 5):
        keys[rng.randrange(size)] = keys[rng.randrange(size)]
    values = [rng.choice([b"1.0", b'"x"', b"[ ]", b"null", b'{"a": [1,\n 2]}', b'"' + b"v" * 50 + b'"']) for _ in keys]
    return keys, values


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["get", "set", "delete"])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 10, 100, 1000])
def test_read_routes_each_item_to_the_owner_of_its_key(router: PureRouter, op: str, size: int) -> None:
    keys, values = pairs(size, seed=size)
    values = values if op == "set" else []
    check(read(router, op, body_of(op, keys, values)), op, keys, values)


@pytest.mark.parametrize("nodes", [1, 2, 64, 300])
def test_read_on_rings_of_other_sizes(twin: Twin, nodes: int) -> None:
    ring = twin.ring([Node(f"n{i}") for i in range(nodes)], 2)
    keys, values = pairs(50, seed=1)
    batch = read(twin.router(ring, CLUSTER, ERA, LIMITS), "set", body_of("set", keys, values))
    assert as_tuples(batch.parts) == parts_by_definition("set", keys, values, range(50), ring)


@pytest.mark.parametrize("op", ["get", "set", "delete"])
@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b"\r\n[\t]\n"])
def test_read_empty_batch_has_no_parts(router: PureRouter, op: str, body: bytes) -> None:
    batch = read(router, op, body)
    check(batch, op, [], [])
    assert batch.parts == []
    assert batch.route([], RING.split, CLUSTER, ERA) == []


@pytest.mark.parametrize("epoch", [0, 1, (1 << 31) + 1, (1 << 48) - 1])
def test_read_frames_carry_the_epoch_exactly(twin: Twin, epoch: int) -> None:
    (part,) = twin.over(FIVE[:1], era=era_of(65_535, epoch)).read("get", b'[{"key":"a"}]').parts
    assert part.frame == b'{"op":"get","cluster":"5f1c","generation":65535,"epoch":%d,"keys":["a"]}\n' % epoch


def test_read_keys_that_repeat_stand_as_often_as_they_were_sent(router: PureRouter) -> None:
    keys = ["b", "a", "b", "b", "a"]
    check(read(router, "get", body_of("get", keys)), "get", keys)
    check(
        read(router, "set", body_of("set", keys, [b"1", b"2", b"3", b"4", b"5"])), "set", keys, [b"1", b"2", b"3", b"4", b"5"]
    )


def test_read_items_with_their_members_in_either_order(router: PureRouter) -> None:
    body = b'[{"value":1,"key":"a"},{"key":"b","value":2},{"value":{"key":"x"},"key":"c"}]'
    check(read(router, "set", body), "set", ["a", "b", "c"], [b"1", b"2", b'{"key":"x"}'])


@pytest.mark.parametrize(
    ("ttl", "millis"),
    [
        (b"1", 1_000),
        (b"60", 60_000),
        (b"0.5", 500),
        (b"0.001", 1),
        (b"0.0001", 1),
        (b"1e-300", 1),
        (b"1.0000001", 1_001),
        (b"1.5e2", 150_000),
        (b"3162240000", 3_162_240_000_000),
    ],
)
def test_read_ttl_travels_in_milliseconds_and_never_ends_early(router: PureRouter, ttl: bytes, millis: int) -> None:
    body = b'[{"key":"a","value":1,"ttl":%b},{"ttl": %b ,"value":2,"key":"b"},{"key":"c","value":3}]' % (ttl, ttl)
    check(read(router, "set", body), "set", ["a", "b", "c"], [b"1", b"2", b"3"], [millis, millis, 0])


def test_read_ttl_of_some_items_stands_at_their_own_keys(router: PureRouter) -> None:
    keys, values = pairs(100, seed=9)
    ttls = [i % 3 for i in range(100)]
    items = [
        b'{"key":%b,"value":%b%b}' % (json.dumps(key).encode(), value, b',"ttl":%d' % ttl if ttl else b"")
        for key, value, ttl in zip(keys, values, ttls, strict=True)
    ]
    check(read(router, "set", b"[" + b",".join(items) + b"]"), "set", keys, values, [1_000 * ttl for ttl in ttls])


@pytest.mark.parametrize("space", [b" ", b"\n", b"\t", b"\r", b" \n\t\r ", b" " * 17])
def test_read_white_space_everywhere_is_skipped_and_kept_within_values(router: PureRouter, space: bytes) -> None:
    tokens = [b"[", b"{", b'"key"', b":", b'"a"', b",", b'"value"', b":", b"[1,{}]", b"}", b",", b"{", b'"value"', b":", b'"x"']
    tokens += [b",", b'"key"', b":", b'"b"', b"}", b"]"]
    inner = space.join([b"[", b"1", b",", b"{", b"}", b"]"])
    body = space + space.join(inner if token == b"[1,{}]" else token for token in tokens) + space
    check(read(router, "set", body), "set", ["a", "b"], [inner, b'"x"'])
    tokens = [b"[", b"{", b'"key"', b":", b'"a"', b"}", b",", b"{", b'"key"', b":", b'"b"', b"}", b"]"]
    check(read(router, "get", space + space.join(tokens) + space), "get", ["a", "b"])


VALUES = [
    b'"hello"',
    b'""',
    b'"\x7f"',
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"1.0",
    b"1e2",
    b"1E+2",
    b"-1.50e-07",
    b"3.1400",
    b"9007199254740993",
    b"18446744073709551616",
    b"123456789012345678901234567890",
    b"0.1000000000000000055511151231257827",
    b'{ "a" : [ 1 ,\n\t2 ] }',
    b"[\r\n]",
    b"{ }",
    b"[[[[]]],{}]",
    b'{"a":{"b":{"a":[{"a":1},{"a":2}]}},"b":0}',
    b'{"":1,"key":2,"value":3}',
    rb'"\u0061\/\"\\\b\f\n\r\t\ud83d\ude00\u0000"',
    rb'{"a":"\u00e9"}',
    '"\u00e9e\u0301\U0001f600\u2028\ufeff\U0010ffff\ud7ff\ue000"'.encode(),
    '{"é":"ключ","😀":["キー"]}'.encode(),
    b'"' + bytes(range(0x20, 0x22)) + bytes(range(0x23, 0x5C)) + bytes(range(0x5D, 0x80)) + b'"',
]


@pytest.mark.parametrize("text", VALUES)
def test_read_value_keeps_its_text_byte_for_byte(router: PureRouter, text: bytes) -> None:
    check(read(router, "set", b'[{"key":"a","value":%b}]' % text), "set", ["a"], [text])
    body = b'[{"value":\n %b \t,"key":"a"},{"key":"b","value": %b }]' % (text, text)
    check(read(router, "set", body), "set", ["a", "b"], [text, text])


@pytest.mark.parametrize("before", range(9))
def test_read_string_special_characters_at_each_place_of_a_word(router: PureRouter, before: int) -> None:
    """C looks at eight bytes at once."""
    for special in (rb"\"", rb"\\", b"\x7f", b"\x20", "é".encode(), "€".encode(), "😀".encode(), rb"\ud83d\ude00"):
        for behind in range(9):
            value = b'"' + b"x" * before + special + b"y" * behind + b'"'
            check(read(router, "set", b'[{"key":"a","value":%b}]' % value), "set", ["a"], [value])
            key = json.loads(value)
            check(read(router, "get", b'[{"key":%b}]' % value), "get", [key])


@pytest.mark.parametrize(
    "key",
    [
        "é",
        "߿",
        "ࠀ",
        "€",
        "\ud7ff",
        "\ue000",
        "\uffff",
        "𐀀",
        "😀",
        "\U0010ffff",
        "ключ",
        "キー",
        "e\u0301",
        "\ufeff",
        "\x7f",
        "aé€😀z",
    ],
)
def test_read_keys_beyond_ascii(router: PureRouter, key: str) -> None:
    check(read(router, "get", body_of("get", [key, "a" + key])), "get", [key, "a" + key])
    check(read(router, "set", body_of("set", [key], [b"1"])), "set", [key], [b"1"])


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (rb'[{"key":"\u0061"}]', ["a"]),
        (rb'[{"\u006bey":"a"}]', ["a"]),
        (rb'[{"key":"\""},{"key":"\\"},{"key":"\/"},{"key":"\n\r\t\b\f"}]', ['"', "\\", "/", "\n\r\t\b\f"]),
        (rb'[{"key":"\u00E9\u20ac"}]', ["é€"]),
        (rb'[{"key":"\ud83d\ude00"}]', ["😀"]),
        (rb'[{"key":"\uD83D\uDE00x"},{"key":"plain"}]', ["😀x", "plain"]),
        (rb'[{"key":"\u0001\u001b[31m\u007f"}]', ["\x01\x1b[31m\x7f"]),
    ],
)
def test_read_escapes_in_keys_and_names(router: PureRouter, body: bytes, keys: list[str]) -> None:
    """The frames carry such keys escaped or not; the node reads the same keys from both."""
    for op in ("get", "delete"):
        batch = read(router, op, body)
        assert list(batch.keys) == keys
        sent: dict[int, str] = {}
        for part in batch.parts:
            sent |= zip(part.positions, read_request(part.frame).keys, strict=True)
        assert [sent[i] for i in range(len(keys))] == keys
    assert agreed("get", body)[1] == keys


def test_read_keys_up_to_their_limit_and_one_over() -> None:
    for key in ("a" * 480, "é" * 240, "€" * 160, "😀" * 120, "a" + "é" * 239 + "b"):
        assert agreed("get", body_of("get", [key]))[1] == [key]
        for one_more in (key + "a", "a" + key):
            kind, detail, pointers = refused("get", body_of("get", ["ok", one_more]))
            assert kind is TooLarge
            assert "this one has 481" in detail
            assert [pointer for pointer, _ in pointers] == ["/1/key"]
    assert agreed("get", b'[{"key":"%b"}]' % (rb"\u0061" * 480))[1] == ["a" * 480]
    assert refused("get", b'[{"key":"%b"}]' % (rb"\u0061" * 481))[0] is TooLarge


@pytest.mark.parametrize("text", [b'"abc"', b'"\xc3\xa9"', b"[ 1 ]", rb'"\u00e9"', b"1" * 20, b'{"a":{}}', b"null"])
def test_read_value_up_to_its_limit_and_one_over(text: bytes) -> None:
    body = b'[{"key":"a","value":0},{"key":"b","value": %b }]' % text
    assert agreed("set", body, Limits(max_value=len(text)))[2] == [b"0", text]
    kind, _, pointers = refused("set", body, Limits(max_value=len(text) - 1))
    assert kind is TooLarge
    assert [pointer for pointer, _ in pointers] == ["/1/value"]


def test_read_value_of_1_mib_is_the_limit() -> None:
    body = b'[{"key":"a","value":"%b"}]'
    assert len(agreed("set", body % (b"x" * ((1 << 20) - 2)))[2][0]) == 1 << 20
    assert refused("set", body % (b"x" * ((1 << 20) - 1)))[0] is TooLarge


@pytest.mark.parametrize(
    ("op", "item"), [("get", '{"key":"%d"}'), ("delete", '{"key":"x"}'), ("set", '{"key":"%d","value":0}')]
)
def test_read_10_000_items_is_the_limit(op: str, item: str) -> None:
    items = ",".join(item % i if "%" in item else item for i in range(10_000))
    assert len(agreed(op, f"[{items}]".encode())[1]) == 10_000
    kind, detail, pointers = refused(op, f"[{items},{item.replace('%d', '0')}]".encode())
    assert (kind, detail, pointers) == (TooLarge, "a batch has at most 10000 items", ())
    assert refused(op, f"[{items},".encode() + b"[" * 100_000)[0] is TooLarge


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_read_few_items_is_the_limit(limit: int) -> None:
    at_limit = body_of("get", ["x"] * limit)
    assert agreed("get", at_limit, Limits(max_items=limit))[1] == ["x"] * limit
    assert refused("get", body_of("get", ["x"] * (limit + 1)), Limits(max_items=limit))[0] is TooLarge


def test_read_a_million_keys_of_one_character_is_too_large() -> None:
    assert refused("get", b"[" + b",".join([b'{"key":"a"}'] * 1_000_000) + b"]")[0] is TooLarge


def nested(levels: int, inner: bytes = b"") -> list[bytes]:
    return [
        b"[" * levels + inner + b"]" * levels,
        b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1) if not inner else b'{"a":' * levels + inner + b"}" * levels,
        b'[{"a":' * (levels // 2) + (b"[" * (levels % 2) + inner + b"]" * (levels % 2) or b"0") + b"}]" * (levels // 2),
    ]


def test_read_value_64_levels_deep_is_kept_and_65_refused() -> None:
    for text in [*nested(64), *nested(64, b"1"), *nested(64, b'"x"'), b"[" + b",".join(nested(63)) + b"]"]:
        assert agreed("set", b'[{"key":"a","value":%b}]' % text)[2] == [text]
    for text in [*nested(65), *nested(65, b"1"), *nested(66), b"[[]," + b"[" * 64 + b"]" * 64 + b"]"]:
        kind, detail, pointers = refused("set", b'[{"key":"a","value":%b}]' % text)
        assert (kind, detail) == (InvalidItem, "/0/value: a value may be 64 levels deep")
        assert [pointer for pointer, _ in pointers] == ["/0/value"]


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("before", [b"", b"[", b'[{"key":', b'[{"key":"a","value":'])
def test_read_100_000_open_brackets_are_refused_the_same(before: bytes, opening: bytes) -> None:
    assert refused("set", before + opening * 100_000)[0] in (InvalidItem, SyntaxProblem)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'[{"key":"a","key":"a","value":1}]', "/0"),
        (b'[{"key":"a","value":1,"value":1}]', "/0"),
        (b'[{"value":1,"value":1,"key":"a"}]', "/0"),
        (rb'[{"key":"a","\u006bey":"b","value":1}]', "/0"),
        (rb'[{"\u006bey":"a","key":"b","value":1}]', "/0"),
        (rb'[{"key":"a","value":1,"v\u0061lue":1}]', "/0"),
        (b'[{"key":"a","value":{"b":1,"b":1}}]', "/0/value"),
        (b'[{"key":"a","value":{"":1,"":1}}]', "/0/value"),
        (b'[{"key":"a","value":{"b":{"b":1},"c":[{"b":1}],"b":2}}]', "/0/value"),
        (b'[{"key":"a","value":[[{"x":[],"y":{},"x":0}]]}]', "/0/value"),
        (rb'[{"key":"a","value":{"b":1,"\u0062":2}}]', "/0/value"),
        (rb'[{"key":"a","value":{"\u0062":1,"\u0062":2}}]', "/0/value"),
        ('[{"key":"a","value":{"é":1,"é":2}}]'.encode(), "/0/value"),
        ('[{"key":"a","value":{"é":1,"\\u00e9":2}}]'.encode(), "/0/value"),
        (b'[{"key":"a","value":{%b,"0":1}}]' % b",".join([b'"%d":0' % i for i in range(64)]), "/0/value"),
        (b'[{"key":"a","value":{%b,"63":1}}]' % b",".join([b'"%d":0' % i for i in range(64)]), "/0/value"),
        (b'[{"key":"a","value":{%b,"999":1}}]' % b",".join([b'"%d":0' % i for i in range(1000)]), "/0/value"),
    ],
)
def test_read_member_twice_is_refused(body: bytes, pointer: str) -> None:
    kind, detail, pointers = refused("set", body)
    assert kind is InvalidItem
    assert "stands twice in one object" in detail
    assert [where for where, _ in pointers] == [pointer]


@pytest.mark.parametrize(
    "text",
    [
        b'{"b":{"b":{"b":1}},"c":{"b":1}}',
        b'[{"b":1},{"b":2}]',
        b'{"a":1,"aa":2,"":3,"A":4,"a ":5}',
        '{"é":1,"e\u0301":2}'.encode(),
        b"{%b}" % b",".join([b'"%d":0' % i for i in range(64)]),
        b"{%b}" % b",".join([b'"%d":0' % i for i in range(65)]),
        b"{%b}" % b",".join([b'"%d":0' % i for i in range(1000)]),
        # 50 members in each of 6 levels: 300 names are open at once.
        b"".join([b"{%b," % b",".join([b'"%d":0' % i for i in range(49)]) + b'"x":' for _ in range(6)]) + b"0" + b"}" * 6,
        # Many objects, but few open at once.
        b"[%b]" % b",".join([b'{"a":{"b":1},"c":2}'] * 500),
    ],
    ids=range(9),
)
def test_read_members_that_only_look_alike_or_are_many_are_kept(text: bytes) -> None:
    assert agreed("set", b'[{"key":"a","value":%b}]' % text)[2] == [text]


@pytest.mark.parametrize(
    "text",
    [
        rb"\ud800",
        rb"\udbff",
        rb"\udc00",
        rb"\udfff",
        rb"\ud800x",
        rb"\ud800\u0041",
        rb"\ud83d\ud83d\ude00",
        rb"\ude00\ud83d",
        rb"\ud800\\udc00",
        rb"\uD83Dx\uDE00",
        rb"\ud83d\ude00\ud83d",
    ],
)
def test_read_lone_surrogate_is_refused_and_a_pair_is_a_character(text: bytes) -> None:
    for body in (
        b'[{"key":"%b","value":1}]',
        b'[{"key":"a","value":"%b"}]',
        b'[{"key":"a","value":["%b"]}]',
        b'[{"key":"a","value":{"%b":1}}]',
        b'[{"key":"a","%b":1}]',
    ):
        kind, detail, _ = refused("set", body % text)
        assert kind is InvalidItem
        assert "lone surrogate" in detail or "unknown member" in detail
    for pair in (rb"\ud800\udc00", rb"\uDBFF\uDFFF", rb"\ud83d\ude00" * 2):
        assert agreed("set", b'[{"key":"%b","value":"%b"}]' % (pair, pair))[2] == [b'"%b"' % pair]


@pytest.mark.parametrize("wrong", BROKEN_UTF8, ids=bytes.hex)
def test_read_invalid_utf_8_is_refused_wherever_it_stands(wrong: bytes) -> None:
    right = b'[{"key":"a","value":{"b":["c"]}},{"key":"1234567890","value":"1234567890"}]'
    for at in range(len(right) + 1):
        kind, detail, pointers = refused("set", right[:at] + wrong + right[at:])
        assert kind is SyntaxProblem
        assert "not UTF-8: byte" in detail
        assert pointers == ()
    for body in (b'[{"key":"%b"}]' % wrong, wrong, b'[{"key":"' + wrong):
        assert refused("get", body)[0] is SyntaxProblem


def test_read_every_character_of_two_and_the_ends_of_three_and_four_bytes(router: PureRouter) -> None:
    codes = [*range(0x80, 0x900), 0xFFF, 0x1000, 0xCFFF, 0xD000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0xFFFFF]
    keys = [chr(code) for code in [*codes, 0x100000, 0x10FFFF]]
    check(read(router, "get", body_of("get", keys)), "get", keys)


@pytest.mark.parametrize("number", [*BORDER_NUMBERS, b"1.7976931348623157e308", b"1.7976931348623159e308", b"5e-324", b"-0e99"])
@pytest.mark.parametrize("layout", [b'[{"key":"a","value":%b}]', b'[{"value":[-1,{"b":%b}],"key":"a"}]'])
def test_read_number_at_the_border_of_a_double(number: bytes, layout: bytes) -> None:
    value = layout.partition(b'"value":')[2].replace(b',"key":"a"', b"")[: -len("}]")] % number
    if float(number) in (float("inf"), float("-inf")):
        kind, detail, _ = refused("set", layout % number)
        assert kind is InvalidItem
        assert "beyond the range of a double" in detail
    else:
        assert agreed("set", layout % number)[2] == [value]


NOT_A_BATCH = {
    "empty": b"",
    "white space": b" \t\r\n",
    "two values": b"1 x",
    "something behind": b'[{"key":"a","value":1}] x',
    "two batches": b"[][]",
    "trailing comma": b"[1,]",
    "trailing comma behind an item": b'[{"key":"a","value":1},]',
    "trailing comma in an item": b'[{"key":"a","value":1,}]',
    "leading comma": b'[,{"key":"a","value":1}]',
    "comma alone": b"[,]",
    "no comma": b'[{"key":"a","value":1}{"key":"b","value":1}]',
    "no comma in an item": b'[{"key":"a" "value":1}]',
    "no colon": b'[{"key" "a","value":1}]',
    "no end": b'[{"key":"a","value":1}',
    "no end of an item": b'[{"key":"a","value":1',
    "no end of a key": b'[{"key":"a',
    "wrong bracket": b'[{"key":"a","value":1]}',
    "line comment": b'[{"key":"a","value":1}] // one',
    "block comment": b'[/* one */{"key":"a","value":1}]',
    "hash comment": b"# one\n[]",
    "byte order mark": b'\xef\xbb\xbf[{"key":"a","value":1}]',
    "UTF-16": '[{"key":"a","value":1}]'.encode("utf-16"),
    "UTF-16 without a mark": '[{"key":"a","value":1}]'.encode("utf-16-le"),
    "UTF-32": '[{"key":"a","value":1}]'.encode("utf-32-be"),
    "single quotes": b"[{'key':'a','value':1}]",
    "name without quotes": b'[{key:"a",value:1}]',
    "form feed": b'[\f{"key":"a","value":1}]',
    "no-break space": '[\u00a0{"key":"a","value":1}]'.encode(),
    "NUL around": b"\x00[]",
    "NUL behind": b"[]\x00",
    "raw newline in a key": b'[{"key":"a\nb","value":1}]',
    "raw NUL in a key": b'[{"key":"a\x00b","value":1}]',
    "raw tab in a name": b'[{"ke\ty":"a","value":1}]',
    "an object": b'{"key":"a","value":1}',
    "an object with a batch": b'{"items":[]}',
    "a string": b'"a"',
    "a number": b"1",
    "null": b"null",
    "true": b"true",
    "NaN": b"NaN",
    "string items": b'["a"]',
    "null items": b"[null]",
    "array items": b"[[]]",
    "number items": b"[1]",
    "no members": b"[{}]",
    "no key": b'[{"value":1}]',
    "no value": b'[{"key":"a"}]',
    "no value in the second": b'[{"key":"a","value":1},{"key":"b"}]',
    "key empty": b'[{"key":"","value":1}]',
    "key a number": b'[{"key":1,"value":1}]',
    "key null": b'[{"key":null,"value":1}]',
    "key a list": b'[{"key":["a"],"value":1}]',
    "key an object": b'[{"key":{"a":1},"value":1}]',
    "key true": b'[{"key":true,"value":1}]',
    "key NaN": b'[{"key":NaN,"value":1}]',
    "key with U+0000": rb'[{"key":"a\u0000b","value":1}]',
    "key of U+0000": rb'[{"key":"\u0000","value":1}]',
    "ttl a string": b'[{"key":"a","value":1,"ttl":"1"}]',
    "ttl negative": b'[{"key":"a","value":1,"ttl":-1}]',
    "ttl true": b'[{"key":"a","value":1,"ttl":true}]',
    "ttl 0": b'[{"key":"a","value":1,"ttl":0}]',
    "ttl null": b'[{"key":"a","value":1,"ttl":null}]',
    "ttl of a century and a second": b'[{"key":"a","value":1,"ttl":3162240001}]',
    "ttl beyond a double": b'[{"key":"a","value":1,"ttl":1e400}]',
    "ttl without a value": b'[{"key":"a","ttl":1}]',
    "ttl twice": b'[{"key":"a","value":1,"ttl":1,"ttl":1}]',
    "ttl before an invalid item": b'[{"key":"a","value":1,"ttl":1},{"key":"","value":1}]',
    "unknown member": b'[{"key":"a","value":1,"valeu":1}]',
    "unknown member of no name": b'[{"key":"a","value":1,"":1}]',
    "unknown member in capitals": b'[{"Key":"a","value":1}]',
    "unknown member with a longer name": b'[{"keys":"a","value":1}]',
    "unknown member with a shorter name": b'[{"key":"a","valu":1}]',
    "unknown member with a hostile name": b'[{"key":"a","\\u001b[31m\\n":1}]',
    "unknown member with a name of 10,000": b'[{"key":"a","%b":1}]' % (b"x" * 10_000),
}
NOT_A_VALUE = [
    *WRONG_NUMBERS,
    *WRONG_LITERALS,
    *WRONG_STRINGS,
    b"",
    b"1e400",
    b"-1e400",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1",
    b"1]",
]
NOT_A_VALUE += [
    b'{"a":1,}',
    b'{"a" 1}',
    b'{"a":}',
    b"{a:1}",
    b"{'a':1}",
    b"{1:1}",
    b'{"a":1',
    b"{,}",
    b"[}",
    b"{]",
    b"/**/1",
    b"1//",
]


@pytest.mark.parametrize("body", NOT_A_BATCH.values(), ids=NOT_A_BATCH.keys())
def test_read_body_that_is_no_batch_is_refused_the_same(body: bytes) -> None:
    assert refused("set", body)[0] in (SyntaxProblem, InvalidItem)


@pytest.mark.parametrize("op", ["get", "delete"])
@pytest.mark.parametrize("body", NOT_A_BATCH.values(), ids=NOT_A_BATCH.keys())
def test_read_body_that_is_no_batch_of_keys_is_answered_the_same(op: str, body: bytes) -> None:
    """With the value taken out, some are right."""
    for text in (body, body.replace(b',"value":1', b"")):
        answer = agreed(op, text)
        assert isinstance(answer[0], type) or b"value" not in text


@pytest.mark.parametrize("text", NOT_A_VALUE)
@pytest.mark.parametrize(
    "layout", [b'[{"key":"a","value":%b}]', b'[{"value":%b,"key":"a"}]', b'[{"key":"a","value":[0,{"b":%b}]}]']
)
def test_read_value_that_is_none_is_refused_the_same(layout: bytes, text: bytes) -> None:
    assert refused("set", layout % text)[0] in (SyntaxProblem, InvalidItem)


@pytest.mark.parametrize("op", ["get", "set"])
def test_read_body_cut_anywhere_is_refused_the_same(op: str) -> None:
    if op == "set":
        body = rb'[{"key":"a~","value":{"b":[1.5e3,true,null,"x\n\ud83d\ude00"],"c":{}}},{"value":-0,"key":"0123456789"}]'
        body = body.replace(b"~", "é€".encode())
    else:
        body = '[{"key":"aé€😀"}, {"key":"0123456789"}]'.encode()
    assert not isinstance(agreed(op, body)[0], type)
    for cut in range(len(body)):
        assert refused(op, body[:cut])[0] is SyntaxProblem


@pytest.mark.parametrize("position", [0, 1, 499, 999])
@pytest.mark.parametrize(
    "wrong", [b'{"key":7,"value":0}', b'{"key":"a"}', b'{"key":"a","value":0,"x":0}', b'{"key":"a","value":01}']
)
def test_read_one_bad_item_in_1000_refuses_all(position: int, wrong: bytes) -> None:
    items = [b'{"key":"k%d","value":%d}' % (i, i) for i in range(1000)]
    items[position] = wrong
    kind, _, pointers = refused("set", b"[" + b",".join(items) + b"]")
    assert kind is SyntaxProblem or pointers[0][0].startswith(f"/{position}")


# --- which way a body takes ------------------------------------------------------------------------------------------


def many_open(inner: bytes) -> bytes:
    """Return 4 objects within each other, of 64 members each, which are as many as C looks at, and something in the last."""
    return (b"{%b," % b",".join([b'"%d":0' % i for i in range(63)]) + b'"x":') * 4 + inner + b"}" * 4


FAST = {
    "empty": ("get", b"[]"),
    "get": ("get", b'[{"key":"a"}]'),
    "delete": ("delete", b'[{"key":"a"},{"key":"b"}]'),
    "set": ("set", b'[{"key":"a","value":"hello"}]'),
    "value first": ("set", b'[{"value":1,"key":"a"}]'),
    "white space": ("set", b' [ { "key" : "a" ,\r\n\t"value" : [ 1 , 2 ] } ] \n'),
    "beyond ASCII": ("get", '[{"key":"é€😀"}]'.encode()),
    "nested": ("set", b'[{"key":"a","value":{"a":[{"a":{}},null,true,false,-1.5e-7]}}]'),
    "escapes in a value": ("set", rb'[{"key":"a","value":"\n\u00e9\ud83d\ude00"}]'),
    "long value": ("set", b'[{"key":"a","value":"%b"}]' % (b"x" * 100_000)),
    "30 digits": ("set", b'[{"key":"a","value":123456789012345678901234567890}]'),
    "100 digits": ("set", b'[{"key":"a","value":%b}]' % (b"9" * 100)),
    "exponent of two digits": ("set", b'[{"key":"a","value":1e99}]'),
    "64 levels": ("set", b'[{"key":"a","value":%b}]' % (b"[" * 64 + b"]" * 64)),
    "256 names": ("set", b'[{"key":"a","value":%b}]' % many_open(b"{}")),
    "64 members": ("set", b'[{"key":"a","value":{%b}}]' % b",".join([b'"%d":0' % i for i in range(64)])),
    "key of 480 bytes": ("get", b'[{"key":"%b"}]' % (b"a" * 480)),
    "1000 keys": ("get", body_of("get", [f"user:{i}" for i in range(1000)])),
    "10,000 keys": ("get", body_of("get", ["x"] * 10_000)),
}
FAST |= {
    "escape in a key": ("get", rb'[{"key":"\u0061"}]'),
    "escaped quote in a key": ("get", rb'[{"key":"a\"b"}]'),
    "surrogate pair in a key": ("get", rb'[{"key":"\ud83d\ude00"}]'),
    "escape in a name": ("get", rb'[{"\u006bey":"a"}]'),
    "escape in every name": ("set", rb'[{"\u006bey":"a","v\u0061lue":1,"tt\u006C":1}]'),
    "escape in a name below": ("set", rb'[{"key":"a","value":{"\u0061":1,"b":2}}]'),
    "ttl": ("set", b'[{"key":"a","value":1,"ttl":1}]'),
    "ttl in the last item": ("set", b'[{"key":"a","value":1},{"key":"b","value":1,"ttl":0.5}]'),
    "ttl of nine digits": ("set", b'[{"ttl":999999999.999,"key":"a","value":1}]'),
    "json.dumps of keys beyond ASCII": ("set", json.dumps([{"key": f"ключ{i}", "value": i} for i in range(500)]).encode()),
}
LEFT = {
    "101 digits": b'{"key":"a","value":%b}' % (b"9" * 101),
    "exponent of three digits": b'{"key":"a","value":1e308}',
    "exponent with noughts": b'{"key":"a","value":1e007}',
    "65 members": b'{"key":"a","value":{%b}}' % b",".join([b'"%d":0' % i for i in range(65)]),
    "257 names": b'{"key":"a","value":%b}' % many_open(b'{"a":0}'),
    # To compare texts whose hashes somebody has made equal would take a time that grows with the square of their count.
    "two names of one hash": b'{"key":"a","value":{"costarring":1,"liquid":2}}',
    "two names of one hash, with an escape": rb'{"key":"a","value":{"\u0063ostarring":1,"liquid":2}}',
    "ttl of ten digits": b'{"key":"a","value":1,"ttl":1000000000}',
    "ttl with an exponent": b'{"key":"a","value":1,"ttl":1e1}',
    "ttl of 33 bytes": b'{"key":"a","value":1,"ttl":0.%b1}' % (b"0" * 30),
    "much white space": b'{"key":"a",%b"value":1}' % (b" " * 1_200_000),
    "key with an escape and a large number": rb'{"\u006bey":"\u00e9\n","value":1e308,"ttl":5}',
}


@pytest.fixture
def by_definition(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the places of the items that the definition reads for the native router."""
    places: list[int] = []

    def read_item(self: ItemReader) -> client.ItemSpans | None:
        places.append(self.count)
        return original(self)

    original = ItemReader.next
    monkeypatch.setattr(ItemReader, "next", read_item)
    return places


@needs_native
@pytest.mark.parametrize(("op", "body"), FAST.values(), ids=FAST.keys())
def test_native_router_reads_a_plain_body_in_c(op: str, body: bytes, by_definition: list[int]) -> None:
    batch = read(Twin("native", NativeRing, NativeRouter).over(), op, body)
    assert by_definition == []
    assert list(batch.keys) == [item["key"] for item in json.loads(body)]


@needs_native
@pytest.mark.parametrize("item", LEFT.values(), ids=LEFT.keys())
def test_native_router_leaves_only_the_item_in_doubt_to_the_definition(item: bytes, by_definition: list[int]) -> None:
    plain = b'{"key":"b","value":2},{"key":"\\n","value":3,"ttl":7}'
    for place, items in enumerate(([item, plain], [plain, item], [plain, plain, item, plain], [plain, item, plain, item])):
        by_definition.clear()
        body = b"[" + b",".join(items) + b"]"
        batch = read(Twin("native", NativeRing, NativeRouter).over(), "set", body)
        assert by_definition == ([0], [2], [4], [2, 5])[place]
        assert list(batch.keys) == [one["key"] for one in json.loads(body)]
        assert found(Twin("native", NativeRing, NativeRouter).over(), "set", body) == found(
            Twin("pure", PureRing, PureRouter).over(), "set", body
        )


@needs_native
@pytest.mark.parametrize(
    "end",
    [b",]", b"]x", b"", b',{"key":"a"', b',{"key":"a","value":01}]', b',{"key":"","value":1}]', b',{"key":"\xff","value":1}]'],
)
def test_native_router_reads_one_item_by_definition_for_an_error_at_the_end(end: bytes, by_definition: list[int]) -> None:
    body = b"[" + b",".join([b'{"key":"k%d","value":%d,"ttl":60}' % (i, i) for i in range(5000)]) + end
    with pytest.raises((SyntaxProblem, InvalidItem)):
        read(Twin("native", NativeRing, NativeRouter).over(), "set", body)
    assert by_definition == [5000]


@needs_native
def test_native_router_pauses_after_every_few_hundred_kilobytes_that_c_reads() -> None:
    space = b" " * 60_000
    body = b"[" + b",".join([b'{"key":%b"k%d"}' % (space, i) for i in range(100)]) + b"]"
    pauses: list[None] = []
    batch = Twin("native", NativeRing, NativeRouter).over().read("get", body, pause=lambda: pauses.append(None))
    assert len(batch.keys) == 100
    assert len(pauses) > len(body) / 400_000


@needs_native
def test_native_router_needs_a_native_ring() -> None:
    with pytest.raises(TypeError, match="native ring"):
        NativeRouter(RING, CLUSTER, ERA, LIMITS)


def test_pure_router_runs_on_any_ring(twin: Twin) -> None:
    keys, _ = pairs(20, seed=2)
    check(PureRouter(twin.ring(FIVE, VNODES), CLUSTER, ERA, LIMITS).read("get", body_of("get", keys)), "get", keys)


def test_of_keys_routes_keys_as_if_they_had_been_read(router: PureRouter) -> None:
    keys = [*pairs(20, seed=3)[0], 'needs\n"escapes"\\']
    for op in ("get", "delete"):
        batch = router.of_keys(op, keys)
        assert (batch.op, list(batch.keys), list(batch.values)) == (op, keys, [])
        assert sorted(i for part in batch.parts for i in part.positions) == list(range(len(keys)))
        for part in batch.parts:
            request = read_request(part.frame)
            assert request.keys == [keys[i] for i in part.positions]
            assert {RING.owner(keys[i]) for i in part.positions} == {part.node}


# --- routing again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["get", "set", "delete"])
@pytest.mark.parametrize("positions", [[], [0], [29], [3, 7, 8, 21], list(range(30)), [21, 3, 8]])
def test_route_again_by_another_ring_and_epoch(twin: Twin, op: str, positions: list[int]) -> None:
    keys, values = pairs(30, seed=4)
    values = values if op == "set" else []
    batch = read(twin.over(), op, body_of(op, keys, values))
    before = as_tuples(batch.parts)
    for nodes in (FIVE[:1], FIVE[1:], [*FIVE, Node("joined")]):
        ring = twin.ring(nodes, VNODES)
        parts = batch.route(positions, ring.split, CLUSTER, era_of(1, 8))
        assert as_tuples(parts) == parts_by_definition(op, keys, values, positions, ring, 8)
    assert as_tuples(batch.parts) == before


def test_route_again_keeps_its_ttls(twin: Twin) -> None:
    keys, ttls = list("abcde"), [0, 1_000, 2_000, 0, 1_000]
    body = b'[{"key":"a","value":1},{"key":"b","value":2,"ttl":1},{"key":"c","value":3,"ttl":2},{"key":"d","value":4},'
    batch = read(twin.over(), "set", body + b'{"key":"e","value":5,"ttl":1}]')
    ring = twin.ring(FIVE[:2], VNODES)
    for positions in ([0, 3], [1, 2, 4], [4, 0]):
        parts = batch.route(positions, ring.split, CLUSTER, era_of(1, 8))
        values = [b"1", b"2", b"3", b"4", b"5"]
        assert as_tuples(parts) == parts_by_definition("set", keys, values, positions, ring, 8, ttls)


# --- joining the answers of a get ------------------------------------------------------------------------------------

STORE: dict[str, bytes] = {
    f"k{i}": [b"1.0", b'"x"', b'{ "a" : [1,\n2] }', b'"' + b"v" * 300 + b'"', b"null"][i % 5] for i in range(200)
}


def reply(values: Sequence[bytes | Damage | None]) -> bytes:
    sizes = ["-1" if value is None else str(len(value)) if isinstance(value, bytes) else "-2" for value in values]
    return b'{"sizes":[%b]}\n' % ",".join(sizes).encode() + b"".join([value for value in values if isinstance(value, bytes)])


def answered(batch: Batch, store: Mapping[str, bytes | Damage]) -> list[PartResult]:
    keys = batch.keys
    return [PartResult(part, reply([store.get(keys[i]) for i in part.positions])) for part in batch.parts]


def answer_by_definition(
    keys: Sequence[str], store: dict[str, bytes], failed: dict[str, KeyFailure] | None = None
) -> tuple[bytes, int]:
    failed = failed or {}

    def quoted(key: str) -> bytes:
        return json.dumps(key, ensure_ascii=False).encode()

    def rows(items: Iterator[bytes]) -> bytes:
        return b",".join(items)

    sure = [key for key in keys if key not in failed]
    existed = rows(b'{"key":%b,"value":%b}' % (quoted(key), store[key]) for key in sure if key in store)
    missing = rows(b'{"key":%b,"value":""}' % quoted(key) for key in sure if key not in store)
    unsure = rows(
        b'{"key":%b,"code":"%b","retryable":%b}'
        % (quoted(key), failed[key].code.encode(), b"true" if failed[key].retryable else b"false")
        for key in keys
        if key in failed
    )
    answer = b'{"existedKey":[%b]' % existed
    answer += b',"notExistedKey":[%b]' % missing if missing else b""
    answer += b',"failedKey":[%b],"complete":false' % unsure if unsure else b""
    return answer + b"}", sum(key in failed for key in keys)


KEYS_ASKED = {
    "none": [],
    "one that exists": ["k1"],
    "one that is missing": ["m1"],
    "all exist": [f"k{i}" for i in range(50)],
    "all are missing": [f"m{i}" for i in range(50)],
    "some are missing": [f"{'km'[i % 3 == 0]}{i * 7 % 100}" for i in range(100)],
    "twice the same": ["k1", "m1", "k1", "k2", "m1", "k1"],
    "beyond ASCII": ["ключ", "k1", "😀", "é€", "m"],
    "a thousand": [f"k{i % 200}" if i % 2 else f"m{i}" for i in range(1000)],
}
FULL = STORE | {"ключ": b"1", "😀": '"é"'.encode()}


@pytest.mark.parametrize("keys", KEYS_ASKED.values(), ids=KEYS_ASKED.keys())
def test_render_get_joins_in_request_order(router: PureRouter, keys: list[str]) -> None:
    batch = read(router, "get", body_of("get", keys))
    done = answered(batch, FULL)
    for _ in range(2):  # it can be asked again
        assert batch.render_get(done) == answer_by_definition(keys, FULL)
    assert list(batch.keys) == keys


@pytest.mark.parametrize("keys", KEYS_ASKED.values(), ids=KEYS_ASKED.keys())
def test_render_get_of_parts_in_any_order_is_the_same(router: PureRouter, keys: list[str]) -> None:
    batch = read(router, "get", body_of("get", keys))
    done = answered(batch, FULL)
    random.Random(5).shuffle(done)
    assert batch.render_get(done) == answer_by_definition(keys, FULL)


def test_render_get_of_parts_that_were_routed_again(twin: Twin) -> None:
    keys = KEYS_ASKED["some are missing"]
    batch = twin.over().read("get", body_of("get", keys))
    done = answered(batch, STORE)
    again = done.pop(1).part.positions
    for part in batch.route(again, twin.ring(FIVE[:2], VNODES).split, CLUSTER, 8):
        done.append(PartResult(part, reply([STORE.get(keys[i]) for i in part.positions])))
    assert batch.render_get(done) == answer_by_definition(keys, STORE)


@pytest.mark.parametrize("failure", [KeyFailure("timeout"), KeyFailure("refused", retryable=False)])
@pytest.mark.parametrize("which", [[0], [2, 4], [0, 1, 2, 3, 4]])
def test_render_get_of_failed_parts_names_their_keys(router: PureRouter, which: list[int], failure: KeyFailure) -> None:
    keys = KEYS_ASKED["some are missing"]
    batch = read(router, "get", body_of("get", keys))
    done = answered(batch, STORE)
    for place in which:
        done[place] = PartResult(done[place].part, failure=failure)
    failed = {keys[i]: failure for place in which for i in done[place].part.positions}
    assert failures(done, keys) == failed
    assert batch.render_get(done) == answer_by_definition(keys, STORE, failed)


def test_render_get_of_a_failed_part_with_a_frame_says_the_failure(request: pytest.FixtureRequest, router: PureRouter) -> None:
    batch = read(router, "get", b'[{"key":"k1"}]')
    failure = KeyFailure("timeout")
    done = [PartResult(batch.parts[0], reply([b"1"]), failure)]
    assert batch.render_get(done) == answer_by_definition(["k1"], {}, {"k1": failure})


DAMAGED_KEY = KeyFailure("damaged", retryable=False)


@pytest.mark.parametrize("which", [["k1"], ["k1", "k9"], [f"k{i}" for i in range(50)]], ids=["one", "two", "all"])
def test_render_get_of_damaged_records_names_their_keys_and_no_others(router: PureRouter, which: list[str]) -> None:
    keys = [*KEYS_ASKED["all exist"], "m1"]
    batch = read(router, "get", body_of("get", keys))
    done = answered(batch, STORE | dict.fromkeys(which, Damage.DAMAGED))
    for _ in range(2):
        assert batch.render_get(done) == answer_by_definition(keys, STORE, dict.fromkeys(which, DAMAGED_KEY))


def test_render_get_of_a_damaged_record_that_was_asked_for_twice_says_so_twice(router: PureRouter) -> None:
    batch = read(router, "get", body_of("get", ["k1", "k2", "k1"]))
    done = answered(batch, STORE | {"k1": Damage.DAMAGED})
    assert batch.render_get(done) == answer_by_definition(["k1", "k2", "k1"], STORE, {"k1": DAMAGED_KEY})


@pytest.mark.parametrize("keys", KEYS_ASKED.values(), ids=KEYS_ASKED.keys())
def test_answers_are_in_request_order_whatever_became_of_the_parts(router: PureRouter, keys: list[str]) -> None:
    batch = read(router, "get", body_of("get", keys))
    done = answered(batch, FULL | {"k2": Damage.DAMAGED})
    expected: dict[str, KeyAnswer] = {key: DAMAGED_KEY if key == "k2" else FULL.get(key) for key in keys}
    assert batch.answers(done) == [expected[key] for key in keys]
    for place, bad in (
        ((0, PartResult(done[0].part, failure=KeyFailure("timeout"))), (-1, PartResult(done[-1].part, b"[]\n"))) if done else ()
    ):
        done[place] = bad
        expected |= {keys[i]: bad.failure or BAD_ANSWER for i in bad.part.positions}
    random.Random(6).shuffle(done)
    assert batch.answers(done) == [expected[key] for key in keys]


BAD_ANSWER = KeyFailure("bad-answer")

# To three keys.
BAD_REPLIES = {
    "empty": b"",
    "newline": b"\n",
    "no newline": b'{"sizes":[1,1,1]}',
    "no payload": b'{"sizes":[1,1,1]}\n',
    "HTML": b"<html>\n",
    "head alone": b'{"sizes":[',
    "head and one size": b'{"sizes":[1',
    "no sizes": b'{"sizes":[]}\n',
    "one too few": b'{"sizes":[1,1]}\n12',
    "one too many": b'{"sizes":[1,1,1,1]}\n1234',
    "one missing too many": b'{"sizes":[1,1,1,-1]}\n123',
    "one byte too few": b'{"sizes":[1,1,1]}\n12',
    "one byte too many": b'{"sizes":[1,1,1]}\n1234',
    "newline too many": b'{"sizes":[1,1,1]}\n123\n',
    "bytes for what is missing": b'{"sizes":[-1,-1,-1]}\n1',
    "bytes for nothing": b'{"sizes":[0,0,0]}\n1',
    "size too large": b'{"sizes":[1,2,1]}\n123',
    "size far too large": b'{"sizes":[1,1,1000000000]}\n123',
    "first size too large": b'{"sizes":[4,0,0]}\n123',
    "2^31": b'{"sizes":[2147483648,1,1]}\n123',
    "2^32 - 2": b'{"sizes":[4294967294,1,1]}\n123',
    "2^32 - 1": b'{"sizes":[4294967295,1,1]}\n123',
    "2^32 - 1 for all": b'{"sizes":[4294967295,4294967295,4294967295]}\n',
    "2^32": b'{"sizes":[4294967296,1,1]}\n12',
    "2^32 + 1": b'{"sizes":[4294967297,1,1]}\n123',
    "sum of 2^32 + 3": b'{"sizes":[2147483648,2147483648,3]}\n123',
    "9,999,999,999": b'{"sizes":[9999999999,1,1]}\n123',
    "11 digits": b'{"sizes":[42949672961,1,1]}\n123',
    "2^64": b'{"sizes":[18446744073709551616,1,1]}\n12',
    "2^64 + 1": b'{"sizes":[18446744073709551617,1,1]}\n123',
    "30 digits": b'{"sizes":[%b,1,1]}\n123' % (b"1" * 30),
    "-3": b'{"sizes":[-3,1,1]}\n12',
    "bytes for what is damaged": b'{"sizes":[-2,-2,-2]}\n1',
    "-2.0": b'{"sizes":[-2.0,1,1]}\n12',
    "-20": b'{"sizes":[-20,1,1]}\n12',
    "-10": b'{"sizes":[-10,1,1]}\n12',
    "-11": b'{"sizes":[1,1,-11]}\n12',
    "-1.0": b'{"sizes":[-1.0,1,1]}\n12',
    "-1e0": b'{"sizes":[-1e0,1,1]}\n12',
    "--1": b'{"sizes":[--1,1,1]}\n12',
    "- 1": b'{"sizes":[- 1,1,1]}\n12',
    "+1": b'{"sizes":[+1,1,1]}\n123',
    "1.0": b'{"sizes":[1.0,1,1]}\n123',
    "1e0": b'{"sizes":[1e0,1,1]}\n123',
    "0x1": b'{"sizes":[0x1,1,1]}\n123',
    "true": b'{"sizes":[true,1,1]}\n123',
    "null": b'{"sizes":[null,1,1]}\n12',
    "string": b'{"sizes":["1",1,1]}\n123',
    "nested": b'{"sizes":[[1],1,1]}\n123',
    "empty place": b'{"sizes":[,1,1]}\n12',
    "empty place at the end": b'{"sizes":[1,1,]}\n12',
    "no closing bracket": b'{"sizes":[1,1,1}\n123',
    "no closing brace": b'{"sizes":[1,1,1]\n123',
    "two closing braces": b'{"sizes":[1,1,1]}}\n123',
    "semicolons": b'{"sizes":[1;1;1]}\n123',
    "sizes null": b'{"sizes":null}\n',
    "sizes an object": b'{"sizes":{}}\n',
    "a count": b'{"count":3}\n',
    "not UTF-8": b'{"sizes":[1,1,1],"\xff":1}\n123',
    "refused": b'{"refused":"stale","document":null}\n',
    "sizes and refused": b'{"sizes":[1,1,1],"refused":"stale"}\n',
    "no sizes and refused": b'{"sizes":[],"refused":"stale"}\n',
}
GOOD_REPLIES = {
    "as it is written": b'{"sizes":[1,-1,2]}\n123',
    "spaces": b'{"sizes":[ 1 , -1,2 ]}\n123',
    "space first": b'{ "sizes":[1,-1,2]}\n123',
    "space last": b'{"sizes":[1,-1,2]} \n123',
    "another member": b'{"sizes":[1,-1,2],"x":[]}\n123',
    "noughts in front": b'{"sizes":[01,-1,0000000002]}\n123',
    "nought in front of what is missing": b'{"sizes":[1,-01,2]}\n123',
    "11 digits": b'{"sizes":[00000000001,-1,2]}\n123',
}
"""ujson reads them all, though some are not JSON; nodes write the first."""


@pytest.mark.parametrize(
    "frame",
    [pytest.param(frame, id=name) for name, frame in BAD_REPLIES.items()],
)
@pytest.mark.parametrize("nodes", [1, 2], ids=["alone", "beside another"])
def test_render_get_of_a_bad_reply_is_a_bad_answer_for_its_keys(twin: Twin, nodes: int, frame: bytes) -> None:
    ring = twin.ring(FIVE[:nodes], VNODES)
    owned: dict[Node, list[str]] = {}
    for i in range(100):
        owned.setdefault(ring.owner(f"k{i}"), []).append(f"k{i}")
    keys = [key for row in zip(*(own[:3] for own in owned.values()), strict=True) for key in row]
    batch = twin.router(ring, CLUSTER, ERA, LIMITS).read("get", body_of("get", keys))
    for place in range(nodes):
        done = answered(batch, STORE)
        done[place].frame = frame
        failed = {keys[i]: BAD_ANSWER for i in done[place].part.positions}
        assert len(failed) == 3
        assert batch.render_get(done) == answer_by_definition(keys, STORE, failed)
        assert batch.render_get(answered(batch, STORE)) == answer_by_definition(keys, STORE)  # nothing has stuck


@pytest.mark.parametrize("frame", GOOD_REPLIES.values(), ids=GOOD_REPLIES.keys())
def test_render_get_of_a_reply_that_is_written_otherwise_is_read_alike(twin: Twin, frame: bytes) -> None:
    batch = twin.over(FIVE[:1]).read("get", body_of("get", ["a", "b", "c"]))
    assert batch.render_get([PartResult(batch.parts[0], frame)]) == answer_by_definition(
        ["a", "b", "c"], {"a": b"1", "c": b"23"}
    )


@pytest.mark.parametrize(
    "frame", [b'{"sizes":[0]}\n', b'{"sizes":[00]}\n', b'{"sizes":[-0]}\n', b'{"sizes":[-]}\n', b'{"sizes":[]}\n']
)
def test_render_get_of_odd_replies_is_the_same_in_both(frame: bytes) -> None:
    answers = set()
    for twin in twins():
        batch = twin.over(FIVE[:1]).read("get", b'[{"key":"a"}]')
        answers.add(batch.render_get([PartResult(batch.parts[0], frame)]))
    assert len(answers) == 1


# --- conditions, and bytes -------------------------------------------------------------------------------------------

V1 = "000100000000000700000000000000a1"


@pytest.mark.parametrize("plain", [0, 1, 40], ids="{} plain items before".format)
def test_read_carries_conditions_types_and_ttls_to_the_owner_of_each_key(router: PureRouter, plain: int) -> None:
    special = (
        f'{{"key":"s0","value":1,"ifVersion":"{V1}"}},{{"ifVersion":null,"value":"aGk=","key":"s1","type":"text/plain","encoding":"base64"}},'
        f'{{"key":"s2","ttl":2,"value":"","encoding":"base64"}},{{"key":"s\\u0033","value":[1],"ifVersion":"*"}}'
    ).encode()
    keys = [*(f"k{i}" for i in range(plain)), "s0", "s1", "s2", "s3"]
    values = [*[b"0"] * plain, b"1", Blob(b"hi", "text/plain"), Blob(b"", "application/octet-stream"), b"[1]"]
    conditions = [*[None] * plain, f"={V1}", "!*", None, "=*"]
    ttls = [*[0] * plain, 0, 0, 2000, 0]
    batch = read(router, "set", b"[" + b'{"key":"k%d","value":0},' * plain % tuple(range(plain)) + special + b"]")
    assert (list(batch.keys), list(batch.values)) == (keys, values)
    seen: dict[str, tuple[Any, ...]] = {}
    for part in batch.parts:
        request = read_request(bytes(part.frame))
        assert isinstance(request, Set)
        assert list(request.keys) == [keys[i] for i in part.positions]
        rows = zip(request.values, request.ttls or [0] * len(request.keys), request.conditions, strict=True)
        seen |= dict(zip(request.keys, rows, strict=True))
    assert seen == dict(zip(keys, zip(values, ttls, conditions, strict=True), strict=True))
    again = [read_request(bytes(part.frame)) for part in batch.route(range(len(keys)), RING.split, CLUSTER, ERA + 1)]
    assert [condition for request in again if isinstance(request, Set) for condition in request.conditions if condition]


def test_read_carries_the_conditions_of_a_delete(router: PureRouter) -> None:
    batch = read(router, "delete", b'[{"key":"a"},{"key":"b","ifVersion":"%b"},{"ifVersion":null,"key":"c"}]' % V1.encode())
    seen: dict[str, str | None] = {}
    for part in batch.parts:
        request = read_request(bytes(part.frame))
        assert isinstance(request, Delete)
        seen |= dict(zip(request.keys, request.conditions or [None] * len(request.keys), strict=True))
    assert seen == {"a": None, "b": f"={V1}", "c": "!*"}


def test_parts_without_a_condition_have_frames_without_any(router: PureRouter) -> None:
    batch = read(router, "set", b'[{"key":"a","value":1},{"key":"b","value":2}]')
    assert all(b'"if"' not in bytes(part.frame) and b'"types"' not in bytes(part.frame) for part in batch.parts)


REFUSED_ITEMS = {
    "version too short": ("set", b'"value":1,"ifVersion":"%b"' % (b"0" * 31), "/0/ifVersion"),
    "version in capitals": ("set", b'"value":1,"ifVersion":"%b"' % V1.upper().encode(), "/0/ifVersion"),
    "version in quotes": ("set", b'"value":1,"ifVersion":"\\"%b\\""' % V1.encode(), "/0/ifVersion"),
    "weak version": ("set", b'"value":1,"ifVersion":"W/\\"%b\\""' % V1.encode(), "/0/ifVersion"),
    "version of underscores": ("set", b'"value":1,"ifVersion":"0_%b"' % (b"0" * 30), "/0/ifVersion"),
    "empty version": ("set", b'"value":1,"ifVersion":""', "/0/ifVersion"),
    "version a number": ("set", b'"value":1,"ifVersion":1', "/0/ifVersion"),
    "version false": ("set", b'"value":1,"ifVersion":false', "/0/ifVersion"),
    "list of versions": ("set", b'"value":1,"ifVersion":["%b"]' % V1.encode(), "/0/ifVersion"),
    "very long version": ("set", b'"value":1,"ifVersion":"%b"' % (b"0" * 5000), "/0/ifVersion"),
    "two versions": ("set", b'"value":1,"ifVersion":"*","ifVersion":"*"', "/0"),
    "wrong version in a delete": ("delete", b'"ifVersion":"x"', "/0/ifVersion"),
    "version in a get": ("get", b'"ifVersion":"*"', "/0"),
    "value in a delete": ("delete", b'"value":1', "/0"),
    "another encoding": ("set", b'"value":"","encoding":"hex"', "/0/encoding"),
    "encoding null": ("set", b'"value":"","encoding":null', "/0/encoding"),
    "no padding": ("set", b'"value":"aGk","encoding":"base64"', "/0/value"),
    "bits for nothing": ("set", b'"value":"aGl=","encoding":"base64"', "/0/value"),
    "alphabet of URLs": ("set", b'"value":"_-8=","encoding":"base64"', "/0/value"),
    "space in base64": ("set", b'"value":"aGk= ","encoding":"base64"', "/0/value"),
    "base64 of a number": ("set", b'"value":12,"encoding":"base64"', "/0/value"),
    "type of JSON": ("set", b'"value":1,"type":"text/plain"', "/0/type"),
    "no type at all": ("set", b'"value":"","encoding":"base64","type":"text"', "/0/type"),
    "type of 256 bytes": ("set", b'"value":"","encoding":"base64","type":"a/%b"' % (b"b" * 254), "/0/type"),
    "bytes as JSON": ("set", b'"value":"","encoding":"base64","type":"Application/JSON; a=b"', "/0/type"),
    "type with a line end": ("set", b'"value":"","encoding":"base64","type":"a/b\\r\\nX: y"', "/0/type"),
}


@pytest.mark.parametrize(("op", "members", "pointer"), REFUSED_ITEMS.values(), ids=REFUSED_ITEMS.keys())
def test_read_refuses_a_batch_with_a_wrong_condition_or_encoding_and_names_it(op: str, members: bytes, pointer: str) -> None:
    for body in (b'[{"key":"a",%b}]', b'[{"key":"a",%b},{"key":"b"}]', b'[{%b,"key":"a"}]'):
        kind, _, pointers = refused(op, body % members)
        assert kind is InvalidItem
        assert [pointer for pointer, _ in pointers] == [pointer]


def test_read_bounds_bytes_by_their_own_size_and_texts_by_theirs() -> None:
    tight = Limits(max_value=6)
    assert agreed("set", b'[{"key":"a","value":"aGVsbG8h","encoding":"base64"}]', tight)[2] == [
        Blob(b"hello!", "application/octet-stream")
    ]
    slashes = rb'[{"key":"a","value":"\/\/\/\/\/\/\/\/","encoding":"base64"}]'  # as PHP writes them
    assert agreed("set", slashes, tight)[2] == [Blob(b"\xff" * 6, "application/octet-stream")]
    for value in (b'"aGVsbG8hIQ==","encoding":"base64"', b'"aGVsbG8h"', b'"hello"', b"1234567"):
        kind, _, pointers = refused("set", b'[{"key":"a","value":%b}]' % value, tight)
        assert (kind, [pointer for pointer, _ in pointers]) == (TooLarge, ["/0/value"])


# --- by chance -------------------------------------------------------------------------------------------------------


class TwiceError(Exception):
    """A member stands twice."""


def members_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(members)) != len(members):
        raise TwiceError
    return dict(members)


LOADS = json.JSONDecoder(object_pairs_hook=members_once).decode


def pausing() -> None:
    """Stand for a pause, which anything does that is not `no_pause`."""


@pytest.fixture(params=["at once", "in steps"])
def pause(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """Give a pause with which all is done at once, or one with which each step is as small as it can be."""
    if request.param == "at once":
        return no_pause
    monkeypatch.setattr(_native, "_STEP", 1)
    monkeypatch.setattr(_native, "_AT_ONCE", -1)
    monkeypatch.setattr(_native, "_SCRATCH", 0)
    monkeypatch.setattr(_native, "_PAUSE_EVERY", 1)
    monkeypatch.setattr(shown, "LARGE", 4)
    return pausing


@pytest.mark.promise("I10")
@needs_native
def test_fuzz_both_twins_make_the_same_of_every_body(
    capsys: pytest.CaptureFixture[str], pause: Callable[[], object], by_definition: list[int]
) -> None:
    """Both on one ring, for the time. What C lets pass is also held against json alone."""
    ring = NativeRing(FIVE, VNODES)
    tight = Limits(max_items=3, max_key=8, max_value=12)
    routers = [(PureRouter(ring, CLUSTER, ERA, limits), NativeRouter(ring, CLUSTER, ERA, limits)) for limits in (LIMITS, tight)]
    bodies = Bodies(FUZZ_SEED)
    ways: Counter[str] = Counter()
    cases = FUZZ_CASES if pause is no_pause else FUZZ_CASES // 3
    for case in range(cases):
        op, body = bodies.next()
        pure, fast = routers[case % 8 == 0]
        by_definition.clear()
        try:
            batch = read(fast, op, body, pause)
        except GkvError as error:
            answer: Found = type(error), error.detail, error.pointers
            ways[type(error).__name__] += 1
        else:
            answer = as_tuples(batch.parts), list(batch.keys), list(batch.values), list(batch.ttls)
            ways["left" if by_definition else "fast"] += 1
            items = LOADS(body.decode())
            assert answer[1] == [item["key"] for item in items], body
            if op == "set":
                for value, item in zip(answer[2], items, strict=True):
                    if isinstance(value, Blob):
                        assert (b64encode(value.data).decode(), "base64") == (item["value"], item["encoding"]), body
                        assert value.content_type == item.get("type", "application/octet-stream")
                    else:
                        assert LOADS(value.decode()) == item["value"], body
                        assert "encoding" not in item
        assert answer == found(pure, op, body), f"seed {FUZZ_SEED}, case {case}: {op} {body!r}"
    with capsys.disabled():
        print(f"\nfuzz of batches: seed {FUZZ_SEED}, {cases} cases, {dict(sorted(ways.items()))}")
    if cases >= 10_000:
        least = {"fast": 0.3, "left": 0.01, "SyntaxProblem": 0.2, "InvalidItem": 0.05, "TooLarge": 0.01}
        assert {way: ways[way] for way, share in least.items() if ways[way] < share * cases} == {}


@pytest.mark.promise("I10")
@needs_native
def test_fuzz_both_twins_make_the_same_of_every_reply(capsys: pytest.CaptureFixture[str], pause: Callable[[], object]) -> None:
    ring = NativeRing(FIVE, VNODES)
    pure, fast = PureRouter(ring, CLUSTER, ERA, LIMITS), NativeRouter(ring, CLUSTER, ERA, LIMITS)
    bodies = Bodies(FUZZ_SEED)
    rng = random.Random(FUZZ_SEED)
    values = [None, None, b"", b"0", b'"hello"', b"[1]" * 50, b"null"]
    ways: Counter[str] = Counter()
    cases = FUZZ_CASES // (3 if pause is no_pause else 9)
    for case in range(cases):
        body = bodies.plain("get", rng.choice((0, 1, 2, 3, 6, 12)))
        batches = pure.read("get", body), fast.read("get", body)
        damaged = [Damage.DAMAGED] if rng.random() < 0.1 else []
        frames = [reply(rng.choices([*values, *damaged], k=len(part.positions))) for part in batches[0].parts]
        changed = rng.random() < 0.6 and frames
        if changed:
            place = rng.randrange(len(frames))
            head, _, payload = frames[place].partition(b"\n")
            if rng.random() < 0.5:  # what matters most stands in the sizes
                at = rng.randint(10, len(head))
                piece = rng.choice(
                    [b"-2", b"-", b"1", b"0", b"9", b",", b" ", b"]", b"}", b"-1", b"4294967295", b"1.", b"e", b""]
                )
                head = head[:at] + piece + head[at + rng.randrange(3) :]
                frames[place] = head + b"\n" + payload
            else:
                frames[place] = bodies.mutated(frames[place])
        answers: list[object] = []
        for batch in batches:
            try:
                done = [PartResult(part, frame) for part, frame in zip(batch.parts, frames, strict=True)]
                answers.append(batch.render_get(done, pause))
            except ValueError as error:
                answers.append(repr(error))
        assert answers[0] == answers[1], f"seed {FUZZ_SEED}, case {case}: {body!r} {frames}"
        assert isinstance(answers[0], tuple), f"seed {FUZZ_SEED}, case {case}: {body!r} {frames}"
        ways["bad" if answers[0][1] else "changed and good" if changed else "good"] += 1
    with capsys.disabled():
        print(f"fuzz of replies: seed {FUZZ_SEED}, {cases} cases, {dict(sorted(ways.items()))}")
    if cases >= 3_000:
        assert min(ways["bad"], ways["good"]) > cases * 0.25
        assert ways["changed and good"] > cases * 0.01
