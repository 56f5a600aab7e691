"""Frames as tests send them to a node and read what comes back."""

from gkv.model import Op
from gkv.wire.ops import (
    Effects,
    Here,
    ItemRows,
    KeyRequest,
    NodeAnswer,
    NodeRequest,
    Page,
    Records,
    Refused,
    Values,
    read_answer,
)

_ANSWERS: dict[Op, type[NodeAnswer]] = {
    Op.GET: Values,
    Op.FETCH: Records,
    Op.PEEK: Records,
    Op.ITEMS: ItemRows,
    Op.KEYS: Page,
    Op.SET: Effects,
    Op.PUT: Effects,
    Op.DELETE: Effects,
    Op.ADD: Effects,
    Op.TOUCH: Effects,
    Op.STATUS: Here,
    Op.ADOPT: Here,
}


def answer_to(request: NodeRequest, frame: bytes) -> NodeAnswer:
    """Read the answer to a request, or the refusal."""
    return read_answer(frame, _ANSWERS[request.op], len(request.keys) if isinstance(request, KeyRequest) else 0)


def refusal(frame: bytes) -> Refused:
    """Read a refusal; raise BadFrame for anything else."""
    return read_answer(frame, Refused)
