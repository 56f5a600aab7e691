"""The cluster document: what is written is read back, and what is none is refused whole."""

import json

import pytest
import ujson
from hypothesis import given, settings
from hypothesis import strategies as st

from gkv.cluster.document import Document, node_from_json, node_to_json
from gkv.errors import InvalidMember
from gkv.model import Node

CLUSTER = "0123456789abcdef" * 2
A, B, C = (Node(name, f"http://127.0.0.1:{9000 + i}", 1.0 + i) for i, name in enumerate("abc"))
DOCUMENT = Document(CLUSTER, 7, (A, B), 64, C)

_nodes = st.builds(
    Node,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True),
    st.builds(
        "http://{}:{}".format, st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True), st.integers(1, 65_535)
    ),
    st.floats(0, 1_000, exclude_min=True),
)
_documents = st.builds(
    Document,
    st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    st.integers(1, 2**53),
    st.lists(_nodes, max_size=4, unique_by=lambda node: node.id).map(
        lambda nodes: tuple(sorted(nodes, key=lambda node: node.id))
    ),
    st.integers(1, 4_096),
    st.none() | _nodes,
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
        "epoch": 7,
        "replicas": 1,
        "vnodes": 64,
        "members": [
            {"id": "a", "url": "http://127.0.0.1:9000", "weight": 1.0},
            {"id": "b", "url": "http://127.0.0.1:9001", "weight": 2.0},
        ],
        "joining": {"id": "c", "url": "http://127.0.0.1:9002", "weight": 3.0},
    }


def changed(**members):
    return DOCUMENT.to_json() | members


def entry(**members):
    return node_to_json(A) | members


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
    "replicas 2": changed(replicas=2),
    "replicas a string": changed(replicas="1"),
    "members null": changed(members=None),
    "members a number": changed(members=1),
    "members a string": changed(members="ab"),
    "members an object": changed(members={"a": node_to_json(A)}),
    "members of strings": changed(members=["a", "b"]),
    "members out of order": changed(members=[node_to_json(B), node_to_json(A)]),
    "a member twice": changed(members=[node_to_json(A), node_to_json(A)]),
    "an id twice": changed(members=[node_to_json(A), entry(url="http://127.0.0.1:1")]),
    "a member without an id": changed(members=[{"url": A.url, "weight": 1.0}]),
    "a member without a url": changed(members=[{"id": "a", "weight": 1.0}]),
    "a member of weight 0": changed(members=[entry(weight=0)]),
    "a member of weight 10^400": changed(members=[entry(weight=10**400)]),
    "joining a string": changed(joining="c"),
    "joining true": changed(joining=True),
    "joining without a url": changed(joining={"id": "c"}),
    "joining of weight nan": changed(joining=entry(weight=float("nan"))),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_from_json_malformed_raises_value_error(data):
    with pytest.raises(ValueError, match=r"^it is no cluster document|^it names a node that cannot be|^it asks for"):
        Document.from_json(data)


EMPTY_OF_THE_WRONG_KIND = {
    "members an empty string": changed(members=""),
    "members an empty object": changed(members={}),
    "joining 0": changed(joining=0),
    "joining false": changed(joining=False),
    "joining an empty string": changed(joining=""),
    "joining an empty array": changed(joining=[]),
    "joining an empty object": changed(joining={}),
    "replicas true": changed(replicas=True),
    "replicas 1.0": changed(replicas=1.0),
}


@pytest.mark.parametrize("data", EMPTY_OF_THE_WRONG_KIND.values(), ids=EMPTY_OF_THE_WRONG_KIND.keys())
def test_from_json_with_a_member_of_the_wrong_type_raises_value_error(data):
    with pytest.raises(ValueError, match=r"^it (is|names|asks)"):
        Document.from_json(data)


@pytest.mark.parametrize("vnodes", [(1 << 26) + 1, 1 << 40])
def test_from_json_with_a_ring_too_large_to_build_raises_value_error(vnodes):
    data = Document(CLUSTER, 1, (A,)).to_json() | {"vnodes": vnodes}
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
        *("http://u@h:1", "http://u:p@h:1", "http://[::1]:80", "http://[::1", "http://h:080", "http://h:\u0661", "http://-h:1"),
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
        *("http://h_h:1", "http://h%20:1", "http://h\r\nX: y:1", "http://h.:1", None, 1, True, ["http://h:1"], {}),
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


# -- transitions

START = Document(CLUSTER, 7, (A, C), 64)


def test_begin_join_keeps_the_members_and_names_the_newcomer():
    begun = START.begin_join(B)
    assert begun == Document(CLUSTER, 8, (A, C), 64, B)
    assert (START.epoch, START.joining) == (7, None)


def test_finish_join_puts_the_newcomer_among_the_members_in_the_order_of_ids():
    finished = START.begin_join(B).finish_join()
    assert finished == Document(CLUSTER, 9, (A, B, C), 64)
    assert Document.from_json(finished.to_json()) == finished


def test_finish_join_of_a_member_replaces_its_entry():
    heavier = Node(A.id, A.url, 5.0)
    assert START.begin_join(heavier).finish_join() == Document(CLUSTER, 9, (heavier, C), 64)


def test_abandon_join_has_the_members_of_before_under_a_new_epoch():
    assert START.begin_join(B).abandon_join() == Document(CLUSTER, 9, (A, C), 64)


def test_finish_join_without_a_join_raises():
    with pytest.raises(ValueError, match="nobody is joining"):
        START.finish_join()


def test_member_returns_the_entry_with_the_id_and_not_the_joining_one():
    begun = START.begin_join(B)
    assert begun.member("a") is A
    assert begun.member("b") is None
    assert begun.finish_join().member("b") == B


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(_nodes, st.booleans()), max_size=6))
def test_joins_in_any_order_grow_the_epoch_by_one_each_and_stay_readable(joins):
    document = Document(CLUSTER, 1)
    for node, granted in joins:
        before = document
        document = document.begin_join(node)
        assert document.epoch == before.epoch + 1
        document = document.finish_join() if granted else document.abandon_join()
        assert document.epoch == before.epoch + 2
        assert document.joining is None
        assert document.member(node.id) == (node if granted else before.member(node.id))
        assert Document.from_json(document.to_json()) == document
