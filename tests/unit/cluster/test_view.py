"""The belief of a member about itself."""

import pytest

from gkv.cluster.document import State
from gkv.cluster.view import View
from tests.documents import with_copies


@pytest.mark.parametrize(
    ("line", "copies", "is_whole"),
    [
        ({}, 3, True),
        ({"state": State.FILLING}, 3, False),
        ({"state": State.DOWN}, 3, False),  # it may have been taken out while it was being filled
        ({"incarnation": 5}, 3, False),
        ({"state": State.FILLING}, 1, True),
        ({"state": State.DOWN}, 1, True),
    ],
)
def test_member_certainly_has_all_that_is_its_own_with_copies_only_while_it_is_up(
    line: dict[str, object], copies: int, is_whole: bool
) -> None:
    view = View()
    assert view.is_whole  # as long as nothing is known of copies
    view.act_as("a", ord("a"), 0)
    view.adopt(with_copies({"a": line}, replicas=copies))
    assert view.is_whole is is_whole
