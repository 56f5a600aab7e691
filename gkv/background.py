"""Greenlets that work in the background for as long as the process lives.

Promise: none of them dies unseen. One that ends by an error ends the process, with a line that says why. Leaves to others: what
is worth going on after, which a loop catches itself.
"""

from collections.abc import Callable

import gevent

from gkv.errors import InternalError
from gkv.log import say_exception


def start(name: str, work: Callable[[], object]) -> gevent.Greenlet:
    """Run `work` in a greenlet of its own and return the greenlet; `name` is for the line about its death.

    An exception of `work` is said with its trace and raised in the main greenlet as an InternalError, so the process ends with
    code 1. To kill the greenlet is no error.
    """
    return gevent.spawn(_run, name, work)


def _run(name: str, work: Callable[[], object]) -> None:
    try:
        work()
    except (Exception, gevent.Timeout) as error:  # noqa: BLE001  # the edge of a greenlet: what nobody sees must not be gone
        say_exception(f"{name} has stopped by an internal error, and so the process ends")
        gevent.get_hub().handle_system_error(InternalError, InternalError(f"{name} has stopped: {error!r}"))
