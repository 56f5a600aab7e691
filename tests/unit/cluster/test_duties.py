"""The part of a document that a member's machines know."""

from gkv.cluster.duties import duties
from gkv.cluster.placement import Placement
from tests.documents import with_copies


def test_lists_of_keys_are_those_of_the_placement_however_many_and_often_asked_for() -> None:
    document = with_copies()
    placement = Placement.of(document)
    known = duties(document, placement, "a")
    keys = [f"k{number}" for number in range(10_000)]
    wanted = [placement.roles[placement.list_of(key)] for key in keys]
    assert [known.roles_of(key) for key in keys] == wanted
    assert [known.roles_of(key) for key in reversed(keys)] == wanted[::-1]
