"""Pages whose commands are run as they stand there."""

from pathlib import Path

from tests.cluster import page


@page.needs_programs
@page.needs_commands
def test_tutorial_does_what_it_says(tmp_path: Path) -> None:
    page.run("tutorial.md", tmp_path)


@page.needs_programs
@page.needs_commands
def test_runbook_of_backups_does_what_it_says(tmp_path: Path) -> None:
    page.run("backup.md", tmp_path)


@page.needs_programs
@page.needs_commands
def test_data_of_the_go_program_moves_over_as_the_page_says(tmp_path: Path) -> None:
    page.run("from-go.md", tmp_path)
