"""Settings that are read again: all parts follow or none does, and the manager is told."""

import socket
from dataclasses import replace

import gevent
import pytest
from gevent.event import Event

from gkv import config
from gkv.errors import ConfigError
from gkv.process import notify, reload
from gkv.process.reload import Reload
from gkv.sources import parse

OLD = parse("proxy", [], {})


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(reload, "say", lines.append)
    return lines


class Part:
    """Takes settings over, or cannot."""

    def __init__(self, error=None):
        self.error = error
        self.taken = []

    def __call__(self, settings):
        if self.error:
            raise self.error
        return lambda: self.taken.append(settings)


def test_run_gives_all_parts_what_has_changed(said):
    parts = [Part(), Part()]
    reloading = Reload(OLD, lambda: replace(OLD, access_log=True, names=["gkv"]))
    for part in parts:
        reloading.add(part)
    reloading.run()
    assert [part.taken for part in parts] == [[reloading.settings]] * 2
    assert reloading.settings == replace(OLD, access_log=True, names=["gkv"])
    assert said == ["the settings were read again; changed: names, access_log"]


def test_run_leaves_what_only_a_start_can_change_and_says_so(said):
    part = Part()
    reloading = Reload(OLD, lambda: replace(OLD, port=1, log_format="json"))
    reloading.add(part)
    reloading.run()
    assert part.taken == [replace(OLD, log_format="json")]
    assert said == ["the settings were read again; changed: log_format; what takes effect at the next start: port"]


def test_run_refuses_what_cannot_go_with_that_which_only_a_start_can_change(said):
    tokens = {"client_tokens": ("c" * 16,), "peer_tokens": ("p" * 16,)}
    tls = {"tls_cert": "n1.pem", "tls_key": "n1.key", "tls_ca": "ca.pem"}
    exposed = replace(OLD, host="10.0.0.5", **tokens, **tls)
    part = Part()
    reloading = Reload(exposed, lambda: replace(OLD, host="127.0.0.1", **tls))  # without tokens, which that host may do
    reloading.add(part)
    reloading.run()
    assert part.taken == []
    assert reloading.settings == exposed
    assert "the old ones stay in force: --host 10.0.0.5 is not loopback" in said[0]


@pytest.mark.parametrize("error", [ConfigError("bad certificate"), OSError("no file")])
def test_run_with_one_part_that_cannot_changes_none(said, error):
    first, second = Part(), Part(error)
    reloading = Reload(OLD, lambda: replace(OLD, access_log=True))
    reloading.add(first)
    reloading.add(second)
    reloading.run()
    assert not first.taken
    assert reloading.settings is OLD
    assert said == [f"the settings could not be read again, the old ones stay in force: {error}"]


def test_run_with_settings_that_cannot_be_read_or_go_together_changes_nothing(said):
    part = Part()

    def unreadable():
        raise ConfigError("no setting 'colour'")

    for reread in (unreadable, lambda: replace(OLD, host="10.0.0.1", access_log=True)):
        reloading = Reload(OLD, reread)
        reloading.add(part)
        reloading.run()
        assert reloading.settings is OLD
    assert not part.taken
    assert "colour" in said[0]
    assert "not loopback" in said[1]


def test_run_while_it_runs_is_done_once_more_afterwards(said):
    go, read = Event(), []

    def reread():
        read.append(len(read))
        go.wait(5)
        return OLD

    reloading = Reload(OLD, reread)
    first = gevent.spawn(reloading.run)
    gevent.sleep(0)
    for _ in range(3):
        reloading.run()
    go.set()
    first.join(5)
    assert read == [0, 1]


def test_every_knob_that_may_change_at_run_time_is_a_field_of_settings():
    assert {knob.name for knob in config.KNOBS if knob.reload} <= set(config.Settings.__slots__)


@pytest.mark.parametrize("abstract", [False, True])
def test_manager_is_told_of_each_step(monkeypatch, tmp_path, said, abstract):
    address = f"\0gkv-test-{id(said)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        Reload(OLD, lambda: OLD).run()
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(100) == b"READY=1"
        notify.stopping()
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@nobody-is-there"])
def test_manager_that_is_not_there_is_no_concern(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.ready()


def test_manager_that_does_not_read_is_not_waited_for(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with gevent.Timeout(10):
            for _ in range(2_000):
                notify.ready()
