"""The example files for users are what systemd, cron, a container builder and the task scheduler read."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from telemetron_batch.cli.commands import main
from tests.support.docs import DOCS, ROOT, commands

EXAMPLES = DOCS / "examples"
SYSTEMD = EXAMPLES / "systemd"
CONTAINERFILE = EXAMPLES / "container" / "Containerfile"
TASK = EXAMPLES / "windows" / "task.xml"
PAGES = "".join((DOCS / name).read_text() for name in ("night-job.md", "windows.md"))
_WITH_COMMANDS = ("telemetron-night", "telemetron-night.service", "crontab", "telemetron-night.ps1")
EXPOSURE_LIMIT = 15
"""Tenths of the points of `systemd-analyze security`; a service without any limits has 96."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")


def files() -> list[Path]:
    """Return the example files, without those that other tests run."""
    folders = ("systemd", "cron", "container", "windows")
    return sorted(path for folder in folders for path in (EXAMPLES / folder).iterdir())


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_a_page_links_every_example(path: Path) -> None:
    assert f"](examples/{path.relative_to(EXAMPLES)})" in PAGES


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_the_commands_of_an_example_parse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELEMETRON_CONFIG", raising=False)
    text = path.read_text().replace('"$@"', "").replace("`\n", "\\\n").replace("& $program run", "telemetron-batch run")
    text = re.sub(r" 2>> \S+", "", text).replace("\\%", "%").replace("C:\\", "C:/")
    found = [words for words in commands(f"```\n{text}```\n") if words and words[0] in main.commands]
    for name, *arguments in found:
        main.commands[name].make_context(name, arguments)
    assert bool(found) == (path.name in _WITH_COMMANDS)


# systemd


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return a folder with the units and the script, which lies where the unit looks for it."""
    for path in SYSTEMD.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "telemetron-batch").write_text("#!/bin/sh\n")
    (tmp_path / "telemetron-batch").chmod(0o755)
    service = tmp_path / "telemetron-night.service"
    service.write_text(service.read_text().replace("/usr/local/bin/", f"{tmp_path}/"))
    return tmp_path


@needs_systemd
def test_systemd_finds_no_fault_in_the_units(units: Path) -> None:
    names = ["telemetron-night.service", "telemetron-night.timer", "telemetron-alert@x.service"]
    ended = subprocess.run(["systemd-analyze", "verify", *names], cwd=units, capture_output=True, text=True)
    assert (ended.returncode, [line for line in ended.stderr.splitlines() if "telemetron" in line]) == (0, [])


@needs_systemd
@pytest.mark.parametrize(("limit", "passes"), [(EXPOSURE_LIMIT, True), (5, False)])
def test_the_service_is_exposed_little(units: Path, limit: int, passes: bool) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={limit}", "telemetron-night.service"]
    ended = subprocess.run(command, cwd=units, capture_output=True, text=True)
    assert "Overall exposure level" in ended.stdout, ended.stderr
    assert (ended.returncode == 0) == passes, ended.stdout


def unit(name: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(SYSTEMD / name)
    return {section: dict(parser[section]) for section in parser.sections()}


def test_the_service_gets_its_key_as_a_credential_and_writes_to_one_folder() -> None:
    service = unit("telemetron-night.service")["Service"]
    name, _, source = service["LoadCredential"].partition(":")
    assert f"--api-key-file %d/{name}" in service["ExecStart"]
    assert source.startswith("/etc/")
    assert service["ProtectSystem"] == "strict"
    folder = f"/var/lib/{service['StateDirectory']}"
    script = (SYSTEMD / "telemetron-night").read_text()
    assert f"--reports-dir {folder} " in script
    assert service["Environment"].startswith(f"XDG_STATE_HOME={folder}/")
    assert service["User"] in (SYSTEMD / "telemetron.conf").read_text()


def test_the_service_tells_of_a_failure_and_the_timer_starts_it() -> None:
    service, timer = unit("telemetron-night.service"), unit("telemetron-night.timer")
    name = service["Unit"]["OnFailure"].replace("%n", "")
    assert (SYSTEMD / name).exists()
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert "Unit" not in timer["Timer"]  # so it starts the service of its own name


@pytest.mark.parametrize("path", [SYSTEMD / "telemetron-night"], ids=lambda path: path.name)
def test_the_script_is_one_of_the_shell(path: Path) -> None:
    assert path.stat().st_mode & 0o111 == 0o111
    subprocess.run(["sh", "-n", str(path)], check=True)


# cron


def test_the_crontab_has_five_fields_and_a_command_and_escapes_its_percent_signs() -> None:
    lines = [line for line in (EXAMPLES / "cron" / "crontab").read_text().splitlines() if not line.startswith("#")]
    jobs = [line for line in lines if not re.match(r"[A-Z_]+=", line)]
    assert len(jobs) == 3
    for line in jobs:
        assert re.match(r"([0-9*,/-]+ ){5}telemetron-batch (run|prune) ", line)
        assert not re.search(r"(?<!\\)%", line)
    first, second, _ = (line.split(" ", 5)[5].partition(" --wait-for-file 30m --settled-for 1m") for line in jobs)
    assert first[0] + first[2] == second[0]  # so that the second continues the run of the first


# container


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile with their arguments."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line]


def test_the_container_holds_only_the_program_and_runs_as_a_user_of_its_own() -> None:
    found = instructions()
    names = [name for name, _ in found]
    last_stage = found[len(names) - names[::-1].index("FROM") :]
    assert {name for name, _ in last_stage} <= {
        *("COPY", "RUN", "ENV", "USER", "WORKDIR", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"),
    }
    assert [text for name, text in last_stage if name == "COPY"] == ["--from=build /opt/telemetron /opt/telemetron"]
    (user,) = [text for name, text in last_stage if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert ("ENTRYPOINT", '["telemetron-batch"]') in last_stage
    assert not re.search(r"API_KEY|latest", CONTAINERFILE.read_text())


def test_the_container_is_built_from_files_that_exist_with_the_versions_of_the_constraints() -> None:
    (copied, _) = [text for name, text in instructions() if name == "COPY"][:2], None
    sources = [word for text in copied if not text.startswith("--from") for word in shlex.split(text)[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    (built, _) = [text for name, text in instructions() if name == "RUN"]
    assert "--constraint /src/constraints.txt /src" in built


# Windows


SPACE = {"": "http://schemas.microsoft.com/windows/2004/02/mit/task"}


def test_the_task_has_what_the_scheduler_requires() -> None:
    task = ElementTree.parse(TASK).getroot()
    assert task.tag == f"{{{SPACE['']}}}Task"
    assert task.get("version") in ("1.2", "1.3", "1.4")
    for path in ("Triggers/CalendarTrigger/StartBoundary", "Principals/Principal/LogonType", "Actions/Exec/Command"):
        element = task.find(path, SPACE)
        assert element is not None, path
        assert element.text
    (principal,) = task.findall("Principals/Principal", SPACE)
    (actions,) = task.findall("Actions", SPACE)
    assert actions.get("Context") == principal.get("id")
    policy = task.find("Settings/MultipleInstancesPolicy", SPACE)
    assert policy is not None
    assert policy.text == "IgnoreNew"


def test_the_task_names_no_encoding_so_that_both_ways_to_import_it_read_it() -> None:
    first = TASK.read_bytes().splitlines()[0]
    assert first == b'<?xml version="1.0"?>'
    assert TASK.read_bytes().isascii()


def test_the_task_runs_the_script() -> None:
    arguments = ElementTree.parse(TASK).getroot().find("Actions/Exec/Arguments", SPACE)
    assert arguments is not None
    assert arguments.text is not None
    assert arguments.text.endswith(r"C:\telemetron\telemetron-night.ps1")
