"""What an error of the client's is to whoever sits at the command line: a line, advice, and a code of the end."""

from gkv.client.errors import BatchFailed, ClientError, Indeterminate, Refused
from gkv.command.codes import Code, Ended

_SEE = "gkv status shows why"
ADVICE = {
    "unreachable": "is gkv-proxy running there? --url or GKV_URL names another",
    "certificate": "--tls-ca FILE names the authority that has signed it",
    "unauthorized": "--token-file FILE or GKV_TOKEN has a token that the servers know",
    "forbidden": "it takes a token of another role: --token-file FILE",
    "no-primary": _SEE,
    "too-few-copies": _SEE,
    "epoch": _SEE,
    "disk-full": "gkv status shows which node is full; deletes go",
    "overloaded": "try again later, or with fewer --jobs",
    "deadline": "--timeout gives it longer",
    "condition": "gkv get --json shows the version that is there",
    "change-under-way": "gkv status shows how far it is; wait for its end",
    "damaged": "set the key again, or delete it",
    "indeterminate": "read the key, or write again if that does no harm",
    "no-answer": "gkv status shows whether it has begun",
    "wrong-host": "call it by another name, or give the server that one with --names",
    "not-found": "is it a gkv-proxy? Nodes know nothing of members",
    "too-large": "GET /v1/info shows the limits",
}
"""What to do about a code."""


def of_error(error: ClientError) -> Ended:
    """Return the end that an error of the client is.

    >>> from gkv.client import Unreachable
    >>> found = of_error(Unreachable("http://127.0.0.1:1: refused", "unreachable"))
    >>> print(found, found.code)
    http://127.0.0.1:1: refused (unreachable); is gkv-proxy running there? --url or GKV_URL names another 4
    """
    first = next(iter(error.failed.values())) if isinstance(error, BatchFailed) else error
    where = "".join([f"; {pointer}: {detail}" for pointer, detail in first.pointers[:1]])
    advice = ADVICE.get(first.code, "")
    text = f"{error}{where}" + (f"; {advice}" if advice else "")
    return Ended(" ".join(text.split()), code_of(error))


def code_of(error: ClientError) -> Code:
    """Return the code of the end for an error. A batch has the worst of its keys'.

    >>> from gkv.client import ConditionFailed, Unavailable
    >>> code_of(ConditionFailed("no")), code_of(Unavailable("no"))
    (<Code.REFUSED: 3>, <Code.LATER: 4>)
    """
    if isinstance(error, Indeterminate):
        return Code.UNKNOWN
    if isinstance(error, BatchFailed):
        return max(map(code_of, error.failed.values()))
    return Code.REFUSED if isinstance(error, Refused) else Code.LATER
