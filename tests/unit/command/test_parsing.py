"""The command line: what is said of a wrong one, and what the table gives for help and completion."""

import shutil
import subprocess

import pytest

from gkv.command.codes import Code
from gkv.command.completion import SHELLS, script
from gkv.command.main import run
from gkv.command.parsing import ALL, overview, parser_of, read
from gkv.command.table import GENERAL

WRONG = {
    "sett k v": "gkv: 'sett' is no command: did you mean set?",
    "": "gkv: COMMAND is missing; see gkv --help",
    "--jsn get k": "gkv get: unknown flag --jsn: did you mean --json?",
    "get --jsn k": "gkv get: unknown flag --jsn: did you mean --json?",
    "get": "gkv get: KEY is missing; see gkv get --help",
    "leave": "gkv leave: NODE is missing; see gkv leave --help",
    "locate --url": "gkv locate: --url: expected one argument",
    "members a": "gkv members: unknown argument 'a'; see gkv members --help",
    "get \udcff": "gkv get: KEY is '\\udcff', which is not UTF-8",
    "set k \udcff": "gkv set: VALUE is '\\udcff', which is not UTF-8",
    "ls \udcff": "gkv ls: PREFIX is '\\udcff', which is not UTF-8",
    "export f --prefix \udcff": "gkv export: --prefix is '\\udcff', which is not UTF-8",
    "completion csh": "gkv completion: SHELL is 'csh'; it takes one of: bash, zsh, fish",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_line_gets_one_line_and_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read(line.split())
    assert ended.value.code == Code.USAGE
    assert capsys.readouterr() == ("", WRONG[line] + "\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("set k", "gkv set takes a VALUE, or --file FILE"),
        ("set k v --ttl soon", "--ttl is 'soon'; it takes a time above 0"),
        ("set k v --if-absent --if-version *", "say different things"),
        ("del", "gkv del takes KEYs, or --prefix PREFIX"),
        ("del k --prefix p", "gkv del takes KEYs, or --prefix PREFIX"),
        ("ls --limit 0", "--limit is '0'; it takes a whole number from 1"),
        ("export --jobs 99 f", "--jobs is '99'; it takes a whole number from 1 to 32"),
        ("export - --resume", "--resume and --restart take a FILE"),
        ("get k --url ftp://x", "an endpoint is http://HOST:PORT"),
        ("status --url ftp://x", "an endpoint is http://HOST:PORT"),
        ("leave a --url http://x:99999", "an endpoint is http://HOST:PORT"),
        ("snapshot /nowhere/at/all --url http://", "an endpoint is http://HOST:PORT"),
        ("get k --url ,", "--url names no server"),
        (f"ls --limit {'9' * 5_000}", "it takes a whole number from 1"),
        ("get k --timeout \u0661", "it takes a time above 0"),
        ("get k --token \xfc", "the token has printable characters of ASCII alone"),
        ("status --token \xfc", "the token has printable characters of ASCII alone"),
        ("set k v --type \xfc", "a media type has printable characters of ASCII alone"),
        ("set k v --if-version \xfc", "a version has printable characters of ASCII alone"),
        (f"set k {'[' * 100_000}", "VALUE is a JSON value that is nested too deeply"),
        ("get k --tls-ca /nowhere --url https://127.0.0.1:1", "gkv: /nowhere: No such file"),
        ("status --tls-ca /nowhere --url https://127.0.0.1:1", "gkv: /nowhere: No such file"),
        ("get k --tls-ca /dev/null --url https://127.0.0.1:1", "/dev/null cannot be used for TLS: "),
        ("get k --tls-cert /nowhere --tls-key /else --url https://127.0.0.1:1", "/nowhere with /else: No such file"),
        ("get k --token-file /nowhere", "the file of the token cannot be read"),
    ],
)
def test_value_that_is_none_gets_one_line_and_code_2(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == Code.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gkv: ")
    assert said in err
    assert err.count("\n") == 1


def test_server_that_is_not_there_is_a_line_with_what_to_do_and_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("get k", "status", "leave a", "snapshot /nowhere/at/all"):
        assert run([*line.split(), "--url", "http://127.0.0.1:1", "--timeout", "0.2"]) == Code.LATER
        err = capsys.readouterr().err
        assert "(unreachable); is gkv-proxy running there?" in err
        assert err.count("\n") == 1


def test_key_has_a_character_and_a_file_may_have_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["get", ""], ["set", "", "1"], ["del", "a", ""], ["locate", ""]):
        with pytest.raises(SystemExit) as ended:
            read(words)
        assert ended.value.code == Code.USAGE
        assert capsys.readouterr().err == f"gkv {words[0]}: KEY is empty; a key has at least one character\n"
    assert read(["export", "\udcff"])[1].FILE == "\udcff"


def test_flags_of_all_commands_may_stand_before_the_command() -> None:
    for line in ("--url http://a --json get k", "get --json k --url http://a", "get k --json --url=http://a"):
        command, said = read(line.split())
        assert (command.name, said.KEY, said.url, said.json) == ("get", ["k"], "http://a", True)


def test_number_below_zero_is_a_value() -> None:
    assert read(["set", "k", "-5"])[1].VALUE == "-5"
    assert read(["set", "--", "k", "-x"])[1].VALUE == "-x"


def test_help_names_each_command_flag_and_code(capsys: pytest.CaptureFixture[str]) -> None:
    shown = overview()
    for name, command in ALL.items():
        assert f"\n  {name} " in shown
        text = parser_of(command).format_help()
        assert all(flag.name in text and flag.name for flag in command.flags)
        assert max(map(len, text.splitlines())) <= 80
    assert all(f"\n  {int(code)} " in shown for code in Code)
    assert max(map(len, shown.splitlines())) <= 80
    with pytest.raises(SystemExit) as ended:
        read(["export", "--help"])
    assert ended.value.code == 0
    assert "FILE.part" in capsys.readouterr().out


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_has_all_commands_and_flags_and_is_read_by_its_shell(shell: str) -> None:
    text = script(shell, tuple(ALL.values()), GENERAL)
    for command in ALL.values():
        assert command.name in text
        assert all(flag.name.removeprefix("--") in text for flag in command.flags)
    if shutil.which(shell):
        subprocess.run([shell, "-n", "/dev/stdin"], input=text, text=True, check=True, timeout=10)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["exp"], {"export"}),
        (["export", "--re"], {"--resume", "--restart"}),
        (["--url", "http://a", "le"], {"leave"}),
        (["get", "--token-fi"], {"--token-file"}),
        (["completion", ""], set(SHELLS)),
    ],
)
def test_completion_of_bash_offers_what_goes_on(words: list[str], wanted: set[str]) -> None:
    line = " ".join(f"'{word}'" for word in ["gkv", *words])
    asked = f'COMP_WORDS=({line}); COMP_CWORD={len(words)}; _gkv; printf "%s\\n" "${{COMPREPLY[@]}}"'
    text = script("bash", tuple(ALL.values()), GENERAL)
    text = text.replace("complete -o", "true complete -o")  # a bash that is not interactive may be built without it
    done = subprocess.run(["bash", "-c", text + asked], capture_output=True, text=True, check=True, timeout=10)
    assert set(done.stdout.split()) == wanted
