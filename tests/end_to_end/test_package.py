"""The source distribution and the wheel: complete, valid, and working where there is no checkout."""

import csv
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from pathlib import Path
from urllib.parse import urljoin

import pytest

import telemetron_batch
from tests.support.program import ROOT

pytestmark = pytest.mark.slow
SOURCES = ROOT / "batch"
ROWS = "customerEmail,deviceIdentifier,action\nann@example.com,SN-1001,assign\nbob@example.com,SN-1002,assign\n"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution, and with the wheel that was built from it."""
    pytest.importorskip("build", reason="needs the extra release")
    work = tmp_path_factory.mktemp("package")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (work / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, work / "source" / name)
    command = [sys.executable, "-m", "build", "--outdir", str(work / "dist"), str(work / "source")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return work / "dist"


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    (wheel,) = dist.glob("*.whl")
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, f"{wheel}[serve]"], check=True)
    return folder / "bin"


def environment(folder: Path) -> dict[str, str]:
    """The environment variables without those that lead to the checkout."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "TELEMETRON_"))}
    return {**kept, "XDG_STATE_HOME": str(folder / "state")}


def run(folder: Path, *command: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder, where the checkout cannot be found."""
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)


def test_both_are_what_an_index_accepts(dist: Path) -> None:
    pytest.importorskip("twine", reason="needs the extra release")
    checked = run(dist, sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir()))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_wheel_has_every_file_of_the_package(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=SOURCES, capture_output=True, text=True, check=True).stdout
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == set(filter(None, tracked.split("\0")))


def test_the_source_distribution_has_all_that_its_tests_read(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(filter(None, tracked.split("\0"))) - packed <= {".gitignore"}


def test_an_installed_program_sends_a_file_and_writes_its_page(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    command = [installed / "telemetron-batch", "run", "rows.csv", "--sandbox", "--xlsx", "--run-id", "first"]
    ended = run(tmp_path, *command)
    assert ended.returncode == 0, ended.stderr
    with (tmp_path / "reports" / "first" / "reconciliation.csv").open(newline="") as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == ["assigned", "assigned"]
    assert "<style>" in (tmp_path / "reports" / "first" / "report.html").read_text()


def test_an_installed_package_is_that_of_the_environment(installed: Path, tmp_path: Path) -> None:
    code = "import telemetron_batch, importlib.metadata as m; "
    code += "print(telemetron_batch.__file__, m.version('telemetron-batch'), m.metadata('telemetron-batch')['Name'])"
    file, version, name = run(tmp_path, installed / "python", "-c", code).stdout.split()
    assert Path(file).is_relative_to(installed.parent)
    assert (version, name) == (telemetron_batch.__version__, "telemetron-batch")


def test_the_examples_of_airflow_come_with_the_package(installed: Path, tmp_path: Path) -> None:
    code = "import telemetron_batch, pathlib; print(pathlib.Path(telemetron_batch.__file__).parent)"
    package = Path(run(tmp_path, installed / "python", "-c", code).stdout.strip())
    examples = {path.name for path in (package / "airflow_provider" / "example_dags").glob("telemetron_*.py")}
    source = SOURCES / "telemetron_batch" / "airflow_provider" / "example_dags"
    assert examples == {path.name for path in source.glob("telemetron_*.py")} != set()


def test_an_installed_server_shows_its_page_and_its_styles(installed: Path, tmp_path: Path) -> None:
    command = [installed / "telemetron-batch", "serve", "--sandbox", "--port", "0"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), **streams) as server:
        assert server.stdout is not None
        address = next(filter(None, (re.search(r"http://\S+", line) for line in server.stdout)))[0]
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(address) as page:
            style = re.search(r'href="(/[^"]+\.css[^"]*)"', page.read().decode())
        assert style is not None
        with opener.open(urljoin(address, style[1])) as found:
            assert found.status == 200
        server.terminate()
    assert server.returncode == 0
