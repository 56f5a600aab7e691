"""A client for Python: values in and out, batches as large as they come, and what to do when something fails.

    from gkv.client import Client

    with Client("http://127.0.0.1:8080") as client:
        client.set("hi", {"to": "you"})

Promises: a call ends within its deadline, which each batch and each page of a long one has anew. A key that could not be asked
is an error, never missing. A write is repeated only if certainly nothing of it was begun; where that is not known,
`Indeterminate` is raised. Several endpoints may be given; when one fails, the next is asked. A `Client` may be used by many
threads. Leaves to others: the order of what several threads write, and to remember anything.

It is on urllib3, of the extra `gkv[client]`. That has a bounded pool that threads share, on plain sockets of the standard
library; so it works with threads, and with greenlets in a program that gevent has patched, and nothing here imports gevent.
httpx was no choice: it reads answers in Python, so a get takes twice the CPU (640 against 310 us), and brings five packages,
for an asynchronous half that nobody needs here. Neither has a deadline for a whole answer, nor says whether a byte was sent:
`transport.py` does both.
"""

from gkv.client.client import Client
from gkv.client.errors import (
    BatchFailed,
    BatchIndeterminate,
    ClientError,
    ConditionFailed,
    CursorRefused,
    Damaged,
    DiskFull,
    Indeterminate,
    InvalidRequest,
    Overloaded,
    Refused,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unreachable,
    Untrusted,
    WrongType,
)
from gkv.client.listing import Page, Place
from gkv.client.values import ANY, Item, JsonText, Put, key_in, line_of
from gkv.model import Blob

__all__ = [
    "ANY",
    "BatchFailed",
    "BatchIndeterminate",
    "Blob",
    "Client",
    "ClientError",
    "ConditionFailed",
    "CursorRefused",
    "Damaged",
    "DiskFull",
    "Indeterminate",
    "InvalidRequest",
    "Item",
    "JsonText",
    "Overloaded",
    "Page",
    "Place",
    "Put",
    "Refused",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Untrusted",
    "WrongType",
    "key_in",
    "line_of",
]
