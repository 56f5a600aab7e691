"""The codes of the end. Pure."""

from enum import IntEnum


class Code(IntEnum):
    """The codes of the end."""

    DONE = 0
    NOT_SO = 1
    USAGE = 2
    REFUSED = 3
    LATER = 4
    UNKNOWN = 5
    INTERRUPTED = 130


MEANINGS = {
    Code.DONE: "as asked",
    Code.NOT_SO: "there is no such key or nothing to show; not ready; damaged; not agreed to",
    Code.USAGE: "a wrong command line",
    Code.REFUSED: "refused, and will be again; nothing has changed",
    Code.LATER: "not now; nothing has changed, and later it may go",
    Code.UNKNOWN: "a write that may take effect, or not",
    Code.INTERRUPTED: "interrupted",
}


class Ended(Exception):
    """The command cannot go on; its text is the line that says why."""

    def __init__(self, text: str, code: Code) -> None:
        super().__init__(text)
        self.code = code
