"""`GET /v1/kv`: pages over several nodes that have each key exactly once, in order; and every request that is no listing."""

import json
import random
from contextlib import suppress
from urllib.parse import quote

import pytest

from gkv.api.data import DataApi
from gkv.api.listing import read_cursor, write_cursor
from gkv.cluster.document import Document
from gkv.coordinator import Coordinator
from gkv.coordinator.channels import Speaker
from gkv.engine import LmdbEngine, MemoryEngine
from gkv.errors import WrongParameter
from gkv.model import Damage
from gkv.node.app import build_app
from gkv.node.backup import Backup
from gkv.replication.names import Scope
from gkv.ring import tokens
from tests.apps.conftest import MAX_BODY, Client, InProcess
from tests.documents import changing
from tests.unit.node.town import Town, in_memory, on_disk

CLUSTER = "0123456789abcdef" * 2
SEED = 4711
DEADLINE = 10.0

# In code point order, which is that of UTF-8's bytes, and not that of UTF-16's units: there U+1F600 comes before U+FF5E.
IN_ORDER = [
    *("\x01", "\t", "\n", " ", '"', "%", "+", "A", "B", "\\", "a", "a\x01", "a ", "a/", "a/1", "a/10", "a/2", "a/b/c", "a0"),
    *("aa", "a\u0301", "a\U0001f600", "b", "\x7f", "\u0080", "\u00e9", "\u07ff", "\u0800", "\u20ac", "\ud7ff", "\ue000"),
    *("\ufeff", "\uff5e", "\uffff", "\U00010000", "\U0001f600", "\U0001f600a", "\U0010ffff"),
]


class Copied:
    """A member that keeps copies, and its application."""

    def __init__(self, town, home):
        self.town = town
        self.engine = home.engine
        self.wall = self
        channels = InProcess(DEADLINE)
        channels.services = {f"http://{name}:1": other.service for name, other in town.homes.items()}
        self.coordinator = Coordinator(home.view, channels, DEADLINE)
        data = DataApi(home.view, self.coordinator, max_body=MAX_BODY, info=dict, checks=list)
        app = build_app(data, home.service.answer, Backup(None).begin, 2 * MAX_BODY, Speaker(home.view, 0))
        self.client = Client(app)

    @property
    def ahead(self):
        """Milliseconds that the clock of expiries is ahead; all members' is."""
        return 0

    @ahead.setter
    def ahead(self, ms):
        for home in self.town.homes.values():
            home.clock.forward(ms)


@pytest.fixture(params=["memory", "lmdb", "three copies in memory", "three copies"])
def nodes(request, build_node, build_cluster, tmp_path):
    """Return three nodes of one cluster, with either engine, and one copy of each key or three."""
    if "copies" in request.param:
        town = Town(tmp_path, in_memory if "memory" in request.param else on_disk).opened()
        yield [Copied(town, home) for home in town.homes.values()]
        assert [error for home in town.homes.values() for error in home.errors] == []
        town.close()
        return
    yield of_one_copy(request.param, build_node, build_cluster, tmp_path)


@pytest.fixture(params=["memory", "lmdb"])
def singles(request, build_node, build_cluster, tmp_path):
    """Return three nodes of one cluster with one copy of each key."""
    return of_one_copy(request.param, build_node, build_cluster, tmp_path)


def of_one_copy(kind, build_node, build_cluster, tmp_path):
    made = []

    def build(node_id, *arguments, **options):
        engine = MemoryEngine(tokens) if kind == "memory" else LmdbEngine(tmp_path / node_id, node_id, tokens)
        made.append(build_node(node_id, *arguments, engine=engine, deadline=DEADLINE, **options))
        return made[-1]

    return build_cluster(3, build=build)


def put(house, *keys, **members):
    for start in range(0, len(keys), 1_000):
        items = [{"key": key, "value": key.upper()} | members for key in keys[start : start + 1_000]]
        assert house.client("POST", "/set", json.dumps(items).encode()).status == 200


def listed(house, **parameters):
    """Return one page."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parameters.items())
    answer = house.client("GET", f"/v1/kv?{query}")
    assert answer.status == 200, answer
    return answer.json()


def pages(house, **parameters):
    """Return all pages, each by the cursor of the one before it."""
    found = [listed(house, **parameters)]
    while "cursor" in found[-1]:
        assert found[-1]["complete"] is False
        assert len(found) < 1_000
        found.append(listed(house, **parameters | {"cursor": found[-1]["cursor"]}))
    assert found[-1]["complete"] is True
    return found


def keys_of(found):
    return [key for page in found for key in page["keys"]]


# -- what is listed


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, len(IN_ORDER) - 1, len(IN_ORDER), len(IN_ORDER) + 1])
def test_pages_have_every_key_once_in_code_point_order_over_all_nodes(nodes, limit):
    shuffled = list(IN_ORDER)
    random.Random(SEED).shuffle(shuffled)
    put(nodes[0], *shuffled)
    assert all(house.engine.live > 3 for house in nodes)
    assert sorted(IN_ORDER) == IN_ORDER
    assert sorted(IN_ORDER, key=lambda key: key.encode("utf-16-be")) != IN_ORDER
    found = pages(nodes[1], limit=limit)
    assert keys_of(found) == IN_ORDER
    assert [len(page["keys"]) for page in found[:-1]] == [limit] * (len(found) - 1)


def test_every_node_lists_the_same(nodes):
    put(nodes[0], *IN_ORDER)
    assert [listed(house) for house in nodes] == [{"keys": IN_ORDER, "complete": True}] * 3


@pytest.mark.parametrize(
    "prefix",
    ["", "a", "a/", "a/1", "a/10", "a/100", "\U0001f600", "\U0010ffff", "\uffff", "\x01", "%", "+", '"', "zz", "\u00e9"],
)
def test_prefix_lists_what_starts_with_it_and_itself(nodes, prefix):
    put(nodes[0], *IN_ORDER)
    expected = [key for key in IN_ORDER if key.startswith(prefix)]
    assert listed(nodes[1], prefix=prefix) == {"keys": expected, "complete": True}
    assert keys_of(pages(nodes[2], prefix=prefix, limit=1)) == expected


def test_normal_forms_have_prefixes_of_their_own(nodes):
    put(nodes[0], "caf\u00e9", "cafe\u0301", "cafe")
    assert listed(nodes[0], prefix="caf\u00e9")["keys"] == ["caf\u00e9"]
    assert listed(nodes[0], prefix="cafe")["keys"] == ["cafe", "cafe\u0301"]


def test_answer_is_exact_to_the_byte(nodes):
    assert nodes[0].client("GET", "/v1/kv").body == b'{"keys":[],"complete":true}'
    assert nodes[0].client("GET", "/v1/kv?values=1").body == b'{"keys":[],"values":[],"complete":true}'
    nodes[0].client("POST", "/set", '[{"key":"a\\"\\n\u00e9","value":[1.0, 1e2]},{"key":"b","value":"\\u0061"}]'.encode())
    answer = nodes[0].client("GET", "/v1/kv?values=1")
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == '{"keys":["a\\"\\n\u00e9","b"],"values":[[1.0, 1e2],"\\u0061"],"complete":true}'.encode()
    cursor = write_cursor(Scope(), 'a"\n\u00e9').encode()
    first = '{"keys":["a\\"\\n\u00e9"],'.encode() + b'"cursor":"%b","complete":false}' % cursor
    assert nodes[0].client("GET", "/v1/kv?limit=1").body == first


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_values_stand_with_their_keys(nodes, limit):
    put(nodes[0], *IN_ORDER)
    found = pages(nodes[1], values=1, limit=limit)
    assert keys_of(found) == IN_ORDER
    assert [value for page in found for value in page["values"]] == [key.upper() for key in IN_ORDER]
    assert "values" not in listed(nodes[1], values=0)


def test_default_limit_is_100(nodes):
    put(nodes[0], *[f"{i:04}" for i in range(250)])
    assert [len(page["keys"]) for page in pages(nodes[1])] == [100, 100, 50]


def test_largest_page_has_10_000_keys(nodes):
    keys = [f"{i:05}" for i in range(20_001)]
    put(nodes[0], *keys)
    found = pages(nodes[1], limit=10_000)
    assert [len(page["keys"]) for page in found] == [10_000, 10_000, 1]
    assert keys_of(found) == keys


def test_page_that_the_last_key_fills_has_a_cursor_to_an_empty_one(nodes):
    put(nodes[0], "a", "b")
    first, second = pages(nodes[0], limit=2)
    assert (first["keys"], second) == (["a", "b"], {"keys": [], "complete": True})


def test_deleted_and_expired_keys_are_not_listed(nodes):
    put(nodes[0], *IN_ORDER)
    put(nodes[0], "a", "b", "\U0001f600", ttl=60)
    nodes[0].client("POST", "/delete", b'[{"key":"a/1"},{"key":"\xc3\xa9"}]')
    left = [key for key in IN_ORDER if key not in ("a/1", "\u00e9")]
    assert listed(nodes[1])["keys"] == left
    nodes[0].wall.ahead = 61_000
    left = [key for key in left if key not in ("a", "b", "\U0001f600")]
    assert listed(nodes[1], values=1) == {"keys": left, "values": [key.upper() for key in left], "complete": True}
    put(nodes[0], "a", "a/1")
    assert {"a", "a/1"} <= set(listed(nodes[1])["keys"])


def test_cursor_goes_on_where_it_was_whatever_has_come_and_gone_since(nodes):
    put(nodes[0], *IN_ORDER)
    first = listed(nodes[1], limit=10)
    nodes[0].client("POST", "/delete", json.dumps([{"key": key} for key in (IN_ORDER[3], IN_ORDER[9], IN_ORDER[20])]).encode())
    put(nodes[0], "\x02", "zzz")
    rest = pages(nodes[2], limit=10, cursor=first["cursor"])
    assert keys_of(rest) == sorted([*IN_ORDER[10:20], *IN_ORDER[21:], "zzz"])


def test_cursor_of_a_key_of_480_bytes_is_taken(nodes):
    longest = ["\U0001f600" * 119 + chr(0x1F600 + i) for i in range(3)]
    put(nodes[0], *longest)
    assert keys_of(pages(nodes[0], limit=1, prefix="\U0001f600" * 119)) == longest


# -- directories


TREE = ["a", "a/1", "a/b/2", "a/b/3", "a/c", "ab", "b/", "b/c/1", "c", "d//e", "\U0010ffff/x", "\U0010ffff\U0010ffff"]


def names_of(found):
    return [name for page in found for name in sorted(page["keys"] + page["prefixes"])]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("prefix", "delimiter"),
    [
        ("", "/"),
        ("a", "/"),
        ("a/", "/"),
        ("a/b", "/"),
        ("b", "/"),
        ("d/", "/"),
        ("", "//"),
        ("", "b"),
        ("", "\U0010ffff"),
        ("", "a/b/"),
    ],
)
def test_keys_that_have_the_delimiter_are_listed_as_prefixes_once(nodes, prefix, delimiter, limit):
    put(nodes[0], *TREE)
    names = {}
    for key in TREE:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix))
            names[key if at < 0 else key[: at + len(delimiter)]] = at >= 0
    found = pages(nodes[1], prefix=prefix, delimiter=delimiter, limit=limit)
    assert names_of(found) == sorted(names)
    assert [name for page in found for name in page["prefixes"]] == sorted(name for name in names if names[name])
    assert all(len(page["keys"]) + len(page["prefixes"]) == limit for page in found[:-1])


def test_answer_with_a_delimiter_is_exact_to_the_byte(nodes):
    put(nodes[0], "a/1", "a/2", "b")
    answer = nodes[1].client("GET", "/v1/kv?delimiter=/")
    assert answer.body == b'{"keys":["b"],"prefixes":["a/"],"complete":true}'
    answer = nodes[1].client("GET", "/v1/kv?delimiter=/&values=1")
    assert answer.body == b'{"keys":["b"],"prefixes":["a/"],"values":["B"],"complete":true}'
    assert nodes[1].client("GET", "/v1/kv?prefix=x&delimiter=/").body == b'{"keys":[],"prefixes":[],"complete":true}'


def test_prefix_whose_last_key_is_gone_is_not_listed(nodes):
    put(nodes[0], "a/1", "a/2", "b/1", "c/1")
    put(nodes[0], "a/1", "c/1", ttl=60)
    nodes[0].client("POST", "/delete", b'[{"key":"a/2"},{"key":"b/1"}]')
    assert listed(nodes[1], delimiter="/")["prefixes"] == ["a/", "c/"]
    nodes[0].wall.ahead = 61_000
    assert listed(nodes[1], delimiter="/")["prefixes"] == []


def test_prefix_of_many_keys_is_not_looked_through(nodes):
    put(nodes[0], *[f"a/{number:05}" for number in range(3_000)], "b")
    read = []
    for house in nodes:
        keys = house.engine.keys
        house.engine.keys = lambda *asked, keys=keys: read.append(keys(*asked)) or read[-1]
    assert listed(nodes[1], delimiter="/") == {"keys": ["b"], "prefixes": ["a/"], "complete": True}
    assert sum(map(len, read)) < 300


def test_cursor_of_another_delimiter_is_answered_422(nodes):
    put(nodes[0], *TREE)
    cursor = listed(nodes[0], delimiter="/", limit=2)["cursor"]
    assert listed(nodes[0], delimiter="/", limit=1, cursor=cursor)["keys"] == ["ab"]
    for other in ("", "&delimiter=b", "&delimiter=//"):
        assert nodes[0].client("GET", f"/v1/kv?cursor={cursor}{other}").status == 422


# -- pages of values


LIMIT = 8 * 65_536
"""Bytes that an answer may have, in these tests."""


@pytest.fixture
def small(nodes, monkeypatch):
    """Return the nodes, whose answers may have little."""
    for house in nodes:
        monkeypatch.setattr(house.coordinator, "max_answer", LIMIT)
    return nodes


QUERIES = ["values=1", "meta=1", "values=1&meta=1", "meta=1&versions=0", "values=1&meta=1&versions=0"]


@pytest.mark.parametrize("query", QUERIES)
def test_page_with_values_ends_by_bytes_and_the_next_goes_on(small, query):
    keys = [f"{number:03}" for number in range(60)]
    values = {key: key * (1 + number * 400) for number, key in enumerate(keys)}
    for key, value in values.items():
        small[0].client("PUT", f"/v1/kv/{key}", json.dumps(value).encode(), {"Content-Type": "application/json"})
    parameters = dict(one.split("=") for one in query.split("&"))
    found = pages(small[1], limit=10_000, **parameters)
    assert keys_of(found) == keys
    sizes = [[len(values[key]) + 2 for key in page["keys"]] for page in found]
    assert len(found) > 10
    for page in sizes[:-1]:
        assert sum(page) >= LIMIT // 4 > sum(page[:-1])
    if "values" in parameters:
        assert [value for page in found for value in page["values"]] == list(values.values())
    if "versions" in parameters:
        assert not any("versions" in page for page in found)
    elif "meta" in parameters:
        assert all(len(page["versions"]) == len(page["keys"]) for page in found)


def test_page_with_values_may_have_thousands_of_small_ones(small):
    keys = [f"{number:05}" for number in range(3_000)]
    put(small[0], *keys)
    found = pages(small[1], values=1, limit=10_000)  # one, if there is time for it
    assert (keys_of(found), [value for page in found for value in page["values"]]) == (keys, keys)
    assert len(found[0]["keys"]) > 100


def test_page_without_versions_has_everything_else_of_each_key(nodes):
    put(nodes[0], "a", "c", "e")
    nodes[0].client("PUT", "/v1/kv/b?ttl=50", b"2", {"Content-Type": "application/json"})
    nodes[0].client("PUT", "/v1/kv/d", b"", {"Content-Type": "text/x"})
    nodes[0].client("PUT", "/v1/kv/f?ttl=50", b"x", {"Content-Type": "text/x"})
    nodes[0].client("DELETE", "/v1/kv/e")
    for query in ("values=1&meta=1", "meta=1"):
        whole = nodes[1].client("GET", f"/v1/kv?{query}").json()
        found = nodes[1].client("GET", f"/v1/kv?{query}&versions=0").json()
        assert len(whole.pop("versions")) == 5
        lefts, whole["ttls"] = whole["ttls"], found["ttls"]
        assert found == whole
        assert [left is None for left in found["ttls"]] == [left is None for left in lefts] == [True, False, True, True, False]
        assert all(48 < left <= 50 for left in found["ttls"] if left)
    alone = nodes[0].client("GET", "/v1/kv?prefix=a&values=1&meta=1&versions=0").json()
    assert alone == {"keys": ["a"], "values": ["A"], "complete": True}
    without = nodes[0].client("GET", "/v1/kv?prefix=a&values=1&versions=0").json()
    assert without == alone, "there are none without meta"


def test_values_that_are_too_much_for_one_answer_together_are_read_in_smaller_pieces(small):
    keys = [f"{number:02}" for number in range(16)]
    for key in keys:
        small[0].client("PUT", f"/v1/kv/{key}", b"x" * (LIMIT // 10), {"Content-Type": "a/b"})
    found = pages(small[1], values=1)
    assert keys_of(found) == keys
    assert len(found) > 4


def test_prefixes_behind_a_key_by_which_a_page_ends_come_with_the_next(small):
    for key in ("a/1", "b", "c/1", "d", "e/1"):
        small[0].client("PUT", f"/v1/kv/{key}", b"x" * (LIMIT // 4), {"Content-Type": "a/b"})
    found = pages(small[1], values=1, delimiter="/")
    assert [(page["keys"], page["prefixes"]) for page in found] == [(["b"], ["a/"]), (["d"], ["c/", "e/"])]


# -- when somebody does not answer


def test_node_that_is_down_makes_a_listing_503_and_never_shorter(singles):
    put(singles[0], *IN_ORDER)
    service = singles[0].channels.services.pop("http://127.0.0.1:9002")
    for target in ("/v1/kv", "/v1/kv?prefix=a&limit=1", "/v1/kv?values=1"):
        answer = singles[0].client("GET", target)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        problem = answer.json()
        assert (problem["type"], problem["retryable"]) == ("urn:gkv:problem:unreachable", True)
        assert "n2" in problem["detail"]
    singles[0].channels.services["http://127.0.0.1:9002"] = service
    assert listed(singles[0])["keys"] == IN_ORDER


@pytest.mark.parametrize("query", QUERIES)
def test_damaged_record_makes_its_page_what_a_read_of_it_is_and_the_keys_alone_are_still_listed(singles, query):
    put(singles[0], "a", "b", "c")
    owner = next(house for house in singles if house.read(["b"]) == [b'"B"'])
    read, records_of, items_of = owner.engine.read, owner.engine.records_of, owner.engine.items_of
    owner.engine.read = lambda keys, now, _room: [
        Damage.DAMAGED if key == "b" else value for key, value in zip(keys, read(keys, now), strict=True)
    ]
    owner.engine.records_of = lambda keys: [
        Damage.DAMAGED if key == "b" else one for key, one in zip(keys, records_of(keys), strict=True)
    ]
    owner.engine.items_of = lambda keys, _room: [
        Damage.DAMAGED if key == "b" else one for key, one in zip(keys, items_of(keys), strict=True)
    ]
    answer, alone = singles[0].client("GET", f"/v1/kv?{query}"), singles[0].client("GET", "/v1/kv/b")
    assert answer.status == alone.status == 500
    assert "retry-after" not in answer.headers
    problem = answer.json()
    assert (problem["type"], problem["retryable"]) == ("urn:gkv:problem:damaged", False)
    assert {name: problem[name] for name in ("type", "retryable")} == {
        name: alone.json()[name] for name in ("type", "retryable")
    }
    assert problem["detail"] == (
        'the record of "b" is not what was written; set it again or delete it, or list without values and meta'
    )
    assert listed(singles[0])["keys"] == ["a", "b", "c"]


def test_key_that_goes_between_its_listing_and_its_reading_is_left_out(singles):
    put(singles[0], "a", "b", "c")
    owner = next(house for house in singles if house.read(["b"]) == [b'"B"'])
    read = owner.engine.read
    owner.engine.read = lambda keys, now, _room: [
        None if key == "b" else value for key, value in zip(keys, read(keys, now), strict=True)
    ]
    assert listed(singles[0], values=1) == {"keys": ["a", "c"], "values": ["A", "C"], "complete": True}


def test_coordinator_of_an_older_epoch_learns_the_newer_one_and_lists(singles):
    put(singles[0], *IN_ORDER)
    mine = singles[0].view.document
    newer = Document(CLUSTER, 9, mine.members, mine.vnodes)
    for house in singles[1:]:
        house.service.adopt(newer)
    assert listed(singles[0])["keys"] == IN_ORDER
    assert singles[0].view.document == newer


def test_node_of_an_older_epoch_is_told_the_newer_one_and_lists(singles):
    put(singles[0], *IN_ORDER)
    mine = singles[0].view.document
    singles[0].service.adopt(Document(CLUSTER, 9, mine.members, mine.vnodes))
    assert listed(singles[0])["keys"] == IN_ORDER
    assert singles[2].view.document.epoch == 9


def test_listing_while_a_node_joins_goes_on(singles):
    put(singles[0], *IN_ORDER)
    during = changing(singles[0].view.document)
    for house in singles:
        house.service.adopt(during)
    assert listed(singles[0])["keys"] == IN_ORDER


def test_before_the_first_member_a_listing_is_503_and_a_wrong_one_still_the_clients_fault(build_node):
    client = build_node().client
    assert client("GET", "/v1/kv").status == 503
    assert client("GET", "/v1/kv?limit=0").status == 422
    assert client("GET", "/v1/kv?x=1").status == 400


# -- what is no listing

WRONG_VALUES = {
    **{
        f"limit={limit}": "limit"
        for limit in ("-1", "0", "1e9", "0x10", "10001", "", "1.0", "+1", "%2B1", "1+", "1_0", "00", "all")
    },
    **{f"limit={limit}": "limit" for limit in ("%D9%A3", "9" * 30, "-0", "true", "1%00", "1%0a", "1000000")},
    "limit=10001&values=1": "limit is a whole number from 1 to 10000",
    **{f"delimiter={text}": "delimiter has 1 to 16 bytes" for text in ("", "a" * 17, "%F0%9F%98%80" * 5, "a%00b")},
    **{f"values={values}": "values is 0 or 1" for values in ("", "2", "true", "01", "-1", "yes")},
    "values": "values is 0 or 1",
    "prefix=" + "a" * 481: "prefix has at most 480 bytes",
    "prefix=" + "%C3%A9" * 241: "prefix has at most 480 bytes",
    "prefix=a%00": "no U+0000",
    "cursor=": "cursor is none that was given",
    "cursor=x": "cursor is none that was given",
    "cursor=%C3%A9": "cursor is none that was given",
    "cursor=" + "A" * 8: "cursor is none that was given",
    "cursor=" + "A" * 5_000: "cursor is none that was given",
}


@pytest.mark.parametrize(("query", "says"), WRONG_VALUES.items(), ids=[query[:40] for query in WRONG_VALUES])
def test_parameter_with_a_value_that_it_does_not_take_is_answered_422(call, query, says):
    answer = call("GET", f"/v1/kv?{query}")
    assert answer.status == 422, answer
    problem = answer.json()
    assert (problem["type"], problem["retryable"]) == ("urn:gkv:problem:parameter-value", False)
    assert says in problem["detail"]


def flipped(cursor, at):
    return cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :]


def test_cursor_that_was_changed_or_is_of_another_prefix_is_answered_422(call):
    call("POST", "/set", json.dumps([{"key": f"a/{i}", "value": i} for i in range(10)]).encode())
    cursor = call("GET", "/v1/kv?prefix=a&limit=3").json()["cursor"]
    assert call("GET", f"/v1/kv?prefix=a&cursor={cursor}").json()["keys"] == [f"a/{i}" for i in range(3, 10)]
    wrong = {flipped(cursor, at) for at in range(len(cursor))}
    wrong |= {
        cursor[:-1],
        cursor + "A",
        cursor + "=",
        cursor + "==",
        cursor.swapcase(),
        " " + cursor,
        cursor + "%0a",
        cursor * 2,
    }
    for one in wrong:
        assert call("GET", f"/v1/kv?prefix=a&cursor={one}").status == 422, one
    for prefix in ("", "a/", "b", "A", "a%20"):
        assert call("GET", f"/v1/kv?prefix={prefix}&cursor={cursor}").status == 422, prefix


@pytest.mark.parametrize("key", ["a", "ab", "abc", "abcd", "\u00e9", "\U0001f600" * 120])
def test_cursor_has_one_spelling_only(key):
    cursor = write_cursor(Scope(), key)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/"
    taken = []
    for last in alphabet:
        with suppress(WrongParameter):
            taken.append((last, read_cursor(Scope(), cursor[:-1] + last)))
    assert taken == [(cursor[-1], key)]


@pytest.mark.parametrize(
    "query",
    ["x=1", "Prefix=a", "key=a", "limit=1&x", "prefix=a&prefix=a", "limit=1&limit=1", "values=1&values=1", "cursor=a&cursor=a"],
)
def test_parameter_that_is_unknown_or_stands_twice_is_answered_400(call, query):
    answer = call("GET", f"/v1/kv?{query}")
    assert (answer.status, answer.json()["type"]) == (400, "urn:gkv:problem:parameter")


@pytest.mark.parametrize("query", ["prefix=%ff", "prefix=%zz", "prefix=%ed%a0%80", "cursor=%", "limit=%c0%b1"])
def test_query_that_cannot_be_read_is_answered_400(call, query):
    answer = call("GET", f"/v1/kv?{query}")
    assert (answer.status, answer.json()["type"]) == (400, "urn:gkv:problem:syntax")


def test_head_answers_as_get_and_other_methods_405(call):
    head = call("HEAD", "/v1/kv")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(b'{"keys":[],"complete":true}')), b"")
    for method in ("POST", "PUT", "DELETE"):
        assert call(method, "/v1/kv").status == 405
