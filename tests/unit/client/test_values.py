"""Values: what was set is what is read, and texts stay as they are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkv.client import Blob, Item, JsonText, Put, line_of
from gkv.client.values import item_text, key_in, read, text_of
from gkv.wire.client import Limits, read_items

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=100)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)
SPACE = st.text(" \t\n\r", max_size=3)


@given(JSON)
def test_value_is_read_as_it_was_set(value: Any) -> None:
    again = json.loads(text_of(value))
    assert again == value
    assert repr(again) == repr(value)  # 1 is not 1.0, and -0.0 not 0.0


@given(KEY, JSON)
def test_item_is_read_by_the_server_as_it_was_meant(key: str, value: Any) -> None:
    text = text_of(value)
    [item] = read_items(b"[" + item_text(Put(key, value, ttl=1.5, if_absent=True)) + b"]", Limits())
    assert (item.key, item.value, item.ttl, item.condition) == (key, text.encode(), 1.5, "!*")
    assert key_in(item_text(Put(key, value))) == key


@given(KEY, st.binary(), st.sampled_from(["text/plain", 'a/b; c="d\\"e"']))
def test_bytes_are_read_by_the_server_as_they_were_meant(key: str, data: bytes, kind: str) -> None:
    [item] = read_items(b"[" + line_of(Item(key, Blob(data, kind))).encode() + b"]", Limits())
    assert item.value == Blob(data, kind)


@given(st.lists(st.tuples(SPACE, JSON, SPACE)), st.booleans())
def test_raw_answer_has_the_texts_and_else_what_it_has_without(spaced: list[tuple[str, Any, str]], indent: bool) -> None:
    """Against the standard library; white space may stand wherever JSON allows it."""
    texts = [json.dumps(value, indent=1 if indent else None) for _, value, _ in spaced]
    column = ",".join(f"{before}{text}{after}" for (before, _, after), text in zip(spaced, texts, strict=True))
    rows = ",".join(
        f'{before}{{"key":"k", "value" :{text}{after}}}' for (before, _, after), text in zip(spaced, texts, strict=True)
    )
    answer = f'{{"keys":["a"] , "values":[{column}],"existedKey": [{rows}],"complete":false}}\n'
    raw, plain = read(answer, raw=True), json.loads(answer)
    assert raw["values"] == texts
    assert [row["value"] for row in raw["existedKey"]] == texts
    assert all(type(text) is JsonText for text in raw["values"])
    for row in raw["existedKey"]:
        row["value"] = row["value"].value()
    raw["values"] = [text.value() for text in raw["values"]]
    assert raw == plain


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}{}", '{"values":[1', '{"values":[1,]}', '{"values":1}', '{"a":1,}', "{1:2}", "{}x"]
)
def test_raw_answer_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - as json says it too, in words of its own
        read(text, raw=True)


@pytest.mark.parametrize("text", ["", "1 2", '1},{"key":"x","value":2', "nonsense", "[1", "NaN", "[Infinity]"])
def test_text_that_is_not_one_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the text of one"):
        JsonText(text)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": float("-inf")}, "\ud800", [object()], b"bytes", {1, 2}])
def test_value_that_has_no_json_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        item_text(Put("k", value))


def test_text_of_a_number_outlives_python() -> None:
    text = JsonText("-1" + "0" * 29 + ".50")
    assert read_items(b"[" + item_text(Put("k", text)) + b"]", Limits())[0].value == text.encode()


def test_text_of_a_number_may_have_more_digits_than_python_reads() -> None:
    assert JsonText("1" * 5_000) == "1" * 5_000


def test_text_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        JsonText("[" * 100_000 + "]" * 100_000)
