"""The pages of docs/ hold together: links lead somewhere, what they name exists, and every code has its entry."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import pictures
from gkv.command.table import COMMANDS
from gkv.config import KNOBS
from gkv.coordinator.failures import READ_FAILURES, WRITE_FAILURES
from gkv.errors import GkvError
from gkv.model import OtherVersion

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md")]


def _prose(text: str) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """Return what a link to a heading of the page ends with, as GitHub makes it."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", _prose(page.read_text(encoding="utf-8")), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def _links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links and pictures, but for those to other sites."""
    without_code = re.sub(r"`[^`\n]*`", "", _prose(page.read_text(encoding="utf-8")))
    for angled, plain in re.findall(r"\]\((?:<([^>]+)>|([^)\s]+))\)", without_code):
        if not re.match(r"https?:", target := angled or plain):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in _links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in _anchors(target), link


def test_every_page_is_in_the_index_and_the_readme_leads_there() -> None:
    index = DOCS / "README.md"
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= set(_links(index))
    assert "docs/README.md" in set(_links(ROOT / "README.md"))


def _kinds(kind: type[GkvError]) -> Iterator[type[GkvError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _kinds(one)


def test_every_code_has_its_entry_and_every_entry_its_code() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").partition("\n## By code\n")[2]
    entries = re.findall(r"^#### (.+)\n\n(.+)", text, re.MULTILINE)
    codes = {kind.code for kind in _kinds(GkvError) if kind.__module__ == GkvError.__module__}
    of_keys = {failure.code for failure in (*READ_FAILURES, *WRITE_FAILURES, OtherVersion())}
    assert sorted(name for name, _ in entries) == sorted(codes | of_keys)
    for name, words in entries:
        assert len(words) > 40, name


def test_settings_and_metrics_that_pages_name_exist() -> None:
    flags = {f"--{knob.name.replace('_', '-')}" for knob in KNOBS} | {"--config", "--print-config", "--check-config"}
    flags |= {flag.name for command in COMMANDS for flag in command.flags}
    metrics = set(re.findall(r"gkv_\w+", (DOCS / "operations.md").read_text(encoding="utf-8").partition("\n## Metrics\n")[2]))
    own = ("tutorial", "concepts", "sizing", "backup", "troubleshooting", "upgrades", "from-go", "README")
    for page in (DOCS / f"{name}.md" for name in own):
        text = re.sub(r"sha256sum .*", "", page.read_text(encoding="utf-8"))
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert flag in flags, (page.name, flag)
        for metric in re.findall(r"\bgkv_[a-z_]+[a-z](?=\W)", text):
            assert metric in metrics, (page.name, metric)


def test_pictures_of_the_concepts_are_those_of_the_program_that_draws_them() -> None:
    for name, draw in pictures.PICTURES.items():
        file = DOCS / f"concepts-{name}"
        assert file.read_text(encoding="utf-8") == draw(), f"run docs/pictures.py for {file.name}"
