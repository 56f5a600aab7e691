"""The strict JSON reader: what it refuses and how it says so, and that it never rewrites what it accepts."""

import gc
import json
import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.errors import GkvError, InvalidItem, SyntaxProblem, TooLarge
from gkv.wire import strict
from gkv.wire.client import Limits, read_items, read_keys
from gkv.wire.strict import MAX_DEPTH, Bound, Reader
from tests.contract.bodies import Bodies

SEED = 8259
POINTER = "/7/value"


def read(body):
    """Read a body that is one value; return it decoded and as its text."""
    reader = Reader(body)
    text = reader.text(POINTER)
    reader.end()
    assert text == body.strip(b" \t\r\n")
    return Reader(body).value(POINTER), text.decode()


NOT_JSON = {
    "empty": b"",
    "white space": b" \t\r\n",
    "two values": b"1 x",
    "two numbers": b"1 2",
    "closing bracket too many": b"[1]]",
    "trailing comma in an array": b"[1,]",
    "trailing comma in an object": b'{"a":1,}',
    "leading comma": b"[,1]",
    "no comma": b"[1 2]",
    "no colon": b'{"a" 1}',
    "no value": b'{"a":}',
    "name without quotes": b"{a:1}",
    "name in single quotes": b"{'a':1}",
    "number as a name": b"{1:1}",
    "line comment": b"[1] // one",
    "block comment": b"/* one */ 1",
    "hash comment": b"# one\n1",
    "plus": b"+1",
    "minus alone": b"-",
    "double minus": b"--1",
    "no digit before the point": b".5",
    "no digit after the point": b"5.",
    "no digit in the exponent": b"1e",
    "leading zero": b"01",
    "leading zero after minus": b"-01",
    "hexadecimal": b"0x10",
    "underscore": b"1_000",
    "single quotes": b"'a'",
    "string without end": b'"a',
    "escaped end of a string": b'"a\\"',
    "unknown escape": b'"\\x41"',
    "cut escape": b'"\\u00"',
    "escape that is not hexadecimal": b'"\\u00g0"',
    "raw newline in a string": b'"a\nb"',
    "raw tab in a string": b'"a\tb"',
    "raw U+0000 in a string": b'"a\x00b"',
    "raw U+001F in a string": b'"a\x1fb"',
    "raw newline in a name": b'{"a\nb":1}',
    "capital literal": b"True",
    "cut literal": b"nul",
    "undefined": b"undefined",
    "array without end": b"[1",
    "object without end": b'{"a":1',
    "brackets that do not match": b"[1}",
    "byte order mark": b"\xef\xbb\xbf[1]",
    "UTF-16 without a mark": '[{"key":"a"}]'.encode("utf-16-le"),
    "UTF-32 without a mark": "[1]".encode("utf-32-be"),
    "no-break space around": "\u00a01".encode(),
    "form feed around": b"\f1",
    "arabic digit": "\u0661".encode(),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_read_not_json_raises_syntax_problem(body):
    with pytest.raises(SyntaxProblem):
        read(body)


REFUSED = {
    "NaN": b"NaN",
    "NaN in an array": b"[1,NaN]",
    "Infinity": b"Infinity",
    "-Infinity": b'{"a":-Infinity}',
    "1e400": b"1e400",
    "-1e400": b"[-1e400]",
    "1E+309": b"1E+309",
    "integer of 309 digits above the largest double": b"18" + b"0" * 307,
    "integer of 400 digits": b"1" * 400,
    "integer of 5,000 digits": b"-" + b"1" * 5_000,
    "duplicate member": b'{"a":1,"a":1}',
    "duplicate member, nested": b'{"a":[{"b":1,"c":2,"b":3}]}',
    "duplicate member, one of them escaped": b'{"a":1,"\\u0061":2}',
    "duplicate member, empty name": b'{"":1,"":2}',
    "lone high surrogate": b'"\\ud800"',
    "lone low surrogate": b'"\\uDFFF"',
    "surrogates in the wrong order": b'"\\udc00\\ud800"',
    "two high surrogates": b'"\\ud800\\ud800\\udc00"',
    "lone surrogate in an array": b'["x",["\\ud800"]]',
    "lone surrogate as a member's value": b'{"a":{"b":"\\ud83d"}}',
    "lone surrogate in a member's name": b'{"\\ud800":1}',
    "lone surrogate in a nested member's name": b'[{"a":{"x\\udfff":1}}]',
    "lone surrogate behind an escaped backslash": b'"\\\\\\ud800"',
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_read_value_beyond_the_limits_raises_invalid_item_with_its_pointer(body):
    with pytest.raises(InvalidItem) as caught:
        read(body)
    assert [pointer for pointer, _ in caught.value.pointers] == [POINTER]
    assert caught.value.detail.startswith(f"{POINTER}: ")


KEPT = {
    "null": b"null",
    "zero": b"0",
    "minus zero": b"-0",
    "1.0": b"1.0",
    "1e2": b"1e2",
    "1E+02": b"1E+02",
    "2^53+1": b"9007199254740993",
    "2^64": b"18446744073709551616",
    "30 digits": b"123456789012345678901234567890",
    "30 digits behind the point": b"0.123456789012345678901234567890",
    "integer of 309 digits below the largest double": b"179" + b"0" * 306,
    "a number that rounds to zero": b"1e-400",
    "the largest double": b"1.7976931348623157e308",
    "inner white space": b'{ "a" :\t[ 1 ,\r\n2 ] }',
    "escapes": b'"\\u0061\\/\\b\\f\\n\\r\\t\\"\\\\"',
    "escaped U+0000": b'"\\u0000"',
    "DEL and C1 controls": '"\u007f\u0080\u009f"'.encode(),
    "line separators": '"\u2028\u2029"'.encode(),
    "a surrogate pair": b'"\\ud83d\\ude00"',
    "a surrogate pair in a name": b'{"\\uD83D\\uDE00":1}',
    "an escaped backslash before ud800": b'"\\\\ud800"',
    "characters beyond the first plane": '"\U0001f600\U0010ffff"'.encode(),
    "noncharacters": '"\ufffe\uffff"'.encode(),
    "names that differ only in case": b'{"a":1,"A":2}',
    "names that differ only in normal form": '{"\u00e9":1,"e\u0301":2}'.encode(),
    "an escaped backslash in a name, and what would stand for it": b'{"\\u006b":1,"\\\\u006b":2,"a":3}',
    "the same the other way round": b'{"\\\\u006b":1,"\\u006b":2,"a":3}',
    "one name on two levels": b'{"a":{"a":{"a":1}}}',
}


@pytest.mark.parametrize("body", KEPT.values(), ids=KEPT.keys())
@pytest.mark.parametrize("before", [b"", b" \t\r\n"], ids=["", "padded"])
def test_read_valid_value_returns_its_text_byte_for_byte(body, before):
    value, text = read(before + body + before)
    assert text.encode() == body
    assert value == json.loads(body, parse_int=float)


NOT_UTF8 = {
    "0xff": (b'["ab\xff"]', 4),
    "first byte": (b"\x80[]", 0),
    "overlong slash": (b'"\xc0\xaf"', 1),
    "overlong U+0000": (b'"\xc0\x80"', 1),
    "surrogate as three bytes": (b'"a\xed\xa0\x80"', 2),
    "above U+10FFFF": (b'"\xf4\x90\x80\x80"', 1),
    "cut sequence": (b'["\xe2\x82"]', 2),
    "latin-1": ('{"key":"caf\u00e9"}'.encode("latin-1"), 11),
    "UTF-16 with a mark": ("[1]".encode("utf-16"), 0),
}


@pytest.mark.parametrize(("body", "offset"), NOT_UTF8.values(), ids=NOT_UTF8.keys())
def test_reader_not_utf8_raises_with_the_offset_of_the_byte(body, offset):
    with pytest.raises(SyntaxProblem, match=rf"not UTF-8: byte {offset} is wrong$"):
        read(body)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"[1,]", "line 1, column 4"),
        (b'[1,\n  2,\n  "a\tb"]', "line 3, column 5"),
        (b"[1]\n\n x", "line 3, column 2"),
        ('"\u00e9" x'.encode(), "line 1, column 5"),
        (b"", "empty"),
    ],
)
def test_read_not_json_says_where(body, place):
    with pytest.raises(SyntaxProblem, match=f"{place}$|{place};"):
        read(body)


NESTED = {
    "arrays": (b"[", b"]"),
    "objects": (b'{"a":', b"}"),
    "mixed": (b'[{"a":', b"}]"),
}


def nested(kind, depth):
    """Return a value of this many levels."""
    opening, closing = NESTED[kind]
    step = 2 if kind == "mixed" else 1
    odd = (b"[", b"]") if depth % step else (b"", b"")
    return odd[0] + opening * (depth // step) + b"1" + closing * (depth // step) + odd[1]


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("depth", [1, MAX_DEPTH - 1, MAX_DEPTH])
def test_read_depth_up_to_the_limit_is_kept(kind, depth):
    body = nested(kind, depth)
    assert read(body)[1].encode() == body


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, MAX_DEPTH + 2, 400, 2_000, 100_000])
def test_read_depth_over_the_limit_is_refused(kind, depth):
    with pytest.raises(InvalidItem, match="64 levels deep") as caught:
        read(nested(kind, depth))
    assert caught.value.pointers[0][0] == POINTER


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_read_100_000_open_brackets_raises_and_the_reader_still_works(opening):
    with pytest.raises((InvalidItem, SyntaxProblem)):
        read(opening * 100_000)
    assert read(b"[1]") == ([1.0], "[1]")


def test_read_empty_containers_at_the_limit_count_as_a_level():
    assert read(b"[" * 63 + b"{}" + b"]" * 63)
    with pytest.raises(InvalidItem):
        read(b"[" * 64 + b"{}" + b"]" * 64)


def test_read_wide_value_counts_its_deepest_branch():
    deep = nested("arrays", MAX_DEPTH)
    with pytest.raises(InvalidItem):
        read(b"[" + b"1," * 1_000 + deep + b"]")
    assert read(b"[" + b"[1]," * 1_000 + nested("arrays", MAX_DEPTH - 1) + b"]")


def test_take_other_character_raises_naming_what_was_expected():
    reader = Reader(b" ;")
    with pytest.raises(SyntaxProblem, match="expected , or ] at line 1, column 2"):
        reader.expect(b",]")
    assert reader.expect(b";") == b";"
    assert reader.peek() == b""
    with pytest.raises(SyntaxProblem):
        reader.expect(b";")


_white_space = st.text(" \t\r\n", max_size=3)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    value=_values,
    ascii_only=st.booleans(),
    indent=st.none() | st.integers(0, 3) | st.just("\t"),
    spaces=st.tuples(_white_space, _white_space, _white_space, _white_space),
    outside=st.tuples(_white_space, _white_space),
)
def test_value_any_json_in_any_layout_returns_the_text_unchanged(value, ascii_only, indent, spaces, outside):
    before_comma, after_comma, before_colon, after_colon = spaces
    separators = (f"{before_comma},{after_comma}", f"{before_colon}:{after_colon}")
    source = json.dumps(value, ensure_ascii=ascii_only, indent=indent, separators=separators)
    decoded, text = read(f"{outside[0]}{source}{outside[1]}".encode())
    assert text == source
    assert decoded == json.loads(source, parse_int=float)


BATCHES = [
    b'[{"key":"hi"},{"key":"hi1"}]',
    b'[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}]',
    b' [ { "value" : [ 1.0 , -2e2 , null , true ] , "key" : "a" } ,\n {"key":"a","value":{"b":{"c":"\\u00e9"}}} ] ',
    '[{"key":"\u00e9\U0001f600","value":"\\ud83d\\ude00\\\\"},{"key":"\\u0061","value":123456789012345678901234567890}]'.encode(),
    b'[{"key":"k","value":{"a":1,"b":2},"ttl":60},{"key":"l","value":""}]',
    b"[]",
]
FRAGMENTS = [
    *(
        b",",
        b":",
        b'"',
        b"[",
        b"]",
        b"{",
        b"}",
        b"\\",
        b" ",
        b"\n",
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(b"\\ud800", b"\\udc00", b"\\u0000", b"NaN", b"-Infinity", b"1e400", b"0", b"-", b"+", b".", b"e", b"null", b"true"),
    *(b'"key":"x",', b',"key":"x"', b'"value":1,', b'"ttl":1,', b'{"key":"x"},', b'{"key":"x","value":0},', b"[" * 70, b"//"),
]


def mutate(chance, body):
    """Return the body after one to three edits."""
    for _ in range(chance.randint(1, 3)):
        start = chance.randint(0, len(body))
        end = min(len(body), start + chance.choice((0, 0, 1, 1, 2, 8)))
        new = chance.choice(
            (
                b"",
                bytes([chance.randrange(256)]),
                bytes([chance.randrange(32, 127)]),
                chance.choice(FRAGMENTS),
                body[start : end + 4],
            )
        )
        body = body[:start] + new + body[end:]
    return body


def _read_by_the_standard_library(body):
    """Return what json makes of a body, or None."""
    try:
        return json.loads(body.decode("utf-8"), parse_int=float)
    except (ValueError, RecursionError):
        return None


def test_read_mutated_batches_raise_only_their_errors_and_agree_with_the_standard_library():
    chance = random.Random(SEED)
    counts = {"accepted": 0, "not JSON": 0, "refused": 0}
    for _ in range(25_000):
        body = mutate(chance, chance.choice(BATCHES))
        expected = _read_by_the_standard_library(body)
        for read_batch in (read_keys, read_items):
            try:
                found = read_batch(body, Limits())
            except SyntaxProblem:
                assert expected is None, body
                counts["not JSON"] += 1
            except (InvalidItem, TooLarge):
                counts["refused"] += 1
            else:
                counts["accepted"] += 1
                assert expected is not None, body
                if read_batch is read_keys:
                    assert found == [item["key"] for item in expected], body
                else:
                    read = [(item.key, json.loads(item.value, parse_int=float), item.ttl) for item in found]
                    assert read == [(item["key"], item["value"], item.get("ttl")) for item in expected], body
                    assert all(item.value in body for item in found), body
    assert min(counts.values()) > 2_000, counts


def outcome(body, pause=strict.no_pause, bound=None):
    """Return all that can be seen of what the reader makes of a body."""
    try:
        reader = Reader(body, pause)
        text = reader.text(POINTER, bound)
        reader.end()
    except GkvError as error:
        return type(error), error.detail, error.pointers
    return text


@pytest.mark.parametrize("seed", [1, 2])
def test_read_by_short_cuts_and_token_by_token_is_the_same(monkeypatch, seed):
    """What is small and simple is read many tokens at once; those ways must agree with the long one."""
    bodies = Bodies(seed)
    cases = [body for _, body in (bodies.next() for _ in range(4_000))]
    cases += [b"[" * levels + b",".join([inner] * 40) + b"]" * levels for levels in range(58, 65) for inner in NESTED_IN]
    bounds = [None if i % 3 else Bound(i % 40, "too long") for i in range(len(cases))]
    short = [outcome(body, bound=bound) for body, bound in zip(cases, bounds, strict=True)]
    never = re.compile(b"(?!)").match
    monkeypatch.setattr(Reader, "_small", lambda *_: False)
    monkeypatch.setattr(strict, "_short", never)
    monkeypatch.setattr(strict, "_elements", re.compile(b"()??").match)
    monkeypatch.setattr(strict, "_scalars", re.compile(b"()??").match)
    monkeypatch.setattr(strict, "_members", never)
    monkeypatch.setattr(strict, "_last_member", never)
    assert [outcome(body, bound=bound) for body, bound in zip(cases, bounds, strict=True)] == short
    assert sum(isinstance(one, bytes) for one in short) > 1_000


NESTED_IN = [
    b"1",
    b"[]",
    b"{}",
    b"[[]]",
    b"[{}]",
    b'{"a":[1]}',
    b'["]"]',
    b'["]",[{"[":[]}]]',
    b'{"}":{"a":[[]]}}',
    b'"\\"]"',
    b"[[[[]]]]",
]


def large_values():
    return {
        "numbers": b"[" + b"-1," * 300_000 + b"1]",
        "numbers that are looked at one by one": b"[" + b"1e111," * 30_000 + b"1]",
        "arrays": b"[" + b"[]," * 300_000 + b"1]",
        "arrays of arrays": b"[" + b"[[[]]]," * 140_000 + b"1]",
        "objects": b"[" + b'{"a":1},' * 120_000 + b"1]",
        "members": b"{" + b",".join([b'"k%d":0' % i for i in range(90_000)]) + b"}",
        "escaped members": b"{" + b",".join([b'"\\u006b%d":0' % i for i in range(20_000)]) + b"}",
        "a string": b'"' + b"x" * 1_000_000 + b'"',
        "escapes": b'"' + rb"\\" * 500_000 + b'"',
        "surrogate pairs": b'"' + rb"\ud83d\ude00" * 80_000 + b'"',
        "white space": b"[" + b" " * 1_000_000 + b"1]",
        "64 levels": b"[" * 64 + b"1," * 300_000 + b"1" + b"]" * 64,
    }


@pytest.mark.parametrize(("name", "end"), [(name, end) for name in large_values() for end in (b"", b"x")])
def test_read_large_value_pauses_after_every_few_ms_of_work(name, end):
    longest = 0.0
    last = time.thread_time()

    def pause():
        nonlocal longest, last
        longest = max(longest, time.thread_time() - last)
        last = time.thread_time()

    body = large_values()[name] + end
    gc.disable()  # for all that other tests have left here, that takes as long as the value
    try:
        last = time.thread_time()
        found = outcome(body, pause)
        pause()
    finally:
        gc.enable()
    assert found == body if not end else found[0] is SyntaxProblem
    assert longest < 0.1


def test_read_too_large_value_is_refused_before_the_rest_is_looked_at():
    bound = Bound(1_000, "it has more than 1000 bytes")
    for text in (
        b'"' + b"x" * 1_000_000,
        b"[" + b"1," * 500_000,
        b"1" * 1_000_000,
        b"[" + b'"a",' * 250_000,
        b'{"a":"' + b"x" * 9_000,
    ):
        steps = []
        with pytest.raises(TooLarge, match="it has more than 1000 bytes") as caught:
            Reader(text, lambda: steps.append(1)).text(POINTER, bound)  # noqa: B023
        assert caught.value.pointers == ((POINTER, "it has more than 1000 bytes"),)
        assert len(steps) < 20
    for text in (b'"%b"' % (b"x" * 998), b"[%b1]" % (b"1," * 498 + b" "), b"0." + b"1" * 998):
        assert Reader(text + b" ").text(POINTER, bound) == text
        with pytest.raises(TooLarge):
            Reader(text).text(POINTER, Bound(999, ""))
