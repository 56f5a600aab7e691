"""Keys in paths: every key has a spelling that is read back as it, and what is no spelling is refused."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.errors import GkvError, InvalidItem, SyntaxProblem, TooLarge
from gkv.wire.client import Limits
from gkv.wire.path import decode_key

LIMITS = Limits()
_keys = st.text(min_size=1, max_size=40).filter(lambda key: "\0" not in key)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(_keys, st.booleans())
def test_escaped_key_is_read_back(key, everything):
    if everything:
        assert decode_key("".join(f"%{byte:02x}" for byte in key.encode()), LIMITS) == key
    assert decode_key(quote(key, safe="/+;=&"), LIMITS) == key


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text("%0123456789abcdefABCDEF/.+", max_size=12) | st.text(st.characters(max_codepoint=255), max_size=12))
def test_path_that_is_read_is_the_only_one_but_for_needless_escapes(path):
    try:
        key = decode_key(path, LIMITS)
    except GkvError:
        return
    assert "%" not in path or key != path
    assert decode_key(quote(key, safe=""), LIMITS) == key
    assert len(key.encode()) == len(path) - 2 * path.count("%")


@pytest.mark.parametrize(
    "path", ["%", "a%4", "%zz", "%+1", "% 1", "%\u0661\u0661", "\xe9", "\xff", "%ff", "%C0%AF", "%ed%a0%80", "%82"]
)
def test_what_is_no_spelling_is_a_syntax_problem(path):
    with pytest.raises(SyntaxProblem):
        decode_key(path, LIMITS)


@pytest.mark.parametrize(
    ("path", "error"), [("", InvalidItem), ("a%00", InvalidItem), ("%00", InvalidItem), ("%6B" * 481, TooLarge)]
)
def test_what_no_key_can_be_is_refused_and_no_pointer_is_given(path, error):
    with pytest.raises(error) as caught:
        decode_key(path, LIMITS)
    assert caught.value.pointers == ()
    assert caught.value.detail.startswith("a key has")


def test_key_at_the_limit():
    assert decode_key("%6B" * 480, LIMITS) == "k" * 480
