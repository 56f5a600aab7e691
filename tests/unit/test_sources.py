"""Where settings come from: the file of settings, secrets in files, unknown names, and what an operator is shown."""

from pathlib import Path

import pytest

from gkv import config, flags
from gkv.config import KNOBS, Knob
from gkv.errors import ConfigError
from gkv.sources import gather, parse, read, render


def word(text: str) -> str:
    if not text.isalnum() and text:
        raise ValueError("letters and digits")
    return text


TOKEN = Knob("token", word, "", "a secret of this test's own", secret=True)
OTHER = Knob("other", word, "o", "a setting of the proxy", "proxy")


@pytest.fixture
def file(tmp_path: Path):
    """Return a function that writes a file of settings and returns its name."""

    def write(text: str, mode: int = 0o600) -> str:
        path = tmp_path / "gkv.toml"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return write


@pytest.fixture
def secret(tmp_path: Path):
    """Return a function that writes a secret to a file of its own and returns its name."""

    def write(text: str = "abc123\n", mode: int = 0o600, directory: Path = tmp_path) -> str:
        path = directory / "token"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return write


def found(flags=None, environment=None, command="proxy"):
    return gather(command, flags or {}, environment or {}, [TOKEN, OTHER])


# -- the file


def test_file_goes_before_the_default_the_environment_before_it_and_a_flag_before_both(file):
    path = file('deadline = "3s"\n')
    assert parse("proxy", ["--config", path], {}).deadline == 3.0
    assert parse("proxy", ["--config", path], {"GKV_DEADLINE": "4s"}).deadline == 4.0
    assert parse("proxy", ["--config", path, "--deadline", "5s"], {"GKV_DEADLINE": "4s"}).deadline == 5.0


def test_file_is_named_by_the_environment_too_and_the_flag_goes_first(file, tmp_path):
    path = file('deadline = "3s"\n')
    other = tmp_path / "other.toml"
    other.write_text('deadline = "7s"\n')
    assert parse("proxy", [], {"GKV_CONFIG": path}).deadline == 3.0
    assert parse("proxy", ["--config", str(other)], {"GKV_CONFIG": path}).deadline == 7.0
    assert parse("proxy", [], {"GKV_CONFIG": ""}).deadline == 2.0


def test_file_table_of_a_command_goes_before_the_rest_and_is_not_the_other_commands(file):
    path = file('log_format = "json"\ndeadline = "3s"\n[node]\ndeadline = "4s"\nweight = 2\n[proxy]\nport = 8181\n')
    node, proxy = (parse(command, [*rest, "--config", path], {}) for command, rest in (("node", ["9000"]), ("proxy", [])))
    assert (node.deadline, node.weight, node.port, node.log_format) == (4.0, 2.0, 9000, "json")
    assert (proxy.deadline, proxy.weight, proxy.port, proxy.log_format) == (3.0, 1.0, 8181, "json")


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("insecure = true", "insecure", True),
        ("insecure = false", "insecure", False),
        ("metrics = false", "metrics", False),
        ("metrics = 0", "metrics", False),
        ("spawn = 3", "spawn", 3),
        ('names = ["a.example", "b"]', "names", ["a.example", "b"]),
        ('names = "a.example,b"', "names", ["a.example", "b"]),
        ("names = []", "names", []),
        ('max_body = "1KiB"', "max_body", 1024),
    ],
)
def test_file_takes_tomls_own_kinds_of_values(file, line, name, value):
    assert getattr(parse("proxy", ["--config", file(line)], {}), name) == value


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1", "no setting 'colour'"),
        ("max-body = '1KiB'", "did you mean max_body?"),
        ("[prosy]\nport = 1", "no setting 'prosy'"),
        ("[proxy]\nweight = 2", r"\[proxy\]: there is no setting 'weight'"),
        ("[node]\ncolour = 1", r"\[node\]: there is no setting 'colour'"),
        ("proxy = 'here'\nport = 'http'", "port is 'http'; it takes a port"),
        ("port = true", "port is no value"),
        ("port = [8080]", "port is no value"),
        ("port = 80.5", "port is '80.5'"),
        ("names = [1]", "names is no value"),
        ("names = ['a,b']", "names is no value"),
        ("port = 2020-01-01", "port is no value"),
        ("data = {a = 1}", "data is no value"),
        ('data = "a\\u0000b"', "data has a NUL"),
        ("port = ", "is not TOML"),
        ("port = 1\nport = 2", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
    ],
)
def test_file_with_what_is_not_understood_is_refused_and_says_so(file, text, named):
    with pytest.raises(ConfigError, match=named) as caught:
        parse("proxy", ["--config", file(text)], {})
    assert "gkv.toml" in str(caught.value)


def test_file_that_cannot_be_read_is_refused_and_named(tmp_path):
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match=f"{path} cannot be read"):
            parse("proxy", ["--config", str(path)], {})


def test_file_that_is_not_utf8_or_too_large_is_refused(tmp_path):
    path = tmp_path / "gkv.toml"
    path.write_bytes(b"data = '\xff'")
    with pytest.raises(ConfigError, match="is not TOML"):
        parse("proxy", ["--config", str(path)], {})
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        parse("proxy", ["--config", str(path)], {})


# -- unknown variables


def test_unknown_variable_is_refused_and_named():
    with pytest.raises(ConfigError, match=r"GKV_DEADLIN, .*did you mean GKV_DEADLINE"):
        parse("proxy", [], {"GKV_DEADLIN": "1s"})


def test_variables_of_others_and_known_ones_are_left_alone():
    environment = {"GKV_NATIVE": "off", "GKV_WEIGHT": "2", "PATH": "", "GKVX": "1", "gkv_port": "1"}
    assert parse("proxy", [], environment) == parse("proxy", [], {})


def test_secret_files_of_settings_that_are_none_are_unknown():
    with pytest.raises(ConfigError, match="GKV_PORT_FILE"):
        parse("proxy", [], {"GKV_PORT_FILE": "/dev/null"})


# -- secrets


def test_secret_comes_from_a_file_named_in_each_of_the_sources(file, secret):
    path = secret()
    for arguments in (
        ({"token_file": path}, {}),
        ({}, {"GKV_TOKEN_FILE": path}),
        ({"config": file(f'token_file = "{path}"')}, {}),
    ):
        assert found(*arguments)["token"].value == "abc123"
        assert path in found(*arguments)["token"].origin


def test_secret_text_of_a_stronger_source_goes_before_the_file_of_a_weaker_one(secret):
    assert found({"token": ("flag", "flag")}, {"GKV_TOKEN_FILE": secret()})["token"].value == "flag"
    assert found({"token_file": secret()}, {"GKV_TOKEN": "environment"})["token"].value == "abc123"


def test_secret_given_twice_in_one_source_is_refused(file, secret):
    path = secret()
    for arguments in (
        ({"token": ("a", "a"), "token_file": path}, {}),
        ({}, {"GKV_TOKEN": "a", "GKV_TOKEN_FILE": path}),
        ({"config": file(f'token = "a"\ntoken_file = "{path}"')}, {}),
    ):
        with pytest.raises(ConfigError, match="both given"):
            found(*arguments)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o620, 0o666])
def test_secret_file_that_others_may_read_or_write_is_refused(secret, mode):
    with pytest.raises(ConfigError, match=rf"mode {mode:04o}.*chmod 600"):
        found({"token_file": secret(mode=mode)})


@pytest.mark.parametrize(("mode", "good"), [(0o440, True), (0o400, True), (0o444, False), (0o460, False)])
def test_secret_handed_over_by_systemd_may_be_the_groups_to_read(secret, tmp_path, mode, good):
    path = secret(mode=mode)
    environment = {"GKV_TOKEN_FILE": path, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    if good:
        assert found({}, environment)["token"].value == "abc123"
    else:
        with pytest.raises(ConfigError, match="others than its owner"):
            found({}, environment)


def test_secret_file_elsewhere_is_not_excused_by_systemds_directory(secret, tmp_path):
    environment = {"GKV_TOKEN_FILE": secret(mode=0o440), "CREDENTIALS_DIRECTORY": str(tmp_path / "elsewhere")}
    with pytest.raises(ConfigError, match="others than its owner"):
        found({}, environment)


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_secret_in_a_file_of_settings_that_others_may_read_is_refused(file, mode):
    with pytest.raises(ConfigError, match="holds token"):
        found({"config": file('token = "abc"', mode)})
    assert found({"config": file('other = "abc"', mode)})["other"].value == "abc"


@pytest.mark.parametrize("text", ["", "\n", "x" * 65_537])
def test_secret_file_without_a_usable_secret_is_refused(secret, text):
    with pytest.raises(ConfigError, match="has to hold one secret"):
        found({"token_file": secret(text)})


def test_secret_that_is_wrong_is_never_shown(file, secret):
    for arguments in (
        ({"token_file": secret("not-good")}, {}),
        ({}, {"GKV_TOKEN": "not-good"}),
        ({"config": file('token = "not-good"')}, {}),
    ):
        with pytest.raises(ConfigError, match="letters and digits") as caught:
            found(*arguments)
        assert "not-good" not in str(caught.value)


def test_secret_flags_exist_and_a_wrong_secret_is_not_shown(capsys, secret):
    path = secret()
    assert flags.read("proxy", ["--token-file", path], [TOKEN])["token_file"] == path
    assert flags.read("proxy", ["--token", "abc"], [TOKEN])["token"] == ("abc", "abc")
    with pytest.raises(SystemExit):
        flags.read("proxy", ["--token", "not-good"], [TOKEN])
    assert "not-good" not in capsys.readouterr().err


# -- what is shown


def test_render_shows_values_and_origins_and_no_secret(file, secret):
    path = file('other = "fromfile"')
    shown = render("proxy", found({"config": path}, {"GKV_TOKEN": "hidden"}), [TOKEN, OTHER])
    assert f'other = "fromfile"                       # {path}' in shown
    assert "# token is set, and not shown" in shown
    assert "GKV_TOKEN" in shown
    assert "hidden" not in shown


@pytest.mark.parametrize("command", ["proxy", "node"])
def test_render_is_a_file_that_gives_the_same_settings(file, command):
    rest = ["9000"] if command == "node" else []
    arguments = ["--max-body", "1MiB", "--names", "a,b", "--insecure", "--metrics", "0", "--data", 'sp ace"\x7f\u00e9', *rest]
    reading = read(command, arguments, {"GKV_DEADLINE": "4s"})
    shown = render(command, reading.found, KNOBS)
    assert parse(command, ["--config", file(shown), *rest], {}) == reading.settings
    origins = {line.split()[0]: line.rpartition("# ")[2] for line in shown.splitlines()}
    assert origins["max_body"] == "--max-body"
    assert origins["deadline"] == "GKV_DEADLINE"
    assert origins["host"] == "default"


def test_read_tells_what_else_it_was_asked_for():
    assert not read("proxy", [], {}).print_config
    assert read("proxy", ["--print-config"], {}).print_config
    assert read("proxy", ["--check-config"], {}).check_config


def test_knobs_that_are_secret_take_a_value():
    assert not [knob for knob in KNOBS if knob.secret and knob.parse is config.switch]


@pytest.mark.parametrize(
    "words",
    [["--client-token=s3cret"], ["--client-token", "s3cret"], ["--port", "1", "--client-token=s3cret"]],
)
def test_flag_that_does_not_exist_is_named_without_its_value(words, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("proxy", words, {})
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == "gkv-proxy: unknown flag --client-token: did you mean --client-tokens?\n"
    assert "s3cret" not in said


def test_secret_that_looks_like_a_flag_is_not_named(capsys):
    with pytest.raises(SystemExit):
        parse("proxy", ["--client-tokens", "-s3cret-of-16-characters"], {})
    assert capsys.readouterr().err == "gkv-proxy: --client-tokens: expected one argument\n"


@pytest.mark.parametrize("text", ["0", "127.1", "256.0.0.1"])
def test_number_for_a_host_is_not_said_to_be_a_time(text, capsys):
    with pytest.raises(SystemExit):
        parse("node", ["9000", "--host", text], {})
    said = capsys.readouterr().err
    assert f"--host is {text!r}; it takes " in said
    assert "did you mean" not in said
