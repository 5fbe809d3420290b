"""The frames of a run hold the cells as they were given, and all of them as text."""

import json
from pathlib import Path

import pandas as pd
import pytest

import telemetron_batch as tb
from telemetron_batch.python_api.fields import PlanFields, RunFields
from telemetron_batch.python_api.result_frames import read_frame
from telemetron_batch.reports.summary_schema import summary_schema

A = "ann@example.com"
ODD = [
    "=1+1",
    "'=1+1",
    "''x",
    "@x",
    "-5",
    "- 5",
    "+49",
    "a\nb",
    'say "x"',
    ",;\t|",
    "",
    " ",
    "NA",
    "null",
    "1E5",
    "\ufeff",
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def odd_frame() -> pd.DataFrame:
    devices = [f"A{at}" for at in range(len(ODD))]
    return pd.DataFrame({"customerEmail": A, "deviceIdentifier": devices, "action": "assign", "=note": ODD})


@pytest.mark.parametrize("raw_csv", [False, True])
def test_other_columns_come_back_unchanged(*, raw_csv: bool) -> None:
    table = tb.run(odd_frame(), sandbox=True, raw_csv=raw_csv).reconciliation()
    assert table["=note"].tolist() == ODD
    assert {str(kind) for kind in table.dtypes} == {"str"}
    assert not table.isna().to_numpy().any()


@pytest.mark.parametrize("raw_csv", [False, True])
def test_rows_that_want_attention_come_back_unchanged(*, raw_csv: bool) -> None:
    rows = odd_frame()
    rows["deviceIdentifier"] = ""
    table = tb.run(rows, sandbox=True, raw_csv=raw_csv).attention()
    assert table.columns.tolist() == [*rows.columns, "outcome", "detail", "sourceLine"]
    assert table["=note"].tolist() == ODD
    assert table["outcome"].tolist() == ["invalid"] * len(ODD)


def test_the_delimiter_of_the_input_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"customerEmail;deviceIdentifier;action\n{A};;assign\n", encoding="utf-8")
    table = tb.run("a.csv", sandbox=True).attention()
    assert table["customerEmail"].tolist() == [A]
    assert table["sourceLine"].tolist() == ["2"]


def test_an_attention_file_that_was_edited_is_not_the_one_that_is_read() -> None:
    result = tb.run(odd_frame().assign(deviceIdentifier=""), sandbox=True, run_id="r")
    (result.folder / "attention.csv").write_text("edited\n")
    assert len(tb.report("r").attention()) == len(ODD)


def test_a_run_without_changes_has_empty_frames_with_columns() -> None:
    result = tb.run(odd_frame().assign(deviceIdentifier=""), sandbox=True)
    assert result.undo().shape == (0, 3)
    assert result.undo().columns.tolist() == ["customerEmail", "deviceIdentifier", "action"]


def test_a_cell_longer_than_a_block_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'"a","b"\n"{"x" * (40 << 20)}","y"\n', encoding="utf-8")
    assert [len(one) for one in read_frame(path).iloc[0]] == [40 << 20, 1]


def test_a_file_that_is_no_table_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"a","b"\n1,2,3\n')
    with pytest.raises(tb.BatchError, match=r"a\.csv.* cannot be read"):
        read_frame(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes(b"")
    with pytest.raises(tb.BatchError, match=r"b\.csv is empty"):
        read_frame(tmp_path / "b.csv")


# Summaries


def snake(key: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)


def test_every_field_of_a_summary_is_an_attribute_too() -> None:
    summary = tb.run(odd_frame(), sandbox=True, online=True, verify=True, run_id="r").summary
    assert {key: getattr(summary, snake(key)) for key in summary} == dict(summary)


def test_the_attributes_of_a_summary_are_the_fields_of_its_schema() -> None:
    attributes = {name for name in vars(RunFields) if not name.startswith("_")}
    assert attributes == {snake(key) for key in summary_schema()["properties"]}


def test_every_field_of_a_plan_is_an_attribute_too() -> None:
    for plan in (tb.plan(odd_frame()), tb.plan(odd_frame(), save=True, sandbox=True, online=True)):
        assert {key: getattr(plan.summary, snake(key)) for key in plan.summary} == dict(plan.summary)


def test_a_field_that_a_document_does_not_have_is_none() -> None:
    assert PlanFields().fingerprint is None
    assert RunFields().verify is None


def test_a_summary_is_that_of_the_file() -> None:
    result = tb.run(odd_frame(), sandbox=True)
    assert json.loads((result.folder / "summary.json").read_text()) == json.loads(json.dumps(result.summary))


# Texts


def test_plain_texts_of_plans_and_results_fit_a_line() -> None:
    plan, result = tb.plan(odd_frame()), tb.run(odd_frame(), sandbox=True, run_id="r")
    assert repr(plan) == "<Plan: 16 rows, 1 calls, 16 devices, 0 invalid>"
    assert repr(result) == "<Result r: 16 of 16 rows are where they should be; 0 want attention; exit code 0>"
    saved = tb.plan(odd_frame(), save=True, sandbox=True, run_id="s")
    assert repr(saved).startswith("<Plan s: ")
