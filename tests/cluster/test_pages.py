"""Pages whose commands are run as they stand there."""

from pathlib import Path

from tests.cluster import page


@page.needs_programs
@page.needs_commands
def test_tutorial_does_what_it_says(tmp_path: Path) -> None:
    page.run("tutorial.md", tmp_path)
