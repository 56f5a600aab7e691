"""The batches of the original interface: what is read, what is refused and where, and the exact bytes of the answers."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.errors import GkvError, InvalidItem, SyntaxProblem, TooLarge
from gkv.model import KeyFailure
from gkv.wire.client import MAX_TTL, Item, Limits, check_key, read_items, read_keys
from gkv.wire.shown import render_failed, render_get

LIMITS = Limits()


def pointers(error):
    return [pointer for pointer, _ in error.pointers]


def keys_body(*keys):
    return json.dumps([{"key": key} for key in keys], ensure_ascii=False).encode()


# -- reading keys


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (b'[{"key":"hi"},{"key":"hi1"}]', ["hi", "hi1"]),
        (b"[]", []),
        (b" [ ]\r\n", []),
        (b'\n[ { "key" : "a" } , {\t"key":"b"}\n]\n', ["a", "b"]),
        (b'[{"key":"b"},{"key":"a"},{"key":"b"}]', ["b", "a", "b"]),
        (b'[{"\\u006bey":"\\u0061\\u00e9"}]', ["a\u00e9"]),
        ('[{"key":"\u00e9"},{"key":"e\u0301"}]'.encode(), ["\u00e9", "e\u0301"]),
        (b'[{"key":"a/../b c%20\\n\\"\\\\"}]', ['a/../b c%20\n"\\']),
    ],
)
def test_read_keys_valid_batch_returns_the_keys_in_request_order(body, keys):
    assert read_keys(body, LIMITS) == keys


@pytest.mark.parametrize(
    ("body", "pointer", "what"),
    [
        (b'{"key":"a"}', "", "an array of objects, not an object"),
        (b'"a"', "", "not a string"),
        (b"1", "", "not a number"),
        (b"null", "", "not null"),
        (b"true", "", "not a boolean"),
        (b'["a"]', "/0", "an item is an object, not a string"),
        (b'[{"key":"a"},[]]', "/1", "not an array"),
        (b'[{"key":"a"},null]', "/1", "not null"),
        (b'[{"key":"a"},1]', "/1", "not a number"),
        (b"[{}]", "/0", 'the member "key" is missing'),
        (b'[{"key":"a"},{}]', "/1", 'the member "key" is missing'),
        (b'[{"key":"a","value":1}]', "/0", 'unknown member "value"'),
        (b'[{"Key":"a"}]', "/0", 'unknown member "Key"'),
        (b'[{"key":"a","":1}]', "/0", 'unknown member ""'),
        ('[{"k\u00e9y":"a"}]'.encode(), "/0", 'unknown member "k\u00e9y"'),
        (b'[{"key":"a","key":"a"}]', "/0", 'the member "key" stands twice'),
        (b'[{"key":"a","\\u006bey":"b"}]', "/0", 'the member "key" stands twice'),
        (b'[{"key":1}]', "/0/key", "a key is a string, not a number"),
        (b'[{"key":null}]', "/0/key", "not null"),
        (b'[{"key":false}]', "/0/key", "not a boolean"),
        (b'[{"key":["a"]}]', "/0/key", "not an array"),
        (b'[{"key":{"a":1}}]', "/0/key", "not an object"),
        (b'[{"key":""}]', "/0/key", "at least one character"),
        (b'[{"key":"a\\u0000b"}]', "/0/key", "U+0000"),
        (b'[{"key":"a\\ud800"}]', "/0/key", "lone surrogate"),
        (b'[{"\\ud800":"a"}]', "/0", "lone surrogate"),
        (b'[{"key":NaN}]', "/0/key", "NaN is not JSON"),
    ],
)
def test_read_keys_invalid_item_raises_with_its_pointer(body, pointer, what):
    with pytest.raises(InvalidItem) as caught:
        read_keys(body, LIMITS)
    assert pointers(caught.value) == [pointer]
    assert what in caught.value.detail


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b'[{"key":"a"}',
        b'[{"key":"a"},]',
        b'[{"key":"a"}] x',
        b'[{"key":"a"}][]',
        b'[{"key":"a",}]',
        b'[{"key" "a"}]',
        b'[{key:"a"}]',
        b'[{"key":"a"}{"key":"b"}]',
        b"[{]",
        b'[{"key":"a"]',
        b"[}",
        b'[,{"key":"a"}]',
        b"[] []",
    ],
)
def test_read_keys_not_json_raises_syntax_problem(body):
    with pytest.raises(SyntaxProblem):
        read_keys(body, LIMITS)


@pytest.mark.parametrize("position", [0, 1, 499, 999])
@pytest.mark.parametrize("read", [read_keys, read_items])
def test_read_one_bad_item_in_1000_names_the_first_bad_one(read, position):
    items = [{"key": f"k{i}"} | ({"value": i} if read is read_items else {}) for i in range(1_000)]
    items[position]["key"] = 7
    items[999]["key"] = ""
    if position == 999:
        items[999]["key"] = 7
    with pytest.raises(InvalidItem, match="not a number") as caught:
        read(json.dumps(items).encode(), LIMITS)
    assert pointers(caught.value) == [f"/{position}/key"]


@pytest.mark.parametrize("name", ["\n\x1b[31m", "x" * 10_000])
def test_read_keys_unknown_member_with_a_hostile_name_is_named_short_and_without_control_characters(name):
    with pytest.raises(InvalidItem) as caught:
        read_keys(json.dumps([{name: 1}]).encode(), LIMITS)
    assert len(caught.value.detail) < 200
    assert caught.value.detail.isprintable()


# -- keys


@pytest.mark.parametrize(
    ("key", "size"),
    [
        ("a" * 480, 480),
        ("\u00e9" * 240, 480),
        ("\u20ac" * 160, 480),
        ("\U0001f600" * 120, 480),
        ("\u007f\u0001\u2028\ufeff", 8),
        (" ", 1),
    ],
)
def test_check_key_up_to_480_bytes_is_returned_as_it_is(key, size):
    assert len(key.encode()) == size
    assert check_key(key, "/0/key", LIMITS) == key
    assert read_keys(keys_body(key), LIMITS) == [key]


@pytest.mark.parametrize(
    "key", ["a" * 481, "\u00e9" * 240 + "a", "\u20ac" * 160 + "a", "\U0001f600" * 120 + "a", "a" * 100_000]
)
def test_check_key_over_480_bytes_raises_too_large_with_its_pointer(key):
    size = len(key.encode()) if len(key) <= 6 * 480 else "more"  # what is certainly too long is not read to its end
    with pytest.raises(TooLarge, match=f"at most 480 bytes as UTF-8, this one has {size}$") as caught:
        read_keys(keys_body("ok", key), LIMITS)
    assert pointers(caught.value) == ["/1/key"]


@pytest.mark.parametrize("key", ["", "\0", "a\0", "\ud800", "a\udfffb", None, True, 1.0, [], {}])
def test_check_key_that_cannot_be_one_raises_invalid_item(key):
    with pytest.raises(InvalidItem) as caught:
        check_key(key, "/3", LIMITS)
    assert pointers(caught.value) == ["/3"]


# -- reading items


@pytest.mark.parametrize(
    "text",
    [
        b'"hello"',
        b'""',
        b"null",
        b"false",
        b"0",
        b"-0",
        b"1.0",
        b"1e2",
        b"1E+2",
        b"3.1400",
        b"9007199254740993",
        b"123456789012345678901234567890",
        b"0.1000000000000000055511151231257827",
        b'{ "a" : [ 1 ,\n\t2 ] }',
        b"[ ]",
        b'"\\u0061\\/\\ud83d\\ude00"',
        '"\u00e9e\u0301\U0001f600\u2028"'.encode(),
        b'"\\u0000"',
    ],
)
@pytest.mark.parametrize("layout", [b'[{"key":"a","value":%b}]', b'[ { "value" :\n %b \t, "key" : "a" } ]'])
def test_read_items_value_keeps_its_text_byte_for_byte(text, layout):
    assert read_items(layout % text, LIMITS) == [Item("a", text)]


def test_read_items_same_key_twice_stands_twice_in_request_order():
    body = b'[{"key":"a","value":1},{"key":"b","value":2},{"key":"\\u0061","value":3}]'
    assert read_items(body, LIMITS) == [Item("a", b"1"), Item("b", b"2"), Item("a", b"3")]


def test_read_items_normal_forms_stay_two_keys():
    body = '[{"key":"\u00e9","value":1},{"key":"e\u0301","value":2}]'.encode()
    assert read_items(body, LIMITS) == [Item("\u00e9", b"1"), Item("e\u0301", b"2")]


@pytest.mark.parametrize("body", [b"[]", b" [\n] "])
def test_read_items_empty_batch_is_empty(body):
    assert read_items(body, LIMITS) == []


@pytest.mark.parametrize(
    ("body", "pointer", "what"),
    [
        (b'[{"key":"a"}]', "/0", 'the member "value" is missing'),
        (b'[{"value":1}]', "/0", 'the member "key" is missing'),
        (b'[{"key":"a","value":1},{"key":"b"}]', "/1", 'the member "value" is missing'),
        (b'[{"key":"a","value":1,"valeu":2}]', "/0", 'unknown member "valeu"'),
        (b'[{"key":"a","value":1,"value":1}]', "/0", 'the member "value" stands twice'),
        (b'[{"key":"a","value":{"b":1,"b":2}}]', "/0/value", 'the member "b" stands twice'),
        (b'[{"key":"a","value":NaN}]', "/0/value", "NaN"),
        (b'[{"key":"a","value":[1e400]}]', "/0/value", "beyond the range of a double"),
        (b'[{"key":"a","value":["\\ud800"]}]', "/0/value", "lone surrogate"),
        (b'[{"key":"a","value":' + b"[" * 65 + b"]" * 65 + b"}]", "/0/value", "64 levels"),
        (b'[{"key":"a","value":' + b"[" * 100_000, "/0/value", "64 levels"),
        (b'[{"key":"","value":1}]', "/0/key", "at least one character"),
    ],
)
def test_read_items_invalid_item_raises_with_its_pointer(body, pointer, what):
    with pytest.raises(InvalidItem) as caught:
        read_items(body, LIMITS)
    assert pointers(caught.value) == [pointer]
    assert what in caught.value.detail


def test_read_items_value_64_levels_deep_is_kept():
    text = b"[" * 64 + b"]" * 64
    assert read_items(b'[{"key":"a","value":%b}]' % text, LIMITS) == [Item("a", text)]


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (b"1", 1.0),
        (b"60", 60.0),
        (b"0.5", 0.5),
        (b"1.5e3", 1500.0),
        (b"1e-9", 1e-9),
        (b"3162240000", 3_162_240_000.0),
        (b"3162240000.0", 3_162_240_000.0),
    ],
)
def test_read_items_valid_ttl_stands_with_its_item_alone(ttl, seconds):
    body = b'[{"key":"a","value":1},{"ttl":%b,"key":"b","value":2},{"key":"c","value":3, "ttl" : %b }]' % (ttl, ttl)
    assert read_items(body, LIMITS) == [Item("a", b"1"), Item("b", b"2", seconds), Item("c", b"3", seconds)]


@pytest.mark.parametrize("ttl", [b"3162240000.1", b"3162240001", b"1e10", b"1e300", b"9" * 300])
def test_read_items_ttl_of_more_than_a_hundred_years_raises_invalid_item_and_says_how_many_there_may_be(ttl):
    with pytest.raises(InvalidItem, match=f"a ttl has at most {MAX_TTL} seconds") as caught:
        read_items(b'[{"key":"a","value":1,"ttl":%b}]' % ttl, LIMITS)
    assert pointers(caught.value) == ["/0/ttl"]
    assert MAX_TTL == 3_162_240_000


@pytest.mark.parametrize(
    "ttl", [b'"1"', b"-1", b"0", b"0.0", b"-0.5", b"true", b"null", b"[]", b"{}", b"1e-400", b"-0", b"NaN", b"1e400"]
)
def test_read_items_invalid_ttl_raises_invalid_item(ttl):
    with pytest.raises(InvalidItem) as caught:
        read_items(b'[{"key":"a","value":1},{"ttl":%b,"key":"b","value":2}]' % ttl, LIMITS)
    assert pointers(caught.value) == ["/1/ttl"]


def test_read_items_valid_ttl_before_an_invalid_item_raises_invalid_item():
    with pytest.raises(InvalidItem) as caught:
        read_items(b'[{"key":"a","value":1,"ttl":1},{"key":"","value":2}]', LIMITS)
    assert pointers(caught.value) == ["/1/key"]


def test_read_keys_with_a_ttl_raises_unknown_member():
    with pytest.raises(InvalidItem, match='unknown member "ttl"'):
        read_keys(b'[{"key":"a","ttl":1}]', LIMITS)


@pytest.mark.parametrize(
    ("text", "limit"),
    [(b'"abc"', 5), (b'"\xc3\xa9"', 4), (b"[ 1 ]", 5), (b'"\\u00e9"', 8), (b"1" * 20, 20)],
)
def test_read_items_value_at_its_limit_is_kept_and_one_over_refused(text, limit):
    body = b'[{"key":"a","value":0},{"key":"b","value":%b}]' % text
    assert read_items(body, Limits(max_value=limit))[1] == Item("b", text)
    with pytest.raises(TooLarge, match=f"at most {limit - 1} bytes as JSON text, this one has more$") as caught:
        read_items(body, Limits(max_value=limit - 1))
    assert pointers(caught.value) == ["/1/value"]


def test_read_items_value_of_1_mib_is_the_default_limit():
    body = b'[{"key":"a","value":"%b"}]'
    assert len(read_items(body % (b"x" * ((1 << 20) - 2)), LIMITS)[0].value) == 1 << 20
    with pytest.raises(TooLarge):
        read_items(body % (b"x" * ((1 << 20) - 1)), LIMITS)


@pytest.mark.parametrize(("read", "item"), [(read_keys, '{"key":"%d"}'), (read_items, '{"key":"%d","value":0}')])
def test_read_10_000_items_is_the_limit(read, item):
    at_limit = "[" + ",".join(item % i for i in range(10_000))
    assert len(read(f"{at_limit}]".encode(), LIMITS)) == 10_000
    with pytest.raises(TooLarge, match="at most 10000 items"):
        read(f"{at_limit},{item % 0}]".encode(), LIMITS)


def test_read_over_the_limit_of_items_stops_before_the_rest_is_read():
    with pytest.raises(TooLarge):
        read_keys(b'[{"key":"a"},{"key":"b"},' + b"[" * 100_000, Limits(max_items=2))


# -- answers


def test_render_get_documented_example_is_exact():
    keys = ["hi", "hi6", "hi1", "hi5"]
    assert render_get(keys, [b'"hello"', None, b'"hello1"', None]) == (
        b'{"existedKey":[{"key":"hi","value":"hello"},{"key":"hi1","value":"hello1"}],'
        b'"notExistedKey":[{"key":"hi6","value":""},{"key":"hi5","value":""}]}'
    )


@pytest.mark.parametrize(
    ("keys", "answers", "body"),
    [
        ([], [], b'{"existedKey":[]}'),
        (["a"], [None], b'{"existedKey":[],"notExistedKey":[{"key":"a","value":""}]}'),
        (
            ["b", "a", "b"],
            [b"1", b"2", b"1"],
            b'{"existedKey":[{"key":"b","value":1},{"key":"a","value":2},{"key":"b","value":1}]}',
        ),
        (["a", "a"], [None, None], b'{"existedKey":[],"notExistedKey":[{"key":"a","value":""},{"key":"a","value":""}]}'),
        (["a"], [b'{ "x" : 1.0 }'], b'{"existedKey":[{"key":"a","value":{ "x" : 1.0 }}]}'),
        (["a"], [b""], b'{"existedKey":[{"key":"a","value":}]}'),
        (
            ["a", "b", "c"],
            [KeyFailure("timeout"), b"1", None],
            (
                b'{"existedKey":[{"key":"b","value":1}],"notExistedKey":[{"key":"c","value":""}],'
                b'"failedKey":[{"key":"a","code":"timeout","retryable":true}],"complete":false}'
            ),
        ),
        (
            ["a"],
            [KeyFailure("refused", retryable=False)],
            b'{"existedKey":[],"failedKey":[{"key":"a","code":"refused","retryable":false}],"complete":false}',
        ),
    ],
)
def test_render_get_answers_are_exact_and_in_request_order(keys, answers, body):
    assert render_get(keys, answers) == body


def test_render_get_other_number_of_answers_raises():
    with pytest.raises(ValueError, match="shorter"):
        render_get(["a", "b"], [None])


@pytest.mark.parametrize(
    ("key", "quoted"),
    [
        ('"', rb'"\""'),
        ("\\", rb'"\\"'),
        ("\n\r\t\b\f", rb'"\n\r\t\b\f"'),
        ("\x01\x1b[31m", rb'"\u0001\u001b[31m"'),
        ("\u00e9\u20ac\U0001f600", '"\u00e9\u20ac\U0001f600"'.encode()),
        ("</script>", b'"</script>"'),
    ],
)
def test_render_key_with_special_characters_is_quoted(key, quoted):
    assert render_get([key], [b"1"]) == b'{"existedKey":[{"key":%b,"value":1}]}' % quoted
    assert render_get([key], [None]) == b'{"existedKey":[],"notExistedKey":[{"key":%b,"value":""}]}' % quoted
    row = b'"failedKey":[{"key":%b,"code":"timeout","retryable":true}],"complete":false' % quoted
    assert render_failed([(key, KeyFailure("timeout"))]) == row


_keys = st.text(min_size=1, max_size=20)
_answers = (
    st.none()
    | st.sampled_from([b"1.0", b'"x"', b"[ ]", b"null", b'""'])
    | st.builds(KeyFailure, st.sampled_from(["timeout", "unreachable"]), st.booleans())
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(_keys, _answers), max_size=12))
def test_render_get_decoded_again_has_every_key_once_in_its_place(pairs):
    body = json.loads(render_get([key for key, _ in pairs], [answer for _, answer in pairs]))
    existed = [{"key": key, "value": json.loads(answer)} for key, answer in pairs if isinstance(answer, bytes)]
    missing = [{"key": key, "value": ""} for key, answer in pairs if answer is None]
    failed = [
        {"key": key, "code": answer.code, "retryable": answer.retryable}
        for key, answer in pairs
        if isinstance(answer, KeyFailure)
    ]
    expected = {"existedKey": existed}
    if missing:
        expected["notExistedKey"] = missing
    if failed:
        expected |= {"failedKey": failed, "complete": False}
    assert body == expected


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.text(max_size=300), st.sampled_from(["1.0", '"x"', "[ 1 ]"])), max_size=8), st.booleans())
def test_read_items_and_read_keys_agree_on_every_key(pairs, ascii_only):
    quoted = [(json.dumps(key, ensure_ascii=ascii_only), text) for key, text in pairs]
    items = "[{}]".format(",".join(f'{{"key":{key},"value":{text}}}' for key, text in quoted)).encode()
    keys = "[{}]".format(",".join(f'{{"key":{key}}}' for key, _ in quoted)).encode()
    valid = all(key and "\0" not in key and len(key.encode()) <= 480 for key, _ in pairs)
    if valid:
        assert read_items(items, LIMITS) == [Item(key, text.encode()) for key, text in pairs]
        assert read_keys(keys, LIMITS) == [key for key, _ in pairs]
    else:
        for read, body in ((read_items, items), (read_keys, keys)):
            with pytest.raises(GkvError) as caught:
                read(body, LIMITS)
            assert caught.value.status in (400, 413)
