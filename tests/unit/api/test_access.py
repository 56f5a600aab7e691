"""Who is let in: the decision by itself, what the routes ask of it, and what the log says; `tests/cluster` has the sockets."""

import hmac

import pytest

from gkv.api import access
from gkv.api.access import REASONS, Access, Role
from gkv.api.http import Response, Routes
from gkv.api.operation import Unlisted
from gkv.errors import Unauthorized
from gkv.process.reload import Reload
from gkv.sources import parse

TOKENS = {"reader": "r" * 16, "client": "c" * 16, "admin": "a" * 16, "peer": "p" * 16}
SECOND = "second-" * 3
MINE = {"wsgi.url_scheme": "http", "HTTP_HOST": "localhost:8080"}


ALL = [
    *(f"--{role}-tokens={token}" for role, token in TOKENS.items() if role != "client"),
    f"--client-tokens={TOKENS['client']},{SECOND}",
]


def rules(*arguments):
    made = Access()
    made.take(parse("proxy", arguments, {}))
    return made


@pytest.fixture
def guarded():
    return rules(*ALL)


def reason(made, needs, **environ):
    refusal = made.judge(MINE | environ, needs)
    return refusal and refusal.reason


MAY = {
    "reader": {Role.OPEN, Role.ANY, Role.READER},
    "client": {Role.OPEN, Role.ANY, Role.READER, Role.CLIENT},
    "admin": {Role.OPEN, Role.ANY, Role.READER, Role.CLIENT, Role.ADMIN},
    "peer": {Role.OPEN, Role.ANY, Role.PEER},
}


@pytest.mark.parametrize("needs", Role)
@pytest.mark.parametrize("role", TOKENS)
def test_token_opens_what_its_role_may_use_and_nothing_else(guarded, role, needs):
    expected = None if needs in MAY[role] else "role"
    assert reason(guarded, needs, HTTP_AUTHORIZATION=f"Bearer {TOKENS[role]}") == expected


@pytest.mark.parametrize("needs", Role)
def test_without_any_tokens_set_nobody_needs_one(needs):
    assert reason(rules(), needs) is None
    assert reason(Access(), needs, HTTP_AUTHORIZATION="Bearer nonsense") is None


@pytest.mark.parametrize("needs", sorted(set(Role) - {Role.OPEN}))
def test_role_without_tokens_is_closed_when_others_have_some(needs):
    made = rules(f"--client-tokens={TOKENS['client']}", f"--peer-tokens={TOKENS['peer']}")
    assert reason(made, needs) == "missing"
    opened = {Role.ANY, Role.READER, Role.CLIENT, Role.PEER}
    given = [reason(made, needs, HTTP_AUTHORIZATION=f"Bearer {TOKENS[role]}") for role in ("client", "peer")]
    assert (None in given) == (needs in opened)


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("", "missing"),
        ("Basic dXNlcjpwYXNz", "missing"),
        ("Bearer", "missing"),
        (TOKENS["client"], "missing"),
        ("Bearer ", "malformed"),
        (f"Bearer\t{TOKENS['client']}", "missing"),
        (f"Bearer {TOKENS['client']}, Bearer {TOKENS['client']}", "malformed"),
        (f"Bearer {TOKENS['client']},{SECOND}", "malformed"),
        (f"Bearer {TOKENS['client']} {SECOND}", "malformed"),
        (f"Bearer {TOKENS['client']}\n", "malformed"),
        ("Bearer " + "\xe9" * 16, "malformed"),
        ("Bearer " + "\xc3\xa9" * 16, "malformed"),
        ("Bearer nonsense", "unknown"),
        (f"Bearer {TOKENS['client']}c", "unknown"),
        (f"Bearer {TOKENS['client'][:-1]}", "unknown"),
        (f"Bearer {TOKENS['client'].upper()}", "unknown"),
        ("Bearer " + "x" * 8_000, "unknown"),
        (f"Bearer {TOKENS['client']}", None),
        (f"bearer   {TOKENS['client']}", None),
        (f"BEARER {SECOND}", None),
    ],
)
def test_authorization_is_bearer_and_one_token(guarded, authorization, expected):
    refusal = guarded.judge(MINE | {"HTTP_AUTHORIZATION": authorization}, Role.CLIENT)
    assert (refusal and refusal.reason) == expected
    if refusal is not None:
        assert type(refusal.error) is Unauthorized
        assert refusal.error.challenge == ("Bearer" if expected == "missing" else 'Bearer error="invalid_token"')


@pytest.mark.parametrize("token", [*TOKENS.values(), "nonsense-nonsense"])
def test_token_is_compared_with_all_whichever_it_is(guarded, monkeypatch, token):
    compared = []
    compare_digest = hmac.compare_digest

    def compare(one, other):
        compared.append((len(one), len(other)))
        return compare_digest(one, other)

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    guarded.judge(MINE | {"HTTP_AUTHORIZATION": f"Bearer {token}"}, Role.READER)
    assert compared == [(32, 32)] * 5


@pytest.mark.parametrize(
    ("environ", "foreign"),
    [
        ({}, False),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, False),
        ({"HTTP_SEC_FETCH_SITE": "none"}, False),
        ({"HTTP_ORIGIN": "http://localhost:8080"}, False),
        ({"HTTP_ORIGIN": "http://LOCALHOST:8080", "HTTP_SEC_FETCH_SITE": "same-origin"}, False),
        ({"HTTP_ORIGIN": "https://localhost:8080"}, False),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, True),
        ({"HTTP_SEC_FETCH_SITE": "same-site"}, True),
        ({"HTTP_SEC_FETCH_SITE": ""}, True),
        ({"HTTP_SEC_FETCH_SITE": "none, cross-site"}, True),
        ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_ORIGIN": "http://localhost:8080"}, True),
        ({"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "http://evil.example"}, True),
        ({"HTTP_ORIGIN": "http://evil.example"}, True),
        ({"HTTP_ORIGIN": "http://localhost"}, True),
        ({"HTTP_ORIGIN": "http://localhost:8081"}, True),
        ({"HTTP_ORIGIN": "http://localhost:8080.evil.example"}, True),
        ({"HTTP_ORIGIN": "null"}, True),
        ({"HTTP_ORIGIN": ""}, True),
        ({"HTTP_ORIGIN": "http://", "HTTP_HOST": ""}, True),
        ({"HTTP_ORIGIN": "http://localhost:8080", "wsgi.url_scheme": "https"}, True),
    ],
)
def test_page_of_another_site_changes_nothing_and_copies_nothing(environ, foreign):
    for needs in Role:
        changes = needs in (Role.CLIENT, Role.ADMIN, Role.PEER)
        assert reason(rules(), needs, **environ) == ("cross-site" if foreign and changes else None)


def test_page_of_another_site_without_a_token_learns_only_that():
    made = rules(f"--client-tokens={TOKENS['client']}", f"--peer-tokens={TOKENS['peer']}")
    assert reason(made, Role.CLIENT, HTTP_ORIGIN="http://evil.example") == "missing"
    given = f"Bearer {TOKENS['client']}"
    assert reason(made, Role.CLIENT, HTTP_ORIGIN="http://evil.example", HTTP_AUTHORIZATION=given) == "cross-site"


@pytest.mark.parametrize(
    ("address", "near"),
    [("10.1.2.3", True), ("192.0.2.7", True), ("192.0.2.8", False), ("127.0.0.1", False), ("", False), ("::1", False),
     ("::ffff:10.1.2.3", False)],
)  # fmt: skip
def test_allow_holds_for_members_only_and_goes_before_their_token(address, near):
    made = rules("--allow=10.0.0.0/8,192.0.2.7", f"--client-tokens={TOKENS['client']}", f"--peer-tokens={TOKENS['peer']}")
    given = f"Bearer {TOKENS['peer']}"
    assert reason(made, Role.PEER, REMOTE_ADDR=address, HTTP_AUTHORIZATION=given) == (None if near else "address")
    assert reason(made, Role.PEER, REMOTE_ADDR=address) == ("missing" if near else "address")
    given = f"Bearer {TOKENS['client']}"
    assert reason(made, Role.CLIENT, REMOTE_ADDR=address, HTTP_AUTHORIZATION=given) is None


def test_first_peer_token_is_the_one_that_is_shown():
    shared = ["--client-tokens=" + TOKENS["client"]]
    made = rules(*shared, f"--peer-tokens={TOKENS['peer']},{SECOND}")
    assert made.peer_token == TOKENS["peer"]
    for token in (TOKENS["peer"], SECOND):
        assert reason(made, Role.PEER, HTTP_AUTHORIZATION=f"Bearer {token}") is None
    assert rules().peer_token == ""


class Noting:
    """Stands for a server and for channels: notes what it is told."""

    def __init__(self):
        self.told = []

    def forget_heads(self):
        self.told.append("forget")

    def show_token(self, token):
        self.told.append(token)


def test_following_has_the_server_and_the_channels_take_over_what_is_read_again():
    before = ["--client-tokens=" + TOKENS["client"], "--peer-tokens=" + TOKENS["peer"]]
    after = ["--client-tokens=" + SECOND, "--peer-tokens=" + TOKENS["peer"][::-1] + "0"]
    server, channels, made = Noting(), Noting(), Access()
    reload = Reload(parse("proxy", before, {}), lambda: parse("proxy", after, {}))
    reload.begin(made.following(server, channels))
    assert reason(made, Role.CLIENT, HTTP_AUTHORIZATION=f"Bearer {TOKENS['client']}") is None
    assert (server.told, channels.told) == (["forget"], [TOKENS["peer"]])
    reload.run()
    assert reason(made, Role.CLIENT, HTTP_AUTHORIZATION=f"Bearer {TOKENS['client']}") == "unknown"
    assert reason(made, Role.CLIENT, HTTP_AUTHORIZATION=f"Bearer {SECOND}") is None
    assert (server.told, channels.told) == (["forget"] * 2, [TOKENS["peer"], made.peer_token])


def test_following_does_not_let_everybody_in_when_no_tokens_are_set_any_more(capfd):
    made = Access()
    reload = Reload(parse("proxy", ALL, {}), lambda: parse("proxy", [], {}))
    reload.begin(made.following(Noting(), Noting()))
    reload.run()
    assert "the old ones stay in force: tokens end with a restart only" in capfd.readouterr().err
    assert reason(made, Role.CLIENT) == "missing"


# -- routes


ONE = Unlisted("a test's")


def found_by(routes, method, path, **environ):
    return routes.find(MINE | {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": "127.0.0.1"} | environ)[0]


@pytest.fixture
def routes():
    made = Routes()
    made.add("GET", "/data", lambda _request: Response(b"read"), doc=ONE, role=Role.READER)
    made.add("PUT", "/data", lambda _request: Response(b"written"), doc=ONE, role=Role.CLIENT)
    made.add_below("GET", "/key/", lambda _request, path: Response(path.encode()), doc=ONE, role=Role.READER)
    made.add("GET", "/open", lambda _request: Response(b"open"), doc=ONE, role=Role.OPEN)
    made.access.take(parse("proxy", ALL, {}))
    return made


def ask(routes, method, path, **environ):
    """Return the status by the way of the server, or by WSGI's where that has no answer."""
    environ = MINE | {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": "127.0.0.1", "QUERY_STRING": ""} | environ
    direct, _ = routes.find(environ)
    if direct is not None:
        return direct(environ, b"").status
    started = []
    b"".join(routes(dict(environ), lambda status, *_rest: started.append(status)))
    return int(started[0][:3])


@pytest.mark.parametrize(
    ("method", "path", "without", "reader", "client", "peer"),
    [
        ("GET", "/data", 401, 200, 200, 403),
        ("HEAD", "/data", 401, 200, 200, 403),
        ("PUT", "/data", 401, 403, 200, 403),
        ("DELETE", "/data", 401, 405, 405, 405),
        ("GET", "/key/a", 401, 200, 200, 403),
        ("HEAD", "/key/a", 401, 200, 200, 403),
        ("GET", "/nowhere", 401, 404, 404, 404),
        ("GET", "/data/", 401, 404, 404, 404),
        ("GET", "//data", 401, 404, 404, 404),
        ("GET", "/\xff", 401, 400, 400, 400),
        ("OPTIONS", "", 401, 404, 404, 404),
        ("GET", "/open", 200, 200, 200, 200),
        ("HEAD", "/open", 200, 200, 200, 200),
        ("PUT", "/open", 405, 405, 405, 405),
    ],
)
def test_route_is_as_open_as_its_role_says_by_every_way_to_it(routes, method, path, without, reader, client, peer):
    assert ask(routes, method, path) == without
    for role, status in (("reader", reader), ("client", client), ("peer", peer)):
        given = f"Bearer {TOKENS[role]}"
        assert ask(routes, method, path, HTTP_AUTHORIZATION=given) == status
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "HTTP_AUTHORIZATION": given}
        started = []
        b"".join(routes(MINE | environ, lambda status, *_rest, started=started: started.append(int(status[:3]))))
        assert started == [status], "by the way of WSGI"


@pytest.mark.parametrize("environ", [{"CONTENT_LENGTH": "65537"}, {"HTTP_TRANSFER_ENCODING": "chunked"}])
def test_large_body_of_a_refused_request_is_not_waited_for(routes, environ):
    with pytest.raises(Unauthorized):
        found_by(routes, "PUT", "/data", **environ)
    assert routes.access.refused["missing"] == 1
    assert found_by(routes, "PUT", "/data", CONTENT_LENGTH="65536") is not None


def test_refusals_are_counted_and_said_once_a_second_without_the_token(routes, monkeypatch, capfd):
    now = [100.0]
    monkeypatch.setattr(access, "monotonic", lambda: now[0])
    for _ in range(3):
        ask(routes, "GET", "/key/s3cret", HTTP_AUTHORIZATION="Bearer wrong-wrong-wrong")
    ask(routes, "PUT", "/data", HTTP_AUTHORIZATION=f"Bearer {TOKENS['reader']}")
    now[0] += 1.0
    ask(routes, "GET", "/data")
    assert routes.access.refused == dict.fromkeys(REASONS, 0) | {"unknown": 3, "role": 1, "missing": 1}
    first, second = capfd.readouterr().err.splitlines()
    assert first.endswith("refused a request from 127.0.0.1: this token is not one that is valid here")
    assert second.endswith(
        "refused a request from 127.0.0.1: this server asks for a bearer token (3 more since the last such line)"
    )
    assert not any(word in first + second for word in ("wrong", "s3cret", TOKENS["reader"]))
