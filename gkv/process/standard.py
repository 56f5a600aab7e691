"""Standard output, for the few lines that scripts wait for, and standard input, whose end may be
the program's.
"""

import os

from gevent.os import make_nonblocking, nb_read

from gkv.log import Output
from gkv.process.ending import Ending

_output = Output(1)


def announce(line: str) -> None:
    """Write a line that scripts wait for, at once and in one piece, so that lines of several
    processes do not mix.

    Whether anybody takes it is no concern of a running program: not if standard output is closed or
    full either.
    """
    _output.write(f"{line}\n".encode())


def show(text: str) -> None:
    """Write what somebody has asked to see, and a line end. Raise OSError, naming standard output,
    when that cannot be.
    """
    left = f"{text}\n".encode()
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError as error:
        raise OSError(f"standard output cannot be written: {error.strerror}") from None


def end_with_input(ending: Ending) -> None:
    """Set `ending` when standard input closes. Switches greenlets until then."""
    make_nonblocking(0)
    try:
        while nb_read(0, 4096):
            pass
    except OSError:
        pass  # it cannot be read, a terminal that is gone, say: that is an end as well
    ending.because("its standard input has closed")
