"""What a running program does on a signal: SIGTERM and SIGINT end it, SIGHUP has its settings read
again.
"""

import os
import signal
from collections.abc import Callable

import gevent
from gevent.event import Event

from gkv import background
from gkv.log import say, say_exception
from gkv.process.early import EarlySignals, Terminal
from gkv.process.ending import Ending

_LOOK_EVERY = 1.0


def act_on_signals(early: EarlySignals, ready: Event, reload: Callable[[], object]) -> Ending:
    """Return an event that SIGTERM or SIGINT sets; a second signal ends the process at once.

    SIGHUP calls `reload`, in a greenlet of its own, once `ready` is set and unless the end has
    begun. When it comes because the terminal is gone, it ends the process: whoever sat there
    expects nothing to go on behind their back. The signals that have come before are acted on now,
    and those that `early` does not catch stay ignored.
    """
    ending = Ending()
    asked = early.is_ending

    def on_end(number: int) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True  # an end by an error, which is still to be said, is no signal that has come
        ending.because(f"{signal.Signals(number).name} has come")

    def on_hangup(_number: int) -> None:
        if ending.is_set():
            return
        if early.terminal.has_hung_up():
            say("the terminal is gone, and the process ends with it; one that is started with nohup or setsid goes on")
            ending.because("its terminal is gone")
            return
        ready.wait()
        if ending.is_set():
            return
        try:
            reload()
        except Exception:  # noqa: BLE001  # the edge of a greenlet
            say_exception("the settings could not be read again, by an internal error")

    acts = {number: on_hangup if number == signal.SIGHUP else on_end for number in early.caught}
    for number, act in acts.items():
        gevent.signal_handler(number, act, number)
    if early.terminal.look():
        background.start("the look at the terminal", lambda: _follow(early.terminal))
    if early.is_ending:
        first = next(number for number in early.came if number != signal.SIGHUP)
        ending.because(f"{signal.Signals(first).name} has come")
    elif signal.SIGHUP in early.came:
        gevent.spawn(on_hangup, signal.SIGHUP)
    return ending


def _follow(terminal: Terminal) -> None:
    """Look at the terminal until it is gone for good."""
    while terminal.look():
        gevent.sleep(_LOOK_EVERY)
