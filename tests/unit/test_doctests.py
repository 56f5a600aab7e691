"""The examples in the docstrings."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import gkv
from gkv import native

ROOT = Path(gkv.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.name != "cli.py"  # it patches the process
)
LIVE = {"batches", "client", "listing", "single"}
"""Files of the client whose examples talk to a system: `tests/cluster/test_client.py` runs them."""
MODULES = [name for name in MODULES if name.removeprefix("gkv.client.") not in LIVE]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_give_what_they_say(name: str) -> None:
    if native.extension is None and name.endswith("._native"):
        pytest.skip(f"no native twin: {native.why_not}")
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples() -> None:
    modules = [name for name in MODULES if native.extension is not None or not name.endswith("._native")]
    assert sum(len(test.examples) for name in modules for test in doctest.DocTestFinder().find(import_module(name))) > 10
