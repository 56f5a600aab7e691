"""Who may name which address when it calls in."""

import pytest

from gkv.errors import GkvError, InvalidMember, Unavailable
from gkv.net import dialing
from gkv.proxy.callers import Callers

NAMES = {"n1": ["10.0.0.5", "fd00::5"]}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host not in NAMES:
            raise OSError(-2, "Name or service not known")
        return [(0, 0, 0, "", (one, 0)) for one in NAMES[host]]

    monkeypatch.setattr(dialing.socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    ("url", "caller", "proved", "error"),
    [
        ("http://10.0.0.5:1", "10.0.0.5", False, None),
        ("http://10.0.0.5:1", "10.0.0.6", False, InvalidMember),
        ("http://10.0.0.5:1", "10.0.0.6", True, None),
        ("http://[fd00::5]:1", "fd00::5", False, None),
        ("http://[fd00::5]:1", "10.0.0.5", False, InvalidMember),
        ("http://127.0.0.1:1", "10.0.0.5", True, InvalidMember),
        ("http://localhost:1", "10.0.0.5", True, Unavailable),
        ("http://localhost:1", "::1", False, None),
        ("http://127.0.0.1:1", "::1", False, None),
        ("http://[::1]:1", "127.0.0.1", False, None),
        ("http://127.0.0.1:1", "127.0.0.2", True, InvalidMember),
        ("http://n1:1", "10.0.0.5", False, None),
        ("http://n1:1", "fd00::5", False, None),
        ("http://n1:1", "10.0.0.6", False, Unavailable),
        ("http://n1:1", "10.0.0.6", True, None),
        ("http://n2:1", "10.0.0.6", False, Unavailable),
    ],
)
def test_node_enlists_itself_or_proves_to_be_a_member(
    url: str, caller: str, proved: bool, error: type[GkvError] | None
) -> None:
    callers = Callers()
    for _ in range(2):  # what is remembered makes no difference
        if error is None:
            callers.check(url, caller, proved=proved)
        else:
            with pytest.raises(error):
                callers.check(url, caller, proved=proved)
