"""The command `schema` prints what is committed, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.config.profile_schema import profile_schema
from telemetron_batch.reports.summary_schema import summary_schema

MAKERS = {"summary": summary_schema, "profile": profile_schema}


@pytest.mark.parametrize("kind", MAKERS)
def test_it_prints_one_json_document(kind: str) -> None:
    ended = CliRunner().invoke(main, ["schema", kind])
    assert ended.exit_code == 0
    assert json.loads(ended.stdout) == MAKERS[kind]()
    assert ended.stdout.endswith("}\n")


def test_another_word_is_refused_with_those_that_there_are() -> None:
    ended = CliRunner().invoke(main, ["schema", "journal"])
    assert ended.exit_code == 2
    assert "'summary', 'profile'" in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_a_schema_that_cannot_be_written_is_an_error_and_one_that_is_cut_off_by_its_reader_is_none() -> None:
    command = f"{sys.executable} -m telemetron_batch schema profile"
    full = subprocess.run(f"{command} > /dev/full", shell=True, capture_output=True, text=True)
    assert (full.returncode, full.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in full.stderr
    cut = subprocess.run(f"{command} | head -c 1", shell=True, capture_output=True, text=True)
    assert (cut.stdout, cut.stderr) == ("{", "")
