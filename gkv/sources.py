"""Where settings are read from: flags, the environment, a TOML file.

A flag goes before the environment, the environment before the file, the file before the default. `--max-body` is `GKV_MAX_BODY`
in the environment and `max_body` in the file, and so on. What is not known is refused, in all three: a setting with a slip in
its name would otherwise be the default, and nobody would be told.
"""

import json
import os
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gkv import flags as command_line
from gkv.addresses import names, networks, urls
from gkv.config import KNOBS, Knob, Settings, others_may_read, switch, toggle, tokens
from gkv.errors import ConfigError
from gkv.nearest import did_you_mean, nearest, shown
from gkv.origins import origins


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

    Ends the process with code 2 for wrong flags. Raises ConfigError for what is wrong elsewhere.
    """
    given = command_line.read(command, arguments, KNOBS)
    found = gather(command, given, environment, KNOBS)
    settings = Settings(**{name: one.value for name, one in found.items()})
    return Reading(settings, found, bool(given.get("print_config")), bool(given.get("check_config")))


OF_THE_COMMAND = ("GKV_URL", "GKV_TOKEN", "GKV_TOKEN_FILE")
"""Variables of the command `gkv`, which may stand in the environment of a server, and mean nothing to it."""


def gather(command: str, flags: Mapping[str, Any], environment: Mapping[str, str], knobs: Sequence[Knob]) -> dict[str, Found]:
    """Return every knob's setting, from the first source that has it. Raise ConfigError.

    `flags` has text and value of the knobs on the command line, and by `config` and `NAME_file` the names of files.
    """
    known = {"GKV_NATIVE", "GKV_CONFIG", *OF_THE_COMMAND} | {
        f"GKV_{spelling.upper()}" for knob in knobs for spelling in knob.spellings
    }
    unknown = sorted(name for name in environment if name.startswith("GKV_") and name not in known)
    if unknown:
        near = did_you_mean(nearest(unknown[0], known))
        raise ConfigError(f"there is no setting {shown(unknown[0])}, which is set in the environment{near}")
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
        raise ConfigError(f"{named} {command_line.wrong_value(knob, text, error)}") from None


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
            raise ConfigError(f"{origin}: there is no setting '{shown(name)}'{did_you_mean(nearest(name, by_name))}")
        if name == knob.name and knob.secret and value and stat.S_IMODE(mode) & 0o066:
            raise ConfigError(f"{origin}: it holds {name}, and others than its owner may read or write it; chmod 600 ends that")
        if isinstance(value, bool) and knob.parse in (switch, toggle):
            texts[name] = str(int(value))
        elif (
            isinstance(value, list)
            and knob.parse in (names, networks, origins, tokens, urls)
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
