"""The command line of both programs: its flags, the help, and one line about what is wrong with it.

Promise: nobody who mistypes a flag is shown more than one line, nor the value of a flag that is not known, which may be a
secret. Leaves to others: what a flag means (`gkv.config`), and the other sources of settings (`gkv.sources`).
"""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from gkv import __version__
from gkv.config import Knob, port, switch
from gkv.nearest import did_you_mean, nearest, nearest_value, shown

_WIDTH = 80
_TOKENS = "TOKEN[,TOKEN]"

GROUPS = {
    "addresses": {
        "host": "ADDRESS",
        "advertise": "HOST:PORT",
        "port": "PORT",
        "proxy": "URL[,URL...]",
        "names": "NAME[,NAME...]",
        "cors_origins": "ORIGIN[,ORIGIN...]",
    },
    "data": {
        "data": "DIR",
        "engine": "lmdb|memory",
        "durability": "sync|async",
        "max_disk": "SIZE",
        "tombstone_ttl": "TIME",
        "restore": "DIR[,DIR...]",
    },
    "cluster": {"spawn": "N", "spawn_port": "PORT", "name": "ID", "weight": "X", "zone": "ZONE", "standby": "", "vnodes": "N"},
    "copies": {
        "replicas": "N",
        "min_in_sync": "N",
        "lease": "TIME",
        "replica_timeout": "TIME",
        "disk_timeout": "TIME",
        "fill_rate": "N",
        "scrub_rate": "N",
    },
    "limits": {
        "deadline": "TIME",
        "drain": "TIME",
        "max_body": "SIZE",
        "max_answer": "SIZE",
        "max_inflight": "N",
        "max_buffered": "SIZE",
    },
    "access": {
        "reader_tokens": _TOKENS,
        "client_tokens": _TOKENS,
        "admin_tokens": _TOKENS,
        "peer_tokens": _TOKENS,
        "allow": "NETWORK[,NETWORK...]",
        "tls_cert": "FILE",
        "tls_key": "FILE",
        "tls_ca": "FILE",
        "insecure": "",
    },
    "logs and metrics": {
        "log_level": "debug|info|warning|error",
        "log_format": "text|json",
        "access_log": "0|1",
        "metrics": "0|1",
    },
    "the process": {"until_stdin_closes": "", "accept_loss": ""},
}
"""The groups of --help in their order: the settings of each, and what stands for the value."""
REST = "other settings"
"""The group of those that have no place above."""

_END = """\
TIME is a number with a unit: 400ms, 2s, 1m, 12h, 1d. SIZE is one with B, KiB,
MiB or GiB. Each setting is also a variable (--max-body: GKV_MAX_BODY) and a
name in the file of --config (max_body); a flag goes before a variable, that
before the file. Codes of the end: 0 as asked, 1 a failure, 2 wrong flags,
78 wrong settings."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        if message.endswith(" required: PORT"):
            message = f"PORT is missing, as in: {self.prog} 9000"
        message = re.sub("^argument ([^:]+): is ", r"\1 is ", message)
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')}\n")


def read(command: str, arguments: Sequence[str], knobs: Iterable[Knob]) -> dict[str, Any]:
    """Return what the command line says: for a knob, text and value.

    Ends the process with code 2 for wrong flags, with 0 for --help and --version.
    """
    knobs = list(knobs)
    parser = _parser(command, knobs)
    _refuse_unknown(parser, command, arguments, knobs)
    found, more = parser.parse_known_args(arguments)
    if more:
        parser.error(f"unknown argument {shown(more[0])}; see {parser.prog} --help")
    return {name: value for name, value in vars(found).items() if value is not None}


def _parser(command: str, knobs: Sequence[Knob]) -> _Parser:
    about = {"proxy": "Serve a gkv cluster over HTTP.", "node": "Hold a part of a gkv cluster's data."}[command]
    usage = {"proxy": "gkv-proxy [FLAG ...]", "node": "gkv-node [FLAG ...] PORT"}[command]
    parser = _Parser(
        f"gkv-{command}",
        usage,
        about,
        _END,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=_WIDTH),
        allow_abbrev=False,
        add_help=False,
    )
    general = parser.add_argument_group("what to do")
    general.add_argument("-h", "--help", action="help", help="show this, and end")
    general.add_argument("--version", action="version", version=f"gkv {__version__}", help="show the version, and end")
    general.add_argument("--config", metavar="FILE", help="a TOML file with settings; also GKV_CONFIG")
    general.add_argument("--print-config", action="store_true", help="show every setting and where it comes from, and end")
    general.add_argument("--check-config", action="store_true", help="end with code 0 if the settings can be used, else 78")
    mine = {knob.name: knob for knob in knobs if command in knob.commands.split()}
    placed = {name for names in GROUPS.values() for name in names}
    groups = GROUPS | {REST: {name: name.upper() for name in mine if name not in placed}}
    for title, names in groups.items():
        if members := [name for name in names if name in mine]:
            group = parser.add_argument_group(title)
            if command == "node" and title == "addresses":
                where = Knob("port", port, "", "port to listen on; 0 lets the system choose")
                group.add_argument("port", type=_for_argparse(where), metavar="PORT", help=where.why)
            for name in members:
                _add(group, mine[name], names[name])
    return parser


def _add(group: Any, knob: Knob, stands_for: str) -> None:
    if knob.parse is switch:
        group.add_argument(knob.flag, action="store_const", const=("1", True), help=knob.why)
        return
    default = knob.default and f" (default: {knob.default})"
    group.add_argument(knob.flag, type=_for_argparse(knob), metavar=stands_for, help=f"{knob.why}{default}".replace("%", "%%"))
    if knob.secret:
        group.add_argument(f"{knob.flag}-file", metavar="FILE", help="a file with it, for its owner's eyes alone")


def _refuse_unknown(parser: _Parser, command: str, arguments: Sequence[str], knobs: Sequence[Knob]) -> None:
    """End the process for a flag that does not exist: argparse would take its value for an argument, and complain of that."""
    mine = {"-h", "--help", "--version", "--config", "--print-config", "--check-config"}
    others = {}
    for knob in knobs:
        flags = [knob.flag, f"{knob.flag}-file"] if knob.secret else [knob.flag]
        if command in knob.commands.split():
            mine.update(flags)
        else:
            others.update(dict.fromkeys(flags, f"gkv-{knob.commands}"))
    secrets = {knob.flag for knob in knobs if knob.secret}
    for before, word in pairwise(("", *arguments)):
        if word == "--":
            return
        flag = word.partition("=")[0]
        if before in secrets or not word.startswith("-") or word == "-" or flag in mine or re.fullmatch(r"-\d*\.?\d+", word):
            continue
        near = nearest(flag, mine | others.keys())
        if flag in others:
            parser.error(f"{flag} belongs to {others[flag]}")
        elif near:
            whose = f" It belongs to {others[near]}" if near in others else ""
            parser.error(f"unknown flag {shown(flag)}{did_you_mean(near)}{whose}")
        parser.error(f"unknown flag {shown(flag)}; see {parser.prog} --help")


def _for_argparse(knob: Knob) -> Callable[[str], tuple[str, Any]]:
    """Make argparse say what a parser takes; it drops the text of a ValueError."""

    def convert(text: str) -> tuple[str, Any]:
        try:
            return text, knob.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(wrong_value(knob, text, error)) from None

    return convert


def wrong_value(knob: Knob, text: str, error: ValueError) -> str:
    """Return what is said of a setting's value, after its name. A secret is not shown."""
    if knob.secret:
        return f"is a secret that is not shown here; it takes {error}"
    return f"is {text!r}; it takes {error}{did_you_mean(nearest_value(text, knob.parse, str(error)))}"
