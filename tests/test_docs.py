"""Documentation, help and program do not drift apart."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import telemetron_batch
from telemetron_batch.cli.commands import main
from telemetron_batch.cli.schema_commands import schema_text
from telemetron_batch.config.options import OPTIONS
from telemetron_batch.config.sources import PROFILE_FILE
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.removed_runs import HISTORY_NAME
from telemetron_batch.reports.summary import ATTENTION_WORKBOOK, FILES, PREVIEW, WORKBOOK
from telemetron_batch.run.until import FIRST_START_FILE
from tests.support.docs import (
    DOCS,
    GENERATED,
    OPTIONS_PAGE,
    PAGES,
    README,
    ROOT,
    SCHEMAS,
    anchors,
    blocks,
    code_blocks,
    commands,
    dead_links,
    file_names,
    part,
    pytest_selections,
)

PACKAGE = Path(telemetron_batch.__file__).parent
OF_A_RUN = {
    *FILES,
    PREVIEW,
    WORKBOOK,
    ATTENTION_WORKBOOK,
    "attention.new.csv",
    "attention.new.xlsx",
    FIRST_START_FILE,
    JOURNAL_NAME,
    "run.log",
    "RUN.json",
    HISTORY_NAME,
}
"""Files that the program writes."""
OF_A_USER = {
    PROFILE_FILE,
    "assignments.csv",
    "changes.csv",
    "closing.csv",
    "devices.csv",
    "erp-owners.csv",
    "first.py",
    "fleet.csv",
    "leavers.txt",
    "leaving.xlsx",
    "returns.csv",
    "rows.csv",
    "scan.csv",
    "telemetron-batch.schema.json",
    "telemetron-users.json",
}
"""Files of a user in the examples of the docs."""
COMMANDS = [(page.name, words) for page in PAGES for words in commands(page.read_text())]


@pytest.mark.parametrize("name", blocks())
def test_a_part_made_from_the_code_is_up_to_date(name: str) -> None:
    assert part(GENERATED[name].read_text(), name) == blocks()[name], "run: make docs"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_copy_of_a_schema_is_up_to_date(kind: str) -> None:
    assert SCHEMAS[kind].read_text() == schema_text(kind), "run: make docs"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_is_in_the_help_of_run_and_of_plan_where_it_applies(option) -> None:
    run_help = CliRunner().invoke(main, ["run", "--help"]).output
    plan_help = CliRunner().invoke(main, ["plan", "--help"]).output
    assert f"--{option.name}" in run_help
    assert (f"--{option.name} " in plan_help) == option.for_plan


@pytest.mark.parametrize("command", main.commands)
def test_every_command_is_described(command: str) -> None:
    assert re.search(rf"^\| `{command}[ `]", OPTIONS_PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_described(code: ExitCode) -> None:
    assert re.search(rf"^\| {int(code)} \|", README.read_text(), re.MULTILINE)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_described(outcome: Outcome) -> None:
    text = (DOCS / "outcomes-and-files.md").read_text()
    assert re.search(rf"^\| [^|]*`{outcome}`.*\|$", text, re.MULTILINE)


def test_the_profile_in_the_docs_is_read_as_they_say(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from telemetron_batch.config.config import resolve

    shown, *_ = code_blocks(OPTIONS_PAGE.read_text(), "toml")
    assert tomllib.loads(shown)
    (tmp_path / "telemetron-batch.toml").write_text(shown)
    monkeypatch.chdir(tmp_path)
    config = resolve(["x.csv"], {"profile": "nightly"}, {})
    assert (str(config.sending.rate), str(config.reports_dir)) == ("600/min", "/var/lib/telemetron")
    assert config.input.action_words == {"zugang": "assign", "abgang": "unassign"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    assert dead_links(page) == []


def test_anchors_are_those_of_github() -> None:
    text = "# A & B: `c` (d)\n\n```sh\n# no heading\n```\n\n## attention.csv\n\n## Twice\n\n## Twice\n"
    assert anchors(text) == {"a--b-c-d", "attentioncsv", "twice", "twice-1"}


def test_every_page_of_docs_is_in_the_map_of_the_readme() -> None:
    text = README.read_text()
    assert [page.name for page in PAGES if page != README and f"]({page.relative_to(ROOT)})" not in text] == []


def test_the_readme_fits_its_200_lines() -> None:
    assert len(README.read_text().splitlines()) <= 200


def test_the_readme_has_the_two_lines_that_ci_runs() -> None:
    lines = [line for line in README.read_text().splitlines() if line.startswith("python3 -m venv ")]
    assert len(lines) == 2


def test_the_glossary_has_at_most_30_words() -> None:
    rows = re.findall(r"^\| (?!word \||---)", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert 20 <= len(rows) <= 30


def test_commands_are_found_in_blocks_and_spans_whatever_follows_them() -> None:
    text = (
        '`.venv/bin/telemetron-batch runs`\n```sh\na && telemetron-batch run "$(date +%F)" \\\n  -y || notify $?\n```\n'
    )
    assert [*commands(text)] == [["run", "DATE", "-y"], ["runs"]]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS])
def test_a_command_in_the_docs_parses(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TELEMETRON_CONFIG", "TELEMETRON_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    name, *arguments = words
    command = main.commands[name]
    context = command.make_context(name, arguments)  # raises UsageError for an unknown option or a missing argument
    assert isinstance(context, click.Context), page


def test_a_percent_sign_in_a_crontab_is_escaped() -> None:
    lines = [
        line for page in PAGES for line in page.read_text().splitlines() if re.match(r"[0-9*]+( [0-9*]+){4} ", line)
    ]
    assert len(lines) == 3
    assert [line for line in lines if re.search(r"(?<!\\)%", line)] == []


def test_the_docs_show_commands() -> None:
    assert {
        *("run", "plan", "resume", "report", "undo", "verify", "runs", "check", "init", "completion"),
        *("holdings", "compare", "prune", "forget"),
    } <= {words[0] for _, words in COMMANDS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    folders = (ROOT, PACKAGE, PACKAGE / "config", ROOT / "sample_data", page.parent)
    named = {name for name in file_names(page.read_text()) if Path(name).name not in OF_A_RUN | OF_A_USER}
    assert sorted(name for name in named if not any((folder / name).exists() for folder in folders)) == []


def test_names_of_files_are_found_in_blocks_and_spans() -> None:
    text = "`input/load.py` in.csv `see ../README.md, /etc/key.txt` `pyarrow.csv.x`\n```sh\nrun returns.csv\n```\n"
    assert file_names(text) == {"input/load.py", "returns.csv"}
    assert len({name for page in PAGES for name in file_names(page.read_text())}) > 50


def test_every_selection_of_tests_in_the_docs_matches_a_test() -> None:
    selections = {one for page in PAGES for one in pytest_selections(page.read_text())}
    assert len(selections) > 5
    files = sorted({path for path, _ in selections})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", ""]
    collected = subprocess.run([*command, *files], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert [(path, words) for path, words in selections if not re.search(f"^{path}::.*{words}", collected, re.M)] == []


def test_every_benchmark_and_variable_of_the_tests_in_the_docs_exists() -> None:
    text = "".join(page.read_text() for page in PAGES)
    benchmarks = set(re.findall(r"\bbench_\w+", text))
    variables = set(re.findall(r"\bTESTS_\w+", text))
    assert len(benchmarks) > 5
    assert len(variables) > 3
    assert benchmarks <= {path.stem for path in (ROOT / "tests" / "bench").glob("*.py")}
    assert variables <= {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r'"(TESTS_\w+)"', path.read_text())
    }
