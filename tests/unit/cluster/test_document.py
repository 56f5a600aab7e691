"""The cluster document: what is written is read back, and what is none is refused whole."""

import json
from dataclasses import replace

import pytest
import ujson
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.cluster.document import MAX_COPIES, Document, Durability, Layout, Member, State, member_to_json
from gkv.cluster.node import node_from_json
from gkv.errors import InvalidMember
from gkv.model import Node

CLUSTER = "0123456789abcdef" * 2
A, B = (Node(name, f"http://127.0.0.1:{9000 + i}", 1.0 + i) for i, name in enumerate("ab"))
LINES = (
    Member("a", A.url, A.weight, "east", 0xA1, State.FILLING, 6, 5, 1, empty=True, directory=0xA0),
    Member("b", B.url, B.weight, incarnation=0xB1, volatile=True),
)
DOCUMENT = Document(
    CLUSTER, 7, LINES, 64, 2, next=Layout((("a", 2.0), ("b", 2.0)), 64), next_since=7, rebuilt_from=((1, 5),), removed=(0xC1,)
)

_nodes = st.builds(
    Node,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True),
    st.builds(
        "http://{}:{}".format,
        st.from_regex(r"([a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?\.)?[a-z]{1,3}|10\.0\.0\.[1-9]|\[fd00::[1-9]\]", fullmatch=True),
        st.integers(1, 65_535),
    ),
    st.floats(0, 1_000, exclude_min=True),
)
_incarnations = st.integers(0, 2**64 - 1)
_members = st.builds(
    lambda node, zone, incarnation, state, numbers, empty, volatile: Member(
        node.id,
        node.url,
        node.weight,
        zone,
        incarnation,
        state,
        1 + numbers[0],
        numbers[1],
        numbers[2],
        empty,
        volatile,
        incarnation // 2,
    ),
    _nodes,
    st.sampled_from(["", "east"]),
    _incarnations,
    st.sampled_from(State),
    st.tuples(*[st.integers(0, 2**16)] * 3),
    st.booleans(),
    st.booleans(),
)
_documents = st.builds(
    Document,
    st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    st.integers(1, 2**48 - 1),
    st.lists(_members, max_size=4, unique_by=lambda member: member.id).map(
        lambda members: tuple(sorted(members, key=lambda member: member.id))
    ),
    st.integers(1, 4_096),
    st.integers(1, 2**16 - 1),
    durability=st.sampled_from(Durability),
    rebuilt_from=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=3).map(tuple),
    removed=st.lists(_incarnations, max_size=3).map(tuple),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_documents)
def test_document_written_as_json_and_read_is_the_same(document):
    assert Document.from_json(document.to_json()) == document
    assert Document.from_json(json.loads(json.dumps(document.to_json()))) == document
    assert Document.from_json(ujson.loads(ujson.dumps(document.to_json()))) == document


def test_to_json_has_the_documented_members():
    assert DOCUMENT.to_json() == {
        "cluster": CLUSTER,
        "generation": 2,
        "epoch": 7,
        "replicas": 1,
        "min_in_sync": 1,
        "lease_ms": 1000,
        "durability": "sync",
        "vnodes": 64,
        "placement": 1,
        "members": [
            {
                "id": "a",
                "url": "http://127.0.0.1:9000",
                "weight": 1.0,
                "zone": "east",
                "incarnation": "00000000000000a1",
                "state": "filling",
                "since": 6,
                "left": 5,
                "rank": 1,
                "empty": True,
                "volatile": False,
                "directory": "00000000000000a0",
            },
            {
                "id": "b",
                "url": "http://127.0.0.1:9001",
                "weight": 2.0,
                "zone": "",
                "incarnation": "00000000000000b1",
                "state": "up",
                "since": 1,
                "left": 0,
                "rank": 0,
                "empty": False,
                "volatile": True,
                "directory": "0000000000000000",
            },
        ],
        "next": {"weights": [["a", 2.0], ["b", 2.0]], "vnodes": 64, "replicas": 1, "placement": 1},
        "next_since": 7,
        "rebuilt_from": [[1, 5]],
        "removed": ["00000000000000c1"],
    }
    assert Document.from_json(DOCUMENT.to_json()) == DOCUMENT


def test_document_of_the_older_form_is_refused_with_what_to_do():
    old = {"cluster": CLUSTER, "epoch": 3, "replicas": 1, "vnodes": 64, "members": [], "joining": None}
    with pytest.raises(ValueError, match=r"older version, .* begin with empty directories"):
        Document.from_json(old)


FOLLOWING = {
    "the next epoch": ({"epoch": 8}, True),
    "the same": ({}, False),
    "an older one": ({"epoch": 6}, False),
    "as far ahead as may be": ({"epoch": 1_000_007}, True),
    "too far ahead": ({"epoch": 1_000_008}, False),
    "another cluster": ({"cluster": "f" * 32, "epoch": 8}, False),
    "an older generation": ({"generation": 1, "epoch": 8}, False),
    "a later generation that was rebuilt from this one": ({"generation": 3, "rebuilt_from": ((2, 5),), "epoch": 6}, True),
    "one that was rebuilt twice since": ({"generation": 4, "rebuilt_from": ((2, 5), (3, 6)), "epoch": 7}, True),
    "a later generation of something else": ({"generation": 3, "rebuilt_from": ((1, 5),), "epoch": 8}, False),
}


@pytest.mark.parametrize(("changes", "follows"), FOLLOWING.values(), ids=FOLLOWING.keys())
def test_document_follows_one_that_it_may_take_the_place_of(changes, follows):
    assert replace(DOCUMENT, **changes).follows(DOCUMENT) is follows


def changed(**members):
    return DOCUMENT.to_json() | members


def entry(**members):
    return member_to_json(LINES[0]) | members


MALFORMED = {
    "null": None,
    "an array": [],
    "a string": "document",
    "a number": 7,
    "empty": {},
    **{f"no {name}": {key: value for key, value in DOCUMENT.to_json().items() if key != name} for name in DOCUMENT.to_json()},
    "cluster null": changed(cluster=None),
    "cluster a number": changed(cluster=1),
    "cluster short": changed(cluster="0" * 31),
    "cluster long": changed(cluster="0" * 33),
    "cluster in capitals": changed(cluster="A" * 32),
    "cluster with a newline": changed(cluster="0" * 32 + "\n"),
    "epoch 0": changed(epoch=0),
    "epoch negative": changed(epoch=-1),
    "epoch a boolean": changed(epoch=True),
    "epoch a float": changed(epoch=7.0),
    "epoch a string": changed(epoch="7"),
    "epoch null": changed(epoch=None),
    "vnodes 0": changed(vnodes=0),
    "vnodes negative": changed(vnodes=-64),
    "vnodes a boolean": changed(vnodes=True),
    "vnodes a float": changed(vnodes=64.0),
    "vnodes null": changed(vnodes=None),
    "replicas 0": changed(replicas=0),
    "replicas a string": changed(replicas="1"),
    "members null": changed(members=None),
    "members a number": changed(members=1),
    "members a string": changed(members="ab"),
    "members an object": changed(members={"a": entry()}),
    "members of strings": changed(members=["a", "b"]),
    "members out of order": changed(members=[member_to_json(line) for line in reversed(LINES)]),
    "a member twice": changed(members=[entry(), entry()]),
    "an id twice": changed(members=[entry(), entry(url="http://127.0.0.1:1")]),
    "a member without an id": changed(members=[{"url": A.url, "weight": 1.0}]),
    "a member without a url": changed(members=[{"id": "a", "weight": 1.0}]),
    "a member of weight -1": changed(members=[entry(weight=-1)]),
    "a member without a state": changed(members=[{key: part for key, part in entry().items() if key != "state"}]),
    "a member of another state": changed(members=[entry(state="dead")]),
    "a member of an incarnation in capitals": changed(members=[entry(incarnation="A" * 16)]),
    "a member of a short incarnation": changed(members=[entry(incarnation="a1")]),
    "a member of epoch 0": changed(members=[entry(since=0)]),
    "a member that left at -1": changed(members=[entry(left=-1)]),
    "a member that is empty by a word": changed(members=[entry(empty="yes")]),
    "a member of a zone with a blank": changed(members=[entry(zone="a b")]),
    "another durability": changed(durability="never"),
    "another placement": changed(placement=2),
    "a generation beyond 16 bits": changed(generation=1 << 16),
    "an epoch beyond 48 bits": changed(epoch=1 << 48),
    "removed no list": changed(removed="a1"),
    "rebuilt from a number": changed(rebuilt_from=[1]),
    "next of nobody": changed(next={"weights": [["c", 1.0]], "vnodes": 64, "replicas": 1, "placement": 1}),
    "next out of order": changed(next={"weights": [["b", 1.0], ["a", 1.0]], "vnodes": 64, "replicas": 1, "placement": 1}),
    "next of weight 0": changed(next={"weights": [["a", 0]], "vnodes": 64, "replicas": 1, "placement": 1}),
    "next a string": changed(next="c"),
    "a member of weight 10^400": changed(members=[entry(weight=10**400)]),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_from_json_malformed_raises_value_error(data):
    with pytest.raises(
        ValueError, match=r"^it is no cluster document|^it names a node that cannot be|^it asks for|^the ring that"
    ):
        Document.from_json(data)


EMPTY_OF_THE_WRONG_KIND = {
    "members an empty string": changed(members=""),
    "members an empty object": changed(members={}),
    "replicas true": changed(replicas=True),
    "replicas 1.0": changed(replicas=1.0),
}


@pytest.mark.parametrize("data", EMPTY_OF_THE_WRONG_KIND.values(), ids=EMPTY_OF_THE_WRONG_KIND.keys())
def test_from_json_with_a_member_of_the_wrong_type_raises_value_error(data):
    with pytest.raises(ValueError, match=r"^it (is|names|asks)"):
        Document.from_json(data)


@pytest.mark.parametrize("vnodes", [(1 << 26) + 1, 1 << 40])
def test_from_json_with_a_ring_too_large_to_build_raises_value_error(vnodes):
    data = Document(CLUSTER, 1, LINES[:1]).to_json() | {"vnodes": vnodes}
    with pytest.raises(ValueError, match="vnodes"):
        Document.from_json(data)


# -- nodes


@pytest.mark.parametrize("node_id", ["a", "0", "A.b_c:d-e", "127.0.0.1:9000", "x" * 64])
def test_node_from_json_valid_id_is_kept(node_id):
    assert node_from_json({"id": node_id, "url": "http://h:1", "weight": 1}) == Node(node_id, "http://h:1", 1.0)


@pytest.mark.parametrize(
    "node_id", ["", " ", "-a", ".a", ":a", "_a", "a b", "a/b", "a\n", "\u00e9", "\u0661", "x" * 65, None, 1, True, ["a"], {}]
)
def test_node_from_json_wrong_id_raises_with_its_pointer(node_id):
    assert pointer_of({"id": node_id, "url": "http://h:1"}) == "/id"


@pytest.mark.parametrize(
    "url", ["http://h:1", "http://127.0.0.1:9000", "http://a-b.example:65535", "http://n1:80", "https://n1:80"]
)
def test_node_from_json_valid_url_is_kept(url):
    assert node_from_json({"id": "a", "url": url}) == Node("a", url, 1.0)


@pytest.mark.parametrize(
    "url",
    [
        *("", "h:1", "http://h", "http://h:", "http://h:0", "http://h:65536", "http://h:-1", "http://h:http", "http://:80"),
        *(
            "https://h",
            "HTTPS://h:1",
            "httpss://h:1",
            "https://u@h:1",
            "ftp://h:1",
            "//h:1",
            "http:/h:1",
            "http://h:1/",
            "http://h:1/x",
            "http://h:1?x",
            "http://h:1#x",
        ),
        *("http://u@h:1", "http://u:p@h:1", "http://[::g]:80", "http://[::1", "http://h:080", "http://h:\u0661", "http://-h:1"),
        *(
            " http://h:1",
            "http://h:1 ",
            "http://h:1\n",
            "http://h\n:1",
            "http://h\t:1",
            "http://h h:1",
            "http://h\x00:1",
            "http://\u00e9:1",
        ),
        *(
            "http://h h:1",
            "http://127.1:1",
            "http://h%20:1",
            "http://h\r\nX: y:1",
            "http://h.:1",
            None,
            1,
            True,
            ["http://h:1"],
            {},
        ),
    ],
)
def test_node_from_json_wrong_url_raises_with_its_pointer(url):
    assert pointer_of({"id": "a", "url": url}) == "/url"


def test_node_from_json_url_with_a_letter_that_only_folds_to_ascii_raises():
    assert pointer_of({"id": "a", "url": "http://\u212a:80"}) == "/url"  # KELVIN SIGN, whose lower case is an ASCII k


@pytest.mark.parametrize(("weight", "read"), [(1, 1.0), (0.5, 0.5), (1_000, 1_000.0), (5e-324, 5e-324)])
def test_node_from_json_valid_weight_is_a_float(weight, read):
    node = node_from_json({"id": "a", "url": "http://h:1", "weight": weight})
    assert (node.weight, type(node.weight)) == (read, float)


@pytest.mark.parametrize(
    "weight", [float("nan"), float("inf"), float("-inf"), -1, -0.0, 0, 1_000.1, 1_001, True, False, None, "1", "", [1], {}]
)
def test_node_from_json_wrong_weight_raises_with_its_pointer(weight):
    assert pointer_of({"id": "a", "url": "http://h:1", "weight": weight}) == "/weight"


def test_node_from_json_weight_beyond_a_double_raises_with_its_pointer():
    assert pointer_of({"id": "a", "url": "http://h:1", "weight": 10**400}) == "/weight"


@pytest.mark.parametrize("data", [None, [], "a", 1, True, [("id", "a")]])
def test_node_from_json_no_object_raises(data):
    with pytest.raises(InvalidMember, match="a node is an object"):
        node_from_json(data)


def pointer_of(data):
    """Return the pointer of the error for these JSON values."""
    with pytest.raises(InvalidMember) as caught:
        node_from_json(data)
    assert caught.value.status == 422
    [(pointer, _)] = caught.value.pointers
    return pointer


# -- copies


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, MAX_COPIES), st.integers(0, MAX_COPIES), st.integers(1, MAX_COPIES), st.booleans())
def test_document_with_copies_is_read_back(replicas, needed, coming, zoned):
    layout = Layout((("a", 2.0), ("b", 2.0)), 64, coming, zones=(("b", "x"),) if zoned else ())
    document = replace(DOCUMENT, replicas=replicas, min_in_sync=min(needed, replicas), next=layout, ended=(0xD1,))
    again = Document.from_json(ujson.loads(ujson.dumps(document.to_json())))
    assert again == document
    assert again.next == layout
    assert ("zones" in document.to_json()["next"]) is (zoned and coming > 1)


def test_min_in_sync_is_1_for_two_copies_and_else_all_but_one():
    made = [replace(DOCUMENT, replicas=copies, min_in_sync=0).min_in_sync for copies in range(1, 6)]
    assert made == [1, 1, 2, 3, 4]
    assert Document(CLUSTER, 1, replicas=5).min_in_sync == 4


def test_no_more_members_are_needed_than_the_ring_has():
    assert replace(DOCUMENT, replicas=5, min_in_sync=4).needed == 2


@pytest.mark.parametrize("of", ["now", "next"])
@pytest.mark.parametrize("copies", [0, MAX_COPIES + 1, "3", True])
def test_process_refuses_a_document_that_asks_for_more_copies_than_it_can_keep(of, copies):
    data = DOCUMENT.to_json()
    (data if of == "now" else data["next"])["replicas"] = copies
    with pytest.raises(ValueError, match=f"it asks for {copies} replicas; this version keeps at most {MAX_COPIES}"):
        Document.from_json(data)


@pytest.mark.parametrize("parts", [{"replicas": 0}, {"replicas": 6}, {"replicas": 2, "min_in_sync": 3}])
def test_document_with_a_wrong_number_of_copies_cannot_be_made(parts):
    with pytest.raises(ValueError, match="replicas"):
        replace(DOCUMENT, **parts)


WRONG_COPIES = {
    "more in sync than copies": changed(replicas=2, min_in_sync=3),
    "none in sync": changed(replicas=2, min_in_sync=0),
    "zones of a stranger": changed(next=DOCUMENT.to_json()["next"] | {"replicas": 2, "zones": [["c", "x"]]}),
    "zones out of order": changed(next=DOCUMENT.to_json()["next"] | {"replicas": 2, "zones": [["b", "x"], ["a", "x"]]}),
    "a zone with a blank": changed(next=DOCUMENT.to_json()["next"] | {"replicas": 2, "zones": [["a", "x y"]]}),
    "zones a number": changed(next=DOCUMENT.to_json()["next"] | {"replicas": 2, "zones": 1}),
    "zones of triples": changed(next=DOCUMENT.to_json()["next"] | {"replicas": 2, "zones": [["a", "x", "y"]]}),
    "an unhashable zone": changed(next=DOCUMENT.to_json()["next"] | {"replicas": 2, "zones": [[[], "y"]]}),
    "ended a string": changed(ended="a1"),
    "too many ended": changed(ended=["00000000000000a1"] * 65),
}


@pytest.mark.parametrize("data", WRONG_COPIES.values(), ids=WRONG_COPIES.keys())
def test_from_json_malformed_with_copies_raises_value_error(data):
    with pytest.raises(ValueError, match=r"^it is no cluster document"):
        Document.from_json(data)
