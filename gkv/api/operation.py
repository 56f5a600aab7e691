"""What a route says about itself: the values that its description is made of. `gkv.api.openapi` renders them.

A route cannot be declared without one, and `Request.query` takes the parameters that are described and no others; so what is
described and what is answered are the same thing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gkv.errors import GkvError
from gkv.model import KeyFailure

NO_STORE, NO_CACHE = "no-store", "no-cache"
"""What caches may do with an answer: keep none of it, or keep it and ask each time whether it still holds."""
Schema = Mapping[str, Any]
"""JSON Schema, 2020-12, as OpenAPI 3.1 has it."""


def shape(required: str, optional: str = "", **members: Schema) -> dict[str, Any]:
    """Return the schema of an object with these members and no others; their names are separated by spaces."""
    names = [*required.split(), *optional.split()]
    return {
        "type": "object",
        "required": required.split(),
        "additionalProperties": False,
        "properties": {name: members[name] for name in names},
    }


def array(items: Schema, **more: Any) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": items, **more}


def ref(name: str) -> Schema:
    """Return a reference to a schema that several operations use."""
    return {"$ref": f"#/components/schemas/{name}"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the query, or a header that changes what is done; a header is described here and read elsewhere."""

    name: str
    what: str
    schema: Schema
    place: str = "query"
    required: bool = False
    repeated: bool = False
    example: Any = None


@dataclass(frozen=True, slots=True)
class Content:
    """A body of one media type."""

    schema: Schema = field(default_factory=dict)
    example: Any = None


@dataclass(frozen=True, slots=True)
class ResponseDoc:
    """What comes back with one status. `headers` are names of those that `gkv.api.openapi` knows."""

    what: str
    content: Mapping[str, Content] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """What one method of one path takes and answers.

    `problems` are the errors that it can raise, besides those that any request can meet; `failures` are why a single key may
    have no definite answer.
    """

    summary: str
    answers: Mapping[int, ResponseDoc]
    what: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, Content] = field(default_factory=dict)
    body_required: bool = True
    body_limit: str | int = "bodyBytes"
    """Bytes, or the limit in force that says it, by its name in /v1/info."""
    problems: tuple[type[GkvError], ...] = ()
    failures: tuple[KeyFailure, ...] = ()
    below: Parameter | None = None
    """The rest of the path, of a route for all paths that begin in one way; None for a key."""
    caching: str = NO_STORE

    @cached_property
    def query(self) -> Mapping[str, bool]:
        """The parameters of the query, and whether each may stand more than once."""
        return {one.name: one.repeated for one in self.parameters if one.place == "query"}


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Stands where a description would, of a route that is none of the interface's."""

    why: str

    @property
    def query(self) -> Mapping[str, bool]:
        """No parameters."""
        return {}

    @property
    def caching(self) -> str:
        """Nothing."""
        return NO_STORE


Description = Operation | Unlisted
