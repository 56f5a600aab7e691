"""The entry of the command: the line is read, its function called, and its end said."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from gkv.command.codes import Code, Ended
from gkv.command.parsing import read


def main() -> None:
    """Run `gkv`."""
    code: object
    try:
        code = run(sys.argv[1:])
    except SystemExit as ended:  # after --help and the like
        code = ended.code
    except BrokenPipeError:  # as of `gkv --help | head`
        code = Code.DONE
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


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
        ended = Ended(f"{error.filename}: {error.strerror}" if error.filename else str(error), Code.REFUSED)
    except KeyboardInterrupt:
        ended = Ended("interrupted", Code.INTERRUPTED)
    print(f"gkv: {ended}", file=sys.stderr)
    return ended.code


if __name__ == "__main__":
    main()
