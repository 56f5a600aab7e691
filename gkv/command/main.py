"""The entry of the command: the line is read, its function called, and its end said."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from gkv.command.codes import Code, Ended
from gkv.command.parsing import read


def main() -> None:
    """Run `gkv`."""
    open_standard_streams()
    speak_utf8()
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while modules were loaded, or the end was said
        code = Code.INTERRUPTED
    code = _flushed(code)
    if code == Code.INTERRUPTED:
        os._exit(code)  # at once: the threads of a call that hangs would have to be waited for
    sys.exit(code)


def open_standard_streams() -> None:
    """Have all three, of which whoever starts the command may have closed any; what is written to that one is lost."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end, in its place


def speak_utf8() -> None:
    """Have texts written as the servers have them, whatever the terminal or the locale says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def _flushed(code: int) -> int:
    """Return the code of the end once all is written, or that of an output which does not take it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code in (Code.DONE, Code.NOT_SO) and not isinstance(error, BrokenPipeError):
            print(f"gkv: standard output: {error.strerror}", file=sys.stderr)
            return Code.REFUSED
    return code


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return the code of the end."""
    command, said = read(arguments)
    try:
        from gkv.client import ClientError
        from gkv.command.ending import of_error
    except ModuleNotFoundError as error:
        print(f"gkv: {error.name} is missing: pip install 'gkv[client]' brings it", file=sys.stderr)
        return 2
    module, _, name = command.run.partition(":")
    try:
        return int(getattr(import_module(f"gkv.command.{module}"), name)(said))
    except ClientError as error:
        ended = of_error(error)
    except Ended as error:
        ended = error
    except BrokenPipeError:  # as of `gkv ls | head`
        return Code.DONE
    except OSError as error:
        ended = Ended(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error), Code.REFUSED)
    except KeyboardInterrupt:
        ended = Ended("interrupted", Code.INTERRUPTED)
    print(f"gkv: {ended}", file=sys.stderr)
    return ended.code


if __name__ == "__main__":
    main()
