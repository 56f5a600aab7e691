"""Where settings are read from: flags, the environment, a TOML file.

A flag goes before the environment, the environment before the file, the file before the default. `--max-body` is `GKV_MAX_BODY`
in the environment and `max_body` in the file, and so on. What is not known is refused, in all three: a setting with a slip in
its name would otherwise be the default, and nobody would be told.
"""

import argparse
import json
import os
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from gkv import __version__
from gkv.addresses import names, networks, urls
from gkv.config import KNOBS, Knob, Settings, others_may_read, port, switch, toggle, tokens
from gkv.errors import ConfigError


class Found(NamedTuple):
    """A setting as it was found: its text, what that means, and where it stood."""

    text: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a command was told: its settings, and what else it should do with them."""

    settings: Settings
    found: dict[str, Found]
    print_config: bool
    check_config: bool


def parse(command: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings of `gkv-proxy` or `gkv-node`; ends or raises as `read` does."""
    return read(command, arguments, environment).settings


def read(command: str, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Reading:
    """Read the settings of `gkv-proxy` or `gkv-node`, and where each came from.

    Ends the process with code 2 for wrong flags, as argparse does. Raises ConfigError for what is wrong elsewhere.
    """
    given = _flags(command, arguments, KNOBS)
    found = gather(command, given, environment, KNOBS)
    settings = Settings(**{name: one.value for name, one in found.items()})
    return Reading(settings, found, bool(given.get("print_config")), bool(given.get("check_config")))


class _Parser(argparse.ArgumentParser):
    """Says what is wrong, and not all flags that there are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\nsee {self.prog} --help\n")


def _flags(command: str, arguments: Sequence[str], knobs: Iterable[Knob]) -> dict[str, Any]:
    """Return what the command line says: for a knob, text and value."""
    about = {"proxy": "Serve a gkv cluster over HTTP.", "node": "Hold a part of a gkv cluster's data."}[command]
    parser = _Parser(f"gkv-{command}", description=about, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"gkv {__version__}")
    parser.add_argument("--config", metavar="FILE", help="a TOML file with settings; also GKV_CONFIG")
    parser.add_argument("--print-config", action="store_true", help="show every setting and where it comes from, and end")
    parser.add_argument("--check-config", action="store_true", help="end with code 0 if the settings can be used, else 78")
    for knob in knobs:
        if command not in knob.commands.split():
            continue
        if knob.parse is switch:
            parser.add_argument(knob.flag, action="store_const", const=("1", True), help=knob.why)
            continue
        shown = knob.default and f" (default: {knob.default})"
        parser.add_argument(knob.flag, type=_for_argparse(knob), metavar=knob.name.upper(), help=f"{knob.why}{shown}")
        if knob.secret:
            parser.add_argument(f"{knob.flag}-file", metavar="FILE", help="a file with it, for its owner's eyes alone")
    if command == "node":
        where = Knob("port", port, "", "port to listen on")
        parser.add_argument("port", type=_for_argparse(where), metavar="PORT", help=where.why)
    found, unknown = parser.parse_known_args(arguments)
    if unknown:  # without their values: one may be a secret, behind a flag that was misspelled
        flags = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        others = {knob.flag: knob.commands for knob in knobs if command not in knob.commands.split()}
        belongs = [f"; {flag} belongs to gkv-{others[flag]}" for flag in flags if flag in others]
        parser.error(f"unrecognized arguments: {' '.join(flags or unknown)}{''.join(belongs)}")
    return {name: value for name, value in vars(found).items() if value is not None}


def _for_argparse(knob: Knob) -> Callable[[str], tuple[str, Any]]:
    """Make argparse show what a parser takes; it drops the text of a ValueError."""

    def convert(text: str) -> tuple[str, Any]:
        try:
            return text, knob.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{_shown(knob, text)}; it takes {error}") from None

    return convert


def gather(command: str, flags: Mapping[str, Any], environment: Mapping[str, str], knobs: Sequence[Knob]) -> dict[str, Found]:
    """Return every knob's setting, from the first source that has it. Raise ConfigError.

    `flags` has text and value of the knobs on the command line, and by `config` and `NAME_file` the names of files.
    """
    known = {"GKV_NATIVE", "GKV_CONFIG"} | {f"GKV_{spelling.upper()}" for knob in knobs for spelling in knob.spellings}
    unknown = sorted(name for name in environment if name.startswith("GKV_") and name not in known)
    if unknown:
        raise ConfigError(f"there is no setting {unknown[0]}, which is set in the environment{_like(unknown[0], known)}")
    file = flags.get("config") or environment.get("GKV_CONFIG", "")
    tables = _read_file(Path(file), command, knobs) if file else []
    variables = {name.removeprefix("GKV_").lower(): text for name, text in environment.items() if name in known}
    found = {}
    for knob in knobs:
        if command not in knob.commands.split():
            given = flags.get(knob.name)  # the port of a node is an argument
            found[knob.name] = (
                Found(given[0], given[1], "argument") if given else Found(knob.default, knob.parse(knob.default), "default")
            )
            continue
        found[knob.name] = (
            _from_flags(knob, flags, environment)
            or _from_texts(knob, variables, f"GKV_{knob.name.upper()}", environment)
            or next(filter(None, (_from_texts(knob, texts, origin, environment) for origin, texts in tables)), None)
            or Found(knob.default, knob.parse(knob.default), "default")
        )
    return found


def _from_flags(knob: Knob, flags: Mapping[str, Any], environment: Mapping[str, str]) -> Found | None:
    file = flags.get(f"{knob.name}_file") if knob.secret else None
    if file is not None and knob.name in flags:
        raise ConfigError(f"{knob.flag} and {knob.flag}-file are both given; one of them is one too many")
    if file is not None:
        return _from_secret_file(knob, Path(file), f"{knob.flag}-file", environment)
    if knob.name not in flags:
        return None
    text, value = flags[knob.name]
    return Found(text, value, knob.flag)


def _from_texts(knob: Knob, texts: Mapping[str, str], origin: str, environment: Mapping[str, str]) -> Found | None:
    """Return a knob's setting among the texts of one source, or None."""
    file = texts.get(f"{knob.name}_file") if knob.secret else None
    text = texts.get(knob.name)
    if file is not None and text is not None:
        raise ConfigError(f"{origin}: {knob.name} and {knob.name}_file are both given; one of them is one too many")
    if file is not None:
        return _from_secret_file(knob, Path(file), f"{origin}, {knob.name}_file", environment)
    if text is None:
        return None
    return Found(text, _value(knob, text, origin), origin)


def _value(knob: Knob, text: str, origin: str) -> Any:
    try:
        return knob.parse(text)
    except ValueError as error:
        named = origin if origin == knob.variable else f"{origin}: {knob.name}"
        raise ConfigError(f"{named} is {_shown(knob, text)}; it takes {error}") from None


def _shown(knob: Knob, text: str) -> str:
    return "a secret that is not shown here" if knob.secret else repr(text)


def _like(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


# -- the file

_MAX_FILE = 1 << 20
_MAX_SECRET = 1 << 16


def _read_file(path: Path, command: str, knobs: Sequence[Knob]) -> list[tuple[str, dict[str, str]]]:
    """Return the settings of a TOML file as texts, those of the command's own table first, each table with its name."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MAX_FILE + 1)
        top = tomllib.loads(content[:_MAX_FILE].decode())
    except OSError as error:
        raise ConfigError(f"the file of settings {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the file of settings {path} is not TOML: {error}") from None
    if len(content) > _MAX_FILE:
        raise ConfigError(f"the file of settings {path} has more than {_MAX_FILE} bytes")
    tables = {name: top.pop(name) for name in ("proxy", "node") if isinstance(top.get(name), dict)}
    read = [(name, _texts(f"{path} [{name}]", table, [knob for knob in knobs if name in knob.commands.split()], mode))
            for name, table in tables.items()]  # fmt: skip
    mine = [(f"{path} [{name}]", texts) for name, texts in read if name == command]
    return [*mine, (str(path), _texts(str(path), top, knobs, mode))]


def _texts(origin: str, table: Mapping[str, Any], knobs: Iterable[Knob], mode: int) -> dict[str, str]:
    """Return a table's settings as texts. Raise ConfigError for names that no knob has, and values that no setting can have."""
    by_name = {spelling: knob for knob in knobs for spelling in knob.spellings}
    texts = {}
    for name, value in table.items():
        knob = by_name.get(name)
        if knob is None:
            raise ConfigError(f"{origin}: there is no setting {name[:64]!r}{_like(name, by_name)}")
        if name == knob.name and knob.secret and value and stat.S_IMODE(mode) & 0o066:
            raise ConfigError(f"{origin}: it holds {name}, and others than its owner may read or write it; chmod 600 ends that")
        if isinstance(value, bool) and knob.parse in (switch, toggle):
            texts[name] = str(int(value))
        elif (
            isinstance(value, list)
            and knob.parse in (names, networks, tokens, urls)
            and all(isinstance(one, str) and "," not in one for one in value)
        ):
            texts[name] = ",".join(value)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            texts[name] = str(value)
        else:
            raise ConfigError(f"{origin}: {name} is no value that a setting can have")
        if "\0" in texts[name]:  # which neither a flag nor a variable can have, nor the name of a file
            raise ConfigError(f"{origin}: {name} has a NUL character, which no setting can have")
    return texts


def _from_secret_file(knob: Knob, path: Path, origin: str, environment: Mapping[str, str]) -> Found:
    """Return the secret that a file holds, without the line end. Raise ConfigError when others may read or write the file."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if others_may_read(path, mode, environment):
                raise ConfigError(
                    f"{origin}: {path} has mode {mode:04o}, so others than its owner may read or write it; chmod 600"
                )
            content = file.read(_MAX_SECRET + 1)
    except OSError as error:
        raise ConfigError(f"{origin}: {path} cannot be read: {error.strerror}") from None
    text = ""
    with suppress(UnicodeDecodeError):
        text = content.decode().removesuffix("\n").removesuffix("\r")
    if not text or len(content) > _MAX_SECRET:
        raise ConfigError(f"{origin}: {path} has to hold one secret, as text of at most {_MAX_SECRET} bytes")
    return Found(text, _value(knob, text, origin), f"{origin}={path}")


# -- what an operator is shown


def render(command: str, found: Mapping[str, Found], knobs: Iterable[Knob]) -> str:
    """Return a command's settings and where each came from, as a file that could be given to --config. Secrets are left out."""
    lines = []
    for knob in knobs:
        text, _, origin = found[knob.name]
        line = f"{knob.name} = {_toml(text)}"
        if command not in knob.commands.split():
            if origin != "argument":
                continue
            line = f"# {line}"
        elif knob.secret and origin != "default":
            line = f"# {knob.name} is set, and not shown"
        lines.append(f"{line:<40} # {_toml(origin)[1:-1]}")
    return "\n".join(lines)


def _toml(text: str) -> str:
    """Return a text as a TOML string."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    return json.dumps(safe, ensure_ascii=False).replace("\x7f", "\\u007f")
