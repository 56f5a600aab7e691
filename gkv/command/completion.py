"""The completion of shells, made of the table. Pure."""

from collections.abc import Callable, Sequence

from gkv.command.table import Command, Flag


def script(shell: str, commands: Sequence[Command], general: Sequence[Flag]) -> str:
    """Return the script of a shell."""
    return SHELLS[shell](commands, general)


def _flags(command: Command, general: Sequence[Flag]) -> list[Flag]:
    return [*command.flags, *general]


def _bash(commands: Sequence[Command], general: Sequence[Flag]) -> str:
    names = " ".join(command.name for command in commands)
    cases = "\n".join(
        f'        {command.name}) flags="{" ".join(flag.name for flag in _flags(command, general))} --help" ;;'
        for command in commands
    )
    files = "|".join(flag.name for flag in _all_flags(commands, general) if flag.value == "FILE")
    values = "|".join(flag.name for flag in _all_flags(commands, general) if flag.value and flag.value != "FILE")
    return f"""\
# gkv's completion for bash; put it to use with: eval "$(gkv completion bash)"
_gkv() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" command="" flags="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{COMP_WORDS[i]}}" in
            {"|".join(command.name for command in commands)}) command="${{COMP_WORDS[i]}}"; break ;;
        esac
    done
    COMPREPLY=()
    case "$before" in
        {files}) COMPREPLY=($(compgen -f -- "$word")); return ;;
        {values}) return ;;
    esac
    case "$command" in
        "") COMPREPLY=($(compgen -W "{names} {" ".join(flag.name for flag in general)} --help --version" -- "$word")); return ;;
{cases}
    esac
    case "$command:$word" in
        *:-*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
        {"|".join(f"{command.name}:*" for command in commands if _takes_file(command))}) COMPREPLY=($(compgen -f -- "$word")) ;;
        completion:*) COMPREPLY=($(compgen -W "{" ".join(SHELLS)}" -- "$word")) ;;
    esac
}}
complete -o filenames -F _gkv gkv
"""


def _zsh(commands: Sequence[Command], general: Sequence[Flag]) -> str:
    described = "\n".join(f"    {_quoted(f'{command.name}:{command.about}')}" for command in commands)
    cases = []
    for command in commands:
        specs = [_zsh_flag(flag) for flag in _flags(command, general)]
        specs.append(_quoted(f"*:{'file:_files' if _takes_file(command) else 'argument:'}"))
        if command.name == "completion":
            specs = [_quoted(f"1:shell:({' '.join(SHELLS)})")]
        cases.append(f"        {command.name}) _arguments {' '.join(specs)} ;;")
    return f"""\
#compdef gkv
# gkv's completion for zsh; put it to use with: source <(gkv completion zsh)
_gkv() {{
    local -a commands=(
{described}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    local command="$words[2]"
    shift words; (( CURRENT-- ))
    case "$command" in
{chr(10).join(cases)}
    esac
}}
compdef _gkv gkv
"""


def _zsh_flag(flag: Flag) -> str:
    text = flag.why.replace("[", "(").replace("]", ")").replace(":", ",")
    action = "" if not flag.value else f":{flag.value.split('[', maxsplit=1)[0]}:{'_files' if flag.value == 'FILE' else ''}"
    return _quoted(f"{flag.name}[{text}]{action}")


def _fish(commands: Sequence[Command], general: Sequence[Flag]) -> str:
    names = " ".join(command.name for command in commands)
    lines = ["# gkv's completion for fish; put it to use with: gkv completion fish | source", "complete -c gkv -f"]
    for command in commands:
        lines.append(
            f"complete -c gkv -n 'not __fish_seen_subcommand_from {names}' -a {command.name} -d {_fish_quoted(command.about)}"
        )
        here = f"complete -c gkv -n '__fish_seen_subcommand_from {command.name}'"
        lines += [_fish_flag(here, flag) for flag in command.flags]
        if _takes_file(command):
            lines.append(f"{here} -F")
        if command.name == "completion":
            lines.append(f"{here} -a '{' '.join(SHELLS)}'")
    lines += [_fish_flag("complete -c gkv", flag) for flag in general]
    return "\n".join(lines) + "\n"


def _fish_flag(here: str, flag: Flag) -> str:
    value = "" if not flag.value else " -r -F" if flag.value == "FILE" else " -x"
    short = f" -s {flag.short.removeprefix('-')}" if flag.short else ""
    return f"{here} -l {flag.name.removeprefix('--')}{short}{value} -d {_fish_quoted(flag.why)}"


def _takes_file(command: Command) -> bool:
    return any(argument.name in ("FILE", "DIR", "PATH") for argument in command.arguments)


def _all_flags(commands: Sequence[Command], general: Sequence[Flag]) -> list[Flag]:
    return list(dict.fromkeys([flag for command in commands for flag in _flags(command, general)]))


def _quoted(text: str) -> str:
    """Return a text as one word of a shell.

    >>> len(_quoted("it's"))
    9
    """
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[Sequence[Command], Sequence[Flag]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
