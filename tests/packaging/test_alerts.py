"""The alert rules and the dashboard in deploy/: rules fire when they should, and a page's parts are in their places."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus"
ROWS = ["Overview", "Cluster", "Copies and filling", "Disk", "Clients", "Process"]
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing (Debian package prometheus)")


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=60)


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return found


@needs_promtool
def test_rules_are_well_formed_and_fire_in_their_cases_alone() -> None:
    checked = promtool("check", "rules", str(RULES / "rules.yaml"))
    assert (checked.returncode, checked.stderr) == (0, "")
    tested = promtool("test", "rules", str(RULES / "rules_test.yaml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_rule_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    names = re.findall(r"^ +- alert: (\w+)$", (RULES / "rules.yaml").read_text(), re.MULTILINE)
    assert len(names) == len(set(names)) > 20
    cases = re.findall(r"^ +- name: (.+)$", (RULES / "rules_test.yaml").read_text(), re.MULTILINE)
    assert sorted(cases) == sorted(f"{name} {what}" for name in names for what in ("fires", "is silent"))


def test_dashboard_has_its_rows_and_no_panel_covers_another() -> None:
    panels = dashboard()["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == ROWS
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    covered: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert covered.isdisjoint(cells), panel["title"]
        covered |= cells


def test_dashboard_has_a_threshold_in_every_row_and_they_rise() -> None:
    row, marked = "", set()
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        if steps:
            marked.add(row)
            values = [step["value"] for step in steps]
            assert values[0] is None
            assert values[1:] == sorted(values[1:])
            assert "red" in {step["color"] for step in steps} or "orange" in {step["color"] for step in steps}
    assert marked == set(ROWS)
