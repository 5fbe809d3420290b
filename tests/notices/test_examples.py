"""The alert rules and the dashboard for Prometheus fit the metrics."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from telemetron_batch.notices.metrics import HELP
from tests.support.docs import DOCS

EXAMPLES = DOCS / "examples" / "prometheus"
PROMTOOL = shutil.which("promtool")


def _named(text: str) -> set[str]:
    return set(re.findall(r"\btelemetron_batch_\w+", text))


@pytest.mark.parametrize("file", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_every_metric_that_an_example_names_exists(file: Path) -> None:
    assert _named(file.read_text()) <= HELP.keys()


def test_the_page_names_every_metric_and_no_other() -> None:
    assert _named((DOCS / "alerts.md").read_text()) == HELP.keys()


def test_the_dashboard_shows_every_metric() -> None:
    dashboard = json.loads((EXAMPLES / "telemetron-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert _named(" ".join(expressions)) == HELP.keys()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len({*ids})


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool (Debian package prometheus)")
@pytest.mark.parametrize("words", [("check", "telemetron-alerts.yml"), ("test", "telemetron-alerts-test.yml")])
def test_promtool_accepts_the_alert_rules(words: tuple[str, str]) -> None:
    assert PROMTOOL is not None
    command = [PROMTOOL, words[0], "rules", words[1]]
    ended = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool (Debian package prometheus)")
def test_promtool_accepts_the_file_of_metrics(tmp_path: Path) -> None:
    from telemetron_batch.notices.ending import Ending
    from telemetron_batch.notices.metrics import MeasuredEnd, write_metrics

    file = tmp_path / "t.prom"
    assert write_metrics(file, MeasuredEnd(Ending(exit_code=0), "night", 1.0, 2.0)) is None
    assert PROMTOOL is not None
    command = [PROMTOOL, "check", "metrics"]
    ended = subprocess.run(command, input=file.read_text(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
