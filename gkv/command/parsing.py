"""The command line, read by the table: what it says, or one line about what is wrong with it, with what was likely meant."""

import argparse
import re
import sys
from collections.abc import Sequence
from textwrap import fill
from typing import NoReturn

from gkv import __version__
from gkv.command.codes import MEANINGS, Code
from gkv.command.completion import SHELLS, script
from gkv.command.table import COMMANDS, GENERAL, Argument, Command, Flag
from gkv.nearest import did_you_mean, nearest, shown

_WIDTH = 80
_FILES = ("FILE", "DIR", "PATH", "")
"""Names of what may have any bytes; "" are switches."""
COMPLETION = Command(
    "completion",
    "this command",
    "Print the completion of a shell: bash, zsh or fish.",
    "",
    (Argument("SHELL", "bash, zsh or fish"),),
)
ALL = {command.name: command for command in (*COMMANDS, COMPLETION)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub("^argument ([^:]+): ", r"\1: ", message)
        missing = re.search("the following arguments are required: (.*)", message)
        if missing:
            message = f"{missing[1].split(', ')[0]} is missing; see {self.prog} --help"
        wrong(self.prog, message)


def wrong(program: str, text: str) -> NoReturn:
    """End the process for a wrong command line."""
    print(f"{program}: {text}", file=sys.stderr)
    raise SystemExit(Code.USAGE)


def read(arguments: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """Return the command, and what was said for it; ends the process for a wrong line, --help, --version and completion."""
    before, name, after = _split(arguments)
    if not name:
        _general_only(before)
    command = ALL.get(name)
    if command is None:
        wrong("gkv", f"{shown(name)!r} is no command{did_you_mean(nearest(name, ALL)) or '; see gkv --help'}")
    parser = parser_of(command)
    words = [*before, *after]
    _refuse_unknown(parser, command, words)
    parse = parser.parse_known_args if "--" in words else parser.parse_known_intermixed_args  # which would lose what follows it
    found, more = parse(words)
    if more:
        parser.error(f"unknown argument {shown(more[0])!r}; see {parser.prog} --help")
    _refuse_no_text(parser, command, found)
    if command is COMPLETION:
        if found.SHELL not in SHELLS:
            parser.error(f"SHELL is {found.SHELL!r}; it takes one of: {', '.join(SHELLS)}")
        print(script(found.SHELL, tuple(ALL.values()), GENERAL), end="")
        raise SystemExit(Code.DONE)
    return command, found


def _split(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Return the flags before the command's name, the name, "" for none, and all after it."""
    takes_value = {flag.name for flag in GENERAL if flag.value}
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 2 if arguments[at] in takes_value else 1
    return list(arguments[:at]), arguments[at] if at < len(arguments) else "", list(arguments[at + 1 :])


def _general_only(words: list[str]) -> NoReturn:
    if "--version" in words:
        print(f"gkv {__version__}")
        raise SystemExit(Code.DONE)
    if "--help" in words or "-h" in words:
        print(overview())
        raise SystemExit(Code.DONE)
    known = {"--help", "--version", *(flag.name for flag in GENERAL)}
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("-") and flag not in known:
            wrong("gkv", f"unknown flag {shown(flag)}{did_you_mean(nearest(flag, known)) or '; see gkv --help'}")
    wrong("gkv", "COMMAND is missing; see gkv --help")


def overview() -> str:
    """Return the help of the whole."""
    lines = ["usage: gkv COMMAND [FLAG ...] [ARGUMENT ...]", "", "Keys and members of a gkv cluster."]
    for group in dict.fromkeys(command.group for command in ALL.values()):
        lines += ["", f"{group}:"]
        lines += [_entry(command.name, command.about) for command in ALL.values() if command.group == group]
    lines += ["", "flags of all commands:"]
    lines += [_entry(f"{flag.name} {flag.value}".strip(), flag.why) for flag in GENERAL]
    lines += ["", "codes of the end:"]
    lines += [_entry(str(int(code)), meaning) for code, meaning in MEANINGS.items()]
    return "\n".join([*lines, "", "gkv COMMAND --help says more about each."])


def _entry(name: str, text: str) -> str:
    head = f"  {name}".ljust(24)
    shown = fill(text, _WIDTH, initial_indent=" " * 24, subsequent_indent=" " * 24)
    return f"{head.rstrip()}\n{shown}" if len(name) > 21 else head + shown[24:]


def parser_of(command: Command) -> argparse.ArgumentParser:
    """Return the parser of a command."""
    parser = _Parser(
        f"gkv {command.name}",
        command.usage,
        fill(command.about, _WIDTH),
        fill(command.more, _WIDTH) if command.more else None,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=_WIDTH),
        allow_abbrev=False,
        add_help=False,
    )
    own = parser.add_argument_group("arguments and flags")
    for argument in command.arguments:
        own.add_argument(argument.name, nargs=None if argument.count == "1" else argument.count, help=argument.why)
    for flag in command.flags:
        _add(own, flag)
    own.add_argument("-h", "--help", action="help", help="show this, and end")
    if command is not COMPLETION:
        general = parser.add_argument_group("flags of all commands")
        for flag in GENERAL:
            _add(general, flag)
    return parser


def _add(group: "argparse._ArgumentGroup", flag: Flag) -> None:
    names = [flag.short, flag.name] if flag.short else [flag.name]
    why = flag.why.replace("%", "%%")
    if flag.value:
        group.add_argument(*names, dest=flag.dest, metavar=flag.value, help=why)
    else:
        group.add_argument(*names, dest=flag.dest, action="store_true", help=why)


def _refuse_no_text(parser: argparse.ArgumentParser, command: Command, found: argparse.Namespace) -> None:
    """End the process for a word that is not UTF-8, unless it names a file, and for a key without a character."""
    words = [(argument.name, getattr(found, argument.name)) for argument in command.arguments]
    words += [(flag.name, getattr(found, flag.dest, None)) for flag in (*command.flags, *GENERAL) if flag.value not in _FILES]
    for name, said in words:
        for word in said if isinstance(said, list) else [said]:
            if name not in _FILES and isinstance(word, str) and not _is_text(word):
                parser.error(f"{name} is {word!a}, which is not UTF-8")
            if name == "KEY" and word == "":
                parser.error("KEY is empty; a key has at least one character")


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_unknown(parser: argparse.ArgumentParser, command: Command, words: Sequence[str]) -> None:
    """End the process for a flag that does not exist; argparse would take its value for an argument, and complain of that."""
    flags = (*command.flags, *(() if command is COMPLETION else GENERAL))
    known = {"-h", "--help"} | {name for flag in flags for name in (flag.name, flag.short) if name}
    takes_value = {name for flag in flags if flag.value for name in (flag.name, flag.short) if name}
    before = ""
    for word in words:
        if word == "--":
            return
        flag = word.partition("=")[0]
        if before not in takes_value and word.startswith("--") and flag not in known:
            parser.error(f"unknown flag {shown(flag)}{did_you_mean(nearest(flag, known)) or f'; see {parser.prog} --help'}")
        before = word
