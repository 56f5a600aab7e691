"""Greenlets in the background: none dies unseen."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import gevent
from gkv import background
from gkv.errors import InternalError

def work():
    gevent.sleep(0)
    {ending}

greenlet = background.start("the clock", work)
try:
    gevent.sleep(0.2)
except InternalError as error:
    sys.exit(f"main: {{error}}")
"""


def run(ending: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM.format(ending=ending)], capture_output=True, text=True, timeout=20)


@pytest.mark.promise("I13")
def test_greenlet_that_dies_ends_the_main_greenlet_with_its_name_and_the_reason() -> None:
    ran = run("raise ValueError('no tick')")
    assert ran.returncode == 1
    assert "the clock has stopped by an internal error" in ran.stderr
    assert "main: the clock has stopped: ValueError('no tick')" in ran.stderr


def test_greenlet_that_returns_or_is_killed_ends_nothing() -> None:
    assert run("return").returncode == 0
    assert run("raise gevent.GreenletExit").returncode == 0
