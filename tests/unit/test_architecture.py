"""Who may import whom: the arrows between the rooms, held against the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gkv

ROOT = Path(gkv.__file__).parent

# The rooms in the order of the floors: each may import what its row names, and nothing else. Third-party packages likewise.
ARROWS: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "addresses": (set(), set()),
    "pace": (set(), set()),
    "model": ({"errors"}, set()),
    "duties": ({"model", "pace"}, set()),
    "origins": (set(), set()),
    "config": ({"addresses", "errors", "origins"}, set()),
    "nearest": (set(), set()),
    "flags": ({"config", "nearest"}, set()),
    "sources": ({"addresses", "errors", "config", "flags", "nearest", "origins"}, set()),
    "log": (set(), {"gevent"}),
    "background": ({"errors", "log"}, {"gevent"}),
    "files": (set(), set()),
    "threads": (set(), {"gevent"}),
    "clock": (set(), set()),
    "native": ({"errors"}, set()),
    "ring": ({"errors", "model", "native"}, set()),
    "replication": ({"duties", "errors", "model", "pace"}, set()),
    "wire": ({"addresses", "errors", "model", "ring", "native", "replication"}, {"ujson"}),
    "engine": ({"clock", "errors", "model", "background", "files", "log", "threads"}, {"gevent", "lmdb", "sortedcontainers"}),
    "net": ({"addresses", "errors", "background", "config", "log", "model"}, {"gevent"}),
    # Cluster and coordinator wait for events; that is all they use of gevent.
    "cluster": (
        {"addresses", "clock", "duties", "errors", "config", "files", "log", "model", "pace", "ring", "net", "threads"},
        {"gevent", "ujson"},
    ),
    "coordinator": (
        {"errors", "config", "log", "model", "ring", "replication", "wire", "net", "cluster"},
        {"gevent"},
    ),
    "api": (
        {
            "addresses",
            "errors",
            "config",
            "log",
            "model",
            "native",
            "ring",
            "wire",
            "net",
            "cluster",
            "coordinator",
            "replication",
        },
        {"bottle", "prometheus_client", "ujson"},
    ),
    "process": (
        {
            "addresses",
            "errors",
            "config",
            "sources",
            "log",
            "background",
            "model",
            "native",
            "net",
            "cluster",
            "coordinator",
            "api",
        },
        {"gevent"},
    ),
    "node": (
        {
            *("clock", "errors", "config", "sources", "log", "background", "model", "native", "ring", "threads", "wire"),
            *("duties", "engine"),
            *("net", "cluster", "coordinator", "replication", "api", "process"),
        },
        {"bottle", "gevent", "ujson"},
    ),
    # It never meets an engine: proxy and nodes meet only over HTTP.
    "proxy": (
        {
            *("addresses", "errors", "config", "sources", "log", "background", "model", "native", "ring", "wire"),
            *("net", "cluster", "coordinator", "api", "process"),
        },
        {"bottle", "gevent", "ujson"},
    ),
    # What other programs import: nothing of the server's, and no gevent.
    "client": ({"model"}, {"urllib3"}),
    # A program of clients; its `verify` reads snapshots on which nobody runs.
    "command": ({"client", "config", "engine", "errors", "model", "nearest", "ring"}, set()),
    # Offline: it changes directories and member lists while nobody runs on them.
    "restoring": ({"errors", "config", "engine", "cluster", "process"}, set()),
    "cli": ({"errors", "config", "log", "nearest", "sources", "net", "process", "proxy", "node", "restoring"}, {"gevent"}),
}
THIRD_PARTY = {"gevent", "greenlet", "bottle", "ujson", "cffi", "lmdb", "prometheus_client", "sortedcontainers", "urllib3"}


def imported(path: Path) -> Iterator[str]:
    """Yield the full name of all that a module imports, `from x import y` as x.y."""
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{path}: imports are absolute"
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def room_of(path: Path) -> str:
    """Return the room that a module belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_along_the_arrows(path: Path) -> None:
    room = room_of(path)
    rooms, packages = ARROWS[room]
    for name in imported(path):
        top, *rest = name.split(".")
        if top == "gkv" and rest[0] not in ("__version__", "_native"):
            assert rest[0] in rooms | {room}, f"{room} imports {name}"
        elif top in THIRD_PARTY:
            assert top in packages, f"{room} imports {name}"


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    assert {room_of(path) for path in MODULES} == set(ARROWS)


def test_arrows_never_form_a_circle() -> None:
    done: set[str] = set()
    left = dict(ARROWS)
    while left:
        free = [room for room, (rooms, _) in left.items() if rooms <= done]
        assert free, f"a circle among {sorted(left)}"
        for room in free:
            done.add(room)
            del left[room]


FILES = {".".join(("gkv", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path for path in MODULES}


def files_of(path: Path) -> set[str]:
    """Return the modules of gkv that a module imports itself, whatever for: for its types, or within a function, as well."""
    found = set()
    for name in imported(path):
        module = name if name in FILES else name.rpartition(".")[0]
        if module in FILES:
            found.add(module)
    return found - {next(module for module, file in FILES.items() if file == path)}


def test_files_never_import_each_other_in_a_circle() -> None:
    left = {module: files_of(path) for module, path in FILES.items()}
    while free := [module for module, needs in left.items() if needs.isdisjoint(left)]:
        for module in free:
            del left[module]
    # Whoever only imports a circle is left over too, but nobody left imports it.
    while outside := set(left) - {needed for needs in left.values() for needed in needs}:
        for module in outside:
            del left[module]
    assert not left, {module: sorted(needs & set(left)) for module, needs in left.items()}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_says_what_it_promises(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


MAX_MODULE, MAX_CLASS = 450, 250


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_and_its_classes_are_short_or_say_why_not(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= MAX_MODULE
    for statement in ast.walk(tree):
        if isinstance(statement, ast.ClassDef):
            lines = (statement.end_lineno or 0) - statement.lineno + 1
            assert lines <= MAX_CLASS or "lines" in (ast.get_docstring(statement) or ""), f"{statement.name} has {lines} lines"
