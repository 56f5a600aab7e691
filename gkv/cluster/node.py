"""A node as somebody outside describes it: read strictly, refused by naming the member that is wrong."""

import re
from collections.abc import Mapping
from typing import Any

from gkv.addresses import is_url
from gkv.errors import InvalidMember
from gkv.model import Node

MAX_WEIGHT = 1_000
MIN_TOKENS = 16
"""With fewer a node's share has little to do with its weight: it scatters by a quarter of it or more."""
MAX_TOKENS = 262_144
"""Of one node. Each takes 14 bytes in every process, and more of them make no share more even."""
id_is_good = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}").fullmatch


def check_weight(node: Node, vnodes: int) -> None:
    """Raise InvalidMember, with advice, for a weight that no node may join with."""
    tokens = round(vnodes * node.weight)
    if not MIN_TOKENS <= tokens <= MAX_TOKENS:
        raise InvalidMember(
            f"with a weight of {node.weight:g} {node.id} would have {tokens:,} tokens of {MIN_TOKENS} to {MAX_TOKENS:,}: "
            f"take a weight of {MIN_TOKENS / vnodes:g} to {MAX_TOKENS / vnodes:g}, where 1 is an ordinary node's",
            pointers=[("/weight", "not a weight for this cluster")],
        )


def node_to_json(node: Node) -> dict[str, Any]:
    """Return a node as JSON values."""
    return {"id": node.id, "url": node.url, "weight": node.weight}


def node_from_json(data: Any, least: float | None = None) -> Node:
    """Read a node from JSON values; raise InvalidMember, naming what is wrong.

    A weight is above 0, or from `least` on where that is given.
    """
    if not isinstance(data, Mapping):
        raise InvalidMember("a node is an object")
    node_id, url, weight = data.get("id"), data.get("url"), data.get("weight", 1.0)
    if not isinstance(node_id, str) or not id_is_good(node_id):
        raise InvalidMember(
            "an id has 1 to 64 letters, digits, '.', '_', ':' or '-', and starts with a letter or a digit",
            pointers=[("/id", "not a node id")],
        )
    if not isinstance(url, str) or not is_url(url):
        raise InvalidMember("a url is http://HOST:PORT or https://HOST:PORT", pointers=[("/url", "not a node's URL")])
    number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not number or not (0 < weight <= MAX_WEIGHT or weight == least):  # which no NaN is
        raise InvalidMember(f"a weight is a number above 0, at most {MAX_WEIGHT}", pointers=[("/weight", "not a weight")])
    return Node(node_id, url, float(weight))


def number_in(data: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return a whole number of a document; raise ValueError unless it is one from `least` to `most`."""
    number = data[name]
    if type(number) is not int or not least <= number <= most:
        raise ValueError(f"it is no cluster document: {name} is wrong")
    return number
