"""Settings: what each knob takes, which source goes first, and how a wrong one is named."""

from ipaddress import IPv4Network, IPv6Network

import pytest

from gkv import __version__, addresses, config, flags
from gkv.addresses import Address
from gkv.config import KNOBS, Settings
from gkv.errors import ConfigError
from gkv.sources import parse

DEFAULTS = Settings(
    host="127.0.0.1",
    port=8080,
    advertise=None,
    proxy=("http://127.0.0.1:8080",),
    name="",
    weight=1.0,
    zone="",
    standby=False,
    engine="lmdb",
    data="",
    durability="sync",
    replicas=1,
    min_in_sync=0,
    lease=1.0,
    vnodes=4_096,
    replica_timeout=1.0,
    disk_timeout=10.0,
    fill_rate=2_000,
    max_disk=0,
    tombstone_ttl=600.0,
    scrub_rate=1000,
    accept_loss=False,
    spawn=0,
    spawn_port=9000,
    restore="",
    deadline=2.0,
    drain=10.0,
    max_body=32 << 20,
    max_answer=64 << 20,
    max_inflight=256,
    max_buffered=256 << 20,
    names=[],
    cors_origins=(),
    reader_tokens=(),
    client_tokens=(),
    admin_tokens=(),
    peer_tokens=(),
    allow=(),
    tls_cert="",
    tls_key="",
    tls_ca="",
    metrics=True,
    log_format="text",
    log_level="info",
    access_log=False,
    insecure=False,
    until_stdin_closes=False,
)


# -- what each parser takes


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (config.duration, "400ms", 0.4),
        (config.duration, "2s", 2.0),
        (config.duration, "1m", 60.0),
        (config.duration, "0.5s", 0.5),
        (config.duration, "1.25m", 75.0),
        (config.duration, "12h", 43_200.0),
        (config.duration, "1d", 86_400.0),
        (config.size, "1B", 1),
        (config.size, "480B", 480),
        (config.size, "64KiB", 64 << 10),
        (config.size, "32MiB", 32 << 20),
        (config.size, "2GiB", 2 << 30),
        (config.disk, "0", 0),
        (config.disk, "8MiB", 8 << 20),
        (config.disk, "4GiB", 4 << 30),
        (config.tombstone_ttl, "60s", 60.0),
        (config.number(0, 999_999), "0", 0),
        (config.number(0, 999_999), "250000", 250_000),
        (config.tombstone_ttl, "366d", 31_622_400.0),
        (config.one_of("sync", "async"), "async", "async"),
        (addresses.urls, "https://n1:8080/", ("https://n1:8080",)),
        (config.port, "0", 0),
        (config.port, "8080", 8080),
        (config.port, "65535", 65_535),
        (config.number(0, 99), "0", 0),
        (config.number(0, 99), "99", 99),
        (config.number(1, 65_536), "1", 1),
        (config.number(1, 65_536), "65536", 65_536),
        (config.weight, "1", 1.0),
        (config.weight, "0.25", 0.25),
        (config.weight, "1e3", 1_000.0),
        (config.name, "", ""),
        (config.name, "n", "n"),
        (config.name, "127.0.0.1:9000", "127.0.0.1:9000"),
        (config.name, "a" * 64, "a" * 64),
        (config.origins, "", ()),
        (config.origins, " * ", ("*",)),
        (config.origins, "https://A.example , http://[::1]:3000", ("https://a.example", "http://[::1]:3000")),
        (
            config.origins,
            "http://a:80,https://a:443,https://a:80,x-app://a",
            ("http://a", "https://a", "https://a:80", "x-app://a"),
        ),
        (addresses.urls, "http://127.0.0.1:8080", ("http://127.0.0.1:8080",)),
        (addresses.urls, "http://127.0.0.1:8080/", ("http://127.0.0.1:8080",)),
        (addresses.urls, "http://Proxy.example:80,https://[0::1]:1", ("http://proxy.example:80", "https://[::1]:1")),
        (addresses.host, "127.0.0.1", "127.0.0.1"),
        (addresses.host, "10.0.0.5", "10.0.0.5"),
        (addresses.host, "0:0::1", "::1"),
        (addresses.host, "[::]", "::"),
        (addresses.host, "Node_1.example", "node_1.example"),
        (addresses.advertised, "", None),
        (addresses.advertised, "n1:9000", Address("n1", 9000)),
        (addresses.advertised, "[fd00::5]:9000", Address("fd00::5", 9000)),
        (addresses.names, "::1,[FD00::5]", ["[::1]", "[fd00::5]"]),
        (addresses.names, "", []),
        (addresses.names, "gkv", ["gkv"]),
        (addresses.names, " gkv.example , 10.0.0.5,", ["gkv.example", "10.0.0.5"]),
        (config.tokens, "", ()),
        (config.tokens, "t" * 16, ("t" * 16,)),
        (config.tokens, " " + "!~+-/=.'" * 2 + " , " + "z" * 256, ("!~+-/=.'" * 2, "z" * 256)),
        (addresses.networks, "", ()),
        (addresses.networks, "10.0.0.5", (IPv4Network("10.0.0.5/32"),)),
        (addresses.networks, "10.0.0.0/8, 192.0.2.0/24", (IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.0/24"))),
        (addresses.networks, "fd00::/8,::1", (IPv6Network("fd00::/8"), IPv6Network("::1/128"))),
        (config.switch, "0", False),
        (config.switch, "1", True),
    ],
)
def test_parser_valid_text_returns_the_value(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (
            config.origins,
            ["a.example", "https://a/", "https://", "*,https://a", "https://*.a", "null", "https://a,", "https://u@a"],
        ),
        (
            config.duration,
            [
                "",
                "0ms",
                "0.0s",
                "2",
                "-1s",
                "+1s",
                "1 s",
                "1S",
                "1w",
                "1D",
                ".5s",
                "1.s",
                "1e3ms",
                "s",
                "1s\n",
                "infs",
                "1" * 10 + "s",
            ],
        ),
        (config.size, ["", "0B", "0KiB", "1", "-1B", "1.5MiB", "1kb", "1KB", "1K", "1 B", "B", "1B\n", "1TiB", "1" * 13 + "B"]),
        (config.disk, ["", "00", "1B", "7MiB", "-0", "0B", "0 ", "1", "1.5GiB", "none", "0\n"]),
        (config.tombstone_ttl, ["", "0s", "59.999999s", "59999ms", "366.1d", "367d", "9000h", "1", "10"]),
        (config.number(0, 999_999), ["", "-1", "1.5", "1000000", "1k", "１"]),
        (config.one_of("sync", "async"), ["", "Sync", "sync ", "async,sync", "asyn", "0"]),
        (config.port, ["", "-1", "65536", "99999", "123456", "80 ", "0x50", "http", "8080\n", "8_0"]),
        (config.number(0, 99), ["", "-1", "100", "1.0", "two", "1\n"]),
        (config.number(1, 65_536), ["", "0", "-1", "65537", "100000", "1.0", "many", "1\n"]),
        (config.weight, ["", "0", "-1", "1000.1", "nan", "inf", "-inf", "heavy", "1e400"]),
        (config.name, ["-a", ".a", ":a", "a b", "a/b", "a" * 65, "\u00e9", "a\n", " "]),
        (
            addresses.urls,
            [
                *("", "127.0.0.1:8080", "http://127.0.0.1", "http://:8080", "http://127.0.0.1:0", "http://127.0.0.1:65536"),
                *(
                    "HTTP://127.0.0.1:8080",
                    "https://127.0.0.1",
                    "ftp://127.0.0.1:8080",
                    "http://127.0.0.1:8080/path",
                    "http://127.0.0.1:8080?a=b",
                ),
                *(
                    "http://127.0.0.1:http",
                    "http://[::1",
                    "http://::1:80",
                    "http://a:1,",
                    "http://[fe80::1%251]:80",
                    "//127.0.0.1:8080",
                    "http:///8080",
                ),
            ],
        ),
        (
            addresses.host,
            [
                "",
                "a b",
                "127.0.0.1:80",
                "127.1",
                "0x0",
                "0x7f.0x1",
                "256.0.0.1",
                "fe80::1%lo",
                "-a",
                "a..b",
                "a" * 64,
                "127.0.0.01",
                " 127.0.0.1",
                "http://127.0.0.1",
            ],
        ),
        (
            addresses.advertised,
            ["9000", "n1", "n1:", "n1:0", "n1:65536", "::1:9000", "0.0.0.0:9000", "[::]:9000", " n1:1", "1.2:1"],
        ),
        (addresses.names, ["::g", "http://gkv", "gkv:80", "a b", "a/b", "gkv,*", "\u00e9", "a" * 254, "a\nb"]),
        (
            config.tokens,
            [
                *("t" * 15, "t" * 257, "t" * 16 + ",", "," + "t" * 16, ",".join(["t" * 16] * 2), " "),
                *(
                    "a" * 16 + "," + "b" * 16 + "," + "c" * 16,
                    "t" * 8 + " " + "t" * 8,
                    "\u00e9" * 16,
                    "t" * 16 + "\x7f",
                    "t\n" * 16,
                ),
            ],
        ),
        (
            addresses.networks,
            [" ", ",", "10.0.0.0/8,", "10.0.0.1/8", "10.0.0/24", "fd00::1/8", "localhost", "10.0.0.0/33", "10.0.0.0-9"],
        ),
        (config.switch, ["", "true", "yes", "2", "on", "01"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_parser_wrong_text_raises_value_error(read, texts):
    for text in texts:
        with pytest.raises(ValueError, match=r"\S"):
            pytest.fail(f"{text!r} is read as {read(text)!r}")


@pytest.mark.parametrize(
    "text", ["http://user@127.0.0.1:8080", "http://user:secret@127.0.0.1:8080", "http://127.0.0.1:8080#fragment"]
)
def test_url_with_user_or_fragment_raises_instead_of_being_half_understood(text):
    with pytest.raises(ValueError, match=r"a URL such as http://127\.0\.0\.1:8080"):
        addresses.urls(text)


# -- precedence


def test_parse_proxy_without_anything_gives_the_defaults():
    assert parse("proxy", [], {}) == DEFAULTS


def test_parse_node_without_anything_but_its_port_gives_the_defaults():
    assert parse("node", ["9000"], {}) == Settings(**(fields(DEFAULTS) | {"port": 9000}))


def fields(settings):
    return {knob.name: getattr(settings, knob.name) for knob in KNOBS}


def test_settings_have_a_field_for_every_knob_and_every_default_is_valid():
    assert set(Settings.__slots__) == {knob.name for knob in KNOBS}
    assert {knob.name: knob.parse(knob.default) for knob in KNOBS} == fields(DEFAULTS)


# A value of each knob that differs from its default, as text and as read.
OTHERS = {
    "host": ("127.0.0.2", "127.0.0.2"),
    "port": ("8181", 8181),
    "advertise": ("n1.example:9100", Address("n1.example", 9100)),
    "proxy": ("http://10.0.0.1:80,http://p:81", ("http://10.0.0.1:80", "http://p:81")),
    "name": ("n1", "n1"),
    "weight": ("2.5", 2.5),
    "zone": ("rack-2", "rack-2"),
    "standby": ("1", True),
    "engine": ("memory", "memory"),
    "data": ("elsewhere", "elsewhere"),
    "durability": ("async", "async"),
    "replicas": ("3", 3),
    "min_in_sync": ("1", 1),
    "lease": ("300ms", 0.3),
    "vnodes": ("655", 655),
    "replica_timeout": ("2s", 2.0),
    "disk_timeout": ("1m", 60.0),
    "fill_rate": ("0", 0),
    "max_disk": ("4GiB", 4 << 30),
    "tombstone_ttl": ("1h", 3_600.0),
    "scrub_rate": ("5000", 5_000),
    "accept_loss": ("1", True),
    "spawn": ("3", 3),
    "spawn_port": ("9100", 9100),
    "restore": ("a,b", "a,b"),
    "deadline": ("400ms", 0.4),
    "drain": ("3s", 3.0),
    "max_body": ("1KiB", 1024),
    "max_answer": ("4MiB", 4 << 20),
    "max_inflight": ("64", 64),
    "max_buffered": ("1GiB", 1 << 30),
    "names": ("gkv.example,gkv", ["gkv.example", "gkv"]),
    "cors_origins": ("https://app.example", ("https://app.example",)),
    "reader_tokens": ("r" * 16, ("r" * 16,)),
    "client_tokens": (f"{'c' * 16},{'d' * 256}", ("c" * 16, "d" * 256)),
    "admin_tokens": ("a" * 16, ("a" * 16,)),
    "peer_tokens": ("p" * 16, ("p" * 16,)),
    "allow": ("10.0.0.0/8,127.0.0.1", (IPv4Network("10.0.0.0/8"), IPv4Network("127.0.0.1/32"))),
    "tls_cert": ("n1.pem", "n1.pem"),
    "tls_key": ("n1.key", "n1.key"),
    "tls_ca": ("ca.pem", "ca.pem"),
    "metrics": ("0", False),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
    "access_log": ("1", True),
    "insecure": ("1", True),
    "until_stdin_closes": ("1", True),
}
KNOBS_OF_COMMANDS = [(knob, command) for knob in KNOBS for command in knob.commands.split()]


def needed(command):
    """Return the arguments that a command cannot do without."""
    return ["9000"] if command == "node" else []


@pytest.mark.parametrize(("knob", "command"), KNOBS_OF_COMMANDS, ids=lambda value: getattr(value, "name", value))
def test_parse_environment_goes_before_the_default_and_the_flag_before_the_environment(knob, command):
    text, value = OTHERS[knob.name]
    assert value != knob.parse(knob.default)
    assert getattr(parse(command, needed(command), {knob.variable: text}), knob.name) == value

    flag = [knob.flag] if knob.parse is config.switch else [knob.flag, text]
    assert getattr(parse(command, [*flag, *needed(command)], {}), knob.name) == value
    assert getattr(parse(command, [*flag, *needed(command)], {knob.variable: knob.default}), knob.name) == value


def test_parse_flag_with_the_default_value_still_goes_before_the_environment():
    assert parse("proxy", ["--port", "8080", "--spawn=0"], {"GKV_PORT": "1", "GKV_SPAWN": "5"}) == DEFAULTS


def test_parse_environment_of_the_other_command_is_not_read():
    assert parse("proxy", [], {"GKV_WEIGHT": "nonsense", "GKV_UNTIL_STDIN_CLOSES": "1"}) == DEFAULTS
    assert parse("node", ["9000"], {"GKV_PORT": "nonsense", "GKV_SPAWN": "7"}).spawn == 0


def test_parse_reads_the_process_environment_by_default(monkeypatch):
    monkeypatch.setenv("GKV_DEADLINE", "7s")
    assert parse("proxy", []).deadline == 7.0


# -- wrong flags and variables


@pytest.mark.parametrize(
    ("command", "arguments", "named", "takes"),
    [
        ("proxy", ["--port", "99999"], "--port", "a port from 0 to 65535"),
        ("proxy", ["--deadline", "2"], "--deadline", "a time above 0 such as 400ms, 2s, 1m, 12h or 1d"),
        ("proxy", ["--max-body", "1MB"], "--max-body", "a size above 0 such as 480B, 64KiB or 32MiB"),
        ("proxy", ["--host", "a b"], "--host", "an IPv4 or IPv6 address such as 127.0.0.1 or ::1, or a host name"),
        ("proxy", ["--spawn", "-1"], "--spawn", ""),
        ("proxy", ["--spawn", "many"], "--spawn", "a whole number from 0 to 99"),
        ("node", ["9000", "--proxy", "localhost:80"], "--proxy", "a URL such as http://127.0.0.1:8080"),
        ("node", ["9000", "--weight", "nan"], "--weight", "a number above 0, at most 1000"),
        ("node", ["9000", "--name", "a b"], "--name", "1 to 64 letters"),
        ("node", ["99999"], "PORT", "a port from 0 to 65535"),
        ("node", ["9000", "--engine", "floppy"], "--engine", "one of: lmdb, memory"),
        ("node", ["9000", "--durability", "maybe"], "--durability", "one of: sync, async"),
        ("proxy", ["--replicas", "0"], "--replicas", "a whole number from 1 to 5"),
        ("proxy", ["--replicas", "6"], "--replicas", "a whole number from 1 to 5"),
        ("proxy", ["--min-in-sync", "6"], "--min-in-sync", "a whole number from 0 to 5"),
        ("proxy", ["--lease", "50ms"], "--lease", "a time from 100ms to 60s"),
        (
            "node",
            ["9000", "--replicas", "3"],
            "--replicas",
            "--replicas belongs to gkv-proxy",
        ),
        ("node", ["9000", "--replica-timeout", "100ms"], "--replica-timeout", "a time from 300ms to 60s"),
        ("node", ["9000", "--disk-timeout", "1h"], "--disk-timeout", "a time from 1s to 10m"),
        ("node", ["9000", "--max-disk", "-1"], "--max-disk", ""),
        ("node", ["9000", "--max-disk", "10MB"], "--max-disk", "a size above 0"),
        ("node", ["9000", "--tombstone-ttl", "9s"], "--tombstone-ttl", "a time from 60s to 366d"),
        ("proxy", ["--accept-loss"], "--accept-loss", "belongs to gkv-node"),
        ("node", [], "PORT", "is missing"),
        ("node", ["9000", "9001"], "9001", "unknown argument"),
        ("proxy", ["--frobnicate"], "--frobnicate", "unknown flag"),
        ("proxy", ["--weight", "2"], "--weight", "--weight belongs to gkv-node"),
        ("node", ["9000", "--spawn", "2"], "--spawn", "belongs to gkv-proxy"),
        ("proxy", ["--insecure=1"], "--insecure", "explicit argument"),
        ("proxy", ["--port"], "--port", "expected one argument"),
    ],
)
def test_parse_wrong_flag_exits_2_and_says_what_it_takes(capsys, command, arguments, named, takes):
    with pytest.raises(SystemExit) as caught:
        parse(command, arguments, {})
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [complaint] = printed.err.splitlines()
    assert complaint.startswith(f"gkv-{command}: ")
    assert named in complaint
    assert takes in complaint


@pytest.mark.parametrize("flag", ["--por", "--dead", "--insec", "--max"])
def test_parse_abbreviated_flag_exits_2(capsys, flag):
    with pytest.raises(SystemExit) as caught:
        parse("proxy", [flag, "1"], {})
    assert caught.value.code == 2
    assert f"unknown flag {flag}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "line"),
    [
        ("proxy", ["--replcias", "3"], "unknown flag --replcias: did you mean --replicas?"),
        ("proxy", ["--replcias=3", "--frobnicate"], "unknown flag --replcias: did you mean --replicas?"),
        ("node", ["--nmae", "n1", "9000"], "unknown flag --nmae: did you mean --name?"),
        ("node", ["--replcias", "3", "9000"], "unknown flag --replcias: did you mean --replicas? It belongs to gkv-proxy"),
        ("proxy", ["-port", "80"], "unknown flag -port: did you mean --port?"),
        ("proxy", ["--check_config"], "unknown flag --check_config: did you mean --check-config?"),
        ("proxy", ["--client-token-file=x"], "unknown flag --client-token-file: did you mean --client-tokens-file?"),
        ("proxy", ["--qqq\n\x1b[31m"], "unknown flag --qqq\\n\\x1b[31m; see gkv-proxy --help"),
        ("node", ["--", "--port"], "PORT is '--port'; it takes a port from 0 to 65535"),
        ("node", [], "PORT is missing, as in: gkv-node 9000"),
        (
            "proxy",
            ["--deadline", "2"],
            "--deadline is '2'; it takes a time above 0 such as 400ms, 2s, 1m, 12h or 1d: did you mean 2s?",
        ),
        ("node", ["9000", "--engine=LMBD"], "--engine is 'LMBD'; it takes one of: lmdb, memory: did you mean lmdb?"),
        ("proxy", ["--port"], "--port: expected one argument"),
    ],
)
def test_parse_mistyped_flag_is_answered_with_one_line_that_names_the_nearest(capsys, command, arguments, line):
    with pytest.raises(SystemExit) as caught:
        parse(command, arguments, {})
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"gkv-{command}: {line}\n"


@pytest.mark.parametrize(
    ("variable", "text", "meant"),
    [
        ("GKV_MAX_BODY", "1mb", "1MiB"),
        ("GKV_DRAIN", "10 seconds", "10s"),
        ("GKV_METRICS", "no", "0"),
        ("GKV_PORT", "80800", None),
    ],
)
def test_parse_wrong_value_of_a_variable_names_one_that_is_right(variable, text, meant):
    with pytest.raises(ConfigError) as caught:
        parse("proxy", [], {variable: text})
    assert ("did you mean" in caught.value.detail) == (meant is not None)
    if meant:
        assert caught.value.detail.endswith(f": did you mean {meant}?")
        parse("proxy", [], {variable: meant})


@pytest.mark.parametrize(
    ("variable", "text", "takes"),
    [
        ("GKV_PORT", "http", "a port from 0 to 65535"),
        ("GKV_DEADLINE", "0s", "a time above 0"),
        ("GKV_MAX_BODY", "", "a size above 0"),
        ("GKV_ENGINE", "floppy", "one of: lmdb, memory"),
        ("GKV_DURABILITY", "", "one of: sync, async"),
        ("GKV_TOMBSTONE_TTL", "1s", "a time from 60s to 366d"),
        ("GKV_MAX_DISK", "all", "a size above 0"),
        ("GKV_INSECURE", "yes", "0 or 1"),
        ("GKV_HOST", "::g", "an IPv4 or IPv6 address"),
        ("GKV_SPAWN_PORT", "-1", "a port from 0 to 65535"),
    ],
)
def test_parse_wrong_environment_variable_raises_config_error_naming_it(variable, text, takes):
    with pytest.raises(ConfigError) as caught:
        parse("proxy", [], {variable: text})
    assert f"{variable} is {text!r}" in caught.value.detail
    assert takes in caught.value.detail


def test_parse_version_prints_it_and_exits_0(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("node", ["--version"], {})
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"gkv {__version__}\n"


@pytest.mark.parametrize("command", ["proxy", "node"])
def test_parse_help_names_every_flag_of_the_command_and_no_other(capsys, command):
    with pytest.raises(SystemExit) as caught:
        parse(command, ["--help"], {})
    assert caught.value.code == 0
    words = capsys.readouterr().out.replace("]", " ").replace("[", " ").split()
    shown = {word for word in words if word.startswith("--")}
    shown -= {"--help", "--version", "--config", "--print-config", "--check-config"}
    mine = [knob for knob in KNOBS if command in knob.commands.split()]
    assert shown == {knob.flag for knob in mine} | {f"{knob.flag}-file" for knob in mine if knob.secret}


@pytest.mark.parametrize("command", ["proxy", "node"])
def test_parse_help_fits_80_columns_and_shows_each_default_however_wide_the_terminal_is(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        parse(command, ["--help"], {})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = " ".join(" ".join(lines).split())
    mine = [knob for knob in KNOBS if command in knob.commands.split() and knob.default and knob.parse is not config.switch]
    assert [knob.name for knob in mine if f"(default: {knob.default})" not in shown] == []
    assert [title for title in ("addresses:", "data:", "cluster:", "copies:", "limits:", "access:") if title not in lines] == []
    assert f"{flags.REST}:" not in lines


def test_every_setting_is_in_one_group_of_help():
    placed = [name for names in flags.GROUPS.values() for name in names]
    assert sorted(placed) == sorted(knob.name for knob in KNOBS)


# -- settings that cannot go together


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_check_loopback_passes(host):
    parse("proxy", ["--host", host], {}).check()


WITH_TOKENS = ["--client-tokens", "c" * 16, "--peer-tokens", "p" * 16]
WITH_TLS = ["--tls-cert", "n1.pem", "--tls-key", "n1.key", "--tls-ca", "ca.pem"]


@pytest.mark.parametrize("arguments", [[], WITH_TOKENS, WITH_TLS], ids=["neither", "tokens", "tls"])
@pytest.mark.parametrize("command", ["proxy", "node"])
def test_check_other_host_without_tokens_and_tls_raises_and_names_the_way_out(command, arguments):
    with pytest.raises(ConfigError, match=r"--host 10\.0\.0\.5 is not loopback.*--insecure"):
        parse(command, ["--host", "10.0.0.5", *arguments, *needed(command)], {}).check()


@pytest.mark.parametrize("command", ["proxy", "node"])
def test_check_other_host_with_tokens_and_tls_passes(command):
    parse(command, ["--host", "10.0.0.5", *WITH_TOKENS, *WITH_TLS, *needed(command)], {}).check()


@pytest.mark.parametrize(("arguments", "environment"), [(["--insecure"], {}), ([], {"GKV_INSECURE": "1"})])
def test_check_other_host_with_insecure_passes(arguments, environment):
    parse("proxy", ["--host", "10.0.0.5", *arguments], environment).check()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("arguments", [[], ["--insecure"]])
def test_check_unspecified_host_needs_an_address_that_others_are_told(host, arguments):
    with pytest.raises(ConfigError, match=rf"--host {host} is no address .*--advertise HOST:PORT"):
        parse("proxy", ["--host", host, *arguments], {}).check()
    parse("proxy", ["--host", host, "--advertise", "n1:8080", "--insecure"], {}).check()


def test_check_a_name_may_be_of_any_machine_unless_it_is_localhost():
    with pytest.raises(ConfigError, match="--host n1 is not loopback"):
        parse("proxy", ["--host", "n1"], {}).check()


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        (["--max-buffered", "64MiB"], True),
        (["--max-buffered", "63MiB"], False),
        (["--max-body", "257MiB"], False),
        (["--max-answer", "257MiB"], False),
        (["--max-answer", "2MiB"], True),
        (["--max-answer", "1MiB"], False),
    ],
)
def test_check_one_request_has_to_fit_into_memory_and_one_value_into_an_answer(arguments, fits):
    settings = parse("proxy", arguments, {})
    if fits:
        settings.check()
    else:
        with pytest.raises(ConfigError, match="has to be at least"):
            settings.check()


TLS = ["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--tls-ca", "ca.pem"]


def test_check_all_files_of_tls_or_none_pass():
    settings = parse("node", ["9000", *TLS, "--proxy", "https://127.0.0.1:1"], {})
    settings.check()
    assert (settings.scheme, settings.proxy_urls) == ("https", ("https://127.0.0.1:1",))


@pytest.mark.parametrize("left_out", [[0], [1], [2], [0, 1], [0, 2], [1, 2]])
def test_check_some_of_the_files_of_tls_raises(left_out):
    arguments = [word for i, word in enumerate(TLS) if i // 2 not in left_out]
    with pytest.raises(ConfigError, match="--tls-cert, --tls-key and --tls-ca go together"):
        parse("proxy", arguments, {}).check()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([*TLS, "--proxy", "http://10.0.0.1:1"], "is not https, but"), (["--proxy", "https://10.0.0.1:1"], "is https, and")],
)
def test_check_node_and_proxy_that_do_not_both_speak_tls_raises(arguments, says):
    with pytest.raises(ConfigError, match=says):
        parse("node", ["9000", *arguments], {}).check()


@pytest.mark.parametrize(("arguments", "url"), [(TLS, "https://127.0.0.1:8080"), ([], "http://127.0.0.1:8080")])
def test_node_looks_for_the_default_proxy_as_members_talk(arguments, url):
    settings = parse("node", ["9000", *arguments], {})
    settings.check()
    assert settings.proxy_urls == (url,)


TOKENS = {role: character * 16 for role, character in (("reader", "r"), ("client", "c"), ("admin", "a"), ("peer", "p"))}


@pytest.mark.parametrize("roles", ["", "client peer", "reader peer", "admin peer", "reader client admin peer"])
def test_check_tokens_of_members_and_of_others_pass(roles):
    parse("proxy", [f"--{role}-tokens={TOKENS[role]}" for role in roles.split()], {}).check()


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ("client", "no --peer-tokens"),
        ("reader", "no --peer-tokens"),
        ("reader client admin", "no --peer-tokens"),
        ("peer", "--peer-tokens are set and no others"),
    ],
)
def test_check_tokens_with_which_nobody_could_work_raise(roles, says):
    with pytest.raises(ConfigError, match=says):
        parse("node", ["9000", *(f"--{role}-tokens={TOKENS[role]}" for role in roles.split())], {}).check()


def test_check_token_in_two_roles_raises_and_does_not_show_it():
    shared = "s3cret-" * 3
    arguments = [f"--reader-tokens={TOKENS['reader']},{shared}", f"--peer-tokens={shared}"]
    with pytest.raises(ConfigError, match="--reader-tokens and --peer-tokens have a token in common") as caught:
        parse("proxy", arguments, {}).check()
    assert shared not in str(caught.value)


def test_parse_wrong_token_raises_and_does_not_show_it():
    with pytest.raises(ConfigError, match="GKV_CLIENT_TOKENS is a secret that is not shown here; it takes one token") as caught:
        parse("proxy", [], {"GKV_CLIENT_TOKENS": "short-s3cret"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("port", "fits"), [("65530", True), ("65531", False), ("65535", False)])
def test_check_spawned_ports_must_exist(port, fits):
    settings = parse("proxy", ["--spawn", "6", "--spawn-port", port], {})
    if fits:
        settings.check()
    else:
        with pytest.raises(ConfigError, match=f"--spawn-port {port} leaves no room for 6 ports"):
            settings.check()


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("proxy", ["--min-in-sync", "2"], "--min-in-sync 2 asks for more nodes than the 1 of --replicas"),
        ("proxy", ["--replicas", "3", "--min-in-sync", "4"], "more nodes than the 3"),
        ("node", ["9000", "--replica-timeout", "20s"], "--disk-timeout has to be at least as long as --replica-timeout"),
    ],
)
def test_check_refuses_copies_that_could_never_be_kept(command, arguments, says):
    with pytest.raises(ConfigError, match=says):
        parse(command, arguments, {}).check()


def test_check_takes_as_many_copies_as_are_to_be_there():
    parse("proxy", ["--replicas", "3", "--min-in-sync", "3"], {}).check()
    parse("proxy", ["--replicas", "5"], {}).check()
