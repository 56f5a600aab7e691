"""The invariants of docs/architecture.md, held against the tests that promise them and the files that guard them."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def invariants() -> dict[str, str]:
    """Return the guard of each invariant, by its number."""
    rows = re.findall(r"^\| (I\d+) \| [^|]+ \| (.+) \|$", PAGE, re.MULTILINE)
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def promised() -> dict[str, list[str]]:
    """Return the tests that hold each invariant, by its number."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.promise":
                    for argument in decorator.args:
                        found.setdefault(ast.literal_eval(argument), []).append(f"{path.name}::{node.name}")
    return found


def test_each_invariant_has_a_test_and_each_promise_an_invariant() -> None:
    assert len(invariants()) >= 10
    assert set(promised()) == set(invariants())


def test_files_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", PAGE))
    assert len(named) > 30
    there = [path.as_posix() for below in ("gkv", "tests") for path in (ROOT / below).rglob("*.py")]
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in there)] == []


def test_page_names_each_file_of_the_map() -> None:
    files = {path.name for path in (ROOT / "gkv").rglob("*.py")} - {"__init__.py", "process.py", "app.py"}
    below = {path.name for path in (ROOT / "gkv" / "wire" / "ops").glob("*.py")}
    assert sorted(name for name in files - below if f"{name}`" not in PAGE) == []


def test_each_guard_names_a_file() -> None:
    assert [number for number, guard in invariants().items() if "`" not in guard] == []
